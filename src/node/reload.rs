//! SIGHUP: the file is read again. What can change while the server runs is taken over, by all shards;
//! every other key that differs is named, and stays until the next start.
//!
//! Sessions that are open go on as they began in what their SMTP and POP3 machines hold (limits of
//! commands and messages, errors, whether passwords may be in clear); timeouts, limits of connections
//! and all of IMAP count from the next command on.

use super::shard::Plan;
use crate::config::{Config, Loaded, Setting};

/// Sections and keys that are taken over; what stands in [`STAY`] is not.
const TAKEN: [&str; 27] = [
    "hostname",
    "auth.allow_plaintext",
    "auth.mechanisms",
    "auth.oauth.",
    "auth.rehash",
    "tls.certificate",
    "tls.key",
    "tls.sni",
    "tls.starttls",
    "tls.client_",
    "directory.",
    "smtp.",
    "protect.",
    "proxy.",
    "submission.",
    "srs.",
    "undelete.",
    "queue.",
    "site",
    "source",
    "route",
    "pop3.",
    "imap.",
    "limits.connections",
    "limits.reply_memory",
    "limits.write_timeout",
    "log.level",
];
/// The memory for drafts is made for the largest message, and that of greylisting once.
const STAY: [&str; 4] =
    ["smtp.max_message_size", "protect.greylist.entries", "queue.dane", "queue.ca_file"];

/// One key that the file says otherwise now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) is_taken: bool,
}

/// What is in force.
pub(super) struct InForce {
    pub(super) plan: Plan,
    settings: Vec<Setting>,
}

fn is_taken(key: &str) -> bool {
    !STAY.contains(&key) && TAKEN.iter().any(|taken| key.starts_with(taken))
}

fn shown(setting: Option<&Setting>) -> String {
    let value = setting.and_then(|one| one.value.clone()).unwrap_or_else(|| "(none)".into());
    // The log has quotes of its own.
    match value.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) if !text.contains(['"', '\\']) => text.into(),
        _ => value,
    }
}

impl InForce {
    pub(super) fn new(plan: Plan, settings: Vec<Setting>) -> InForce {
        InForce { plan, settings }
    }

    /// Takes over what can be, and says what differed.
    pub(super) fn take(&mut self, loaded: &Loaded) -> Vec<Change> {
        let mut changes = Vec::new();
        for new in &loaded.settings {
            let known = self.settings.iter_mut().find(|known| known.key == new.key);
            if known.as_ref().is_some_and(|known| known.value == new.value) {
                continue;
            }
            let (from, to) = (shown(known.as_deref()), shown(Some(new)));
            let is_taken = is_taken(&new.key);
            changes.push(Change { key: new.key.clone(), from, to, is_taken });
            if let (Some(known), true) = (known, is_taken) {
                *known = new.clone();
            }
        }
        // Lists of tables are no keys of their own.
        let (old, new) = (&self.plan.config, &loaded.config);
        for (key, differs) in [
            ("submission.allow", old.submission.policy.send_as != new.submission.policy.send_as),
            ("imap.client", old.imap.clients != new.imap.clients),
            ("protect.dns_list", old.protect.dns_lists != new.protect.dns_lists),
            ("route", old.routes != new.routes),
            ("site", old.sites != new.sites),
            ("source", old.sources != new.sources),
            ("tls.sni", old.tls.sni != new.tls.sni),
        ] {
            if differs {
                let (from, to) = ("(a list)".into(), "(another list)".into());
                changes.push(Change { key: key.into(), from, to, is_taken: is_taken(key) });
            }
        }
        self.plan.config = with(old, new);
        changes
    }
}

/// `old` with what [`TAKEN`] names of `new`.
fn with(old: &Config, new: &Config) -> Config {
    let mut config = old.clone();
    config.hostname = new.hostname.clone();
    config.auth.allow_plaintext = new.auth.allow_plaintext;
    config.auth.mechanisms = new.auth.mechanisms;
    config.auth.oauth.clone_from(&new.auth.oauth);
    config.auth.rehash = new.auth.rehash;
    config.tls.default.clone_from(&new.tls.default);
    config.tls.sni.clone_from(&new.tls.sni);
    config.tls.starttls = new.tls.starttls;
    config.tls.clients.clone_from(&new.tls.clients);
    config.directory = new.directory.clone();
    config.smtp = new.smtp.clone();
    config.smtp.max_message_size = old.smtp.max_message_size;
    config.protect = new.protect.clone();
    config.protect.greylist.entries = old.protect.greylist.entries;
    config.proxy = new.proxy.clone();
    config.submission = new.submission.clone();
    config.srs = new.srs.clone();
    config.queue = new.queue.clone();
    config.sites.clone_from(&new.sites);
    config.sources.clone_from(&new.sources);
    config.routes.clone_from(&new.routes);
    config.pop3 = new.pop3.clone();
    config.imap = new.imap.clone();
    config.limits.connections = new.limits.connections;
    config.limits.connections_per_address = new.limits.connections_per_address;
    config.limits.reply_memory = new.limits.reply_memory;
    config.limits.write_timeout = new.limits.write_timeout;
    config.log.level = new.log.level;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Cost, Pool};
    use crate::config::parse;

    fn loaded(text: &str) -> Loaded {
        parse("test", text).expect("the keys are right")
    }

    fn in_force(text: &str) -> InForce {
        let Loaded { config, settings, .. } = loaded(text);
        let plan = Plan::new(config, 1, 2, Pool::inline(Cost::LEAST), [0; 32]);
        InForce::new(plan, settings)
    }

    #[test]
    fn takes_what_can_be_and_names_all_else() {
        let mut running = in_force("hostname = \"a.example\"\nshards = 2");
        let file = loaded(
            "hostname = \"b.example\"\nshards = 3\n[smtp]\nmax_recipients = 107\n\
             max_message_size = \"1M\"\n[limits]\nconnections = 110\ndrain_timeout = \"9s\"\n\
             [log]\nlevel = \"debug\"\n[[route]]\ndomain = \"c.example\"\nrelay = \"d.example:25\"",
        );
        let name = |changes: Vec<Change>| -> Vec<String> {
            let mark = |is_taken| if is_taken { "" } else { " stays" };
            changes.iter().map(|one| format!("{}{}", one.key, mark(one.is_taken))).collect()
        };
        let stay = ["shards stays", "smtp.max_message_size stays", "limits.drain_timeout stays"];
        let mut first = name(running.take(&file));
        first.retain(|line| !stay.contains(&&**line));
        assert_eq!(
            first,
            ["hostname", "smtp.max_recipients", "limits.connections", "log.level", "route"]
        );
        let config = &running.plan.config;
        assert_eq!((config.smtp.max_recipients, config.limits.connections), (107, 110));
        assert_eq!(config.hostname.as_str(), "b.example");
        assert_ne!(config.smtp.max_message_size, 1 << 20);
        // What stays is named again each time, what was taken is not.
        let mut again = name(running.take(&file));
        again.sort();
        let mut stay = stay.map(str::to_owned);
        stay.sort();
        assert_eq!(again, stay);
    }

    /// Each key of the sections reaches the configuration that is in force, or is said to stay.
    #[test]
    fn what_it_says_is_taken_is_in_the_configuration() {
        let file = loaded(
            "hostname = \"b.example\"\n[auth]\nallow_plaintext = true\n\
             [directory]\nsubaddress_separator = \"-\"\npostmaster = \"x@b.example\"\n\
             [smtp]\nmax_command_length = \"3K\"\nmax_errors = 3\nvrfy = true\n\
             command_timeout = \"77s\"\nmin_data_rate = 17\n\
             [submission]\nmax_recipients = 111\nmessages_per_day = 7\nhide_client = true\n\
             [srs]\ndomain = \"srs.example\"\n[pop3]\nidle_timeout = \"11m\"\n[imap]\nidle_timeout = \"40m\"\n\
             [limits]\nconnections_per_address = 5\nreply_memory = \"300K\"\nwrite_timeout = \"8s\"",
        );
        let mut running = in_force("");
        let changes = running.take(&file);
        assert!(changes.len() > 12 && changes.iter().all(|one| one.is_taken), "{changes:?}");
        let merged = &running.plan.config;
        let rest = Config { data_dir: merged.data_dir.clone(), ..file.config.clone() };
        assert_eq!(merged, &rest, "all that differs was taken");
    }
}
