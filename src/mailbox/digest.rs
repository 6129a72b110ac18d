//! Digests of mailboxes (docs/decisions/0033): two copies of a mailbox are told to hold the same mail by
//! comparing 32 octets, wherever and however each of them is stored.
//!
//! ```text
//! message := SHA-256("pombal message 1\n" | uid u32 | received u32 | flags u8 | count u32
//!            | { len u32 | keyword }, in lower case, sorted | SHA-256 of the octets)
//! sum     := all messages, as numbers of 256 bits, added modulo 2^256
//! mailbox := SHA-256("pombal mailbox 1\n" | count u64 | sum)
//! account := SHA-256("pombal account 1\n" | count u32 | { len u32 | name | use u8 | uidvalidity u32
//!            | mailbox }, sorted by name | count u32 | { len u32 | name of a subscription }, sorted)
//! ```
//! All numbers are little-endian.
//!
//! A sum does not ask in which order, nor in how many parts: a message that comes or goes is added or
//! taken away. What belongs to a store and not to the mail is left out: change counters, UIDNEXT, the
//! time at which a message came into its mailbox, places and numbers of blobs.

use super::keywords::Keywords;
use super::row::Entry;
use crate::bytes::codec::{Put as _, to_u32};
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;

const MESSAGE: &[u8] = b"pombal message 1\n";
const MAILBOX: &[u8] = b"pombal mailbox 1\n";
const ACCOUNT: &[u8] = b"pombal account 1\n";

/// A number of 256 bits, the lowest 64 first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sum([u64; 4]);

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        let mut carry = 0;
        for (own, other) in self.0.iter_mut().zip(other.0) {
            let sum = u128::from(*own) + u128::from(other) + carry;
            let low = sum & u128::from(u64::MAX);
            *own = u64::try_from(low).expect("masked to 64 bits");
            carry = sum >> 64;
        }
    }
}

/// What one mailbox, or account, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxDigest(pub [u8; 32]);

/// In hexadecimal.
impl fmt::Display for MailboxDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(out, "{octet:02x}"))
    }
}

/// A mailbox of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub name: &'a str,
    /// What it is for ([`super::Use`]).
    pub uses: u8,
    pub uidvalidity: u32,
    pub digest: MailboxDigest,
}

fn finish(octets: &[u8]) -> [u8; 32] {
    let mut own = [0; 32];
    own.copy_from_slice(digest(&SHA256, octets).as_ref());
    own
}

/// What a message adds to the sum of its mailbox; `content` is the SHA-256 of its octets.
pub(super) fn of_message(entry: &Entry, keywords: &Keywords, content: &[u8; 32]) -> Sum {
    let names = keywords.of(entry.keywords).map(str::to_ascii_lowercase);
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let mut head = MESSAGE.to_vec();
    head.put_u32(entry.uid.0);
    head.put_u32(entry.internal_date);
    head.put_u8(entry.flags.0);
    head.put_u32(to_u32(names.len()));
    for name in &names {
        put_text(&mut head, name);
    }
    let mut whole = Context::new(&SHA256);
    whole.update(&head);
    whole.update(content);
    let mut sum = Sum::default();
    for (own, octets) in sum.0.iter_mut().zip(whole.finish().as_ref().as_chunks().0) {
        *own = u64::from_le_bytes(*octets);
    }
    sum
}

/// The digest of a mailbox of so many messages.
pub fn of_mailbox(count: u64, sum: Sum) -> MailboxDigest {
    let mut octets = MAILBOX.to_vec();
    octets.put_u64(count);
    sum.0.iter().for_each(|part| octets.put_u64(*part));
    MailboxDigest(finish(&octets))
}

/// The digest of an account.
pub fn of_account(mailboxes: &[Named<'_>], subscriptions: &[String]) -> MailboxDigest {
    let mut mailboxes = mailboxes.to_vec();
    mailboxes.sort_unstable_by_key(|one| one.name);
    let mut names: Vec<&String> = subscriptions.iter().collect();
    names.sort_unstable();
    let mut octets = ACCOUNT.to_vec();
    octets.put_u32(to_u32(mailboxes.len()));
    for one in mailboxes {
        put_text(&mut octets, one.name);
        octets.put_u8(one.uses);
        octets.put_u32(one.uidvalidity);
        octets.extend_from_slice(&one.digest.0);
    }
    octets.put_u32(to_u32(names.len()));
    for name in names {
        put_text(&mut octets, name);
    }
    MailboxDigest(finish(&octets))
}

fn put_text(octets: &mut Vec<u8>, text: &str) {
    octets.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::row::{Flags, Marks};
    use super::*;
    use crate::model::id::{BlobId, ModSeq, Uid};

    fn entry() -> Entry {
        Entry {
            uid: Uid(7),
            modseq: ModSeq(3),
            internal_date: 1_800_000_000,
            save_date: 1,
            size: 5,
            thread: 0,
            blob: BlobId(9),
            keywords: 0,
            flags: Flags::SEEN,
            marks: Marks(0),
        }
    }

    fn sum_of(entry: &Entry, octets: &[u8]) -> Sum {
        of_message(entry, &Keywords::default(), &finish(octets))
    }

    #[test]
    fn a_sum_asks_for_no_order_and_carries() {
        let mut one = Sum([u64::MAX, u64::MAX, 0, 5]);
        one += Sum([1, 0, 0, u64::MAX]);
        assert_eq!(one, Sum([0, 0, 1, 4]), "what is beyond 2^256 is dropped");
        let (first, second) = (sum_of(&entry(), b"a"), sum_of(&entry(), b"b"));
        let (mut there, mut back) = (first, second);
        there += second;
        back += first;
        assert_eq!(there, back);
        assert_ne!(of_mailbox(2, there), of_mailbox(3, there));
    }

    #[test]
    fn tells_what_belongs_to_the_mail_and_nothing_else() {
        let own = sum_of(&entry(), b"mail!");
        let same =
            Entry { modseq: ModSeq(99), save_date: 5, thread: 3, blob: BlobId(1), ..entry() };
        assert_eq!(sum_of(&same, b"mail!"), own, "what belongs to the store");
        let others = [
            sum_of(&Entry { uid: Uid(8), ..entry() }, b"mail!"),
            sum_of(&Entry { internal_date: 1, ..entry() }, b"mail!"),
            sum_of(&Entry { flags: Flags::SEEN.with(Flags::FLAGGED), ..entry() }, b"mail!"),
            sum_of(&entry(), b"mail?"),
        ];
        assert!(others.iter().all(|other| *other != own));
    }

    /// Digests are kept by people and scripts: what they are made of stays as it is.
    #[test]
    fn stays_the_same_for_ever() {
        let mailbox = of_mailbox(1, sum_of(&entry(), b"Subject: x\r\n\r\nx\r\n"));
        let named = Named { name: "INBOX", uses: 0, uidvalidity: 1, digest: mailbox };
        let account = of_account(&[named], &["INBOX".to_owned()]);
        assert_eq!(
            of_mailbox(0, Sum::default()).to_string(),
            "444a0fac61e86967dde4cd7dee1112b5730d3159c86aef1c1cb0316cbae3cbc4"
        );
        assert_eq!(
            mailbox.to_string(),
            "c38daa0b592e6083fa7ec2b46a66221fb5a36a5694b3e8cf94c7b6170a9d5865"
        );
        assert_eq!(
            account.to_string(),
            "05c41b7d15f5953dbccd5907c1b1361c6e96fec18d7225958eb521b1afcbdba2"
        );
    }
}
