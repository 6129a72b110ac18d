//! Whether the servers pass signatures on, and the resolver that holds answers against them.
//!
//! Servers that leave signatures out make every answer look forged. So the root's own signature,
//! which everybody can have, is asked for first: servers that do not bring it bring none, and what
//! they say counts as it does without DNSSEC. From servers that do, a zone that its parent says is
//! signed has to be (RFC 4035 §5): what does not fit is no answer.
//!
//! Who can change what the servers send to us can leave out the root's signature as well: `Auto`
//! trusts the way to the servers, as everybody does who trusts what they say. `Require` does not.

use super::{Failed, Found, Kind, Plain, Servers, answer};
use crate::model::limits::{DNSSEC_KNOWN_MAX, DNSSEC_SERVERS_TTL, DNSSEC_SERVERS_WITHOUT_TTL};
use crate::probe::event::{Level, event};
use hickory_resolver::net::NetError;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// When answers are held against the signatures of their zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Never.
    Off,
    /// Where the servers pass the root's signature on.
    #[default]
    Auto,
    /// Always: servers that leave signatures out give no answers.
    Require,
}

impl Dnssec {
    /// The words of the configuration.
    pub const NAMES: [(&'static str, Dnssec); 3] =
        [("auto", Dnssec::Auto), ("require", Dnssec::Require), ("off", Dnssec::Off)];
}

/// The keys that proofs begin at: by default those of the root that IANA publishes.
#[derive(Clone, Default)]
pub struct Anchors(Option<Arc<TrustAnchors>>);

impl Anchors {
    /// Out of DNSKEY records, a line each, the root's among them.
    pub fn parse(text: &str) -> Result<Anchors, String> {
        let anchors = TrustAnchors::from_str(text).map_err(|error| error.to_string())?;
        if anchors.is_empty() {
            return Err("there is no DNSKEY record of the root".into());
        }
        Ok(Anchors(Some(Arc::new(anchors))))
    }
}

/// What the servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ability {
    /// They leave signatures out.
    None,
    /// They pass signatures on.
    Pass,
    /// They hold answers against signatures themselves, and say so.
    Validate,
}

impl Ability {
    fn name(self) -> &'static str {
        match self {
            Ability::None => "no",
            Ability::Pass => "here",
            Ability::Validate => "here, and by the servers",
        }
    }

    fn ttl(self) -> Duration {
        if self == Ability::None { DNSSEC_SERVERS_WITHOUT_TTL } else { DNSSEC_SERVERS_TTL }
    }
}

/// See the header.
pub(super) struct Prover {
    plain: Plain,
    servers: DnssecDnsHandle<Servers>,
    options: DnsRequestOptions,
    is_required: bool,
    /// What was found out last, and until when it is taken to hold.
    known: Mutex<Option<(Ability, Instant)>>,
}

impl Prover {
    pub(super) fn new(plain: Plain, anchors: Anchors, is_required: bool) -> Prover {
        let anchors = anchors.0.unwrap_or_default();
        let servers = DnssecDnsHandle::with_trust_anchor(plain.servers.clone(), anchors)
            .validation_cache_size(DNSSEC_KNOWN_MAX);
        let mut options = plain.options;
        options.edns_set_dnssec_ok = true;
        Prover { plain, servers, options, is_required, known: Mutex::default() }
    }

    /// The records of `name`, proven as far as the servers allow it.
    pub(super) async fn look_up(&self, kind: Kind, name: &Name) -> Result<Found, Failed> {
        let ability = if self.is_required { Ability::Pass } else { self.ability().await };
        if ability == Ability::None {
            return self.plain.look_up(kind, name).await;
        }
        match answer::look_up(&self.servers, self.options, kind.wanted(), name).await {
            // Servers that validate give no answer that is forged. They know some turns that are
            // unknown here (DNAME): what they take for good is no secret, and holds up no mail.
            Err(Failed::Bogus) if ability == Ability::Validate => {
                self.plain.look_up(kind, name).await
            }
            found => found,
        }
    }

    /// Finds out once for all who want to know. Servers that do not answer at all are asked again by
    /// the next one.
    async fn ability(&self) -> Ability {
        let mut known = self.known.lock().await;
        let before = known.map(|(ability, _)| ability);
        if let Some((ability, _)) = known.filter(|(_, until)| *until > Instant::now()) {
            return ability;
        }
        let root = Query::query(Name::root(), RecordType::NS);
        let ability = match self.servers.lookup(root, self.options).first_answer().await {
            Ok(root) if !root.answers.iter().any(|record| record.proof.is_secure()) => {
                Ability::None
            }
            Ok(root) if root.metadata.authentic_data => Ability::Validate,
            Ok(_) => Ability::Pass,
            // Name servers that have no root refuse, or say that it is not there.
            Err(NetError::Dns(_)) => Ability::None,
            Err(_) => return Ability::None,
        };
        *known = Some((ability, Instant::now() + ability.ttl()));
        if before != Some(ability) {
            let is_lost = before.is_some_and(|before| before != Ability::None);
            let level = if ability == Ability::None && is_lost { Level::Warn } else { Level::Info };
            event(level, "dnssec", &[("validated", ability.name().into())]);
        }
        ability
    }
}

/// Whether an answer that a wildcard stands for shows that nothing closer is there: hickory wants the
/// wildcard itself not to be there, which it is where it stands one label above the name.
///
/// RFC 4035 §5.3.4: the name that is one label longer than where the wildcard stands falls between
/// two names of the zone, and is part of neither.
pub(super) fn proves_wildcard(asked: &Query, response: &Message) -> bool {
    let is_signature = |record: &&Record| record.record_type() == RecordType::RRSIG;
    let mut records = response.answers.iter().filter(|record| !is_signature(record)).peekable();
    let is_plain = records.peek().is_some()
        && response.metadata.response_code == ResponseCode::NoError
        && records.all(|record| record.name == asked.name && record.proof.is_secure());
    let labels = response.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.proof.is_secure() => {
            Some(signature.input().num_labels)
        }
        _ => None,
    });
    let Some(labels) = labels.min().filter(|&labels| is_plain && labels < asked.name.num_labels())
    else {
        return false;
    };
    let closer = asked.name.trim_to(usize::from(labels) + 1);
    response.authorities.iter().filter(|record| record.proof.is_secure()).any(|record| {
        let RData::DNSSEC(DNSSECRData::NSEC(gap)) = &record.data else { return false };
        let (before, behind) = (&record.name, gap.next_domain_name());
        // The last name of a zone is followed by its first one.
        let is_between =
            *before < closer && (closer < *behind || (behind <= before && behind.zone_of(&closer)));
        let is_other_zone = before.zone_of(&closer)
            && gap.type_set().contains(RecordType::NS)
            && !gap.type_set().contains(RecordType::SOA);
        is_between && !closer.zone_of(behind) && !is_other_zone
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
    use hickory_resolver::proto::dnssec::rdata::{NSEC, RRSIG};
    use hickory_resolver::proto::dnssec::{Algorithm, Proof};
    use hickory_resolver::proto::op::OpCode;
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::MX;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn secure(owner: &str, data: RData) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = Proof::Secure;
        record
    }

    /// An MX at `asked`, signed for a name of so many labels, with a gap in the zone.
    fn answer(asked: &str, labels: u8, gap: (&str, &str), at_gap: &[RecordType]) -> Message {
        let mut message = Message::response(0, OpCode::Query);
        let signature = RRSIG::from_sig(
            SigInput {
                type_covered: RecordType::MX,
                algorithm: Algorithm::ECDSAP256SHA256,
                num_labels: labels,
                original_ttl: 60,
                sig_expiration: SerialNumber::new(0),
                sig_inception: SerialNumber::new(0),
                key_tag: 0,
                signer_name: name("z."),
            },
            Vec::new(),
        );
        let nsec = NSEC::new(name(gap.1), at_gap.iter().copied());
        message.add_answers([
            secure(asked, RData::MX(MX::new(1, name("mx.z.")))),
            secure(asked, RData::DNSSEC(DNSSECRData::RRSIG(signature))),
        ]);
        message.add_authorities([secure(gap.0, RData::DNSSEC(DNSSECRData::NSEC(nsec)))]);
        message
    }

    #[test]
    fn a_wildcard_counts_where_the_zone_shows_that_nothing_is_closer() {
        let check = |asked: &str, labels, gap: (&str, &str), at_gap: &[RecordType], want| {
            let message = answer(asked, labels, gap, at_gap);
            let query = Query::query(name(asked), RecordType::MX);
            assert_eq!(proves_wildcard(&query, &message), want, "{asked} {labels} {gap:?}");
            let mut forged = message.clone();
            forged.authorities[0].proof = Proof::Bogus;
            assert!(!proves_wildcard(&query, &forged));
            let mut forged = message;
            forged.answers[0].proof = Proof::Bogus;
            assert!(!proves_wildcard(&query, &forged));
        };
        let mx = &[RecordType::MX][..];
        check("a.w.z.", 2, ("*.w.z.", "x.z."), mx, true);
        check("b.a.w.z.", 2, ("*.w.z.", "x.z."), mx, true);
        // The last gap of the zone.
        check("a.w.z.", 2, ("*.w.z.", "z."), mx, true);
        // The name is there, or something between it and the wildcard, or below it.
        check("a.w.z.", 2, ("a.w.z.", "x.z."), mx, false);
        check("b.a.w.z.", 2, ("a.w.z.", "x.z."), mx, false);
        check("b.a.w.z.", 2, ("*.w.z.", "c.a.w.z."), mx, false);
        check("a.w.z.", 2, ("*.w.z.", "b.a.w.z."), mx, false);
        // The gap is elsewhere, or of another zone.
        check("a.w.z.", 2, ("b.w.z.", "x.z."), mx, false);
        check("a.w.z.", 2, ("*.w.z.", "Z.w.z."), mx, true);
        check("a.w.z.", 2, ("w.z.", "x.z."), &[RecordType::NS], false);
        check("a.w.z.", 2, ("*.w.y.", "y."), mx, false);
        // No wildcard stands for it.
        check("a.w.z.", 3, ("*.w.z.", "x.z."), mx, false);
    }
}
