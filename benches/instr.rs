//! Counts instructions of named cases under callgrind and holds them against `instr.txt`.
//!
//! Wall time on a shared machine is noise; instructions are the same in every run. Each case is
//! run twice, with N and with 2 N rounds, so that the start of the program drops out of the
//! difference. A case that costs over 2 % more than its line in `instr.txt` fails; `UPDATE=1`
//! writes the file anew. Every case asserts its answer, so that it cannot get fast by doing nothing.
//!
//! ```text
//! cargo bench --bench instr               compare
//! UPDATE=1 cargo bench --bench instr      take what is there now as right
//! ```

mod cases {
    pub(crate) mod log;
    pub(crate) mod mail;
    pub(crate) mod real;
    pub(crate) mod session;
    pub(crate) mod state;
    pub(crate) mod wire;
}

use cases::{log, mail, real, session, state, wire};
use pombal::bytes::buffer::Buffer;
use pombal::bytes::chain::{Chain, Shared};
use pombal::config;
use pombal::probe::{Histogram, Registry, Set, Summary};
use pombal::proto::smtp::Settings;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::rc::Rc;

/// The server's own: what an allocation costs is part of every count.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, rounds, and what one round does.
type Case = (&'static str, u64, fn());

const CASES: &[Case] = &[
    ("buffer_64k_in_1k_steps", 50, buffer),
    ("chain_100_links", 50, chain),
    ("config_embedded", 20, configuration),
    ("histogram_1000", 50, histogram),
    ("metrics_20_series", 20, metrics),
    ("wire_3000_lines", 5, lines),
    ("wire_6_paths", 50, paths),
    ("wire_unstuff_10k", 50, unstuff),
    ("wire_search_16_of_4k", 20, search),
    ("smtp_data_10k", 20, smtp_data),
    ("smtp_bdat_10k", 20, smtp_bdat),
    ("pop3_list_1000", 10, pop3_list),
    ("pop3_uidl_1000", 10, pop3_uidl),
    ("pop3_retr_100_of_4k", 10, pop3_retr),
    ("store_encode_64_of_10k", 5, encode),
    ("store_recover_10000_records", 2, recover),
    ("mailbox_deliver_1024", 2, deliver),
    ("mailbox_summary_10k", 20, summary),
    ("mailbox_summary_real", 20, summary_real),
];

/// More than this above the line in the file fails.
const SLACK_PERCENT: u64 = 2;

fn buffer() {
    let mut buffer = Buffer::new();
    let mut used = 0;
    for _ in 0..64 {
        assert_eq!(buffer.push(black_box(&[b'x'; 1_024])), 1_024);
        buffer.consume(1_000);
        used += 1_000;
    }
    assert_eq!(used + buffer.len(), 64 * 1_024);
}

fn chain() {
    let owner: Rc<dyn Shared> = Rc::new(vec![b'm'; 4_096]);
    let mut chain = Chain::new();
    for _ in 0..100 {
        chain.put(black_box(b"+OK 4096 octets\r\n"));
        chain.link(&owner, 0..4_096);
    }
    assert_eq!(chain.slices().map(<[u8]>::len).sum::<usize>(), 100 * (17 + 4_096));
}

fn configuration() {
    let loaded = config::parse("embedded", black_box(config::EMBEDDED)).expect("it is right");
    assert_eq!(loaded.config.listen.smtp.len(), 2);
}

fn histogram() {
    let histogram = Histogram::default();
    for value in 0..1_000 {
        histogram.record(black_box(value * 37));
    }
    let mut summary = Summary::default();
    histogram.add_to(&mut summary);
    assert_eq!(summary.count(), 1_000);
}

fn metrics() {
    let mut set = Set::new();
    for code in 0..20 {
        set.counter("replies_total", "By code.", &[("code", &code.to_string())]).add(code);
    }
    let families = Registry::new(vec![set]).read();
    assert_eq!(families[0].series.len(), 20);
}

fn lines() {
    thread_local!(static INPUT: Vec<u8> = wire::commands());
    INPUT.with(|input| assert_eq!(wire::take_lines(input), 3_000));
}

fn paths() {
    assert_eq!(wire::parse_paths(), 5);
}

fn unstuff() {
    thread_local!(static INPUT: Vec<u8> = [&mail::message(10 << 10)[..], b".\r\n"].concat());
    INPUT.with(|input| assert_eq!(wire::unstuff(input), 10 << 10));
}

fn summary() {
    thread_local!(static INPUT: Vec<u8> = mail::message(10 << 10));
    INPUT.with(|input| assert_eq!(state::summary_lines(input), 131));
}

fn summary_real() {
    thread_local!(static INPUT: Vec<u8> = real::message());
    INPUT.with(|input| assert_eq!(state::summary_lines(input), 156));
}

fn search() {
    thread_local!(static INPUT: Vec<wire::Parsed> = wire::parsed(16, 4 << 10));
    INPUT.with(|input| assert_eq!(wire::search(input, "needle"), 0));
}

fn smtp_data() {
    thread_local!(static INPUT: (Rc<Settings>, Vec<u8>) =
        (Rc::default(), session::by_data(&mail::message(10 << 10))));
    INPUT.with(|(settings, input)| assert_eq!(session::smtp(settings, input).len(), 10 << 10));
}

fn smtp_bdat() {
    thread_local!(static INPUT: (Rc<Settings>, Vec<u8>) =
        (Rc::default(), session::by_bdat(&mail::message(10 << 10))));
    INPUT.with(|(settings, input)| assert_eq!(session::smtp(settings, input).len(), 10 << 10));
}

fn pop3_list() {
    pop3_of_1000(b"LIST\r\n", 4 << 10);
}

fn pop3_uidl() {
    pop3_of_1000(b"UIDL\r\n", 1_700_000_000);
}

/// A listing of 1000 messages; its lines are longer than those that say `size` would be.
fn pop3_of_1000(command: &[u8], size: u64) {
    thread_local!(static MAILDROP: Rc<session::Same> = session::Same::new(1_000, 4 << 10));
    thread_local!(static LEAST: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    if LEAST.get() == 0 {
        LEAST.set(session::listing_octets(1_000, size));
    }
    MAILDROP.with(|maildrop| assert!(session::pop3(maildrop, command) > LEAST.get()));
}

fn pop3_retr() {
    thread_local!(static INPUT: (Rc<session::Same>, Vec<u8>) =
        (session::Same::new(100, 4 << 10), session::retrieve_all(100)));
    INPUT.with(|(maildrop, commands)| {
        assert!(session::pop3(maildrop, commands) > 100 * (4 << 10));
    });
}

fn encode() {
    thread_local!(static GROUPS: (Vec<pombal::store::Group>, std::cell::RefCell<Vec<u8>>) =
        (state::deliveries(), std::cell::RefCell::default()));
    GROUPS.with(|(groups, out)| {
        let mut out = out.borrow_mut();
        let len = pombal::store::encode_alone(&mut out, black_box(groups), &log::IDENTITY);
        assert!(len > 64 * (10 << 10) && len < 64 * (11 << 10) + 8_192, "{len}");
    });
}

fn recover() {
    thread_local!(static DISK: pombal::env::sim::Disk = state::ten_thousand_records());
    DISK.with(|disk| assert_eq!(state::recover(disk), 10_000));
}

fn deliver() {
    assert_eq!(state::apply_deliveries(), 1_024);
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some("--case"), Some(name), Some(rounds)) =
        (arguments.next().as_deref(), arguments.next(), arguments.next())
    {
        let (_, _, case) = CASES.iter().find(|(known, ..)| *known == name).expect("a known case");
        for _ in 0..rounds.parse::<u64>().expect("a number of rounds") {
            case();
        }
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        say("valgrind is not installed: nothing was counted");
        return ExitCode::SUCCESS;
    }
    compare()
}

fn compare() -> ExitCode {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instr.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let known = read(&text);
    let mut counted = String::new();
    let mut worse = 0;
    for (name, rounds, _) in CASES {
        let count = (count(name, 2 * rounds) - count(name, *rounds)) / rounds;
        writeln!(counted, "{name} {count}").expect("a String takes all text");
        let verdict = match known.get(*name) {
            None => "new".to_owned(),
            Some(before) if count * 100 > before * (100 + SLACK_PERCENT) => {
                worse += 1;
                format!("WORSE than {before}")
            }
            Some(before) if count * (100 + SLACK_PERCENT) < before * 100 => {
                format!("better than {before}: UPDATE=1 keeps it")
            }
            Some(_) => "as before".to_owned(),
        };
        say(&format!("{name:<28} {count:>12} instructions a round, {verdict}"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, counted).expect("instr.txt can be written");
        return ExitCode::SUCCESS;
    }
    if worse > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read(text: &str) -> BTreeMap<&str, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect()
}

/// Instructions of the whole program with this many rounds.
fn count(name: &str, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("a program knows its own path"))
        .args(["--case", name, &rounds.to_string()])
        .output()
        .expect("valgrind runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
    let line = told.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = line.expect("callgrind tells its count at the end");
    number.trim().parse().expect("callgrind counts in digits")
}

#[expect(clippy::print_stdout, reason = "a benchmark talks to people")]
fn say(line: &str) {
    println!("{line}");
}
