#!/usr/bin/env python3
"""IMAP, Pombal and Dovecot side by side: the same work by the same loadgen, in turns.

    cargo build --release --workspace
    python3 tests/measure/imap.py                 # --only store,append for some of the rows
    python3 tests/measure/imap.py --no-peer       # Pombal alone

Each server gets the same mailboxes; then every row of the table is measured on one and on the
other, --rounds times (A B A B ...). Printed are the medians of the server's CPU per operation and
their spread; of `idle` the time from an APPEND until the last of 100 watchers has seen it.

cold   the server was started anew, the page cache is empty, and nobody has listed the mailbox
       before: Dovecot's cache files of it are removed, as Pombal keeps none

Dovecot is set up by ../shared/peers/servers (--peers), which need root and Debian's packages
dovecot-imapd, dovecot-pop3d, dovecot-lmtpd, dovecot-sieve and postfix. Loopback only; it ends only
what it started.
"""

import argparse
import os
import shutil
import signal
import statistics

import peers
from peers import DOMAIN, Peers, drop_caches
from server import PASSWORD, Server, add_options, loadgen

# Name, mailboxes, users, sessions, operations, times as many for Pombal, what it may cost.
BIG, WORD, MANY = "big", "word", "u%02d"
ROWS = [
    ("fetch-all cold", BIG, 1, 1, 1, 1, 400_000),
    ("fetch-all", BIG, 1, 1, 5, 2, 60_000),
    ("flags-all", BIG, 1, 1, 10, 5, 8_000),
    ("select", MANY, 64, 64, 5_000, 5, 60),
    ("select big", BIG, 1, 16, 2_000, 5, 60),
    ("store", MANY, 64, 64, 10_000, 5, 20),
    ("append", MANY, 64, 64, 3_000, 5, 50),
    ("login", MANY, 64, 64, 2_000, 5, 200),
    ("search-body", WORD, 1, 1, 5, 4, 40_000),
    ("idle", "watch", 1, 101, 20, 1, None),
    ("thunderbird", MANY, 64, 64, 500, 2, None),
    ("phone", MANY, 64, 64, 500, 2, None),
    ("mixed", MANY, 64, 64, 2_000, 4, None),
]
IDLE_GOAL_MS = 5


class Pombal:
    factor = True

    def __init__(self, options):
        self.options = options
        options.cache = "256M"
        self.server = Server(options, "imap")
        names = [BIG, WORD, "watch"] + [MANY % number for number in range(64)]
        self.server.add_users(names, DOMAIN)
        self.server.start()
        self.imap = f"127.0.0.1:{self.server.imap}"

    def pids(self):
        """The words that make loadgen count the process."""
        return ["--server-pid", str(self.server.process.pid)]

    def chill(self):
        self.server.end(signal.SIGTERM)
        drop_caches()
        self.server.start()

    def end(self):
        if self.server.process is not None:
            self.server.end(signal.SIGTERM)
        shutil.rmtree(self.server.dir, ignore_errors=True)


def imap(server, mix, user_format, users, sessions, *words):
    return loadgen(
        server.options, "imap", "--to", server.imap, "--mix", mix, "--users", str(users), "--user-format",
        f"{user_format}@{DOMAIN}", "--sessions", str(sessions), "--password", PASSWORD, "--quiet",
        *server.pids(), *words,
    )


def prepare(server):
    scale = server.options.scale
    for user_format, users, count in ((BIG, 1, 100_000), (WORD, 1, 10_000), (MANY, 64, 64_000)):
        imap(server, "prepare", user_format, users, min(users, 4), "--count", str(int(count * scale)))


def measure(server, row):
    """Microseconds of CPU per operation; of idle, milliseconds."""
    name, user_format, users, sessions, count, factor, _ = row
    mix, _, what = name.partition(" ")
    if what == "cold":
        server.chill()  # The clock starts behind SELECT.
    count *= factor if server.factor else 1
    report = imap(server, mix, user_format, users, sessions, "--count", str(count))
    if mix == "idle":
        return report["latency"]["p50_ms"]
    return report["server"]["cpu_us_per_message"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    peers.add_options(parser)
    parser.add_argument("--scale", type=float, default=1, help="of the mailboxes")
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    rows = [row for row in ROWS if not options.only or row[0].split()[0] in options.only.split(",")]
    servers = []
    try:
        servers.append(Pombal(options))
        if not options.no_peer:
            servers.append(Peers(options))
        for server in servers:
            prepare(server)
        print(f"{'row':16} {'wanted':>10} {'Pombal':>10} {'spread':>19} {'Dovecot':>11} {'ratio':>7}")
        for row in rows:
            found = [[] for _ in servers]
            for _ in range(options.rounds):
                for server, figures in zip(servers, found):
                    figures.append(measure(server, row))
            print(line(row, found), flush=True)
    finally:
        for server in servers:
            server.end()


def line(row, found):
    unit, goal = ("ms", IDLE_GOAL_MS) if row[0] == "idle" else ("us", row[6])
    middles = [statistics.median(figures) for figures in found]
    own = found[0]
    text = f"{row[0]:16} {f'{goal:,}' if goal else '':>10} {middles[0]:>10,.1f} "
    text += f"{f'{min(own):,.1f} to {max(own):,.1f}':>19} "
    if len(middles) > 1:
        text += f"{middles[1]:>11,.1f} {middles[1] / middles[0]:>7.1f}"
    return f"{text} {unit}{'' if not goal or middles[0] <= goal else '  MORE THAN WANTED'}"


main()
