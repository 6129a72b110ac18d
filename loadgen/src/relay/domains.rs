//! The domains that mail is relayed to: how many, which of them are slow, refusing or dead, what
//! their hosts are called and where they are.
//!
//! ```text
//! d7.slow.relay.test   MX 10 mx7.slow.relay.test   A 127.2.0.8
//!  └ the 7th slow domain      └ host 7 mod hosts       └ network of the class, host mod addresses
//! ```
//!
//! A message's recipients follow from its number alone, so that whoever sees an address knows
//! what is to become of it, and nothing has to be remembered.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::sink::rule::steady_hash;
use crate::values::{float, parse_share, parse_time, to_usize, whole, write_number};

/// Recipients of a message: each has a bit of a mask.
pub(crate) const RECIPIENTS_MAX: u64 = 64;
/// What a share is counted in.
const SHARE_STEPS: u64 = 1 << 32;

/// How the hosts of a domain behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Live,
    Slow,
    /// Says 550 to each recipient.
    Refusing,
    /// Nobody is there.
    Dead,
    /// Of the server itself: the maildrop of the sender.
    Local,
}

impl Class {
    pub(crate) const ALL: [Class; 5] =
        [Class::Live, Class::Slow, Class::Refusing, Class::Dead, Class::Local];
    /// Those that the sink has hosts for.
    pub(crate) const AWAY: [Class; 4] = [Class::Live, Class::Slow, Class::Refusing, Class::Dead];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Class::Live => "live",
            Class::Slow => "slow",
            Class::Refusing => "refusing",
            Class::Dead => "dead",
            Class::Local => "local",
        }
    }
}

/// What connecting to a dead host is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Death {
    /// The port is closed.
    Refuse,
    /// The connection is never made.
    Blackhole,
}

/// The domains and where they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct DomainOptions {
    /// The domain above all domains
    #[arg(long, value_name = "NAME", default_value = "relay.test", value_parser = parse_zone)]
    pub(crate) zone: String,
    /// Domains there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    domains: u64,
    /// Share of them whose hosts are slow, as in 5%
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    slow: f64,
    /// Share of them whose hosts refuse each recipient
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    refusing: f64,
    /// Share of them whose hosts are not there
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    dead: f64,
    /// Mail hosts of each class, which its domains share; without, each domain has its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    hosts: Option<u64>,
    /// Addresses that the hosts of each class share
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    addresses: u32,
    /// Where the addresses begin: live ones here, slow, refusing and dead ones in the networks
    /// (/16) that follow
    #[arg(long, value_name = "ADDRESS", default_value = "127.1.0.0", value_parser = parse_network)]
    network: Ipv4Addr,
    /// What a dead host does
    #[arg(long, value_name = "KIND", default_value = "refuse")]
    pub(crate) death: Death,
    /// Before each answer of a slow host
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) slow_by: Duration,
}

fn parse_zone(text: &str) -> Result<String, String> {
    let is_name = text.split('.').all(|label| {
        !label.is_empty()
            && label.len() < 64
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    });
    if is_name && text.len() < 200 {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no name of a domain"))
    }
}

fn parse_network(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))?;
    let last = address.to_bits().checked_add(4 << 16).map(Ipv4Addr::from_bits);
    if address.is_loopback() && last.is_some_and(|last| last.is_loopback()) {
        Ok(address)
    } else {
        Err(format!("{text}: four networks (/16) from there on are not all of loopback"))
    }
}

/// How many recipients messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipients {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Recipients {
    /// `3` or `1-4`.
    pub(crate) fn parse(text: &str) -> Result<Recipients, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        match (least.parse(), most.parse()) {
            (Ok(least), Ok(most)) if 1 <= least && least <= most && most <= RECIPIENTS_MAX => {
                Ok(Recipients { least, most })
            }
            _ => Err(format!("{text:?}: a number up to {RECIPIENTS_MAX}, or two with - between")),
        }
    }
}

/// Recipients that are the server's own.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    /// Of all messages, those whose first recipient is.
    pub(crate) share: f64,
    /// Whose mail comes to the maildrop of the sender, whatever stands before the `@`.
    pub(crate) domain: String,
}

/// One domain: its class, and its number among those of the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) class: Class,
    pub(crate) number: u64,
}

/// All domains.
#[derive(Clone, Debug)]
pub(crate) struct Domains {
    zone: String,
    /// By class.
    counts: [u64; 4],
    recipients: Recipients,
    local: Option<Local>,
    hosts: Option<u64>,
    addresses: u32,
    network: Ipv4Addr,
    seed: u64,
}

impl Domains {
    /// `seed` chooses the recipients of messages, of which there are so many.
    pub(crate) fn new(
        options: &DomainOptions,
        recipients: Recipients,
        local: Option<Local>,
        seed: u64,
    ) -> Result<Domains, String> {
        let all = options.domains;
        let share = |share: f64| {
            let count = whole((float(all) * share).round());
            if share > 0.0 { count.clamp(1, all) } else { 0 }
        };
        let (slow, refusing, dead) =
            (share(options.slow), share(options.refusing), share(options.dead));
        let live = all
            .checked_sub(slow + refusing + dead)
            .ok_or("--slow, --refusing and --dead are more than all domains")?;
        Ok(Domains {
            zone: options.zone.clone(),
            counts: [live, slow, refusing, dead],
            recipients,
            local,
            hosts: options.hosts,
            addresses: options.addresses,
            network: options.network,
            seed,
        })
    }

    pub(crate) fn zone(&self) -> &str {
        &self.zone
    }

    /// Where reports go.
    pub(crate) fn back(&self) -> String {
        format!("back.{}", self.zone)
    }

    /// Domains of a class.
    fn count(&self, class: Class) -> u64 {
        self.counts.get(class as usize).copied().unwrap_or(0)
    }

    /// The most recipients that a message has.
    pub(crate) fn recipients_max(&self) -> u64 {
        self.recipients.most
    }

    /// The numbers of the recipients of a message.
    pub(crate) fn slots(&self, seq: u64) -> std::ops::Range<u64> {
        let Recipients { least, most } = self.recipients;
        0..least + steady_hash(&(self.seed, seq, "recipients")) % (most - least + 1)
    }

    /// Where a message's first recipient is the server's own: its address. No other recipient is,
    /// so that there is one copy in the maildrop.
    fn local(&self, seq: u64, slot: u64) -> Option<&Local> {
        let chosen = |local: &&Local| {
            let chance = steady_hash(&(self.seed, seq, "local")) % SHARE_STEPS;
            float(chance) < local.share * float(SHARE_STEPS)
        };
        self.local.as_ref().filter(|_| slot == 0).filter(chosen)
    }

    /// What stands in the maildrop was for this address, if it was for anybody.
    pub(crate) fn local_address(&self, seq: u64) -> String {
        let domain = self.local.as_ref().map_or("", |local| &local.domain);
        format!("m{seq}.0@{domain}")
    }

    pub(crate) fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The domain of a recipient: as good as random, and always the same.
    pub(crate) fn of(&self, seq: u64, slot: u64) -> Domain {
        if self.local(seq, slot).is_some() {
            return Domain { class: Class::Local, number: 0 };
        }
        let mut number = steady_hash(&(self.seed, seq, slot)) % self.all().max(1);
        for class in Class::AWAY {
            match number.checked_sub(self.count(class)) {
                Some(rest) => number = rest,
                None => return Domain { class, number },
            }
        }
        unreachable!("a number below the sum of all counts is below one of them")
    }

    /// Hosts of a class. Somebody takes reports, even where all domains are dead.
    pub(crate) fn hosts(&self, class: Class) -> u64 {
        let count = self.count(class);
        let hosts = self.hosts.map_or(count, |hosts| hosts.min(count));
        if class == Class::Live { hosts.max(1) } else { hosts }
    }

    /// Where a host is.
    pub(crate) fn address(&self, class: Class, host: u64) -> Ipv4Addr {
        let network = self.network.to_bits() + ((class as u32) << 16);
        let step = u32::try_from(host % u64::from(self.addresses)).unwrap_or(0);
        Ipv4Addr::from_bits(network + 1 + step)
    }

    /// The first and the last address of a class, if it has any.
    pub(crate) fn range(&self, class: Class) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let used = self.hosts(class).min(u64::from(self.addresses)).checked_sub(1)?;
        Some((self.address(class, 0), self.address(class, used)))
    }

    /// Appends `m17.0@d3.live.relay.test`.
    pub(crate) fn write_recipient(&self, seq: u64, slot: u64, out: &mut Vec<u8>) {
        if self.local(seq, slot).is_some() {
            return out.extend_from_slice(self.local_address(seq).as_bytes());
        }
        let Domain { class, number } = self.of(seq, slot);
        out.push(b'm');
        write_number(out, seq);
        out.push(b'.');
        write_number(out, slot);
        out.extend_from_slice(b"@d");
        write_number(out, number);
        out.push(b'.');
        out.extend_from_slice(class.label().as_bytes());
        out.push(b'.');
        out.extend_from_slice(self.zone.as_bytes());
    }

    /// Which message and which of its recipients an address is of, if it is one of ours.
    pub(crate) fn parse_recipient(&self, address: &str) -> Option<(u64, u64)> {
        let (local, _) = address.split_once('@')?;
        let (seq, slot) = local.strip_prefix(['m', 'M'])?.split_once('.')?;
        let (seq, slot) = (seq.parse().ok()?, slot.parse().ok()?);
        let mut whole = Vec::with_capacity(address.len());
        self.write_recipient(seq, slot, &mut whole);
        address.as_bytes().eq_ignore_ascii_case(&whole).then_some((seq, slot))
    }

    /// Appends the zone as a name server reads it (RFC 1035 §5); `ns` is where that server is.
    pub(crate) fn write_zone(&self, ns: Ipv4Addr, out: &mut String) {
        use std::fmt::Write as _;
        // Writing to a text does not fail.
        write!(
            out,
            "$ORIGIN {}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A {ns}\n\
             back MX 10 mx0.live\n",
            self.zone
        )
        .ok();
        for class in Class::AWAY {
            let (label, hosts) = (class.label(), self.hosts(class));
            for host in 0..hosts {
                writeln!(out, "mx{host}.{label} A {}", self.address(class, host)).ok();
            }
            for number in 0..self.count(class) {
                writeln!(out, "d{number}.{label} MX 10 mx{}.{label}", number % hosts).ok();
            }
        }
    }
}

/// Where a recipient stands in a list with `recipients` for each message.
pub(crate) fn place(seq: u64, slot: u64, recipients: u64) -> usize {
    to_usize(seq * recipients + slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use expect_test::expect;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        domains: DomainOptions,
    }

    pub(crate) fn domains(line: &str) -> Result<Domains, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let options = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Domains::new(&options.domains, Recipients { least: 2, most: 5 }, None, 1)
    }

    #[test]
    fn writes_a_zone_that_has_all_domains() {
        let domains = domains(
            "--domains 8 --slow 25% --dead 0.1 --hosts 2 --addresses 3 --network 127.9.0.0",
        );
        let mut zone = String::new();
        domains.unwrap().write_zone(Ipv4Addr::new(127, 0, 0, 53), &mut zone);
        expect![[r"
            $ORIGIN relay.test.
            $TTL 300
            @ SOA ns hostmaster 1 3600 600 86400 60
            @ NS ns
            ns A 127.0.0.53
            back MX 10 mx0.live
            mx0.live A 127.9.0.1
            mx1.live A 127.9.0.2
            d0.live MX 10 mx0.live
            d1.live MX 10 mx1.live
            d2.live MX 10 mx0.live
            d3.live MX 10 mx1.live
            d4.live MX 10 mx0.live
            mx0.slow A 127.10.0.1
            mx1.slow A 127.10.0.2
            d0.slow MX 10 mx0.slow
            d1.slow MX 10 mx1.slow
            mx0.dead A 127.12.0.1
            d0.dead MX 10 mx0.dead
        "]]
        .assert_eq(&zone);
    }

    #[test]
    fn an_address_says_which_message_it_is_of() {
        let domains = domains("--domains 100 --slow 10% --refusing 10% --dead 10%").unwrap();
        let mut classes = [0; 4];
        for seq in 0..1_000 {
            let mut address = Vec::new();
            domains.write_recipient(seq, 3, &mut address);
            let address = String::from_utf8(address).unwrap();
            assert_eq!(domains.parse_recipient(&address.to_uppercase()), Some((seq, 3)));
            assert_eq!(domains.parse_recipient(&address.replace('m', "n")), None);
            classes[domains.of(seq, 3).class as usize] += 1;
        }
        assert!(classes[0] > 600 && classes[1..].iter().all(|count| (50..200).contains(count)));
        assert_eq!(domains.parse_recipient("m1.0@d0.live.other.test"), None);
    }

    #[test]
    fn messages_have_as_many_recipients_as_they_may_and_one_at_most_is_local() {
        let mut domains = domains("--domains 10").unwrap();
        domains.local = Some(Local { share: 0.3, domain: "here.test".into() });
        let (mut counts, mut local) = ([0; 6], 0);
        for seq in 0..1_000 {
            let slots = domains.slots(seq);
            counts[to_usize(slots.end)] += 1;
            for slot in slots {
                let mut address = Vec::new();
                domains.write_recipient(seq, slot, &mut address);
                let address = String::from_utf8(address).unwrap();
                assert_eq!(domains.parse_recipient(&address), Some((seq, slot)));
                let is_local = domains.of(seq, slot).class == Class::Local;
                assert_eq!(is_local, address == format!("m{seq}.0@here.test"));
                local += u64::from(is_local);
            }
        }
        assert!(counts[..2] == [0, 0] && counts[2..].iter().all(|count| *count > 200));
        assert!((250..350).contains(&local), "{local}");
        assert_eq!(domains.range(Class::Local), None);
        assert_eq!(Recipients::parse("1-4"), Ok(Recipients { least: 1, most: 4 }));
        for wrong in ["0", "4-1", "65", "1-", "x"] {
            assert!(Recipients::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        assert!(domains("--slow 60% --dead 60% --domains 10").is_err());
        assert!(domains("--network 127.255.0.0").is_err());
        assert!(domains("--network 10.0.0.0").is_err());
        assert!(domains("--zone a..b").is_err());
        assert!(domains("--slow 101%").is_err());
        let all = domains("--domains 1 --slow 100%").unwrap();
        assert_eq!((all.of(5, 0).class, all.hosts(Class::Live)), (Class::Slow, 1));
        assert_eq!(all.range(Class::Dead), None);
    }
}
