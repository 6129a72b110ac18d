//! `pombal doctor`: looks at the machine and says what to change for mail, why, and how.
//!
//! Each look gives one [`Finding`]: `ok`, or `change` with the reason and the command that changes
//! it. Nothing is changed here. The looks read below a root directory, so that tests can show them
//! a machine made of files; what cannot be read is told as it is, never guessed.

mod disk;
mod name;
mod oauth;
mod system;
mod user;

use super::{Failure, show};
use crate::config::{Config, Shards};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    /// What is there.
    found: String,
    /// Why it should be changed; empty where it is ok.
    reason: String,
    /// What changes it; empty where it is ok.
    command: String,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Finding {
        let (reason, command) = (String::new(), String::new());
        Finding { what, ok: true, found: found.into(), reason, command }
    }

    fn change(
        what: &'static str,
        found: impl Into<String>,
        reason: impl Into<String>,
        command: impl Into<String>,
    ) -> Finding {
        let (reason, command) = (reason.into(), command.into());
        Finding { what, ok: false, found: found.into(), reason, command }
    }
}

/// The machine, as far as it can be seen in files below `root`.
struct Machine {
    root: PathBuf,
    cores: usize,
    shards: usize,
    connections: u64,
    /// Where the store lies: `data_dir`, then `store.directories`.
    directories: Vec<PathBuf>,
    /// Whom the server becomes when root starts it.
    user: Option<String>,
    /// Files of the configuration that this user must be able to read.
    certificates: Vec<PathBuf>,
}

/// How many logs lie in a directory, as far as it may be looked at.
fn logs(data_dir: &Path) -> usize {
    let is_log = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("log-");
    let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    entries.filter(|entry| is_log(&entry.file_name())).count()
}

impl Machine {
    fn this(config: Option<&Config>) -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = match config.map(|config| config.shards) {
            Some(Shards::Count(count)) => usize::from(count.get()),
            Some(Shards::Cores) | None => cores,
        };
        // Each log of a store has a ring, on however few cores.
        let shards =
            shards.max(config.map_or(0, |config| config.store_directories().map(logs).sum()));
        let connections = config
            .map_or(crate::model::limits::CONNECTIONS_MAX, |config| config.limits.connections);
        let directories = match config {
            Some(config) => config.store_directories().map(Path::to_owned).collect(),
            None => vec!["/var/lib/pombal".into()],
        };
        let user = config.and_then(|config| config.user.clone());
        let certificates =
            config.into_iter().flat_map(Config::certificate_files).map(Path::to_owned).collect();
        let (root, connections) = ("/".into(), connections.into());
        Machine { root, cores, shards, connections, directories, user, certificates }
    }

    /// The first words of a small file, without the space around them.
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.below(path.as_ref())).ok().map(|text| text.trim().to_owned())
    }

    /// Where a path of that machine lies on this one.
    fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.below(Path::new(path)))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

fn look(machine: &Machine) -> Vec<Finding> {
    let mut findings = system::look(machine);
    findings.extend(disk::look(machine));
    findings.extend(user::look(machine));
    findings
}

pub(super) fn run(config: Option<&Config>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut findings = look(&Machine::this(config));
    findings.extend(config.into_iter().flat_map(oauth::look));
    findings.extend(config.into_iter().flat_map(name::look));
    if json {
        show::json(&findings, out)?;
    } else {
        print(&findings, out)?;
    }
    let changes = findings.iter().filter(|finding| !finding.ok).count();
    match changes {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 thing to change".into())),
        _ => Err(Failure::Failed(format!("{changes} things to change"))),
    }
}

fn print(findings: &[Finding], out: &mut dyn Write) -> std::io::Result<()> {
    for Finding { what, ok, found, reason, command } in findings {
        let verdict = if *ok { "ok" } else { "change" };
        writeln!(out, "{verdict:<7} {what:<14} {found}")?;
        if !ok {
            writeln!(out, "        {:<14} because {reason}", "")?;
            writeln!(out, "        {:<14} $ {command}", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
