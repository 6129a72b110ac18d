//! When a certificate is asked for, and that an authority is never asked too often.
//!
//! There is none, or it is for other domains: at once. Else at 2/3 of its life, or at a moment within
//! the window that the authority names (RFC 9773 §4.2), chosen by chance so that not all servers of
//! the world come at midnight. After a failure: [`PAUSES`], one after the other and the last again and
//! again, each a little longer by chance; what the last try said is kept, so that a server that is
//! started again and again asks no more often. `pombal cert renew` is the operator's own haste, and
//! waits [`HASTE_PAUSE`] at least.

use super::order::{Refused, account, issue, window};
use super::responder::{Board, serve};
use super::{Certificate, Files, Settings, Tried};
use crate::probe::event::{Level, event};
use instant_acme::Account;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Seconds between tries. Let's Encrypt takes 5 failed proofs of a domain an hour.
const PAUSES: [u64; 6] = [15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY];
/// Seconds between two tries that the operator asks for.
const HASTE_PAUSE: u64 = MINUTE;
/// The authority's window is looked at so often.
const LOOK_PAUSE: std::ops::RangeInclusive<u64> = HOUR..=DAY;

/// What the operator is told at the latest, while the authority takes its time.
const ANSWER_PATIENCE: Duration = Duration::from_secs(45);

/// What the authority may take for one question, and for a whole certificate.
const ASK_PATIENCE: Duration = Duration::from_mins(1);
const ATTEMPT_PATIENCE: Duration = Duration::from_mins(10);
const SILENT: &str = "the authority did not answer in time";

type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The way to the thread. It ends when the last of these is gone.
#[derive(Clone)]
pub struct Wishes(UnboundedSender<Answer>);

impl Wishes {
    /// Asks for a certificate now; `answer` hears how it went, from the thread.
    pub fn ask(&self, answer: impl FnOnce(Result<(), String>) + Send + 'static) {
        if let Err(unsent) = self.0.send(Box::new(answer)) {
            (unsent.0)(Err(
                "the thread for certificates has ended: look at event=acme_ended".into()
            ));
        }
    }
}

/// The way to a thread that sees to the certificate, and what that thread is to run. `ports` are
/// where the authority looks for proofs.
pub fn thread(
    settings: Settings,
    ports: Vec<TcpListener>,
) -> (Wishes, impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (wish, wishes) = unbounded_channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let board = Board::default();
            serve(settings.challenge, ports, &board)?;
            let files = Files::new(settings.dir.clone());
            Keeper { settings, files, board, account: None, looked: None }.keep(wishes).await;
            Ok(())
        })
    };
    (Wishes(wish), run)
}

struct Keeper {
    settings: Settings,
    files: Files,
    board: Board,
    account: Option<Account>,
    /// What the authority last said of the certificate at hand, and until when that counts.
    looked: Option<(Option<(u64, u64)>, u64)>,
}

impl Keeper {
    async fn keep(mut self, mut wishes: UnboundedReceiver<Answer>) {
        loop {
            let held = self.held();
            let tried = self.files.read_state();
            let at = self.due(held.as_ref(), &tried).await;
            // The clock may be set, and the machine may sleep: looked at again and again.
            let pause = Duration::from_secs(at.saturating_sub(now()).min(HOUR));
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(answer) => self.hasten(held.as_ref(), tried, answer).await,
                    None => return,
                },
                () = tokio::time::sleep(pause) => {
                    if now() >= at {
                        // It is in the log, and in the state.
                        drop(self.attempt(held.as_ref(), tried).await);
                    }
                }
            }
        }
    }

    /// The operator does not want to wait for the next try.
    async fn hasten(&mut self, held: Option<&Certificate>, tried: Tried, answer: Answer) {
        let wait = (tried.at + HASTE_PAUSE).saturating_sub(now());
        if wait > 0 && tried.at <= now() {
            let why = format!("the authority was asked a moment ago: try again in {wait} s");
            return answer(Err(why));
        }
        let mut attempt = pin!(self.attempt(held, tried));
        tokio::select! {
            done = &mut attempt => answer(done),
            () = tokio::time::sleep(ANSWER_PATIENCE) => {
                let why = "the authority takes its time: event=certificate_issued or acme_failed tells";
                answer(Err(why.into()));
                drop(attempt.await);
            }
        }
    }

    fn held(&self) -> Option<Certificate> {
        self.files.read_certificate().unwrap_or_else(|error| {
            let path = self.files.certificate().display().to_string();
            let fields = [("file", path.as_str().into()), ("why", (&error).into())];
            event(Level::Error, "acme_certificate_unreadable", &fields);
            None
        })
    }

    /// Seconds since 1970 of the next try.
    async fn due(&mut self, held: Option<&Certificate>, tried: &Tried) -> u64 {
        let wanted = match held.filter(|one| one.is_for(&self.settings.domains)) {
            None => 0,
            Some(held) => match self.window(held).await {
                Some(window) => within(window, share(&held.der)).min(held.not_after),
                None => two_thirds(held),
            },
        };
        wanted.max(tried.next)
    }

    /// When the authority would like this certificate renewed; asked as often as it likes to be.
    async fn window(&mut self, held: &Certificate) -> Option<(u64, u64)> {
        if let Some((window, until)) = self.looked
            && now() < until
        {
            return window;
        }
        let told = match self.account().await {
            Ok(account) => timeout(ASK_PATIENCE, window(account, held)).await.ok().flatten(),
            // Said when a certificate is asked for; there is time until then.
            Err(_) => None,
        };
        let holds = told.map_or(*LOOK_PAUSE.start(), |(_, holds)| holds.as_secs());
        let until = now() + holds.clamp(*LOOK_PAUSE.start(), *LOOK_PAUSE.end());
        let window = told.map(|(window, _)| window).filter(|(from, to)| from < to);
        self.looked = Some((window, until));
        window
    }

    async fn account(&mut self) -> Result<&Account, Refused> {
        let account = match self.account.take() {
            Some(account) => account,
            None => timeout(ASK_PATIENCE, account(&self.settings, &self.files))
                .await
                .unwrap_or_else(|_| Err(Refused::new(SILENT)))?,
        };
        Ok(self.account.insert(account))
    }

    /// Asks for a certificate, keeps it, notes how it went.
    async fn attempt(&mut self, held: Option<&Certificate>, tried: Tried) -> Result<(), String> {
        let refused = match self.get(held).await {
            Ok(until) => {
                // Whatever the clock says: a certificate that is due at once is asked for once.
                self.note(&Tried { at: now(), next: now() + HOUR, ..Tried::default() });
                let names = self.settings.domains.join(" ");
                let days = until.saturating_sub(now()) / DAY;
                let fields = [("names", names.as_str().into()), ("days", days.into())];
                event(Level::Info, "certificate_issued", &fields);
                return Ok(());
            }
            Err(refused) => refused,
        };
        let failures = tried.failures.saturating_add(1);
        let pause = pause(failures, refused.is_rate_limit, chance());
        let tried = Tried { at: now(), failures, why: refused.why.clone(), next: now() + pause };
        self.note(&tried);
        let left = held.map_or(0, |held| held.not_after.saturating_sub(now()) / DAY);
        let fields = [
            ("why", refused.why.as_str().into()),
            ("failures", failures.into()),
            ("again_in", Duration::from_secs(pause).as_secs().into()),
            ("days_left", left.into()),
        ];
        event(Level::Error, "acme_failed", &fields);
        Err(refused.why)
    }

    async fn get(&mut self, held: Option<&Certificate>) -> Result<u64, Refused> {
        let (settings, board) = (self.settings.clone(), self.board.clone());
        let issued = issue(self.account().await?, &settings, held, &board);
        // Whoever took the request and never answers it must not end all renewals.
        let issued =
            timeout(ATTEMPT_PATIENCE, issued).await.unwrap_or_else(|_| Err(Refused::new(SILENT)));
        if issued.is_err() {
            // Its directory is read anew by the next try.
            self.account = None;
        }
        let (key, chain) = issued?;
        self.looked = None;
        let unkept = |error: io::Error| Refused::unkept(&error);
        self.files.keep_certificate(&key, &chain).map_err(unkept)?;
        let kept = self.files.read_certificate().map_err(unkept)?;
        Ok(kept.map_or(0, |kept| kept.not_after))
    }

    fn note(&self, tried: &Tried) {
        if let Err(error) = self.files.keep_state(tried) {
            event(Level::Error, "acme_state_not_kept", &[("why", (&error).into())]);
        }
    }
}

/// Seconds since 1970 at which 2/3 of its life are over.
fn two_thirds(held: &Certificate) -> u64 {
    let life = held.not_after.saturating_sub(held.not_before);
    held.not_before + life / 3 * 2
}

/// The moment that lies at `share` (of 2^32) of the window.
fn within((from, to): (u64, u64), share: u32) -> u64 {
    let width = u128::from(to.saturating_sub(from));
    let into = (width * u128::from(share)) >> 32;
    from + u64::try_from(into).unwrap_or_default()
}

/// The same for one certificate each time it is asked, another for another.
fn share(der: &[u8]) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64(der);
    u32::try_from(hash >> 32).unwrap_or_default()
}

/// Seconds until the next try after so many failures, longer by up to a quarter (`chance` of 2^32).
fn pause(failures: u32, is_rate_limit: bool, chance: u32) -> u64 {
    let last = PAUSES.len() - 1;
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(last).min(last);
    let pause = if is_rate_limit { PAUSES[step].max(6 * HOUR) } else { PAUSES[step] };
    pause + ((pause / 4 * u64::from(chance)) >> 32)
}

fn chance() -> u32 {
    let mut octets = [0; 4];
    // Without any all wait the same time.
    let _ = getrandom::fill(&mut octets);
    u32::from_le_bytes(octets)
}

#[expect(clippy::disallowed_types, reason = "certificates go by the calendar; no shard is here")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_with_a_third_of_its_life_left() {
        let held = |from, to| Certificate {
            names: Vec::new(),
            not_before: from,
            not_after: to,
            der: Vec::new(),
        };
        assert_eq!(two_thirds(&held(0, 90 * DAY)), 60 * DAY);
        assert_eq!(two_thirds(&held(1_000, 1_000 + 6 * DAY)), 1_000 + 4 * DAY);
    }

    #[test]
    fn the_moment_lies_within_the_window_of_the_authority() {
        assert_eq!(within((100, 200), 0), 100);
        assert_eq!(within((100, 200), u32::MAX / 2 + 1), 150);
        assert!((100..200).contains(&within((100, 200), u32::MAX)));
        assert_eq!(within((200, 100), u32::MAX), 200);
    }

    #[test]
    fn failures_make_tries_rarer_up_to_one_a_day() {
        let pauses: Vec<u64> = (1..=8).map(|failures| pause(failures, false, 0)).collect();
        assert!(pauses.is_sorted() && pauses[0] == 15 * MINUTE && pauses[7] == DAY, "{pauses:?}");
        assert_eq!(pause(1, true, 0), 6 * HOUR, "asked too often: not soon again");
        for failures in [1, 3, 100, u32::MAX] {
            let (least, most) = (pause(failures, false, 0), pause(failures, false, u32::MAX));
            assert!(least < most && most <= least * 5 / 4);
        }
        // Whatever fails, fewer proofs than the 5 an hour that Let's Encrypt takes.
        assert!(pauses[0] + pauses[1] > HOUR);
    }
}
