//! LIST in its plain and its extended form (RFC 9051 §6.3.9, RFC 5258), and items of STATUS.

use super::behind_space;
use crate::wire::imap::scan::{Scan, Text, What};

/// LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    pub select: Selection,
    pub reference: Text<'a>,
    pub patterns: Vec<Text<'a>>,
    pub returns: Returns,
    /// It has options or a list of patterns: what the server shows beyond that is its choice.
    pub extended: bool,
}

/// Which mailboxes, beside those that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Selection {
    pub subscribed: bool,
    pub remote: bool,
    /// Also those with matching children (RFC 5258 §3.5); never alone.
    pub recursive_match: bool,
    /// RFC 6154 §5.2.
    pub special_use: bool,
}

/// What is shown of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    /// Empty: no STATUS is wanted (RFC 5819 §2).
    pub status: Vec<StatusItem>,
}

/// An item of STATUS (RFC 9051 §6.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    Messages,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    /// RFC 3501 §6.3.10.
    Recent,
    /// RFC 7162 §3.1.7.
    HighestModSeq,
    /// RFC 8474 §4.3.
    MailboxId,
    /// RFC 7889 §3.1.
    AppendLimit,
    /// Octets of messages with \Deleted, in units of 1024 (RFC 9208 §4.1.4).
    DeletedStorage,
}

impl StatusItem {
    pub const fn name(self) -> &'static str {
        match self {
            StatusItem::Messages => "MESSAGES",
            StatusItem::UidNext => "UIDNEXT",
            StatusItem::UidValidity => "UIDVALIDITY",
            StatusItem::Unseen => "UNSEEN",
            StatusItem::Deleted => "DELETED",
            StatusItem::Size => "SIZE",
            StatusItem::Recent => "RECENT",
            StatusItem::HighestModSeq => "HIGHESTMODSEQ",
            StatusItem::MailboxId => "MAILBOXID",
            StatusItem::AppendLimit => "APPENDLIMIT",
            StatusItem::DeletedStorage => "DELETED-STORAGE",
        }
    }

    const ALL: [StatusItem; 11] = [
        StatusItem::Messages,
        StatusItem::UidNext,
        StatusItem::UidValidity,
        StatusItem::Unseen,
        StatusItem::Deleted,
        StatusItem::Size,
        StatusItem::Recent,
        StatusItem::HighestModSeq,
        StatusItem::MailboxId,
        StatusItem::AppendLimit,
        StatusItem::DeletedStorage,
    ];
}

pub(super) fn take<'a>(scan: &mut Scan<'a>) -> Result<List<'a>, What> {
    scan.space()?;
    let mut select = Selection::default();
    let mut extended = false;
    if scan.peek() == Some(b'(') {
        select = take_selection(scan)?;
        extended = true;
        scan.space()?;
    }
    let reference = scan.astring()?;
    scan.space()?;
    let patterns = if scan.peek() == Some(b'(') {
        extended = true;
        scan.list_some(Scan::list_mailbox)?
    } else {
        vec![scan.list_mailbox()?]
    };
    let mut returns = Returns::default();
    if scan.more() {
        if !scan.take_word("RETURN ") {
            return Err("RETURN was expected");
        }
        returns = take_returns(scan)?;
        extended = true;
    }
    Ok(List { select, reference, patterns, returns, extended })
}

fn take_selection(scan: &mut Scan<'_>) -> Result<Selection, What> {
    let mut select = Selection::default();
    scan.list(|scan| {
        let name = scan.atom()?;
        let option = [
            ("SUBSCRIBED", &mut select.subscribed),
            ("REMOTE", &mut select.remote),
            ("RECURSIVEMATCH", &mut select.recursive_match),
            ("SPECIAL-USE", &mut select.special_use),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
        *option.ok_or("unknown selection option of LIST")?.1 = true;
        Ok(())
    })?;
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err("RECURSIVEMATCH needs another selection option");
    }
    Ok(select)
}

fn take_returns(scan: &mut Scan<'_>) -> Result<Returns, What> {
    let mut returns = Returns::default();
    scan.list(|scan| {
        let name = scan.atom()?;
        if name.eq_ignore_ascii_case("SUBSCRIBED") {
            returns.subscribed = true;
        } else if name.eq_ignore_ascii_case("CHILDREN") {
            returns.children = true;
        } else if name.eq_ignore_ascii_case("SPECIAL-USE") {
            returns.special_use = true;
        } else if name.eq_ignore_ascii_case("STATUS") {
            returns.status = behind_space(scan, take_status_items)?;
        } else {
            return Err("unknown return option of LIST");
        }
        Ok(())
    })?;
    Ok(returns)
}

/// Items in parentheses, each once however often it is asked for.
pub(super) fn take_status_items(scan: &mut Scan<'_>) -> Result<Vec<StatusItem>, What> {
    let mut items = scan.list_some(|scan| {
        let name = scan.atom()?;
        let known = StatusItem::ALL.into_iter().find(|item| item.name().eq_ignore_ascii_case(name));
        known.ok_or("unknown item of STATUS")
    })?;
    let mut seen = Vec::new();
    items.retain(|item| {
        let first = !seen.contains(item);
        seen.push(*item);
        first
    });
    Ok(items)
}
