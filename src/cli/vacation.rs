//! `vacation`: answers to mail for users who are away.

use super::args::{VacationCommand, VacationSet};
use super::{Failure, show};
use crate::admin::request::{DirectoryRequest, Request, Vacation, VacationOrder};
use crate::model::limits::VACATION_TEXT_OCTETS_MAX;
use crate::wire::smtp::later::date_time;
use std::io::{Read as _, Write, stdin};

/// The request that a command stands for.
pub(super) fn request(command: &VacationCommand) -> Result<Request, Failure> {
    let (address, order) = match command {
        VacationCommand::Set(set) => {
            let vacation = Vacation {
                subject: set.subject.clone(),
                text: text(set)?,
                from: set.from,
                until: set.until,
                days: set.days,
                addresses: set.addresses.clone(),
            };
            (&set.address, VacationOrder::Set(vacation))
        }
        VacationCommand::Show { address } => (address, VacationOrder::Show),
        VacationCommand::Off { address } => (address, VacationOrder::Off),
    };
    Ok(Request::Directory(DirectoryRequest::Vacation { address: address.clone(), order }))
}

/// The text of the answer.
fn text(set: &VacationSet) -> Result<String, Failure> {
    let most = VACATION_TEXT_OCTETS_MAX as u64 + 1;
    if let Some(file) = &set.file {
        let read = std::fs::read_to_string(file);
        return read.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())));
    }
    let mut text = String::new();
    let read = stdin().take(most).read_to_string(&mut text);
    read.map_err(|error| Failure::Failed(format!("the text: {error}")))?;
    Ok(text)
}

/// What is answered, for people.
pub(super) fn words(vacation: Option<&Vacation>, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(one) = vacation else { return Ok(writeln!(out, "nothing is answered")?) };
    if let Some(from) = one.from {
        writeln!(out, "from       {}", date_time(from))?;
    }
    if let Some(until) = one.until {
        writeln!(out, "until      {}", date_time(until))?;
    }
    writeln!(out, "days       {}", one.days)?;
    for address in &one.addresses {
        writeln!(out, "address    {}", show::visible(address))?;
    }
    if let Some(subject) = &one.subject {
        writeln!(out, "subject    {}", show::visible(subject))?;
    }
    writeln!(out)?;
    for line in one.text.lines() {
        writeln!(out, "{}", show::visible(line))?;
    }
    Ok(())
}
