//! The files of `tests/dialogs/imap` against the binary: its input whole, pipelined, and in single
//! octets. `tests/imap.rs` plays them on a simulated machine, cut at every octet.

use crate::harness::{PATIENCE, Server};
use crate::script::{Cut, Stage, Wire, dialogs};
use futures_lite::future::block_on;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::time::Duration;

#[test]
fn imap_dialogs_hold_over_a_real_socket() {
    // By the limit of messages that a dialog wants.
    let mut servers = BTreeMap::new();
    let mut wrong = String::new();
    for dialog in dialogs().iter().filter(|dialog| !dialog.is_simulated()) {
        let server = servers.entry(dialog.message_limit).or_insert_with(|| {
            let limit = dialog.message_limit.map_or(0, NonZeroU32::get);
            Server::with_users(
                &format!("[imap]\nmessage_limit = {limit}\n[tls]\nstarttls = false\n"),
                &["other"],
            )
        });
        for (number, cut) in [Cut::Whole, Cut::Pipelined, Cut::Into(1)].into_iter().enumerate() {
            let user = format!("{}-{number}@local.example", dialog.name);
            server.add_user_with_quota(&user, dialog.quota_kib);
            if let Err(why) = block_on(dialog.play(&Real { server, user }, cut)) {
                writeln!(wrong, "{why}").unwrap();
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

struct Real<'a> {
    server: &'a Server,
    user: String,
}

impl Stage for Real<'_> {
    type Wire = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.server.imap()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn drain(&self) {
        unreachable!("only on a simulated machine");
    }

    async fn wait(&self, _: Duration) {
        unreachable!("only on a simulated machine");
    }

    fn user(&self) -> &str {
        &self.user
    }
}

/// Sockets wait by themselves, so that no future here is ever pending.
impl Wire for TcpStream {
    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.write_all(octets)
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; 64 << 10];
        let count = self.read(&mut octets)?;
        octets.truncate(count);
        Ok(octets)
    }

    async fn pause(&self) {}
}
