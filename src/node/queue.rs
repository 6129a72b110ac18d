//! What an operator asks of the outgoing mail of all logs, and where mail for an address goes: the
//! same for a running and a stopped server.

use super::owners::Owners;
use super::shard::State;
use crate::admin::request::{
    Cursor, Destination, Done, Elsewhere, Explained, Lane, Pause, Paused, QueueRequest, Response,
    Stats, Way,
};
use crate::directory::{Explanation, Resolution, explain as explain_address};
use crate::env::Env;
use crate::model::address::Address;
use crate::model::id::LogId;
use crate::mta::relay::desk::ask::{Ask, Cut, Reply};
use crate::server::owner::{Question, Told};
use crate::wire::address::parse_mailbox;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Answers a request out of all logs.
pub(super) async fn answer<E: Env>(
    env: &E,
    request: QueueRequest,
    owners: &impl Owners,
) -> Response {
    let now = env.wall().seconds();
    let begin = |older_than: Option<u32>, cursor: Option<Cursor>, most: u32| {
        let before = now.saturating_sub(older_than.unwrap_or(0));
        let at = cursor.unwrap_or(Cursor { log: 0, place: 0, before });
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Walk { at, left: most.min(owners.part_max()) }
    };
    let done = match request {
        QueueRequest::List { filter, older_than, most, cursor } => {
            let mut walk = begin(older_than, cursor, most);
            let mut all = Vec::new();
            let result = loop {
                let ask = |cut| Ask::List { filter: filter.clone(), cut };
                let Some(asked) = walk.next(owners.logs(), ask) else { break Ok(()) };
                match queue(owners, asked).await {
                    Ok(Reply::Rows { rows, next, .. }) => {
                        walk.took(rows.len(), next);
                        all.extend(rows);
                    }
                    Ok(_) => break Err(strange()),
                    Err(response) => break Err(response),
                }
            };
            result.map(|()| Response::Queue { now, rows: all, next: walk.rest(owners.logs()) })
        }
        QueueRequest::Order { order, filter, older_than, most, cursor } => {
            let mut walk = begin(older_than, cursor, most);
            let mut all = Done::default();
            let result = loop {
                let ask = |cut| Ask::Order { order, filter: filter.clone(), cut };
                let Some(asked) = walk.next(owners.logs(), ask) else { break Ok(()) };
                match queue(owners, asked).await {
                    Ok(Reply::Done { done, next }) => {
                        let Done { done: changed, busy, held, unchanged } = done;
                        let count = changed + busy + held + unchanged;
                        walk.took(usize::try_from(count).unwrap_or(usize::MAX), next);
                        all.add(done);
                    }
                    Ok(_) => break Err(strange()),
                    Err(response) => break Err(response),
                }
            };
            result.map(|()| Response::QueueDone { done: all, next: walk.rest(owners.logs()) })
        }
        QueueRequest::Stats { top } => stats(now, top, owners).await,
        QueueRequest::Pause { on, pause } => set_pause(on, &pause, owners).await,
    };
    done.unwrap_or_else(|response| response)
}

/// A part of a walk through the queues of all logs, one after the other.
struct Walk {
    at: Cursor,
    left: usize,
}

impl Walk {
    /// Whom to ask next, and what; none: this part is whole.
    fn next(&self, logs: u16, ask: impl FnOnce(Cut) -> Ask) -> Option<(LogId, Ask)> {
        let Cursor { log, place, before } = self.at;
        let cut = Cut { after: place, most: self.left, before };
        (log < logs && self.left > 0).then(|| (LogId(log), ask(cut)))
    }

    fn took(&mut self, count: usize, next: Option<u64>) {
        self.left = self.left.saturating_sub(count);
        if let Some(place) = next {
            // It has more, which belongs to the next part.
            (self.at.place, self.left) = (place, 0);
        } else {
            (self.at.log, self.at.place) = (self.at.log + 1, 0);
        }
    }

    fn rest(&self, logs: u16) -> Option<Cursor> {
        (self.at.log < logs).then_some(self.at)
    }
}

fn strange() -> Response {
    Response::Refused("the shard answered something else".into())
}

async fn queue(owners: &impl Owners, (log, ask): (LogId, Ask)) -> Result<Reply, Response> {
    match owners.ask(log, Question::Queue(ask)).await {
        Ok(Told::Queue(Reply::Wrong(why))) => Err(Response::Wrong(why)),
        Err(why) | Ok(Told::Queue(Reply::Failed(why))) => Err(Response::Refused(why)),
        Ok(Told::Queue(reply)) => Ok(reply),
        Ok(_) => Err(strange()),
    }
}

/// Every log has it, for mail may leave from each.
async fn set_pause(on: bool, pause: &Pause, owners: &impl Owners) -> Result<Response, Response> {
    let mut was = false;
    for log in (0..owners.logs()).map(LogId) {
        match queue(owners, (log, Ask::Pause { on, pause: pause.clone() })).await? {
            Reply::Paused { was: here } => was |= here,
            _ => return Err(strange()),
        }
    }
    if on || was {
        return Ok(Response::Done);
    }
    Err(Response::Refused("that is not paused".into()))
}

/// The figures of all logs, summed.
async fn stats(now: u32, top: u32, owners: &impl Owners) -> Result<Response, Response> {
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let mut all = Stats::default();
    let mut destinations: BTreeMap<String, Destination> = BTreeMap::new();
    for log in (0..owners.logs()).map(LogId) {
        // More than are wanted: a domain may be large here and small elsewhere.
        let ask = Ask::Stats { top: top.saturating_mul(4) };
        let Reply::Stats(stats) = queue(owners, (log, ask)).await? else { return Err(strange()) };
        all.entries += stats.entries;
        all.ready += stats.ready;
        all.workers += stats.workers;
        all.held += stats.held;
        all.oldest = all.oldest.into_iter().chain(stats.oldest).min();
        for (fate, count) in stats.recipients {
            *all.recipients.entry(fate).or_default() += count;
        }
        for paused in stats.pauses {
            match all.pauses.iter_mut().find(|one| one.pause == paused.pause) {
                Some(one) => {
                    one.entries = one.entries.zip(paused.entries).map(|(one, more)| one + more);
                }
                None => all.pauses.push(paused),
            }
        }
        for one in stats.destinations {
            match destinations.get_mut(&one.domain) {
                Some(known) => {
                    known.entries += one.entries;
                    add_lane(&mut known.lane, one.lane);
                }
                None => drop(destinations.insert(one.domain.clone(), one)),
            }
        }
    }
    all.destinations = destinations.into_values().collect();
    all.destinations.sort_by_key(|one| Reverse(one.entries));
    all.destinations.truncate(top);
    all.pauses.sort_by(|one: &Paused, other| one.pause.cmp(&other.pause));
    Ok(Response::QueueStats { now, stats: all })
}

/// The lanes of one domain on two shards; what is known of its servers is the same on both.
fn add_lane(lane: &mut Lane, other: Lane) {
    lane.ready += other.ready;
    lane.workers += other.workers;
    lane.rests_until = lane.rests_until.max(other.rests_until);
    lane.site = lane.site.take().or(other.site);
}

/// Says where mail for an address goes, and why.
pub(super) async fn explain<E: Env>(
    state: &State<E>,
    text: &str,
    owners: &impl Owners,
) -> Response {
    let Ok(path) = parse_mailbox(text) else {
        return Response::Wrong(format!("{text:?} is no address"));
    };
    let address = path.to_address();
    let (settings, snapshot) = (owners.settings(), state.ledger.snapshot());
    let now = state.log.env().wall().seconds();
    let (local, domain) = (address.local(), address.domain());
    let explained = explain_address(&snapshot, local.as_bytes(), domain, &settings.directory);
    let Explanation { mut steps, outcome } = explained;
    let stranger = settings.srs.as_ref().and_then(|srs| srs.resolve(local, domain, now));
    let (outcome, elsewhere): (_, Vec<Address>) = match (outcome, stranger) {
        (_, Some(stranger)) => {
            steps =
                vec![format!("{address}: stands for {stranger}, whose mail was passed on (SRS)")];
            ("rewritten", vec![stranger])
        }
        (outcome, None) => match outcome {
            Resolution::Account { .. } => ("account", Vec::new()),
            Resolution::Aliased(aliased) => {
                let parsed =
                    aliased.remotes.iter().filter_map(|one| parse_mailbox(&one.address).ok());
                ("aliased", parsed.map(|path| path.to_address()).collect())
            }
            Resolution::UnknownDomain => ("elsewhere", vec![address.clone()]),
            Resolution::UnknownUser => ("unknown", Vec::new()),
            Resolution::Disabled => ("disabled", Vec::new()),
            Resolution::Broken(_) => ("broken", Vec::new()),
        },
    };
    let mut ways = Vec::new();
    for address in elsewhere {
        match way(&address, owners).await {
            Ok(way) => ways.push(Elsewhere {
                address: address.to_string(),
                domain: address.domain().into(),
                route: owners.route(address.domain()),
                way,
            }),
            Err(response) => return response,
        }
    }
    Response::Explained(Box::new(Explained {
        address: address.to_string(),
        now,
        steps,
        outcome: outcome.into(),
        elsewhere: ways,
    }))
}

/// How mail to an address elsewhere would go: the servers are looked up once, the rest is of all logs.
async fn way(address: &Address, owners: &impl Owners) -> Result<Way, Response> {
    let mut all: Option<Way> = None;
    for log in (0..owners.logs()).map(LogId) {
        let (domain, sender) = (address.domain().into(), String::new());
        let look_up = all.is_none();
        let Reply::Way(way) = queue(owners, (log, Ask::Way { domain, sender, look_up })).await?
        else {
            return Err(strange());
        };
        match &mut all {
            Some(known) => {
                known.entries += way.entries;
                add_lane(&mut known.lane, way.lane);
            }
            None => all = Some(way),
        }
    }
    all.ok_or_else(strange)
}
