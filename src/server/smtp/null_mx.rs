//! Domains that say that they have no mail (RFC 7505): what is sent from one, or to one.
//!
//! Nobody could answer to such a sender, and no server takes mail for such a recipient. Only the word
//! of the domain refuses anything: where the DNS says nothing, mail goes its way.

use super::reply::{NO_MAIL_FROM, NO_MAIL_TO, NO_QUEUE};
use super::{Asking, Driver, Transaction};
use crate::bytes::chain::Chain;
use crate::concierge::dns::Kind;
use crate::env::Env;
use crate::model::address::Address;
use crate::proto::smtp::Verdict;
use crate::wire::address::ForwardPath;
use futures_lite::future::or;
use std::future::Future;
use std::pin::Pin;

/// Whether a domain says so; on its way.
pub(super) type Asked = Pin<Box<dyn Future<Output = bool>>>;

impl<E: Env> Driver<E> {
    /// The question about the sender's domain, where this client's are asked about.
    pub(super) fn asks_sender(&self, sender: &Address) -> Option<Asked> {
        let domain: Box<str> = sender.domain().into();
        let dns = self.shard.dns.clone();
        (self.guest.checks_null_mx() && self.is_foreign(&domain)).then(|| -> Asked {
            Box::pin(async move {
                dns.look_up(Kind::Mx, &domain).await.is_ok_and(|found| found.is_null_mx())
            })
        })
    }

    /// The question about the domain of a recipient elsewhere, where this client may send there. The
    /// queue asks the same, and has the answer then.
    pub(super) fn asks_recipient(&self, recipient: &ForwardPath<'_>) -> Option<Asking> {
        let ForwardPath::Path(path) = recipient else { return None };
        let domain: Box<str> = path.domain().into();
        let dns = self.shard.dns.clone();
        (self.may_relay() && self.is_foreign(&domain)).then(|| {
            Asking::Elsewhere(Box::pin(async move {
                dns.prove(Kind::Mx, &domain).await.is_ok_and(|found| found.is_null_mx())
            }))
        })
    }

    /// A domain that is not served here, and that has a name.
    fn is_foreign(&self, domain: &str) -> bool {
        !domain.starts_with('[') && !self.shard.directory().serves(domain)
    }

    /// Opens a transaction, unless nobody could answer to its sender.
    pub(super) async fn hear_sender(&mut self, opening: Box<Transaction>, asked: Asked) {
        let verdict = if self.is_null(asked).await {
            let sender = opening.sender.as_ref().map(ToString::to_string).unwrap_or_default();
            self.guest.refused_null_mx(&self.shard, &sender);
            Verdict::Refuse(NO_MAIL_FROM)
        } else {
            self.transaction = Some(opening);
            Verdict::Accept
        };
        let mut out = Chain::new();
        self.session.sender(verdict, &mut out);
        self.put(out);
    }

    pub(super) async fn hear_elsewhere(&mut self, asked: Asked) {
        let reply = if self.is_null(asked).await { NO_MAIL_TO } else { NO_QUEUE };
        self.put_recipient(Verdict::Refuse(reply));
    }

    /// A server on its way down does not wait for it.
    async fn is_null(&self, asked: Asked) -> bool {
        let draining = async {
            self.shard.draining.wait().await;
            false
        };
        or(asked, draining).await
    }
}
