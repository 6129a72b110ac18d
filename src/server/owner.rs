//! What a shard does for the operator with the accounts and the log that it owns.
//!
//! The same answers come from a running shard, over its inbox, and from a log that was opened alone
//! while the server is stopped.

use super::shard::MeshPeers;
use crate::env::Env;
use crate::mailbox::moving::ask;
use crate::mailbox::undelete::{UndeleteError, Undeleted, Wanted};
use crate::mailbox::{self, Accounts, ExpungeError, Message, Usage, delete_account};
use crate::model::id::AccountId;
use crate::mta::relay::Desk;
use crate::mta::relay::desk::ask::{Ask, Reply};
use crate::store::verify::{Findings, Pace};
use crate::store::{Cleaned, Log, backup};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How often a removal is tried again that another removal stands in the way of.
const REMOVE_ATTEMPTS_MAX: u32 = 500;
/// Wait before it is.
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// What the owner of a log is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What these accounts keep. Answered by [`Told::Usage`].
    Usage(Vec<AccountId>),
    /// Which accounts there are, but for those that were deleted and are empty. Answered by
    /// [`Told::Accounts`].
    Accounts,
    /// Delete the account with all its mail. Answered by [`Told::Removed`], once that is durable.
    Remove(AccountId),
    /// Have the sessions of an account look whether they may go on. Answered by [`Told::Heard`].
    Look(AccountId),
    /// The figures of the log. Answered by [`Told::Figures`].
    Figures,
    /// Clean one unit of the segments before this one, or of all that there are. Answered by
    /// [`Told::Compacted`].
    Compact(Option<u64>),
    /// Check the first segment behind the one of this number, or the first of all, at so many octets in a
    /// second. Answered by [`Told::Verified`].
    Verify { after: Option<u64>, rate: u64 },
    /// About outgoing mail. Answered by [`Told::Queue`].
    Queue(Ask),
    /// About mail that moves in or out, with the messages that come along. Answered by
    /// [`Told::Moving`].
    Moving(AccountId, Box<ask::Ask>, Vec<Message>),
    /// By whoever makes a backup. Answered by [`Told::Backup`].
    Backup(backup::Ask),
    /// Bring an account back to how it was. Answered by [`Told::Undeleted`].
    Undelete(AccountId, Wanted),
}

/// What the owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// In the order of the question.
    Usage(Vec<Usage>),
    /// By number.
    Accounts(Vec<AccountId>),
    Removed,
    Heard,
    /// It could not be done, for this reason; part of it may be.
    Failed(String),
    Figures(Vec<(&'static str, u64)>),
    Compacted(Compacted),
    /// What was found, and the segment that it was; `None`: that was all.
    Verified(Box<Findings>, Option<u64>),
    Queue(Reply),
    /// With the octets that follow.
    Moving(ask::Reply, Vec<u8>),
    Backup(Box<backup::Reply>),
    Undeleted(Result<Undeleted, UndeleteError>),
}

/// How cleaning went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Segments of this number and later ones are not meant.
    pub before: u64,
    /// `None`: none of the others is worth it any more.
    pub cleaned: Option<Cleaned>,
    /// Octets of segments that are free again.
    pub reclaimed_octets: u64,
}

/// Answers a question out of a log, the accounts in it, and its outgoing mail.
pub async fn answer<E: Env>(
    log: Log<E>,
    accounts: Rc<RefCell<Accounts>>,
    mailboxes: mailbox::Desk<E>,
    queue: Desk<E, MeshPeers<E::Conn>>,
    question: Question,
) -> Told {
    match question {
        Question::Usage(ids) => {
            let accounts = accounts.borrow();
            Told::Usage(ids.into_iter().map(|id| accounts.usage(id)).collect())
        }
        Question::Accounts => Told::Accounts(accounts.borrow().living()),
        Question::Remove(account) => remove(&log, &accounts, account).await,
        Question::Look(account) => {
            accounts.borrow_mut().ring(account);
            Told::Heard
        }
        Question::Figures => Told::Figures(figures(&log, &accounts.borrow())),
        Question::Compact(before) => compact(&log, before).await,
        Question::Verify { after, rate } => {
            let mut pace = Pace::new(rate);
            let (findings, next) = log.verify_part(after, &mut pace).await;
            Told::Verified(Box::new(findings), next)
        }
        Question::Queue(ask) => Told::Queue(queue.answer(ask).await),
        Question::Moving(account, ask, brought) => {
            let (reply, octets) = mailboxes.moving(account, *ask, brought).await;
            Told::Moving(reply, octets)
        }
        Question::Backup(ask) => match log.backup(ask).await {
            Ok(reply) => Told::Backup(Box::new(reply)),
            Err(why) => Told::Failed(why),
        },
        Question::Undelete(account, wanted) => {
            Told::Undeleted(mailboxes.undelete(account, &wanted).await)
        }
    }
}

async fn compact<E: Env>(log: &Log<E>, before: Option<u64>) -> Told {
    let reclaimed = log.stats().reclaimed_octets.get();
    match log.compact(before).await {
        Ok((before, cleaned)) => Told::Compacted(Compacted {
            before,
            cleaned,
            reclaimed_octets: log.stats().reclaimed_octets.get() - reclaimed,
        }),
        Err(error) => Told::Failed(error.to_string()),
    }
}

async fn remove<E: Env>(log: &Log<E>, accounts: &Rc<RefCell<Accounts>>, id: AccountId) -> Told {
    for _ in 0..REMOVE_ATTEMPTS_MAX {
        match delete_account(log, accounts, id).await {
            Ok(()) => return Told::Removed,
            // A session of this user is about to remove something too.
            Err(ExpungeError::Busy) => log.env().sleep(REMOVE_PAUSE).await,
            Err(ExpungeError::Append(error)) => return Told::Failed(error.to_string()),
            Err(ExpungeError::TooMany) => return Told::Failed("too many messages at once".into()),
        }
    }
    Told::Failed("other removals do not come to an end".into())
}

fn figures<E: Env>(log: &Log<E>, accounts: &Accounts) -> Vec<(&'static str, u64)> {
    let (figures, stats) = (log.figures(), log.stats());
    vec![
        ("batches", stats.batches.get()),
        ("groups", stats.groups.get()),
        ("syncs", stats.syncs.get()),
        ("octets_written", stats.octets_written.get()),
        ("checkpoints", stats.checkpoints.get()),
        ("checkpoint_octets", stats.checkpoint_octets.get()),
        ("cleaned_segments", stats.victims.get()),
        ("cleaned_blobs", stats.moved_blobs.get()),
        ("cleaned_octets", stats.moved_octets.get()),
        ("cold_octets_written", stats.cold_octets.get()),
        ("packed_octets_before", stats.packed_from.get()),
        ("packed_octets_after", stats.packed_to.get()),
        ("reclaimed_octets", stats.reclaimed_octets.get()),
        ("cleaning_pauses_us", stats.clean_pauses.get()),
        ("failures", stats.failures.get()),
        ("scrubbed_octets", stats.scrubbed_octets.get()),
        ("scrub_faults", stats.scrub_faults.get()),
        ("scrub_rounds", stats.scrub_rounds.get()),
        // 1 for each log that has no room.
        ("crowded", u64::from(figures.crowded)),
        ("reads", stats.reads.get()),
        ("cache_hits", figures.cache_hits),
        ("cache_misses", figures.cache_misses),
        ("cache_octets", figures.cache_octets),
        ("blobs", figures.blobs),
        ("hot_segments", figures.hot_segments),
        ("hot_live_octets", figures.hot_live_octets),
        ("cold_segments", figures.cold_segments),
        ("cold_live_octets", figures.cold_live_octets),
        ("index_segments", figures.index_segments),
        ("index_live_octets", figures.index_live_octets),
        ("free_segments", figures.free_segments),
        ("segment_octets", figures.segment_octets * figures.segments()),
        ("applied_batch", figures.applied),
        ("messages", accounts.messages()),
        ("message_octets", accounts.octets()),
    ]
}
