//! Sends what was counted, once a day, some hours after midnight UTC (RFC 8460 §4.1); what a server by HTTP
//! did not take, for a day again and again (§5.5).

use super::compose::{Mail, Report, Submitter};
use super::{DAY, Day, Tally, day};
use crate::concierge::dns::{Data, Kind};
use crate::concierge::http::{Client, Endpoint, Failed, Question};
use crate::dns::Resolver;
use crate::env::Env;
use crate::model::limits::{
    TLS_REPORT_DELAY_MAX, TLS_REPORT_DESTINATIONS_MAX, TLS_REPORT_RETRY_FIRST,
    TLS_REPORT_RETRY_OCTETS_MAX, TLS_REPORT_RETRY_SPAN,
};
use crate::model::time::Wall;
use crate::probe::event::{Level, Value, event};
use crate::wire::tls_report::{Destination, destinations};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How often one looks at the clock, which may be set.
const STEP: Duration = Duration::from_hours(1);

/// Whether a message is on its way: it is durable.
pub type Sent = Pin<Box<dyn Future<Output = bool>>>;

/// Whether a server took a report, or why not.
pub type Posted = Pin<Box<dyn Future<Output = Result<(), Failed>>>>;

/// Posts a report, by gzip, to an URL.
pub type Post = Box<dyn Fn(&Endpoint, Vec<u8>) -> Posted>;

/// Who sends reports: one for all shards, on one of them.
pub struct Daily<E: Env> {
    pub env: E,
    pub dns: Resolver<E>,
    pub tally: Tally,
    pub submitter: Submitter,
    /// Posts a report ([`posting`]).
    pub post: Post,
    /// Brings a message on its way, signed.
    pub send: Box<dyn Fn(Mail) -> Sent>,
}

/// A report that is to be posted again.
struct Late {
    report: Report,
    urls: Vec<Endpoint>,
    first: Wall,
    pause: Duration,
    next: Wall,
}

impl<E: Env> Daily<E> {
    /// Sends reports for as long as the shard runs.
    pub async fn run(self) {
        let mut last = day(self.env.wall());
        let mut late = Vec::new();
        let mut delay = self.delay();
        loop {
            self.env.sleep(STEP.min(self.until(last, delay, &late))).await;
            let now = self.env.wall();
            self.post_again(&mut late, now).await;
            let today = day(now);
            if today > last && since_midnight(now) >= delay {
                self.send_all(today - 1, &mut late).await;
                last = today;
                delay = self.delay();
            }
        }
    }

    /// Until there is something to do.
    fn until(&self, last: Day, delay: Duration, late: &[Late]) -> Duration {
        let now = self.env.wall();
        let due = Duration::from_secs((u64::from(last) + 1) * DAY) + delay;
        let next = late.iter().map(|late| Duration::from_micros(late.next.0)).min();
        let next = next.map_or(due, |next| next.min(due));
        next.saturating_sub(Duration::from_micros(now.0)).max(Duration::from_secs(1))
    }

    /// Everybody's reports would come at once.
    fn delay(&self) -> Duration {
        let seconds = TLS_REPORT_DELAY_MAX.as_secs().max(1);
        Duration::from_secs(1 + self.env.random() % seconds)
    }

    async fn send_all(&self, day: Day, late: &mut Vec<Late>) {
        let (mut sent, mut failed) = (0_u64, 0_u64);
        for domain in self.tally.domains(day) {
            match self.send_one(&domain, day, late).await {
                Some(true) => sent += 1,
                Some(false) => failed += 1,
                None => {}
            }
            self.env.breathe().await;
        }
        let left_out = self.tally.forget(day + 1);
        let fields =
            [("sent", sent.into()), ("failed", failed.into()), ("left_out", left_out.into())];
        let level = if failed + left_out > 0 { Level::Warn } else { Level::Info };
        event(level, "tls_reports_sent", &fields);
    }

    /// `None`: nobody wants it any more.
    async fn send_one(&self, domain: &str, day: Day, late: &mut Vec<Late>) -> Option<bool> {
        let policies = self.tally.take(day, domain)?;
        let to = wanted(&self.dns, domain).await?;
        let id = format!("{day}{:016x}", self.env.random());
        let report = match Report::new(&self.submitter, domain, day, &policies, &id) {
            Ok(report) => report,
            Err(error) => {
                tell(domain, &error);
                return Some(false);
            }
        };
        let mut urls = Vec::new();
        for to in to {
            match to {
                Destination::Mail(address) => {
                    let now = self.env.wall().seconds();
                    let mail = report.mail(&self.submitter, address, now);
                    if (self.send)(mail).await {
                        return Some(true);
                    }
                }
                Destination::Https(url) => {
                    let Some(url) = Endpoint::parse(&url) else { continue };
                    if self.post(domain, &report, &url).await {
                        return Some(true);
                    }
                    urls.push(url);
                }
            }
        }
        let held: usize = late.iter().map(|late| late.report.gzip.len()).sum();
        if !urls.is_empty() && held + report.gzip.len() <= TLS_REPORT_RETRY_OCTETS_MAX {
            let (first, pause) = (self.env.wall(), TLS_REPORT_RETRY_FIRST);
            let next = after(first, pause);
            late.push(Late { report, urls, first, pause, next });
        }
        Some(false)
    }

    async fn post(&self, domain: &str, report: &Report, url: &Endpoint) -> bool {
        match (self.post)(url, report.gzip.clone()).await {
            Ok(()) => true,
            Err(failed) => {
                tell(domain, &failed);
                false
            }
        }
    }

    async fn post_again(&self, late: &mut Vec<Late>, now: Wall) {
        for mut one in std::mem::take(late) {
            if now < one.next {
                late.push(one);
                continue;
            }
            let mut is_sent = false;
            for url in &one.urls {
                is_sent = is_sent || self.post(one.report.domain(), &one.report, url).await;
            }
            one.pause *= 2;
            one.next = after(now, one.pause);
            if !is_sent && one.next.since(one.first) <= TLS_REPORT_RETRY_SPAN {
                late.push(one);
            }
        }
    }
}

/// Posts reports by this client.
pub fn posting(client: Client) -> Post {
    Box::new(move |url, gzip| {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move {
            let question = Question::Give { kind: Report::KIND, body: gzip.into() };
            client.ask(&url, question).await.map(drop)
        })
    })
}

/// Where a domain wants reports; `None`: nowhere.
pub async fn wanted<E: Env>(dns: &Resolver<E>, domain: &str) -> Option<Vec<Destination>> {
    let found = dns.look_up(Kind::Txt, &format!("_smtp._tls.{domain}")).await.ok()?;
    let texts = found.records.iter().filter_map(|data| match data {
        Data::Text(text) => Some(&**text),
        _ => None,
    });
    destinations(texts, TLS_REPORT_DESTINATIONS_MAX).filter(|all| !all.is_empty())
}

fn after(moment: Wall, pause: Duration) -> Wall {
    Wall(moment.0.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)))
}

fn since_midnight(now: Wall) -> Duration {
    Duration::from_micros(now.0 % (DAY * 1_000_000))
}

fn tell(domain: &str, why: &dyn std::fmt::Display) {
    let fields = [("domain", domain.into()), ("why", Value::Shown(why))];
    event(Level::Info, "tls_report_failed", &fields);
}
