//! The policies that are known, bounded in memory, and as lines of a journal.
//!
//! ```text
//! line := {"domain":…,"id":…,"fetched":seconds since 1970,"policy":[lines of the policy]}
//! ```
//! Of a domain the last line counts. When there is no room the policy goes that was not asked for the
//! longest.

use crate::bytes::hash::Sorted;
use crate::model::limits::STS_KEPT_OCTETS_MAX;
use crate::model::time::Wall;
use crate::wire::sts_policy::Policy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How exactly it is known when a policy was last asked for.
pub(super) const USE_STEP: Duration = Duration::from_hours(1);
/// Lines of the journal that may be old, beside as many as there are policies.
const OLD_LINES_MAX: usize = 1_000;

/// One domain's policy.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Which one it is, by the TXT record.
    pub(super) id: Box<str>,
    pub(super) policy: Arc<Policy>,
    pub(super) fetched: Wall,
    pub(super) used: Wall,
}

#[derive(Default)]
pub(super) struct Kept {
    entries: Sorted<Box<str>, Entry>,
    octets: usize,
    /// Lines in the journal.
    lines: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    domain: String,
    id: String,
    fetched: u64,
    policy: Vec<String>,
}

impl Entry {
    fn holds(&self, now: Wall) -> bool {
        now.since(self.fetched) < self.policy.max_age
    }

    fn octets(&self, domain: &str) -> usize {
        domain.len() + self.id.len() + self.policy.octets() + size_of::<(Box<str>, Entry)>()
    }

    pub(super) fn line(&self, domain: &str) -> String {
        let line = Line {
            domain: domain.into(),
            id: self.id.to_string(),
            fetched: self.fetched.0 / 1_000_000,
            policy: self.policy.lines().collect(),
        };
        // Text is all there is in it.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

impl Kept {
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// The policy of a domain, while it holds.
    pub(super) fn get(&self, domain: &str, now: Wall) -> Option<Entry> {
        self.entries.get(domain).filter(|entry| entry.holds(now)).cloned()
    }

    pub(super) fn touch(&mut self, domain: &str, now: Wall) {
        if let Some(entry) = self.entries.get_mut(domain) {
            entry.used = now;
        }
    }

    /// Keeps a policy that stands in the journal by now.
    pub(super) fn put(&mut self, domain: &str, entry: Entry) {
        self.lines += 1;
        self.remove(domain);
        self.octets += entry.octets(domain);
        self.entries.insert(domain.into(), entry);
        while self.octets > STS_KEPT_OCTETS_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used.0);
            let Some(domain) = oldest.map(|(domain, _)| domain.clone()) else { break };
            self.remove(&domain);
        }
    }

    fn remove(&mut self, domain: &str) {
        if let Some(entry) = self.entries.remove(domain) {
            self.octets -= entry.octets(domain);
        }
    }

    /// Takes a line of the journal; what it cannot read, or holds no more, is passed over.
    pub(super) fn read(&mut self, line: &str, now: Wall) {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            self.lines += 1;
            return;
        };
        let Line { domain, id, fetched, policy } = line;
        let fetched = Wall(fetched.saturating_mul(1_000_000));
        match Policy::parse(policy.join("\n").as_bytes()) {
            Ok(policy) => {
                let policy = Arc::new(policy);
                let entry = Entry { id: id.into(), policy, fetched, used: fetched };
                if entry.holds(now) {
                    return self.put(&domain, entry);
                }
                self.remove(&domain);
            }
            Err(_) => self.remove(&domain),
        }
        self.lines += 1;
    }

    /// Domains whose policy holds, and was fetched longer ago than that.
    pub(super) fn older(&self, now: Wall, age: Duration) -> Vec<Box<str>> {
        let is_old = |entry: &Entry| entry.holds(now) && now.since(entry.fetched) >= age;
        let old = self.entries.iter().filter(|(_, entry)| is_old(entry));
        old.map(|(domain, _)| domain.clone()).collect()
    }

    /// Forgets what holds no more.
    pub(super) fn forget(&mut self, now: Wall) {
        let over = self.entries.iter().filter(|(_, entry)| !entry.holds(now));
        let over: Vec<_> = over.map(|(domain, _)| domain.clone()).collect();
        for domain in over {
            self.remove(&domain);
        }
    }

    pub(super) fn is_mostly_old(&self) -> bool {
        self.lines > 2 * self.entries.len() + OLD_LINES_MAX
    }

    /// All of it, for a new journal.
    pub(super) fn lines(&mut self) -> Vec<String> {
        self.lines = self.entries.len();
        self.entries.iter().map(|(domain, entry)| entry.line(domain)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000_000);

    fn policy(max_age: u64, mx: usize) -> Arc<Policy> {
        let mx = "mx: a.example\n".repeat(mx);
        let text = format!("version: STSv1\nmode: enforce\nmax_age: {max_age}\n{mx}");
        Arc::new(Policy::parse(text.as_bytes()).unwrap())
    }

    fn entry(policy: &Arc<Policy>, used: u64) -> Entry {
        let policy = Arc::clone(policy);
        Entry { id: "1".into(), policy, fetched: NOW, used: Wall(NOW.0 + used) }
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let large = policy(1_000, 4_000);
        let room = STS_KEPT_OCTETS_MAX / entry(&large, 0).octets("000000.example");
        let mut kept = Kept::default();
        let name = |number: usize| format!("{number:06}.example");
        for number in 0..room {
            kept.put(&name(number), entry(&large, to_u64(number)));
        }
        kept.touch(&name(0), Wall(NOW.0 + 1_000_000));
        kept.put(&name(room), entry(&large, to_u64(room)));
        assert!(kept.octets <= STS_KEPT_OCTETS_MAX);
        let is_kept = |number| kept.get(&name(number), NOW).is_some();
        assert!(is_kept(0) && !is_kept(1) && is_kept(2) && is_kept(room));
        kept.forget(Wall(NOW.0 + 1_000_000_000));
        assert_eq!((kept.count(), kept.octets), (0, 0));
    }

    fn to_u64(number: usize) -> u64 {
        number.try_into().unwrap()
    }

    #[test]
    fn lines_are_read_again_and_the_last_counts() {
        let mut kept = Kept::default();
        let short = policy(10, 1);
        let later = Wall(NOW.0 + 11_000_000);
        let lines = [
            entry(&policy(10, 1), 0).line("over.example"),
            entry(&policy(20, 1), 0).line("a.example"),
            entry(&policy(20, 2), 0).line("b.example"),
            entry(&short, 0).line("b.example"),
            "{\"domain\":\"c.example\"}".to_owned(),
            "rubbish".to_owned(),
        ];
        for line in lines {
            kept.read(&line, later);
        }
        assert_eq!(kept.entries.keys().map(|domain| &**domain).collect::<Vec<_>>(), ["a.example"]);
        assert_eq!(kept.lines, 6);
        assert_eq!(kept.lines().len(), 1);
        assert_eq!(kept.lines, 1);
    }
}
