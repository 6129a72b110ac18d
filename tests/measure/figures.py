#!/usr/bin/env python3
"""Measures a server with a million messages: recovery after kill -9, and memory.

    cargo build --release --workspace
    python3 tests/measure/figures.py all          # or: recovery, memory, idle
    python3 tests/measure/figures.py recovery --messages 100000 --users 1000

recovery   fills the store (4 KiB messages), kills the server, starts it again: time to the first
           220 of SMTP, then every maildrop's STAT against what was acknowledged
memory     resident memory of the restarted server with and without the messages, per message
idle       resident memory of 10,000 idle connections each of SMTP and POP3, and 15,000 of IMAP,
           before and after login; those of IMAP have INBOX selected and are in IDLE

Needs about 6 GB below --dir, root or enough locked memory and open files (pombal doctor).
Loopback only; it ends only what it started.
"""

import argparse
import shutil
import signal
import socket
import sys
import time

from server import PASSWORD, Server, add_options, loadgen


def users_of(options):
    return ["--users", str(options.users), "--user-format", "user%05d@local.example", "--password", PASSWORD]


def fill(options, server):
    began = time.monotonic()
    loadgen(
        options, "smtp", "--to", f"127.0.0.1:{server.smtp}", "--count", str(options.messages),
        "--size", options.size, "--sessions", "64", "--chunking", "--depth", "4", "--quiet",
        *users_of(options),
    )
    seconds = time.monotonic() - began
    print(f"filled: {options.messages} messages of {options.size} in {seconds:.1f} s, "
          f"{options.messages / seconds:,.0f}/s while the clients share the cores", flush=True)


def count_messages(options, server):
    """STAT of every maildrop, pipelined."""
    messages = octets = 0
    for number in range(options.users):
        with socket.create_connection(("127.0.0.1", server.pop3), timeout=60) as client:
            login = f"USER user{number:05}@local.example\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n"
            client.sendall(login.encode())
            answer = b""
            while block := client.recv(4096):
                answer += block
        stat = answer.split(b"\r\n")[3].split()
        if stat[0] != b"+OK":
            sys.exit(f"user {number}: {answer}")
        messages += int(stat[1])
        octets += int(stat[2])
    return messages, octets


def recovery(options, server):
    """A server that is full, killed and back; returns the seconds to the first 220."""
    fill(options, server)
    server.end(signal.SIGKILL)
    to_220 = server.start()
    with open(server.log) as log:
        opened = [line for line in log if "event=log_open" in line][-options.shards:]
    print(f"recovery: {to_220:.3f} s from the start of the process to the first 220")
    for line in opened:
        print("  " + line.split("event=")[1].strip())
    began = time.monotonic()
    messages, octets = count_messages(options, server)
    print(f"  STAT of {options.users} maildrops: {messages} messages, {octets} octets, "
          f"{time.monotonic() - began:.1f} s", flush=True)
    if messages != options.messages:
        sys.exit(f"{options.messages} were acknowledged")


def memory(options, server, empty):
    """Both servers restarted, nothing read from either."""
    server.end(signal.SIGTERM)
    server.start()
    time.sleep(2)  # A round of the counters.
    full = server.resident()
    each = (full - empty) / options.messages
    print(f"memory: {empty:,} octets resident without, {full:,} with {options.messages} messages "
          f"in {options.users} mailboxes: {each:.1f} each")
    index = server.figures().get("pombal_mailbox_index_octets", 0)
    print(f"  its own account of the index: {index / options.messages:.1f} octets each", flush=True)


def idle(options, server):
    kinds = (("smtp", server.smtp, 1), ("pop3", server.pop3, 1), ("imap", server.imap, 1.5))
    for protocol, port, share in kinds:
        for login in ([], ["--login"]):
            # A server that has not served yet: what is allocated stays with it.
            server.end(signal.SIGTERM)
            server.start()
            report = loadgen(
                options, "idle", "--protocol", protocol, "--to", f"127.0.0.1:{port}",
                "--connections", str(round(share * options.connections)), "--server-pid", str(server.process.pid),
                *login, *users_of(options),
            )
            each = report["resident_octets_each"]
            after = {"smtp": "EHLO", "pop3": "login", "imap": "SELECT and IDLE"}[protocol] if login else "the greeting"
            print(f"idle {protocol} after {after}: {report['connections']} connections, "
                  f"{each:,.0f} octets each", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", "recovery", "memory", "idle"])
    add_options(parser)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--size", default="4K")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cache", default="64M")
    options = parser.parse_args()
    server = Server(options, "server")
    try:
        server.add_users(f"user{number:05}" for number in range(options.users))
        server.start()
        time.sleep(2)
        empty = server.resident()
        if options.what != "idle":
            if options.what == "memory":
                fill(options, server)
            else:
                recovery(options, server)
            memory(options, server, empty)
            messages, _ = count_messages(options, server)
            if messages != options.messages:
                sys.exit(f"{messages} messages after a stop")
        if options.what in ("all", "idle"):
            idle(options, server)
    finally:
        if server.process is not None:
            server.end(signal.SIGTERM)
        shutil.rmtree(server.dir, ignore_errors=True)


main()
