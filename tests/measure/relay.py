#!/usr/bin/env python3
"""Relaying, Pombal beside Postfix: from the 250 of the server to the arrival at a sink.

    cargo build --release --workspace
    python3 tests/measure/relay.py                # --only one,domains,beside,deferred
    python3 tests/measure/relay.py --no-peer      # Pombal alone

one       10 KiB, 64 sessions in, one domain with one host: server CPU per message and the rate
          until the last one arrived
domains   100,000 messages of 10 KiB to 10,000 domains, each with a host of its own, all of them
          well; and the same while 5 % of the domains are dead and 5 % slow (a second before each
          answer): from the 250 to the arrival, of the mail to those that are well. Both in turn, as
          many rounds as --rounds says, each with a new server, since two runs of one kind differ by
          a third here; the medians are compared
beside    single messages, ten a second, to one host; then the same while another host, a slow one,
          has 100,000 messages waiting for it: from the 250 to the arrival, of the single messages
deferred  1,000,000 messages of 1 KiB to dead hosts: resident memory for each, after a restart too,
          how long the restart took after SIGKILL, and how long looks at the queue take (Pombal alone)

Names are looked up in the DNS: Knot serves the zones that `loadgen zone` writes. Every run is
audited by `loadgen relay`: what was answered with 250 arrived once, or stands in the queue.
Postfix gets a tenth of the messages. Its script is that of ../shared/peers/servers (--peers); it
runs with a resolv.conf of its own in a mount namespace of its own.

Needs root (Postfix, and port 25 at addresses of 127.0.0.0/8, which --port changes for Pombal
alone), Debian's packages knot and postfix, and 4 GB below --dir for `deferred`. Loopback only; it
ends only what it started.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import peers
from server import Server, add_options, loadgen

NAME_SERVER = "127.0.0.54"
PORT = 24_000  # Of Postfix; the sinks have the port that mail goes to.
GOAL_CPU = 130  # Microseconds a relayed message may cost.
GOAL_DELAY = 1.1  # What bad domains may do to the mail of good ones, times.
GOAL_BESIDE_MS = 100
GOAL_OCTETS = 300
GOAL_RESTART = 3
GOAL_LOOK = 1  # Seconds that a look at the queue may take.
# Zones, each with the words that make `loadgen zone` and `loadgen relay` agree.
ZONES = {
    "one.test": ["--network", "127.10.0.0"],
    "well.test": ["--network", "127.14.0.0", "--domains", "{domains}"],
    "bad.test": [
        "--network", "127.18.0.0", "--domains", "{domains}", "--dead", "5%", "--slow", "5%", "--slow-by", "1s",
        "--death", "{death}",
    ],
    "single.test": ["--network", "127.22.0.0"],
    "bulk.test": ["--network", "127.26.0.0", "--slow", "100%", "--slow-by", "1s"],
    "deferred.test": ["--network", "127.30.0.0", "--domains", "{domains}", "--dead", "100%", "--death", "refuse"],
}


def zone_words(options, zone):
    values = {"domains": str(options.domains), "death": options.death}
    return ["--zone", zone, *(word.format(**values) for word in ZONES[zone])]


class Knot:
    """A name server with all zones."""

    def __init__(self, options):
        self.dir = os.path.join(options.dir, "knot")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        text = (f'server:\n  rundir: "{self.dir}"\n  listen: {NAME_SERVER}@53\n'
                f'database:\n  storage: "{self.dir}"\nlog:\n  - target: stderr\n    any: warning\nzone:\n')
        for zone in ZONES:
            words = [options.loadgen, "zone", "--name-server", NAME_SERVER, *zone_words(options, zone)]
            with open(os.path.join(self.dir, zone), "w") as out:
                subprocess.run(words, check=True, stdout=out)
            text += f'  - domain: {zone}\n    file: "{self.dir}/{zone}"\n    zonefile-sync: -1\n    journal-content: none\n'
        config = os.path.join(self.dir, "knot.conf")
        with open(config, "w") as out:
            out.write(text)
        with open(os.path.join(self.dir, "log"), "w") as log:
            self.process = subprocess.Popen(["knotd", "-c", config], stdout=log, stderr=log)
        while not all(map(self.knows, ZONES)):
            if self.process.poll() is not None:
                sys.exit(f"knotd ended: see {log.name}")
            time.sleep(0.05)

    @staticmethod
    def knows(zone):
        """Whether the SOA record of the zone is there."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in zone.split("."))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.connect((NAME_SERVER, 53))
            try:
                client.send(b"\0\1\0\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\6\0\1")
                answer = client.recv(512)
            except OSError:
                return False
        return answer[3] & 15 == 0 and answer[7] > 0

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


class Pombal:
    name, share = "Pombal", 1

    def __init__(self, options):
        self.options = options
        options.cache = "256M"
        self.server = Server(options, "relay", f"""[smtp]
relay_networks = ["127.0.0.0/8"]
[dns]
servers = ["{NAME_SERVER}:53"]
dnssec = "off"
[queue]
port = {options.port}
site_connections = 50
""")
        self.server.start()
        self.smtp = f"127.0.0.1:{self.server.smtp}"

    def renew(self):
        """Begins anew with nothing in it."""
        self.end()
        self.__init__(self.options)

    def pids(self):
        return ["--server-pid", str(self.server.process.pid)]

    def syncs(self):
        return ["--metrics", f"http://127.0.0.1:{self.server.admin}/metrics"]

    def queue(self):
        return f"{self.options.pombal} --config {self.server.config} queue list --limit 0"

    def end(self):
        if self.server.process is not None:
            self.server.end(signal.SIGTERM)
        shutil.rmtree(self.server.dir, ignore_errors=True)


class Postfix:
    name, share = "Postfix", 10

    def __init__(self, options):
        self.options = options
        self.smtp = f"127.0.0.1:{PORT + 25}"
        self.state = os.path.join(options.dir, f"peers-{PORT}")
        self.script = os.path.join(options.peers, "postfix.sh")
        self.config = os.path.join(self.state, "postfix", "etc")
        self.environment = dict(os.environ, PEERS_STATE=self.state, PEERS_PORT=str(PORT), PEERS_ROUTE="relay")
        self.script_does("down")
        shutil.rmtree(self.state, ignore_errors=True)
        if self.script_does("up"):
            sys.exit(f"Postfix does not start: see {options.dir}/peers.log")
        # The same with names from the DNS. Settings are changed in place: a setting that is there
        # twice is told so often at the start that Postfix' logging blocks itself.
        self.run("postfix", "-c", self.config, "stop")
        self.run("postconf", "-c", self.config, "-e", "relay_domains=", "relay_transport=smtp", "relay_recipient_maps=",
                 "disable_dns_lookups=no", "smtp_host_lookup=dns")
        resolver = os.path.join(options.dir, "resolv.conf")
        with open(resolver, "w") as out:
            out.write(f"nameserver {NAME_SERVER}\n")
        mount = f'mount --bind "{resolver}" /etc/resolv.conf && exec postfix -c "{self.config}" start'
        self.run("unshare", "--mount", "--propagation", "private", "sh", "-c", mount)
        while not self.listens():
            time.sleep(0.05)

    def listens(self):
        try:
            with socket.create_connection(("127.0.0.1", PORT + 25), timeout=60) as client:
                return client.recv(3) == b"220"
        except ConnectionError:
            return False

    def run(self, *command):
        with open(os.path.join(self.options.dir, "peers.log"), "a") as log:
            return subprocess.run(command, env=self.environment, stdout=log, stderr=log, timeout=120).returncode

    def script_does(self, verb):
        return self.run(self.script, verb)

    def renew(self):
        self.end()
        self.__init__(self.options)

    def pids(self):
        with open(os.path.join(self.state, "postfix", "spool", "pid", "master.pid")) as pid:
            return ["--server-pid", pid.read().strip()]

    def syncs(self):
        return []

    def queue(self):
        return f"postqueue -c {self.config} -j"

    def end(self):
        self.script_does("down")
        shutil.rmtree(self.state, ignore_errors=True)


def relay_words(server, zone, count, *words):
    # The sink listens at the port that the server delivers to: Postfix knows port 25 alone.
    port = "25" if server.share > 1 else str(server.options.port)
    return [
        "relay", "--to", server.smtp, "--sink-port", port, "--count", str(count), *zone_words(server.options, zone),
        *words,
    ]


def relay(server, zone, count, *words):
    return loadgen(server.options, *relay_words(server, zone, count, "--quiet", *words))


def spread(figures):
    return f"{statistics.median(figures):,.1f} ({min(figures):,.1f} to {max(figures):,.1f})"


def against(figure, goal, server):
    if server.share > 1:
        return ""
    return f" of {goal:,}" + ("" if figure <= goal else " MORE THAN WANTED")


def one(servers, options):
    found = [[] for _ in servers]
    for _ in range(options.rounds):
        for server, reports in zip(servers, found):
            count = options.messages // 5 // server.share
            reports.append(relay(
                server, "one.test", count, "--sessions", "64", "--size", "10K", "--drain", "5m",
                *server.pids(), *server.syncs(),
            ))
    for server, reports in zip(servers, found):
        used = [report["sent"]["server"]["cpu_us_per_message"] for report in reports]
        text = f"one       {server.name:8} {spread(used)} us CPU"
        text += against(statistics.median(used), GOAL_CPU, server)
        text += f"  {spread([report['relay']['arrived_per_second'] for report in reports])} /s"
        syncs = [1_000 * report["sent"]["syncs_per_message"] for report in reports if server.syncs()]
        print(text + (f"  {spread(syncs)} syncs/1,000" if syncs else ""), flush=True)


def domains(servers, options):
    for server in servers:
        live = {"well.test": [], "bad.test": []}
        for number in range(options.rounds):
            # Each run finds a server with nothing in it, and each kind comes first as often as the other.
            for zone in sorted(live, reverse=number % 2 == 0):
                server.renew()
                report = relay(
                    server, zone, options.messages // server.share, "--sessions", "64", "--size", "10K",
                    "--drain", options.drain, "--queued-by", server.queue(), *server.pids(),
                )
                of = report["relay"]["classes"]["live"]
                used = report["sent"]["server"]["cpu_us_per_message"]
                live[zone].append((of["latency"]["p50_ms"], of["latency"]["p99_ms"], 1_000 * of["seconds"], used))
                others = ", ".join(
                    f"{name} {one['arrived']:,} of {one['acknowledged']:,}"
                    for name, one in report["relay"]["classes"].items()
                )
                what = "all well" if zone == "well.test" else "some bad"
                print(f"domains   {server.name:8} {what}: p50 {live[zone][-1][0]:,.1f} ms, p99 {live[zone][-1][1]:,.1f} "
                      f"ms, last after {of['seconds']:,.1f} s, {used:,.1f} us CPU ({others})", flush=True)
        well, bad = ([statistics.median(column) for column in zip(*live[zone])] for zone in ("well.test", "bad.test"))
        ratios = [slower / max(faster, 0.001) for faster, slower in zip(well, bad)]
        print(f"domains   {server.name:8} times as long with bad ones, medians: p50 {ratios[0]:.2f}, p99 "
              f"{ratios[1]:.2f}, last {ratios[2]:.2f}{against(max(ratios[:3]), GOAL_DELAY, server)}; CPU "
              f"{ratios[3]:.2f}", flush=True)
        server.renew()


def beside(servers, options):
    for server in servers:
        def single():
            report = relay(
                server, "single.test", options.singles, "--rate", "10/s", "--sessions", "1", "--size", "10K",
                "--drain", "5m", "--queued-by", server.queue(),
            )
            return report["relay"]["latency"]

        before = single()
        count = options.messages // server.share
        command = [options.loadgen, *relay_words(server, "bulk.test", count, "--size", "10K", "--drain", "10h")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as bulk:
            try:
                # It tells each second how much is still to come, once all is in the server's hands.
                waiting = next((line for line in bulk.stderr if "after the last 250" in line), None)
                if waiting is None:
                    sys.exit("the mail to the slow host did not go in")
                left = int(re.search(r"250: (\d+) to come", waiting).group(1))
                after = single()
            finally:
                bulk.terminate()
        more = max(after["p50_ms"] - before["p50_ms"], after["max_ms"] - before["max_ms"])
        print(f"beside    {server.name:8} alone p50 {before['p50_ms']:,.1f} ms, longest {before['max_ms']:,.1f}; with "
              f"{left:,} for a slow host p50 {after['p50_ms']:,.1f}, longest {after['max_ms']:,.1f}: "
              f"{more:,.1f} ms more{against(more, GOAL_BESIDE_MS, server)}", flush=True)


def looked_at(process):
    """What operators ask of the queue, and the seconds that the answer takes, the command's start included."""
    rows = json.loads(process.pombal("--json", "queue", "list", "--limit", "1"))
    some = rows[0] if isinstance(rows, list) else rows["entries"][0]
    for words in (
        "queue stats", "queue list --limit 100", f"queue list --limit 100 --domain {some['domain']}",
        f"queue list --limit 100 --sender {some['sender']}", "queue list --limit 100 --older-than 1s",
        f"queue list --limit 100 --recipient {some['recipients'][0]['address']}", f"explain message {some['queue']}",
        f"queue hold --domain {some['domain']}", f"queue release --domain {some['domain']}",
        f"queue pause --domain {some['domain']}", f"queue resume --domain {some['domain']}",
    ):
        began = time.monotonic()
        process.pombal(*words.split(" "))
        yield words, time.monotonic() - began


def deferred(servers, options):
    server = servers[0]
    process = server.server
    # What earlier rows left in the memory of the process goes with it. Entries are weighed, not the cache
    # of messages.
    process.end(signal.SIGTERM)
    process.set_cache("0")
    process.start()
    time.sleep(2)
    empty = process.resident()
    count = options.deferred
    report = relay(
        server, "deferred.test", count, "--sessions", "64", "--size", "1K", "--drain", "0s", "--settle", "5m",
        *server.pids(),
    )
    sent = report["relay"]["acknowledged"]
    full = process.resident()
    for words, took in looked_at(process):
        print(f"deferred  {server.name:8} {words}: {took:.3f} s{against(took, GOAL_LOOK, server)}", flush=True)
    process.end(signal.SIGKILL)
    seconds = process.start()
    time.sleep(2)
    again = process.resident()
    figures = {name: value for name, value in process.figures().items() if name.startswith("pombal_queue")}
    each = (again - empty) / sent
    print(f"deferred  {server.name:8} {sent:,} entries: {(full - empty) / sent:,.1f} octets each as they came, "
          f"{each:,.1f} after a restart{against(each, GOAL_OCTETS, server)}; the restart took {seconds:.3f} s"
          f"{against(seconds, GOAL_RESTART, server)}", flush=True)
    for name, value in sorted(figures.items()):
        print(f"          {name} {value:,.0f}", flush=True)
    process.end(signal.SIGTERM)
    process.set_cache(options.cache)
    process.start()


ROWS = {"one": one, "domains": domains, "beside": beside, "deferred": deferred}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    peers.add_options(parser)
    parser.add_argument("--only-peer", action="store_true", help="Postfix alone")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--domains", type=int, default=10_000)
    parser.add_argument("--deferred", type=int, default=1_000_000)
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--death", default="blackhole", choices=["blackhole", "refuse"], help="of dead hosts in `domains`")
    parser.add_argument("--drain", default="10m", help="how long the last messages of `domains` are waited for")
    parser.add_argument("--port", type=int, default=25, help="that Pombal delivers to")
    options = parser.parse_args()
    options.dir = os.path.abspath(options.dir)
    os.makedirs(options.dir, exist_ok=True)
    rows = [name for name in ROWS if not options.only or name in options.only.split(",")]
    kinds = [Pombal] * (not options.only_peer) + [Postfix] * (not options.no_peer)
    knot, servers = Knot(options), []
    try:
        for kind in kinds:
            servers.append(kind(options))
        for row in rows:
            if row != "deferred" or not options.only_peer:
                ROWS[row](servers, options)
    finally:
        for server in servers:
            server.end()
        knot.end()


main()
