//! Shows answers: as a table for people, as JSON for scripts.

use super::{Failure, vacation};
use crate::admin::calendar::rfc3339;
use crate::admin::request::{AppPasswordRow, DkimRow, Response, UserRow};
use crate::config::units::show_size;
use crate::model::time::Wall;
use serde::Serialize;
use std::io::Write;

pub(super) fn json(what: &impl Serialize, out: &mut dyn Write) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(what)
        .map_err(|error| Failure::Failed(format!("cannot be shown as JSON: {error}")))?;
    Ok(writeln!(out, "{text}")?)
}

/// Shows what the server said. A refusal is a [`Failure`].
pub(super) fn response(
    response: &Response,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match response {
        Response::Refused(why) => Err(Failure::Failed(why.clone())),
        Response::Wrong(why) => Err(Failure::Wrong(why.clone())),
        // The others are nobody's questions but the commands' own.
        Response::Done
        | Response::ScramTerms(_)
        | Response::Queue { .. }
        | Response::QueueDone { .. }
        | Response::QueueStats { .. }
        | Response::Compacted { .. }
        | Response::Verified { .. }
        | Response::Explained(_)
        | Response::Moving { .. }
        | Response::Backup(_)
        | Response::Undeleted(_) => Ok(()),
        Response::Domains(domains) if as_json => json(domains, out),
        Response::Users(users) if as_json => json(users, out),
        Response::Aliases(aliases) if as_json => json(aliases, out),
        Response::Vacation(vacation) if as_json => json(vacation, out),
        Response::Vacation(one) => vacation::words(one.as_ref(), out),
        Response::AppPasswords(apps) if as_json => json(apps, out),
        Response::DkimKeys(keys) if as_json => json(keys, out),
        Response::Figures(figures) if as_json => {
            let map: serde_json::Map<String, serde_json::Value> =
                figures.iter().map(|row| (row.name.clone(), row.value.into())).collect();
            json(&map, out)
        }
        Response::Domains(domains) => {
            table(&["domain"], domains.iter().map(|domain| vec![domain.clone()]), out)
        }
        Response::Users(users) => table(
            &["address", "account", "login", "quota", "used", "messages", "imap hides"],
            users.iter().map(row),
            out,
        ),
        Response::Aliases(aliases) => {
            // Most have no lists.
            let has_owner = aliases.iter().any(|row| row.owner.is_some());
            let rows = aliases.iter().map(|row| {
                let owner = has_owner.then(|| row.owner.clone().unwrap_or_default());
                let (address, targets) = (row.address.clone(), row.targets.join(" "));
                [Some(address), owner, Some(targets)].into_iter().flatten().collect()
            });
            let all = ["address", "owner", "targets"];
            let named: Vec<&str> =
                all.into_iter().filter(|name| has_owner || *name != "owner").collect();
            table(&named, rows, out)
        }
        Response::AppPasswords(apps) => {
            let day = |row: &AppPasswordRow| {
                let at = rfc3339(Wall(u64::from(row.created) * 1_000_000));
                at.chars().take(10).collect::<String>()
            };
            let scram = |row: &AppPasswordRow| if row.scram { "yes" } else { "no" }.to_owned();
            let rows = apps.iter().map(|row| vec![row.name.clone(), day(row), scram(row)]);
            table(&["name", "created", "scram"], rows, out)
        }
        Response::DkimKeys(keys) => {
            let row = |key: &DkimRow| {
                let bits = key.bits.to_string();
                vec![key.domain.clone(), key.selector.clone(), key.algorithm.clone(), bits]
            };
            table(&["domain", "selector", "algorithm", "bits"], keys.iter().map(row), out)
        }
        Response::Figures(figures) => {
            let rows = figures.iter().map(|row| vec![row.name.clone(), row.value.to_string()]);
            table(&["figure", "value"], rows, out)
        }
    }
}

fn row(user: &UserRow) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    vec![
        user.address.clone(),
        user.account.to_string(),
        match user {
            UserRow { enabled: false, .. } => "off",
            UserRow { has_password: true, .. } => "yes",
            _ => "no",
        }
        .into(),
        or_dash(user.quota.map(show_size)),
        or_dash(user.used.map(show_size)),
        or_dash(user.messages.map(|count| count.to_string())),
        or_dash(Some(user.imap_hidden.join(",")).filter(|names| !names.is_empty())),
    ]
}

/// Columns as wide as their widest word. What strangers chose is shown with controls escaped.
pub(super) fn table(
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let first = head.iter().map(|word| (*word).to_owned()).collect();
    aligned(std::iter::once(first).chain(rows), out)
}

/// The same without a head.
pub(super) fn aligned(
    rows: impl Iterator<Item = Vec<String>>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let shown = rows.map(|row| row.iter().map(|word| visible(word)).collect());
    let rows: Vec<Vec<String>> = shown.collect();
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len))
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|word| word.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(word, width)| format!("{word:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// With controls escaped.
pub(super) fn visible(word: &str) -> String {
    let shown = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    word.chars().map(shown).collect()
}
