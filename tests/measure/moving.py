#!/usr/bin/env python3
"""Moving in: 100,000 small messages out of a Maildir, an mbox tree, a Maildir of one folder, and by IMAP out of
a Dovecot that serves the first and the last of them.

    cargo build --release
    python3 tests/measure/moving.py               # --messages 100000 --rounds 3 --stopped

Messages have 1 to 3 KiB, in 20 folders (or one), with flags, keywords and UIDs as Dovecot keeps them.
Printed are messages a second by the command's own clock, from its start to the last batch's
durability, and what the process and the command cost in CPU. A second import has to bring nothing. Dovecot
is first asked for all sizes, as it would have them of messages that it took in itself; without
/usr/sbin/dovecot these rows are left out. It ends only what it started.
"""

import argparse
import imaplib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time

from server import DOMAIN, PASSWORD, Server, add_options, free_port

FOLDERS = 20
FLAGS = ["", "S", "FS", "RS", "Sa", "ab"]
LETTERS = "abcdefghijklmnopqrstuvwxyz      "


def text(number, chance):
    words = "".join(chance.choices(LETTERS, k=chance.randrange(600, 2_600)))
    body = "\n".join(words[at:at + 72] for at in range(0, len(words), 72))
    return (
        f"From: Ann <ann@other.example>\nTo: Bob <bob@{DOMAIN}>\nSubject: message {number}\n"
        f"Date: Wed, 25 Nov 2026 04:11:19 +0000\nMessage-ID: <{number}@other.example>\n"
        f"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{body}\n"
    ).encode()


def maildir(root, messages, folders):
    chance = random.Random(1)
    share = messages // folders
    for folder in range(folders):
        path = os.path.join(root, f".F{folder}" if folder else "")
        for part in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(path, part))
        with open(os.path.join(path, "dovecot-uidlist"), "w") as uidlist:
            uidlist.write(f"3 V{1_500_000_000 + folder} N{share + 1}\n")
            for number in range(share):
                name = f"{1_600_000_000 + number}.M{number}P1.h"
                flags = FLAGS[number % len(FLAGS)]
                with open(os.path.join(path, "cur", f"{name}:2,{flags}"), "wb") as out:
                    out.write(text(number, chance))
                uidlist.write(f"{number + 1} :{name}\n")
        with open(os.path.join(path, "dovecot-keywords"), "w") as keywords:
            keywords.write("0 $Junk\n1 Work\n")


def mbox(root, messages, folders):
    chance = random.Random(1)
    share = messages // folders
    os.makedirs(root)
    for folder in range(folders):
        with open(os.path.join(root, f"F{folder}" if folder else "inbox"), "wb") as out:
            for number in range(share):
                head, body = text(number, chance).split(b"\n\n", 1)
                base = f"X-IMAPbase: {1_500_000_000 + folder} {share}\n" if number == 0 else ""
                fields = f"\n{base}X-UID: {number + 1}\nStatus: RO\nContent-Length: {len(body)}\n\n"
                line = b"From a@other.example Wed Nov 25 04:11:19 2026\n"
                out.write(line + head + fields.encode() + body + b"\n")


def cpu(pid):
    """Seconds of CPU of a process."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Dovecot:
    """Debian's Dovecot with one user, whose mail is a Maildir."""

    def __init__(self, options, root):
        self.dir = os.path.join(options.dir, "moving-dovecot")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.port = free_port()
        user = os.getuid() or 65_534
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", f"{user}:{user}", root], check=True)
        config = os.path.join(self.dir, "dovecot.conf")
        with open(config, "w") as out:
            out.write(f"""protocols = imap
base_dir = {self.dir}/run
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{root}
first_valid_uid = 1
first_valid_gid = 0
log_path = {self.dir}/log
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={root}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.port}
  }}
}}
""")
        self.process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", config])
        while True:
            try:
                client = imaplib.IMAP4("127.0.0.1", self.port)
                break
            except OSError:
                time.sleep(0.05)
        client.login("ann", PASSWORD)
        for line in client.list()[1]:
            client.select(line.split(b' "." ')[1].decode(), readonly=True)
            client.fetch("1:*", "(RFC822.SIZE)")
        client.logout()

    def source(self):
        return f"imap://ann@127.0.0.1:{self.port}"

    def end(self):
        self.process.terminate()
        self.process.wait()


def measure(options, name, kind, root, more=()):
    rates = []
    for round in range(options.rounds):
        server = Server(options, "moving")
        server.add_users(["ann"])
        if not options.stopped:
            server.start()
        before = 0 if options.stopped else cpu(server.process.pid)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = ["--json", "import", kind, f"ann@{DOMAIN}", root, *more]
        done = json.loads(server.pombal(*words))
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = used.ru_utime + used.ru_stime - children.ru_utime - children.ru_stime
        process = 0 if options.stopped else cpu(server.process.pid) - before
        if done["messages"] != options.messages or done["left_out"]:
            sys.exit(f"{name}: {done}")
        again = json.loads(server.pombal(*words))
        if again["messages"] or again["skipped"] != options.messages:
            sys.exit(f"{name}, again: {again}")
        rates.append(done["messages_per_second"])
        micros = 1e6 / options.messages
        print(
            f"{name}: {done['messages_per_second']} messages/s, {done['octets'] >> 20} MiB, "
            f"{process * micros:.1f} µs of the server's CPU and {command * micros:.1f} µs of the "
            f"command's for each; again: {again['milliseconds']} ms",
            flush=True,
        )
        if not options.stopped:
            server.end(signal.SIGTERM)
    print(f"{name}: median {statistics.median(rates):.0f} messages/s")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cache", default="256M")
    parser.add_argument("--stopped", action="store_true", help="without a running server")
    options = parser.parse_args()
    source = os.path.join(options.dir, "moving-source")
    shutil.rmtree(source, ignore_errors=True)
    rows = [("maildir", "maildir", FOLDERS), ("maildir, one folder", "maildir", 1), ("mbox", "mbox", FOLDERS)]
    for name, kind, folders in rows:
        root = os.path.join(source, name.replace(", ", "-").replace(" ", "-"))
        (maildir if kind == "maildir" else mbox)(root, options.messages, folders)
        measure(options, name, kind, root)
        if kind == "maildir" and os.path.exists("/usr/sbin/dovecot"):
            dovecot = Dovecot(options, root)
            password = os.path.join(dovecot.dir, "password")
            with open(password, "w") as out:
                out.write(PASSWORD)
            for connections in ("1", "4"):
                more = ["--password-file", password, "--connections", connections]
                row = f"{name} by IMAP, {connections} connections"
                measure(options, row, "imap", dovecot.source(), more)
            dovecot.end()
        shutil.rmtree(root)


main()
