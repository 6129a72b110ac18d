//! What a seed decides: the size of everything, and how bad each life is.

use crate::machine::Host;
use crate::ports::HERE;
use pombal::auth::{Cost, Pool, hash};
use pombal::config::Config;
use pombal::env::sim::{Chance, Faults};
use pombal::mailbox;
use pombal::node::shard::Plan;
use pombal::policy::dkim;
use pombal::server::allowance::Rates;
use pombal::store::{Compression, Planted};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

/// Everybody's.
pub(crate) const PASSWORD: &str = "secret";

/// A fault of our own that a run is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    AnswerBeforeSync,
    LostReference,
    ReusedSegment,
    ReusedUid,
    ForgottenVanished,
    RecordEarly,
    ForgetReport,
    TornReport,
    ForgetExpiry,
    CrowdSite,
}

/// What one seed stands for.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) users: usize,
    /// Octets that the first user may keep; 0 is no bound.
    quota: u64,
    /// Messages that wait in the inbox of a shard at most.
    pub(crate) inbox: usize,
    /// Lives that end in a crash; one more follows, in which nothing goes wrong.
    pub(crate) lives: u64,
    /// Messages are large and do not stay for long: segments are used up and again.
    pub(crate) churns: bool,
    /// How often clients come again, times what they do otherwise.
    pub(crate) rounds: u64,
    pub(crate) smtp_clients: u64,
    pub(crate) pop3_clients: u64,
    /// At the end every message is removed, and nothing may be left.
    pub(crate) sweeps: bool,
    /// There is a user whose mail is brought back (`sim/back`).
    pub(crate) goes_back: bool,
}

/// Signs at once, and the same in every run: Ed25519 (RFC 8463 §A.2).
pub(crate) const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

/// What users send is signed.
fn signs(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

impl Case {
    /// What users send is signed.
    pub(crate) fn signs(&self) -> bool {
        signs(self.seed)
    }

    pub(crate) fn new(seed: u64, bug: Bug) -> Case {
        let chance = Chance::new(seed);
        let shards = [1, 2, 2, 3, 4][chance.index(5)];
        let mut config = Config::small(Path::new("/data"));
        config.smtp.max_message_size = chance.between(4 << 10, 24 << 10);
        config.smtp.max_pending_commits = [1, 2, 64][chance.index(3)];
        config.store.segment_size = [64 << 10, 128 << 10, 256 << 10, 512 << 10][chance.index(4)];
        let churns = chance.below(4) == 0;
        if churns {
            config.store.segment_size = 64 << 10;
        }
        config.store.cache_size = [0, 8 << 10, 1 << 20][chance.index(3)];
        config.store.checkpoint_size = chance.between(16 << 10, 256 << 10);
        config.store.checkpoint_interval = Duration::from_millis(chance.between(2, 500));
        config.limits.draft_memory = [48 << 10, 16 << 20][chance.index(2)];
        // In most, accounts rest whenever they may.
        if !seed.is_multiple_of(4) {
            config.limits.mailbox_memory = 0;
        }
        let mut plan = Plan::new(config, 77, shards, Pool::inline(Cost::LEAST), [7; 32]);
        if signs(seed) {
            let mut keys = dkim::Keys::default();
            keys.set("example.org", vec![dkim::Key::from_pem("s", KEY).expect("a key")]);
            plan.dkim = Arc::new(keys);
        }
        plan.store.second_batch_octets = [1 << 10, 8 << 10, 256 << 10][chance.index(3)];
        // In most of those that are cleaned all the time, what moves is packed.
        if Chance::new(seed.rotate_left(19)).below(3) > 0 {
            plan.store.cleaning.compression = Compression::Zstd;
        }
        plan.store.planted = match bug {
            Bug::AnswerBeforeSync => Planted::AnswerBeforeSync,
            Bug::LostReference => Planted::LoseReference,
            Bug::ReusedSegment => Planted::ReuseBeforeMoved,
            _ => Planted::Nothing,
        };
        plan.planted = match bug {
            Bug::ReusedUid => mailbox::Planted::ReuseUids,
            Bug::ForgottenVanished => mailbox::Planted::ForgetVanished,
            _ => mailbox::Planted::Nothing,
        };
        let mut case = Case {
            seed,
            plan,
            users: usize::try_from(chance.between(2, 6)).expect("six at most"),
            inbox: [1, 2, 8, 1024][chance.index(4)],
            lives: chance.between(1, 3),
            churns,
            rounds: if chance.below(8) == 0 { 6 } else { 1 },
            smtp_clients: chance.between(1, 8),
            pop3_clients: chance.between(1, 5),
            sweeps: chance.coin(),
            goes_back: false,
            quota: if chance.below(4) == 0 { chance.between(4 << 10, 64 << 10) } else { 0 },
        };
        // What everybody removes at the end is to be gone then.
        let retentions = [Duration::ZERO, Duration::from_secs(2), Duration::from_hours(168)];
        let kept = if case.sweeps { 0 } else { usize::try_from(seed % 3).expect("small") };
        case.plan.config.undelete.retention = retentions[kept];
        case.let_users_in(&Chance::new(seed.rotate_left(32)));
        case
    }

    /// Where there are histories, one user's mail is brought back.
    pub(crate) fn going_back(self) -> Case {
        let goes_back = self.plan.config.undelete.retention > Duration::ZERO;
        Case { goes_back, ..self }
    }

    /// With a quota of the first user's, so that others are asked for room.
    pub(crate) fn with_quota(seed: u64, bug: Bug) -> Case {
        Case { quota: 64 << 10, ..Case::new(seed, bug) }
    }

    /// What becomes of users who log in, and what they may send.
    fn let_users_in(&mut self, chance: &Chance) {
        let config = &mut self.plan.config;
        // What they have is older than SCRAM, and cheaper: logins have it kept anew. In an inbox of one
        // message that would leave no place for the session that logs in.
        config.auth.rehash = self.inbox >= 8 && chance.coin();
        (config.auth.argon2_memory, config.auth.argon2_passes) = (16 << 10, 1);
        config.auth.scram_iterations = 1;
        let messages_an_hour = [0, 0, 3][chance.index(3)];
        config.submission.policy.rates = Rates { messages_an_hour, ..Rates::default() };
    }

    /// For sessions of IMAP: few users, small logs, checkpoints all the time.
    pub(crate) fn of_imap(seed: u64, bug: Bug) -> Case {
        let mut case = Case::new(seed, bug);
        let chance = Chance::new(!seed);
        case.users = 1 + chance.index(2);
        case.plan = case.plan.with_logs(1 + u16::from(chance.below(4) == 0));
        case.plan.store.checkpoint_octets = chance.between(4 << 10, 64 << 10);
        case.plan.store.checkpoint_pause = Duration::from_millis(chance.between(2, 40));
        case.lives = chance.between(1, 3);
        case
    }

    /// The server.
    pub(crate) fn host(&self) -> Host<'_> {
        let (plan, inbox, cleans) = (&self.plan, self.inbox, self.cleans());
        Host { plan, ip: HERE, first_shard: 0, inbox, cleans }
    }

    /// Whether the store gets more logs before this life, in some of the seeds.
    pub(crate) fn grows_before(&self, life: u64) -> bool {
        let grows = Chance::new(self.seed.rotate_left(17)).below(3) == 0;
        let has_room = self.plan.shards < 5;
        grows && has_room && Chance::new(self.seed.rotate_left(18) ^ life).coin()
    }

    /// The same store with so many logs.
    pub(crate) fn with_logs(&self, logs: u16) -> Case {
        Case { plan: self.plan.clone().with_logs(logs), ..self.clone() }
    }

    /// Whether logs are cleaned however much is free: then most of what lives has moved.
    pub(crate) fn cleans(&self) -> bool {
        !self.seed.is_multiple_of(3)
    }

    /// Messages that a user may submit at once, and within an hour as many more; 0 is no bound.
    pub(crate) fn allowance(&self) -> u32 {
        self.plan.config.submission.policy.rates.messages_an_hour
    }

    /// No inbox of a shard is ever full.
    pub(crate) fn has_room(&self) -> bool {
        self.inbox >= 1024
    }

    /// Octets that a user may keep; 0 is no bound.
    pub(crate) fn quota_of(&self, user: usize) -> u64 {
        if user == 0 { self.quota } else { 0 }
    }

    /// How bad the next life is, with the disk at `used` octets.
    pub(crate) fn faults(&self, chance: &Chance, used: u64) -> Faults {
        let segment = self.plan.config.store.segment_size;
        let awful = Faults { write_fails: 30_000, sync_fails: 30_000, ..Faults::bad_disk() };
        match chance.below(12) {
            10 => awful,
            11 => Faults { sync_fails: 200_000, ..Faults::none() },
            0 | 1 => Faults::none(),
            2 => Faults::rough(),
            3 | 4 => Faults::bad_disk(),
            5 => Faults::bad_net(),
            6 | 7 => Faults::hostile(),
            8 => Faults { disk_octets: used + chance.below(3) * segment, ..Faults::none() },
            _ => Faults { disk_octets: used + chance.below(3) * segment, ..Faults::hostile() },
        }
    }
}

/// The hash of [`PASSWORD`].
pub(crate) fn password_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash(PASSWORD, &[7; 16], Cost::LEAST).expect("the least costs are allowed"))
}
