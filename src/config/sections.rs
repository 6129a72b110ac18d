//! The keys: name, default, bounds, section by section, and the checks across sections.

use super::names::{HostName, Mailbox};
use super::oauth::oauth;
use super::reader::{Mistake, Reader, Section};
use super::srs::srs;
use super::tls;
use super::tls_policy;
use super::units::show_size;
use super::{
    Acme, Auth, Config, Directory, Imap, Limits, Listen, Loaded, Log, LogFormat, Pop3, Sandbox,
    Shards, Smtp, Store, Submission,
};
use super::{protect, queue};
use crate::acme::Challenge;
use crate::model::address::Address;
use crate::model::limits;
use crate::probe::event::Level;
use crate::proto::sasl::{self, Hash, Mechanism, Mechanisms};
use crate::server::allowance::Rates;
use crate::server::imap;
use crate::server::submission::{self, FromCheck, SendAs};
use crate::store::Compression;
use crate::wire::imap::capability::Capabilities;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Octets that a segment needs beside the largest message: headers, summary, records.
const SEGMENT_OVERHEAD_OCTETS: u64 = 128 << 10;
const BLOCK_OCTETS: u64 = 4096;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const A_HOST: &str = "a host name, such as \"mx.example.org\"";
const A_PATH: &str = "a path";

pub(super) fn parse(file: &str, text: &str) -> Result<Loaded, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(file, text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        reader.mistake(&span, error.message(), "");
    }
    let config = root(Section::root(&mut reader, document.get_ref()));
    let mistakes = reader.sorted_mistakes();
    if mistakes.is_empty() {
        Ok(Loaded { config, settings: reader.settings, source: file.into() })
    } else {
        Err(mistakes)
    }
}

fn root(mut top: Section<'_, '_, '_>) -> Config {
    let hostname = top
        .word("hostname", Some(machine_name()), A_HOST, HostName::parse, HostName::to_string)
        .unwrap_or_else(machine_name);
    let data_dir = path(&mut top, "data_dir", Some("/var/lib/pombal")).unwrap_or_default();
    let shards = shards(&mut top);
    let is_user = |text: &str| {
        let right = !text.is_empty() && !text.contains([':', '/', '\0', '\n']);
        right.then(|| text.to_owned())
    };
    let user = top.word("user", None, "the name of a system user", is_user, String::clone);

    let sandbox = sandbox(&mut top);

    let mut config = Config {
        hostname,
        data_dir,
        shards,
        user,
        sandbox,
        listen: listen(top.section("listen")),
        tls: tls::tls(top.section("tls")),
        auth: auth(top.section("auth")),
        directory: directory(top.section("directory")),
        smtp: smtp(top.section("smtp")),
        protect: protect::protect(top.section("protect")),
        proxy: protect::proxy(top.section("proxy")),
        submission: submission(top.section("submission")),
        srs: srs(top.section("srs")),
        pop3: pop3(top.section("pop3")),
        imap: imap(top.section("imap")),
        store: store(top.section("store")),
        undelete: super::undelete::undelete(top.section("undelete")),
        limits: process_limits(top.section("limits")),
        log: log(top.section("log")),
        dns: super::dns::dns(top.section("dns")),
        queue: queue::queue(top.section("queue")),
        mta_sts: tls_policy::mta_sts(top.section("mta_sts")),
        tls_report: tls_policy::tls_report(top.section("tls_report")),
        acme: acme(top.section("acme")),
        sites: Vec::new(),
        sources: Vec::new(),
        routes: Vec::new(),
    };
    config.sites = top.sections("site", queue::site);
    config.sources = top.sections("source", queue::source);
    config.routes = top.sections("route", queue::route);
    across(&mut top, &config);
    top.end();
    config
}

/// Checks that need more than one key.
fn across(top: &mut Section<'_, '_, '_>, config: &Config) {
    somebody_logs_in(top, config);
    queue::sources_are_used(top, config);
    let largest = config.smtp.max_message_size + SEGMENT_OVERHEAD_OCTETS;
    if largest > config.store.segment_size {
        let message = top.section("smtp").span("max_message_size");
        let segment = top.section("store").span("segment_size");
        let span: Range<usize> = message.or(segment).unwrap_or(0..0);
        let what = format!(
            "`smtp.max_message_size` {} does not fit a segment: `store.segment_size` is {}",
            show_size(config.smtp.max_message_size),
            show_size(config.store.segment_size)
        );
        let room = config.store.segment_size - SEGMENT_OVERHEAD_OCTETS;
        let allowed =
            format!("max_message_size up to {}, or a larger segment_size", show_size(room));
        top.reader.mistake(&span, what, &allowed);
    }
    if config.store.batch_size > config.store.segment_size {
        let mut section = top.section("store");
        let span =
            section.span("batch_size").or_else(|| section.span("segment_size")).unwrap_or(0..0);
        let what = "`store.batch_size` is larger than `store.segment_size`";
        top.reader.mistake(&span, what, "a batch that fits a segment");
    }
}

/// The name of this machine, if it is one that mail can use.
fn machine_name() -> HostName {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    HostName::parse(kernel.trim())
        .or_else(|| HostName::parse("localhost"))
        .expect("localhost is a host name")
}

pub(super) fn path(
    section: &mut Section<'_, '_, '_>,
    name: &'static str,
    default: Option<&str>,
) -> Option<PathBuf> {
    let read = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    section.word(name, default.map(PathBuf::from), A_PATH, read, |path| path.display().to_string())
}

fn shards(top: &mut Section<'_, '_, '_>) -> Shards {
    let allowed = format!("\"cores\" or a number from 1 to {}", limits::SHARDS_MAX);
    let read = |value: &DeValue<'_>| match value {
        DeValue::String(word) if word == "cores" => Some(Shards::Cores),
        DeValue::Integer(number) => {
            let count = u16::from_str_radix(number.as_str(), number.radix()).ok()?;
            let count = NonZeroU16::new(count).filter(|count| count.get() <= limits::SHARDS_MAX)?;
            Some(Shards::Count(count))
        }
        _ => None,
    };
    let show = |shards: &Shards| match shards {
        Shards::Cores => Some("\"cores\"".into()),
        Shards::Count(count) => Some(count.to_string()),
    };
    top.value("shards", Shards::Cores, &allowed, read, show)
}

fn sandbox(top: &mut Section<'_, '_, '_>) -> Sandbox {
    const NAMES: [(&str, Sandbox); 3] = [
        ("best-effort", Sandbox::BestEffort),
        ("required", Sandbox::Required),
        ("off", Sandbox::Off),
    ];
    top.value(
        "sandbox",
        Sandbox::BestEffort,
        "\"best-effort\", \"required\" or \"off\"",
        |value| {
            let word = value.as_str()?;
            NAMES.iter().find(|(name, _)| *name == word).map(|(_, sandbox)| *sandbox)
        },
        |sandbox| NAMES.iter().find(|(_, one)| one == sandbox).map(|(name, _)| format!("{name:?}")),
    )
}

/// The protocols whose names are promised and whose servers do not exist yet.
const NOT_BUILT: [&str; 1] = ["sieve"];

fn listen(mut section: Section<'_, '_, '_>) -> Listen {
    let mut all: Vec<(SocketAddr, Range<usize>)> = Vec::new();
    let mut take = |section: &mut Section<'_, '_, '_>, name: &'static str| {
        let addresses = section.sockets(name, None).unwrap_or_default();
        let span = section.span(name).unwrap_or(0..0);
        all.extend(addresses.iter().map(|address| (*address, span.clone())));
        addresses
    };
    let smtp = take(&mut section, "smtp");
    let lmtp = take(&mut section, "lmtp");
    let submission = take(&mut section, "submission");
    let submissions = take(&mut section, "submissions");
    let pop3 = take(&mut section, "pop3");
    let imap = take(&mut section, "imap");
    let pop3s = take(&mut section, "pop3s");
    let imaps = take(&mut section, "imaps");
    // Clients of port 25 speak SMTP, and take one answer for all recipients (RFC 2033 §5).
    if let (true, Some(span)) = (lmtp.iter().any(|one| one.port() == 25), section.span("lmtp")) {
        section.reader.mistake(&span, "LMTP cannot be on port 25", "another port");
    }
    let admin = section.word(
        "admin",
        None,
        "\"ip:port\", for IPv6 \"[ip]:port\"",
        |text| text.parse().ok(),
        SocketAddr::to_string,
    );
    if let (Some(address), Some(span)) = (admin, section.span("admin")) {
        all.push((address, span));
    }
    for name in NOT_BUILT {
        let addresses = take_unbuilt(&mut section, name);
        if let (true, Some(span)) = (addresses, section.span(name)) {
            let what = format!("`listen.{name}`: not built yet");
            section.reader.mistake(&span, what, "leave it out");
        }
    }
    // The kernel would share one address between both protocols, connection by connection.
    for (index, (address, span)) in all.iter().enumerate() {
        let twice = all.iter().take(index).any(|(earlier, _)| earlier == address);
        if twice && address.port() != 0 {
            let what = format!("{address} is listened on twice");
            section.reader.mistake(span, what, "each address once");
        }
    }
    section.end();
    Listen { smtp, lmtp, submission, submissions, pop3, imap, pop3s, imaps, admin }
}

fn take_unbuilt(section: &mut Section<'_, '_, '_>, name: &'static str) -> bool {
    section.sockets(name, None).is_some_and(|addresses| !addresses.is_empty())
}

fn auth(mut section: Section<'_, '_, '_>) -> Auth {
    let mut auth = Auth {
        allow_plaintext: section.flag("allow_plaintext", false),
        mechanisms: mechanisms(&mut section),
        masters: section
            .list("masters", Some(Vec::new()), "a list of addresses", master, Mailbox::to_string)
            .unwrap_or_default(),
        rehash: section.flag("rehash", false),
        scram_iterations: section.count(
            "scram_iterations",
            limits::SCRAM_ITERATIONS,
            4_096..=limits::SCRAM_ITERATIONS_MAX,
        ),
        argon2_memory: section.size("argon2_memory", 19 << 20, 8 << 10..=256 << 20),
        argon2_passes: section.count("argon2_passes", 2, 1..=64),
        argon2_lanes: section.count("argon2_lanes", 1, 1..=16),
        hash_threads: section.count("hash_threads", limits::HASH_THREADS, 1..=256),
        max_waiting_checks: section.count(
            "max_waiting_checks",
            limits::PASSWORD_CHECKS_WAITING_MAX,
            1..=65_536,
        ),
        max_account_checks: section.count(
            "max_account_checks",
            limits::PASSWORD_CHECKS_PER_ACCOUNT_MAX,
            1..=65_536,
        ),
        cache_entries: section.count("cache_entries", limits::AUTH_CACHE_ENTRIES, 0..=100_000_000),
        cache_ttl: section.time("cache_ttl", limits::AUTH_CACHE_TTL, SECOND..=7 * DAY),
        free_failures: section.count("free_failures", limits::LOGIN_FAILURES_FREE, 1..=100_000),
        free_network_failures: section.count(
            "free_network_failures",
            limits::LOGIN_FAILURES_NETWORK_FREE,
            1..=100_000,
        ),
        free_account_failures: section.count(
            "free_account_failures",
            limits::LOGIN_FAILURES_ACCOUNT_FREE,
            1..=100_000,
        ),
        oauth: None,
    };
    auth.oauth = oauth(&mut section, auth.mechanisms);
    section.end();
    auth
}

fn master(text: &str) -> Result<Mailbox, String> {
    Mailbox::parse(text).ok_or_else(|| format!("{text:?} is no address"))
}

/// SCRAM with SHA-1 needs keys of its own, which are made only where it is asked for. What asks for the
/// password in other ways is held to the same list: without a mechanism in it nobody would log in.
fn mechanisms(section: &mut Section<'_, '_, '_>) -> Mechanisms {
    let names: Vec<&str> = sasl::ALL.iter().map(|one| one.name()).collect();
    let read = |text: &str| {
        let found = Mechanism::find(text.as_bytes());
        found.ok_or_else(|| format!("{text:?} is no mechanism"))
    };
    let show = |one: &Mechanism| one.name().to_owned();
    let allowed = format!("a list of {}", names.join(", "));
    let is_usual = |one: &Mechanism| !matches!(one, Mechanism::Scram { hash: Hash::Sha1, .. });
    let usual = sasl::ALL.into_iter().filter(is_usual).collect();
    let all = section.list("mechanisms", Some(usual), &allowed, read, show);
    let all: Mechanisms = all.unwrap_or_default().into_iter().collect();
    if let (true, Some(span)) = (all.is_empty(), section.span("mechanisms")) {
        let what = "`auth.mechanisms` is empty: nobody could log in";
        section.reader.mistake(&span, what, &allowed);
    }
    all
}

/// A list of mechanisms that all stand on something that is not set is as good as an empty one.
fn somebody_logs_in(top: &mut Section<'_, '_, '_>, config: &Config) {
    let mechanisms = config.auth.mechanisms;
    let is_judged = config.auth.oauth.is_some();
    let is_asked = config.tls.clients.as_ref().is_some_and(|clients| !clients.asked.is_empty());
    let can_be_used = |one: Mechanism| match one {
        Mechanism::External => is_asked,
        _ => is_judged || !one.takes_tokens(),
    };
    if mechanisms.is_empty() || mechanisms.each().any(can_be_used) {
        return;
    }
    let mut missing = Vec::new();
    if mechanisms.has(Mechanism::External) {
        missing.push("`tls.client_ca` and `tls.client_listeners`");
    }
    if mechanisms.each().any(Mechanism::takes_tokens) {
        missing.push("[auth.oauth]");
    }
    let what = format!(
        "`auth.mechanisms` has nothing but {}, without {}: nobody could log in",
        mechanisms.to_string().replace(' ', ", "),
        missing.join(" and ")
    );
    let span = top.section("auth").span("mechanisms").unwrap_or(0..0);
    top.reader.mistake(&span, what, "what they need, or PLAIN, LOGIN or SCRAM beside them");
}

fn directory(mut section: Section<'_, '_, '_>) -> Directory {
    let separator = section.value(
        "subaddress_separator",
        Some('+'),
        "one of + - _ = # or \"\" for none",
        |value| match value.as_str()? {
            "" => Some(None),
            "+" => Some(Some('+')),
            "-" => Some(Some('-')),
            "_" => Some(Some('_')),
            "=" => Some(Some('=')),
            "#" => Some(Some('#')),
            _ => None,
        },
        |separator| Some(format!("{:?}", separator.map_or(String::new(), String::from))),
    );
    let postmaster =
        section.word("postmaster", None, "an address", Mailbox::parse, Mailbox::to_string);
    section.end();
    Directory { subaddress_separator: separator, postmaster }
}

fn smtp(mut section: Section<'_, '_, '_>) -> Smtp {
    let smtp = Smtp {
        max_message_size: section.size(
            "max_message_size",
            limits::MESSAGE_OCTETS_MAX,
            64 << 10..=(4 << 30) - SEGMENT_OVERHEAD_OCTETS,
        ),
        max_command_length: section.size(
            "max_command_length",
            limits::SMTP_LINE_OCTETS_MAX as u64,
            limits::SMTP_LINE_OCTETS_MIN as u64..=32 << 10,
        ),
        max_line_length: section.size(
            "max_line_length",
            limits::SMTP_TEXT_LINE_OCTETS_MAX as u64,
            1_000..=1 << 30,
        ),
        max_recipients: section.count("max_recipients", limits::SMTP_RECIPIENTS_MAX, 100..=100_000),
        max_errors: section.count("max_errors", limits::SMTP_ERRORS_MAX, 1..=1_000_000),
        max_junk_commands: section.count(
            "max_junk_commands",
            limits::SMTP_JUNK_COMMANDS_MAX,
            1..=1_000_000,
        ),
        max_hops: section.count("max_hops", limits::RECEIVED_HOPS_MAX, 10..=1_000),
        max_pending_commits: section.count(
            "max_pending_commits",
            limits::SMTP_COMMITS_OPEN_MAX,
            1..=4_096,
        ),
        command_timeout: section.time(
            "command_timeout",
            limits::SMTP_COMMAND_TIMEOUT,
            SECOND..=DAY,
        ),
        data_timeout: section.time("data_timeout", limits::SMTP_DATA_TIMEOUT, SECOND..=DAY),
        min_data_rate: section.size("min_data_rate", limits::SMTP_DATA_RATE_MIN, 0..=1 << 20),
        vrfy: section.flag("vrfy", false),
        expn: section.flag("expn", false),
        odd_hello: section.flag("odd_hello", false),
        auth: section.flag("auth", false),
        xclient_networks: section.networks("xclient_networks"),
        relay_networks: section.networks("relay_networks"),
        requiretls: section.flag("requiretls", true),
        deliver_by: section.flag("deliver_by", true),
        min_deliver_by: section.time("min_deliver_by", Duration::ZERO, Duration::ZERO..=30 * DAY),
        mt_priority: section.flag("mt_priority", true),
        priority_policy: priority_policy(&mut section),
    };
    section.end();
    smtp
}

/// RFC 6710 §7: a word that EHLO tells, such as those of §9.2.
fn priority_policy(section: &mut Section<'_, '_, '_>) -> Option<String> {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    let read = |text: &str| {
        let is_sound = (1..=20).contains(&text.len()) && text.bytes().all(is_letter);
        is_sound.then(|| text.to_owned())
    };
    let allowed = "the name of a policy, such as \"MIXER\": 1 to 20 of letters, digits, - _ .";
    section.word("priority_policy", None, allowed, read, String::clone)
}

fn submission(mut section: Section<'_, '_, '_>) -> Submission {
    let max_recipients =
        section.count("max_recipients", limits::SUBMISSION_RECIPIENTS_MAX, 100..=100_000);
    let mut rate = |name, default| section.count(name, default, 0..=1_000_000_000);
    let rates = Rates {
        messages_an_hour: rate("messages_per_hour", limits::SUBMISSION_MESSAGES_AN_HOUR),
        messages_a_day: rate("messages_per_day", limits::SUBMISSION_MESSAGES_A_DAY),
        recipients_an_hour: rate("recipients_per_hour", limits::SUBMISSION_RECIPIENTS_AN_HOUR),
        recipients_a_day: rate("recipients_per_day", limits::SUBMISSION_RECIPIENTS_A_DAY),
    };
    let from = section.value(
        "from",
        FromCheck::default(),
        "\"refuse\", \"sender\" or \"take\"",
        |value| {
            let word = value.as_str()?;
            FromCheck::NAMES.iter().find(|(name, _)| *name == word).map(|(_, check)| *check)
        },
        |check| {
            let name = FromCheck::NAMES.iter().find(|(_, known)| known == check);
            name.map(|(name, _)| format!("{name:?}"))
        },
    );
    let hide_client = section.flag("hide_client", false);
    let priority_max =
        section.count("max_priority", limits::PRIORITY_MAX, 0..=limits::PRIORITY_MAX);
    let max_hold =
        section.time("max_hold", limits::SUBMISSION_HOLD_MAX, Duration::ZERO..=366 * DAY);
    let send_as = section.sections("allow", send_as).into();
    section.end();
    let policy = submission::Settings { from, hide_client, priority_max, rates, send_as };
    Submission { max_recipients, max_hold, policy }
}

fn send_as(mut section: Section<'_, '_, '_>) -> Option<SendAs> {
    let allowed = "an address";
    let user = section.word("user", None, allowed, Mailbox::parse, Mailbox::to_string);
    section.demand("user", user.is_none(), allowed);
    let allowed = "a list of addresses; \"*@example.org\" is all of a domain";
    let read = |text: &str| {
        Mailbox::parse(text)
            .map(|one| Address::from_parts(&one.local, one.domain.as_str()))
            .ok_or_else(|| format!("{text:?} is no address"))
    };
    let addresses = section.list("send_as", None, allowed, read, Address::to_string);
    section.demand("send_as", addresses.is_none(), allowed);
    section.end();
    let user = user?.to_string().into();
    addresses.map(|addresses| SendAs { user, addresses })
}

fn pop3(mut section: Section<'_, '_, '_>) -> Pop3 {
    let pop3 = Pop3 {
        idle_timeout: section.time("idle_timeout", limits::POP3_IDLE_TIMEOUT, SECOND..=DAY),
        max_errors: section.count("max_errors", limits::POP3_ERRORS_MAX, 1..=1_000_000),
        max_failed_logins: section.count(
            "max_failed_logins",
            limits::POP3_LOGINS_FAILED_MAX,
            1..=u8::MAX,
        ),
    };
    section.end();
    pop3
}

fn imap(mut section: Section<'_, '_, '_>) -> Imap {
    let imap = Imap {
        idle_timeout: section.time("idle_timeout", limits::IMAP_IDLE_TIMEOUT, SECOND..=DAY),
        idle_keepalive: section.time(
            "idle_keepalive",
            limits::IMAP_IDLE_KEEPALIVE,
            Duration::ZERO..=DAY,
        ),
        login_timeout: section.time("login_timeout", limits::IMAP_LOGIN_TIMEOUT, SECOND..=DAY),
        max_errors: section.count("max_errors", limits::IMAP_ERRORS_MAX, 1..=1_000_000),
        max_failed_logins: section.count(
            "max_failed_logins",
            limits::IMAP_LOGINS_FAILED_MAX,
            1..=u8::MAX,
        ),
        message_limit: message_limit(&mut section),
        hidden: hidden(&mut section, "capabilities_hidden"),
        clients: section.sections("client", imap_client),
    };
    section.end();
    imap
}

/// 1000 is the least that RFC 9738 §3 thinks right.
fn message_limit(section: &mut Section<'_, '_, '_>) -> Option<NonZeroU32> {
    let read = |value: &DeValue<'_>| match value {
        DeValue::Integer(number) => {
            let limit = u32::from_str_radix(number.as_str(), number.radix()).ok()?;
            matches!(limit, 0 | 1_000..).then_some(NonZeroU32::new(limit))
        }
        _ => None,
    };
    let show = |limit: &Option<NonZeroU32>| Some(limit.map_or(0, u32::from).to_string());
    section.value("message_limit", None, "0 for none, or a number from 1000 on", read, show)
}

/// A list of names of capabilities.
fn hidden(section: &mut Section<'_, '_, '_>, name: &'static str) -> Capabilities {
    let read = |text: &str| {
        let known = Capabilities::named(text)
            .ok_or_else(|| format!("{text:?} is no capability, or one that cannot be hidden"))?;
        Ok(known)
    };
    let show = |one: &Capabilities| one.each().map(|(_, word)| word).collect::<String>();
    let allowed = format!("a list of {}", Capabilities::all_names());
    let all = section.list(name, Some(Vec::new()), &allowed, read, show).unwrap_or_default();
    all.into_iter().fold(Capabilities::NONE, Capabilities::and)
}

/// The fields of ID that tell clients apart (RFC 2971 §3.3).
const CLIENT_FIELDS: [&str; 4] = ["name", "vendor", "version", "os"];

fn imap_client(mut section: Section<'_, '_, '_>) -> Option<imap::Client> {
    let mut fields = Vec::new();
    let mut patterns = section.section("match");
    for name in CLIENT_FIELDS {
        let read = |text: &str| Some(text.to_owned());
        let allowed = "a text in which * stands for any characters";
        let pattern = patterns.word(name, None, allowed, read, String::clone);
        fields.extend(pattern.map(|pattern| (name, pattern)));
    }
    patterns.end();
    let hidden = hidden(&mut section, "hide");
    let marks = "{ name = \"…\", vendor = \"…\", version = \"…\", os = \"…\" }, at least one";
    for (name, is_empty, allowed) in
        [("match", fields.is_empty(), marks), ("hide", hidden.is_empty(), "a list of capabilities")]
    {
        section.demand(name, is_empty, allowed);
        if let (true, Some(span)) = (is_empty, section.span(name)) {
            section.reader.mistake(&span, format!("`imap.client.{name}` says nothing"), allowed);
        }
    }
    section.end();
    (!fields.is_empty()).then_some(imap::Client { fields, hidden })
}

fn store(mut section: Section<'_, '_, '_>) -> Store {
    let store = Store {
        segment_size: section.size("segment_size", limits::SEGMENT_OCTETS, 1 << 20..=4 << 30),
        cache_size: section.size("cache_size", limits::CACHE_OCTETS, 0..=1 << 40),
        checkpoint_size: section.size(
            "checkpoint_size",
            limits::CHECKPOINT_OCTETS,
            1 << 20..=1 << 40,
        ),
        checkpoint_interval: section.time(
            "checkpoint_interval",
            limits::CHECKPOINT_INTERVAL,
            SECOND..=DAY,
        ),
        batch_size: section.size(
            "batch_size",
            limits::BATCH_OCTETS_TARGET as u64,
            64 << 10..=256 << 20,
        ),
        max_waiting: section.count("max_waiting", limits::APPENDS_WAITING_MAX, 16..=16_777_216),
        max_size: section.size("max_size", 0, 0..=1 << 50),
        clean: section.flag("clean", true),
        clean_free_percent: section.count("clean_free_percent", limits::CLEAN_FREE_PERCENT, 1..=50),
        clean_share_percent: section.count(
            "clean_share_percent",
            limits::CLEAN_SHARE_PERCENT,
            1..=100,
        ),
        clean_max_commit_ms: section.count(
            "clean_max_commit_ms",
            limits::CLEAN_COMMIT_MS_MAX,
            1..=60_000,
        ),
        compression: compression(&mut section),
        directories: directories(&mut section),
        scrub_interval: section.time(
            "scrub_interval",
            limits::SCRUB_INTERVAL,
            Duration::ZERO..=365 * DAY,
        ),
    };
    if let (false, Some(span)) =
        (store.segment_size.is_multiple_of(BLOCK_OCTETS), section.span("segment_size"))
    {
        let what = "`store.segment_size` is no multiple of 4K";
        section.reader.mistake(&span, what, "whole blocks of 4K");
    }
    section.end();
    store
}

/// Directories for logs, each once.
fn directories(section: &mut Section<'_, '_, '_>) -> Vec<PathBuf> {
    let allowed = format!("a list of up to {} directories", limits::STORE_DIRECTORIES_MAX);
    let mut known: Vec<PathBuf> = Vec::new();
    let read = |text: &str| {
        let path = PathBuf::from(text);
        if text.is_empty() || known.contains(&path) {
            return Err(format!("{text:?} is no directory, or named twice"));
        }
        known.push(path.clone());
        Ok(path)
    };
    let show = |path: &PathBuf| path.display().to_string();
    let all =
        section.list("directories", Some(Vec::new()), &allowed, read, show).unwrap_or_default();
    if let (true, Some(span)) =
        (all.len() > limits::STORE_DIRECTORIES_MAX, section.span("directories"))
    {
        let what = format!("`store.directories` names {} directories", all.len());
        section.reader.mistake(&span, what, &allowed);
    }
    all
}

fn compression(section: &mut Section<'_, '_, '_>) -> Compression {
    let name = |one: Compression| match one {
        Compression::None => "none",
        Compression::Zstd => "zstd",
    };
    let read = |word: &str| {
        [Compression::None, Compression::Zstd].into_iter().find(|&one| name(one) == word)
    };
    let default = Compression::default();
    let word = section
        .word("compression", Some(default), "\"none\" or \"zstd\"", read, |&one| name(one).into());
    word.unwrap_or(default)
}

fn process_limits(mut section: Section<'_, '_, '_>) -> Limits {
    let limits = Limits {
        connections: section.count("connections", limits::CONNECTIONS_MAX, 16..=10_000_000),
        connections_per_address: section.count(
            "connections_per_address",
            limits::CONNECTIONS_PER_ADDRESS_MAX,
            0..=10_000_000,
        ),
        draft_memory: section.size(
            "draft_memory",
            limits::DRAFT_OCTETS_MAX as u64,
            1 << 20..=1 << 40,
        ),
        command_memory: section.size(
            "command_memory",
            limits::COMMAND_OCTETS_MAX as u64,
            1 << 20..=1 << 40,
        ),
        mailbox_memory: section.size(
            "mailbox_memory",
            limits::MAILBOX_OCTETS_MAX as u64,
            0..=1 << 44,
        ),
        reply_memory: section.size(
            "reply_memory",
            limits::REPLY_OCTETS_PENDING_MAX as u64,
            16 << 10..=1 << 30,
        ),
        write_timeout: section.time("write_timeout", limits::WRITE_TIMEOUT, SECOND..=DAY),
        mesh_inbox: section.count("mesh_inbox", limits::MESH_INBOX_MAX, 16..=16_777_216),
        drain_timeout: section.time("drain_timeout", limits::DRAIN_TIMEOUT, SECOND..=HOUR),
    };
    section.end();
    limits
}

fn log(mut section: Section<'_, '_, '_>) -> Log {
    let format = section.value(
        "format",
        LogFormat::Logfmt,
        "\"logfmt\" or \"json\"",
        |value| match value.as_str()? {
            "logfmt" => Some(LogFormat::Logfmt),
            "json" => Some(LogFormat::Json),
            _ => None,
        },
        |format| {
            let name = if *format == LogFormat::Json { "json" } else { "logfmt" };
            Some(format!("{name:?}"))
        },
    );
    let level = section.value(
        "level",
        Level::Info,
        "\"error\", \"warn\", \"info\" or \"debug\"",
        |value| Level::parse(value.as_str()?),
        |level| Some(format!("{:?}", level.name())),
    );
    section.end();
    Log { format, level }
}

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Off where no domains are named.
fn acme(mut section: Section<'_, '_, '_>) -> Option<Acme> {
    let url = "an https URL";
    let is_url = |text: &str| text.starts_with("https://").then(|| text.to_owned());
    let directory = section
        .word("directory", Some(LETS_ENCRYPT.to_owned()), url, is_url, String::clone)
        .unwrap_or_default();
    let address =
        |text: &str| Mailbox::parse(text).ok_or_else(|| format!("{text:?} is no address"));
    let contact = section
        .list("contact", Some(Vec::new()), "a list of addresses", address, Mailbox::to_string)
        .unwrap_or_default();
    let domain = |text: &str| {
        HostName::parse(text).ok_or_else(|| format!("{text:?} is no domain that can be proved"))
    };
    let domains = section
        .list("domains", Some(Vec::new()), "a list of host names", domain, HostName::to_string)
        .unwrap_or_default();
    let challenge = section.value(
        "challenge",
        Challenge::Http01,
        "\"http-01\" or \"tls-alpn-01\"",
        |value| match value.as_str()? {
            "http-01" => Some(Challenge::Http01),
            "tls-alpn-01" => Some(Challenge::TlsAlpn01),
            _ => None,
        },
        |challenge| {
            let name = if *challenge == Challenge::Http01 { "http-01" } else { "tls-alpn-01" };
            Some(format!("{name:?}"))
        },
    );
    let port = if challenge == Challenge::Http01 { 80 } else { 443 };
    let everywhere = [SocketAddr::from(([0; 4], port)), SocketAddr::from(([0_u16; 8], port))];
    let listen = section.sockets("listen", Some(everywhere.to_vec())).unwrap_or_default();
    let ca_file = path(&mut section, "ca_file", None);
    let is_name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let name = "the name that the authority gave";
    let account = section.word("external_account", None, name, is_name, String::clone);
    let key = path(&mut section, "external_key_file", None);
    let agreed = section.flag("terms_agreed", false);
    for (lonely, there, missing) in [
        (account.is_some() && key.is_none(), "external_account", "external_key_file"),
        (key.is_some() && account.is_none(), "external_key_file", "external_account"),
        (!domains.is_empty() && !agreed, "domains", "terms_agreed = true"),
    ] {
        if let (true, Some(span)) = (lonely, section.span(there)) {
            let what = format!("`acme.{there}` without `acme.{missing}`");
            section.reader.mistake(&span, what, "both");
        }
    }
    section.end();
    let external = account.zip(key);
    let acme = Acme { directory, contact, domains, challenge, listen, ca_file, external };
    (!acme.domains.is_empty()).then_some(acme)
}
