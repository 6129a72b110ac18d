#!/usr/bin/env python3
"""Wrong passwords by the thousand: what they do to the logins of others.

    cargo build --release --workspace
    python3 tests/measure/brute.py                # a minute of quiet, then a minute of guessing

quiet    right logins alone: some of users whom the server knows from a moment ago, some of users who
         come for the first time and cost an argon2id check of the default price
guessed  the same while 10,000 wrong logins a minute come from 100 addresses, each of a network of
         its own, at all accounts, those that log in among them

Printed are the medians of connect, LOGIN and its answer by IMAP, how the wrong ones were answered
and how long they were made to wait, and what fail2ban's own tester finds in the log with
tuning/fail2ban (Debian's fail2ban; without it that line is left out). Ends with status 1 when a
median has more than doubled. Loopback only.
"""

import argparse
import asyncio
import collections
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

from server import DOMAIN, PASSWORD, ROOT, Server, add_options

USER = "user%04d"
KNOWN = 50
ADDRESSES = 100
WRONG = 10_000  # A minute.
RIGHT = 5  # A second, of each kind.
MOST = 2  # Times as long as without.


async def attempt(server, source, user, password):
    """Connect, LOGIN: seconds it took, and the first words of the answer."""
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.imap, local_addr=(source, 0))
    except OSError as error:
        return time.perf_counter() - began, type(error).__name__
    try:
        await reader.readuntil(b"\r\n")
        writer.write(f'a LOGIN {user}@{DOMAIN} "{password}"\r\n'.encode())
        while not (line := await reader.readuntil(b"\r\n")).startswith(b"a "):
            pass
        answer = re.match(rb"a (OK|NO(?: \[\w+\])?)", line)
        return time.perf_counter() - began, answer.group(0).decode() if answer else line.decode()
    except (OSError, asyncio.IncompleteReadError) as error:
        return time.perf_counter() - began, type(error).__name__
    finally:
        writer.close()


async def at_rate(each_second, seconds, make):
    """Begins make(n) at its time, whether the ones before it have ended or not; all their results."""
    began = time.monotonic()
    tasks = []
    for number in range(round(each_second * seconds)):
        await asyncio.sleep(max(0, began + number / each_second - time.monotonic()))
        tasks.append(asyncio.create_task(make(number)))
    return await asyncio.gather(*tasks)


async def right(server, seconds, fresh):
    """Latencies in ms of users who are known, and of the users in `fresh`."""
    def known(number):
        return attempt(server, "127.0.0.1", USER % (number % KNOWN), PASSWORD)

    def unknown(_):
        return attempt(server, "127.0.0.1", USER % fresh.pop(), PASSWORD)

    found = await asyncio.gather(at_rate(RIGHT, seconds, known), at_rate(RIGHT, seconds, unknown))
    for kind in found:
        bad = [answer for _, answer in kind if answer != "a OK"]
        if bad:
            sys.exit(f"right logins were refused: {collections.Counter(bad)}")
    return [[1_000 * took for took, _ in kind] for kind in found]


async def wrong(server, seconds, users):
    def guess(number):
        host = number % ADDRESSES
        return attempt(server, f"127.{1 + host}.7.1", USER % (number % users), f"guess{number}")

    return await at_rate(WRONG / 60, seconds, guess)


async def run(options, server):
    users = KNOWN + 2 * RIGHT * options.seconds
    fresh = list(range(KNOWN, users))
    for number in range(KNOWN):
        await attempt(server, "127.0.0.1", USER % number, PASSWORD)
    quiet = await right(server, options.seconds, fresh)
    guessing = asyncio.create_task(wrong(server, options.seconds, users))
    guessed = await right(server, options.seconds, fresh)
    return quiet, guessed, await guessing


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--shards", type=int, default=2)
    options = parser.parse_args()
    options.cache = "64M"
    os.makedirs(options.dir, exist_ok=True)
    server = Server(options, "brute", argon2="")
    try:
        server.add_users(USER % number for number in range(KNOWN + 2 * RIGHT * options.seconds))
        server.start()
        quiet, guessed, answers = asyncio.run(run(options, server))
        worst = 0
        for kind, before, after in zip(("known", "first time"), quiet, guessed):
            ratio = statistics.median(after) / statistics.median(before)
            worst = max(worst, ratio)
            print(f"{kind:10} median {statistics.median(before):7.2f} ms quiet, {statistics.median(after):7.2f} ms "
                  f"guessed: {ratio:.2f} times; slowest {max(before):.0f} and {max(after):.0f} ms", flush=True)
        print(f"{len(answers):,} wrong logins in {options.seconds} s from {ADDRESSES} addresses:")
        for answer, count in collections.Counter(answer for _, answer in answers).most_common():
            waits = sorted(took for took, said in answers if said == answer)
            print(f"  {answer:30} {count:6,}  waited {statistics.median(waits):.2f} s in the middle, {waits[-1]:.2f} at most")
        report_log(server)
        if worst > MOST:
            sys.exit(f"a median is {worst:.2f} times what it was, {MOST} is the most")
    finally:
        if server.process is not None:
            server.end(signal.SIGTERM)
        shutil.rmtree(server.dir, ignore_errors=True)


def report_log(server):
    with open(server.log) as log:
        reasons = collections.Counter(
            re.search(r" why=(\w+)", line).group(1) for line in log if "event=login_failed" in line
        )
    print("log: " + ", ".join(f"{count:,} lines with why={why}" for why, count in reasons.items()))
    if shutil.which("fail2ban-regex"):
        rule = os.path.join(ROOT, "tuning", "fail2ban", "filter.conf")
        found = subprocess.run(["fail2ban-regex", server.log, rule], text=True, capture_output=True).stdout
        print(f"fail2ban: {re.search('Failregex: [0-9]+ total', found).group(0)}")


main()
