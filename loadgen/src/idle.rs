//! Opens connections that do nothing and says what each costs the server in memory.
//!
//! Memory of the server's processes is read before and after; what the kernel keeps for
//! the sockets is not part of it. Ports of one source address run out, so the connections
//! come from several addresses of 127.0.0.0/8 where the server is on this machine.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use pombal::bytes::hash::Sorted;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::cli::{IdleOptions, Protocol};
use crate::imap::session::Session;
use crate::measure::table::{Table, figure, grouped};
use crate::measure::tree::{Tree, TreeMemory};
use crate::pop3::write_login;
use crate::run::{check_sessions, runtime};
use crate::values::{Instant, float, to_u64};
use crate::wire::link::{Link, Trouble};

/// Connections per source address, well below the usual range of 28,232 ports.
const PER_SOURCE: usize = 20_000;
/// Connections that are being opened at a time.
const OPENING_MAX: usize = 128;

#[derive(Debug, Serialize)]
struct IdleReport {
    protocol: &'static str,
    connections: u64,
    seconds_to_open: f64,
    before: Option<TreeMemory>,
    after: Option<TreeMemory>,
    resident_octets_each: Option<f64>,
    private_octets_each: Option<f64>,
    troubles: Sorted<&'static str, u64>,
}

/// Runs the command. `Ok(false)` when some connection could not be opened.
pub(crate) fn run(options: &IdleOptions, open_files: u64) -> Result<(String, bool), String> {
    check_sessions(options.connections, open_files)?;
    let mut tree = Tree::new(&options.server_pids)?;
    let before = tree.memory();
    let (seconds, after, opened, troubles) = runtime().block_on(async {
        let began = Instant::now();
        let (links, troubles) = open_all(options).await;
        let seconds = began.elapsed().as_secs_f64();
        tokio::time::sleep(options.hold).await;
        let after = tree.memory();
        (seconds, after, links.len(), troubles)
    });
    let each = |before: Option<u64>, after: Option<u64>| {
        let grown = float(after?) - float(before?);
        (opened > 0).then(|| grown / float(to_u64(opened)))
    };
    let (was, is) = (before.as_ref(), after.as_ref());
    let report = IdleReport {
        protocol: options.protocol.label(),
        connections: to_u64(opened),
        seconds_to_open: seconds,
        resident_octets_each: each(was.map(|m| m.resident), is.map(|m| m.resident)),
        private_octets_each: each(was.and_then(|m| m.private), is.and_then(|m| m.private)),
        before,
        after,
        troubles,
    };
    let shown = if options.output.json { crate::json_line(&report) } else { report.table() };
    Ok((shown, opened == options.connections))
}

/// Opens all connections; they stay open as long as the list lives.
async fn open_all(options: &IdleOptions) -> (Vec<Link>, Sorted<&'static str, u64>) {
    let links = Rc::new(RefCell::new(Vec::with_capacity(options.connections)));
    let troubles = Rc::new(RefCell::new(Sorted::new()));
    let opening = Rc::new(Semaphore::new(OPENING_MAX));
    let local = LocalSet::new();
    let options = Rc::new(options.clone());
    for index in 0..options.connections {
        let (links, troubles) = (Rc::clone(&links), Rc::clone(&troubles));
        let (opening, options) = (Rc::clone(&opening), Rc::clone(&options));
        local.spawn_local(async move {
            let _permit = opening.acquire().await;
            let open = tokio::time::timeout(options.timeout, open(&options, index));
            match open.await.unwrap_or(Err(Trouble::Timeout)) {
                Ok(link) => links.borrow_mut().push(link),
                Err(trouble) => *troubles.borrow_mut().entry(trouble.label()).or_default() += 1,
            }
        });
    }
    local.await;
    (links.take(), troubles.take())
}

/// The address that connection `index` comes from.
fn source(to: SocketAddr, index: usize) -> Option<IpAddr> {
    let step = u8::try_from(index / PER_SOURCE).ok()?;
    match to.ip() {
        IpAddr::V4(address) if address.is_loopback() && step > 0 => {
            Some(IpAddr::V4(Ipv4Addr::new(127, 0, 1, step)))
        }
        _ => None,
    }
}

/// One connection, up to where it idles.
async fn open(options: &IdleOptions, index: usize) -> Result<Link, Trouble> {
    let to = options.to.resolved();
    let mut link = Link::connect_idle(to, source(to, index)).await?;
    match options.protocol {
        Protocol::Smtp => {
            let mut reply = link.reply().await?;
            if options.login {
                link.send("EHLO loadgen.example.test\r\n").await?;
                reply = link.reply().await?;
            }
            if !reply.is_positive() {
                return Err(Trouble::Denied);
            }
        }
        Protocol::Pop3 => {
            let mut status = link.status().await?;
            if options.login {
                let number = to_u64(index) % options.users.users;
                let password = options.users.password();
                write_login(link.text(), &options.users.user_format, password, number);
                link.flush().await?;
                link.status().await?;
                status = link.status().await?;
            }
            if !status.ok {
                return Err(Trouble::Denied);
            }
        }
        Protocol::Imap => {
            let mut session = Session::greeted(link).await?;
            if options.login {
                let users = &options.users;
                let number = to_u64(index) % users.users;
                session.login(&users.user_format, users.password(), number).await?;
                session.must(b"SELECT INBOX").await?;
                session.idle().await?;
            }
            return Ok(session.link);
        }
    }
    Ok(link)
}

impl IdleReport {
    fn table(&self) -> String {
        let mut table = Table::default();
        table.row("work", format!("idle {}", self.protocol));
        table.row("connections", grouped(self.connections));
        table.row("seconds to open", format!("{:.2}", self.seconds_to_open));
        if let (Some(before), Some(after)) = (&self.before, &self.after) {
            table.gap();
            table.row("resident before", format!("{} KiB", grouped(before.resident / 1_024)));
            table.row("resident after", format!("{} KiB", grouped(after.resident / 1_024)));
            let each = |octets: Option<f64>| {
                octets.map_or_else(
                    || "unknown".into(),
                    |octets| {
                        let sign = if octets < 0.0 { "-" } else { "" };
                        format!("{sign}{} octets each", figure(octets.abs()))
                    },
                )
            };
            table.row("resident", each(self.resident_octets_each));
            table.row("private", each(self.private_octets_each));
        }
        table.gap();
        for (trouble, count) in &self.troubles {
            table.row(format!("trouble: {trouble}"), grouped(*count));
        }
        table.show()
    }
}
