"""Postfix and Dovecot to be measured beside Pombal, set up by the scripts beside the repository."""

import os
import subprocess
import sys
import time

from server import ROOT

SCRIPTS = os.path.join(ROOT, "..", "shared", "peers", "servers")
PORT = 23_000
DOMAIN = "example.test"


def add_options(parser):
    parser.add_argument("--peers", default=SCRIPTS, help="the scripts that start them")
    parser.add_argument("--no-peer", action="store_true", help="Pombal alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--only", help="rows, by their first word, with commas between")


class Peers:
    """Both of them, on ports of their own, with new mailboxes."""

    factor = False  # They get as much work as a row says, Pombal a multiple of it.
    smtp, pop3, imap = (f"127.0.0.1:{PORT + port}" for port in (25, 110, 143))

    def __init__(self, options):
        self.options = options
        self.state = os.path.join(options.dir, f"peers-{PORT}")
        self.environment = dict(os.environ, PEERS_STATE=self.state, PEERS_PORT=str(PORT))
        self.run("clean")
        self.run("up")

    def run(self, verb):
        with open(os.path.join(self.options.dir, "peers.log"), "a") as log:
            command = [os.path.join(self.options.peers, "peers"), verb]
            done = subprocess.run(command, env=self.environment, stdout=log, stderr=log)
        if done.returncode and verb == "up":
            sys.exit(f"the peers do not start: see {log.name}")

    def pids(self, *names):
        """The words that make loadgen count the processes; of Dovecot alone where nothing is said."""
        files = {"dovecot": "dovecot/run/master.pid", "postfix": "postfix/spool/pid/master.pid"}
        words = []
        for name in names or ("dovecot",):
            with open(os.path.join(self.state, files[name])) as pid:
                words += ["--server-pid", pid.read().strip()]
        return words

    def chill(self):
        """Started anew, with an empty page cache and without what Dovecot learned of the mail."""
        self.run("down")
        for folder, _, files in os.walk(self.state):
            for file in files:
                if file.startswith("dovecot.index.cache"):
                    os.remove(os.path.join(folder, file))
        drop_caches()
        self.run("up")

    def end(self):
        self.run("clean")


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except OSError as error:
        print(f"the page cache stays as it is: {error}", flush=True)
    time.sleep(1)
