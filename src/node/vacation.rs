//! What users who are away have answered, as the operator says and sees it.

use super::directory::{change, done};
use super::owners::Owners;
use super::shard::State;
use crate::admin::request::{Response, Vacation as Shown, VacationOrder};
use crate::directory::{Entry, Vacation};
use crate::env::Env;

/// Does what is asked for.
pub(super) async fn serve<E: Env>(
    state: &State<E>,
    owners: &impl Owners,
    address: &str,
    order: VacationOrder,
) -> Response {
    let vacation = match order {
        VacationOrder::Show => return show(state, address),
        VacationOrder::Set(vacation) => Some(read(vacation)),
        VacationOrder::Off => None,
    };
    let changed =
        change(&state.log, &state.ledger, owners, |draft| draft.set_vacation(address, vacation));
    done(changed.await)
}

/// As it was asked for; the directory says what is wrong with it.
fn read(shown: Shown) -> Vacation {
    let Shown { subject, text, from, until, days, addresses } = shown;
    Vacation {
        subject: subject.filter(|text| !text.is_empty()).map(Into::into),
        text: text.replace("\r\n", "\n").into(),
        from: from.unwrap_or(0),
        until: until.unwrap_or(u32::MAX),
        days,
        addresses: addresses.into_iter().map(Into::into).collect(),
    }
}

fn show<E: Env>(state: &State<E>, address: &str) -> Response {
    let snapshot = state.ledger.snapshot();
    let Some(Entry::User(user)) = snapshot.find(address) else {
        return Response::Refused(format!("there is no user {address}"));
    };
    Response::Vacation(user.vacation.as_ref().map(|vacation| Shown {
        subject: vacation.subject.as_ref().map(ToString::to_string),
        text: vacation.text.to_string(),
        from: Some(vacation.from).filter(|from| *from > 0),
        until: Some(vacation.until).filter(|until| *until < u32::MAX),
        days: vacation.days,
        addresses: vacation.addresses.iter().map(ToString::to_string).collect(),
    }))
}
