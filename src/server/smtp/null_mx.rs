//! Domains that say that they have no mail (RFC 7505): what is sent from one, or to one.
//!
//! Nobody could answer to such a sender, and no server takes mail for such a recipient. Only the word
//! of the domain refuses anything: where the DNS says nothing, mail goes its way.

use super::reply::{BROKEN, NO_MAIL_FROM, NO_MAIL_TO};
use super::{Accepted, Driver, Transaction};
use crate::bytes::chain::Chain;
use crate::concierge::dns::Kind;
use crate::env::Env;
use crate::model::address::Address;
use crate::mta::Places;
use crate::proto::smtp::Verdict;
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

    /// The question about the domain of a recipient elsewhere, where its sender sends there himself. The
    /// queue asks the same, and has the answer then.
    pub(super) fn asks_recipient(&self, places: &Places) -> Option<Asked> {
        let [only] = &*places.elsewhere else { return None };
        let domain: Box<str> = only.domain().into();
        let dns = self.shard.dns.clone();
        (!places.is_forwarded && self.is_foreign(&domain)).then(|| -> Asked {
            Box::pin(async move {
                dns.prove(Kind::Mx, &domain).await.is_ok_and(|found| found.is_null_mx())
            })
        })
    }

    /// A domain that is not served here, and that has a name.
    fn is_foreign(&self, domain: &str) -> bool {
        !domain.starts_with('[') && !self.shard.directory().serves(domain)
    }

    /// Opens a transaction, unless nobody could answer to its sender.
    pub(super) async fn hear_sender(&mut self, opening: Box<Transaction>, asked: Asked) {
        if !self.is_null(asked).await {
            return self.take_sender(opening);
        }
        let sender = opening.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        self.guest.refused_null_mx(&self.shard, &sender);
        let mut out = Chain::new();
        self.session.sender(Verdict::Refuse(NO_MAIL_FROM), &mut out);
        self.put(out);
    }

    /// Takes a recipient elsewhere, unless its domain takes no mail.
    pub(super) async fn hear_elsewhere(&mut self, accepted: Accepted, asked: Asked) {
        let is_null = self.is_null(asked).await;
        let verdict = match self.transaction.as_deref_mut() {
            _ if is_null => Verdict::Refuse(NO_MAIL_TO),
            None => Verdict::Refuse(BROKEN),
            Some(transaction) => {
                transaction.accepted.push(accepted);
                Verdict::Accept
            }
        };
        self.put_recipient(verdict);
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
