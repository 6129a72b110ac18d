//! The outgoing queue: turns what was typed into requests, part after part, and shows the answers.

use super::args::{Filters, Halt, Orders, QueueCommand};
use super::words::{address, age, due, pause, said, short};
use super::{Failure, Session, show};
use crate::admin::calendar::rfc3339;
use crate::admin::request::{
    Cursor, Done, Filter, Lane, Next, Order, Pause, QueueRequest, Recipient, Request, Response,
    Row, Site, Stats,
};
use crate::config::Config;
use crate::config::units::show_size;
use crate::model::time::Wall;
use serde_json::json;
use std::io::Write;

/// Columns that what a server said gets in a list.
const SAID_WIDTH: usize = 60;

pub(super) fn run(
    session: &Session<'_>,
    command: &QueueCommand,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let queue = Queue { session, config: &config };
    match command {
        QueueCommand::List { filters, limit } => {
            queue.print_list(&filter(filters), filters.older_than, *limit, out)
        }
        QueueCommand::Show { name, filters, limit } => {
            let mut filter = filter(filters);
            filter.id = filter.id.or_else(|| name.clone());
            if filter == Filter::default() && filters.older_than.is_none() {
                return Err(Failure::Wrong("which entries? name one, or use a filter".into()));
            }
            let listed = queue.list(&filter, filters.older_than, *limit)?;
            if listed.rows.is_empty() {
                return Err(Failure::Failed("no entry of the queue is that".into()));
            }
            if session.json {
                return show::json(&listed.rows, out);
            }
            for (index, row) in listed.rows.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                detail(row, listed.now, out)?;
            }
            Ok(())
        }
        QueueCommand::Retry(orders) => queue.order(Order::Retry, orders, out),
        QueueCommand::Hold(orders) => queue.order(Order::Hold, orders, out),
        QueueCommand::Release(orders) => queue.order(Order::Release, orders, out),
        QueueCommand::Bounce(orders) => queue.order(Order::Bounce, orders, out),
        QueueCommand::Delete(orders) => queue.order(Order::Delete, orders, out),
        QueueCommand::Stats { top } => match queue.ask(QueueRequest::Stats { top: *top })? {
            Response::QueueStats { now, stats } if session.json => {
                show::json(&json!({ "now": now, "stats": stats }), out)
            }
            Response::QueueStats { now, stats } => figures(&stats, now, out),
            _ => Err(strange()),
        },
        QueueCommand::Pause(halt) => queue.pause(true, halt),
        QueueCommand::Resume(halt) => queue.pause(false, halt),
    }
}

fn filter(filters: &Filters) -> Filter {
    let Filters { id, sender, recipient, domain, .. } = filters.clone();
    Filter { id, sender, recipient, domain }
}

fn strange() -> Failure {
    Failure::Failed("the server is of another release: restart it".into())
}

/// Entries, by the clock of the server that has them.
pub(super) struct Listed {
    pub(super) now: u32,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Queue<'s> {
    pub(super) session: &'s Session<'s>,
    pub(super) config: &'s Config,
}

impl Queue<'_> {
    fn ask(&self, request: QueueRequest) -> Result<Response, Failure> {
        match self.session.ask(self.config, &Request::Queue(Box::new(request)))? {
            Response::Refused(why) => Err(Failure::Failed(why)),
            Response::Wrong(why) => Err(Failure::Wrong(why)),
            response => Ok(response),
        }
    }

    /// Up to `limit` entries, or all where that is 0, part after part. Whether there may be more.
    fn parts(
        &self,
        filter: &Filter,
        older_than: Option<u32>,
        limit: u32,
        each: &mut dyn FnMut(u32, Vec<Row>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut cursor: Option<Cursor> = None;
        let mut left = if limit == 0 { u32::MAX } else { limit };
        loop {
            let (filter, most) = (filter.clone(), left);
            match self.ask(QueueRequest::List { filter, older_than, most, cursor })? {
                Response::Queue { now, rows, next } => {
                    cursor = next;
                    if limit > 0 {
                        left = left.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
                    }
                    each(now, rows)?;
                }
                _ => return Err(strange()),
            }
            if cursor.is_none() || left == 0 {
                return Ok(cursor.is_some());
            }
        }
    }

    pub(super) fn list(
        &self,
        filter: &Filter,
        older_than: Option<u32>,
        limit: u32,
    ) -> Result<Listed, Failure> {
        let mut listed = Listed { now: 0, rows: Vec::new() };
        self.parts(filter, older_than, limit, &mut |now, rows| {
            listed.now = now;
            listed.rows.extend(rows);
            Ok(())
        })?;
        Ok(listed)
    }

    /// Prints each part as it comes: there may be millions.
    fn print_list(
        &self,
        filter: &Filter,
        older_than: Option<u32>,
        limit: u32,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let is_json = self.session.json;
        let mut parts = 0;
        let mut separator = "[\n";
        let is_cut = self.parts(filter, older_than, limit, &mut |now, rows| {
            parts += 1;
            if !is_json {
                let lines = rows.iter().map(|row| line(row, now));
                return match parts {
                    1 => show::table(&HEAD, lines, out),
                    _ => show::aligned(lines, out),
                };
            }
            for row in rows {
                let row = serde_json::to_string(&row)
                    .map_err(|error| Failure::Failed(format!("cannot be shown: {error}")))?;
                write!(out, "{separator}{row}")?;
                separator = ",\n";
            }
            Ok(())
        })?;
        match (is_json, separator) {
            (true, "[\n") => writeln!(out, "[]")?,
            (true, _) => writeln!(out, "\n]")?,
            (false, _) if is_cut => writeln!(out, "there may be more: --limit 0 lists all")?,
            (false, _) => {}
        }
        Ok(())
    }

    fn order(&self, order: Order, orders: &Orders, out: &mut dyn Write) -> Result<(), Failure> {
        let (filter, older_than) = (filter(&orders.filters), orders.filters.older_than);
        if !orders.all && filter == Filter::default() && older_than.is_none() {
            let why = format!("{} without a filter is for everything: say --all", order.name());
            return Err(Failure::Wrong(why));
        }
        let mut all = Done::default();
        let mut cursor = None;
        loop {
            let (filter, most) = (filter.clone(), u32::MAX);
            match self.ask(QueueRequest::Order { order, filter, older_than, most, cursor }) {
                Ok(Response::QueueDone { done, next }) => {
                    all.add(done);
                    cursor = next;
                }
                Ok(_) => return Err(strange()),
                Err(Failure::Failed(why)) if all.done > 0 => {
                    return Err(Failure::Failed(format!("{} entries done, then: {why}", all.done)));
                }
                Err(failure) => return Err(failure),
            }
            if cursor.is_none() {
                break;
            }
        }
        if self.session.json {
            show::json(&all, out)?;
        } else {
            writeln!(out, "{}", sum(order, all))?;
        }
        let is_idle = all.done == 0 && all.unchanged == 0;
        if is_idle { Err(Failure::Failed(String::new())) } else { Ok(()) }
    }

    fn pause(&self, on: bool, halt: &Halt) -> Result<(), Failure> {
        let pause = match (&halt.domain, &halt.sender, &halt.route) {
            (Some(domain), ..) => Pause::Domain(domain.as_str().into()),
            (None, Some(sender), _) => Pause::Sender(sender.as_str().into()),
            (None, None, Some(pattern)) => Pause::Route(pattern.as_str().into()),
            (None, None, None) => Pause::All,
        };
        self.ask(QueueRequest::Pause { on, pause }).map(|_| ())
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".into() } else { format!("{count} entries") }
}

fn sum(order: Order, done: Done) -> String {
    let what = match order {
        Order::Retry => "due now",
        Order::Hold => "held",
        Order::Release => "released",
        Order::Bounce => "returned to their senders",
        Order::Delete => "deleted",
    };
    let Done { done, busy, held, unchanged } = done;
    if done + busy + held + unchanged == 0 {
        return "no entry of the queue is that".into();
    }
    let mut parts = vec![format!("{} {what}", entries(done))];
    for (count, why) in [
        (unchanged, "so already"),
        (busy, "being delivered, and left alone"),
        (held, "held, and left alone: release them"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {why}"));
        }
    }
    parts.join("; ")
}

const HEAD: [&str; 9] =
    ["queue", "message", "age", "size", "tries", "next", "sender", "recipients", "said"];

fn line(row: &Row, now: u32) -> Vec<String> {
    let waiting: Vec<&Recipient> =
        row.recipients.iter().filter(|to| to.fate == "waiting").collect();
    let first = waiting.first().map_or("", |to| &to.address);
    let more = waiting.len().saturating_sub(1);
    let words = waiting.iter().find_map(|to| to.said.as_deref()).unwrap_or("");
    vec![
        row.queue.clone(),
        row.id.clone(),
        age(now, row.arrived),
        show_size(row.size.into()),
        row.attempts.to_string(),
        next(row, now),
        address(&row.sender),
        if more > 0 { format!("{first} and {more} more") } else { first.into() },
        short(words, SAID_WIDTH),
    ]
}

/// In a word, and when.
fn next(row: &Row, now: u32) -> String {
    match &row.next {
        Next::Waits { at } => format!("in {}", due(now, *at)),
        Next::Later { at } => format!("later, in {}", due(now, *at)),
        Next::Ready { lane: Some(Lane { rests_until: Some(until), .. }) } => {
            format!("rests {}", due(now, *until))
        }
        Next::Ready { lane: None } => "at the start".into(),
        other => other.name().into(),
    }
}

/// A sentence for what happens to an entry next.
pub(super) fn outlook(row: &Row, now: u32) -> String {
    let tail = format!("; comes back in {}", due(now, row.expires));
    let what = match &row.next {
        Next::Active => return "it is being delivered now".into(),
        Next::Held => "held by the operator: not tried until it is released".into(),
        Next::Paused { by } => {
            let by: Vec<String> = by.iter().map(pause).collect();
            format!("paused ({}): not tried until that is resumed", by.join(", "))
        }
        Next::Later { at } => format!("its sender wants it to go in {}", due(now, *at)),
        Next::Waits { at } => format!("tried again in {}", due(now, *at)),
        Next::Ready { lane: None } => "due: tried when the server starts".into(),
        Next::Ready { lane: Some(lane) } => match lane.rests_until {
            Some(until) => format!("due; {} rests for {}", row.domain, due(now, until)),
            None => format!(
                "due: waits for its turn among {} for {}, {} being delivered",
                lane.ready, row.domain, lane.workers
            ),
        },
    };
    what + &tail
}

/// How a group of servers is doing.
pub(super) fn standing(site: &Site, now: u32) -> String {
    let Site { name, open, window, failures, rests_until } = site;
    let mut parts = vec![format!("{name}: {open} of at most {window} connections")];
    if *failures > 0 {
        parts.push(format!("not reached {failures} times in a row"));
    }
    if let Some(until) = rests_until {
        parts.push(format!("left alone for {}", due(now, *until)));
    }
    parts.join(", ")
}

fn at(seconds: u32) -> String {
    let text = rfc3339(Wall::from_seconds(seconds));
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

fn detail(row: &Row, now: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let mut lines: Vec<(&str, String)> = vec![
        ("queue", row.queue.clone()),
        ("message", row.id.clone()),
        ("sender", address(&row.sender)),
        ("domain", row.domain.clone()),
        ("size", show_size(row.size.into())),
        ("arrived", format!("{}, {} ago", at(row.arrived), age(now, row.arrived))),
        ("attempts", row.attempts.to_string()),
        ("due", at(row.due)),
        ("expires", format!("{}, in {}", at(row.expires), due(now, row.expires))),
        ("next", outlook(row, now)),
    ];
    if let Some(warn) = row.warn {
        lines.push(("warning", format!("its sender is told in {}", due(now, warn))));
    }
    if let Next::Ready { lane: Some(Lane { site: Some(site), .. }) } = &row.next {
        lines.push(("servers", standing(site, now)));
    }
    if row.priority != 0 {
        lines.push(("priority", row.priority.to_string()));
    }
    if !row.flags.is_empty() {
        lines.push(("flags", row.flags.join(", ")));
    }
    if let Some(by) = row.by {
        lines.push(("deliver by", at(by)));
    }
    if let Some(envid) = &row.envid {
        lines.push(("envelope id", envid.clone()));
    }
    for (name, value) in lines {
        writeln!(out, "{name:<12} {}", show::visible(&value))?;
    }
    for to in &row.recipients {
        let words = to.said.as_ref().map(|words| said(to.host.as_deref(), words));
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        let notify = to.notify.as_ref().map(|notify| format!(" (notify {notify})"));
        let notify = notify.unwrap_or_default();
        let text = format!("<{}> {}{words}{notify}", to.address, to.fate);
        writeln!(out, "{:<12} {}", "recipient", show::visible(&text))?;
    }
    Ok(())
}

fn figures(stats: &Stats, now: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let oldest = stats.oldest.map_or("-".into(), |oldest| age(now, oldest));
    let mut rows = vec![
        vec!["entries".into(), stats.entries.to_string()],
        vec!["ready".into(), stats.ready.to_string()],
        vec!["workers".into(), stats.workers.to_string()],
        vec!["held".into(), stats.held.to_string()],
        vec!["oldest".into(), oldest],
    ];
    for (fate, count) in &stats.recipients {
        rows.push(vec![format!("recipients {fate}"), count.to_string()]);
    }
    for paused in &stats.pauses {
        let count = paused.entries.map_or("yes".into(), entries);
        rows.push(vec![format!("paused {}", pause(&paused.pause)), count]);
    }
    show::table(&["figure", "value"], rows.into_iter(), out)?;
    if stats.destinations.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let rows = stats.destinations.iter().map(|one| {
        let site = one.lane.site.as_ref();
        vec![
            one.domain.clone(),
            one.entries.to_string(),
            one.lane.ready.to_string(),
            one.lane.workers.to_string(),
            one.lane.rests_until.map_or("-".into(), |until| due(now, until)),
            site.map_or("-".into(), |site| site.failures.to_string()),
            site.map_or("-".into(), |site| site.name.clone()),
        ]
    });
    let head = ["domain", "entries", "ready", "workers", "rests", "failures", "servers"];
    show::table(&head, rows, out)
}
