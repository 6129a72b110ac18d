//! Names of mailboxes that were made before names had one form (RFC 9051 §5.1).

use super::slices::Session;
use super::{Dialog, boot};
use pombal::env::sim::{Faults, Sim};
use pombal::mailbox::Use;
use pombal::model::id::AccountId;

/// As today's server would not make it.
const OLD: &str = "Entwu\u{308}rfe";
/// The same in modified UTF-7, and what is made of it.
const GIVEN: &str = "Entwu&Awg-rfe";
const COMPOSED: &str = "Entw&APw-rfe";

#[test]
fn a_name_that_is_there_keeps_its_form() {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let played = sim.run_until(async {
        let env = sim.env(0);
        let (shard, address) = boot(&env, &Dialog::default(), 1).await;
        let mut session = Session::new(&env, address).await;
        shard.desk.create(AccountId(1), OLD, Use::default()).await.unwrap();
        let status = session.command(&format!("STATUS {GIVEN} (MESSAGES)")).await;
        assert_eq!(status, [format!("* STATUS {GIVEN} (MESSAGES 0)")]);
        for pattern in [GIVEN, COMPOSED] {
            let listed = session.command(&format!("LIST \"\" {pattern}")).await;
            assert_eq!(listed, [format!("* LIST (\\HasNoChildren) \"/\" {GIVEN}")]);
        }
        // The composed name is another one until the old one goes.
        session.command(&format!("CREATE {COMPOSED}")).await;
        session.command(&format!("DELETE {GIVEN}")).await;
        let status = session.command(&format!("STATUS {GIVEN} (MESSAGES)")).await;
        assert_eq!(status, [format!("* STATUS {COMPOSED} (MESSAGES 0)")]);
    });
    played.unwrap();
}
