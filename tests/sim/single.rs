//! One shard on a simulated machine, with users, which listens: for tests whose clock, disk and
//! network are part of what is tested.

use crate::ports::{HERE, listen};
use pombal::auth::{Cost, Pool, hash};
use pombal::config::Config;
use pombal::env::Env as _;
use pombal::env::sim::SimEnv;
use pombal::mesh::Mesh;
use pombal::model::id::LogId;
use pombal::mta::relay;
use pombal::node::shard::{Plan, assemble, begin, open_state, publish_directory};
use pombal::server::shard::{Figures, Shard};
use std::path::Path;
use std::rc::Rc;

/// Everybody's.
pub(crate) const PASSWORD: &str = "secret";

/// A small store that is not made yet.
pub(crate) fn plan() -> Plan {
    let config = Config::small(Path::new("/data"));
    let mut plan = Plan::new(config, 77, 1, Pool::inline(Cost::LEAST), [7; 32]);
    plan.store.may_create = true;
    plan
}

/// Starts it. `users` are at example.org; `quota` octets are what each may keep, 0 is no bound.
pub(crate) async fn boot(
    env: &SimEnv,
    plan: &Plan,
    users: &[String],
    quota: u64,
) -> Rc<Shard<SimEnv>> {
    let (mesh, mut inboxes) = Mesh::with_capacity(1, 8);
    let inbox = inboxes.remove(0);
    let id = inbox.shard();
    let (state, _) = open_state(env.clone(), plan, LogId(0)).await.unwrap();
    let shard = assemble(
        env.clone(),
        plan,
        id,
        &state,
        mesh,
        (Figures::default(), relay::Counts::default()),
    );
    begin(&shard, inbox, &state.ledger).await;
    listen(&shard, HERE);
    let turn = state.ledger.turn().unwrap();
    let drafted = turn.draft(|draft| {
        draft.add_domain("example.org", env.wall())?;
        let hash = hash(PASSWORD, &[7; 16], Cost::LEAST).unwrap();
        users.iter().try_for_each(|user| draft.add_user(user, &hash, quota, env.wall()).map(|_| ()))
    });
    state.log.append(drafted.unwrap().1).await.unwrap();
    drop(turn);
    publish_directory(&shard, &state.ledger).await;
    shard
}
