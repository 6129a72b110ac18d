//! Where mail for an address goes: to accounts here, to other servers, or nowhere, and what is
//! answered then.

use super::shard::Shard;
use super::smtp::reply::{BROKEN, DISABLED, NO_RELAY, NO_USER};
use crate::directory::{Resolution, resolve};
use crate::env::Env;
use crate::mailbox::Quota;
use crate::model::address::Address;
use crate::model::id::{AccountId, LogId};
use crate::model::reply::Enhanced;
use crate::mta::relay::{Host, Settings, Signed};
use crate::mta::{Places, Rcpt};
use crate::queue::outgoing::Said;
use crate::wire::address::parse_mailbox;
use crate::wire::smtp::reply::Reply;
use std::future::ready;
use std::rc::{Rc, Weak};

/// Where mail for `address` goes, and by which directory. `local` and `domain` are its parts as they
/// are looked up; `may_relay`: for whoever asks, mail goes to any domain.
pub(super) fn find<E: Env>(
    shard: &Shard<E>,
    address: &Address,
    (local, domain): (&str, &str),
    may_relay: bool,
) -> Result<(u64, Places), Reply<'static>> {
    let snapshot = shard.directory();
    let names = &shard.settings().directory;
    let to = |log: LogId, account: AccountId, octets: u64| {
        let quota = if octets == 0 { Quota::NONE } else { Quota { octets, ..Quota::NONE } };
        Rcpt { log, account, quota }
    };
    let mut places = Places::default();
    match resolve(&snapshot, local.as_bytes(), domain, names) {
        Resolution::Account { account, log, quota } => {
            places.accounts.push(to(log, account, quota));
        }
        Resolution::Aliased(aliased) => {
            let locals = aliased.locals.iter();
            places.accounts =
                locals.map(|local| to(local.log, local.account, local.quota)).collect();
            let read = |text: &str| parse_mailbox(text).map(|path| path.to_address());
            for remote in &aliased.remotes {
                places.elsewhere.push(read(&remote.address).map_err(|_| BROKEN)?);
            }
            if aliased.remotes.iter().any(|remote| remote.owner.is_some()) {
                let owners = aliased.remotes.iter().map(|remote| remote.owner.as_deref());
                let owners = owners.map(|owner| owner.map(read).transpose());
                places.owners = owners.collect::<Result<_, _>>().map_err(|_| BROKEN)?;
            }
            places.list = aliased.list_owner().map(read).transpose().map_err(|_| BROKEN)?;
            places.is_forwarded = !places.elsewhere.is_empty();
        }
        Resolution::UnknownDomain if may_relay => places.elsewhere.push(address.clone()),
        Resolution::UnknownDomain => return Err(NO_RELAY),
        Resolution::UnknownUser => return Err(NO_USER),
        Resolution::Disabled => return Err(DISABLED),
        Resolution::Broken(_) => return Err(BROKEN),
    }
    Ok((snapshot.version(), places))
}

/// Who sent the mail that was passed on here under this name, if it is one that was made for that:
/// reports on it are his.
pub(super) fn sent_by<E: Env>(shard: &Shard<E>, local: &str, domain: &str) -> Option<Address> {
    let settings = shard.settings();
    settings.srs.as_ref()?.resolve(local, domain, shard.env.wall().seconds())
}

/// The sender under which mail of `sender` is passed on: one of this server's, unless he is one of its
/// users, so that where it goes this server may send it (SPF).
pub(super) fn passed_on<E: Env>(shard: &Shard<E>, sender: &Address) -> Address {
    match &shard.settings().srs {
        Some(srs) if !shard.directory().serves(sender.domain()) => {
            srs.rewrite(sender, shard.env.wall().seconds())
        }
        _ => sender.clone(),
    }
}

/// What the relay asks of its shard; the shard has the relay, so that the way back holds nothing.
pub struct Home<E: Env>(pub Weak<Shard<E>>);

impl<E: Env> Host for Home<E> {
    fn settings(&self) -> Rc<Settings> {
        self.0.upgrade().map(|shard| Rc::clone(&shard.settings().relay)).unwrap_or_default()
    }

    fn find(&self, address: &Address, is_report: bool) -> Result<Places, Said> {
        let gone = || Said::ours(451, Enhanced(3, 2), "the server is on its way down");
        let shard = self.0.upgrade().ok_or_else(gone)?;
        let sender = is_report.then(|| sent_by(&shard, address.local(), address.domain()));
        let sender = sender.flatten();
        let address = sender.as_ref().unwrap_or(address);
        let parts = (address.local(), address.domain());
        let found = find(&shard, address, parts, true);
        found.map(|(_, places)| places).map_err(|reply| {
            let enhanced = reply.enhanced.unwrap_or(Enhanced(0, 0));
            Said::ours(reply.code, enhanced, reply.text)
        })
    }

    fn passed_on(&self, sender: &Address) -> Address {
        self.0.upgrade().map_or_else(|| sender.clone(), |shard| passed_on(&shard, sender))
    }

    fn name_message(&self) -> String {
        self.0.upgrade().map(|shard| shard.name_message()).unwrap_or_default()
    }

    fn sign(&self, message: Vec<u8>, domain: &str) -> Signed {
        let Some(shard) = self.0.upgrade() else { return Box::pin(ready(Some(message))) };
        if !shard.signs(domain) {
            return Box::pin(ready(Some(message)));
        }
        let signing = shard.sign(message, domain);
        Box::pin(async move {
            match signing.await {
                Ok(signed) => Some(signed),
                // A key that signs nothing is for the operator; a sender hears of his mail all the same. Where
                // there is too much to sign there is no message left.
                Err((_, message)) => message,
            }
        })
    }
}
