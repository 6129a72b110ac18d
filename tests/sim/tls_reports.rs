//! The report on TLS of one day, as its reader has it.

use crate::case::{Bug, Case, KEY, PASSWORD};
use crate::machine::Machine;
use crate::peer::Peer;
use crate::ports::address;
use pombal::concierge::Concierge;
use pombal::concierge::dns::{Data, Found, Kind};
use pombal::concierge::http::{Bounds, Client, Trust};
use pombal::config::Mailbox;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::mta::tls_policy::Basis;
use pombal::mta::tls_report::{Ends, Tally};
use pombal::node::published;
use pombal::node::shard::Names;
use pombal::policy::dkim;
use pombal::server::listener::Protocol;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// far.example wants its reports in a mailbox here.
fn answer(kind: Kind, name: &str) -> Found {
    let is_it = kind == Kind::Txt && name == "_smtp._tls.far.example";
    let record = is_it.then_some("v=TLSRPTv1; rua=mailto:u0@example.org");
    let records = record.into_iter().map(|text| Data::Text(text.as_bytes().into()));
    Found::plain(records.collect(), Duration::from_mins(1))
}

/// The first message of a mailbox.
async fn read(env: &SimEnv) -> io::Result<String> {
    let mut peer = Peer::connect(env, address(Protocol::Pop3)).await?;
    peer.line().await?;
    for command in ["USER u0@example.org", &format!("PASS {PASSWORD}"), "RETR 1"] {
        peer.send(format!("{command}\r\n").as_bytes()).await?;
        let said = String::from_utf8_lossy(&peer.line().await?).into_owned();
        if !said.starts_with("+OK") {
            return Err(io::Error::other(said));
        }
    }
    let lines = peer.lines().await?;
    Ok(lines.iter().map(|line| String::from_utf8_lossy(line) + "\r\n").collect())
}

/// RFC 8460 §3: nobody looks at a report that is not signed, and it is to arrive whatever is wrong with TLS.
#[test]
fn a_report_on_tls_comes_signed() {
    let mut case = Case::new(11, Bug::None);
    let mut keys = dkim::Keys::default();
    keys.set("example.org", vec![dkim::Key::from_pem("s", KEY).unwrap()]);
    case.plan.dkim = Arc::new(keys);
    case.plan.config.tls_report.contact = Mailbox::parse("tls@example.org");
    let tally = Tally::default();
    case.plan.published.tally = Some(tally.clone());
    let bounds = Bounds { at_once: 1, waiting: 1, timeout: Duration::from_secs(5) };
    let client = Client::new(&Concierge::start().unwrap(), &Trust::Nobody, bounds);
    case.plan.http = Some(client.unwrap());
    case.plan.dns =
        Names::Script(Arc::new(|kind, name, _| (Duration::from_millis(1), Ok(answer(kind, name)))));
    let sim = Sim::new(case.seed, Faults::none());
    sim.allow_leaks();
    let machine =
        Machine::boot(&sim, &case.host(), true).map_err(|error| error.to_string()).unwrap();
    let env = machine.env.clone();
    sim.run_until(machine.set_up(&case)).unwrap();
    published::begin(&machine.ups[0].shard, &case.plan);
    tally.count(env.wall(), "far.example", Basis::Nothing, Ends::default(), Ok(()));
    sim.run_for(Duration::from_hours(30)).unwrap();
    let report = sim.run_until(read(&env)).unwrap().unwrap();
    let (header, _) = report.split_once("\r\n\r\n").unwrap();
    for field in [
        "DKIM-Signature: v=1; ",
        "d=example.org; s=s;",
        "From: tls@example.org",
        "TLS-Report-Domain: far.example",
        "TLS-Required: No",
    ] {
        assert!(header.contains(field), "{field} in {header}");
    }
}
