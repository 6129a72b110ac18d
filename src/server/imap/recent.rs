//! `\Recent`: the messages that this session was the first to be told of (RFC 3501 §2.3.2).
//!
//! A mailbox keeps the first UID that no session was told of. Who may change the mailbox takes what
//! stands from there on, when it is told of it; who may only read sees it and leaves it to others.
//! IMAP4rev2 took the flag away (RFC 9051): such a session neither sees nor takes.

use super::Driver;
use crate::env::Env;
use crate::mailbox::View;
use crate::model::id::{AccountId, MailboxId, Uid};
use crate::wire::imap::set::{Span, is_among};

/// UIDs in spans that rise, those of messages that went included. Without any, no message costs a
/// look.
#[derive(Default)]
pub(super) struct Recent(Vec<Span>);

impl Recent {
    /// Adds what nobody was told of when the view was made, and this session was not told of
    /// before, below `known`; whether there is any.
    pub(super) fn learn(&mut self, view: &View, known: Uid) -> bool {
        let first = view.recent_from().max(known).0;
        let Some(new) = Span::new(first, view.uidnext().0 - 1) else { return false };
        match self.0.last_mut() {
            Some(last) if last.last + 1 == new.first => last.last = new.last,
            _ => self.0.push(new),
        }
        true
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        is_among(&self.0, uid.0)
    }

    /// How many of them are there.
    pub(super) fn count(&self, view: &View) -> u32 {
        let below = |uid: u32| view.lower_bound(Uid(uid));
        self.0.iter().map(|span| below(span.last + 1) - below(span.first)).sum()
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.0
    }
}

impl<E: Env> Driver<E> {
    /// A mailbox as it is now, for the session that has it selected, or is about to: it must be
    /// told of it, for what is recent is taken with it.
    pub(super) fn take_view(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        read_only: bool,
    ) -> Option<View> {
        let accounts = &self.shard.accounts;
        if self.enabled.rev2 {
            Some(accounts.borrow().open_view(account, mailbox)?.without_recent())
        } else if read_only {
            accounts.borrow().open_view(account, mailbox)
        } else {
            accounts.borrow_mut().take_view(account, mailbox)
        }
    }

    /// The same of the selected mailbox; `None` if somebody removed it, or brought it back to an
    /// earlier state.
    pub(super) fn view_now(&self) -> Option<View> {
        let user = self.user.as_ref()?;
        let selected = user.selected.as_ref().filter(|_| !self.is_restored())?;
        self.take_view(user.account, selected.mailbox, selected.read_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_uids_of_its_spans() {
        let span = |first, last| Span { first, last };
        let recent = Recent(vec![span(3, 4), span(9, 9)]);
        let has: Vec<u32> = (1..12).filter(|&uid| recent.has(Uid(uid))).collect();
        assert_eq!(has, [3, 4, 9]);
        assert_eq!(recent.count(&View::empty()), 0);
        assert!(!Recent::default().learn(&View::empty(), Uid(1)), "there never was one");
    }
}
