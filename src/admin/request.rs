//! What the command line may ask a server, running or stopped, and what it gets back.
//!
//! The same types go over the admin socket as JSON and, while the server is stopped, straight to
//! the node that opened the store. Addresses are text as the operator typed them: the directory
//! is the one to judge them. Passwords never travel, only their hashes.

pub use crate::mailbox::moving::ask as moving;
pub use crate::mailbox::undelete::{Undeleted, Wanted};
pub use crate::mta::relay::desk::ask::{
    Destination, Done, Filter, Lane, Next, Order, Paused, Recipient, Row, Servers, Site, Stats, Way,
};
pub use crate::queue::outgoing::Pause;
pub use crate::store::backup;
pub use crate::store::verify::Findings;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Is anybody there?
    Ping,
    Directory(DirectoryRequest),
    /// Figures of the store.
    StoreStats,
    /// Clean some segments. Answered by [`Response::Compacted`], which says where to go on.
    StoreCompact {
        /// `None` to begin.
        cursor: Option<Compacting>,
    },
    /// Check a segment at so many octets in a second, or as fast as a server must to answer in time.
    /// Answered by [`Response::Verified`], which says where to go on.
    StoreVerify {
        /// `None` to begin.
        cursor: Option<Verifying>,
        rate: u64,
    },
    /// A certificate of the authority, now.
    CertRenew,
    Dkim(DkimRequest),
    Queue(Box<QueueRequest>),
    /// Where mail for an address goes, and why.
    ExplainRecipient {
        address: String,
    },
    /// Mail of a user moves in or out. So many octets follow behind the line. Answered by
    /// [`Response::Moving`].
    Moving {
        address: String,
        ask: Box<moving::Ask>,
        octets: u64,
    },
    /// A log's part of a backup. Answered by [`Response::Backup`].
    Backup {
        log: u16,
        ask: backup::Ask,
    },
    /// Bring the mailboxes of a user back to how they were. Answered by [`Response::Undeleted`].
    Undelete {
        address: String,
        wanted: Wanted,
    },
}

/// Where cleaning goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacting {
    pub log: u16,
    /// Segments of this number and later ones are not meant: they were begun since. `None`: nothing of
    /// this log was cleaned yet.
    pub before: Option<u64>,
}

/// Where checking goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifying {
    pub log: u16,
    /// The segment that was checked last; `None`: none of this log was.
    pub after: Option<u64>,
}

/// What was cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactRow {
    /// Segments that were cleaned.
    pub segments: u64,
    /// Messages that were moved out of them, and their octets.
    pub moved: u64,
    pub moved_octets: u64,
    /// Messages that could not be read. They stay where they are.
    pub damaged: u64,
    /// Octets of segments that are free again.
    pub reclaimed_octets: u64,
}

/// Keys that sign what leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DkimRequest {
    /// Makes keys, or takes one that is there already.
    Add {
        domain: String,
        /// `None`: one by the date.
        selector: Option<String>,
        /// `None`: both.
        algorithm: Option<DkimAlgorithm>,
        /// Of an RSA key.
        bits: Option<u32>,
        /// The key that is there already.
        pem: Option<String>,
    },
    /// Without a selector all keys of the domain.
    Del { domain: String, selector: Option<String> },
    /// Those of a domain are some, or it is refused.
    List { domain: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DkimAlgorithm {
    Rsa,
    Ed25519,
    Both,
}

/// About outgoing mail. Where an answer may be long it comes in parts: each names the place behind
/// which the next one is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueRequest {
    /// Answered by [`Response::Queue`].
    List {
        filter: Filter,
        older_than: Option<u32>,
        most: u32,
        cursor: Option<Cursor>,
    },
    /// Answered by [`Response::QueueDone`].
    Order {
        order: Order,
        filter: Filter,
        /// Seconds since it arrived, at least.
        older_than: Option<u32>,
        most: u32,
        cursor: Option<Cursor>,
    },
    /// Answered by [`Response::QueueStats`], with so many destinations.
    Stats {
        top: u32,
    },
    Pause {
        on: bool,
        pause: Pause,
    },
}

/// A place in the queues of all logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub log: u16,
    pub place: u64,
    /// Entries that arrived later than this are not meant; seconds since 1970.
    pub before: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryRequest {
    DomainAdd {
        domain: String,
    },
    /// Refused while users or aliases of the domain exist.
    DomainDel {
        domain: String,
    },
    DomainList,
    UserAdd {
        address: String,
        /// PHC string. `None`: nobody can log in.
        password_hash: Option<String>,
        /// Octets; `None` is no bound.
        quota: Option<u64>,
    },
    UserDel {
        address: String,
    },
    UserPassword {
        address: String,
        password_hash: String,
    },
    AppPasswordAdd {
        address: String,
        name: String,
        /// Its SHA-256.
        digest: Vec<u8>,
        /// Its keys of SCRAM (RFC 5803), on the terms that the user has.
        #[serde(default)]
        keys: Vec<String>,
    },
    /// On which terms keys of SCRAM have to be.
    ScramTerms {
        address: String,
    },
    AppPasswordDel {
        address: String,
        name: String,
    },
    AppPasswordList {
        address: String,
    },
    /// Switched on or off.
    UserEnabled {
        address: String,
        enabled: bool,
    },
    /// Names of capabilities; none to hide nothing any more.
    UserImapHidden {
        address: String,
        hidden: Vec<String>,
    },
    UserList {
        domain: Option<String>,
    },
    UserShow {
        address: String,
    },
    /// About what is answered while a user is away.
    Vacation {
        address: String,
        order: VacationOrder,
    },
    /// `address` may be `@domain`, the catch-all. Adds to what the alias has already.
    AliasAdd {
        address: String,
        targets: Vec<String>,
        /// Makes it a list of this owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// It has no owner any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_owner: bool,
    },
    /// Without targets the whole alias.
    AliasDel {
        address: String,
        targets: Vec<String>,
    },
    AliasList {
        domain: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Done, nothing to show.
    Done,
    Domains(Vec<String>),
    Users(Vec<UserRow>),
    Aliases(Vec<AliasRow>),
    /// None: nothing is answered.
    Vacation(Option<Vacation>),
    AppPasswords(Vec<AppPasswordRow>),
    ScramTerms(ScramTerms),
    Figures(Vec<FigureRow>),
    Compacted {
        /// The log it was done in.
        log: u16,
        done: CompactRow,
        next: Option<Compacting>,
    },
    Verified {
        log: u16,
        findings: Box<Findings>,
        next: Option<Verifying>,
    },
    DkimKeys(Vec<DkimRow>),
    Queue {
        /// By the server's clock, seconds since 1970.
        now: u32,
        rows: Vec<Row>,
        next: Option<Cursor>,
    },
    QueueDone {
        done: Done,
        next: Option<Cursor>,
    },
    QueueStats {
        now: u32,
        stats: Stats,
    },
    Explained(Box<Explained>),
    /// So many octets follow behind the line.
    Moving {
        reply: Box<moving::Reply>,
        octets: u64,
    },
    Backup(Box<backup::Reply>),
    Undeleted(Undeleted),
    /// It was not done, for this reason: exit 1.
    Refused(String),
    /// It cannot be meant, for this reason: exit 2.
    Wrong(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    pub address: String,
    /// The number in the store.
    pub account: u32,
    pub has_password: bool,
    /// Not switched off.
    pub enabled: bool,
    /// Octets.
    pub quota: Option<u64>,
    /// Octets in use; `None` where it was not asked of the owner.
    pub used: Option<u64>,
    pub messages: Option<u64>,
    /// Capabilities that IMAP hides from this user.
    #[serde(default)]
    pub imap_hidden: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    pub address: String,
    pub targets: Vec<String>,
    /// Whom reports on what goes to the targets are for; without one the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// What to do about what is answered while a user is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VacationOrder {
    Set(Vacation),
    /// Nothing is answered any more.
    Off,
    Show,
}

/// What is answered while a user is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vacation {
    /// `None`: that of the message.
    pub subject: Option<String>,
    pub text: String,
    /// Seconds since 1970; `None` for always.
    pub from: Option<u32>,
    /// Seconds since 1970; `None` for ever.
    pub until: Option<u32>,
    /// A sender is answered once in so many days.
    pub days: u16,
    /// Other addresses that are the user's.
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPasswordRow {
    pub name: String,
    /// Seconds since 1970.
    pub created: u32,
    /// Whether SCRAM takes it.
    #[serde(default)]
    pub scram: bool,
}

/// Terms of keys of SCRAM: `SCRAM-SHA-256$4096:salt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramTerms {
    /// Of a new application password, one for each hash that the user has keys of.
    pub app: Vec<String>,
    /// Of a new password, where application passwords have keys.
    pub own: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureRow {
    pub name: String,
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimRow {
    pub domain: String,
    pub selector: String,
    pub algorithm: String,
    pub bits: u32,
    /// Of its record in the DNS, without a dot at the end.
    pub name: String,
    /// What stands in the record, as one text.
    pub record: String,
}

/// Where mail for an address goes, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// In its one form.
    pub address: String,
    /// By the server's clock, seconds since 1970.
    pub now: u32,
    /// What the directory has of it, address by address.
    pub steps: Vec<String>,
    /// `account`, `aliased`, `elsewhere`, `rewritten` (a sender of ours by SRS), `unknown`, `disabled` or
    /// `broken`.
    pub outcome: String,
    /// Each address elsewhere that it leads to.
    pub elsewhere: Vec<Elsewhere>,
}

/// An address that is not served here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    pub address: String,
    pub domain: String,
    /// The route that the configuration has for it.
    pub route: Option<String>,
    /// How it stands, of all logs together.
    pub way: Way,
}
