//! `[queue]`, `[[site]]` and `[[route]]`: how mail leaves for other servers.

use super::names::{DomainPattern, RelayHost};
use super::reader::{Section, whole};
use super::sections::path;
use super::tls_policy;
use super::units::{show_time, time};
use super::{Config, Login, Queue, Route, Site, Source};
use crate::model::limits;
use crate::proto::smtp::client::Timeouts;
use crate::queue::sites::Rate;
use crate::queue::warmup::{USUAL, Warmup};
use crate::tls::Level;
use crate::wire::date::days;
use std::net::IpAddr;
use std::time::Duration;
use toml::de::DeValue;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const RATES: &str = "a list of rates such as \"10/s\", \"100/m\", \"1000/h\", \"5000/d\"";

pub(super) fn queue(mut section: Section<'_, '_, '_>) -> Queue {
    let times = Timeouts::default();
    let queue = Queue {
        retry: times_of(&mut section, "retry", &[MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR]),
        lifetime: section.time("lifetime", 5 * DAY, MINUTE..=100 * DAY),
        report_lifetime: section.time("report_lifetime", DAY, MINUTE..=100 * DAY),
        delay_warning: section.time("delay_warning", 4 * HOUR, Duration::ZERO..=100 * DAY),
        max_entries: section.count("max_entries", limits::QUEUE_ENTRIES_MAX, 1..=4_000_000_000),
        connections: section.count("connections", 2_000, 1..=1_000_000),
        memory: section.size("memory", 512 << 20, 1 << 20..=1 << 40),
        port: section.count("port", 25, 1..=65_535),
        hosts_per_attempt: section.count("hosts_per_attempt", 5, 1..=64),
        idle: section.time("idle", 2 * SECOND, Duration::ZERO..=HOUR),
        messages_per_connection: section.count("messages_per_connection", 1_000, 1..=1_000_000_000),
        connection_lifetime: section.time("connection_lifetime", 5 * MINUTE, SECOND..=DAY),
        site_connections: section.count("site_connections", 20, 1..=100_000),
        site_first_connections: section.count("site_first_connections", 5, 1..=100_000),
        site_rates: rates(&mut section, "site_rates"),
        site_retry: times_of(
            &mut section,
            "site_retry",
            &[MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE],
        ),
        tls: tls_policy::level(&mut section, Some(Level::May)).unwrap_or(Level::May),
        dane: section.flag("dane", true),
        ca_file: path(&mut section, "ca_file", None),
        sources: addresses(&mut section, "sources"),
        timeouts: Timeouts {
            connect: section.time("connect_timeout", times.connect, SECOND..=HOUR),
            greeting: section.time("greeting_timeout", times.greeting, SECOND..=HOUR),
            hello: section.time("hello_timeout", times.hello, SECOND..=HOUR),
            handshake: section.time("handshake_timeout", times.handshake, SECOND..=HOUR),
            mail: section.time("mail_timeout", times.mail, SECOND..=HOUR),
            rcpt: section.time("rcpt_timeout", times.rcpt, SECOND..=HOUR),
            data: section.time("data_timeout", times.data, SECOND..=HOUR),
            block: section.time("block_timeout", times.block, SECOND..=HOUR),
            message: section.time("message_timeout", times.message, SECOND..=HOUR),
            reset: section.time("reset_timeout", times.reset, SECOND..=HOUR),
            quit: section.time("quit_timeout", times.quit, SECOND..=HOUR),
        },
    };
    section.end();
    queue
}

fn times_of(
    section: &mut Section<'_, '_, '_>,
    name: &'static str,
    default: &[Duration],
) -> Vec<Duration> {
    let allowed = "a list of times from 1s to 7d";
    let read = |text: &str| {
        time(text)
            .filter(|pause| (SECOND..=7 * DAY).contains(pause))
            .ok_or_else(|| format!("{text:?} is no such time"))
    };
    let times = section
        .list(name, Some(default.to_vec()), allowed, read, |pause| show_time(*pause))
        .unwrap_or_default();
    if let (true, Some(span)) = (times.is_empty(), section.span(name)) {
        section.reader.mistake(&span, format!("`{name}` is empty"), allowed);
    }
    if times.is_empty() { default.to_vec() } else { times }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    let period = match unit {
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    Some(Rate { count, period })
}

fn show_rate(rate: &Rate) -> String {
    let unit = match rate.period {
        SECOND => "s",
        MINUTE => "m",
        HOUR => "h",
        _ => "d",
    };
    format!("{}/{unit}", rate.count)
}

fn rates(section: &mut Section<'_, '_, '_>, name: &'static str) -> Vec<Rate> {
    let read = |text: &str| parse_rate(text).ok_or_else(|| format!("{text:?} is no rate"));
    section.list(name, Some(Vec::new()), RATES, read, show_rate).unwrap_or_default()
}

fn addresses(section: &mut Section<'_, '_, '_>, name: &'static str) -> Vec<IpAddr> {
    let read = |text: &str| text.parse().map_err(|_| format!("{text:?} is no address"));
    let allowed = "a list of addresses of this machine";
    section.list(name, Some(Vec::new()), allowed, read, IpAddr::to_string).unwrap_or_default()
}

/// What holds for some sites instead of what `[queue]` says.
pub(super) fn site(mut section: Section<'_, '_, '_>) -> Option<Site> {
    let allowed = "a domain, the name of a server, or \"*.domain\"";
    let pattern = section.word("match", None, allowed, DomainPattern::parse, |_| String::new());
    section.demand("match", pattern.is_none(), allowed);
    // Zero: as [queue] has it.
    let connections = section.count("connections", 0, 0..=100_000);
    let first_connections = section.count("first_connections", 0, 0..=100_000);
    let rates = rates(&mut section, "rates");
    let sources = addresses(&mut section, "sources");
    section.end();
    Some(Site { pattern: pattern?, connections, first_connections, rates, sources })
}

/// A day as in `2026-11-29`, in days since 1970; until 2100.
fn parse_day(text: &str) -> Option<u32> {
    let mut parts = text.split('-');
    let mut part = |digits| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|octet| octet.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_whole = parts.next().is_none() && (1970..2100).contains(&year);
    days(year, month, day).filter(|_| is_whole).and_then(|day| u32::try_from(day).ok())
}

/// An address that is being warmed up.
pub(super) fn source(mut section: Section<'_, '_, '_>) -> Option<Source> {
    let of_us = "an address of this machine";
    let read = |text: &str| text.parse().ok();
    let address = section.word("address", None, of_us, read, IpAddr::to_string);
    let a_day = "a day such as \"2026-11-29\"";
    let since = section.word("since", None, a_day, parse_day, |_| String::new());
    section.demand("address", address.is_none(), of_us);
    section.demand("since", since.is_none(), a_day);
    let count = |item: &DeValue<'_>| {
        let count = whole(item).and_then(|count| u32::try_from(count).ok());
        count.filter(|count| (1..=1_000_000_000).contains(count))
    };
    let per_day = section.value(
        "per_day",
        USUAL.to_vec(),
        "a list of numbers of messages, from 1 to 1000000000, a day each",
        |value| {
            let DeValue::Array(items) = value else { return None };
            let counts = items.iter().map(|item| count(item.get_ref()));
            counts.collect::<Option<Vec<u32>>>().filter(|counts| !counts.is_empty())
        },
        |_| None,
    );
    section.end();
    let (address, since) = address.zip(since)?;
    Some(Source { address, warmup: Warmup { since, per_day } })
}

/// An address has one schedule, and belongs to a pool.
pub(super) fn sources_are_used(top: &mut Section<'_, '_, '_>, config: &Config) {
    let all = || config.sites.iter().map(|site| &site.sources).chain([&config.queue.sources]);
    let mut wrong = Vec::new();
    for (place, source) in config.sources.iter().enumerate() {
        let address = source.address;
        if config.sources.iter().take(place).any(|other| other.address == address) {
            wrong.push((format!("{address} is a source twice"), "each address once"));
        } else if !all().any(|pool| pool.contains(&address)) {
            let what = format!("{address} is warmed up, and in no list of addresses to send from");
            wrong.push((what, "one in `queue.sources`, or `sources` of a [[site]]"));
        }
    }
    let span = top.span("source").unwrap_or_default();
    for (what, allowed) in wrong {
        top.reader.mistake(&span, what, allowed);
    }
}

pub(super) fn route(mut section: Section<'_, '_, '_>) -> Option<Route> {
    let pattern = "a domain, \"*.domain\" or \"*\"";
    let domain = section.word("domain", None, pattern, DomainPattern::parse, |_| String::new());
    let host = "\"host:port\" or \"[ip]:port\"";
    let relay = section.word("relay", None, host, RelayHost::parse, |_| String::new());
    for (name, missing, allowed) in
        [("domain", domain.is_none(), pattern), ("relay", relay.is_none(), host)]
    {
        section.demand(name, missing, allowed);
    }
    let lmtp = section.value(
        "protocol",
        false,
        "\"smtp\" or \"lmtp\"",
        |value| match value.as_str()? {
            "smtp" => Some(false),
            "lmtp" => Some(true),
            _ => None,
        },
        |_| None,
    );
    let is_name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let user = section.word("user", None, "a user name", is_name, String::clone);
    let password_file = path(&mut section, "password_file", None);
    let lonely = match (&user, &password_file) {
        (Some(_), None) => section.span("user"),
        (None, Some(_)) => section.span("password_file"),
        _ => None,
    };
    if let Some(span) = lonely {
        section.reader.mistake(&span, "a user without a password, or the other way round", "both");
    }
    let login = user.zip(password_file).map(|(user, password_file)| Login { user, password_file });
    let allow_plaintext = section.flag("allow_plaintext", false);
    let tls = login_level(&mut section, login.is_some(), allow_plaintext);
    let retry = times_of(&mut section, "retry", &[]);
    let site_retry = times_of(&mut section, "site_retry", &[]);
    let lifetime = own_time(&mut section, "lifetime", MINUTE);
    let report_lifetime = own_time(&mut section, "report_lifetime", MINUTE);
    let delay_warning = own_time(&mut section, "delay_warning", Duration::ZERO);
    section.end();
    let (domain, relay) = domain.zip(relay)?;
    Some(Route {
        domain,
        relay,
        lmtp,
        login,
        allow_plaintext,
        tls,
        retry,
        site_retry,
        lifetime,
        report_lifetime,
        delay_warning,
    })
}

/// A time from `least` to 100 days, if it is said.
fn own_time(
    section: &mut Section<'_, '_, '_>,
    name: &'static str,
    least: Duration,
) -> Option<Duration> {
    let allowed = format!("a time from {} to 100d (s, m, h, d)", show_time(least));
    let read = |text: &str| time(text).filter(|time| (least..=100 * DAY).contains(time));
    section.word(name, None, &allowed, read, |time| show_time(*time))
}

/// The level of a route: who gets a password proves who he is, if the operator does not say otherwise.
fn login_level(
    section: &mut Section<'_, '_, '_>,
    has_login: bool,
    allow_plaintext: bool,
) -> Option<Level> {
    let level = tls_policy::level(section, None);
    if !has_login {
        return level;
    }
    let is_open = matches!(level, Some(Level::None | Level::May));
    if let (true, false, Some(span)) = (is_open, allow_plaintext, section.span("tls")) {
        let what = "with this `tls` a route would show its password to whoever listens";
        let allowed = "\"verify\" or \"encrypt\", or `allow_plaintext = true` beside it";
        section.reader.mistake(&span, what, allowed);
    }
    Some(level.unwrap_or(Level::Prove))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_days() {
        assert_eq!(parse_day("1970-01-02"), Some(1));
        assert_eq!(parse_day("2026-11-29"), Some(20_786));
        for bad in
            ["", "2026-11-31", "2026-11-9", "2026-11-29-", "26-11-29", "2100-01-01", "+026-11-29"]
        {
            assert_eq!(parse_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_rates_as_it_writes_them() {
        for text in ["1/s", "20/m", "300/h", "4000/d"] {
            assert_eq!(show_rate(&parse_rate(text).unwrap()), text);
        }
        for bad in ["", "1", "/s", "0/s", "-1/s", "1/x", "1/ s"] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }
}
