//! `pombal undelete`: asks the server, running or stopped, and says what came back.

use super::args::Undelete;
use super::show::{self, visible};
use super::{Failure, Session};
use crate::admin::calendar::rfc3339;
use crate::admin::request::{Request, Response, Undeleted, Wanted};
use crate::model::time::Wall;
use std::io::Write;

pub(super) fn run(
    session: &Session<'_>,
    typed: &Undelete,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Undelete { address, at, beside, dry_run } = typed;
    let wanted = Wanted { at: at.seconds(), beside: beside.clone(), dry_run: *dry_run };
    let request = Request::Undelete { address: address.clone(), wanted };
    let config = session.load()?.config;
    match session.ask(&config, &request)? {
        Response::Undeleted(told) if session.json => show::json(&told, out),
        Response::Undeleted(told) => tell(&told, typed, out),
        other => {
            show::response(&other, session.json, out)?;
            Err(super::moving::strange())
        }
    }
}

fn tell(told: &Undeleted, typed: &Undelete, out: &mut dyn Write) -> Result<(), Failure> {
    let at = rfc3339(Wall::from_seconds(typed.at.seconds()));
    for row in &told.mailboxes {
        let (name, messages) = (visible(&row.name), row.messages);
        let as_it_is = if row.unchanged { ", as it is" } else { "" };
        writeln!(out, "{name}: {messages} messages{as_it_is}")?;
    }
    for name in &told.removed {
        writeln!(out, "{}: removed, nothing had this name then", visible(name))?;
    }
    let messages: u64 = told.mailboxes.iter().map(|row| row.messages).sum();
    let mailboxes = told.mailboxes.len();
    let would = if typed.dry_run { "would be " } else { "" };
    Ok(writeln!(out, "{would}as at {at}: {mailboxes} mailboxes, {messages} messages")?)
}
