"""What the rig puts under load: the log by itself, the same with a fault of ours, the server.

Each writes a journal on the host's own disk, in which a line is whole or not there: `I` and `D`
before something is asked for, `A` and others once it was answered.
"""

import os
import signal
import socket
import subprocess
import time

PATIENCE = 60.0


def make(name, options):
    if name == "store":
        return Store(name, options, [])
    if name == "store-without-sync":
        return Store(name, options, ["--answer-before-sync"])
    if name == "serve":
        return Serve(name, options)
    if name == "serve-answers-from-later":
        return Serve(name, options, answers_from_later=True)
    if name == "serve-imap":
        return Serve(name, options, over_imap=True)
    raise SystemExit(f"rig: no such program: {name}")


def end(process, how):
    """Ends a process and waits for it."""
    if process is not None and process.poll() is None:
        process.send_signal(how)
        process.wait(PATIENCE)


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "silence"


class Store:
    """The log on the real machine, driven by writer.rs."""

    answers_from_later = False

    def __init__(self, name, options, flags):
        self.name = name
        self.must_lose = bool(flags)
        self.writer, self.flags = options.writer, flags
        self.process = None

    def start(self, directory, journal):
        command = [self.writer, "write", f"{directory}/log", journal, *self.flags]
        self.process = subprocess.Popen(command)

    def is_working(self, journal):
        self.must_be_alive()
        return b"\nA " in journal

    def must_be_alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended by itself: {self.process.returncode}")

    def stop(self):
        end(self.process, signal.SIGKILL)

    def check(self, directory, journal):
        done = subprocess.run(
            [self.writer, "check", f"{directory}/log", journal],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode == 0, last_line(done.stdout + done.stderr)


USERS = 16
CONFIG = """\
hostname = "mx.example.test"
data_dir = "{data}"
shards = 2
[listen]
smtp = ["127.0.0.1:{smtp}"]
pop3 = ["127.0.0.1:{pop3}"]
imap = ["127.0.0.1:{imap}"]
[auth]
allow_plaintext = true
argon2_memory = "8K"
argon2_passes = 1
[smtp]
max_message_size = "1M"
[store]
segment_size = "4M"
batch_size = "1M"
cache_size = "4M"
checkpoint_size = "8M"
checkpoint_interval = "2s"
"""


class Serve:
    """`pombal serve` under `loadgen audit`."""

    def __init__(self, name, options, answers_from_later=False, over_imap=False):
        self.name, self.over_imap = name, over_imap
        # Answers that were given after the image was taken count as well: the audit must miss them.
        self.must_lose = self.answers_from_later = answers_from_later
        self.pombal, self.loadgen, self.work = options.pombal, options.loadgen, options.work
        self.held = [reserve(), reserve(), reserve()]
        ports = [one.getsockname()[1] for one in self.held]
        self.smtp, self.pop3, self.imap = (f"127.0.0.1:{port}" for port in ports)
        self.server = self.sender = None

    def config(self, directory):
        path = f"{self.work}/pombal.toml"
        smtp, pop3, imap = (one.getsockname()[1] for one in self.held)
        with open(path, "w", encoding="utf-8") as out:
            out.write(CONFIG.format(data=f"{directory}/data", smtp=smtp, pop3=pop3, imap=imap))
        return path

    def boot(self, directory):
        """Starts the server and waits until it greets."""
        command = [self.pombal, "--config", self.config(directory), "serve"]
        with open(f"{self.work}/server.log", "wb") as log:
            self.server = subprocess.Popen(command, stderr=log, stdout=log)
        until = time.monotonic() + PATIENCE
        for address in (self.smtp, self.pop3, self.imap):
            while not greets(address):
                if self.server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the server does not come up: {self.log()}")
                time.sleep(0.02)

    def log(self):
        with open(f"{self.work}/server.log", "rb") as log:
            return last_line(log.read().decode(errors="replace"))

    def start(self, directory, journal):
        self.boot(directory)
        self.tell("domain", "add", "example.test")
        for user in range(USERS):
            self.tell("user", "add", f"user{user:04}@example.test", "--password-stdin")
        command = [
            *self.audit(journal, "send"),
            "--sessions=32",
            "--size=4K",
            *([] if self.over_imap else ["--pop3-delete=2"]),
            "--duration=120s",
            "--rate=1500/s",
        ]
        self.sender = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def tell(self, *words):
        command = [self.pombal, "--config", f"{self.work}/pombal.toml", *words]
        subprocess.run(
            command, input=b"secret\n", capture_output=True, timeout=PATIENCE, check=True
        )

    def audit(self, journal, phase):
        mail = [f"--smtp={self.smtp}", f"--pop3={self.pop3}"]
        return [
            self.loadgen,
            "audit",
            *([f"--imap={self.imap}"] if self.over_imap else mail),
            f"--journal={journal}",
            f"--phase={phase}",
            f"--users={USERS}",
            "--patience=5s",
            "--quiet",
        ]

    def is_working(self, journal):
        self.must_be_alive()
        return b"\nA " in journal

    def must_be_alive(self):
        for process in (self.server, self.sender):
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[0]} ended by itself: {self.log()}")

    def stop(self):
        end(self.sender, signal.SIGKILL)
        end(self.server, signal.SIGKILL)

    def check(self, directory, journal):
        try:
            self.boot(directory)
        except RuntimeError as error:
            end(self.server, signal.SIGKILL)
            return False, str(error)
        try:
            done = subprocess.run(
                self.audit(journal, "verify"),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            end(self.server, signal.SIGTERM)
        if done.returncode == 0:
            return True, "all there"
        words = " ".join((done.stdout + done.stderr).split()).split(" found ")
        return False, "; first found ".join(words[:2])


def reserve():
    """A port that nobody else gets: bound, not listened on, shared with the server only."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


def greets(address):
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            return len(connection.recv(1)) == 1
    except OSError:
        return False
