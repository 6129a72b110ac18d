//! What is offered, and what a client switched on.

use super::recent::Recent;
use super::{Done, Driver, Settings};
use crate::env::Env;
use crate::model::channel::Channel;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::reply::put_words;
use std::borrow::Cow;

/// What ENABLE, or a command that implies it, switched on (RFC 5161).
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension of its own")]
pub(super) struct Enabled {
    /// RFC 9051 Appendix E.
    pub rev2: bool,
    /// Strings and names are UTF-8 (RFC 6855 §3).
    pub utf8: bool,
    /// Change counters go with flags (RFC 7162 §3.1).
    pub condstore: bool,
    /// VANISHED instead of EXPUNGE (RFC 7162 §3.2).
    pub qresync: bool,
}

/// What is offered before a login too; of [`Capabilities::IDLE`] Python's imaplib asks once, before
/// the login, and believes it for ever.
const EARLY: Capabilities = Capabilities::REV2
    .and(Capabilities::LITERAL)
    .and(Capabilities::ID)
    .and(Capabilities::ENABLE)
    .and(Capabilities::IDLE);

/// STARTTLS is for those who are in clear.
pub(super) fn offers_tls(settings: &Settings, channel: &Channel) -> bool {
    settings.starttls && !channel.encrypted
}

/// The words of CAPABILITY, before and after login, but for those that are hidden.
pub(super) fn words(
    settings: &Settings,
    channel: &Channel,
    logged_in: bool,
    hidden: Capabilities,
) -> Vec<Cow<'static, str>> {
    let mechanisms = settings.auth.offered(channel);
    let offered = match logged_in {
        true => Capabilities::ALL.without(Capabilities::SASL_IR),
        false if !mechanisms.is_empty() => EARLY.and(Capabilities::SASL_IR),
        false => EARLY,
    };
    let mut words: Vec<Cow<'static, str>> = vec!["IMAP4rev1".into()];
    for (one, word) in offered.without(hidden).each() {
        words.push(match one {
            Capabilities::APPENDLIMIT => format!("{word}={}", settings.append_octets_max).into(),
            Capabilities::MESSAGELIMIT => {
                let limit = settings.message_limit.map_or(u32::MAX, u32::from);
                format!("{word}={limit}").into()
            }
            _ => word.into(),
        });
    }
    if !logged_in && offers_tls(settings, channel) {
        words.push("STARTTLS".into());
    }
    if !logged_in {
        words.extend(mechanisms.each().map(|one| format!("AUTH={}", one.name()).into()));
        if !settings.auth.takes_passwords(channel) {
            words.push("LOGINDISABLED".into());
        }
    }
    words
}

impl<E: Env> Driver<E> {
    /// The words of CAPABILITY as they are for this session now.
    pub(super) fn words(&self) -> Vec<Cow<'static, str>> {
        words(&self.shard.settings().imap, self.channel(), self.user.is_some(), self.hidden)
    }

    pub(super) fn put_capability(&mut self) {
        let words = self.words();
        put_words(&mut self.out, "CAPABILITY", words.iter().map(|word| &**word));
    }

    /// Switches on what is known of `names`, and says what that is.
    pub(super) fn enable(&mut self, names: &[&str]) -> Done {
        let mut enabled: Vec<&str> = Vec::new();
        let hidden = self.hidden;
        let names = names.iter().filter(|name| {
            // One that is hidden is one that is not known.
            !Capabilities::named(name).is_some_and(|one| one.meets(hidden))
        });
        for name in names {
            let is = |word: &str| name.eq_ignore_ascii_case(word);
            let on = &mut self.enabled;
            if is("CONDSTORE") && !on.condstore {
                self.count_changes();
                enabled.push("CONDSTORE");
            } else if is("QRESYNC") && !on.qresync {
                on.qresync = true;
                self.count_changes();
                enabled.push("QRESYNC");
            } else if is("UTF8=ACCEPT") && !on.utf8 {
                on.utf8 = true;
                enabled.push("UTF8=ACCEPT");
            } else if is("IMAP4rev2") && !on.rev2 {
                (on.rev2, on.utf8) = (true, true);
                if let Some(selected) = self.user.as_mut().and_then(|user| user.selected.as_mut()) {
                    selected.recent = Recent::default();
                }
                enabled.push("IMAP4rev2");
            }
        }
        put_words(&mut self.out, "ENABLED", enabled);
        Done::Ok("enabled")
    }
}
