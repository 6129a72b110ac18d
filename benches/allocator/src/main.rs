//! Takes and gives memory as two shards do under load, and prints what it cost.
//!
//! Processor time counts: wall time depends on who else is there.
//!
//! A message: a receive block of 64 KiB from a pool of its own, a body of 10 KiB grown in steps,
//! 40 small pieces (addresses, fields, tasks, replies) that die with it, one index entry that
//! stays, one block of a batch shared by 16 messages. 64 messages are under way in a shard, and
//! end in another order than they began. One in twenty ends on the other shard.
//!
//! Usage: cargo run --release [--features mimalloc|jemalloc] -- [MESSAGES]

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NAME: &str = if cfg!(feature = "mimalloc") {
    "mimalloc"
} else if cfg!(feature = "jemalloc") {
    "jemalloc"
} else {
    "system"
};
const UNDER_WAY: usize = 64;
const BODY_OCTETS: usize = 10 << 10;
const SMALL_PIECES: usize = 40;
const IDLE_SESSIONS: usize = 10_000;

/// One message under way.
struct Message {
    body: Vec<u8>,
    pieces: Vec<Box<[u8]>>,
    shared: Rc<Vec<u8>>,
    task: Box<[u64; 40]>,
}

/// A generator that every run repeats.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

fn receive(chance: &mut Chance, batch: &Rc<Vec<u8>>) -> Message {
    let mut body = Vec::new();
    while body.len() < BODY_OCTETS {
        let step = 1_000 + chance.below(3_000);
        body.extend(std::iter::repeat_n(b'm', step));
    }
    let pieces =
        (0..SMALL_PIECES).map(|_| vec![b'p'; 8 + chance.below(240)].into_boxed_slice()).collect();
    Message { body, pieces, shared: Rc::clone(batch), task: Box::new([1; 40]) }
}

/// Looks at everything, so that nothing is optimised away.
fn weigh(message: &Message) -> usize {
    let pieces: usize = message.pieces.iter().map(|piece| piece.len()).sum();
    message.body.len()
        + pieces
        + message.shared.len()
        + usize::try_from(message.task[0]).unwrap_or(0)
}

/// One shard: `count` messages; bodies go to `away` and come from `home`.
fn shard(seed: u64, count: usize, away: &SyncSender<Vec<u8>>, home: &Receiver<Vec<u8>>) -> usize {
    let mut chance = Chance(seed);
    let mut under_way: VecDeque<Message> = VecDeque::new();
    let mut index: Vec<Box<[u8; 56]>> = Vec::new();
    let mut batch = Rc::new(vec![0; 160 << 10]);
    let mut weight = 0;
    for number in 0..count {
        if number % 16 == 0 {
            batch = Rc::new(vec![0; 160 << 10]);
        }
        under_way.push_back(receive(&mut chance, &batch));
        index.push(Box::new([0; 56]));
        if under_way.len() > UNDER_WAY {
            let ended = chance.below(8);
            let message = under_way.remove(ended).expect("more than eight are under way");
            weight += weigh(&message);
            if chance.below(20) == 0 {
                // A full queue drops the body here, as a busy shard would refuse it.
                drop(away.try_send(message.body));
            }
        }
        while let Ok(body) = home.try_recv() {
            weight += body.len();
        }
    }
    weight + index.len()
}

fn main() {
    let count = std::env::args().nth(1).map_or(500_000, |text| text.parse().expect("a number"));
    let empty = resident_kib();
    let idle: Vec<Box<[u8; 1_200]>> = (0..IDLE_SESSIONS).map(|_| Box::new([1; 1_200])).collect();
    let with_idle = resident_kib();
    drop(idle);
    let begun = Instant::now();
    let (to_b, from_a) = sync_channel(1_024);
    let (to_a, from_b) = sync_channel(1_024);
    let weight: usize = std::thread::scope(|scope| {
        let a = scope.spawn(move || shard(1, count, &to_b, &from_b));
        let b = scope.spawn(move || shard(2, count, &to_a, &from_a));
        a.join().expect("a shard ends") + b.join().expect("a shard ends")
    });
    let took = begun.elapsed();
    let after = resident_kib();
    let peak = status("VmHWM:");
    let messages = 2 * u64::try_from(count).expect("fits");
    let cpu_per_message = cpu_millis() * 1_000_000 / messages;
    let wall_per_message = took.as_nanos() / u128::from(messages);
    println!(
        "{NAME:<9} {cpu_per_message:>6} ns CPU/message ({wall_per_message} wall)  idle {:>5} B/session  empty {empty:>6} KiB  \
         peak {peak:>7} KiB  after {after:>7} KiB  (weight {weight})",
        (with_idle - empty) * 1_024 / IDLE_SESSIONS as u64
    );
}

/// Processor time of the whole process, ended threads too, in steps of 10 ms.
fn cpu_millis() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the name stands in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<u64>().expect("a number of ticks") * 10).sum()
}

fn resident_kib() -> u64 {
    status("VmRSS:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a known line");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
