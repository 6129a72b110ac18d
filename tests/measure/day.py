#!/usr/bin/env python3
"""A provider's day on a store that is nearly full: what cleaning writes, and what it does to commits.

    cargo build --release --workspace
    python3 tests/measure/day.py                  # --size 2G --levels 70,80,90 --turns 2 --rate 3000
    python3 tests/measure/day.py --mails DIR      # real mail instead of made up messages
    python3 tests/measure/day.py --compression zstd

`loadgen smtp` delivers at a steady rate to a thousand users; beside it their clients, one IMAP session
each, read some of what came, set flags, and remove: half of what comes soon, at 2 % of the time in which
the store turns over (spam, POP3, trash; exponentially), of the other half whatever is too much, at
random. First the store fills to the first level, which is the day without cleaning; at each level it then
turns over --turns times, of which the last is measured.

A line for each: octets that the store wrote, by its own counters, for each octet of mail (records and
mail as it comes, what cleaning moved, pages of checkpoints), and the commits, by its own histogram.
Loopback only; needs --size and a little more below --dir; it ends only what it started.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from server import DOMAIN, PASSWORD, Server, add_options

GOAL_FILLING = 1.1  # Octets written for each of mail, while nothing is cleaned,
GOAL_FULL = 2.3  # and at 80 % full;
GOAL_PACKED = 1.8  # with compression.
GOAL_COMMIT = 3  # p99 of a commit while it is cleaned, times that without.
SHORT = 0.5  # Share of mail that goes soon,
SHORT_LIFE = 0.02  # and after which share of the store's messages on average.
PASS_PAUSE = 0.2  # Seconds between two looks at all mailboxes.
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Client:
    """The mail program of one user: one session, what it knows of the mailbox."""

    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.next = 1
        self.send(f'a LOGIN "{user}" "{PASSWORD}"\r\nb SELECT INBOX')
        self.wait()

    def send(self, text):
        self.socket.sendall(f"{text}\r\nz NOOP\r\n".encode())

    def wait(self):
        """All that came up to the end of what was sent."""
        found = []
        while True:
            line = self.lines.readline()
            if not line:
                sys.exit("a session ended")
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if literal:
                self.lines.read(int(literal.group(1)))
            elif re.match(rb"\w+ (NO|BAD)", line):
                sys.exit(line.decode())
            elif line.startswith(b"z OK"):
                return found
            found.append(line)


class Day:
    def __init__(self, options):
        self.options = options
        self.chance = random.Random(options.seed)
        limit = "" if options.compression == "none" else f'compression = "{options.compression}"\n'
        self.server = Server(options, "day", f"""[undelete]
retention = "0s"
[smtp]
max_message_size = "2M"
""", store=f'segment_size = "4M"\nmax_size = "{options.size}"\n{limit}')
        self.users = [f"user{number:04d}" for number in range(options.users)]
        self.server.add_users(self.users)
        self.server.start()
        self.clients = [Client(self.server.imap, f"{user}@{DOMAIN}") for user in self.users]
        self.octets = int(options.size[:-1]) * UNITS[options.size[-1]]
        self.level = 0
        self.arrived = 0
        self.short = []  # (arrival at which it goes, client, UID)
        self.long = []
        self.mean = 10_400
        self.ended = threading.Event()

    def stats(self):
        return json.loads(self.server.pombal("--json", "store", "stats"))

    def share(self, stats):
        """Of the store's room, what is alive, in percent."""
        return 100 * (stats["hot_live_octets"] + stats["cold_live_octets"]) / self.octets

    def look(self):
        """All clients look at their mailboxes once."""
        stats = self.stats()
        if stats["blobs"]:
            self.mean = (stats["hot_live_octets"] + stats["cold_live_octets"]) / stats["blobs"]
        over = int((self.share(stats) - self.level) / 100 * self.octets / self.mean)
        gone = {}
        self.short.sort()
        while self.short and self.short[0][0] <= self.arrived:
            _, client, uid = self.short.pop(0)
            gone.setdefault(client, []).append(uid)
        for _ in range(min(max(over, 0), len(self.long))):
            at = self.chance.randrange(len(self.long))
            self.long[at], self.long[-1] = self.long[-1], self.long[at]
            client, uid = self.long.pop()
            gone.setdefault(client, []).append(uid)
        for number, client in enumerate(self.clients):
            words = ["s STATUS INBOX (UIDNEXT)"]
            if uids := gone.get(number):
                uids = ",".join(map(str, sorted(uids)))
                words += [f"d UID STORE {uids} +FLAGS.SILENT (\\Deleted)", f"e UID EXPUNGE {uids}"]
            if client.next > 1 and self.chance.random() < 0.2:
                words += [f"f UID FETCH {client.next - 1} (FLAGS BODY[])"]
            client.send("\r\n".join(words))
        fits = self.octets / self.mean
        for number, client in enumerate(self.clients):
            said = b"".join(client.wait())
            upto = int(re.search(rb"UIDNEXT (\d+)\)", said).group(1))
            for uid in range(client.next, upto):
                self.arrived += 1
                if self.chance.random() < SHORT:
                    due = self.arrived + self.chance.expovariate(1 / (SHORT_LIFE * fits))
                    self.short.append((due, number, uid))
                else:
                    self.long.append((number, uid))
            client.next = upto

    def clients_look(self):
        while not self.ended.is_set():
            self.look()
            self.ended.wait(PASS_PAUSE)

    def deliver(self, count):
        options = self.options
        words = ["--mails", options.mails] if options.mails else ["--size", "10K"]
        command = [
            options.loadgen, "smtp", "--to", f"127.0.0.1:{self.server.smtp}", "--count", str(count), "--sessions", "32",
            "--rate", f"{options.rate}/s", "--users", str(options.users), "--user-format", f"user%04d@{DOMAIN}",
            "--seed", str(self.chance.randrange(1 << 30)), "--allow-errors", "--json", "--quiet", *words,
        ]
        self.ended.clear()
        clients = threading.Thread(target=self.clients_look)
        clients.start()
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True)
        self.ended.set()
        clients.join()
        return json.loads(done.stdout)

    def commits(self):
        """Of the histogram: microseconds up to which, and how many."""
        found = re.findall(r'^pombal_commit_microseconds_bucket\{[^}]*le="([^"]+)"\} (\d+)$', self.server.http("/metrics"), re.M)
        return {float("inf") if upto == "+Inf" else float(upto): int(count) for upto, count in found}

    def measured(self, name, count):
        """Delivers so many, and tells what it took."""
        before, commits = self.stats(), self.commits()
        began = time.monotonic()
        report = self.deliver(count)
        took = time.monotonic() - began
        after = self.stats()
        mail = report["octets"]
        ratio = {
            what: (after[key] - before[key]) / max(mail, 1)
            for what, key in (("mail", "octets_written"), ("moved", "cold_octets_written"), ("pages", "checkpoint_octets"))
        }
        p99 = self.p99(commits, self.commits())
        total = sum(ratio.values())
        packed = after["packed_octets_before"] - before["packed_octets_before"]
        print(f"{name:12} {self.share(after):5.1f} % alive, {report['messages'] / took:7,.0f}/s, {report['refused']} refused: written "
              f"{total:.2f} (mail {ratio['mail']:.2f}, moved {ratio['moved']:.2f}, pages {ratio['pages']:.2f}), "
              f"{after['cleaned_segments'] - before['cleaned_segments']} segments cleaned, "
              f"{after['checkpoints'] - before['checkpoints']} checkpoints, "
              + (f"packed to {(after['packed_octets_after'] - before['packed_octets_after']) / packed:.2f}, " if packed else "")
              + f"commit p99 {p99:,.0f} us", flush=True)
        return total, p99

    @staticmethod
    def p99(before, after):
        # Buckets that were empty before are not told then: what is below one counts for it.
        def upto(counts, limit):
            return max((count for bound, count in counts.items() if bound <= limit), default=0)

        whole = after[float("inf")] - before[float("inf")]
        for bound in sorted(after):
            if after[bound] - upto(before, bound) >= 0.99 * whole:
                return bound
        return 0

    def run(self):
        options = self.options
        levels = [int(level) for level in options.levels.split(",")]
        goal = GOAL_FULL if options.compression == "none" else GOAL_PACKED
        fits = int(self.octets / self.mean)
        # Half of it is filled before anything is worth to be cleaned.
        self.level = levels[0]
        written, quiet = self.measured("filling", fits // 2)
        self.tell("written while filling", written, GOAL_FILLING)
        for level in levels:
            self.level = level
            while self.share(self.stats()) < level - 1:
                self.deliver(fits // 20)
            fits = int(self.octets / self.mean)
            for _ in range(options.turns - 1):
                self.deliver(fits)
            written, p99 = self.measured(f"{level} % full", fits)
            if level == 80:
                self.tell("written at 80 % full", written, goal)
            self.tell(f"p99 of commits at {level} %, times that while filling", p99 / max(quiet, 1), GOAL_COMMIT)

    @staticmethod
    def tell(what, figure, goal):
        print(f"             {what}: {figure:.2f} of {goal}{'' if figure <= goal else ' MORE THAN WANTED'}", flush=True)

    def end(self):
        if self.server.process is not None:
            self.server.end(signal.SIGTERM)
        shutil.rmtree(self.server.dir, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--cache", default="64M")
    parser.add_argument("--size", default="2G", help="of the store: store.max_size")
    parser.add_argument("--levels", default="70,80,90", help="shares of it that are alive, in percent")
    parser.add_argument("--turns", type=int, default=2, help="how often it turns over at each")
    parser.add_argument("--rate", type=int, default=3_000, help="messages a second")
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--mails", help="a folder of messages to send")
    parser.add_argument("--compression", default="none", choices=["none", "zstd"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.dir = os.path.abspath(options.dir)
    os.makedirs(options.dir, exist_ok=True)
    day = Day(options)
    try:
        day.run()
    finally:
        day.end()


main()
