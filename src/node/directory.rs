//! The operator's requests, answered out of log 0 and by the owners of the accounts: the same for a
//! running and a stopped server.

use super::owners::{self, Owners};
use super::queue;
use super::shard::State;
use super::undelete;
use super::vacation;
use crate::admin::request::{
    AliasRow, AppPasswordRow, CompactRow, Compacting, DirectoryRequest, FigureRow, Request,
    Response, ScramTerms, UserRow, Verifying,
};
use crate::bytes::hash::Map;
use crate::directory::{
    AppPassword, ChangeError, Draft, Entry, Ledger, Query, Row, User, domain_name,
};
use crate::env::Env;
use crate::mailbox::Usage;
use crate::model::id::{AccountId, LogId};
use crate::model::limits::VERIFY_PART_MAX;
use crate::proto::sasl::{Keys, Terms};
use crate::server::owner::{Question, Told};
use crate::store::backup::Ask;
use crate::store::{AppendError, Log};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Answers a request; `owners` are asked about the accounts, and hear of every change.
pub async fn answer<E: Env>(state: &State<E>, request: Request, owners: &impl Owners) -> Response {
    match request {
        Request::Ping => Response::Done,
        Request::StoreStats => figures(owners).await,
        Request::StoreCompact { cursor } => compact(owners, cursor).await,
        Request::StoreVerify { cursor, rate } => {
            verify(owners, cursor, rate, state.log.figures().segment_octets).await
        }
        Request::CertRenew => {
            Response::Refused("only a running server asks for a certificate".into())
        }
        Request::Dkim(_) => Response::Refused("the keys are files, and not in the log".into()),
        Request::Directory(request) => directory(state, request, owners).await,
        Request::Queue(request) => queue::answer(state.log.env(), *request, owners).await,
        Request::ExplainRecipient { address } => queue::explain(state, &address, owners).await,
        Request::Moving { .. } => Response::Refused("mail moves in and out by itself".into()),
        Request::Backup { log, ask } => backup(owners, log, ask).await,
        Request::Undelete { address, wanted } => {
            undelete::answer(state, &address, wanted, owners).await
        }
    }
}

/// A log's part of a backup.
async fn backup(owners: &impl Owners, log: u16, ask: Ask) -> Response {
    if log >= owners.logs() {
        return Response::Wrong(format!("there is no log {log}"));
    }
    match owners.ask(LogId(log), Question::Backup(ask)).await {
        Ok(Told::Backup(reply)) => Response::Backup(reply),
        Ok(Told::Failed(why)) | Err(why) => Response::Refused(why),
        Ok(_) => Response::Refused("the log answered something else".into()),
    }
}

/// The figures of all logs, summed.
async fn figures(owners: &impl Owners) -> Response {
    let mut sums: Vec<FigureRow> = Vec::new();
    for log in (0..owners.logs()).map(LogId) {
        let told = match owners.ask(log, Question::Figures).await {
            Ok(Told::Figures(told)) => told,
            Ok(_) => Vec::new(),
            Err(why) => return Response::Refused(why),
        };
        for (name, value) in told {
            match sums.iter_mut().find(|row| row.name == name) {
                Some(row) => row.value += value,
                None => sums.push(FigureRow { name: name.into(), value }),
            }
        }
    }
    let sum = |name| sums.iter().find(|row| row.name == name).map_or(0, |row| row.value);
    let came = sum("octets_written");
    let all = came + sum("cold_octets_written") + sum("checkpoint_octets");
    let value = all.saturating_mul(1_000).checked_div(came).unwrap_or(0);
    sums.push(FigureRow { name: "write_amplification_permille".into(), value });
    Response::Figures(sums)
}

/// Checks a segment of one log, or what is not in segments.
async fn verify(
    owners: &impl Owners,
    cursor: Option<Verifying>,
    rate: u64,
    segment_octets: u64,
) -> Response {
    let Verifying { log, after } = cursor.unwrap_or(Verifying { log: 0, after: None });
    if log >= owners.logs() {
        return Response::Wrong(format!("there is no log {log}"));
    }
    let rate = if rate == 0 { 0 } else { rate.max(segment_octets / VERIFY_PART_MAX.as_secs()) };
    match owners.ask(LogId(log), Question::Verify { after, rate }).await {
        Ok(Told::Verified(findings, done)) => {
            let next = match done {
                Some(segment) => Some(Verifying { log, after: Some(segment) }),
                None => Some(Verifying { log: log + 1, after: None })
                    .filter(|next| next.log < owners.logs()),
            };
            Response::Verified { log, findings, next }
        }
        Ok(Told::Failed(why)) | Err(why) => Response::Refused(format!("log {log}: {why}")),
        Ok(_) => Response::Refused(format!("log {log}: no answer")),
    }
}

/// Cleans some segments of one log.
pub(super) async fn compact(owners: &impl Owners, cursor: Option<Compacting>) -> Response {
    let Compacting { log, before } = cursor.unwrap_or(Compacting { log: 0, before: None });
    if log >= owners.logs() {
        return Response::Wrong(format!("there is no log {log}"));
    }
    let told = match owners.ask(LogId(log), Question::Compact(before)).await {
        Ok(Told::Compacted(told)) => told,
        Ok(Told::Failed(why)) | Err(why) => return Response::Refused(format!("log {log}: {why}")),
        Ok(_) => return Response::Refused(format!("log {log}: no answer")),
    };
    let cleaned = told.cleaned.unwrap_or_default();
    let done = CompactRow {
        segments: cleaned.segments,
        moved: cleaned.blobs,
        moved_octets: cleaned.octets,
        damaged: cleaned.damaged,
        reclaimed_octets: told.reclaimed_octets,
    };
    let next = match told.cleaned {
        Some(_) => Some(Compacting { log, before: Some(told.before) }),
        None => {
            Some(Compacting { log: log + 1, before: None }).filter(|next| next.log < owners.logs())
        }
    };
    Response::Compacted { log, done, next }
}

async fn directory<E: Env>(
    state: &State<E>,
    request: DirectoryRequest,
    owners: &impl Owners,
) -> Response {
    let now = state.log.env().wall();
    match request {
        DirectoryRequest::DomainAdd { domain } => done(
            change(&state.log, &state.ledger, owners, |draft| draft.add_domain(&domain, now)).await,
        ),
        DirectoryRequest::DomainDel { domain } => {
            done(change(&state.log, &state.ledger, owners, |draft| draft.del_domain(&domain)).await)
        }
        DirectoryRequest::UserAdd { address, password_hash, quota } => {
            let hash = password_hash.unwrap_or_default();
            let quota = quota.unwrap_or(0);
            done(
                change(&state.log, &state.ledger, owners, |draft| {
                    draft.add_user(&address, &hash, quota, now)
                })
                .await,
            )
        }
        DirectoryRequest::UserDel { address } => del_user(state, owners, &address).await,
        DirectoryRequest::UserPassword { address, password_hash } => done(
            change(&state.log, &state.ledger, owners, |draft| {
                draft.set_hash(&address, &password_hash)
            })
            .await,
        ),
        DirectoryRequest::AppPasswordAdd { address, name, digest, keys } => {
            let keys: Option<Vec<Keys>> = keys.iter().map(|text| Keys::parse(text)).collect();
            let Some(keys) = keys else {
                return Response::Wrong("no keys of SCRAM".into());
            };
            done(
                change(&state.log, &state.ledger, owners, |draft| {
                    draft.add_app(&address, &name, (&digest, &keys), now)
                })
                .await,
            )
        }
        DirectoryRequest::ScramTerms { address } => scram_terms(state, &address),
        DirectoryRequest::AppPasswordDel { address, name } => done(
            change(&state.log, &state.ledger, owners, |draft| draft.del_app(&address, &name)).await,
        ),
        DirectoryRequest::AppPasswordList { address } => apps(state, &address),
        DirectoryRequest::UserEnabled { address, enabled } => {
            switch(state, owners, &address, enabled).await
        }
        DirectoryRequest::UserImapHidden { address, hidden } => done(
            change(&state.log, &state.ledger, owners, |draft| {
                draft.set_imap_hidden(&address, &hidden)
            })
            .await,
        ),
        DirectoryRequest::Vacation { address, order } => {
            vacation::serve(state, owners, &address, order).await
        }
        DirectoryRequest::AliasAdd { address, targets, owner, no_owner } => {
            add_alias(state, owners, &address, targets, (owner, no_owner)).await
        }
        DirectoryRequest::AliasDel { address, targets } => {
            del_alias(state, owners, &address, &targets).await
        }
        DirectoryRequest::DomainList => Response::Domains(domains(state)),
        DirectoryRequest::UserList { domain } => users(state, domain.as_deref(), owners).await,
        DirectoryRequest::AliasList { domain } => aliases(state, domain.as_deref()),
        DirectoryRequest::UserShow { address } => show(state, &address, owners).await,
    }
}

pub(super) fn done<T>(changed: Result<T, Unchanged>) -> Response {
    changed.map_or_else(Response::from, |_| Response::Done)
}

/// Why the directory is as it was.
pub(super) enum Unchanged {
    Refused(ChangeError),
    /// The log does not take it.
    Lost(AppendError),
}

impl fmt::Display for Unchanged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unchanged::Refused(error) => error.fmt(out),
            Unchanged::Lost(error) => error.fmt(out),
        }
    }
}

impl From<Unchanged> for Response {
    fn from(why: Unchanged) -> Response {
        match why {
            Unchanged::Refused(error) => refused(&error),
            Unchanged::Lost(error) => Response::Refused(error.to_string()),
        }
    }
}

/// Makes a change durable, and known to every shard, before it is answered; changes wait for each
/// other. `log` is log 0.
pub(super) async fn change<E: Env, T>(
    log: &Log<E>,
    ledger: &Ledger,
    owners: &impl Owners,
    write: impl FnOnce(&mut Draft<'_>) -> Result<T, ChangeError>,
) -> Result<T, Unchanged> {
    let turn = loop {
        if let Some(turn) = ledger.turn() {
            break turn;
        }
        log.env().sleep(Duration::from_millis(1)).await;
    };
    let (changed, group) = turn.draft(write).map_err(Unchanged::Refused)?;
    let appended = log.append(group).await;
    drop(turn);
    appended.map_err(Unchanged::Lost)?;
    owners.publish().await;
    Ok(changed)
}

fn refused(error: &ChangeError) -> Response {
    if error.is_usage() {
        Response::Wrong(error.to_string())
    } else {
        Response::Refused(error.to_string())
    }
}

/// The user first, so that no shard takes mail for him any more, then the account with its mail.
async fn del_user<E: Env>(state: &State<E>, owners: &impl Owners, address: &str) -> Response {
    let user =
        match change(&state.log, &state.ledger, owners, |draft| draft.del_user(address)).await {
            Ok(user) => user,
            Err(why) => return why.into(),
        };
    match owners::remove(owners, user.log, user.account).await {
        Ok(()) => Response::Done,
        Err(why) => Response::Refused(format!(
            "the user is gone, but not yet all of the mail, which will be at the next start: {why}"
        )),
    }
}

/// A user who is switched off cannot log in any more when this is answered, and whoever idles hears of it.
async fn switch<E: Env>(
    state: &State<E>,
    owners: &impl Owners,
    address: &str,
    enabled: bool,
) -> Response {
    let write = |draft: &mut Draft<'_>| draft.set_enabled(address, enabled);
    let user = match change(&state.log, &state.ledger, owners, write).await {
        Ok(user) => user,
        Err(why) => return why.into(),
    };
    match owners.look(user.log, user.account).await {
        Ok(()) => Response::Done,
        Err(why) => Response::Refused(format!(
            "it is so now, but sessions that idle hear of it with their next command: {why}"
        )),
    }
}

/// An alias as it is now.
fn alias_of<E: Env>(state: &State<E>, address: &str) -> Option<AliasRow> {
    match aliases(state, None) {
        Response::Aliases(rows) => {
            let same = |row: &AliasRow| row.address.eq_ignore_ascii_case(address);
            rows.into_iter().find(same)
        }
        _ => None,
    }
}

async fn add_alias<E: Env>(
    state: &State<E>,
    owners: &impl Owners,
    address: &str,
    targets: Vec<String>,
    (owner, no_owner): (Option<String>, bool),
) -> Response {
    let known = alias_of(state, address);
    let had = known.is_some();
    let (mut all, kept) = known.map(|row| (row.targets, row.owner)).unwrap_or_default();
    let owner = owner.or(kept.filter(|_| !no_owner));
    for target in targets {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(&target)) {
            all.push(target);
        }
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let changed = change(&state.log, &state.ledger, owners, |draft| {
        if had {
            draft.del_alias(address)?;
        }
        draft.add_list(address, &all, owner.as_deref())
    });
    done(changed.await)
}

async fn del_alias<E: Env>(
    state: &State<E>,
    owners: &impl Owners,
    address: &str,
    gone: &[String],
) -> Response {
    let (kept, owner): (Vec<String>, _) = if gone.is_empty() {
        (Vec::new(), None)
    } else {
        let known = alias_of(state, address);
        let (all, owner) = known.map(|row| (row.targets, row.owner)).unwrap_or_default();
        let is_gone = |one: &String| gone.iter().any(|gone| gone.eq_ignore_ascii_case(one));
        if !all.iter().any(&is_gone) {
            return Response::Refused(format!("{address} has no such target"));
        }
        (all.into_iter().filter(|one| !is_gone(one)).collect(), owner)
    };
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    let changed = change(&state.log, &state.ledger, owners, |draft| {
        draft.del_alias(address)?;
        if kept.is_empty() {
            return Ok(());
        }
        draft.add_list(address, &kept, owner.as_deref()).map(|_| ())
    });
    done(changed.await)
}

fn domains<E: Env>(state: &State<E>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().cloned();
        let page = state.ledger.list_domains("", after.as_deref());
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(String::from));
    }
}

/// All rows of a listing, page after page.
fn rows<E: Env>(state: &State<E>, query: Query<'_>) -> Vec<Row> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = state.ledger.list(&Query { after: after.as_ref(), ..query });
        all.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// `domain` as the directory spells it, or what is wrong with it.
fn spelled(domain: Option<&str>) -> Result<Option<Box<str>>, Response> {
    domain.map(domain_name).transpose().map_err(|error| Response::Wrong(error.to_string()))
}

async fn users<E: Env>(state: &State<E>, domain: Option<&str>, owners: &impl Owners) -> Response {
    let domain = match spelled(domain) {
        Ok(domain) => domain,
        Err(response) => return response,
    };
    let query = Query { aliases: false, domain: domain.as_deref(), ..Query::default() };
    let found = rows(state, query).into_iter().filter_map(|row| match row {
        Row::User(user) => Some(user),
        Row::Alias(_) => None,
    });
    user_rows(&found.collect::<Vec<_>>(), owners).await
}

/// Users with what each keeps, which the owners are asked for.
async fn user_rows(users: &[Arc<User>], owners: &impl Owners) -> Response {
    let mut used: Map<AccountId, Usage> = Map::default();
    for log in (0..owners.logs()).map(LogId) {
        let here = users.iter().filter(|user| user.log == log);
        let accounts: Vec<AccountId> = here.map(|user| user.account).collect();
        if accounts.is_empty() {
            continue;
        }
        match owners.ask(log, Question::Usage(accounts.clone())).await {
            Ok(Told::Usage(told)) => used.extend(accounts.into_iter().zip(told)),
            Ok(_) => {}
            Err(why) => return Response::Refused(why),
        }
    }
    let row = |user: &Arc<User>| {
        let usage = used.get(&user.account);
        UserRow {
            address: user.name.to_string(),
            account: user.account.0,
            has_password: !user.hash.is_empty(),
            enabled: user.enabled,
            quota: (user.quota > 0).then_some(user.quota),
            used: usage.map(|usage| usage.octets),
            messages: usage.map(|usage| usage.messages),
            imap_hidden: user.imap_hidden.each().map(|(_, name)| name.into()).collect(),
        }
    };
    Response::Users(users.iter().map(row).collect())
}

fn aliases<E: Env>(state: &State<E>, domain: Option<&str>) -> Response {
    let domain = match spelled(domain) {
        Ok(domain) => domain,
        Err(response) => return response,
    };
    let query = Query { users: false, domain: domain.as_deref(), ..Query::default() };
    let found = rows(state, query).into_iter().filter_map(|row| match row {
        Row::Alias(alias) => Some(AliasRow {
            address: alias.name.to_string(),
            targets: alias.targets.iter().map(ToString::to_string).collect(),
            owner: alias.owner.as_ref().map(ToString::to_string),
        }),
        Row::User(_) => None,
    });
    Response::Aliases(found.collect())
}

fn apps<E: Env>(state: &State<E>, address: &str) -> Response {
    let snapshot = state.ledger.snapshot();
    let Some(Entry::User(user)) = snapshot.find(address) else {
        return Response::Refused(format!("there is no user {address}"));
    };
    let row = |app: &AppPassword| AppPasswordRow {
        name: app.name.to_string(),
        created: app.created.seconds(),
        scram: app.keys().next().is_some(),
    };
    Response::AppPasswords(user.apps.iter().map(row).collect())
}

fn scram_terms<E: Env>(state: &State<E>, address: &str) -> Response {
    let snapshot = state.ledger.snapshot();
    let Some(Entry::User(user)) = snapshot.find(address) else {
        return Response::Refused(format!("there is no user {address}"));
    };
    let texts = |terms: Vec<Terms>| terms.iter().map(ToString::to_string).collect();
    Response::ScramTerms(ScramTerms { app: texts(user.terms()), own: texts(user.bound_terms()) })
}

async fn show<E: Env>(state: &State<E>, address: &str, owners: &impl Owners) -> Response {
    let Some(turn) = state.ledger.turn() else {
        return Response::Refused("the directory is being changed, ask again".into());
    };
    let looked = turn.draft(|draft| draft.user(address));
    drop(turn);
    match looked {
        Ok((user, _)) => user_rows(&[user], owners).await,
        Err(error) => refused(&error),
    }
}
