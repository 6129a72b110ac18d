//! LIST in all its forms (RFC 9051 §6.3.9, RFC 5258), and LSUB.
//!
//! Names come sorted, so that what lies below a name follows it. A name that is no mailbox, but
//! has mailboxes below it, is shown as `\NonExistent`.

use super::{Done, Driver, Outcome};
use crate::env::Env;
use crate::mailbox::{SEPARATOR, Use};
use crate::model::id::MailboxId;
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::list::List;
use crate::wire::imap::mailbox::net_unicode;
use crate::wire::imap::pattern::Pattern;
use crate::wire::imap::reply::list::ListLine;
use crate::wire::imap::scan::Text;
use std::collections::BTreeMap;

/// What is known of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    id: Option<MailboxId>,
    uses: Use,
    subscribed: bool,
    children: bool,
    /// Something below it is subscribed to.
    subscribed_below: bool,
}

impl<E: Env> Driver<E> {
    /// Every name of the account: mailboxes, subscriptions, and what stands above them.
    fn names(&self) -> BTreeMap<Box<str>, Known> {
        let mut names: BTreeMap<Box<str>, Known> = BTreeMap::new();
        let Some(user) = &self.user else { return names };
        let state = self.shard.accounts.borrow();
        state.each_mailbox(user.account, |one| {
            let known = names.entry(one.name.into()).or_default();
            (known.id, known.uses) = (Some(one.id), one.uses);
        });
        let subscribed = state.subscriptions(user.account);
        for name in &subscribed {
            names.entry(name.clone()).or_default().subscribed = true;
        }
        let all: Vec<(Box<str>, Known)> =
            names.iter().map(|(name, known)| (name.clone(), *known)).collect();
        for (name, known) in all {
            let mut above = &*name;
            while let Some((upper, _)) = above.rsplit_once(SEPARATOR) {
                let one = names.entry(upper.into()).or_default();
                one.children |= known.id.is_some();
                one.subscribed_below |= known.subscribed;
                above = upper;
            }
        }
        names
    }

    pub(super) async fn list(&mut self, conn: &mut Stream<E>, list: &List<'_>) -> Outcome {
        let utf8 = self.enabled.utf8;
        let asks_root = list.patterns.iter().all(|pattern| pattern.is_empty());
        if asks_root && !list.extended {
            // The separator alone (RFC 9051 §6.3.9).
            ListLine { attributes: &["\\Noselect"], ..ListLine::default() }
                .put(&mut self.out, utf8);
            return Ok(Done::Ok("that is the separator"));
        }
        let reference = list.reference.octets();
        let made = |pattern: &Text<'_>| Pattern::new(&reference, &pattern.octets(), utf8);
        let patterns: Vec<Pattern> = list.patterns.iter().filter_map(made).collect();
        let select = list.select;
        for (name, known) in self.names() {
            let normal = net_unicode(&name);
            let hit = patterns.iter().any(|pattern| pattern.matches(&normal));
            // Only names that are there, or that what is there hangs on, are listed of themselves.
            let exists = known.id.is_some() || known.children;
            let wanted = match (select.subscribed, select.special_use) {
                (true, false) => known.subscribed,
                (false, true) => known.uses != Use::default(),
                (true, true) => known.subscribed && known.uses != Use::default(),
                (false, false) => exists,
            };
            let by_child = select.recursive_match && select.subscribed && known.subscribed_below;
            if !hit || !(wanted || by_child) {
                continue;
            }
            let shown = Shown {
                subscribed: known.subscribed && (select.subscribed || list.returns.subscribed),
                child_info: by_child,
                uses: !self.hidden.meets(Capabilities::SPECIAL_USE),
            };
            self.put_name(&name, &known, &shown);
            if !list.returns.status.is_empty()
                && let Some(id) = known.id
                && let Some(user) = &self.user
            {
                let view = self.shard.accounts.borrow().open_view(user.account, id);
                if let Some(view) = view {
                    self.put_status(&name, id, &view, &list.returns.status);
                }
            }
            self.flush_if_much(conn).await?;
        }
        Ok(Done::Ok("listed"))
    }

    fn put_name(&mut self, name: &str, known: &Known, shown: &Shown) {
        let mut attributes: Vec<&str> = Vec::new();
        if known.id.is_none() {
            attributes.push("\\NonExistent");
            if !self.enabled.rev2 {
                attributes.push("\\Noselect");
            }
        }
        // Always, and exact (RFC 3348 §3, RFC 5258 §4).
        attributes.push(if known.children { "\\HasChildren" } else { "\\HasNoChildren" });
        if shown.subscribed {
            attributes.push("\\Subscribed");
        }
        if shown.uses {
            let uses = Use::NAMES.iter().filter(|(one, _)| known.uses.has(*one));
            attributes.extend(uses.map(|(_, name)| *name));
        }
        let child_info: &[&str] = if shown.child_info { &["SUBSCRIBED"] } else { &[] };
        let line = ListLine { attributes: &attributes, name, child_info, ..ListLine::default() };
        line.put(&mut self.out, self.enabled.utf8);
    }

    /// Subscribed names; with `%`, also what stands above one (RFC 3501 §6.3.9).
    pub(super) async fn lsub(
        &mut self,
        conn: &mut Stream<E>,
        reference: Text<'_>,
        pattern: Text<'_>,
    ) -> Outcome {
        let utf8 = self.enabled.utf8;
        let octets = pattern.octets();
        let Some(made) = Pattern::new(&reference.octets(), &octets, utf8) else {
            return Ok(Done::Ok("nothing matches"));
        };
        let levels = octets.contains(&b'%');
        for (name, known) in self.names() {
            let above = levels && known.subscribed_below && !known.subscribed;
            if !(known.subscribed || above) || !made.matches(&net_unicode(&name)) {
                continue;
            }
            let attributes: &[&str] = if known.subscribed { &[] } else { &["\\Noselect"] };
            let line = ListLine { lsub: true, attributes, name: &name, ..ListLine::default() };
            line.put(&mut self.out, utf8);
            self.flush_if_much(conn).await?;
        }
        Ok(Done::Ok("listed"))
    }
}

/// What of a name is shown.
struct Shown {
    subscribed: bool,
    child_info: bool,
    uses: bool,
}
