//! IMAP dialogs as data: each file of `tests/dialogs/imap` is a session, or two that see each other,
//! played against a whole shard on a simulated machine. `tests/e2e/imap_dialogs.rs` plays the same
//! files against the binary.
//!
//! An IMAP session is no machine that runs without a network: it is written straight through, over
//! the [`Env`] seam (`docs/decisions/0008-imap-dialogs.md`). So the network is simulated, and in
//! play k every line of the client is cut behind its k-th octet, for every k there is: each position
//! of the client's octets is cut once, and the server has taken the first half before the second is
//! sent. Besides: pieces of 1 to 7 octets, and all that can be pipelined at once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panic")]

#[cfg(test)]
#[path = "imap/names.rs"]
mod names;
#[cfg(test)]
#[path = "sim/ports.rs"]
mod ports;
#[path = "dialogs/script.rs"]
mod script;
#[cfg(test)]
#[path = "sim/single.rs"]
mod single;
#[cfg(test)]
#[path = "imap/slices.rs"]
mod slices;

use pombal::bytes::buffer::Buffer;
use pombal::bytes::chain::Chain;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::env::{Conn as _, Env};
use pombal::server::listener::Protocol;
use pombal::server::shard::Shard;
use script::{Cut, Dialog, PASSWORD, Stage, Wire, dialogs};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Far longer than a server takes that does its work: waiting longer is a hang.
const PATIENCE: Duration = Duration::from_mins(5);
/// Less than the least that can be set, so that an answer of some lines goes in slices.
const REPLY_OCTETS: usize = 4 << 10;
/// Longer than a segment is under way, and what it leads to takes.
const PAUSE: Duration = Duration::from_millis(5);

#[test]
fn imap_dialogs_hold_however_their_input_is_cut() {
    let dialogs = dialogs();
    let next = AtomicUsize::new(0);
    let play_some = || {
        let dialogs = std::iter::from_fn(|| dialogs.get(next.fetch_add(1, Ordering::Relaxed)));
        dialogs.filter_map(|dialog| play(dialog).err()).collect::<Vec<String>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(play_some)).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Offered, and not done to the last: of IMAP itself STARTTLS is to come, and of UTF-8
/// something is left out on purpose. Their rows say so.
const IN_PART: &[&str] = &["3501", "9051", "6855"];

/// What is offered has a dialog that is named after it, whose first line names its RFC, which
/// `docs/RFC.md` has a row for.
#[test]
fn everything_that_is_offered_has_a_dialog_and_a_row() {
    let dialogs = dialogs();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/RFC.md")).unwrap();
    let mut wrong = Vec::new();
    for word in offered() {
        let name = dialog_of(&word);
        let Some(dialog) = dialogs.iter().find(|dialog| dialog.name == name) else {
            wrong.push(format!("{word}: there is no {name}.dialog"));
            continue;
        };
        let rfcs: Vec<&str> = numbers_behind_rfc(&dialog.about).collect();
        if rfcs.is_empty() {
            wrong.push(format!("{name}.dialog: its first line names no RFC"));
        }
        for rfc in rfcs {
            let row = table.lines().find(|line| line.starts_with(&format!("| {rfc} |")));
            let is_whole = row.is_some_and(|row| row.contains("| yes |"));
            let is_known = row.is_some() && IN_PART.contains(&rfc);
            if !is_whole && !is_known {
                wrong.push(format!("docs/RFC.md: {rfc}, of {word}, should be done"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The words of CAPABILITY, of somebody who logged in and of somebody who did not.
fn offered() -> BTreeSet<String> {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let said = sim.run_until(async {
        let env = sim.env(0);
        let mut dialog = Dialog::default();
        dialog.message_limit = NonZeroU32::new(1_000);
        let (_, address) = boot(&env, &dialog, 1).await;
        let conn = env.connect(address, None, env.now().after(PATIENCE)).await.unwrap();
        let mut peer = Peer { env, conn, buffer: Buffer::new() };
        let login = format!("a LOGIN {} {PASSWORD}\r\nb LOGOUT\r\n", user(0));
        peer.send(login.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        loop {
            let octets = peer.receive().await.unwrap();
            if octets.is_empty() {
                return said;
            }
            said.extend(octets);
        }
    });
    let said = String::from_utf8(said.unwrap()).unwrap();
    let lists = said.split("[CAPABILITY ").skip(1).map(|rest| rest.split(']').next().unwrap());
    let words: BTreeSet<String> = lists.flat_map(|list| list.split(' ')).map(Into::into).collect();
    assert!(words.len() > 30, "{said}");
    words
}

/// `SORT=DISPLAY` is `sort-display`; values, as in `APPENDLIMIT=1000`, do not count.
fn dialog_of(word: &str) -> String {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let is_number = value.bytes().all(|octet| octet.is_ascii_digit());
    let is_resource = name == "QUOTA";
    let name = if is_number || is_resource { name } else { word };
    name.trim_end_matches(['+', '-']).replace('=', "-").to_ascii_lowercase()
}

fn numbers_behind_rfc(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split("RFC ").skip(1);
    behind.filter_map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next())
}

/// Plays a dialog in every way, each with a user of its own.
fn play(dialog: &Dialog) -> Result<(), String> {
    let mut cuts = vec![Cut::Whole, Cut::Pipelined];
    if dialog.slow_disk.is_none() {
        cuts.extend((1..=7).map(Cut::Into));
    }
    cuts.extend((1..=dialog.cut_positions()).map(Cut::At));
    let mut faults = Faults::none();
    if let Some(seconds) = dialog.slow_disk {
        faults.disk_micros = (seconds * 1_000_000, seconds * 1_000_000);
    }
    // A server that was told to stop serves nobody else.
    let lives = if dialog.is_simulated() { cuts.chunks(1) } else { cuts.chunks(cuts.len()) };
    for cuts in lives {
        let sim = Sim::new(1, faults);
        sim.allow_leaks();
        sim.run_until(play_all(sim.env(0), dialog, cuts)).unwrap()?;
    }
    Ok(())
}

async fn play_all(env: SimEnv, dialog: &Dialog, cuts: &[Cut]) -> Result<(), String> {
    let (shard, address) = boot(&env, dialog, cuts.len()).await;
    for (number, cut) in cuts.iter().enumerate() {
        let (shard, env) = (Rc::clone(&shard), env.clone());
        dialog.play(&World { env, shard, address, user: user(number) }, *cut).await?;
    }
    Ok(())
}

fn user(number: usize) -> String {
    format!("u{number}@example.org")
}

/// A shard with users.
async fn boot(env: &SimEnv, dialog: &Dialog, users: usize) -> (Rc<Shard<SimEnv>>, SocketAddr) {
    let mut plan = single::plan();
    plan.store.cache_octets = if dialog.slow_disk.is_some() { 0 } else { 1 << 20 };
    plan.config.auth.allow_plaintext = !dialog.no_plaintext;
    plan.config.limits.reply_memory = REPLY_OCTETS as u64;
    plan.config.imap.message_limit = dialog.message_limit;
    let users: Vec<String> = (0..users).map(user).collect();
    let quota = dialog.quota_kib.unwrap_or(0) * 1024;
    let shard = single::boot(env, &plan, &users, quota).await;
    (shard, ports::address(Protocol::Imap))
}

struct World {
    env: SimEnv,
    shard: Rc<Shard<SimEnv>>,
    address: SocketAddr,
    user: String,
}

impl Stage for World {
    type Wire = Peer;

    async fn connect(&self) -> io::Result<Peer> {
        let conn = self.env.connect(self.address, None, self.env.now().after(PATIENCE)).await?;
        Ok(Peer { env: self.env.clone(), conn, buffer: Buffer::new() })
    }

    fn drain(&self) {
        self.shard.draining.set();
    }

    async fn wait(&self, time: Duration) {
        self.env.sleep(time).await;
    }

    fn user(&self) -> &str {
        &self.user
    }
}

struct Peer {
    env: SimEnv,
    conn: <SimEnv as Env>::Conn,
    buffer: Buffer,
}

impl Wire for Peer {
    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut chain = Chain::new();
        chain.put(octets);
        self.conn.write(&mut chain, self.env.now().after(PATIENCE)).await
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let count = self.conn.read(&mut self.buffer, self.env.now().after(PATIENCE)).await?;
        let octets = self.buffer.filled().to_vec();
        self.buffer.consume(count);
        Ok(octets)
    }

    async fn pause(&self) {
        self.env.sleep(PAUSE).await;
    }
}
