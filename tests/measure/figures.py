#!/usr/bin/env python3
"""Measures a server with a million messages: recovery after kill -9, and memory.

    cargo build --release --workspace
    python3 tests/measure/figures.py all          # or: recovery, memory, idle
    python3 tests/measure/figures.py recovery --messages 100000 --users 1000

recovery   fills the store (4 KiB messages), kills the server, starts it again: time to the first
           220 of SMTP, then every maildrop's STAT against what was acknowledged
memory     resident memory of the restarted server with and without the messages, per message
idle       resident memory of 10,000 idle connections each of SMTP and POP3, before and after login

Needs about 6 GB below --dir, root or enough locked memory and open files (pombal doctor).
Loopback only; it ends only what it started.
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

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
PASSWORD = "secret"


def free_port():
    """Below the ports of connections: ten thousand clients must not take it between two starts."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """One data directory and the process on it."""

    def __init__(self, options, name):
        self.options = options
        self.dir = os.path.join(options.dir, name)
        self.data = os.path.join(self.dir, "data")
        self.config = os.path.join(self.dir, "pombal.toml")
        self.log = os.path.join(self.dir, "log")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.data)
        self.smtp, self.pop3, self.admin = free_port(), free_port(), free_port()
        with open(self.config, "w") as out:
            out.write(f"""hostname = "mx.local.example"
data_dir = "{self.data}"
shards = {options.shards}
[listen]
smtp = ["127.0.0.1:{self.smtp}"]
pop3 = ["127.0.0.1:{self.pop3}"]
admin = "127.0.0.1:{self.admin}"
[auth]
allow_plaintext = true
argon2_memory = "8K"
argon2_passes = 1
[store]
cache_size = "{options.cache}"
[limits]
connections_per_address = 0
""")
        self.process = None

    def pombal(self, *words, text=""):
        command = [self.options.pombal, "--config", self.config, *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"pombal {' '.join(words)}: {done.stderr}")
        return done.stdout

    def start(self):
        """Starts the process; returns the seconds until SMTP said 220."""
        began = time.monotonic()
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [self.options.pombal, "--config", self.config, "serve"], stderr=log
            )
        while True:
            if self.process.poll() is not None:
                sys.exit(f"the server ended: see {self.log}")
            try:
                with socket.create_connection(("127.0.0.1", self.smtp), timeout=60) as client:
                    if client.recv(3) == b"220":
                        break
            except ConnectionError:
                time.sleep(0.002)
        to_220 = time.monotonic() - began
        while not self.is_ready():
            time.sleep(0.005)
        return to_220

    def is_ready(self):
        try:
            return self.http("/readyz").startswith("HTTP/1.1 200")
        except OSError:
            return False

    def http(self, path):
        with socket.create_connection(("127.0.0.1", self.admin), timeout=60) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while block := client.recv(65536):
                answer += block
        return answer.decode()

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(timeout=120)
        self.process = None

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) * 1024

    def figures(self):
        """The counters, shards added up."""
        found = {}
        for name, value in re.findall(r"^(pombal_\w+)(?:\{[^}]*\})? (\S+)$", self.http("/metrics"), re.M):
            found[name] = found.get(name, 0) + float(value)
        return found

    def add_users(self, count):
        self.pombal("domain", "add", "local.example")
        digest = self.digest()
        path = os.path.join(self.data, "admin.sock")
        self.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            lines = client.makefile("r")
            for number in range(count):
                user = {"address": f"user{number:05}@local.example", "password_hash": digest, "quota": None}
                client.sendall((json.dumps({"directory": {"user_add": user}}) + "\n").encode())
                answer = lines.readline()
                if answer != '"done"\n':
                    sys.exit(f"user {number}: {answer}")
        self.end(signal.SIGTERM)

    def digest(self):
        """The hash of the one password: ours is the socket that the command line asks."""
        path = os.path.join(self.data, "admin.sock")
        heard = []

        def listen(server):
            client, _ = server.accept()
            with client:
                heard.append(client.makefile("r").readline())
                client.sendall(b'"done"\n')

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            thread = threading.Thread(target=listen, args=[server])
            thread.start()
            self.pombal("user", "add", "x@local.example", "--password-stdin", text=PASSWORD + "\n")
            thread.join()
        os.remove(path)
        return json.loads(heard[0])["directory"]["user_add"]["password_hash"]


def loadgen(options, *words):
    command = [options.loadgen, *words, "--json"]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout}")
    return json.loads(done.stdout)


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
    for protocol, port in (("smtp", server.smtp), ("pop3", server.pop3)):
        for login in ([], ["--login"]):
            # A server that has not served yet: what is allocated stays with it.
            server.end(signal.SIGTERM)
            server.start()
            report = loadgen(
                options, "idle", "--protocol", protocol, "--to", f"127.0.0.1:{port}",
                "--connections", str(options.connections), "--server-pid", str(server.process.pid),
                *login, *users_of(options),
            )
            each = report["resident_octets_each"]
            after = {"smtp": "EHLO", "pop3": "login"}[protocol] if login else "the greeting"
            print(f"idle {protocol} after {after}: {report['connections']} connections, "
                  f"{each:,.0f} octets each", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", "recovery", "memory", "idle"])
    parser.add_argument("--pombal", default=os.path.join(TARGET, "release", "pombal"))
    parser.add_argument("--loadgen", default=os.path.join(TARGET, "release", "loadgen"))
    parser.add_argument("--dir", default=os.path.join(TARGET, "measure"))
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--size", default="4K")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cache", default="64M")
    options = parser.parse_args()
    server = Server(options, "server")
    try:
        server.add_users(options.users)
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
