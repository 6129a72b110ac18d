//! What may be typed. The doc comments are the help that `--help` shows.

use crate::config::units;
use crate::model::time::Wall;
use crate::wire::imap::mailbox;
use crate::wire::mbox::Quoting;
use crate::wire::rfc3339;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::borrow::Cow;
use std::num::NonZeroU32;
use std::path::PathBuf;

const EXAMPLES: &str = "\
EXAMPLES
  pombal demo                                  mail in and out of a server that leaves no trace
  pombal check --effective                     every setting as it is in force
  pombal --config ./pombal.toml serve          run in the foreground, log to stderr
  pombal domain add example.org                serve a domain
  pombal user add ann@example.org              make a mailbox, ask for its password
  pombal alias add sales@example.org ann@example.org bob@example.org
  pombal dkim add example.org                  sign its mail; shows what the DNS has to have
  pombal queue list --older-than 1h            what does not get away, and what was said
  pombal explain rcpt ann@example.net          where mail for her goes, and why
  pombal doctor                                what to change on this machine, and how

EXIT STATUS
  0 done; 1 what was asked for failed or is not so; 2 wrong usage or configuration

FILES
  ./pombal.toml, /etc/pombal/pombal.toml       the first that exists, else embedded defaults
  data_dir/admin.sock                          how commands reach a running server";

/// A mail server that keeps its promises: one log per core, every 250 durable.
#[derive(Debug, Parser)]
#[command(name = "pombal", version, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON wherever something is listed or shown.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve mail in the foreground.
    ///
    /// One executor per core; logs to stderr, and tells `event=ready` once every listener accepts.
    /// SIGTERM and SIGINT finish what is under way, checkpoint and exit; SIGHUP reads the
    /// configuration again.
    Serve,
    /// Show a small server at work, in a temporary directory.
    ///
    /// Makes a domain pombal.test with alice and bob, sends sample mails by SMTP, reads them back
    /// by POP3, and prints what happened.
    Demo {
        /// Go on serving until Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
    /// Read the configuration and name every mistake in it.
    Check {
        /// Print every setting as it is in force.
        #[arg(long)]
        effective: bool,
    },
    /// Look at this machine and say what to change for mail, why, and with which command.
    ///
    /// Exit status 1 where there is something to change.
    Doctor,
    /// Domains that this server takes mail for.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Users and their mailboxes.
    #[command(subcommand)]
    User(UserCommand),
    /// Other addresses of users, lists, and catch-alls.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Answers to mail for a user who is away.
    ///
    /// Works while the server runs and while it is stopped. Each sender who writes to an address of the user
    /// has one answer in so many days; lists, programs and reports have none.
    #[command(subcommand)]
    Vacation(VacationCommand),
    /// Certificates: what they are for, how long they hold, and how an authority is asked for them.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Keys that sign what users send, and the records of the DNS that they need (DKIM).
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Mail on its way to other servers.
    ///
    /// An entry of the queue is one message for the recipients of one domain. It is named LOG.NUMBER,
    /// as in the log's field `queue`; the name of its message is the field `id`.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// The log on disk.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Take over mail of another server: folders, flags, keywords, dates, UIDs and UIDVALIDITY.
    ///
    /// Works while the server runs and while it is stopped. UIDs are kept where the mailbox here is empty;
    /// where they cannot be that is said. An import that was cut off, or is repeated, brings only what is
    /// not here yet. What cannot be taken over is named, one by one, the rest goes on, and the exit status
    /// is 1. Quotas do not count.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Write the mailboxes of a user as files that other servers read, with flags, keywords, dates, UIDs
    /// and UIDVALIDITY.
    ///
    /// Works while the server runs and while it is stopped. Nothing is written over. What the format has no
    /// place for is named, the rest goes on, and the exit status is 1.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Copy the store into a directory, of what is there already only what is new.
    ///
    /// Works while the server runs, which goes on, and while it is stopped. All that is copied is held
    /// against its checksums. The configuration file is not of it. See also `pombal restore`.
    Backup(Backup),
    /// Bring the store back out of a backup, into a data_dir in which nothing lies; or one account, into
    /// the server as it is.
    ///
    /// As it was at the moment of the backup, or at any moment between it and the next one.
    ///
    /// An account comes while the server runs or while it is stopped: what of its mail is not here comes
    /// back, with folders, flags, keywords, dates and the unique ids of POP3; what is here stays as it is.
    /// What comes back has new UIDs, and mailboxes that are made a new UIDVALIDITY: clients read them anew.
    /// Repeated, it brings only what is missing. What cannot be brought back is named, the rest goes on, and the exit status is 1. Quotas do
    /// not count. Undelete to a second before it undoes it.
    Restore(Restore),
    /// Bring the mailboxes of a user back to how they were at any second within `undelete.retention`.
    ///
    /// Works while the server runs and while it is stopped. All folders, messages, flags, keywords, UIDs
    /// and subscriptions are as they were. What is there now, mail that came since included, goes where
    /// deleted mail goes: undelete to a second before this command undoes it. A mailbox that is otherwise
    /// than then gets a new UIDVALIDITY, so that clients read it anew.
    Undelete(Undelete),
    /// Say why mail goes where it goes, and where a message is.
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Print a completion script for a shell.
    ///
    /// For bash: pombal completions bash > /etc/bash_completion.d/pombal
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Take mail for a domain.
    Add { domain: String },
    /// No longer take mail for a domain; refused while it has users or aliases.
    Del { domain: String },
    /// All domains.
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make a user with a mailbox; asks for the password on the terminal.
    Add {
        address: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// The hash of the password instead, as Dovecot, htpasswd or /etc/shadow have it.
        #[arg(long, value_name = "HASH", conflicts_with = "password_stdin")]
        password_hash: Option<String>,
        /// Octets that the mailbox may hold, such as 5G.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        quota: Option<u64>,
    },
    /// Remove a user with all mail.
    Del { address: String },
    /// Set a new password.
    Passwd {
        address: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// The hash of the password instead, as Dovecot, htpasswd or /etc/shadow have it.
        #[arg(long, value_name = "HASH", conflicts_with = "password_stdin")]
        password_hash: Option<String>,
    },
    /// Passwords of single programs, made here and shown once.
    #[command(subcommand)]
    Apppass(AppCommand),
    /// Make users of the lines `name:hash:…` of a file of Dovecot, htpasswd or /etc/shadow.
    ///
    /// Lines that are empty, begin with #, or whose password is locked are passed over, and so are users
    /// whom Dovecot's fields `nologin` and `allow_nets` keep out, always or from somewhere. Best while the
    /// server runs: without it the store is opened for each user.
    Import {
        file: PathBuf,
        /// The domain of names that have none.
        #[arg(long)]
        domain: Option<String>,
    },
    /// Change what is particular to a user.
    Set {
        address: String,
        /// IMAP capabilities that are neither offered to this user nor done for him, such as
        /// CONDSTORE,MOVE; "" to hide none. What stands on a hidden one goes with it. Counts from
        /// the next login on.
        #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
        imap_hide: Vec<String>,
    },
    /// Switch a user off: no login, mail for him is refused (550 5.2.1), and his sessions end. His mail
    /// stays.
    Disable { address: String },
    /// Switch a user on again.
    Enable { address: String },
    /// All users, or those of one domain.
    List { domain: Option<String> },
    /// One user: quota, use, messages.
    Show { address: String },
    /// What the mail of a user comes to: equal digests, equal mail, wherever each copy is stored.
    ///
    /// Works while the server runs and while it is stopped. Each mailbox has a digest of its messages, with
    /// octets, UIDs, flags, keywords and dates; that of the user has names, UIDVALIDITY and subscriptions
    /// too. Every message is read. One that cannot be read is named, and the exit status is 1.
    Digest { address: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// Make one, for the program of that name, and print it.
    Add { address: String, name: String },
    /// All of a user, without the passwords, which nobody has.
    List { address: String },
    /// Remove one.
    Del { address: String, name: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum AliasCommand {
    /// Send mail for ADDR to each TARGET too; ADDR `@domain` is the catch-all.
    Add {
        #[arg(value_name = "ADDR")]
        address: String,
        #[arg(value_name = "TARGET", required_unless_present_any = ["owner", "no_owner"])]
        targets: Vec<String>,
        /// Make it a list: what goes to its targets has this sender, who hears what became of it.
        #[arg(long, value_name = "ADDR", conflicts_with = "no_owner")]
        owner: Option<String>,
        /// Make it an alias again, which keeps the sender.
        #[arg(long)]
        no_owner: bool,
    },
    /// Remove targets of an alias, or all of it.
    Del {
        #[arg(value_name = "ADDR")]
        address: String,
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },
    /// All aliases, or those of one domain.
    List { domain: Option<String> },
}

#[derive(Debug, Subcommand)]
pub(super) enum VacationCommand {
    /// Have mail for ADDR answered with a text, which is read from the standard input or a file.
    Set(VacationSet),
    /// What is answered, and when.
    Show {
        #[arg(value_name = "ADDR")]
        address: String,
    },
    /// Answer nothing any more.
    Off {
        #[arg(value_name = "ADDR")]
        address: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct VacationSet {
    #[arg(value_name = "ADDR")]
    pub(super) address: String,
    /// The subject of the answer; by default `Auto: ` and that of the message.
    #[arg(long, value_name = "TEXT")]
    pub(super) subject: Option<String>,
    /// The text of the answer, UTF-8; by default it is read from the standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// From when on: 2026-12-24, which begins at 00:00 UTC, or 2026-12-24T12:00:00+01:00. By default at once.
    #[arg(long, value_name = "TIME", value_parser = first_moment)]
    pub(super) from: Option<u32>,
    /// Until when: the end of such a day, or such a moment. By default until `off`.
    #[arg(long, value_name = "TIME", value_parser = last_moment)]
    pub(super) until: Option<u32>,
    /// A sender is answered once in so many days, 1 to 365.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(super) days: u16,
    /// Another address that is the user's, and that this server does not know to be; may be repeated.
    #[arg(long = "address", value_name = "ADDR")]
    pub(super) addresses: Vec<String>,
}

/// The moment that a time or a day begins, in seconds since 1970.
fn first_moment(text: &str) -> Result<u32, String> {
    let is_day = !text.contains(['T', 't', ' ']);
    let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment = rfc3339::parse(&whole).map(Wall::seconds);
    moment.ok_or_else(|| "a day such as 2026-12-24, or a time such as 2026-12-24T12:00:00Z".into())
}

/// The moment that a time, or the end of a day is.
fn last_moment(text: &str) -> Result<u32, String> {
    let is_day = !text.contains(['T', 't', ' ']);
    first_moment(text).map(|at| if is_day { at.saturating_add(86_400) } else { at })
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// All certificates that the configuration names, and that of the authority (ACME).
    List,
    /// Have the running server ask the authority for a new certificate now; waits for it.
    Renew,
}

#[derive(Debug, Subcommand)]
pub(super) enum DkimCommand {
    /// Make keys for a domain, and show the records that the DNS has to have.
    ///
    /// They sign at once, also for domains below that have no keys of their own; until the DNS has the
    /// records the signatures count for nothing, and do no harm.
    Add {
        domain: String,
        /// What tells the domain's keys apart; with both algorithms it gets -rsa and -ed25519 behind it.
        /// The year and the month by default.
        #[arg(long, value_name = "NAME")]
        selector: Option<String>,
        /// RSA is checked by everybody; Ed25519 is short and not known everywhere. Both by default.
        #[arg(long, value_enum, value_name = "NAME")]
        algorithm: Option<Algorithm>,
        /// Bits of the RSA key: 2048, 3072 or 4096.
        #[arg(long, value_name = "COUNT")]
        bits: Option<u32>,
        /// A private key in PEM that there is already, instead of new ones; needs its selector.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["algorithm", "bits"], requires = "selector")]
        key: Option<PathBuf>,
    },
    /// All keys, or those of one domain.
    List { domain: Option<String> },
    /// The records of a domain's keys, as lines of a zone file.
    Show { domain: String },
    /// Remove the key of one selector, or all keys of a domain.
    Del { domain: String, selector: Option<String> },
    /// Ask the DNS whether it has the records of a domain's keys; exit 1 where it has not.
    Check { domain: String },
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Entries: age, attempts, what happens next, what was said last.
    List {
        #[command(flatten)]
        filters: Filters,
        /// How many at most; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
    },
    /// Everything of an entry: each recipient's fate, what happens next and when.
    Show {
        /// An entry (LOG.NUMBER), or the name of a message.
        #[arg(value_name = "ID", conflicts_with = "id")]
        name: Option<String>,
        #[command(flatten)]
        filters: Filters,
        /// How many at most; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
    },
    /// Try entries now, also at servers that are left alone since they could not be reached.
    Retry(Orders),
    /// Do not try entries until they are released. They come back all the same when they expire.
    Hold(Orders),
    /// Let entries go on that are held, by the operator or until their senders want them to go.
    Release(Orders),
    /// Give entries up and report that to their senders. Only while the server runs.
    Bounce(Orders),
    /// Forget entries; nobody is told.
    Delete(Orders),
    /// Figures, what is paused, and the domains that most of the mail is for.
    Stats {
        /// How many domains.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        top: u32,
    },
    /// Stop bringing mail away, to a domain, by a route or of a sender; it is taken in all the same.
    Pause(Halt),
    /// Go on where it was paused.
    Resume(Halt),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Algorithm {
    Rsa,
    Ed25519,
    Both,
}

/// Entries that meet all that is said.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filters {
    /// An entry (LOG.NUMBER), or the name of a message.
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// The sender; `<>` is that of reports.
    #[arg(long, value_name = "ADDR")]
    pub(super) sender: Option<String>,
    /// A recipient.
    #[arg(long, value_name = "ADDR")]
    pub(super) recipient: Option<String>,
    /// The domain of the recipients.
    #[arg(long)]
    pub(super) domain: Option<String>,
    /// In the queue for at least so long, such as 90s, 2h, 3d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) older_than: Option<u32>,
}

/// What an order is for.
#[derive(Args, Debug)]
pub(super) struct Orders {
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Everything in the queue.
    #[arg(long, conflicts_with_all = ["id", "sender", "recipient", "domain"])]
    pub(super) all: bool,
}

/// What is stopped.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Halt {
    /// All mail.
    #[arg(long)]
    pub(super) all: bool,
    /// Mail to this domain.
    #[arg(long)]
    pub(super) domain: Option<String>,
    /// Mail of this sender; `<>` is that of reports.
    #[arg(long, value_name = "ADDR")]
    pub(super) sender: Option<String>,
    /// Mail that takes the `[[route]]` with this `domain`: `partner.example`, `*.partner.example`, or `*`.
    #[arg(long, value_name = "DOMAIN")]
    pub(super) route: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ExplainCommand {
    /// Where mail for ADDR goes: by what the directory says, and for other servers by which route or
    /// MX, what stops it, how they are doing.
    Rcpt {
        #[arg(value_name = "ADDR")]
        address: String,
    },
    /// Where a message is, what happened to each recipient, what happens next and when.
    Message {
        /// The name of the message (the log's field `id`), or an entry of the queue.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// A Maildir of Dovecot or Courier, with the folders in it.
    Maildir {
        #[arg(value_name = "ADDR")]
        address: String,
        /// The directory that has cur, new and tmp.
        path: PathBuf,
        /// How the other server made the unique ids of POP3: %u is the UID, %v the UIDVALIDITY, X
        /// hexadecimal, such as %08Xu%08Xv, Dovecot's default. Those that its lists name count first.
        #[arg(long, value_name = "FORM")]
        uidl: Option<String>,
    },
    /// A tree of mbox files, as Dovecot's mail/, or one file.
    Mbox {
        #[arg(value_name = "ADDR")]
        address: String,
        /// A directory, or a file.
        path: PathBuf,
        /// Where the messages of a single file go.
        #[arg(long, value_name = "NAME", default_value = "INBOX")]
        folder: String,
        /// The name of files that hold the messages of the directory they lie in (Dovecot's DIRNAME).
        #[arg(long, value_name = "NAME")]
        file_name: Option<String>,
        /// How lines that begin with "From " are quoted in messages whose length is not told.
        #[arg(long, value_enum, value_name = "HOW", default_value = "rd")]
        quoting: Quoted,
        /// The zone of dates between messages, which name none.
        #[arg(long, value_name = "ZONE", default_value = "+0000", allow_hyphen_values = true)]
        zone: String,
        /// How the other server made the unique ids of POP3, as of a Maildir.
        #[arg(long, value_name = "FORM")]
        uidl: Option<String>,
    },
    /// The mailboxes of an IMAP server, in which nothing changes.
    ///
    /// Repeated, it brings what came meanwhile: stop deliveries there, import once more, done. A connection
    /// that is lost is made again. Messages that the server does not hand out are named, and tried again
    /// when the import is repeated.
    ///
    /// SERVER is imaps://LOGIN@HOST[:PORT], or imap://… with STARTTLS. LOGIN may be left out where it is
    /// ADDR; Dovecot's masters log in as ann@example.org*master. In it %40 stands for @.
    Imap(ImapArguments),
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct ImapArguments {
    #[arg(value_name = "ADDR")]
    pub(super) address: String,
    #[arg(value_name = "SERVER")]
    pub(super) server: String,
    /// A file whose first line is the password there; - for the standard input. Else it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// What stands for the password is a token of OAuth (OAUTHBEARER, XOAUTH2).
    #[arg(long)]
    pub(super) token: bool,
    /// Who logs in, with his own password, to act for LOGIN (SASL PLAIN).
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    pub(super) master: Option<String>,
    /// Connections side by side.
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(super) connections: u8,
    /// Trust the authorities in this file (PEM), instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Take any certificate: whoever is on the way can read the mail, and the password.
    #[arg(long, conflicts_with = "ca")]
    pub(super) insecure: bool,
    /// Do without STARTTLS: whoever is on the way can read the mail, and the password.
    #[arg(long)]
    pub(super) clear: bool,
    /// Only this folder, by its name here, with those below it; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) only: Vec<String>,
    /// Not this folder, nor those below it; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) exclude: Vec<String>,
    /// Also folders that show what lies in others (\\All, \\Flagged), such as Gmail's All Mail.
    #[arg(long)]
    pub(super) views: bool,
    /// Also change flags here that changed there since an earlier import, and remove here what was removed
    /// there. For as long as nobody uses the account here: what he changes is taken back.
    #[arg(long)]
    pub(super) mirror: bool,
    /// How the other server makes the unique ids of POP3, as of a Maildir; where it is a Dovecot, as it
    /// does by default.
    #[arg(long, value_name = "FORM")]
    pub(super) uidl: Option<String>,
    /// Ask for the unique ids there, by the same login: pop3s://HOST[:PORT], or pop3://….
    #[arg(long, value_name = "SERVER")]
    pub(super) pop3: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// A Maildir as Dovecot keeps it.
    Maildir {
        #[arg(value_name = "ADDR")]
        address: String,
        /// A directory without mail; made if it is missing.
        path: PathBuf,
        /// How folders lie in it.
        #[arg(long, value_enum, value_name = "HOW", default_value = "maildir++")]
        layout: Layout,
    },
    /// A tree of mbox files as Dovecot keeps it.
    Mbox {
        #[arg(value_name = "ADDR")]
        address: String,
        /// A directory; made if it is missing.
        path: PathBuf,
        /// Write messages into files of this name in a directory for each folder (Dovecot's DIRNAME), so
        /// that folders with messages may have others below them.
        #[arg(long, value_name = "NAME")]
        file_name: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
    /// Directories `.A.B` beside each other.
    #[value(name = "maildir++")]
    MaildirPlusPlus,
    /// Directories A/B in each other (Dovecot's LAYOUT=fs).
    Fs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Quoted {
    /// mboxrd: one more > in front of >From too.
    Rd,
    /// mboxo: > in front of From alone.
    O,
    /// Not at all.
    None,
}

impl From<Quoted> for Quoting {
    fn from(quoted: Quoted) -> Quoting {
        match quoted {
            Quoted::Rd => Quoting::Rd,
            Quoted::O => Quoting::O,
            Quoted::None => Quoting::None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Read everything and check every checksum and reference; exit 1 where something is wrong.
    ///
    /// Also while the server runs, which goes on serving: then all that lies on the disk is checked. Whether
    /// counts agree with what they count is seen only with the server stopped.
    Verify {
        /// Octets that are read in a second, such as 100M; 0: as fast as it goes. By default 32M while the
        /// server runs, else 0.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        rate: Option<u64>,
    },
    /// Figures: segments, octets, messages.
    Stats,
    /// Print the records in words.
    Dump {
        /// Only the log of this number.
        #[arg(long)]
        log: Option<u16>,
    },
    /// Win room back: move the messages out of segments in which much was removed, of all logs.
    ///
    /// Also while the server runs, which does it by itself when room gets short; then it takes no more
    /// of the disk's time than `store.clean_share_percent` says. Segments that are free again are used
    /// for what comes next: their files stay. Tells how it goes on, and what it came to at the end.
    Compact,
    /// Give the store more logs, for machines with more cores.
    ///
    /// With the server stopped. It is looked first whether that is possible: there has to be room on the
    /// disk for the new logs, and what each log holds has to fit its new share of `store.max_size`. What is
    /// there stays where it is; new users go to the logs with the fewest. A store never has fewer logs than
    /// it had. Tells of each log that is made; where one cannot be made, none is added.
    Grow {
        /// How many logs it is to have then.
        #[arg(long, value_name = "COUNT")]
        logs: u16,
    },
    /// Make a new store of all that is whole of a damaged one, and say what is lost.
    ///
    /// The damaged store in `data_dir` and `store.directories` is read and left as it is; no server may run
    /// on it. The new one is made in a directory in which nothing lies: make it the `data_dir` when it is done. Messages
    /// that are whole, and that nothing refers to any more, lie there in `lost-and-found`. Exit 1 where
    /// something is lost, which is named.
    Salvage {
        /// Where the new store is made.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Where its logs go instead, one for each device: make these its `store.directories`. They have to
        /// be there, without logs.
        #[arg(long, value_name = "DIR")]
        logs: Vec<PathBuf>,
    },
    /// Open the store alone and answer what other commands of this program ask on standard input.
    #[command(hide = true)]
    Answer,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Backup {
    #[command(subcommand)]
    pub(super) command: Option<BackupCommand>,
    /// Where to; made where it is not there. The owner of data_dir has to be able to write to it.
    #[arg(required = true)]
    pub(super) dir: Option<PathBuf>,
    /// Afterwards remove all backups but so many of the newest, and what only they need.
    #[arg(long, value_name = "COUNT")]
    pub(super) keep: Option<NonZeroU32>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// The backups in a directory, by name and moment.
    List { dir: PathBuf },
    /// Read backups and hold them against their checksums; exit 1 where something is wrong.
    Verify {
        dir: PathBuf,
        /// This one alone.
        #[arg(long, value_name = "NAME")]
        backup: Option<String>,
    },
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    /// Where the backups are. The owner of data_dir has to be able to read it.
    pub(super) dir: PathBuf,
    /// Only the mail of this user. The user has to be here: see `pombal user add`.
    #[arg(long, value_name = "ADDR")]
    pub(super) account: Option<String>,
    /// Into mailboxes below this name, and leave all others as they are.
    #[arg(long, value_name = "NAME", requires = "account", value_parser = mailbox_name)]
    pub(super) beside: Option<String>,
    /// Only say what the backup has of the account.
    #[arg(long, requires = "account")]
    pub(super) dry_run: bool,
    /// The store as it was at this moment, such as 2026-11-29T17:30:00Z or 2026-11-29T18:30:00.5+01:00:
    /// out of the newest backup of before it, and the next one. By default that of the backup itself.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) at: Option<Wall>,
    /// This backup instead of the newest that will do.
    #[arg(long, value_name = "NAME")]
    pub(super) backup: Option<String>,
    /// Do not read and check everything again that came back, as `pombal store verify` does.
    #[arg(long, conflicts_with = "account")]
    pub(super) no_verify: bool,
}

#[derive(Args, Debug)]
pub(super) struct Undelete {
    /// Whose mailboxes.
    pub(super) address: String,
    /// As they were at the end of this second, such as 2026-11-29T17:30:00Z or
    /// 2026-11-29T18:30:00+01:00.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) at: Wall,
    /// Into new mailboxes below this name, and leave all others as they are. What comes back then counts
    /// for the quota a second time.
    #[arg(long, value_name = "NAME")]
    pub(super) beside: Option<String>,
    /// Only say what would come back.
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn size(text: &str) -> Result<u64, String> {
    units::size(text).ok_or_else(|| "a number, or one with K, M, G or T, such as 5G".into())
}

fn seconds(text: &str) -> Result<u32, String> {
    let time = units::time(text).ok_or("a number with s, m, h or d, such as 90s or 3d")?;
    u32::try_from(time.as_secs()).map_err(|_| "that is too long".into())
}

fn mailbox_name(text: &str) -> Result<String, String> {
    let name = mailbox::name(text.as_bytes(), true).ok();
    let name = name.filter(|name| mailbox::check_new(name).is_ok());
    name.map(Cow::into_owned).ok_or_else(|| "no name that a mailbox may have".into())
}

fn moment(text: &str) -> Result<Wall, String> {
    rfc3339::parse(text)
        .ok_or_else(|| "a moment with its zone, such as 2026-11-29T17:30:00Z (RFC 3339)".into())
}
