//! An account at rest: its pages as a checkpoint has them, and what no page says, in one allocation.
//!
//! ```text
//! image := loaded varint | truths u8 | octets varint | messages varint | oldest varint
//!          | counters given beyond those applied varint
//!          | mailboxes varint, each: number, UIDs given beyond those applied, recent UIDs: varints
//!          | head, behind its length as varint | parts, unless they are in the head (page.rs)
//! ```
//!
//! In memory only: no release reads the image of another one. What is asked of all accounts in turn
//! stands in front ([`Facts`]) and is read without waking any.

use super::account::{Account, Layout, PartAt};
use super::folder::Folder;
use super::history;
use super::page::{
    AccountHead, HEAD_MINOR, PartsIn, PartsOut, check_part, chunk_minor, decode_head, decode_part,
    encode_head, is_memo, is_whole, memo_minor, part_references,
};
use super::quota::Usage;
use crate::bytes::codec::{Put, Reader, Short, to_u64};
use crate::model::id::{BlobId, Lsn, MailboxId, ModSeq, Uid};
use crate::model::limits::SHELVE_STEP_PAGES;
use crate::store::Damaged;

const CLOSED: u8 = 1;
const KEEPS: u8 = 2;
const LETS_GO: u8 = 4;
const VOID: u8 = 8;

/// What is so of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Truths(u8);

impl Truths {
    /// Whether it is closed, keeps a history, lets go, is void.
    pub(super) fn new(truths: [bool; 4]) -> Truths {
        let bits = truths.iter().zip([CLOSED, KEEPS, LETS_GO, VOID]);
        Truths(bits.filter(|(is_so, _)| **is_so).map(|(_, bit)| bit).sum())
    }

    pub(super) fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether changes go into the history.
    pub(super) fn keeps(self) -> bool {
        self.0 & KEEPS != 0
    }

    /// Some mailbox was removed, and the history has let it go.
    pub(super) fn lets_go(self) -> bool {
        self.0 & LETS_GO != 0
    }

    /// It has no mailboxes.
    pub(super) fn is_void(self) -> bool {
        self.0 & VOID != 0
    }
}

/// What is known of an account without a look at its mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub truths: Truths,
    pub usage: Usage,
    /// Until when the oldest was that the history has.
    pub oldest: Option<u32>,
}

impl Facts {
    fn put(&self, loaded: Lsn, out: &mut Vec<u8>) {
        out.put_varint(loaded.0);
        out.put_u8(self.truths.0);
        out.put_varint(self.usage.octets);
        out.put_varint(self.usage.messages);
        out.put_varint(self.oldest.map_or(0, |oldest| u64::from(oldest) + 1));
    }

    fn read(reader: &mut Reader<'_>) -> Result<(Lsn, Facts), Short> {
        let loaded = Lsn(reader.varint()?);
        let truths = Truths(reader.u8()?);
        let usage = Usage { octets: reader.varint()?, messages: reader.varint()? };
        let oldest = reader.varint()?.checked_sub(1);
        let oldest = oldest.map(u32::try_from).transpose().map_err(|_| Short)?;
        Ok((loaded, Facts { truths, usage, oldest }))
    }
}

/// See the header.
#[derive(Debug)]
pub(super) struct Image(Box<[u8]>);

/// An image on its way: as much of an account as one step takes, then more.
#[derive(Debug, Default)]
pub(super) struct Packing {
    at: PartAt,
    parts: PartsOut,
}

impl Packing {
    /// Packs so many pages. `None` while there are more. The account must not change between two
    /// steps.
    pub(super) fn step(&mut self, account: &Account, pages: usize) -> Option<Image> {
        for _ in 0..pages {
            let Some((minor, page)) = account.part(&mut self.at) else {
                return Some(Image::of(account, &self.parts.octets));
            };
            self.parts.push(minor, &page);
        }
        None
    }
}

impl Image {
    /// Packs an account in one go.
    pub(super) fn pack(account: &Account) -> Image {
        let packed = Packing::default().step(account, usize::MAX);
        packed.expect("no account has so many pages")
    }

    fn of(account: &Account, parts: &[u8]) -> Image {
        let mut out = Vec::with_capacity(96 + parts.len());
        account.facts().put(account.loaded, &mut out);
        out.put_varint(account.assigned.0.saturating_sub(account.modseq.0));
        let is_ahead = |folder: &&Folder| folder.ahead() != (0, 0);
        let ahead = account.folders().iter().filter(is_ahead);
        out.put_varint(to_u64(ahead.clone().count()));
        for folder in ahead {
            let (given, recent) = folder.ahead();
            out.put_varint(folder.id.0.into());
            out.put_varint(given.into());
            out.put_varint(recent.into());
        }
        let head = account.head();
        if account.layout == Layout::Spread {
            out.put_short_slice(&encode_head(&head, None));
            out.extend_from_slice(parts);
        } else {
            out.put_short_slice(&encode_head(&head, Some(parts)));
        }
        Image(out.into_boxed_slice())
    }

    /// An account as the last checkpoint has it. `parts` are all its pages but the head, sorted; some
    /// may be of the past. They are checked, so that it can be woken ever after.
    pub(super) fn load(
        loaded: Lsn,
        head_page: &[u8],
        parts: &[(u64, Vec<u8>)],
    ) -> Result<Image, Damaged> {
        let (head, whole) = decode_head(head_page)?;
        let mut kept = PartsOut::default();
        if whole.is_none() {
            for minor in minors(&head) {
                match parts.binary_search_by_key(&minor, |(minor, _)| *minor) {
                    Ok(at) => kept.push(minor, &parts[at].1),
                    Err(_) if is_memo(minor) => {}
                    Err(_) => return Err(Damaged("a chunk is missing".into())),
                }
            }
        }
        let first_ended = check(&head, whole.unwrap_or(&kept.octets))?;
        let mut out = Vec::with_capacity(32 + head_page.len() + kept.octets.len());
        facts_of(&head, first_ended).put(loaded, &mut out);
        // Nothing is on its way, and nothing is recent.
        out.put_varint(0);
        out.put_varint(0);
        out.put_short_slice(head_page);
        out.extend_from_slice(&kept.octets);
        Ok(Image(out.into_boxed_slice()))
    }

    /// Names blobs that it refers to, as [`Account::references`] does: of some parts from one on. Where
    /// to go on, if there are more.
    pub(super) fn references(
        &self,
        from: usize,
        each: &mut dyn FnMut(BlobId),
    ) -> Result<Option<usize>, Damaged> {
        let (head, rest) = self.split().map_err(|_| cut_off())?;
        let parts =
            PartsIn::new(if is_whole(head) { decode_head(head)?.1.unwrap_or(&[]) } else { rest });
        let is_past = |part: &Result<(u64, &[u8]), Damaged>| {
            part.as_ref().is_ok_and(|(minor, _)| minor >> 32 == 0)
        };
        let there = parts.clone().filter(|part| !is_past(part));
        let mut parts = there.chain(parts.filter(is_past)).skip(from);
        for part in parts.by_ref().take(SHELVE_STEP_PAGES) {
            let (minor, page) = part?;
            part_references(minor, page, each)?;
        }
        Ok(parts.next().map(|_| from + SHELVE_STEP_PAGES))
    }

    /// Whatever octets these are.
    #[cfg(test)]
    pub(super) fn of_octets(octets: &[u8]) -> Image {
        Image(octets.into())
    }

    pub(super) fn octets(&self) -> usize {
        self.0.len()
    }

    /// Up to where the checkpoint had it.
    pub(super) fn loaded(&self) -> Lsn {
        Lsn(Reader::new(&self.0).varint().unwrap_or(0))
    }

    pub(super) fn facts(&self) -> Facts {
        Facts::read(&mut Reader::new(&self.0)).map(|(_, facts)| facts).unwrap_or_default()
    }

    /// Its pages, the head first.
    pub(super) fn pages(&self) -> Result<Vec<(u64, &[u8])>, Damaged> {
        let (head, rest) = self.split().map_err(|_| cut_off())?;
        let mut pages = vec![(HEAD_MINOR, head)];
        for part in PartsIn::new(rest) {
            pages.push(part?);
        }
        Ok(pages)
    }

    fn split(&self) -> Result<(&[u8], &[u8]), Short> {
        let mut reader = Reader::new(&self.0);
        Facts::read(&mut reader)?;
        reader.varint()?;
        for _ in 0..reader.varint()? {
            for _ in 0..3 {
                reader.varint()?;
            }
        }
        Ok((reader.short_slice()?, reader.rest()))
    }

    /// The account, as it was.
    pub(super) fn wake(&self) -> Result<Account, Damaged> {
        let (head, rest) = self.split().map_err(|_| cut_off())?;
        let (head, whole) = decode_head(head)?;
        let mut account = Account::load(head)?;
        if whole.is_none() {
            account.layout = Layout::Spread;
        }
        for part in PartsIn::new(whole.unwrap_or(rest)) {
            let (minor, page) = part?;
            let (mailbox, part) = decode_part(minor, page)?;
            account.load_part(mailbox, part);
        }
        if !account.is_complete() {
            return Err(Damaged("a chunk is missing".into()));
        }
        self.give_back(&mut account).map_err(|_| cut_off())?;
        Ok(account)
    }

    /// What no page says.
    fn give_back(&self, account: &mut Account) -> Result<(), Short> {
        let mut reader = Reader::new(&self.0);
        let (loaded, _) = Facts::read(&mut reader)?;
        account.loaded = loaded;
        account.assigned = ModSeq(account.modseq.0.saturating_add(reader.varint()?));
        for _ in 0..reader.varint()? {
            let id = MailboxId(reader.varint_u32()?);
            let (given, recent) = (reader.varint_u32()?, reader.varint_u32()?);
            if let Some(folder) = account.folder_mut(id) {
                folder.set_ahead(given, recent);
            }
        }
        Ok(())
    }
}

/// Whether an account can be made of these, which is then as its head tells; nothing is made. Parts have
/// to be in the order in which they are written. Until when the oldest of the history was.
fn check(head: &AccountHead, parts: &[u8]) -> Result<Option<u32>, Damaged> {
    Account::check(head)?;
    if head.mailboxes.iter().any(|one| one.removed_at != 0 && !one.removed) {
        return Err(Damaged("a mailbox is there that was removed".into()));
    }
    let mut first_ended = None;
    let mut parts = PartsIn::new(parts).peekable();
    for minor in minors(head) {
        let is_next = |part: &Result<(u64, &[u8]), Damaged>| {
            part.as_ref().is_ok_and(|(found, _)| *found == minor)
        };
        match parts.next_if(is_next) {
            Some(part) => {
                let (_, page) = part?;
                check_part(minor, page)?;
                if head.past.first().is_some_and(|one| history::minor(one.number) == minor) {
                    first_ended = history::first_ended(page);
                }
            }
            None if is_memo(minor) => {}
            None => return Err(Damaged("a chunk is missing".into())),
        }
    }
    match parts.next() {
        Some(part) => part.and(Err(Damaged("a part that the head does not name".into()))),
        None => Ok(first_ended),
    }
}

fn cut_off() -> Damaged {
    Damaged("an account at rest is cut off".into())
}

/// What the head of an account tells of it.
fn facts_of(head: &AccountHead, first_ended: Option<u32>) -> Facts {
    let there = head.mailboxes.iter().filter(|one| !one.removed);
    let removed = head.mailboxes.iter().filter(|one| one.removed);
    let removed_at = removed.clone().map(|one| one.removed_at).filter(|at| *at != 0);
    let lets_go = removed.clone().any(|one| one.removed_at == 0);
    Facts {
        truths: Truths::new([head.closed, head.keeps, lets_go, head.mailboxes.is_empty()]),
        usage: Usage {
            octets: there.clone().map(|one| one.octets).sum(),
            messages: there.map(|one| u64::from(one.count)).sum(),
        },
        oldest: removed_at.chain(first_ended).min(),
    }
}

/// The pages that an account may have besides its head, in the order of parts.
pub(super) fn minors(head: &AccountHead) -> impl Iterator<Item = u64> {
    let past = head.past.iter().map(|one| history::minor(one.number));
    past.chain(head.mailboxes.iter().flat_map(|one| {
        let id = MailboxId(one.id);
        let chunks = one.chunks.iter().map(move |chunk| chunk_minor(id, chunk.number));
        std::iter::once(memo_minor(id)).chain(chunks)
    }))
}

/// How far the numbers of a mailbox are ahead of what its pages say: UIDs that were given and not
/// applied, and UIDs that no session was told of.
pub(super) fn ahead(uidnext: Uid, assign: Uid, recent_from: Uid) -> (u32, u32) {
    (assign.0.wrapping_sub(uidnext.0), uidnext.0.wrapping_sub(recent_from.0))
}

#[cfg(test)]
mod tests;
