//! Stores with known content, damaged by a seed: what is whole is saved, octet for octet, what is
//! lost is named, and nothing that was damaged is ever handed out.
//!
//! `SEEDS` says how many stores are damaged (60), `SEED=n` repeats one.
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panic")]

use pombal::bytes::hash::Sorted;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, Disk, Faults, Sim, SimEnv};
use pombal::mailbox::{
    Accounts, Brought, Desk, FlagChange, Flags, INBOX, Judge, Message, Mode, Picked, Quota,
    Recipient, Retention, Use, deliver::deliver,
};
use pombal::model::address::Address;
use pombal::model::id::{AccountId, BlobId, LogId, Lsn, Uid};
use pombal::node::salvage::rescue::{Rescued, check, rescue};
use pombal::node::shard::{Machines, State};
use pombal::queue::Pending;
use pombal::queue::answered::{key, put_answered};
use pombal::queue::outgoing::record::{Add, put_add};
use pombal::queue::outgoing::{self, Envelope, To};
use pombal::queue::record::put_add as put_spooled;
use pombal::store::record::Record;
use pombal::store::salvage::{Losses, Rebuilt, Source};
use pombal::store::{
    BlobDraft, Blobs, Compression, Damaged, Group, Identity, Log, Machine, Settings,
};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Seeds that found a fault once.
const REGRESSIONS: [u64; 5] = [117, 200, 204, 210, 263];

const IDENTITY: Identity = Identity { store: 77, log: LogId(0), first_logs: 1 };
const ACCOUNTS: u32 = 3;
const FOLDERS: [&str; 4] = ["INBOX", "Archive", "Archive/2026", "Sent"];
const WORDS: [&str; 3] = ["Work", "$Junk", "later"];
const DIR: &str = "/log";

fn settings() -> Settings {
    Settings {
        segment_octets: 128 << 10,
        cache_octets: 0,
        checkpoint_octets: 192 << 10,
        checkpoint_pause: Duration::from_secs(20),
        may_create: true,
        ..Settings::default()
    }
}

/// Files of a simulated disk.
struct OfDisk {
    slots: Sorted<u32, Vec<u8>>,
    superblock: Vec<u8>,
}

impl OfDisk {
    fn new(disk: &Disk) -> OfDisk {
        let mut slots = Sorted::new();
        for (path, _) in disk.files() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if let Some(slot) = name.strip_prefix("seg-") {
                slots.insert(slot.parse().unwrap(), disk.read(&path).unwrap());
            }
        }
        let superblock = disk.read(&Path::new(DIR).join("superblock")).unwrap_or_default();
        OfDisk { slots, superblock }
    }
}

impl Source for OfDisk {
    fn slots(&self) -> Vec<(u32, u64)> {
        self.slots.iter().map(|(&slot, octets)| (slot, octets.len() as u64)).collect()
    }

    fn read(&self, slot: u32, at: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let octets = self.slots.get(&slot).ok_or(std::io::ErrorKind::NotFound)?;
        let at = usize::try_from(at).unwrap().min(octets.len());
        Ok(octets[at..octets.len().min(at + len)].to_vec())
    }

    fn superblock(&self) -> Vec<u8> {
        self.superblock.clone()
    }
}

async fn open(env: SimEnv, may_create: bool) -> Result<State<SimEnv>, String> {
    open_with(env, Settings { may_create, ..settings() }).await
}

async fn open_with(env: SimEnv, settings: Settings) -> Result<State<SimEnv>, String> {
    let machines = Machines::default();
    let registry = machines.registry();
    let opened = Log::open(env, Path::new(DIR), IDENTITY, settings, registry).await;
    opened.map(|(log, _)| machines.with(log)).map_err(|error| error.to_string())
}

/// A message as somebody has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    account: u32,
    folder: String,
    uid: u32,
    flags: u8,
    keywords: Vec<String>,
    blob: u64,
}

/// All that a store is known to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    held: Vec<Held>,
    queue: Vec<(u64, u64)>,
    spool: Vec<(u64, u64)>,
    users: Vec<String>,
    answered: u128,
    /// Octets of each message, with those of its summary.
    blobs: Sorted<u64, (usize, Vec<u8>)>,
}

fn held(state: &State<SimEnv>) -> Vec<Held> {
    let accounts = state.accounts.borrow();
    let mut found = Vec::new();
    for account in (1..=ACCOUNTS).map(AccountId) {
        accounts.each_mailbox(account, |one| {
            let view = accounts.view(account, one.id);
            for entry in view.iter() {
                let names = view.keywords().into_iter().flat_map(|words| words.of(entry.keywords));
                let mut keywords: Vec<String> = names.map(str::to_owned).collect();
                keywords.sort();
                found.push(Held {
                    account: account.0,
                    folder: one.name.to_owned(),
                    uid: entry.uid.0,
                    flags: entry.flags.0,
                    keywords,
                    blob: entry.blob.0,
                });
            }
        });
    }
    found.sort();
    found
}

/// What a store holds; blobs that are damaged are told, and are not among those that came.
async fn content(state: &State<SimEnv>) -> (Content, Vec<u64>) {
    let queue: Vec<(u64, u64)> = state
        .outgoing
        .borrow()
        .behind(outgoing::QueueId(0))
        .map(|one| (one.id.0, one.blob.0))
        .collect();
    let spool = state.spool.borrow().pending().map(|(id, one)| (id.0, one.blob.0)).collect();
    let users = (1..=ACCOUNTS).filter_map(|id| state.ledger.address(AccountId(id)));
    let mut content = Content {
        held: held(state),
        queue,
        spool,
        users: users.map(Into::into).collect(),
        answered: state.answered.borrow().digest(),
        blobs: Sorted::new(),
    };
    let mut damaged = Vec::new();
    let mut ids: Vec<u64> = content.held.iter().map(|one| one.blob).collect();
    ids.extend(content.queue.iter().chain(&content.spool).map(|(_, blob)| *blob));
    for id in ids {
        match state.log.read(BlobId(id)).await {
            Ok(view) => {
                let read = (view.summary().len(), view.octets().to_vec());
                content.blobs.insert(id, read);
            }
            Err(_) => damaged.push(id),
        }
    }
    (content, damaged)
}

/// Octets that no other message has, so that they are found on the disk.
fn octets(chance: &Chance, number: u64) -> Vec<u8> {
    let head = format!("Message-ID: <{number}.{:016x}@test.example>\r\n", chance.bits());
    let lines = (0..chance.below(60)).map(|_| format!("{:016x} {number}\r\n", chance.bits()));
    format!("{head}Subject: {number}\r\n\r\n{}", lines.collect::<String>()).into_bytes()
}

struct Working<'a> {
    state: &'a State<SimEnv>,
    desk: Desk<SimEnv>,
    chance: &'a Chance,
    number: u64,
}

impl Working<'_> {
    async fn begin(&self) {
        let turn = self.state.ledger.turn().unwrap();
        let now = self.state.log.env().wall();
        let drafted = turn.draft(|draft| {
            draft.add_domain("test.example", now)?;
            for number in 1..=ACCOUNTS {
                draft.add_user(&format!("u{number}@test.example"), "$x$y", 0, now)?;
            }
            Ok(())
        });
        self.state.log.append(drafted.unwrap().1).await.unwrap();
    }

    fn message(&mut self) -> Message {
        self.number += 1;
        Message::brought(octets(self.chance, self.number), 1_700_000_000)
    }

    fn uids(&self, account: AccountId, folder: &str) -> Vec<Uid> {
        let accounts = self.state.accounts.borrow();
        let Some(id) = accounts.named(account, folder) else { return Vec::new() };
        accounts.view(account, id).iter().map(|entry| entry.uid).collect()
    }

    fn some(&self, uids: &[Uid]) -> Vec<Uid> {
        uids.iter().copied().filter(|_| self.chance.below(4) == 0).collect()
    }

    async fn step(&mut self) {
        let account = AccountId(1 + u32::try_from(self.chance.below(ACCOUNTS.into())).unwrap());
        let folder = FOLDERS[self.chance.index(FOLDERS.len())];
        let named = |name: &str| self.state.accounts.borrow().named(account, name);
        match self.chance.below(16) {
            0 => drop(self.desk.create(account, folder, Use::default()).await),
            1 => {
                let Some(id) = named(folder) else { return };
                let gone = self.some(&self.uids(account, folder));
                self.desk.expunge(account, id, &gone).await.unwrap();
            }
            2 | 3 => {
                let Some(id) = named(folder) else { return };
                let change = FlagChange {
                    mode: Mode::Add,
                    flags: Flags(1 << self.chance.below(3)),
                    keywords: vec![WORDS[self.chance.index(WORDS.len())]],
                };
                let uids = self.some(&self.uids(account, folder));
                self.desk.store(account, id, &uids, &change, None).await.unwrap();
            }
            4 | 5 => {
                let (Some(from), Some(to)) = (named("INBOX"), named(folder)) else { return };
                let uids = self.some(&self.uids(account, "INBOX"));
                let picked = Picked::There(&uids);
                if self.chance.coin() {
                    drop(self.desk.copy(account, from, to, picked, Quota::NONE).await);
                } else {
                    drop(self.desk.shift(account, from, to, picked).await);
                }
            }
            6 => self.enqueue().await,
            7 if self.chance.below(4) == 0 => {
                let (from, to) = ("Archive", "Archive/2026");
                drop(self.desk.rename(account, from, to).await);
            }
            8 if self.chance.below(3) == 0 => self.state.log.checkpoint().await.unwrap(),
            9 => {
                let Some(id) = named(folder) else { return };
                let message = self.message();
                let brought = Brought { message, flags: Flags::SEEN, keywords: vec![WORDS[0]] };
                self.desk.append(account, id, vec![brought], Quota::NONE).await.unwrap();
            }
            _ => {
                let all: Vec<Recipient> = (1..=ACCOUNTS)
                    .map(AccountId)
                    .filter(|&one| one == account || self.chance.below(4) == 0)
                    .map(|account| Recipient { account, quota: Quota::NONE })
                    .collect();
                let message = self.message();
                let (log, accounts) = (&self.state.log, &self.state.accounts);
                deliver(log, accounts, &all, Judge::Each, message).await.unwrap();
            }
        }
    }

    /// An entry of outgoing mail, or of the spool.
    async fn enqueue(&mut self) {
        let message = self.message();
        let blob = self.state.log.reserve_blob();
        let mut group = Group::new();
        let size = message.size();
        if self.chance.coin() {
            let queue = self.state.outgoing.borrow_mut().assign();
            let envelope = Envelope {
                name: format!("m{}", queue.0).into(),
                sender: None,
                envid: None,
                by: None,
                hold: None,
                via: None,
                recipients: vec![To {
                    address: Address::from_parts("someone", "far.example"),
                    notify: None,
                    orcpt: None,
                }],
            };
            let add = Add {
                queue,
                blob,
                size,
                arrived: 100,
                due: 100,
                warn: 200,
                expires: 300,
                flags: outgoing::Flags::default(),
                priority: 0,
                marks: 0,
                domain: "far.example".into(),
                envelope,
            };
            put_add(&mut group, &add);
        } else {
            let spool = self.state.spool.borrow_mut().assign();
            let recipients = vec![(LogId(9), AccountId(1))];
            let pending = Pending { blob, size, internal_date: 1, marks: 0, recipients };
            put_spooled(&mut group, spool, &pending);
        }
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: blob, summary, parts });
        self.state.log.append(group).await.unwrap();
    }
}

/// A store of a seed, and what it holds.
fn made(seed: u64) -> (Disk, Content) {
    let sim = Sim::with_disk(seed, Faults::none(), Disk::new());
    sim.allow_leaks();
    let chance = sim.chance();
    let steps = 150 + chance.below(250);
    let work = async {
        let mut settings = settings();
        // What moves is packed in every second pair of stores.
        if !(seed / 2).is_multiple_of(2) {
            settings.cleaning.compression = Compression::Zstd;
        }
        let state = open_with(sim.env(0), settings).await.unwrap();
        // Every second store keeps histories.
        let retention = if seed.is_multiple_of(2) { 3_600 } else { 0 };
        state.accounts.borrow_mut().set_retention(Retention::all(retention));
        let desk = Desk::new(state.log.clone(), Rc::clone(&state.accounts));
        let mut working = Working { state: &state, desk, chance: &chance, number: 0 };
        working.begin().await;
        for _ in 0..steps {
            working.step().await;
            if chance.below(80) == 0 {
                state.log.compact(None).await.unwrap();
            }
        }
        let mut group = Group::new();
        put_answered(&mut group, AccountId(1), key("someone@far.example", "", "away"), 100, 200);
        state.log.append(group).await.unwrap();
        let (content, damaged) = content(&state).await;
        assert_eq!(damaged, [0; 0]);
        if chance.coin() {
            state.log.close().await.unwrap();
        }
        content
    };
    let content = sim.run_until(work).unwrap();
    let disk = sim.crash().disk();
    // A start notes how far the log reaches; behind that nothing tells of a batch that is wiped out.
    let sim = Sim::with_disk(seed, Faults::none(), disk);
    sim.allow_leaks();
    drop(sim.run_until(open(sim.env(0), false)).unwrap().unwrap());
    (sim.crash().disk(), content)
}

/// Salvages into a new disk; what it holds.
fn salvaged(disk: &Disk) -> (Disk, Content, Rebuilt, Vec<(u64, Vec<u8>)>) {
    let sim = Sim::with_disk(1, Faults::none(), Disk::new());
    sim.allow_leaks();
    let source = OfDisk::new(disk);
    let work = async {
        let dir = Path::new(DIR);
        let mut ignore = |_: &'static str, _: u64| {};
        let rescued =
            rescue(sim.env(0), &source, IDENTITY, dir, settings(), &mut ignore).await.unwrap();
        let Rescued { state, rebuilt } = rescued;
        check(&state).await.unwrap();
        let (before, damaged) = content(&state).await;
        assert_eq!(damaged, [0; 0]);
        state.log.close().await.unwrap();
        let again = open(sim.env(0), false).await.unwrap();
        let (after, damaged) = content(&again).await;
        assert_eq!((damaged, &after), (vec![], &before), "a start finds the same");
        check(&again).await.unwrap();
        goes_on(&again).await;
        again.log.close().await.unwrap();
        let read = |id: &BlobId| (id.0, rebuilt.read(&source, *id).unwrap().1);
        let orphans = rebuilt.orphans.iter().map(read).collect();
        (after, rebuilt, orphans)
    };
    let (content, rebuilt, orphans) = sim.run_until(work).unwrap();
    (sim.disk(), content, rebuilt, orphans)
}

/// Mail comes into a store that was salvaged.
async fn goes_on(state: &State<SimEnv>) {
    let all: Vec<Recipient> =
        (1..=ACCOUNTS).map(|id| Recipient { account: AccountId(id), quota: Quota::NONE }).collect();
    let message = Message::brought(b"Subject: on\r\n\r\non\r\n".to_vec(), 1);
    let verdicts = deliver(&state.log, &state.accounts, &all, Judge::Each, message).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert!(state.accounts.borrow().named(AccountId(1), "INBOX").is_some_and(|id| id == INBOX));
    check(state).await.unwrap();
}

#[test]
fn a_store_that_is_whole_comes_out_as_it_is() {
    for seed in 0..12 {
        let (disk, before) = made(seed);
        let (_, after, rebuilt, orphans) = salvaged(&disk);
        assert_eq!(rebuilt.losses, Losses::default(), "seed {seed}");
        assert_eq!(before, after, "seed {seed}");
        assert_eq!(orphans, []);
    }
}

/// Where something was damaged.
#[derive(Debug)]
struct Damage {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// Damages a store in some way.
fn damage(disk: &Disk, chance: &Chance) -> Vec<Damage> {
    let mut done = Vec::new();
    for _ in 0..=chance.below(5) {
        let files: Vec<(PathBuf, u64)> = disk.files();
        let (path, len) = files[chance.index(files.len())].clone();
        if len == 0 {
            continue;
        }
        let octets = disk.read(&path).unwrap();
        let mut at = chance.below(len);
        // Most of a segment are zeros.
        for _ in 0..40 {
            if octets[usize::try_from(at).unwrap()] != 0 {
                break;
            }
            at = chance.below(len);
        }
        let to = match chance.below(12) {
            0 => {
                assert!(disk.forget(&path));
                len
            }
            1 => {
                assert!(disk.cut(&path, at / 4096 * 4096));
                len
            }
            2 | 3 => {
                let count = (1 + chance.below(20_000)).min(len - at);
                let noise: Vec<u8> = (0..count).map(|_| chance.bits().to_le_bytes()[0]).collect();
                assert!(disk.overwrite(&path, at, &noise));
                at + count
            }
            4 => {
                let count = (4096 * (1 + chance.below(4))).min(len - at);
                assert!(disk.overwrite(&path, at, &vec![0; usize::try_from(count).unwrap()]));
                at + count
            }
            _ => {
                assert!(disk.flip(&path, at, u8::try_from(chance.below(8)).unwrap()));
                at + 1
            }
        };
        let from = if to == len && disk.read(&path).is_none_or(|now| now.len() as u64 != len) {
            disk.read(&path).map_or(0, |now| now.len() as u64)
        } else {
            at
        };
        done.push(Damage { path, from, to });
    }
    done
}

/// Messages of which a copy is left with all its octets, header and summary.
fn whole(pristine: &Disk, damage: &[Damage], content: &Content) -> Vec<u64> {
    let files: Vec<(PathBuf, Vec<u8>)> = pristine
        .files()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("seg-"))
        .map(|(path, _)| (path.clone(), pristine.read(&path).unwrap()))
        .collect();
    let is_whole = |(summary, octets): &(usize, Vec<u8>)| {
        files.iter().any(|(path, file)| {
            memchr::memmem::find_iter(file, octets).any(|at| {
                let from = (at - summary - 64) as u64;
                let to = (at + octets.len()) as u64;
                let hits = |one: &Damage| one.path == *path && one.from < to && from < one.to;
                // Not what is left of one whose header was written over.
                let has_header = file[at - summary - 64..].starts_with(b"PBLB");
                has_header && !damage.iter().any(hits)
            })
        })
    };
    let plain = content.blobs.iter().filter(|(_, blob)| is_whole(blob)).map(|(&id, _)| id);
    let mut found: Vec<u64> = plain.collect();
    for (path, file) in &files {
        let hit = |from: usize, to: usize| {
            let is_in = |one: &Damage| one.from < to as u64 && (from as u64) < one.to;
            damage.iter().any(|one| one.path == *path && is_in(one))
        };
        found.extend(
            packed(file, content)
                .filter(|(_, range)| !hit(range.start, range.end))
                .map(|(id, _)| id),
        );
    }
    found
}

/// Packed copies of messages in a file, and where they lie.
fn packed<'a>(
    file: &'a [u8],
    content: &'a Content,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> + 'a {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let starts = (0..file.len()).step_by(64);
    let packed = starts.filter(|&at| file[at..].starts_with(b"PBLB") && file[at + 26] == 1);
    packed.filter_map(move |at| {
        let (id, summary) = (number(at + 16), number(at + 32) & u64::from(u32::MAX));
        let (_, octets) = content.blobs.get(&id)?;
        let start = at + 64 + usize::try_from(summary).unwrap();
        let end = start.checked_add(usize::try_from(number(at + 44)).ok()?)?;
        let frame = file.get(start + 8..end)?;
        let mut message = Vec::with_capacity(octets.len());
        zstd_safe::decompress(&mut message, frame).ok()?;
        (message == *octets).then_some((id, at..end))
    })
}

#[test]
fn stores_with_packed_mail_are_among_those_that_are_damaged() {
    let packs = |seed| {
        let (disk, content) = made(seed);
        let files = disk.files().into_iter().filter_map(|(path, _)| disk.read(&path));
        files.map(|file| packed(&file, &content).count()).sum::<usize>()
    };
    assert_eq!(packs(0), 0);
    assert!([2, 3, 6, 7].into_iter().map(packs).sum::<usize>() > 100);
}

/// What a server on the damaged store would find: damage, and no wrong octet. Whether it was found.
fn looked_at(disk: &Disk, before: &Content) -> bool {
    let sim = Sim::with_disk(2, Faults::none(), disk.fork());
    sim.allow_leaks();
    let work = async {
        let Ok(state) = open(sim.env(0), false).await else { return true };
        let (found, damaged) = content(&state).await;
        for (id, read) in &found.blobs {
            assert_eq!(before.blobs.get(id), Some(read), "blob {id} has other octets");
        }
        let findings = state.log.verify(|_| ()).await;
        assert!(damaged.is_empty() || !findings.faults.is_empty(), "verify finds nothing");
        let same = damaged.is_empty() && found == *before;
        assert!(
            same || !findings.faults.is_empty(),
            "verify finds nothing, and it is another store"
        );
        !findings.faults.is_empty()
    };
    sim.run_until(work).unwrap()
}

fn damaged_by(seed: u64) {
    let (pristine, before) = made(seed % 16);
    let disk = pristine.fork();
    let chance = Chance::new(seed.wrapping_mul(0x9E37_79B9) + 5);
    let damage = damage(&disk, &chance);
    let at = format!("seed {seed}: {damage:?}");
    let is_found = looked_at(&disk, &before);
    let (_, after, rebuilt, orphans) = salvaged(&disk);
    let losses = &rebuilt.losses;
    // No wrong octet.
    for (id, read) in &after.blobs {
        if let Some(known) = before.blobs.get(id) {
            assert_eq!(known, read, "{at}: blob {id}");
        }
    }
    for (id, octets) in &orphans {
        let known = before.blobs.get(id).map(|(_, octets)| octets);
        assert!(known.is_none_or(|known| known == octets), "{at}: orphan {id}");
    }
    // All that is whole is saved, in its place or among what was found.
    for id in whole(&pristine, &damage, &before) {
        let is_saved = after.blobs.contains_key(&id) || orphans.iter().any(|(one, _)| *one == id);
        assert!(is_saved, "{at}: blob {id} is whole and not saved: {losses:#?}");
    }
    // Where no record was lost, the rest is as it was.
    let lost: Vec<u64> = losses.entries.iter().map(|entry| entry.blob).collect();
    if !losses.of_records() {
        let kept = |blob: u64| !lost.contains(&blob);
        let held: Vec<Held> = before.held.iter().filter(|one| kept(one.blob)).cloned().collect();
        assert_eq!(held, after.held, "{at}: {losses:#?}");
        let queue: Vec<(u64, u64)> =
            before.queue.iter().copied().filter(|one| kept(one.1)).collect();
        assert_eq!(queue, after.queue, "{at}: {losses:#?}");
        assert_eq!(before.users, after.users, "{at}");
    }
    // What is lost is told of by whoever looks at the damaged store.
    assert!(losses.entries.is_empty() || is_found, "{at}: {losses:#?}");
    let same = before.held == after.held && before.queue == after.queue;
    assert!(same || !losses.is_empty(), "{at}: something is lost, and nothing is told");
}

#[test]
fn what_is_whole_is_saved_whatever_is_damaged() {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("SEEDS").ok().map_or(60, |count| count.parse().unwrap());
    match only {
        Some(seed) => damaged_by(seed),
        None => REGRESSIONS.iter().copied().chain(0..count).for_each(damaged_by),
    }
}

/// What comes onto the disk in place of a page, if anything does.
type Spoil = fn(u32, u64, Vec<u8>) -> Option<Vec<u8>>;

/// Accounts whose pages come onto the disk otherwise than they are: every checksum is right.
struct Spoiling {
    accounts: Rc<RefCell<Accounts>>,
    spoil: Spoil,
}

impl Machine for Spoiling {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        self.accounts.borrow_mut().apply(at, record, blobs)
    }

    fn dirty(&self) -> Vec<u32> {
        self.accounts.borrow().dirty()
    }

    fn save(&mut self, major: u32, at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        let spoil = self.spoil;
        self.accounts.borrow_mut().save(major, at, &mut |minor, octets| {
            page(minor, octets.and_then(|octets| spoil(major, minor, octets)));
        });
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.accounts.borrow_mut().load(major, minor, at, octets)
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.accounts.borrow().references(each);
    }

    fn taint(&mut self) {
        self.accounts.borrow_mut().taint();
    }
}

/// A store with pages that mean nothing: a large account, a small one, and what they hold.
fn spoiled(spoil: Spoil) -> (Disk, Content) {
    let sim = Sim::with_disk(3, Faults::none(), Disk::new());
    sim.allow_leaks();
    let chance = sim.chance();
    let work = async {
        let machines = Machines::default();
        let mut registry = machines.registry();
        let accounts = Rc::clone(&machines.accounts);
        registry[0].1 = Rc::new(RefCell::new(Spoiling { accounts, spoil }));
        let opened = Log::open(sim.env(0), Path::new(DIR), IDENTITY, settings(), registry).await;
        let state = machines.with(opened.unwrap().0);
        let desk = Desk::new(state.log.clone(), Rc::clone(&state.accounts));
        let mut working = Working { state: &state, desk, chance: &chance, number: 0 };
        working.begin().await;
        for round in 0..700 {
            let last = if round < 10 { 2 } else { 1 };
            let recipient = |id| Recipient { account: AccountId(id), quota: Quota::NONE };
            let to: Vec<Recipient> = (1..=last).map(recipient).collect();
            let message = working.message();
            deliver(&state.log, &state.accounts, &to, Judge::Each, message).await.unwrap();
        }
        working.desk.create(AccountId(1), "Archive", Use::default()).await.unwrap();
        for _ in 0..200 {
            working.step().await;
        }
        state.log.checkpoint().await.unwrap();
        let (content, _) = content(&state).await;
        state.log.close().await.unwrap();
        content
    };
    let content = sim.run_until(work).unwrap();
    (sim.crash().disk(), content)
}

fn refuses_to_start(disk: &Disk) -> String {
    let sim = Sim::with_disk(2, Faults::none(), disk.fork());
    sim.allow_leaks();
    let opened = sim.run_until(open(sim.env(0), false)).unwrap();
    opened.err().expect("no server starts with it")
}

const SECOND_CHUNK: u64 = (1 << 32) + 2;

#[test]
fn a_page_that_means_nothing_does_not_take_its_account_along() {
    let spoils: [(&str, Spoil); 3] = [
        ("a chunk", |major, minor, octets| match (major, minor) {
            (1, SECOND_CHUNK) => Some(octets[..octets.len() - 3].to_vec()),
            _ => Some(octets),
        }),
        ("a head", |major, minor, octets| match (major, minor) {
            (1, 0) => Some(octets[..octets.len() - 3].to_vec()),
            _ => Some(octets),
        }),
        ("what is whole in one page", |major, minor, octets| match (major, minor) {
            (2, 0) => Some(octets[..octets.len() - 3].to_vec()),
            _ => Some(octets),
        }),
    ];
    for (what, spoil) in spoils {
        let (disk, before) = spoiled(spoil);
        let why = refuses_to_start(&disk);
        assert!(why.contains("account "), "{what}: {why}");
        let (_, after, rebuilt, orphans) = salvaged(&disk);
        assert!(!rebuilt.losses.is_empty(), "{what}");
        // The records that made it still lie there.
        assert_eq!(before.held, after.held, "{what}: {:#?}", rebuilt.losses);
        assert_eq!(orphans, [], "{what}");
    }
}

#[test]
fn a_page_that_is_nowhere_does_not_take_its_account_along() {
    let (disk, before) =
        spoiled(|major, minor, octets| ((major, minor) != (1, SECOND_CHUNK)).then_some(octets));
    let why = refuses_to_start(&disk);
    assert!(why.contains("account 1: a chunk is missing"), "{why}");
    let (_, after, rebuilt, orphans) = salvaged(&disk);
    assert!(!rebuilt.losses.is_empty());
    assert_eq!(before.held, after.held, "{:#?}", rebuilt.losses);
    assert_eq!(orphans, []);
}
