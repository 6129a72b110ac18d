//! The operator's requests, answered out of log 0: the same for a running and a stopped server.

use super::shard::State;
use crate::admin::request::{AliasRow, DirectoryRequest, FigureRow, Request, Response, UserRow};
use crate::directory::{ChangeError, Draft, Query, Row, domain_name};
use crate::env::Env;
use crate::model::id::AccountId;
use std::time::Duration;

/// What one account keeps: octets and messages. `None` where another shard has it.
pub type Used<'a> = &'a dyn Fn(AccountId) -> Option<(u64, u64)>;

/// Answers a request. `used` is asked about accounts that are shown.
pub async fn answer<E: Env>(state: &State<E>, request: Request, used: Used<'_>) -> Response {
    match request {
        Request::Ping => Response::Done,
        Request::StoreStats => figures(state),
        Request::Directory(request) => directory(state, request, used).await,
    }
}

/// Whether the request changes the directory, so that the other shards have to be told.
pub fn changes(request: &Request) -> bool {
    let Request::Directory(request) = request else { return false };
    !matches!(
        request,
        DirectoryRequest::DomainList
            | DirectoryRequest::UserList { .. }
            | DirectoryRequest::UserShow { .. }
            | DirectoryRequest::AliasList { .. }
    )
}

fn figures<E: Env>(state: &State<E>) -> Response {
    let (figures, stats) = (state.log.figures(), state.log.stats());
    let row = |name: &str, value: u64| FigureRow { name: name.into(), value };
    Response::Figures(vec![
        row("batches", stats.batches.get()),
        row("groups", stats.groups.get()),
        row("syncs", stats.syncs.get()),
        row("octets_written", stats.octets_written.get()),
        row("checkpoints", stats.checkpoints.get()),
        row("checkpoint_octets", stats.checkpoint_octets.get()),
        row("failures", stats.failures.get()),
        row("crowded", u64::from(figures.crowded)),
        row("reads", stats.reads.get()),
        row("cache_hits", figures.cache_hits),
        row("cache_misses", figures.cache_misses),
        row("cache_octets", figures.cache_octets),
        row("blobs", figures.blobs),
        row("hot_segments", figures.hot_segments),
        row("index_segments", figures.index_segments),
        row("applied_batch", figures.applied),
        row("messages", state.accounts.borrow().messages()),
    ])
}

async fn directory<E: Env>(
    state: &State<E>,
    request: DirectoryRequest,
    used: Used<'_>,
) -> Response {
    let now = state.log.env().wall();
    match request {
        DirectoryRequest::DomainAdd { domain } => {
            change(state, |draft| draft.add_domain(&domain, now).map(|_| ())).await
        }
        DirectoryRequest::DomainDel { domain } => {
            change(state, |draft| draft.del_domain(&domain)).await
        }
        DirectoryRequest::UserAdd { address, password_hash, quota } => {
            let hash = password_hash.unwrap_or_default();
            let quota = quota.unwrap_or(0);
            change(state, |draft| draft.add_user(&address, &hash, quota, now).map(|_| ())).await
        }
        DirectoryRequest::UserDel { address } => {
            change(state, |draft| draft.del_user(&address).map(|_| ())).await
        }
        DirectoryRequest::UserPassword { address, password_hash } => {
            change(state, |draft| draft.set_hash(&address, &password_hash).map(|_| ())).await
        }
        DirectoryRequest::AliasAdd { address, targets } => {
            add_alias(state, &address, targets).await
        }
        DirectoryRequest::AliasDel { address, targets } => {
            del_alias(state, &address, &targets).await
        }
        DirectoryRequest::DomainList => Response::Domains(domains(state)),
        DirectoryRequest::UserList { domain } => users(state, domain.as_deref(), used),
        DirectoryRequest::AliasList { domain } => aliases(state, domain.as_deref()),
        DirectoryRequest::UserShow { address } => show(state, &address, used),
    }
}

/// Makes a change durable before it is answered; changes wait for each other.
async fn change<E: Env>(
    state: &State<E>,
    write: impl FnOnce(&mut Draft<'_>) -> Result<(), ChangeError>,
) -> Response {
    let turn = loop {
        if let Some(turn) = state.ledger.turn() {
            break turn;
        }
        state.log.env().sleep(Duration::from_millis(1)).await;
    };
    let group = match turn.draft(write) {
        Ok(((), group)) => group,
        Err(error) => return Response::Refused(error.to_string()),
    };
    let appended = state.log.append(group).await;
    drop(turn);
    match appended {
        Ok(_) => Response::Done,
        Err(error) => Response::Refused(error.to_string()),
    }
}

/// What an alias points to now.
fn targets_of<E: Env>(state: &State<E>, address: &str) -> Option<Vec<String>> {
    match aliases(state, None) {
        Response::Aliases(rows) => {
            let same = |row: &AliasRow| row.address.eq_ignore_ascii_case(address);
            rows.into_iter().find(same).map(|row| row.targets)
        }
        _ => None,
    }
}

async fn add_alias<E: Env>(state: &State<E>, address: &str, targets: Vec<String>) -> Response {
    let mut all = targets_of(state, address).unwrap_or_default();
    let had = !all.is_empty();
    for target in targets {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(&target)) {
            all.push(target);
        }
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    change(state, |draft| {
        if had {
            draft.del_alias(address)?;
        }
        draft.add_alias(address, &all).map(|_| ())
    })
    .await
}

async fn del_alias<E: Env>(state: &State<E>, address: &str, gone: &[String]) -> Response {
    let kept: Vec<String> = if gone.is_empty() {
        Vec::new()
    } else {
        let all = targets_of(state, address).unwrap_or_default();
        let is_gone = |one: &String| gone.iter().any(|gone| gone.eq_ignore_ascii_case(one));
        if !all.iter().any(&is_gone) {
            return Response::Refused(format!("{address} has no such target"));
        }
        all.into_iter().filter(|one| !is_gone(one)).collect()
    };
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    change(state, |draft| {
        draft.del_alias(address)?;
        if kept.is_empty() { Ok(()) } else { draft.add_alias(address, &kept).map(|_| ()) }
    })
    .await
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
    domain.map(domain_name).transpose().map_err(|error| Response::Refused(error.to_string()))
}

fn users<E: Env>(state: &State<E>, domain: Option<&str>, used: Used<'_>) -> Response {
    let domain = match spelled(domain) {
        Ok(domain) => domain,
        Err(response) => return response,
    };
    let query = Query { aliases: false, domain: domain.as_deref(), ..Query::default() };
    let found = rows(state, query).into_iter().filter_map(|row| match row {
        Row::User(user) => Some(user_row(&user, used)),
        Row::Alias(_) => None,
    });
    Response::Users(found.collect())
}

fn user_row(user: &crate::directory::User, used: Used<'_>) -> UserRow {
    let usage = used(user.account);
    UserRow {
        address: user.name.to_string(),
        account: user.account.0,
        has_password: !user.hash.is_empty(),
        quota: (user.quota > 0).then_some(user.quota),
        used: usage.map(|(octets, _)| octets),
        messages: usage.map(|(_, messages)| messages),
    }
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
        }),
        Row::User(_) => None,
    });
    Response::Aliases(found.collect())
}

fn show<E: Env>(state: &State<E>, address: &str, used: Used<'_>) -> Response {
    let mut found = None;
    let turn = state.ledger.turn();
    if let Some(turn) = &turn {
        let looked = turn.draft(|draft| draft.user(address));
        match looked {
            Ok((user, _)) => found = Some(user_row(&user, used)),
            Err(error) => return Response::Refused(error.to_string()),
        }
    }
    match found {
        Some(row) => Response::Users(vec![row]),
        None => Response::Refused("the directory is being changed, ask again".into()),
    }
}
