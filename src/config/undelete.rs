//! `[undelete]`: how long what users change and remove can be brought back.

use super::names::DomainPattern;
use super::reader::Section;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);
/// A week: people miss a mail on the next working day, or when they are back from a few days off.
const RETENTION: Duration = Duration::from_hours(7 * 24);
const RETENTION_MAX: Duration = Duration::from_hours(3_650 * 24);

/// See the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelete {
    /// Zero keeps nothing.
    pub retention: Duration,
    /// First match wins.
    pub domains: Vec<DomainRetention>,
}

/// The retention of some domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRetention {
    pub domain: DomainPattern,
    pub retention: Duration,
}

pub(super) fn undelete(mut section: Section<'_, '_, '_>) -> Undelete {
    let retention = section.time("retention", RETENTION, Duration::ZERO..=RETENTION_MAX);
    let undelete = Undelete { retention, domains: section.sections("domain", domain) };
    section.end();
    undelete
}

fn domain(mut section: Section<'_, '_, '_>) -> Option<DomainRetention> {
    let allowed = "a domain, \"*.domain\" or \"*\"";
    let domain = section.word("domain", None, allowed, DomainPattern::parse, |_| String::new());
    section.demand("domain", domain.is_none(), allowed);
    let is_missing = section.span("retention").is_none();
    section.demand("retention", is_missing, "a time, such as \"30d\"; \"0s\" keeps nothing");
    let retention = section.time("retention", DAY, Duration::ZERO..=RETENTION_MAX);
    section.end();
    domain.filter(|_| !is_missing).map(|domain| DomainRetention { domain, retention })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn keeps_a_week_unless_told_otherwise() {
        let read = |text: &str| parse("test", text).unwrap().config.undelete;
        assert_eq!((read("").retention, read("").domains), (7 * DAY, Vec::new()));
        let text = "[undelete]\nretention = \"0s\"\n[[undelete.domain]]\ndomain = \"*.a.example\"\n\
                    retention = \"30d\"\n";
        let undelete = read(text);
        assert_eq!(undelete.retention, Duration::ZERO);
        let one = &undelete.domains[0];
        assert!(one.domain.matches("b.a.example") && one.retention == 30 * DAY);
        for bad in ["domain = \"a.example\"\n", "retention = \"1d\"\n", "domain = \"a b\"\n"] {
            parse("test", &format!("[[undelete.domain]]\n{bad}")).unwrap_err();
        }
    }
}
