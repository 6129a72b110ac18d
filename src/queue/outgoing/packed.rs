//! An envelope as it is kept in memory, where a million of them may wait: what most have not takes no
//! octet, and most lengths take one.
//!
//! ```text
//! packed := has u8 | name text | [sender: local text, domain text] | [envid text] | [by at u32]
//!           | [hold u64] | [count number] | to{count} | [via: local text, domain text]
//! to     := has u8 | local text | [orcpt text]
//! text   := length number | octets, UTF-8
//! number := seven bits an octet, the lowest first, 128 where more follow
//! ```

use super::entry::{Deadline, Envelope, To};
use crate::bytes::codec::{Put, Reader, Short, to_usize};
use crate::model::address::Address;
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::param::Notify;

const SENDER: u8 = 1;
const ENVID: u8 = 2;
const BY: u8 = 4;
const BY_RETURNS: u8 = 8;
const BY_TRACES: u8 = 16;
/// Not one recipient, but as many as is said.
const COUNT: u8 = 32;
/// For so many seconds.
const HOLD_FOR: u8 = 64;
const HOLD_UNTIL: u8 = 128;

const ORCPT: u8 = 1;
const NOTIFY: u8 = 2;
const SUCCESS: u8 = 4;
const FAILURE: u8 = 8;
const DELAY: u8 = 16;

fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        let [low, ..] = number.to_le_bytes();
        out.put_u8(low | 128);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.put_u8(low);
}

fn number(reader: &mut Reader<'_>) -> Result<usize, Short> {
    let mut number = 0_u64;
    for shift in (0..28).step_by(7) {
        let octet = reader.u8()?;
        number |= u64::from(octet & 127) << shift;
        if octet < 128 {
            return Ok(to_usize(number));
        }
    }
    Err(Short)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Short> {
    let len = number(reader)?;
    std::str::from_utf8(reader.take(len)?).map_err(|_| Short)
}

/// What [`unpack`] reads again.
pub(super) fn pack(envelope: &Envelope) -> Box<[u8]> {
    let Envelope { name, sender, envid, by, hold, via, recipients } = envelope;
    let (held, hold) = match *hold {
        None => (0, None),
        Some(Hold::For(seconds)) => (HOLD_FOR, Some(seconds.into())),
        Some(Hold::Until(at)) => (HOLD_UNTIL, Some(at)),
    };
    let mut out = Vec::with_capacity(128);
    out.put_u8(
        bit(sender.is_some(), SENDER)
            | bit(envid.is_some(), ENVID)
            | bit(by.is_some(), BY)
            | bit(by.is_some_and(|by| by.returns), BY_RETURNS)
            | bit(by.is_some_and(|by| by.traces), BY_TRACES)
            | bit(recipients.len() != 1, COUNT)
            | held,
    );
    put_text(&mut out, name);
    if let Some(sender) = sender {
        put_text(&mut out, sender.local());
        put_text(&mut out, sender.domain());
    }
    if let Some(envid) = envid {
        put_text(&mut out, envid);
    }
    if let Some(by) = by {
        out.put_u32(by.at);
    }
    if let Some(hold) = hold {
        out.put_u64(hold);
    }
    if recipients.len() != 1 {
        put_number(&mut out, recipients.len());
    }
    for to in recipients {
        let said = |what: fn(Notify) -> bool, one| bit(to.notify.is_some_and(what), one);
        out.put_u8(
            bit(to.orcpt.is_some(), ORCPT)
                | bit(to.notify.is_some(), NOTIFY)
                | said(|notify| notify.success, SUCCESS)
                | said(|notify| notify.failure, FAILURE)
                | said(|notify| notify.delay, DELAY),
        );
        put_text(&mut out, to.address.local());
        if let Some(orcpt) = &to.orcpt {
            put_text(&mut out, orcpt);
        }
    }
    if let Some(via) = via {
        put_text(&mut out, via.local());
        put_text(&mut out, via.domain());
    }
    out.into()
}

/// The envelope that [`pack`] wrote, with recipients of `domain`.
pub(super) fn unpack(octets: &[u8], domain: &str) -> Result<Envelope, Short> {
    let mut reader = Reader::new(octets);
    let has = reader.u8()?;
    let name = text(&mut reader)?.into();
    let sender = if has & SENDER == 0 {
        None
    } else {
        let local = text(&mut reader)?;
        Some(Address::from_parts(local, text(&mut reader)?))
    };
    let envid = if has & ENVID == 0 { None } else { Some(text(&mut reader)?.into()) };
    let by = if has & BY == 0 {
        None
    } else {
        let (returns, traces) = (has & BY_RETURNS != 0, has & BY_TRACES != 0);
        Some(Deadline { at: reader.u32()?, returns, traces })
    };
    let hold = match has & (HOLD_FOR | HOLD_UNTIL) {
        0 => None,
        HOLD_FOR => Some(Hold::For(u32::try_from(reader.u64()?).map_err(|_| Short)?)),
        _ => Some(Hold::Until(reader.u64()?)),
    };
    let count = if has & COUNT == 0 { 1 } else { number(&mut reader)? };
    let recipients = (0..count).map(|_| to(&mut reader, domain)).collect::<Result<Vec<_>, _>>()?;
    let via = if reader.rest().is_empty() {
        None
    } else {
        let local = text(&mut reader)?;
        Some(Address::from_parts(local, text(&mut reader)?))
    };
    Ok(Envelope { name, sender, envid, by, hold, via, recipients })
}

fn to(reader: &mut Reader<'_>, domain: &str) -> Result<To, Short> {
    let has = reader.u8()?;
    let notify = (has & NOTIFY != 0).then_some(Notify {
        success: has & SUCCESS != 0,
        failure: has & FAILURE != 0,
        delay: has & DELAY != 0,
    });
    let address = Address::from_parts(text(reader)?, domain);
    let orcpt = if has & ORCPT == 0 { None } else { Some(text(reader)?.into()) };
    Ok(To { address, notify, orcpt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_was() {
        let to = |local: &str, notify, orcpt: Option<&str>| To {
            address: Address::from_parts(local, "a.example"),
            notify,
            orcpt: orcpt.map(Into::into),
        };
        let notify = |success, failure, delay| Some(Notify { success, failure, delay });
        let long = "l".repeat(20_000);
        let plain = Envelope {
            name: "6afd5dc0.3.1a2b3c".into(),
            sender: Some(Address::from_parts("ann", "s.example")),
            envid: None,
            by: None,
            hold: None,
            via: None,
            recipients: vec![to("bob", None, None)],
        };
        assert_eq!(pack(&plain).len(), 1 + 18 + 4 + 10 + 1 + 4);
        let rich = Envelope {
            sender: None,
            envid: Some("id+3D".into()),
            by: Some(Deadline { at: 1, returns: true, traces: false }),
            hold: Some(Hold::For(u32::MAX)),
            via: Some(Address::from_parts("all", "here.example")),
            recipients: vec![
                to("ü", notify(false, false, false), Some("utf-8;ü")),
                to(&long, notify(true, false, true), None),
                to("c", notify(false, true, false), Some(&long)),
            ],
            ..plain.clone()
        };
        let traced = Envelope {
            by: Some(Deadline { at: u32::MAX, returns: false, traces: true }),
            hold: Some(Hold::Until(u64::MAX)),
            recipients: (0..1_000).map(|n| to(&format!("r{n}"), None, None)).collect(),
            ..plain.clone()
        };
        for envelope in [plain, rich, traced] {
            assert_eq!(unpack(&pack(&envelope), "a.example"), Ok(envelope));
        }
    }
}
