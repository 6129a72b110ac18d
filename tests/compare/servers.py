"""Both servers, on loopback ports of their own; only what was started here is ended."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

PASSWORD = "secret"


def free_ports(span):
    """The first of so many ports, below those of connections, all of them free."""
    while True:
        first = random.randrange(10_000, 30_000)
        try:
            for port in range(first, first + span):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


class Pombal:
    """One data directory and the process on it."""

    user = "user0000@local.example"

    def __init__(self, program, dir):
        self.program = program
        self.config, self.log = os.path.join(dir, "pombal.toml"), os.path.join(dir, "pombal.log")
        data = os.path.join(dir, "data")
        os.makedirs(data)
        self.imap = free_ports(3)
        with open(self.config, "w") as out:
            out.write(f"""hostname = "mx.local.example"
data_dir = "{data}"
shards = 1
[listen]
smtp = []
lmtp = ["127.0.0.1:{self.imap + 1}"]
pop3 = []
imap = ["127.0.0.1:{self.imap}"]
admin = "127.0.0.1:{self.imap + 2}"
[auth]
allow_plaintext = true
argon2_memory = "8K"
argon2_passes = 1
""")
        self.command("domain", "add", "local.example")
        self.command("user", "add", self.user, "--password-stdin", text=PASSWORD + "\n")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [self.program, "--config", self.config, "serve"], stdout=log, stderr=log
            )
        while not self.answers():
            if self.process.poll() is not None:
                sys.exit(f"the server ended: see {self.log}")
            time.sleep(0.01)

    def command(self, *words, text=""):
        command = [self.program, "--config", self.config, *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"pombal {' '.join(words)}: {done.stderr}")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.imap), timeout=60) as client:
                return client.recv(4) == b"* OK"
        except OSError:
            return False

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


class Dovecot:
    """The peer that the scripts beside the repository set up."""

    user = "user0000@example.test"

    def __init__(self, script, dir):
        if not shutil.which("dovecot", path="/usr/sbin:/usr/bin"):
            sys.exit("no Dovecot here: apt-get install dovecot-imapd dovecot-pop3d dovecot-lmtpd")
        if os.geteuid() != 0:
            sys.exit("Dovecot is started by root only")
        self.script = script
        base = free_ports(144)
        self.imap = base + 143
        self.env = {
            **os.environ, "PEERS_PORT": str(base), "PEERS_STATE": os.path.join(dir, "peers-dovecot"),
            "PEERS_FSYNC": "never",
        }
        self.run("up")

    def run(self, verb):
        done = subprocess.run(["bash", self.script, verb], env=self.env)
        if done.returncode:
            sys.exit(f"{self.script} {verb} failed")

    def end(self):
        self.run("down")
