//! Listings, a page at a time: by domain, by the beginning of a name, from where the last page
//! ended. A page costs a bounded walk, whatever the directory holds.

use super::ledger::Directory;
use super::name::Name;
use super::record::{Alias, User};
use super::snapshot::Entry;
use crate::model::limits::{DIRECTORY_ROWS_MAX, DIRECTORY_SCAN_MAX};
use std::sync::Arc;

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    pub users: bool,
    pub aliases: bool,
    /// Only of this domain, as [`super::domain_name`] gives it.
    pub domain: Option<&'a str>,
    /// Only local parts that begin like this, in lower case.
    pub prefix: &'a str,
    /// Where the last page ended ([`Page::next`]).
    pub after: Option<&'a Name>,
    /// Rows wanted; at most [`DIRECTORY_ROWS_MAX`] come.
    pub rows: usize,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Query {
            users: true,
            aliases: true,
            domain: None,
            prefix: "",
            after: None,
            rows: DIRECTORY_ROWS_MAX,
        }
    }
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Ask again with this as [`Query::after`]; `None` if that was all. A page may have no rows and
    /// not be the last.
    pub next: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    User(Arc<User>),
    Alias(Arc<Alias>),
}

impl Directory {
    pub(super) fn list(&self, query: &Query<'_>) -> Page {
        let mut page = Page::default();
        let rows_max = query.rows.clamp(1, DIRECTORY_ROWS_MAX);
        // Within a domain the names that begin alike stand together.
        let lowest =
            query.domain.map_or(Name::new("", ""), |domain| Name::new(query.prefix, domain));
        let from = query.after.filter(|after| **after > lowest).unwrap_or(&lowest);
        for (scanned, (name, entry)) in self.entries_from(from).enumerate() {
            if query.after == Some(name) {
                continue;
            }
            if let Some(domain) = query.domain
                && (name.domain() != domain || !name.local().starts_with(query.prefix))
            {
                break;
            }
            if page.rows.len() == rows_max || scanned == DIRECTORY_SCAN_MAX {
                return page;
            }
            page.next = Some(name.clone());
            if name.local().starts_with(query.prefix) {
                match entry {
                    Entry::User(user) if query.users => page.rows.push(Row::User(user)),
                    Entry::Alias(alias) if query.aliases => page.rows.push(Row::Alias(alias)),
                    _ => {}
                }
            }
        }
        page.next = None;
        page
    }

    /// The domains that begin like this, sorted; at most [`DIRECTORY_ROWS_MAX`] after `after`.
    pub(super) fn list_domains(&self, prefix: &str, after: Option<&str>) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = self
            .domains()
            .map(|domain| &*domain.name)
            .filter(|name| name.starts_with(prefix) && after.is_none_or(|after| *name > after))
            .map(Box::from)
            .collect();
        names.sort_unstable();
        names.truncate(DIRECTORY_ROWS_MAX);
        names
    }
}
