//! The command line: reads what the operator types, does what needs no server, asks for the rest.
//!
//! What needs a store or shards goes through [`Actions`], which the node implements: so the command
//! line knows neither. Directory commands ask the running server over its admin socket, or, where
//! none runs, the node opens the store for the one request.
//!
//! Exit status: 0 done, 1 what was asked for failed or is not so, 2 wrong usage or configuration.
//! Results go to `out`, complaints to `err`; nothing else is written anywhere.

mod account;
#[cfg(test)]
mod alias_tests;
mod args;
mod backup;
mod cert;
mod check;
mod compact;
mod digest;
mod dkim;
mod doctor;
mod explain;
mod export;
mod import;
mod moving;
mod passwd;
mod progress;
mod queue;
#[cfg(test)]
mod queue_tests;
mod restore;
mod show;
mod undelete;
mod vacation;
mod verify;
mod words;

use crate::admin::request::moving::{Ask, Reply};
use crate::admin::request::{DirectoryRequest, Request, Response, ScramTerms};
use crate::admin::socket::{Answer, AskError, ask};
use crate::config::{self, Config, Loaded, Mistake};
use crate::proto::sasl::Mechanism;
use args::{
    AppCommand, Arguments, CertCommand, Command, ExplainCommand, StoreCommand, UserCommand,
};
pub use backup::{AsOf, BackupTask, RestoreTask, Told};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use compact::Compaction;
pub use verify::show_findings;

/// Why a command did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It failed, or is not so: exit 1.
    Failed(String),
    /// Wrong usage or configuration, or not built yet: exit 2.
    Wrong(String),
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Wrong(_) => 2,
        }
    }

    /// What the operator reads.
    pub fn text(&self) -> &str {
        match self {
            Failure::Failed(text) | Failure::Wrong(text) => text,
        }
    }
}

/// Output that cannot be written any more. A reader that has seen enough (`| head`) is no news.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Failed(String::new()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

/// What the node does for the command line.
pub trait Actions {
    /// Serves until it is told to stop. `named` is what `--config` said, for a reload.
    fn serve(&self, loaded: Loaded, named: Option<&Path>) -> Result<(), Failure>;
    /// Shows a small server at work, and with `keep` goes on serving.
    fn demo(&self, keep: bool, out: &mut dyn Write) -> Result<(), Failure>;
    /// What the directory keeps of a password, at the cost that the configuration sets; `bound` is
    /// [`ScramTerms::own`].
    fn hash_password(
        &self,
        config: &Config,
        bound: &[String],
        password: &str,
    ) -> Result<String, Failure>;
    /// The same of a hash that another server made.
    fn read_hash(&self, config: &Config, bound: &[String], text: &str) -> Result<String, Failure>;
    /// A new application password; `given` is [`ScramTerms::app`].
    fn app_password(&self, config: &Config, given: &[String]) -> Result<AppPassword, Failure>;
    /// Answers a request while no server runs: opens the store alone, does it, closes the store.
    fn ask_stopped(&self, config: &Config, request: &Request) -> Result<Response, Failure>;
    /// Has another process open the store while no server runs, and `work` ask it. `named` is what
    /// `--config` said.
    fn with_stopped(
        &self,
        named: Option<&Path>,
        work: &mut dyn FnMut(&mut dyn Asking) -> Result<(), Failure>,
    ) -> Result<(), Failure>;
    /// Is that other process.
    fn answer(&self, config: &Config) -> Result<(), Failure>;
    /// Reads the log in `data_dir`, or cleans it. `Failed` where something is wrong with it.
    fn store(
        &self,
        config: &Config,
        task: &StoreTask,
        json: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure>;
    /// Makes a new store in `to` of what is whole of a damaged one. `Failed` where something is lost.
    fn salvage(
        &self,
        config: &Config,
        to: &Path,
        logs: &[PathBuf],
        told: Told<'_>,
    ) -> Result<(), Failure>;
    /// Makes, lists or checks backups of the store, which may be served meanwhile.
    fn backup(&self, config: &Config, task: &BackupTask, told: Told<'_>) -> Result<(), Failure>;
    /// Brings a backup back into a `data_dir` in which nothing lies.
    fn restore(&self, config: &Config, task: &RestoreTask, told: Told<'_>) -> Result<(), Failure>;
    /// Opens the account of an address as a backup has it, and has `work` ask for its mailboxes and
    /// messages; nothing is written.
    fn with_backup(
        &self,
        config: &Config,
        task: &RestoreTask,
        address: &str,
        work: &mut dyn FnMut(AskKept<'_>, &AsOf) -> Result<(), Failure>,
    ) -> Result<(), Failure>;
}

/// Who answers many requests, with octets behind them: a server that runs, or a store that was opened
/// alone.
pub trait Asking {
    fn ask(&mut self, request: Request, octets: Vec<u8>) -> Result<Answer, Failure>;
}

/// Asks an account as a backup has it.
pub type AskKept<'a> = &'a (dyn Fn(Ask) -> Result<(Reply, Vec<u8>), Failure> + Sync);

/// An application password that was made, and what the directory keeps of it.
pub struct AppPassword {
    pub text: String,
    /// SHA-256.
    pub digest: Vec<u8>,
    /// Keys of SCRAM (RFC 5803).
    pub keys: Vec<String>,
}

/// What to do with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTask {
    /// Read everything, check every checksum and reference, at so many octets in a second; 0: as fast as
    /// it goes.
    Verify { rate: u64 },
    /// Print records in words, of all logs or of one.
    Dump { log: Option<u16> },
    /// Clean every segment that is worth it.
    Compact,
    /// Give the store so many logs, more than it has.
    Grow { logs: u16 },
}

/// Reads `arguments` (with the program's name first), does it, says the exit status.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    actions: &dyn Actions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = error.render().to_string();
            let wrong = error.use_stderr();
            let told =
                if wrong { err.write_all(text.as_bytes()) } else { out.write_all(text.as_bytes()) };
            // Nobody is left to tell when the terminal is gone.
            drop(told);
            return if wrong { 2 } else { 0 };
        }
    };
    let session = Session { named: arguments.config.as_deref(), json: arguments.json, actions };
    let done = session.dispatch(&arguments.command, out, err).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.text().is_empty() {
                drop(writeln!(err, "pombal: {}", failure.text()));
            }
            failure.status()
        }
    }
}

/// One command under way.
struct Session<'a> {
    named: Option<&'a Path>,
    json: bool,
    actions: &'a dyn Actions,
}

impl Session<'_> {
    fn dispatch(
        &self,
        command: &Command,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match command {
            Command::Serve => self.actions.serve(self.load()?, self.named),
            Command::Demo { keep } => self.actions.demo(*keep, out),
            Command::Check { effective } => check::run(self.named, *effective, self.json, out),
            Command::Doctor => {
                // A wrong configuration must not hide what is wrong with the machine.
                let config = config::load(self.named).ok().map(|loaded| loaded.config);
                doctor::run(config.as_ref(), self.json, out)
            }
            Command::Domain(command) => self.show(&account::domain(command), out),
            Command::User(UserCommand::Apppass(AppCommand::Add { address, name })) => {
                self.app_password(address, name, out)
            }
            Command::User(UserCommand::Import { file, domain }) => {
                self.import_users(file, domain.as_deref(), out, err)
            }
            Command::User(UserCommand::Digest { address }) => digest::run(self, address, out, err),
            Command::User(command @ UserCommand::Passwd { address, .. }) => {
                let config = self.load()?.config;
                let bound = self.scram_terms(&config, address)?.own;
                let request = account::user(command, &config, &bound, self.actions)?;
                self.show_with(&config, &request, out)?;
                hint_at_terms(&request, &bound, err)
            }
            Command::User(command) => {
                let config = self.load()?.config;
                let request = account::user(command, &config, &[], self.actions)?;
                self.show_with(&config, &request, out)
            }
            Command::Alias(command) => self.show(&account::alias(command), out),
            Command::Vacation(command) => self.show(&vacation::request(command)?, out),
            Command::Store(command) => self.store_command(command, out, err),
            Command::Cert(CertCommand::List) => cert::list(&self.load()?.config, self.json, out),
            Command::Cert(CertCommand::Renew) => cert::renew(&self.load()?.config, self.json, out),
            Command::Dkim(command) => self.dkim(command, out),
            Command::Queue(command) => queue::run(self, command, out),
            Command::Import(command) => import::run(self, command, out, err),
            Command::Export(command) => export::run(self, command, out, err),
            Command::Backup(command) => {
                let told = Told { json: self.json, out, err };
                self.actions.backup(&self.load()?.config, &backup::task(command)?, told)
            }
            Command::Restore(command) => restore::run(self, command, out, err),
            Command::Undelete(command) => undelete::run(self, command, out),
            Command::Explain(ExplainCommand::Rcpt { address }) => {
                explain::recipient(self, address, out)
            }
            Command::Explain(ExplainCommand::Message { id }) => explain::message(self, id, out),
            Command::Completions { shell } => {
                clap_complete::generate(
                    *shell,
                    &mut Arguments::command(),
                    "pombal",
                    &mut &mut *out,
                );
                Ok(())
            }
        }
    }

    fn store_command(
        &self,
        command: &StoreCommand,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match command {
            StoreCommand::Stats => self.show(&Request::StoreStats, out),
            StoreCommand::Verify { rate } => verify::run(self, *rate, out),
            StoreCommand::Dump { log } => self.store(&StoreTask::Dump { log: *log }, out),
            StoreCommand::Grow { logs } => self.store(&StoreTask::Grow { logs: *logs }, out),
            StoreCommand::Salvage { to, logs } => {
                let told = Told { json: self.json, out, err };
                self.actions.salvage(&self.load()?.config, to, logs, told)
            }
            StoreCommand::Answer => self.actions.answer(&self.load()?.config),
            StoreCommand::Compact => compact::run(self, out, err),
        }
    }

    fn load(&self) -> Result<Loaded, Failure> {
        config::load(self.named).map_err(|mistakes| wrong(&mistakes))
    }

    fn store(&self, task: &StoreTask, out: &mut dyn Write) -> Result<(), Failure> {
        self.actions.store(&self.load()?.config, task, self.json, out)
    }

    fn show(&self, request: &Request, out: &mut dyn Write) -> Result<(), Failure> {
        self.show_with(&self.load()?.config, request, out)
    }

    /// Asks the server, running or stopped, and shows what it says.
    fn show_with(
        &self,
        config: &Config,
        request: &Request,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        show::response(&self.ask(config, request)?, self.json, out)
    }

    fn ask(&self, config: &Config, request: &Request) -> Result<Response, Failure> {
        let socket = config.admin_socket();
        match ask(&socket, request) {
            Ok(response) => Ok(response),
            Err(AskError::NotRunning) => self.actions.ask_stopped(config, request),
            Err(AskError::Failed(error)) => {
                Err(Failure::Failed(format!("{}: {error}", socket.display())))
            }
        }
    }

    /// On which terms keys of SCRAM of this user have to be.
    fn scram_terms(&self, config: &Config, address: &str) -> Result<ScramTerms, Failure> {
        let request = DirectoryRequest::ScramTerms { address: address.to_owned() };
        match self.ask(config, &Request::Directory(request))? {
            Response::ScramTerms(terms) => Ok(terms),
            Response::Refused(why) => Err(Failure::Failed(why)),
            Response::Wrong(why) => Err(Failure::Wrong(why)),
            _ => Err(Failure::Failed("the server is of another release: restart it".into())),
        }
    }

    /// The password is shown once it is kept.
    fn app_password(&self, address: &str, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.load()?.config;
        let terms = self.scram_terms(&config, address)?.app;
        let AppPassword { text, digest, keys } = self.actions.app_password(&config, &terms)?;
        let (address, name) = (address.to_owned(), name.to_owned());
        let request = DirectoryRequest::AppPasswordAdd { address, name, digest, keys };
        self.show_with(&config, &Request::Directory(request), out)?;
        if self.json {
            return show::json(&serde_json::json!({ "password": text }), out);
        }
        Ok(writeln!(out, "{text}")?)
    }

    /// One user after the other; what cannot be made is told, and the rest is made.
    fn import_users(
        &self,
        file: &Path,
        domain: Option<&str>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let config = self.load()?.config;
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
        let (mut made, mut failed) = (0, 0);
        for entry in passwd::entries(&text, domain) {
            let made_of = entry.secret.and_then(|secret| {
                let hash = self.actions.read_hash(&config, &[], secret);
                let hash = hash.map_err(|failure| failure.text().to_owned())?;
                let (address, password_hash) = (entry.address.clone(), Some(hash));
                let request = DirectoryRequest::UserAdd { address, password_hash, quota: None };
                match self.ask(&config, &Request::Directory(request)) {
                    Ok(Response::Refused(why) | Response::Wrong(why)) => Err(why),
                    Ok(_) => Ok(()),
                    Err(failure) => Err(failure.text().to_owned()),
                }
            });
            match made_of {
                Ok(()) => made += 1,
                Err(why) => {
                    failed += 1;
                    let (address, why) = (show::visible(&entry.address), show::visible(&why));
                    writeln!(out, "line {}: {address}: {why}", entry.line)?;
                }
            }
        }
        writeln!(out, "{made} users made, {failed} lines passed over")?;
        if made > 0 {
            let what = "most hashes from elsewhere have no keys for it: until a password is set \
                        again, or kept anew by a login (auth.rehash), programs have to use PLAIN";
            hint_at_scram(&config, what, err)?;
        }
        if failed > 0 { Err(Failure::Failed(String::new())) } else { Ok(()) }
    }
}

/// Tells the operator, where SCRAM is offered, what it is not good for.
fn hint_at_scram(config: &Config, what: &str, err: &mut dyn Write) -> Result<(), Failure> {
    let is_scram = |one| matches!(one, Mechanism::Scram { .. });
    if config.auth.mechanisms.each().any(is_scram) {
        writeln!(err, "note: SCRAM is offered (auth.mechanisms), and {what}")?;
    }
    Ok(())
}

/// Tells the operator of application passwords that SCRAM does not take any more.
fn hint_at_terms(request: &Request, bound: &[String], err: &mut dyn Write) -> Result<(), Failure> {
    let Request::Directory(DirectoryRequest::UserPassword { password_hash, .. }) = request else {
        return Ok(());
    };
    let hash = |terms: &str| terms.split('$').next().map(str::to_owned);
    let own = password_hash.split(' ').filter_map(|word| word.rsplit_once('$'));
    let is_lost = own.map(|(terms, _)| terms).any(|own| {
        bound.iter().any(|terms| hash(terms) == hash(own))
            && !bound.iter().any(|terms| terms == own)
    });
    if is_lost {
        writeln!(
            err,
            "note: SCRAM takes the application passwords of this user no more: make them anew"
        )?;
    }
    Ok(())
}

fn wrong(mistakes: &[Mistake]) -> Failure {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    Failure::Wrong(format!("the configuration is wrong\n{}", lines.join("\n")))
}

#[cfg(test)]
mod tests;
