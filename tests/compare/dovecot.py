#!/usr/bin/env python3
"""Compares what FETCH says of every mail of the corpus with what a Dovecot says of it.

    cargo build --release
    python3 tests/compare/dovecot.py              # --show RULE: what falls under it

Both servers get the same octets by APPEND. Then, for each mail, ENVELOPE, BODYSTRUCTURE, BODY,
sizes, sections, parts and BINARY of both are held against each other as trees: how a string is
quoted does not matter, NIL and "" do. Each difference must fall under a rule of rules.py, which
names the section of an RFC that says we are right; one that does not fails the run.

Dovecot cannot keep some mails as they came (a lone CR at the end). They are compared by what it made
of them, which is what ours gets then; that ours keeps them is looked at first.

Needs root, Dovecot (apt-get install dovecot-imapd dovecot-pop3d dovecot-lmtpd), and the corpus and
the scripts of the peers beside the repository. Loopback only; it ends only what it started.
"""

import argparse
import collections
import os
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import corpus
import fetch
import imap
import rules
import servers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SHARED = os.path.join(ROOT, "..", "shared")
AT_ONCE = 20
SHOWN_MAX = 20


def fill(client, mailbox, mails):
    """Appends octets to a mailbox, selects it, and returns what it has of them."""
    for octets in mails:
        binary = b"~" if b"\0" in octets else b""
        client.done(b"APPEND %s %s{%d+}\r\n%s" % (mailbox.encode(), binary, len(octets), octets))
    client.select(mailbox)
    has = dict(client.done("FETCH 1:* (RFC822.SIZE BODY.PEEK[])").fetches())
    for number, values in has.items():
        if int(values["RFC822.SIZE"]) != len(values["BODY[]"]):
            sys.exit(f"{mailbox} {number}: the size is not that of the octets")
    return [has[number + 1]["BODY[]"] for number in range(len(mails))]


def shown(octets):
    """As BODY[] has them: both show NUL as 0x80 (docs/decisions/0009)."""
    return octets.replace(b"\0", b"\x80")


def kept(ours, theirs, mails):
    """Fills both INBOXes with the same octets; returns what BODY[] shows of them, and how many are
    not those sent."""
    octets = fill(theirs, "INBOX", [mail.octets for mail in mails])
    same = [mail.octets if shown(mail.octets) == their else their for mail, their in zip(mails, octets)]
    changed = [mail.octets for mail, one in zip(mails, same) if mail.octets != one]
    ours.done("CREATE Changed")
    for mailbox, some in (("Changed", changed), ("INBOX", same)):
        if some and fill(ours, mailbox, some) != [shown(one) for one in some]:
            sys.exit("a mail is not what we got")
    return octets, len(changed)


def short(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:130]} … {text[-60:]}"


class Report:
    """What was counted."""

    def __init__(self, show):
        self.show, self.shown = show, collections.Counter()
        self.items = self.identical = 0
        self.rules, self.unknown = collections.Counter(), []

    def take(self, name, mail):
        for item, cases in mail.cases():
            self.items += 1
            self.identical += not cases
            for case in cases:
                named = next((rule for rule, (*_, is_it) in rules.RULES.items() if is_it(case)), None)
                if named:
                    self.rules[named] += 1
                if not named or (self.show and self.show in named):
                    self.tell(named or "NO RULE", name, case)

    def tell(self, rule, name, case):
        self.shown[rule] += 1
        if rule == "NO RULE":
            self.unknown.append(name)
        if self.shown[rule] <= SHOWN_MAX:
            print(f"{rule}: {name}: {case.name} {case.place}")
            print(f"    ours   {short(case.ours)}\n    theirs {short(case.theirs)}", flush=True)

    def print(self):
        """As docs/COMPARED.md has it."""
        print(f"{self.items} items compared, {self.identical} identical; differences:\n")
        print("| rule | count | who says so | what |\n|---|---|---|---|")
        for name, (section, text, _) in rules.RULES.items():
            print(f"| {name} | {self.rules[name]} | {section} | {text} |")
        print(f"\n{len(self.unknown)} without a rule, in {len(set(self.unknown))} mails")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pombal", default=os.path.join(TARGET, "release", "pombal"))
    parser.add_argument("--corpus", default=os.path.join(SHARED, "corpus"))
    parser.add_argument("--peers", default=os.path.join(SHARED, "peers", "servers", "dovecot.sh"))
    parser.add_argument("--only", default="", help="mails whose name holds this")
    parser.add_argument("--show", help=f"print the first {SHOWN_MAX} differences of rules whose name holds this")
    options = parser.parse_args()
    if not os.path.isdir(options.corpus):
        print("skipped: no corpus beside the repository")
        return
    # An empty literal ends an APPEND without a message (RFC 3502 §6.3.11).
    mails = [mail for mail in corpus.mails(options.corpus) if options.only in mail.name and mail.octets]
    dir = tempfile.mkdtemp()
    os.chmod(dir, 0o755)  # Dovecot has users of its own.
    running = []
    report = Report(options.show)
    began = time.monotonic()
    try:
        running.append(servers.Pombal(options.pombal, dir))
        running.append(servers.Dovecot(options.peers, dir))
        ours, theirs = (imap.Client(one.imap, one.user, servers.PASSWORD) for one in running)
        octets, changed = kept(ours, theirs, mails)
        comparison = fetch.Comparison(ours, theirs)
        for start in range(0, len(mails), AT_ONCE):
            some = comparison.mails(start + 1, octets[start:start + AT_ONCE])
            for number, mail in some.items():
                report.take(mails[number - 1].name, mail)
    finally:
        for one in running:
            one.end()
        shutil.rmtree(dir, ignore_errors=True)
    print(f"{len(mails)} mails in {time.monotonic() - began:.0f} s, {changed} of them changed by Dovecot; "
          f"{comparison.parts} parts, {comparison.left_out} of them beyond {fetch.PARTS_MAX} of one mail and left out")
    report.print()
    sys.exit(1 if report.unknown else 0)


main()
