//! The catalog of an account: mailboxes are renamed, marked and removed, names are subscribed.
//!
//! ```text
//! 23 RENAME         v1  mailbox u32 | modseq u64 | name: len u32, octets (UTF-8)
//! 24 SUBSCRIBE      v1  on u8 (0, 1) | name: len u32, octets (UTF-8)
//! 26 MAILBOX_DELETE v1  mailbox u32 | modseq u64
//! 27 MAILBOX_USE    v1  mailbox u32 | modseq u64 | use u8, see `Use`
//! ```
//!
//! A MAILBOX_DELETE takes the name away at once; the messages go by EXPUNGE, at once or in steps,
//! and the mailbox is forgotten with the last one. Its number and its UIDVALIDITY never come back, but
//! by a mailbox of another server that moves in anew (origin.rs).

use crate::bytes::codec::{Put, Reader, Short};
use crate::model::id::{AccountId, MailboxId, ModSeq};
use crate::model::limits::MAILBOX_NAME_OCTETS_MAX;
use crate::store::Group;

pub(in super::super) const RENAME: u8 = 23;
pub(in super::super) const SUBSCRIBE: u8 = 24;
pub(in super::super) const MAILBOX_DELETE: u8 = 26;
pub(in super::super) const MAILBOX_USE: u8 = 27;

/// Special uses of a mailbox (RFC 6154 §2, RFC 8457 §3), one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use(pub u8);

impl Use {
    pub const ALL: Use = Use(1);
    pub const ARCHIVE: Use = Use(2);
    pub const DRAFTS: Use = Use(4);
    pub const FLAGGED: Use = Use(8);
    pub const JUNK: Use = Use(16);
    pub const SENT: Use = Use(32);
    pub const TRASH: Use = Use(64);
    pub const IMPORTANT: Use = Use(128);

    /// Every use with its attribute.
    pub const NAMES: [(Use, &'static str); 8] = [
        (Use::ALL, "\\All"),
        (Use::ARCHIVE, "\\Archive"),
        (Use::DRAFTS, "\\Drafts"),
        (Use::FLAGGED, "\\Flagged"),
        (Use::JUNK, "\\Junk"),
        (Use::SENT, "\\Sent"),
        (Use::TRASH, "\\Trash"),
        (Use::IMPORTANT, "\\Important"),
    ];

    pub const fn has(self, other: Use) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A change of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Catalog<'a> {
    Rename { mailbox: MailboxId, modseq: ModSeq, name: &'a str },
    Subscribe { on: bool, name: &'a str },
    Delete { mailbox: MailboxId, modseq: ModSeq },
    Use { mailbox: MailboxId, modseq: ModSeq, uses: Use },
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Short> {
    let name = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?;
    let is_good = !name.is_empty() && name.len() <= MAILBOX_NAME_OCTETS_MAX;
    if is_good { Ok(name) } else { Err(Short) }
}

pub(super) fn read<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Catalog<'a>, Short> {
    if kind == SUBSCRIBE {
        let on = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Short),
        };
        return Ok(Catalog::Subscribe { on, name: name(reader)? });
    }
    let mailbox = MailboxId(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    match kind {
        RENAME => Ok(Catalog::Rename { mailbox, modseq, name: name(reader)? }),
        MAILBOX_DELETE => Ok(Catalog::Delete { mailbox, modseq }),
        MAILBOX_USE => Ok(Catalog::Use { mailbox, modseq, uses: Use(reader.u8()?) }),
        _ => Err(Short),
    }
}

pub(in super::super) fn put_catalog(group: &mut Group, account: AccountId, change: &Catalog<'_>) {
    let mut body = Vec::new();
    let kind = match *change {
        Catalog::Rename { mailbox, modseq, name } => {
            body.put_u32(mailbox.0);
            body.put_u64(modseq.0);
            body.put_slice(name.as_bytes());
            RENAME
        }
        Catalog::Subscribe { on, name } => {
            body.put_u8(u8::from(on));
            body.put_slice(name.as_bytes());
            SUBSCRIBE
        }
        Catalog::Delete { mailbox, modseq } => {
            body.put_u32(mailbox.0);
            body.put_u64(modseq.0);
            MAILBOX_DELETE
        }
        Catalog::Use { mailbox, modseq, uses } => {
            body.put_u32(mailbox.0);
            body.put_u64(modseq.0);
            body.put_u8(uses.0);
            MAILBOX_USE
        }
    };
    group.record(kind, super::VERSION, account.0, body);
}
