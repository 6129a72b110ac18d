#!/usr/bin/env python3
"""SMTP and POP3, Pombal beside Postfix and Dovecot: the same work by the same loadgen, in turns.

    cargo build --release --workspace
    python3 tests/measure/smtp.py                 # --only data,bdat,pop3 for some of the rows
    python3 tests/measure/smtp.py --no-peer       # Pombal alone; --shards 2 for two logs

data   64 sessions, MAIL, RCPT and DATA pipelined, 10 KiB, one recipient each of 1,000 users
bdat   the same with BDAT, eight messages of each session under way
pop3   16 sessions: login, STAT, UIDL and RETR of 100 messages of 4 KiB, pipelined, and QUIT

Each row is measured --rounds times on one and on the other (A B A B ...), and every message counts
from its first octet until it lies in its mailbox, durably with Pombal. Printed are the medians and
the spread of the servers' CPU per message, then the rate while the clients share the cores and,
for Pombal, the syncs per 1,000 messages.

Postfix and Dovecot are set up by ../shared/peers/servers (--peers), which need root and Debian's
packages postfix, dovecot-imapd, dovecot-pop3d, dovecot-lmtpd and dovecot-sieve. Loopback only; it
ends only what it started.
"""

import argparse
import os
import shutil
import signal
import statistics

import peers
from peers import DOMAIN, Peers
from server import PASSWORD, Server, add_options, loadgen

USER = "user%04d"
USERS = 1_000
MAILDROPS = 50  # The users that `pop3` reads, with some hundred messages each.
SESSIONS = 200  # Maildrops that it reads.
MESSAGES = 3_000
# Name, times as many for Pombal, microseconds of CPU a message may cost, syncs per 1,000 of them.
# `pop3` comes first: the others put larger messages into the same maildrops.
ROWS = [("pop3", 5, 6, None), ("data", 10, 70, 20), ("bdat", 10, None, None)]
BDAT = ("--chunking", "--depth", "8")


class Pombal:
    factor = True

    def __init__(self, options):
        self.options = options
        options.cache = "256M"
        self.server = Server(options, "smtp")
        self.server.add_users([USER % number for number in range(USERS)], DOMAIN)
        self.server.start()
        self.smtp, self.pop3 = (f"127.0.0.1:{port}" for port in (self.server.smtp, self.server.pop3))

    def pids(self, *_):
        """The words that make loadgen count the process."""
        return ["--server-pid", str(self.server.process.pid)]

    def syncs(self):
        return ["--metrics", f"http://127.0.0.1:{self.server.admin}/metrics"]

    def end(self):
        if self.server.process is not None:
            self.server.end(signal.SIGTERM)
        shutil.rmtree(self.server.dir, ignore_errors=True)


def users(count):
    return ["--users", str(count), "--user-format", f"{USER}@{DOMAIN}", "--password", PASSWORD, "--quiet"]


def send(server, count, of_users, *words):
    return loadgen(
        server.options, "smtp", "--to", server.smtp, "--sessions", "64", "--count", str(count), "--settle", "30s",
        *users(of_users), *words,
    )


def measure(server, row):
    """What loadgen says of one row."""
    name, factor, *_ = row
    times = factor if server.factor else 1
    if name == "pop3":
        return loadgen(
            server.options, "pop3", "--to", server.pop3, "--sessions", "16", "--count", str(SESSIONS * times),
            *users(MAILDROPS), *server.pids("dovecot"),
        )
    words = server.pids("postfix", "dovecot") + (server.syncs() if server.factor else [])
    if name == "bdat":
        words += BDAT
    return send(server, MESSAGES * times, USERS, "--size", "10K", *words)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    peers.add_options(parser)
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    rows = [row for row in ROWS if not options.only or row[0] in options.only.split(",")]
    servers = []
    try:
        servers.append(Pombal(options))
        if not options.no_peer:
            servers.append(Peers(options))
        if any(row[0] == "pop3" for row in rows):
            for server in servers:
                send(server, MAILDROPS * 100, MAILDROPS, "--size", "4K")
        for row in rows:
            found = [[] for _ in servers]
            for _ in range(options.rounds):
                for server, reports in zip(servers, found):
                    reports.append(measure(server, row))
            for server, reports in zip(servers, found):
                print(line(row, server, reports), flush=True)
    finally:
        for server in servers:
            server.end()


def line(row, server, reports):
    name, _, goal, syncs_goal = row
    text = f"{name:5} {'Pombal' if server.factor else 'peer':7}"
    wanted = [("us CPU", [report["server"]["cpu_us_per_message"] for report in reports], goal)]
    if server.factor and syncs_goal:
        wanted.append(("syncs/1,000", [1_000 * report["syncs_per_message"] for report in reports], syncs_goal))
    wanted.append(("/s", [report["messages_per_second"] for report in reports], None))
    for unit, figures, most in wanted:
        middle = statistics.median(figures)
        text += f"  {middle:,.1f} {unit} ({min(figures):,.1f} to {max(figures):,.1f})"
        if most and server.factor:
            text += f" of {most}" + ("" if middle <= most else " MORE THAN WANTED")
    return text


main()
