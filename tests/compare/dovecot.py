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
import concurrent.futures
import itertools
import os
import queue
import shutil
import sys
import tempfile
import threading
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
# Pairs of sessions, of which one may be at a mail that is long work for Dovecot.
PAIRS = 2
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
        self.parts = self.items = self.identical = 0
        self.rules, self.unknown = collections.Counter(), []

    def take(self, name, mail):
        self.parts += len(mail.parts)
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


def compare(pairs, names, octets, report):
    """Several pairs of sessions go through the mails, some at a time."""
    free, lock = queue.SimpleQueue(), threading.Lock()
    for pair in pairs:
        free.put(pair)

    def work(start):
        pair = free.get()
        try:
            some = pair.mails(start + 1, octets[start:start + AT_ONCE])
        finally:
            free.put(pair)
        with lock:
            for number, mail in some.items():
                report.take(names[number - 1], mail)

    def cost(start):
        """Of each part Dovecot goes through all of the mail."""
        return sum(len(one) * one.count(b"\n--") for one in octets[start:start + AT_ONCE])

    with concurrent.futures.ThreadPoolExecutor(len(pairs)) as workers:
        # The longest first, so that none of them is left alone at the end.
        starts = sorted(range(0, len(octets), AT_ONCE), key=cost, reverse=True)
        collections.deque(workers.map(work, starts), maxlen=0)


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
        pairs = [
            [imap.Client(one.imap, one.user, servers.PASSWORD) for one in running]
            for _ in range(PAIRS)
        ]
        octets, changed = kept(*pairs[0], mails)
        for client in itertools.chain(*pairs):
            client.select("INBOX")
        pairs = [fetch.Comparison(*pair) for pair in pairs]
        compare(pairs, [mail.name for mail in mails], octets, report)
    finally:
        for one in running:
            one.end()
        shutil.rmtree(dir, ignore_errors=True)
    print(f"{len(mails)} mails with {report.parts} parts in {time.monotonic() - began:.0f} s; "
          f"{changed} of the mails were changed by Dovecot")
    report.print()
    sys.exit(1 if report.unknown else 0)


main()
