//! Mail that moves in or out, on the operator's order: the user is looked up, and the owner of the
//! account asked. The same for a running and a stopped server.

use super::owners::Owners;
use super::shard::State;
use crate::admin::request::{Request, Response, moving};
use crate::admin::socket::{Answer, Asked};
use crate::directory::Entry;
use crate::env::Env;
use crate::server::owner::{Question, Told};

/// Whether a request is about mail that moves.
pub(super) fn is_about(request: &Request) -> bool {
    matches!(request, Request::Moving { .. })
}

/// Answers a request, with the messages that came along.
pub(super) async fn answer<E: Env>(state: &State<E>, asked: Asked, owners: &impl Owners) {
    let Asked { request, brought, answer } = asked;
    let Request::Moving { address, ask, .. } = request else { return };
    // The client may have given up: nobody to tell.
    drop(answer.try_send(reply(state, &address, ask, brought, owners).await));
}

async fn reply<E: Env>(
    state: &State<E>,
    address: &str,
    ask: Box<moving::Ask>,
    brought: Vec<crate::mailbox::Message>,
    owners: &impl Owners,
) -> Answer {
    let snapshot = state.ledger.snapshot();
    let user = match snapshot.find(address) {
        Some(Entry::User(user)) => user,
        Some(Entry::Alias(_)) => {
            let why = format!("{address} is an alias: mail lies with its targets, name a user");
            return Response::Refused(why).into();
        }
        None => return Response::Refused(format!("there is no user {address}")).into(),
    };
    match owners.ask(user.log, Question::Moving(user.account, ask, brought)).await {
        Ok(Told::Moving(reply, octets)) => {
            let count = octets.len() as u64;
            Answer { response: Response::Moving { reply: Box::new(reply), octets: count }, octets }
        }
        Ok(_) => Response::Refused("the shard answered something else".into()).into(),
        Err(why) => Response::Refused(why).into(),
    }
}
