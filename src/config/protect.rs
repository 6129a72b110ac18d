//! The keys of `[protect]` and `[proxy]`: what is held against clients, and who speaks for them.

use super::names::HostName;
use super::reader::Section;
use super::{Greylist, Protect, Proxy};
use crate::model::limits;
use crate::policy::Checks;
use crate::policy::dns_list::{Answers, List};
use std::time::Duration;

/// Listeners by name, what each checks by default, and what it can check.
const LISTENERS: [(&str, Checks, Checks); 5] = [
    ("smtp", Checks::ALL, Checks::ALL),
    ("lmtp", Checks::NONE, Checks::ALL),
    ("submission", Checks::RATES, Checks::RATES),
    ("pop3", Checks::RATES, Checks::RATES),
    ("imap", Checks::RATES, Checks::RATES),
];

pub(super) fn protect(mut section: Section<'_, '_, '_>) -> Protect {
    let most = 100_000_000;
    let protect = Protect {
        exempt_networks: section.networks_or("exempt_networks", &["127.0.0.0/8", "::1/128"]),
        connections_per_minute: section.count(
            "connections_per_minute",
            limits::CONNECTIONS_PER_MINUTE,
            0..=most,
        ),
        network_connections_per_minute: section.count(
            "network_connections_per_minute",
            limits::NETWORK_CONNECTIONS_PER_MINUTE,
            0..=most,
        ),
        commands_per_minute: section.count(
            "commands_per_minute",
            limits::COMMANDS_PER_MINUTE,
            0..=most,
        ),
        free_unknown_recipients: section.count(
            "free_unknown_recipients",
            limits::UNKNOWN_RECIPIENTS_FREE,
            0..=most,
        ),
        max_unknown_recipients: section.count(
            "max_unknown_recipients",
            limits::UNKNOWN_RECIPIENTS_MAX,
            0..=most,
        ),
        unknown_recipients_per_hour: section.count(
            "unknown_recipients_per_hour",
            limits::UNKNOWN_RECIPIENTS_PER_HOUR,
            0..=most,
        ),
        greet_delay: section.time(
            "greet_delay",
            Duration::ZERO,
            Duration::ZERO..=limits::GREET_DELAY_MAX,
        ),
        refuse_own_hello: section.flag("refuse_own_hello", false),
        refuse_bare_hello: section.flag("refuse_bare_hello", false),
        dns_lists: dns_lists(&mut section),
        dns_lists_reject: section.count("dns_lists_reject", 1, 0..=1_000_000),
        dns_lists_mark: section.count("dns_lists_mark", 1, 0..=1_000_000),
        greylist: greylist(section.section("greylist")),
        checks: checks(section.section("checks")),
    };
    section.end();
    protect
}

fn dns_lists(section: &mut Section<'_, '_, '_>) -> Vec<List> {
    let lists = section.sections("dns_list", dns_list);
    if let (true, Some(span)) = (lists.len() > limits::DNS_LISTS_MAX, section.span("dns_list")) {
        let allowed = format!("at most {}", limits::DNS_LISTS_MAX);
        section.reader.mistake(
            &span,
            "too many lists: each client waits for all of them",
            &allowed,
        );
    }
    lists
}

fn dns_list(mut section: Section<'_, '_, '_>) -> Option<List> {
    let a_zone = "the name of a zone, such as \"zen.spamhaus.org\"";
    let zone = section.word("zone", None, a_zone, HostName::parse, HostName::to_string);
    section.demand("zone", zone.is_none(), a_zone);
    let read =
        |text: &str| Answers::parse(text).ok_or_else(|| format!("{text:?} is no answer of a list"));
    let allowed = "a list of answers within 127.0.0.0/8, such as \"127.0.0.2-11\"";
    let answers =
        section.list("answers", Some(vec![Answers::COMMON]), allowed, read, Answers::to_string);
    let weight = section.value(
        "weight",
        1,
        "a number from -1000000 to 1000000, not 0; below 0 for a list of good addresses",
        |value| {
            let digits = value.as_integer()?;
            let weight = i32::from_str_radix(digits.as_str(), digits.radix()).ok()?;
            (weight != 0 && weight.abs() <= 1_000_000).then_some(weight)
        },
        |weight| Some(weight.to_string()),
    );
    let ipv6 = section.flag("ipv6", true);
    section.end();
    let (zone, answers) = (zone?.to_string().into(), answers.unwrap_or_default());
    Some(List { zone, answers, weight, ipv6 })
}

fn greylist(mut section: Section<'_, '_, '_>) -> Greylist {
    let second = Duration::from_secs(1);
    let days = |days: u64| Duration::from_hours(24 * days);
    let greylist = Greylist {
        enabled: section.flag("enabled", false),
        delay: section.time("delay", limits::GREYLIST_DELAY, second..=days(1)),
        window: section.time("window", limits::GREYLIST_WINDOW, second..=days(30)),
        keep: section.time("keep", limits::GREYLIST_KEEP, second..=days(400)),
        network_passes: section.count("network_passes", limits::GREYLIST_NETWORK_PASSES, 1..=15),
        entries: section.count("entries", limits::GREYLIST_ENTRIES, 1 << 10..=1 << 30),
    };
    if let (true, Some(span)) = (greylist.window <= greylist.delay, section.span("window")) {
        let what = "`protect.greylist.window` ends before `delay` is over";
        section.reader.mistake(&span, what, "a window longer than the delay");
    }
    section.end();
    greylist
}

fn checks(mut section: Section<'_, '_, '_>) -> Vec<(&'static str, Checks)> {
    let of = |section: &mut Section<'_, '_, '_>, (name, default, possible)| {
        let default: Checks = default;
        let possible: Checks = possible;
        let allowed = format!("a list of {possible}");
        let read = |text: &str| {
            let known = Checks::named(text).filter(|&check| possible.has(check));
            known.ok_or_else(|| format!("{text:?} is no check that {name} makes"))
        };
        let default = default.each().map(|(_, check)| check).collect();
        let all = section.list(name, Some(default), &allowed, read, Checks::to_string);
        (name, all.unwrap_or_default().into_iter().fold(Checks::NONE, Checks::and))
    };
    let all = LISTENERS.map(|listener| of(&mut section, listener));
    section.end();
    all.into()
}

pub(super) fn proxy(mut section: Section<'_, '_, '_>) -> Proxy {
    let names = LISTENERS.map(|(name, _, _)| name);
    let allowed = format!("a list of {}", names.join(", "));
    let read = |text: &str| {
        let known = names.into_iter().find(|name| *name == text);
        known.ok_or_else(|| format!("{text:?} is no listener"))
    };
    let show = |name: &&'static str| (*name).to_owned();
    let proxy = Proxy {
        networks: section.networks("networks"),
        listeners: section
            .list("listeners", Some(names.into()), &allowed, read, show)
            .unwrap_or_default(),
        timeout: section.time(
            "timeout",
            limits::PROXY_TIMEOUT,
            Duration::from_secs(1)..=Duration::from_mins(5),
        ),
    };
    section.end();
    proxy
}
