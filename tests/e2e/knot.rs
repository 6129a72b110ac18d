//! A name server of one's own (Knot), with the zones that a test wants, signed where it wants that; and
//! a resolver that validates (Unbound) in front of it.
//!
//! Without `knotd` and `unbound` tests are skipped aloud, or fail with `CLIENTS_REQUIRED=1`.

use crate::harness::{PATIENCE, Port};
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where Knot listens: the ports of 127.0.0.1 are held by those whom they belong to.
const KNOT: &str = "127.0.0.53";

/// A name server, which ends with it.
pub(crate) struct Knot {
    child: Child,
    port: Port,
    dir: PathBuf,
}

impl Knot {
    /// Serves `zones`: the name with its dot, and records besides SOA and NS. None where it is not
    /// installed.
    pub(crate) fn start(dir: &Path, zones: &[(&str, &str)]) -> Option<Knot> {
        let knotd = program("knotd")?;
        let plan = Plan::new(dir, zones.iter().map(|(zone, _)| (*zone, false)));
        for (zone, records) in zones {
            plan.write(zone, records);
        }
        Some(plan.start(&knotd))
    }

    /// Serves a signed root and zones under it, of one label each: `signed` ones, with their keys in
    /// the root; `plain` ones; and `forged` ones, which are signed by other keys than the root says.
    /// Zones whose name ends in a 3 tell what is not there by NSEC3.
    pub(crate) fn with_root(
        dir: &Path,
        signed: &[(&str, &str)],
        plain: &[(&str, &str)],
        forged: &[(&str, &str)],
    ) -> Option<Knot> {
        let (knotd, keymgr) = (program("knotd")?, program("keymgr")?);
        let with_keys = || signed.iter().chain(forged).map(|(zone, _)| *zone);
        let all = with_keys().chain(["."]).map(|zone| (zone, true));
        let plan = Plan::new(dir, all.chain(plain.iter().map(|(zone, _)| (*zone, false))));
        let manage = |zone: &str, words: &[&str]| {
            let config = plan.config();
            let out = Command::new(&keymgr).arg("-c").arg(config).arg(zone).args(words).output();
            let out = out.unwrap();
            assert!(out.status.success(), "{zone} {words:?}: {out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        let key = ["generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes"];
        for zone in with_keys().chain(["."]) {
            manage(zone, &key);
        }
        let mut root = String::new();
        for (zone, records) in signed.iter().chain(plain).chain(forged) {
            plan.write(zone, records);
            writeln!(root, "{zone} NS ns.local.example.").unwrap();
        }
        for (zone, _) in signed {
            root.push_str(&manage(zone, &["ds"]));
        }
        for (zone, _) in forged {
            // The root's key, which has nothing to do with this zone.
            let ds = manage(".", &["ds"]);
            let ds = ds.lines().map(|line| line.split_once(' ').unwrap().1);
            ds.for_each(|rest| writeln!(root, "{zone} {rest}").unwrap());
        }
        plan.write(".", &root);
        let keys = manage(".", &["dnskey"]).replace(". DNSKEY", ". IN DNSKEY");
        fs::write(plan.dir.join("anchors"), keys).unwrap();
        Some(plan.start(&knotd))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(KNOT.parse().unwrap(), self.port.number)
    }

    /// The root's key.
    pub(crate) fn anchors(&self) -> PathBuf {
        self.dir.join("anchors")
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A resolver that asks Knot, and holds what it says against its root's key.
pub(crate) struct Unbound {
    child: Child,
    port: Port,
}

impl Unbound {
    pub(crate) fn start(knot: &Knot) -> Option<Unbound> {
        let program = program("unbound")?;
        let port = Port::find();
        let dir = knot.dir.join("unbound");
        fs::create_dir(&dir).unwrap();
        let text = format!(
            "server:\n  directory: \"{dir}\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"pid\"\n\
             \x20 interface: {KNOT}@{}\n  do-daemonize: no\n  use-syslog: no\n  num-threads: 1\n\
             \x20 do-not-query-localhost: no\n  trust-anchor-file: \"{}\"\n\
             remote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \".\"\n  stub-addr: {KNOT}@{}\n",
            port.number,
            knot.anchors().display(),
            knot.port.number,
            dir = dir.display(),
        );
        let config = dir.join("unbound.conf");
        fs::write(&config, text).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let unbound = Unbound { child, port };
        await_port(unbound.address(), &dir.join("log"));
        Some(unbound)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(KNOT.parse().unwrap(), self.port.number)
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn await_port(address: SocketAddr, log: &Path) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("nobody listens at {address}: {}", fs::read_to_string(log).unwrap());
}

/// None where it is not installed.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = places.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        println!("skipped: {name} is not installed");
        let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|set| set == "1");
        assert!(!required, "{name} is not installed");
    }
    found
}

/// A directory with a configuration.
struct Plan {
    dir: PathBuf,
    port: Port,
}

impl Plan {
    fn new<'a>(dir: &Path, zones: impl Iterator<Item = (&'a str, bool)>) -> Plan {
        let dir = dir.join("knot");
        fs::create_dir(&dir).unwrap();
        let plan = Plan { dir, port: Port::find() };
        let mut text = format!(
            "server:\n  listen: {KNOT}@{}\n  rundir: {dir}\n  udp-workers: 1\n  tcp-workers: 1\n\
             \x20 background-workers: 1\ndatabase:\n  storage: {dir}\n\
             policy:\n  - id: keys\n    manual: on\n    single-type-signing: on\n\
             \x20 - id: hashed\n    manual: on\n    single-type-signing: on\n    nsec3: on\nzone:\n",
            plan.port.number,
            dir = plan.dir.display(),
        );
        for (zone, is_signed) in zones {
            writeln!(text, "  - domain: {zone}\n    file: {}", plan.file(zone).display()).unwrap();
            if is_signed {
                let policy = if zone.ends_with("3.") { "hashed" } else { "keys" };
                writeln!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}").unwrap();
                text.push_str("    zonefile-load: difference\n");
            }
        }
        fs::write(plan.config(), text).unwrap();
        plan
    }

    fn config(&self) -> PathBuf {
        self.dir.join("knot.conf")
    }

    fn file(&self, zone: &str) -> PathBuf {
        self.dir.join(format!("{zone}zone"))
    }

    fn write(&self, zone: &str, records: &str) {
        let soa = "@ 60 SOA ns.local.example. root.local.example. 1 60 60 60 60\n\
                   @ 60 NS ns.local.example.\n";
        fs::write(self.file(zone), format!("$ORIGIN {zone}\n$TTL 60\n{soa}{records}")).unwrap();
    }

    fn start(self, program: &Path) -> Knot {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let knot = Knot { child, port: self.port, dir: self.dir };
        await_port(knot.address(), &knot.dir.join("log"));
        knot
    }
}
