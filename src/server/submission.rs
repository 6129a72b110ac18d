//! What a user who logged in may send: as whom, how much, and what a message gets that it lacks
//! (RFC 6409).
//!
//! ```text
//!   MAIL        the sender is the user's: his address, one that leads to him, or one he may use
//!   DATA, BDAT  his allowance                                   counted by the owner of his account
//!   its end     From is his too, or Sender says who he is; Date and Message-ID are added
//! ```

use super::allowance::{Exceeded, Rates};
use super::shard::{Call, Shard};
use crate::directory::{self, Resolution, Snapshot, resolve};
use crate::env::Env;
use crate::mesh;
use crate::model::address::Address;
use crate::model::id::{AccountId, LogId, ShardId};
use crate::model::reply::Enhanced;
use crate::mta::Outcome;
use crate::wire::message::submitted::{Authors, Submitted};
use crate::wire::smtp::reply::Reply;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What happens to a message whose From is somebody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FromCheck {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes, and says in Sender whose it is (RFC 6409 §8.1).
    Sender,
    /// It goes as it is.
    Take,
}

impl FromCheck {
    /// The words of the configuration.
    pub const NAMES: [(&'static str, FromCheck); 3] =
        [("refuse", FromCheck::Refuse), ("sender", FromCheck::Sender), ("take", FromCheck::Take)];
}

/// Addresses that a user may send as beside those that lead to him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendAs {
    /// His own address.
    pub user: Box<str>,
    /// The local part `*` stands for all of the domain.
    pub addresses: Vec<Address>,
}

impl SendAs {
    fn covers(&self, address: &Address) -> bool {
        let is_local = |one: &Address| {
            one.local() == "*" || one.local().to_lowercase() == address.local().to_lowercase()
        };
        self.addresses.iter().any(|one| one.domain() == address.domain() && is_local(one))
    }
}

/// What the operator decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub from: FromCheck,
    /// Received does not say where the user is.
    pub hide_client: bool,
    /// The highest priority that a user may give a message (RFC 6710 §4.1).
    pub priority_max: u8,
    pub rates: Rates,
    pub send_as: Arc<[SendAs]>,
}

pub(super) const NOT_YOUR_SENDER: Reply<'static> =
    Reply::new(550, 7, 1, "This sender is not yours to use");
const NOT_YOUR_FROM: Outcome =
    Outcome::Permanent(Enhanced(7, 1), "From or Sender names an address that is not yours to use");
const UNCLEAR_FROM: Outcome =
    Outcome::Permanent(Enhanced(6, 0), "Message needs one From field with plain addresses");

/// A user who sends, as the directory stands now.
pub(super) struct Submitter<'a> {
    pub(super) account: AccountId,
    pub(super) snapshot: &'a Snapshot,
    pub(super) names: &'a directory::Settings,
    pub(super) settings: &'a Settings,
}

impl Submitter<'_> {
    /// Whether a report on what he sends by this address comes back to somebody here, and it is his.
    pub(super) fn may_send_from(&self, address: &Address) -> bool {
        self.snapshot.serves(address.domain()) && self.may_use(address)
    }

    /// Whether he may call himself this.
    fn may_use(&self, address: &Address) -> bool {
        let local = address.local().as_bytes();
        let leads_here = match resolve(self.snapshot, local, address.domain(), self.names) {
            Resolution::Account { account, .. } => account == self.account,
            Resolution::Aliased(aliased) => {
                aliased.locals.iter().any(|local| local.account == self.account)
            }
            _ => false,
        };
        let is_his = |one: &&SendAs| {
            let user = self.snapshot.login(&one.user, self.names);
            user.is_some_and(|user| user.account == self.account && user.enabled)
        };
        leads_here || self.settings.send_as.iter().filter(is_his).any(|one| one.covers(address))
    }

    /// The domain in whose name a message is signed: that of From where From is the user's, or else that
    /// of the envelope's sender, which always is.
    pub(super) fn signs_for(
        &self,
        header: &Submitted,
        sender: Option<&Address>,
    ) -> Option<Box<str>> {
        let author = match &header.from {
            Authors::Named(all) if all.iter().all(|one| self.may_use(one)) => all.first(),
            _ => sender,
        };
        author.map(|address| address.domain().into())
    }

    /// Whether a message may go; true: with a Sender field that says who he is. `has_sender`: the
    /// envelope says so too.
    pub(super) fn judge(&self, header: &Submitted, has_sender: bool) -> Result<bool, Outcome> {
        let is_own = |authors: &Authors| match authors {
            Authors::Named(all) => all.iter().all(|one| self.may_use(one)),
            Authors::Nobody | Authors::Unclear => false,
        };
        let no_other_sender = header.sender == Authors::Nobody || is_own(&header.sender);
        let is_own = no_other_sender && is_own(&header.from);
        match self.settings.from {
            FromCheck::Take => Ok(false),
            _ if is_own => Ok(false),
            FromCheck::Sender if has_sender => Ok(true),
            FromCheck::Sender | FromCheck::Refuse => Err(match header.from {
                Authors::Named(_) => NOT_YOUR_FROM,
                Authors::Nobody | Authors::Unclear => UNCLEAR_FROM,
            }),
        }
    }
}

/// Whether an account may send a message; on its way.
pub(super) type Allowing = Pin<Box<dyn Future<Output = Result<(), Exceeded>>>>;

/// Asks the owner of an account, which lies in `log`, whether it may send one message to so many recipients now.
pub(super) fn allow<E: Env>(
    shard: &Shard<E>,
    (log, account): (LogId, AccountId),
    recipients: u32,
) -> Allowing {
    let owner = ShardId(log.0);
    if owner == shard.id {
        return Box::pin(std::future::ready(shard.allow(account, recipients)));
    }
    let (reply, answer) = mesh::reply();
    let sent = shard.mesh.send(owner, Call::Allowance(account, recipients, reply));
    Box::pin(async move {
        sent.map_err(|_| Exceeded::Crowded)?;
        answer.await.unwrap_or(Err(Exceeded::Crowded))
    })
}

/// What a user is told who sends too much.
pub(super) fn to_reply(exceeded: Exceeded) -> Reply<'static> {
    match exceeded {
        Exceeded::Messages => {
            Reply::new(450, 7, 1, "You have sent many messages: wait for a while")
        }
        Exceeded::Recipients => {
            Reply::new(450, 7, 1, "You have sent to many recipients: wait for a while")
        }
        Exceeded::Never => {
            Reply::new(550, 7, 1, "You may not send one message to so many recipients")
        }
        Exceeded::Crowded => Reply::new(451, 3, 2, "Too many users send at the moment"),
        Exceeded::Unasked => {
            Reply::new(451, 3, 2, "It cannot be told now whether you may send, try again later")
        }
    }
}
