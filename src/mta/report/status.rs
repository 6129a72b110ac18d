//! The part for programs: message/delivery-status (RFC 3464 §2), global-… for UTF-8 (RFC 6533 §4.1).

use super::{Fate, Report, Reported, date};
use crate::model::limits::TRACE_LINE_OCTETS_TARGET;
use crate::model::reply::Enhanced;
use crate::wire::smtp::xtext::{decode_address, decode_utf8_address, decode_xtext};
use std::fmt::Write as _;

/// The fields of the message, then those of each recipient behind an empty line.
pub(super) fn write(report: &Report<'_>, host: &str) -> Vec<u8> {
    let mut out = String::with_capacity(256 + 384 * report.recipients.len());
    let _ = write!(out, "Reporting-MTA: dns; {host}\r\n");
    // RFC 3461 §6.3: if there was one, and then not in xtext.
    if let Some(envid) = report.envid.and_then(decode_xtext) {
        let _ = write!(out, "Original-Envelope-Id: {envid}\r\n");
    }
    let _ = write!(out, "Arrival-Date: {}\r\n", date(report.arrived));
    if let Some(by) = report.by {
        let _ = write!(out, "Deliver-By-Date: {}\r\n", date(by));
    }
    if let Some(hold) = report.hold {
        let _ = write!(out, "Future-Release-Request: {hold}\r\n");
    }
    for one in report.recipients {
        out.push_str("\r\n");
        put_recipient(one, report.id, &mut out);
    }
    out.into_bytes()
}

fn put_recipient(one: &Reported<'_>, id: &str, out: &mut String) {
    if let Some(orcpt) = one.orcpt {
        let _ = write!(out, "Original-Recipient: {}\r\n", original(orcpt));
    }
    let kind = if one.address.is_ascii() { "rfc822" } else { "utf-8" };
    let _ = write!(out, "Final-Recipient: {kind}; {}\r\n", one.address);
    let _ = write!(out, "Action: {}\r\n", one.fate.action());
    let (class, Enhanced(subject, detail)) = status(one);
    let _ = write!(out, "Status: {class}.{subject}.{detail}\r\n");
    if let Some(remote) = one.remote {
        let _ = write!(out, "Remote-MTA: dns; {}\r\n", clean(remote));
    }
    if let Some(said) = one.said {
        // RFC 3464 §2.3.6: what another server said is of the type of its protocol; ours is our own.
        let kind = if one.remote.is_some() { "smtp" } else { "x-pombal" };
        put_folded(&format!("Diagnostic-Code: {kind}; {}", clean(&said.to_line())), out);
    }
    if let Some(attempted) = one.attempted {
        let _ = write!(out, "Last-Attempt-Date: {}\r\n", date(attempted));
    }
    let _ = write!(out, "Final-Log-ID: {}\r\n", clean(id));
    if let Fate::Delayed { until } = one.fate {
        let _ = write!(out, "Will-Retry-Until: {}\r\n", date(until));
    }
}

/// The status of a recipient, its class first (RFC 3463 §2). What was said goes before what the fate
/// says by itself, where the two agree: a failure is one though the last answer was a success.
pub(super) fn status(one: &Reported<'_>) -> (u16, Enhanced) {
    let said = one.said.map(|said| (said.code / 100, said.enhanced));
    match (one.fate, said) {
        (Fate::Delivered | Fate::Expanded, _) => (2, Enhanced(1, 5)),
        (Fate::Relayed | Fate::Passed, Some((2, Some(enhanced)))) => (2, enhanced),
        // RFC 5248 §2.4 lists X.1.9: passed to a server that does not send reports.
        (Fate::Relayed, _) => (2, Enhanced(1, 9)),
        (Fate::Passed, _) => (2, Enhanced(0, 0)),
        (Fate::Failed | Fate::Expired, Some((class @ 4..=5, enhanced))) => {
            (class, enhanced.unwrap_or(Enhanced(0, 0)))
        }
        (Fate::Delayed { .. }, Some((4, Some(enhanced)))) => (4, enhanced),
        (Fate::Failed, _) => (5, Enhanced(0, 0)),
        (Fate::Expired, _) => (4, Enhanced(4, 7)),
        (Fate::Delayed { .. }, _) => (4, Enhanced(0, 0)),
    }
}

/// ASCII without controls: the field has no other text (RFC 6533 §4.1).
fn clean(text: &str) -> String {
    let letter = |letter: char| match letter {
        ' '..='~' => letter,
        '\t' | '\r' | '\n' => ' ',
        _ => '?',
    };
    text.chars().map(letter).collect()
}

/// Writes a field in lines that are broken at spaces, or at last where a line has to end.
fn put_folded(field: &str, out: &mut String) {
    let mut used = 0;
    for (index, word) in field.split(' ').enumerate() {
        if index > 0 && used + 1 + word.len() > TRACE_LINE_OCTETS_TARGET && used > 1 {
            out.push_str("\r\n\t");
            used = 1;
        } else if index > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.len();
    }
    out.push_str("\r\n");
}

/// ORCPT is in xtext, the field is not; an address in UTF-8 is written in it (RFC 6533 §4.1).
fn original(orcpt: &str) -> String {
    match orcpt.split_once(';') {
        Some((kind, address)) if kind.eq_ignore_ascii_case("utf-8") => {
            format!("{kind}; {}", decode_utf8_address(address).unwrap_or_else(|| address.into()))
        }
        Some((kind, address)) => match decode_address(address) {
            // Whatever it was called: only this type has other letters.
            Some(text) if !text.is_ascii() => format!("utf-8; {text}"),
            Some(text) => format!("{kind}; {text}"),
            None => format!("{kind}; {address}"),
        },
        None => orcpt.into(),
    }
}
