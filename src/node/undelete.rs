//! Mail that comes back, on the operator's order: the user is looked up, and the owner of the account
//! asked. The same for a running and a stopped server.

use super::owners::Owners;
use super::shard::State;
use crate::admin::calendar::rfc3339;
use crate::admin::request::{Response, Wanted};
use crate::directory::Entry;
use crate::env::Env;
use crate::mailbox::ChangeError;
use crate::mailbox::undelete::UndeleteError;
use crate::model::time::Wall;
use crate::server::owner::{Question, Told};

/// Has the owner of a user's account bring back what was.
pub(super) async fn answer<E: Env>(
    state: &State<E>,
    address: &str,
    wanted: Wanted,
    owners: &impl Owners,
) -> Response {
    let snapshot = state.ledger.snapshot();
    let Some(Entry::User(user)) = snapshot.find(address) else {
        return Response::Refused(format!("there is no user {address}"));
    };
    match owners.ask(user.log, Question::Undelete(user.account, wanted)).await {
        Ok(Told::Undeleted(Ok(undeleted))) => Response::Undeleted(undeleted),
        Ok(Told::Undeleted(Err(error))) => Response::Refused(words(&error)),
        Ok(_) => Response::Refused("the log answered something else".into()),
        Err(why) => Response::Refused(why),
    }
}

fn words(error: &UndeleteError) -> String {
    match error {
        UndeleteError::NotKnown(Some(from)) => format!(
            "what was then is not known any more; known is all from {} on",
            rfc3339(Wall::from_seconds(*from))
        ),
        UndeleteError::NotKnown(None) => {
            "nothing is known of what was: no history is kept (undelete.retention), or none begun yet"
                .into()
        }
        UndeleteError::Future => "that is still to come".into(),
        UndeleteError::Change(ChangeError::Exists) => {
            "there is a mailbox of that name already".into()
        }
        UndeleteError::Change(ChangeError::Missing) => "the account never had any mail".into(),
        UndeleteError::Change(ChangeError::Limit(what)) => {
            format!("more than there may be: {what}")
        }
        UndeleteError::Change(ChangeError::Append(error)) => error.to_string(),
        UndeleteError::Change(error) => format!("the account takes nothing: {error:?}"),
    }
}
