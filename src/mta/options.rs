//! What a sender asked for beside the addresses: the parameters of MAIL and RCPT that a queue has to
//! heed, kept for as long as the message is under way.
//!
//! Each is offered only where it is heeded in full, so that it is set nowhere else.

use crate::wire::smtp::later::{By, Hold};
use crate::wire::smtp::param::{MailParams, Notify, RcptParams, Ret};

/// Of the whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// How much of it a report on a failure brings back (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// In xtext (RFC 3461 §4.4).
    pub envid: Option<Box<str>>,
    /// RFC 4865 §3.
    pub hold: Option<Hold>,
    /// RFC 2852 §4.
    pub by: Option<By>,
    /// RFC 6710 §4.1.
    pub priority: Option<i8>,
    /// RFC 8689 §2.
    pub require_tls: bool,
    /// `TLS-Required: No` in the message itself (RFC 8689 §3): read where mail goes out.
    pub tls_optional: bool,
}

impl MailOptions {
    /// Leaves out what its sender wants to hear, and by when it has to be there: a list is where his
    /// message ends, and sends on one of its own (RFC 3461 §5.2.7.1 b).
    pub(super) fn forget_reports(&mut self) {
        (self.ret, self.envid, self.by) = (None, None, None);
    }
}

impl From<&MailParams<'_>> for MailOptions {
    fn from(params: &MailParams<'_>) -> MailOptions {
        MailOptions {
            ret: params.ret,
            envid: params.envid.map(Into::into),
            hold: params.hold,
            by: params.by,
            priority: params.priority,
            require_tls: params.require_tls,
            tls_optional: false,
        }
    }
}

/// Of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptOptions {
    /// When its sender wants to hear of it (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// `type;xtext` (RFC 3461 §4.2).
    pub orcpt: Option<Box<str>>,
}

impl From<&RcptParams<'_>> for RcptOptions {
    fn from(params: &RcptParams<'_>) -> RcptOptions {
        RcptOptions { notify: params.notify, orcpt: params.orcpt.map(Into::into) }
    }
}
