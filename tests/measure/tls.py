#!/usr/bin/env python3
"""TLS, Pombal beside Postfix and Dovecot: the same work by the same clients, in turns.

    cargo build --release --workspace
    python3 tests/measure/tls.py                  # --only shake,message,bulk,login,idle,slow
    python3 tests/measure/tls.py --no-peer        # Pombal alone

shake    TLS 1.3 from STLS (POP3) and STARTTLS (SMTP) to the first reply after it, and QUIT: one
         after the other, full with an ECDSA (P-256) and an RSA (2048) certificate, and resumed. The
         same connection in clear is taken off: what is left are the handshakes of a core-second
message  10 KiB by SMTP, 64 sessions that stay, with TLS and without
bulk     POP3, RETR of messages of 10 MiB, with TLS and without: CPU of each MiB
login    IMAP, 16 sessions: connect, TLS 1.3 (resumed, and full with either certificate), LOGIN,
         LOGOUT; the password known. Less the same in clear this is a handshake of a busy server
idle     10,000 IMAP connections with TLS after LOGIN, SELECT and IDLE: resident memory of each
slow     2,000 clients that send their ClientHello an octet a second; meanwhile a normal one comes
         200 times in ten seconds: from connect to the greeting inside TLS

Every row is measured --rounds times on one and on the other (A B A B ...); printed are medians and
spread of the servers' CPU. Needs what smtp.py needs, and openssl. Loopback only; it ends only what it
started.
"""

import argparse
import os
import selectors
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

import peers
from peers import DOMAIN, Peers
from server import PASSWORD, Server, add_options, loadgen

USER = "user%04d"
USERS = 1_000
NAME = "mx.example.test"
KINDS = ("ecdsa", "rsa")
SHAKES = 400
MESSAGES = 3_000
LARGE = 5  # Messages of 10 MiB in the one maildrop of `bulk`.
LOGINS = 2_000
IDLE = 10_000
DRIPPING = 2_000
NORMAL = 200


def certificate(options, kind):
    """A self-signed one and its key."""
    paths = [os.path.join(options.dir, f"{kind}.{what}") for what in ("pem", "key")]
    key = {"ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}[kind]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", f"/CN={NAME}", "-addext",
         f"subjectAltName=DNS:{NAME}", "-newkey", *key, "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )
    return paths


class Pombal:
    name, factor = "Pombal", 5

    def __init__(self, options, kind):
        self.options = options
        options.cache = "256M"
        pem, key = certificate(options, kind)
        extra = f'[tls]\ncertificate = "{pem}"\nkey = "{key}"\n'
        self.server = Server(options, f"tls-{kind}", extra)
        self.server.add_users([USER % number for number in range(USERS)], DOMAIN)
        self.server.start()
        server = self.server
        self.smtp, self.pop3, self.imap = (f"127.0.0.1:{port}" for port in (server.smtp, server.pop3, server.imap))

    def pids(self, *_):
        return ["--server-pid", str(self.server.process.pid)]

    def end(self):
        if self.server.process is not None:
            self.server.end(signal.SIGTERM)
        shutil.rmtree(self.server.dir, ignore_errors=True)


class Others(Peers):
    """Postfix and Dovecot with a certificate, which the scripts beside them leave out."""

    name, factor = "peer", 1

    def __init__(self, options, kind):
        self.kind = kind
        pem, key = certificate(options, kind)
        os.environ["PEERS_POSTFIX_EXTRA"] = "\n".join((
            "smtpd_tls_security_level = may", f"smtpd_tls_chain_files = {key}, {pem}",
            "smtpd_tls_loglevel = 0", "smtpd_tls_mandatory_protocols = >=TLSv1.2",
        ))
        super().__init__(options)
        postfix = os.path.join(self.state, "postfix", "etc")
        with open(os.path.join(postfix, "master.cf"), "a") as out:
            out.write("tlsmgr    unix - - n 1000? 1 tlsmgr\n")
        subprocess.run(["postfix", "-c", postfix, "reload"], check=True, capture_output=True)
        script = os.path.join(options.peers, "dovecot.sh")
        subprocess.run([script, "down"], env=self.environment, check=True, capture_output=True)
        config = os.path.join(self.state, "dovecot", "dovecot.conf")
        with open(config, "a") as out:
            out.write(f"ssl = yes\nssl_cert = <{pem}\nssl_key = <{key}\nssl_min_protocol = TLSv1.2\n")
        with open(os.path.join(options.dir, "peers.log"), "a") as log:
            subprocess.run(["dovecot", "-c", config], check=True, stdout=log, stderr=log)
        time.sleep(1)


class Tree:
    """CPU of processes and all that they started and still run, in microseconds."""

    def __init__(self, server):
        self.roots = {int(word) for word in server.pids("postfix", "dovecot") if word.isdigit()}

    def cpu(self):
        parents, used = {}, {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1])
            # utime, stime, and those of children that were waited for.
            used[int(entry)] = sum(int(field) for field in fields[11:15])

        def is_below(pid):
            while pid > 1 and pid not in self.roots:
                pid = parents.get(pid, 0)
            return pid in self.roots

        ticks = sum(count for pid, count in used.items() if is_below(pid))
        return ticks * 1_000_000 / os.sysconf("SC_CLK_TCK")


def context():
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


def reply(link):
    said = b""
    while not said.endswith(b"\r\n"):
        block = link.recv(4096)
        if not block:
            sys.exit(f"hung up after {said!r}")
        said += block
    return said


def ask(link, line):
    link.sendall(line)
    return reply(link)


def visit(address, protocol):
    """One connection in clear."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reply(link)
        ask(link, b"EHLO client.example\r\n" if protocol == "smtp" else b"CAPA\r\n")
        ask(link, b"NOOP\r\n" if protocol == "smtp" else b"CAPA\r\n")
        link.sendall(b"QUIT\r\n")
        while link.recv(4096):
            pass


def visit_by_tls(server, protocol, how):
    """The same by TLS, with OpenSSL's client, for Python cannot resume TLS 1.3. Whether it resumed:
    each login process of Dovecot knows its own tickets only."""
    ticket = os.path.join(server.options.dir, f"{server.name}-{protocol}-{server.kind}.ticket")
    words = ["-sess_in", ticket] if how == "resumed" else ["-sess_out", ticket]
    asked = b"NOOP\r\n" if protocol == "smtp" else b"CAPA\r\n"
    done = subprocess.run(
        ["openssl", "s_client", "-connect", getattr(server, protocol), "-starttls", protocol, "-tls1_3",
         "-servername", NAME, "-ign_eof", *words],
        input=asked + b"QUIT\r\n", capture_output=True, timeout=60,
    )
    is_reused = b"Reused, TLSv1.3" in done.stdout
    if not is_reused and b"New, TLSv1.3" not in done.stdout:
        sys.exit(f"{protocol} {how}: {done.stdout[-300:]!r} {done.stderr[-300:]!r}")
    return is_reused


def visits(server, protocol, how):
    """CPU of one connection, in microseconds, and the share of those that resumed."""
    def one():
        if how != "clear":
            return visit_by_tls(server, protocol, how)
        visit(getattr(server, protocol), protocol)
        return False

    one()
    tree = Tree(server)
    before = tree.cpu()
    resumed = sum(one() for _ in range(SHAKES))
    return (tree.cpu() - before) / SHAKES, resumed / SHAKES


def shake(server, report):
    for protocol in ("pop3", "smtp"):
        clear, _ = visits(server, protocol, "clear")
        for how in ("full", "resumed"):
            used, resumed = visits(server, protocol, how)
            used -= clear
            report(f"{protocol} {how} {server.kind}", used, f"{1e6 / max(used, 1):,.0f} a core-second"
                   + (f", {resumed:.0%} resumed" if how == "resumed" else ""))


def users(count):
    return ["--users", str(count), "--user-format", f"{USER}@{DOMAIN}", "--password", PASSWORD, "--quiet",
            "--tls-name", NAME]


def message(server, report):
    for how, words in (("clear", []), ("tls", ["--starttls", "smtp"])):
        found = loadgen(
            server.options, "smtp", "--to", server.smtp, "--sessions", "64", "--count",
            str(MESSAGES * server.factor), "--size", "10K", "--settle", "30s", *users(USERS),
            *server.pids("postfix", "dovecot"), *words,
        )
        report(f"message {how}", found["server"]["cpu_us_per_message"], "")


def fill(server):
    loadgen(
        server.options, "smtp", "--to", server.smtp, "--sessions", "1", "--count", str(LARGE), "--size", "10M",
        "--settle", "30s", *users(1),
    )


def bulk(server, report):
    for how, words in (("clear", []), ("tls", ["--starttls", "pop3"])):
        count = 4 * server.factor
        found = loadgen(
            server.options, "pop3", "--to", server.pop3, "--sessions", "1", "--count", str(count), *users(1),
            *server.pids("dovecot"), *words,
        )
        each = found["server"]["cpu_us_per_message"] / 10  # A message has 10 MiB.
        report(f"bulk {how}", each, f"a MiB, {1e6 / each:,.0f} MiB a core-second")


def login(server, report):
    for how, words in (("clear", []), ("resumed", ["--starttls", "imap"]),
                       ("full " + server.kind, ["--starttls", "imap", "--tls-resume", "off"])):
        found = loadgen(
            server.options, "imap", "--mix", "login", "--to", server.imap, "--sessions", "16", "--count",
            str(LOGINS * server.factor), *users(64), *server.pids("dovecot"), *words,
        )
        report(f"login {how}", found["server"]["cpu_us_per_message"], "")


def idle(server, report):
    if server.factor > 1:
        server.server.end(signal.SIGTERM)  # What is allocated stays with it.
        server.server.start()
    count = IDLE if server.factor > 1 else 500
    found = loadgen(
        server.options, "idle", "--protocol", "imap", "--to", server.imap, "--connections", str(count), "--login",
        "--starttls", "imap", *users(USERS)[:-3], "--tls-name", NAME, *server.pids("dovecot"),
    )
    each = found["private_octets_each" if server.factor == 1 else "resident_octets_each"]
    report(f"idle {count:,} with TLS", each, "octets each")


def hello():
    """A ClientHello as it goes over the wire."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context().wrap_bio(incoming, outgoing, server_hostname=NAME).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def slow(server, report):
    if server.factor == 1:
        return  # Its login processes would be measured by their count.
    port = server.server.imaps
    said = hello()
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(DRIPPING)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls, waits, at = context(), [], 0
    began = time.monotonic()
    while len(waits) < NORMAL:
        # A twentieth of them at a time, and a normal one in between.
        time.sleep(max(0, began + len(waits) / 20 - time.monotonic()))
        for link in links[at % DRIPPING:at % DRIPPING + 100]:
            sent = at // DRIPPING
            link.send(said[sent:sent + 1])
        at += 100
        came = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
            with tls.wrap_socket(plain, server_hostname=NAME) as link:
                reply(link)
        waits.append(1_000 * (time.monotonic() - came))
    open_still = len(select_open(links))
    for link in links:
        link.close()
    waits.sort()
    p99 = waits[len(waits) * 99 // 100]
    report("slow p50", statistics.median(waits), "ms of a normal client")
    report("slow p99", p99, f"ms of a normal client, {open_still:,} handshakes open at the end, after "
           f"{time.monotonic() - began:.0f} s; {at // DRIPPING} octets of each sent")


def select_open(links):
    """Those that the server has not hung up on."""
    with selectors.DefaultSelector() as selector:
        for link in links:
            selector.register(link, selectors.EVENT_READ)
        ended = {key.fileobj for key, _ in selector.select(timeout=0)}
    return [link for link in links if link not in ended]


ROWS = {"shake": shake, "message": message, "bulk": bulk, "login": login, "idle": idle, "slow": slow}
# Microseconds, octets, milliseconds; of Pombal.
WANTED = {"login resumed": 850, f"idle {IDLE:,} with TLS": 16 << 10, "slow p99": 100}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    peers.add_options(parser)
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    rows = [name for name in ROWS if not options.only or name in options.only.split(",")]
    for kind in KINDS:
        chosen = [row for row in rows if kind == "ecdsa" or row in ("shake", "login")]
        if chosen:
            measure(options, kind, chosen)


def measure(options, kind, rows):
    servers = []
    try:
        for make in [Pombal] if options.no_peer else [Pombal, Others]:
            servers.append(make(options, kind))
            servers[-1].kind = kind
        if "bulk" in rows:
            for server in servers:
                fill(server)
        for row in rows:
            found = {}

            def note(server):
                def report(what, figure, text):
                    found.setdefault((what, server.name), []).append((figure, text))
                return report

            # Memory and slow clients once: a start for each, and thousands of connections.
            for _ in range(1 if row in ("idle", "slow") else options.rounds):
                for server in servers:
                    ROWS[row](server, note(server))
            show(found)
    finally:
        for server in servers:
            server.end()


def show(found):
    middles = {}
    for (what, name), figures in found.items():
        numbers = sorted(figure for figure, _ in figures)
        middle = middles[what, name] = statistics.median(numbers)
        text = next(text for figure, text in figures if figure >= middle)
        wanted = WANTED.get(what) if name == "Pombal" else None
        goal = "" if not wanted else f"  of {wanted:,}" + ("" if middle <= wanted else " MORE THAN WANTED")
        print(f"{what:26} {name:7} {middle:10,.1f} ({numbers[0]:,.1f} to {numbers[-1]:,.1f}) {text}{goal}", flush=True)
    for name in ("Pombal", "peer"):
        if ("message tls", name) in middles:
            more = middles["message tls", name] - middles["message clear", name]
            print(f"{'message: TLS costs':26} {name:7} {more:10,.1f}" + ("  of 30" if name == "Pombal" else ""), flush=True)


main()
