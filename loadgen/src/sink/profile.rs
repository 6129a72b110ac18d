//! Who the sink is: sites by the address that a client comes to, domains by the recipient.
//!
//! ```toml
//! [default]                             # what holds where nothing else is said
//! extensions = ["PIPELINING", "SIZE 10485760", "8BITMIME", "STARTTLS"]
//! delay = "20ms"                        # before each answer
//! delays = { dot = "2s" }               # at one moment, instead
//!
//! [[site]]
//! listen = ["127.0.0.3:2525", "127.0.0.10-127.0.0.20:25,2525"]
//! name = "mx.busy.test"
//! connections_max = 20                  # 421 above
//! recipients_max = 50                   # 452 above
//! messages_max = 10                     # of one connection; 421 above
//! rate = "100/s"                        # messages; 450 above
//! lmtp = true
//! rule = [
//!     { at = "rcpt", code = 451, text = "4.2.0 grey", first = 1 },
//!     { at = "dot", do = "drop", chance = 0.01 },
//!     { at = "connect", code = 421, after = "10s", for = "30s" },
//! ]
//!
//! [[site]]
//! listen = ["127.0.0.4:2525"]
//! blackhole = true                      # connections are never made
//!
//! [[domain]]
//! names = ["full.test", "*.full.test"]  # *: any name below
//! rule = [{ at = "rcpt", code = 552, text = "5.2.2 full" }]
//! ```
//!
//! A site or domain takes what it does not say from the default; a list of rules is taken
//! whole. What is said of a domain holds for RCPT, and for the message where the first
//! recipient is of that domain, instead of what the site says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pombal::bytes::hash::{Map, Sorted};
use serde::Deserialize;

use super::address::parse_listen;
use super::rule::{Rule, STAGES, Stage, Time, Written};
use crate::values::{float, nanoseconds, parse_rate, whole};

/// What is offered where nothing is said.
const EXTENSIONS: [&str; 6] =
    ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"];

/// A profile as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenProfile {
    pub(crate) default: Section,
    #[serde(rename = "site")]
    pub(crate) sites: Vec<Section>,
    #[serde(rename = "domain")]
    pub(crate) domains: Vec<Section>,
}

/// What may be said of the default, of a site or of a domain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    pub(crate) listen: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) name: Option<String>,
    pub(crate) extensions: Option<Vec<String>>,
    pub(crate) lmtp: Option<bool>,
    pub(crate) delay: Option<Time>,
    pub(crate) delays: Sorted<Stage, Time>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) recipients_max: Option<usize>,
    pub(crate) messages_max: Option<u64>,
    pub(crate) rate: Option<String>,
    pub(crate) blackhole: bool,
    #[serde(rename = "rule")]
    pub(crate) rules: Option<Vec<Written>>,
}

/// How a site or a domain behaves.
#[derive(Debug)]
pub(crate) struct Manners {
    pub(crate) delays: [Duration; STAGES],
    pub(crate) rules: Vec<Rule>,
    rate: Option<Rate>,
}

impl Manners {
    /// Is there room for one more message, `now` after the start?
    pub(crate) fn has_room(&self, now: Duration) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.has_room(now))
    }
}

/// Addresses that share a behaviour and its limits.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) listen: Vec<SocketAddr>,
    /// What it calls itself.
    pub(crate) name: Box<str>,
    /// Lines of the answer to EHLO.
    pub(crate) extensions: Vec<Box<str>>,
    pub(crate) lmtp: bool,
    pub(crate) connections_max: usize,
    pub(crate) recipients_max: usize,
    pub(crate) messages_max: u64,
    pub(crate) blackhole: bool,
    pub(crate) manners: Manners,
    /// Octets of a message; `None` where SIZE names none.
    pub(crate) size_max: Option<u64>,
    /// Connections that are open.
    pub(crate) open: AtomicUsize,
}

impl Site {
    pub(crate) fn offers(&self, keyword: &str) -> bool {
        self.extensions.iter().any(|line| keyword_of(line).eq_ignore_ascii_case(keyword))
    }
}

fn keyword_of(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// A rate that is kept with one second's worth of room.
#[derive(Debug)]
struct Rate {
    each_ns: u64,
    /// Nanoseconds since the start at which all that was let through would be through.
    until_ns: AtomicU64,
}

impl Rate {
    fn has_room(&self, now: Duration) -> bool {
        let (now, room) = (nanoseconds(now), 1_000_000_000_u64.max(self.each_ns));
        self.until_ns
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
                let until = until.max(now) + self.each_ns;
                (until <= now + room).then_some(until)
            })
            .is_ok()
    }
}

/// All sites and domains.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) sites: Vec<Site>,
    domains: Vec<Manners>,
    /// By their names, small letters.
    exact: Map<Box<str>, usize>,
    /// What follows `*.`.
    below: Map<Box<str>, usize>,
}

impl Profile {
    /// Reads a profile.
    pub(crate) fn parse(text: &str) -> Result<WrittenProfile, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Makes sense of what is written.
    pub(crate) fn new(written: &WrittenProfile) -> Result<Profile, String> {
        let WrittenProfile { default, sites, domains } = written;
        if !default.listen.is_empty() || !default.names.is_empty() || default.blackhole {
            return Err("[default] has no `listen`, `names` or `blackhole`".into());
        }
        let mut number = 0;
        let mut made = Profile {
            sites: Vec::new(),
            domains: Vec::new(),
            exact: Map::default(),
            below: Map::default(),
        };
        for section in sites {
            made.sites.push(make_site(section, default, &mut number)?);
        }
        for section in domains {
            made.add_domain(section, default, &mut number)?;
        }
        if made.sites.is_empty() {
            return Err("nothing to listen at: --listen, or a [[site]] in --profile".into());
        }
        let mut all: Vec<SocketAddr> =
            made.sites.iter().flat_map(|site| site.listen.iter().copied()).collect();
        all.retain(|address| address.port() != 0);
        all.sort_unstable();
        if let Some([twice, _]) = all.array_windows().find(|[first, second]| first == second) {
            return Err(format!("{twice} is listened at twice"));
        }
        Ok(made)
    }

    fn add_domain(
        &mut self,
        section: &Section,
        default: &Section,
        number: &mut u64,
    ) -> Result<(), String> {
        let is_site = !section.listen.is_empty()
            || section.name.is_some()
            || section.extensions.is_some()
            || section.lmtp.is_some()
            || section.connections_max.is_some()
            || section.recipients_max.is_some()
            || section.messages_max.is_some()
            || section.blackhole;
        if is_site || section.names.is_empty() {
            return Err(
                "a [[domain]] has `names`, and besides `delay`, `delays`, `rate` and `rule` alone"
                    .into(),
            );
        }
        let manners = make_manners(section, default, number)?;
        let here =
            |moment: &Stage| matches!(moment, Stage::Rcpt | Stage::Data | Stage::Body | Stage::Dot);
        let rules = section.rules.iter().flatten().map(Written::stage);
        if let Some(stage) = section.delays.keys().copied().chain(rules).find(|at| !here(at)) {
            return Err(format!("at {:?} no domain is known", stage.label()));
        }
        for name in &section.names {
            let name = name.to_ascii_lowercase();
            let (names, name) = match name.strip_prefix("*.") {
                Some(below) => (&mut self.below, below.to_owned()),
                None => (&mut self.exact, name),
            };
            if names.insert(name.clone().into(), self.domains.len()).is_some() {
                return Err(format!("the domain {name} is there twice"));
            }
        }
        self.domains.push(manners);
        Ok(())
    }

    /// How the domain of a recipient behaves, where something is said of it.
    pub(crate) fn domain(&self, recipient: &str) -> Option<&Manners> {
        if self.domains.is_empty() {
            return None;
        }
        let (_, domain) = recipient.rsplit_once('@')?;
        let domain = domain.to_ascii_lowercase();
        let mut rest = domain.as_str();
        let mut found = self.exact.get(rest);
        while found.is_none() {
            (_, rest) = rest.split_once('.')?;
            found = self.below.get(rest);
        }
        found.and_then(|index| self.domains.get(*index))
    }
}

fn make_site(section: &Section, default: &Section, number: &mut u64) -> Result<Site, String> {
    if section.listen.is_empty() || !section.names.is_empty() {
        return Err("a [[site]] has `listen` and no `names`".into());
    }
    let listen: Vec<Vec<SocketAddr>> =
        section.listen.iter().map(|text| parse_listen(text)).collect::<Result<_, _>>()?;
    let extensions: Vec<Box<str>> =
        match section.extensions.as_ref().or(default.extensions.as_ref()) {
            None => EXTENSIONS.map(Into::into).to_vec(),
            Some(lines) => lines.iter().map(|line| line.as_str().into()).collect(),
        };
    let is_line = |text: &str| text.bytes().all(|octet| (b' '..0x7f).contains(&octet));
    if let Some(line) = extensions.iter().find(|line| line.is_empty() || !is_line(line)) {
        return Err(format!("{line:?} is no extension"));
    }
    let size = extensions.iter().find(|line| keyword_of(line).eq_ignore_ascii_case("SIZE"));
    let size_max = match size.and_then(|line| line.split_once(' ')) {
        None => None,
        Some((_, octets)) => {
            Some(octets.parse().map_err(|_| format!("SIZE {octets}: that is no number"))?)
        }
    };
    let name = section.name.as_deref().or(default.name.as_deref()).unwrap_or("sink.example.test");
    if name.is_empty() || !is_line(name) || name.contains(' ') {
        return Err(format!("{name:?} is no name"));
    }
    Ok(Site {
        listen: listen.concat(),
        name: name.into(),
        extensions,
        lmtp: section.lmtp.or(default.lmtp).unwrap_or(false),
        connections_max: section.connections_max.or(default.connections_max).unwrap_or(usize::MAX),
        recipients_max: section.recipients_max.or(default.recipients_max).unwrap_or(1_000),
        messages_max: section.messages_max.or(default.messages_max).unwrap_or(u64::MAX),
        blackhole: section.blackhole,
        manners: make_manners(section, default, number)?,
        size_max: size_max.filter(|octets| *octets > 0),
        open: AtomicUsize::new(0),
    })
}

fn make_manners(section: &Section, default: &Section, number: &mut u64) -> Result<Manners, String> {
    let every = section.delay.or(default.delay).map_or(Duration::ZERO, |time| time.0);
    let mut delays = [every; STAGES];
    for (stage, time) in default.delays.iter().chain(&section.delays) {
        delays[stage.index()] = time.0;
    }
    let mut rules = Vec::new();
    for written in section.rules.as_ref().or(default.rules.as_ref()).into_iter().flatten() {
        *number += 1;
        rules.push(Rule::new(written, *number)?);
    }
    let rate = section.rate.as_ref().or(default.rate.as_ref());
    let rate = rate.map(|text| parse_rate(text)).transpose()?.map(|rate| Rate {
        each_ns: whole(float(1_000_000_000) / rate).max(1),
        until_ns: AtomicU64::new(0),
    });
    Ok(Manners { delays, rules, rate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn profile(text: &str) -> Result<Profile, String> {
        Profile::new(&Profile::parse(text)?)
    }

    #[track_caller]
    fn check_wrong(text: &str, want: &Expect) {
        want.assert_eq(&profile(text).unwrap_err());
    }

    #[test]
    fn the_example_of_the_manual_is_understood() {
        let header = include_str!("profile.rs");
        let (_, example) = header.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("//! ```").unwrap();
        let lines = example.lines().map(|line| line.strip_prefix("//!").unwrap().trim_start());
        let example = lines.collect::<Vec<_>>().join("\n");
        let profile = profile(&example).unwrap();
        assert_eq!((profile.sites.len(), profile.sites[0].listen.len()), (2, 23));
        let site = &profile.sites[0];
        assert_eq!((site.connections_max, site.size_max), (20, Some(10_485_760)));
        assert_eq!(site.manners.delays[Stage::Dot.index()], Duration::from_secs(2));
        assert_eq!(site.manners.delays[Stage::Mail.index()], Duration::from_millis(20));
        assert!(site.offers("starttls") && !site.offers("CHUNKING"));
    }

    #[test]
    fn a_domain_is_found_by_its_name_or_a_name_above() {
        let profile = profile(
            "[[site]]\nlisten = ['127.0.0.1:0']\n\
             [[domain]]\nnames = ['a.test', '*.b.test']\nrule = [{at = 'rcpt', code = 451}]\n\
             [[domain]]\nnames = ['c.b.test']\n",
        )
        .unwrap();
        let rules = |recipient: &str| profile.domain(recipient).map(|found| found.rules.len());
        assert_eq!(rules("x@A.test"), Some(1));
        assert_eq!(rules("x@q.a.test"), None);
        assert_eq!(rules("x@b.test"), None);
        assert_eq!(rules("x@q.r.b.test"), Some(1));
        assert_eq!(rules("x@c.b.test"), Some(0));
        assert_eq!(rules("postmaster"), None);
    }

    #[test]
    fn says_what_is_wrong() {
        check_wrong("", &expect!["nothing to listen at: --listen, or a [[site]] in --profile"]);
        check_wrong(
            "[[site]]\nlisten = ['127.0.0.1:1']\n[[site]]\nlisten = ['127.0.0.1:1']",
            &expect!["127.0.0.1:1 is listened at twice"],
        );
        check_wrong(
            "[[domain]]\nnames = ['a.test']\nrule = [{at = 'mail', code = 451}]",
            &expect![[r#"at "mail" no domain is known"#]],
        );
        check_wrong(
            "[[domain]]\nnames = ['a.test']\nconnections_max = 1",
            &expect![
                "a [[domain]] has `names`, and besides `delay`, `delays`, `rate` and `rule` alone"
            ],
        );
        check_wrong(
            "[[site]]\nlisten = ['127.0.0.1:1']\nextensions = ['SIZE many']",
            &expect!["SIZE many: that is no number"],
        );
        assert!(profile("[[site]]\nlistens = []").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_rate_lets_a_second_through_at_once_and_then_its_pace() {
        let rate = Rate { each_ns: 100_000_000, until_ns: AtomicU64::new(0) };
        let at = |ms| Duration::from_millis(ms);
        assert_eq!((0..30).filter(|_| rate.has_room(at(0))).count(), 10);
        assert!(!rate.has_room(at(99)));
        assert!(rate.has_room(at(100)));
        assert!(!rate.has_room(at(100)));
        assert_eq!((0..30).filter(|_| rate.has_room(at(60_000))).count(), 10);
    }
}
