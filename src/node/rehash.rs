//! Keeps passwords anew, one after the other, on shard 0 (see `server/rehash.rs`).

use super::directory::{Unchanged, change};
use super::owners::OfShards;
use crate::auth::Busy;
use crate::directory::{ChangeError, Draft, Ledger};
use crate::env::Env;
use crate::probe::event::{Level, Value, event};
use crate::server::rehash::Rehash;
use crate::server::shard::Shard;
use futures_lite::future::or;
use std::fmt;
use std::rc::Rc;

/// Why a password is kept as it was.
enum Left {
    /// It is another one by now, or there is nobody any more whose it was.
    Changed,
    /// The threads that hash have too much to do: they do the checks of logins first.
    Busy,
    /// The operator does not want it any more.
    Unwanted,
    Failed(Unchanged),
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::Changed => out.write_str("the password was changed meanwhile"),
            Left::Busy => out.write_str("too many passwords wait to be hashed"),
            Left::Unwanted => out.write_str("auth.rehash was switched off"),
            Left::Failed(why) => why.fmt(out),
        }
    }
}

/// Works until the server drains.
pub(super) async fn serve<E: Env>(shard: Rc<Shard<E>>, ledger: Ledger) {
    let owners = OfShards { shard: Rc::clone(&shard), ledger: ledger.clone() };
    let next = async || {
        or(async { Some(shard.rehashes.next().await) }, async {
            shard.draining.wait().await;
            None
        })
        .await
    };
    while let Some(one) = next().await {
        let user = ("user", Value::Text(&one.user));
        match keep(&shard, &ledger, &owners, &one).await {
            Ok(()) => {
                shard.figures.rehashed.one();
                event(Level::Info, "password_rehashed", &[user]);
            }
            // The log closes under what is not done by then.
            Err(_) if shard.draining.is_set() => return,
            Err(why) => {
                let level = match why {
                    Left::Failed(_) => Level::Warn,
                    Left::Changed | Left::Busy | Left::Unwanted => Level::Info,
                };
                shard.figures.rehashes_put_off.one();
                event(level, "password_not_rehashed", &[user, ("why", Value::Shown(&why))]);
            }
        }
    }
}

/// Hashes, and writes it down where nothing else was written meanwhile.
async fn keep<E: Env>(
    shard: &Rc<Shard<E>>,
    ledger: &Ledger,
    owners: &OfShards<E>,
    one: &Rehash,
) -> Result<(), Left> {
    let recipe = shard.settings().rehash.clone().ok_or(Left::Unwanted)?;
    let random = || u128::from(shard.env.random()) << 64 | u128::from(shard.env.random());
    let salts = [(); 3].map(|()| random().to_le_bytes());
    let hashed =
        shard.authenticator.secrets(recipe, &one.kept, one.bound.clone(), &one.password, salts);
    let hash = hashed.await.map_err(|Busy| Left::Busy)?;
    let write = |draft: &mut Draft<'_>| draft.replace_hash(&one.user, &one.kept, &hash);
    let changed = change(&shard.log, ledger, owners, write).await;
    changed.map(|_| ()).map_err(|why| match why {
        Unchanged::Refused(ChangeError::NoSuchUser(_) | ChangeError::PasswordChanged(_)) => {
            Left::Changed
        }
        why => Left::Failed(why),
    })
}
