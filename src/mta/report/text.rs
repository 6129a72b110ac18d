//! The part for people: what happened, to whom, what the other server said, and what to do.

use super::status::status;
use super::{Fate, Report, Reported, date};
use crate::model::limits::TRACE_LINE_OCTETS_TARGET;
use crate::model::reply::Enhanced;

/// Recipients that a text names; the part for programs has them all.
const NAMED_MAX: usize = 100;

/// What happened at worst, and to whom if it is one whose name fits.
pub(super) fn subject(report: &Report<'_>) -> String {
    let worst = report.recipients.iter().map(|one| one.fate).min_by_key(|fate| rank(*fate));
    let what = match worst {
        Some(Fate::Failed | Fate::Expired) | None => "Not delivered",
        Some(Fate::Delayed { .. }) => "Delayed",
        Some(Fate::Expanded) => "Passed to the members",
        Some(Fate::Relayed | Fate::Passed) => "Passed on",
        Some(Fate::Delivered) => "Delivered",
    };
    match report.recipients {
        [one] if one.address.is_ascii() && one.address.to_string().len() <= 48 => {
            format!("{what}: your message to {}", one.address)
        }
        _ => format!("{what}: your message"),
    }
}

/// The text. Lines are folded; an address is never cut.
pub(super) fn write(report: &Report<'_>, host: &str) -> Vec<u8> {
    let mut text = Text { out: String::with_capacity(1_024) };
    text.paragraph(&format!(
        "This is the mail server {host}. It writes about your message of {}.",
        date(report.arrived),
    ));
    let mut ranks: Vec<u8> = report.recipients.iter().map(|one| rank(one.fate)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut room = NAMED_MAX;
    for wanted in ranks {
        let alike = report.recipients.iter().filter(|one| rank(one.fate) == wanted);
        let alike: Vec<&Reported<'_>> = alike.collect();
        let Some(first) = alike.first() else { continue };
        text.paragraph(opening(first.fate));
        for one in alike.iter().take(room) {
            text.recipient(one, host);
        }
        let left = alike.len().saturating_sub(room);
        if left > 0 {
            text.line(4, &format!("and {left} more, which the details behind this text name"));
        }
        room = room.saturating_sub(alike.len());
        text.out.push_str("\r\n");
        if let Some(closing) = closing(first.fate, &alike) {
            text.paragraph(&closing);
        }
    }
    let is_bad = |one: &Reported<'_>| one.fate.is_failure();
    if report.recipients.iter().any(is_bad) {
        text.paragraph(&format!(
            "If you do not know what to do, send this report to postmaster@{host}, who finds your \
             message under the name {}.",
            report.id,
        ));
    }
    text.out.truncate(text.out.trim_end().len());
    text.out.push_str("\r\n");
    text.out.into_bytes()
}

/// The worst comes first.
fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Failed => 0,
        Fate::Expired => 1,
        Fate::Delayed { .. } => 2,
        Fate::Expanded => 3,
        Fate::Relayed => 4,
        Fate::Passed => 5,
        Fate::Delivered => 6,
    }
}

fn opening(fate: Fate) -> &'static str {
    match fate {
        Fate::Failed => "Your message could not be delivered to:",
        Fate::Expired => "Your message could not be delivered in time, and is no longer tried, to:",
        Fate::Delayed { .. } => "Your message is late. It could not yet be delivered to:",
        Fate::Expanded => "Your message was passed to all who share the address:",
        Fate::Relayed => {
            "Your message was passed on to the next server, which does not report on its delivery, for:"
        }
        Fate::Passed => "Your message was passed on to the next server for:",
        Fate::Delivered => "Your message is in the mailbox of:",
    }
}

fn closing(fate: Fate, alike: &[&Reported<'_>]) -> Option<String> {
    let Fate::Delayed { .. } = fate else { return None };
    let ends = alike.iter().filter_map(|one| match one.fate {
        Fate::Delayed { until } => Some(until),
        _ => None,
    });
    Some(format!(
        "You need not do anything: it is tried again until {}. If it cannot be delivered by then, you \
         will hear of it.",
        date(ends.max()?),
    ))
}

/// What a person can do about it, by the code of the failure (RFC 3463 §3).
fn advice(one: &Reported<'_>) -> Option<&'static str> {
    if !one.fate.is_failure() {
        return None;
    }
    let (_, Enhanced(subject, detail)) = status(one);
    Some(match (subject, detail) {
        (1, 0 | 1 | 3 | 6) => "Please check the address: nobody seems to have it.",
        (1, 2 | 10) | (4, 4) => "Please check what stands behind the @: it takes no mail.",
        (1, 7 | 8) => "The other server does not take your own address as a sender.",
        (2, 1) => "The mailbox is closed. Please ask its owner another way.",
        (2, 2) => "The mailbox is full. Please tell its owner another way, or try again later.",
        (2, 3) | (3, 4) => {
            "The message is too large. Please send it in parts, or without what is attached."
        }
        (4, 6) => "The address leads in a circle. Please tell its owner another way.",
        (4, 7) => "The time that it may take is over. Please send it again if it still matters.",
        (4, _) => "The other server could not be reached. Please send it again later.",
        (6, _) => "The other server cannot take a message of this form.",
        (7, _) => "The other server does not want this message. What it said may tell why.",
        _ => return None,
    })
}

struct Text {
    out: String,
}

impl Text {
    /// Words, folded, and an empty line.
    fn paragraph(&mut self, words: &str) {
        self.line(0, words);
        self.out.push_str("\r\n");
    }

    fn recipient(&mut self, one: &Reported<'_>, host: &str) {
        self.line(4, &one.address.to_string());
        if let Some(said) = &one.said
            && !matches!(one.fate, Fate::Delivered)
        {
            let who = one.remote.unwrap_or(host);
            self.line(8, &format!("{who} said: {}", said.to_line()));
        }
        if let Some(advice) = advice(one) {
            self.line(8, advice);
        }
    }

    /// Words behind so many spaces, folded near 78 letters.
    fn line(&mut self, indent: usize, words: &str) {
        let mut used = 0;
        for word in words.split_whitespace() {
            let len = word.chars().count();
            if used > 0 && used + 1 + len > TRACE_LINE_OCTETS_TARGET {
                self.out.push_str("\r\n");
                used = 0;
            }
            if used == 0 {
                self.out.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            } else {
                self.out.push(' ');
                used += 1;
            }
            self.out.push_str(word);
            used += len;
        }
        self.out.push_str("\r\n");
    }
}
