//! Answers mail for users who are away (RFC 3834; RFC 5230 as far as it goes without Sieve).
//!
//! ```text
//!   delivered, here ─ arrivals ─ is he away? may it be answered? was its sender lately?
//!      ─> one group of the log of his account: the answer on its way, and whom it is for
//! ```
//!
//! Promises:
//!   - the shard that owns the mailbox answers, behind the delivery: no delivery waits for it, none fails
//!   - a sender has one answer in the period, whenever the server goes down: the answer is in the log with the
//!     note that it was given, or neither is
//!   - nobody answers an answer: it has the null sender, and says what it is
//!
//! What was delivered and not looked at when the server went down is not answered: the next message is.

mod reply;

use self::reply::Reply;
use super::places::Home;
use super::shard::Shard;
use crate::directory::{Resolution, Snapshot, User, Vacation, resolve};
use crate::env::Env;
use crate::mailbox::{Judge, Message};
use crate::model::address::Address;
use crate::model::id::{AccountId, BlobId};
use crate::mta::relay::Host as _;
use crate::mta::{Away, Envelope, MailOptions, Outcome, Places, Ways};
use crate::probe::event::{Level, Value, event};
use crate::queue::answered::{key, put_answered};
use crate::queue::outgoing::To;
use crate::store::{BlobView, Group};
use crate::wire::address::parse_mailbox;
use crate::wire::message::respond::{Answerable, answerable, is_program, lasting, return_path};
use futures_lite::future::or;
use std::rc::Rc;
use std::time::Duration;

const DAY_SECONDS: u32 = 86_400;
/// Between two looks for a message that is on its way into the log, and how many there are.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
const LOOKS: u32 = 5;

/// Works until the server drains.
pub async fn serve<E: Env>(shard: Rc<Shard<E>>) {
    let bell = shard.accounts.borrow_mut().arrivals().bell();
    while !shard.draining.is_set() {
        let heard = bell.rung();
        let arrived = shard.accounts.borrow_mut().arrivals().take();
        match arrived {
            Some((account, blob)) => answer(&shard, account, blob).await,
            None => or(bell.past(heard), shard.draining.wait()).await,
        }
    }
}

/// Answers one message, if it is to be.
async fn answer<E: Env>(shard: &Rc<Shard<E>>, account: AccountId, blob: BlobId) {
    let now = shard.env.wall().seconds();
    let snapshot = shard.directory();
    let Some(user) = snapshot.away().get(&account).cloned() else { return };
    let Some(vacation) = user.vacation.clone().filter(|one| user.enabled && one.is_on(now)) else {
        return;
    };
    let Some(view) = look(shard, blob).await else { return };
    let Some(sender) = return_path(view.octets()) else { return };
    let own = Own { shard, snapshot: &snapshot, user: &user, vacation: &vacation };
    if is_program(&sender) || own.is_own(&sender) {
        return;
    }
    let Some(about) = answerable(view.octets(), |one| own.is_own(one)) else { return };
    drop(view);
    let key = key(&lasting(&sender), vacation.subject.as_deref().unwrap_or(""), &vacation.text);
    if !shard.answered.borrow().may_answer(account, key, now) {
        return;
    }
    let mut group = Group::new();
    let until = now.saturating_add(u32::from(vacation.days) * DAY_SECONDS);
    put_answered(&mut group, account, key, now, until);
    let name = shard.name_message();
    let outcome = send(shard, (&user, &vacation), (&sender, &about), &name, group).await;
    let outcome = match outcome {
        Some(Outcome::Stored) => {
            shard.figures.vacations.one();
            "stored"
        }
        Some(_) => "lost",
        None => "nobody",
    };
    let fields = [
        ("id", name.as_str().into()),
        ("account", account.0.into()),
        ("recipient", Value::Shown(&sender)),
        ("outcome", outcome.into()),
    ];
    event(Level::Info, "vacation", &fields);
}

/// A message that was delivered; none: it never came, or cannot be read.
async fn look<E: Env>(shard: &Shard<E>, blob: BlobId) -> Option<BlobView> {
    for _ in 0..LOOKS {
        if let Ok(view) = shard.log.read(blob).await {
            return Some(view);
        }
        or(shard.env.sleep(LOOK_PAUSE), shard.draining.wait()).await;
    }
    None
}

/// Which addresses are those of a user.
struct Own<'o, E: Env> {
    shard: &'o Shard<E>,
    snapshot: &'o Snapshot,
    user: &'o User,
    vacation: &'o Vacation,
}

impl<E: Env> Own<'_, E> {
    /// His own with any tag, an alias that leads to him alone, or one that he says is his.
    fn is_own(&self, address: &Address) -> bool {
        let is_same = |text: &str| {
            parse_mailbox(text).is_ok_and(|path| {
                let one = path.to_address();
                let is_local = one.local().eq_ignore_ascii_case(address.local());
                is_local && one.domain() == address.domain()
            })
        };
        let (local, names) = (address.local().as_bytes(), &self.shard.settings().directory);
        let account = self.user.account;
        self.vacation.addresses.iter().any(|one| is_same(one))
            || is_same(self.user.name.as_str())
            || match resolve(self.snapshot, local, address.domain(), names) {
                Resolution::Account { account: found, .. } => found == account && !is_role(local),
                Resolution::Aliased(all) => {
                    all.remotes.is_empty()
                        && all.list_owner().is_none()
                        && matches!(&*all.locals, [only] if only.account == account)
                        && !is_role(local)
                }
                _ => false,
            }
    }
}

/// What somebody has to answer for a domain is nobody's own.
fn is_role(local: &[u8]) -> bool {
    local.eq_ignore_ascii_case(b"postmaster") || local.eq_ignore_ascii_case(b"abuse")
}

/// Puts an answer on its way with what is in `group`. None: nobody is there whom it is for,
/// or a list or several people are.
async fn send<E: Env>(
    shard: &Rc<Shard<E>>,
    (user, vacation): (&User, &Vacation),
    (sender, about): (&Address, &Answerable),
    name: &str,
    group: Group,
) -> Option<Outcome> {
    let places = Home(Rc::downgrade(shard)).find(sender, true).ok().filter(Places::is_one)?;
    if !places.elsewhere.is_empty() && shard.intake.is_full() {
        return Some(Outcome::CROWDED);
    }
    let now = shard.env.wall().seconds();
    let from = parse_mailbox(user.name.as_str()).ok()?.to_address();
    let reply = Reply { from: &from, to: sender, vacation, about };
    let octets = reply.compose(&shard.settings().relay.hello, name, now);
    let utf8 = !(from.is_ascii() && sender.is_ascii());
    let Ok(octets) = shard.sign(octets, from.domain()).await else {
        return Some(Outcome::CROWDED);
    };
    let mut ways = Ways::default();
    ways.put_elsewhere(&To { address: sender.clone(), notify: None, orcpt: None }, &places);
    let message = Away {
        name: name.into(),
        sender: None,
        options: MailOptions::default(),
        recipients: Vec::new(),
        utf8,
        is_here: false,
        is_signed: true,
        via: None,
        before: None,
    };
    let away = ways.into_away(&message, Address::clone);
    // A full mailbox takes it all the same, as it does a report.
    let envelope = Envelope { recipients: places.accounts, away, judge: Judge::Judged };
    let message = Message::new(octets, utf8, true, now);
    let outcomes = shard.intake.accept_with(&envelope, message, group).await;
    Some(Outcome::overall(&outcomes))
}
