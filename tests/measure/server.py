"""A server to be measured: its directory, its process, its figures. For the scripts beside this."""

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
DOMAIN = "local.example"


def add_options(parser):
    """What every measurement may be told."""
    parser.add_argument("--pombal", default=os.path.join(TARGET, "release", "pombal"))
    parser.add_argument("--loadgen", default=os.path.join(TARGET, "release", "loadgen"))
    parser.add_argument("--dir", default=os.path.join(TARGET, "measure"))


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

    def __init__(self, options, name, extra="", argon2='argon2_memory = "8K"\nargon2_passes = 1', store=""):
        """`extra` are more lines of the configuration, `store` more of its section [store], `argon2` what a
        password costs: little, for thousands of users are made."""
        self.options = options
        self.dir = os.path.join(options.dir, name)
        self.data = os.path.join(self.dir, "data")
        self.config = os.path.join(self.dir, "pombal.toml")
        self.log = os.path.join(self.dir, "log")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.data)
        self.smtp, self.pop3, self.imap, self.admin = (free_port() for _ in range(4))
        self.pop3s, self.imaps = free_port(), free_port()
        with open(self.config, "w") as out:
            out.write(f"""hostname = "mx.local.example"
data_dir = "{self.data}"
shards = {options.shards}
[listen]
smtp = ["127.0.0.1:{self.smtp}"]
pop3 = ["127.0.0.1:{self.pop3}"]
imap = ["127.0.0.1:{self.imap}"]
pop3s = ["127.0.0.1:{self.pop3s}"]
imaps = ["127.0.0.1:{self.imaps}"]
admin = "127.0.0.1:{self.admin}"
[auth]
allow_plaintext = true
{argon2}
[store]
cache_size = "{options.cache}"
{store}
[limits]
connections_per_address = 0
{extra}""")
        self.process = None

    def set_cache(self, size):
        """Of messages, from the next start on."""
        with open(self.config) as file:
            text = file.read()
        with open(self.config, "w") as out:
            out.write(re.sub(r'(?m)^cache_size = .*$', f'cache_size = "{size}"', text))

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

    def add_users(self, names, domain=DOMAIN):
        self.pombal("domain", "add", domain)
        digest = self.digest()
        path = os.path.join(self.data, "admin.sock")
        self.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            lines = client.makefile("r")
            for name in names:
                user = {"address": f"{name}@{domain}", "password_hash": digest, "quota": None}
                client.sendall((json.dumps({"directory": {"user_add": user}}) + "\n").encode())
                answer = lines.readline()
                if answer != '"done"\n':
                    sys.exit(f"user {name}: {answer}")
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
            self.pombal("user", "add", "x@other.example", "--password-stdin", text=PASSWORD + "\n")
            thread.join()
        os.remove(path)
        return json.loads(heard[0])["directory"]["user_add"]["password_hash"]


def loadgen(options, *words):
    command = [options.loadgen, *words, "--json"]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout}")
    return json.loads(done.stdout)
