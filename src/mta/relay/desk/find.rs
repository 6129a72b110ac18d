//! Which entries a filter means, and by which index they are found.

use super::ask::{Cut, Filter};
use crate::directory::domain_name;
use crate::model::id::LogId;
use crate::model::limits::QUEUE_LOOK_SLICE;
use crate::queue::outgoing::{Entry, Outgoing, Pause, QueueName, Walk};
use crate::wire::address::parse_mailbox;

enum Id {
    Entry(QueueName),
    Message(String),
}

/// A filter that was read: addresses and domains in their one form, local parts in lower case.
pub(super) struct Wanted {
    id: Option<Id>,
    /// Empty for the null sender.
    sender: Option<String>,
    recipient: Option<String>,
    domain: Option<Box<str>>,
    before: u32,
}

fn address(text: &str) -> Result<String, String> {
    let path = parse_mailbox(text).map_err(|_| format!("{text:?} is no address"))?;
    Ok(path.to_address().to_string().to_lowercase())
}

/// A sender in its one form; empty for the null one.
pub(super) fn sender(text: &str) -> Result<String, String> {
    if matches!(text, "" | "<>") { Ok(String::new()) } else { address(text) }
}

/// A domain or an address literal in its one form.
pub(super) fn domain(text: &str) -> Result<Box<str>, String> {
    if text.starts_with('[') {
        let any = parse_mailbox(&format!("x@{text}")).map(|path| path.to_address().domain().into());
        return any.map_err(|_| format!("{text:?} is no address literal"));
    }
    domain_name(text).map_err(|_| format!("{text:?} is no domain"))
}

/// What is to be stopped, in its one form.
pub(super) fn pause(pause: &Pause) -> Result<Pause, String> {
    Ok(match pause {
        Pause::All => Pause::All,
        Pause::Domain(name) => Pause::Domain(domain(name)?),
        Pause::Sender(name) => Pause::Sender(sender(name)?.into()),
        Pause::Route(pattern) => Pause::Route(route(pattern)?),
    })
}

/// The pattern of a route in its one form.
fn route(text: &str) -> Result<Box<str>, String> {
    let no = |_| format!("{text:?} is no pattern of a route");
    match text.strip_prefix("*.") {
        _ if text == "*" => Ok(text.into()),
        Some(parent) => Ok(format!("*.{}", domain_name(parent).map_err(no)?).into()),
        None => domain_name(text).map_err(no),
    }
}

impl Wanted {
    pub(super) fn read(filter: &Filter, cut: &Cut) -> Result<Wanted, String> {
        let id = filter.id.as_deref().map(|text| match QueueName::parse(text) {
            Some(name) => Id::Entry(name),
            None => Id::Message(text.to_lowercase()),
        });
        Ok(Wanted {
            id,
            sender: filter.sender.as_deref().map(sender).transpose()?,
            recipient: filter.recipient.as_deref().map(address).transpose()?,
            domain: filter.domain.as_deref().map(domain).transpose()?,
            before: cut.before,
        })
    }

    /// The entries behind a place that have to be looked at, by the shortest index there is.
    pub(super) fn walk<'o>(
        &self,
        outgoing: &'o Outgoing,
        log: LogId,
        after: u64,
    ) -> Box<dyn Iterator<Item = (u64, &'o Entry)> + 'o> {
        if let Some(Id::Entry(QueueName(of, number))) = self.id {
            let found = outgoing.get(number).filter(|_| of == log && after == 0);
            return Box::new(found.into_iter().map(|entry| (entry.id.0, entry)));
        }
        // A domain with few entries is shorter than whatever its senders have.
        let domain = self.domain.as_deref();
        let few = domain.filter(|domain| {
            usize::try_from(outgoing.count_of(domain)).is_ok_and(|count| count <= QUEUE_LOOK_SLICE)
        });
        let walk = match (&self.id, few, &self.recipient, &self.sender, domain) {
            (Some(Id::Message(name)), ..) => Walk::Text(name),
            (_, Some(domain), ..) => Walk::Domain(domain),
            (_, _, Some(text), ..) | (_, _, _, Some(text), _) => Walk::Text(text),
            (_, _, _, _, Some(domain)) => Walk::Domain(domain),
            _ => Walk::All,
        };
        outgoing.walk(walk, after)
    }

    /// Whether an entry is one of those that are meant. Reads its envelope only where it has to.
    pub(super) fn is_met(&self, outgoing: &Outgoing, entry: &Entry) -> bool {
        let of_domain =
            |domain: &str| outgoing.domain(entry.destination).is_some_and(|name| **name == *domain);
        if entry.arrived > self.before || !self.domain.as_deref().is_none_or(of_domain) {
            return false;
        }
        let name = match &self.id {
            Some(Id::Message(name)) => Some(name),
            _ => None,
        };
        if name.is_none() && self.sender.is_none() && self.recipient.is_none() {
            return true;
        }
        let envelope = outgoing.envelope(entry);
        let is_same = |one: &str, other: &str| one.to_lowercase() == *other;
        let is_sender = |sender: &String| {
            let of = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
            is_same(&of, sender)
        };
        let has = |recipient: &String| {
            envelope.recipients.iter().any(|to| is_same(&to.address.to_string(), recipient))
        };
        name.is_none_or(|name| is_same(&envelope.name, name))
            && self.sender.as_ref().is_none_or(is_sender)
            && self.recipient.as_ref().is_none_or(has)
    }
}
