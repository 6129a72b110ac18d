//! Why mail goes where it goes, and where a message is.

use super::queue::{Queue, outlook, standing};
use super::words::{address, age, pause, said};
use super::{Failure, Session, show};
use crate::admin::request::{Elsewhere, Explained, Filter, Request, Response, Row};
use std::io::Write;

/// What it can mean that a message is in no queue.
const NOT_THERE: &str = "it is not in the queue. All of its recipients may be over with: delivered \
    to mailboxes here, taken by their servers, or reported to its sender; or it never was here. The \
    log has an event of each recipient's end: look for id=";

pub(super) fn recipient(
    session: &Session<'_>,
    text: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let request = Request::ExplainRecipient { address: text.to_owned() };
    match session.ask(&config, &request)? {
        Response::Refused(why) => Err(Failure::Failed(why)),
        Response::Wrong(why) => Err(Failure::Wrong(why)),
        Response::Explained(explained) if session.json => show::json(&explained, out),
        Response::Explained(explained) => words(&explained, out),
        _ => Err(Failure::Failed("the server is of another release: restart it".into())),
    }
}

fn words(explained: &Explained, out: &mut dyn Write) -> Result<(), Failure> {
    for step in &explained.steps {
        writeln!(out, "{}", show::visible(step))?;
    }
    let outcome = match &*explained.outcome {
        "account" => "it goes to that mailbox",
        "aliased" => "it goes to each of them",
        "elsewhere" => {
            "it goes to other servers, for those who may relay: users who have logged in, and \
             smtp.relay_networks"
        }
        "rewritten" => "a report to it goes there; all other mail for it is refused",
        "disabled" => "it is refused: whoever would get it is switched off (550 5.2.1)",
        "unknown" => "it is refused: there is no such user (550 5.1.1)",
        _ => "it is refused for now: the directory has to be mended (451 4.3.5)",
    };
    writeln!(out, "{outcome}")?;
    for one in &explained.elsewhere {
        elsewhere(one, explained.now, out)?;
    }
    Ok(())
}

fn elsewhere(one: &Elsewhere, now: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let Elsewhere { address, domain, route, way } = one;
    writeln!(out, "\n{}:", show::visible(address))?;
    if let Some(route) = route {
        writeln!(out, "  by route {route}")?;
    }
    match &way.servers {
        Some(servers) => {
            for line in &servers.lines {
                writeln!(out, "  {}", show::visible(line))?;
            }
        }
        None if route.is_none() => {
            writeln!(out, "  by its MX records, which only a running server looks up")?;
        }
        None => {}
    }
    for by in &way.paused {
        writeln!(out, "  paused: {}", show::visible(&pause(by)))?;
    }
    let domain = show::visible(domain);
    let count = way.entries;
    writeln!(out, "  {count} entries of the queue are for {domain}, {} ready", way.lane.ready)?;
    if let Some(until) = way.lane.rests_until {
        writeln!(out, "  it rests for {}", super::words::due(now, until))?;
    }
    if let Some(site) = &way.lane.site {
        writeln!(out, "  {}", show::visible(&standing(site, now)))?;
    }
    Ok(())
}

pub(super) fn message(session: &Session<'_>, id: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let config = session.load()?.config;
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    let listed = Queue { session, config: &config }.list(&filter, None, 0)?;
    if session.json {
        show::json(&listed.rows, out)?;
    } else {
        for row in &listed.rows {
            entry(row, listed.now, out)?;
        }
    }
    if listed.rows.is_empty() {
        return Err(Failure::Failed(format!("{NOT_THERE}{}", show::visible(id))));
    }
    Ok(())
}

fn entry(row: &Row, now: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let (id, sender) = (show::visible(&row.id), show::visible(&address(&row.sender)));
    let age = age(now, row.arrived);
    writeln!(out, "{}: message {id} of {sender}, here for {age}", row.queue)?;
    for to in &row.recipients {
        let words = match (&to.said, &*to.fate) {
            (Some(words), _) => said(to.host.as_deref(), words),
            (None, "waiting") => "not tried yet".into(),
            (None, _) => String::new(),
        };
        let text = format!("<{}> {}: {words}", to.address, to.fate);
        writeln!(out, "  {}", show::visible(text.trim_end_matches(": ")))?;
    }
    Ok(writeln!(out, "  next: {}", show::visible(&outlook(row, now)))?)
}
