//! What is needed to trust other servers, made at the start: who vouches for them, policies of MTA-STS as they
//! were known before, and what is counted for reports. And what goes on beside: policies that are renewed,
//! reports that are sent.

use super::shard::{Names, Plan};
use crate::cli::Failure;
use crate::concierge::Concierge;
use crate::concierge::http::{Bounds, Client, Endpoint, Failed, Question, Trust};
use crate::concierge::journal::Journal;
use crate::config::{self, Config};
use crate::env::Env;
use crate::mailbox::{Judge, Message};
use crate::model::address::Address;
use crate::model::limits::{STS_FILE_OCTETS_MAX, STS_JOURNAL_OCTETS_MAX, STS_WAITING_MAX};
use crate::model::time::Wall;
use crate::mta::published::Known;
use crate::mta::relay::Host as _;
use crate::mta::sts::{Fetching, Policies};
use crate::mta::tls_report::{Daily, Mail, Sent, Submitter, Tally, posting};
use crate::mta::{Away, Envelope, MailOptions, Outcome, Places};
use crate::probe::event::{Level, Value, event};
use crate::queue::outgoing::To;
use crate::server::places::Home;
use crate::server::shard::Shard;
use crate::tls::Caller;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked which policies are to be renewed.
const RENEWAL_PAUSE: Duration = Duration::from_hours(1);
/// The journal of policies in `data_dir`.
const JOURNAL: &str = "mta-sts.journal";

/// What the shards get of it.
pub(super) struct Outgoing {
    pub(super) caller: Caller,
    /// Fetches policies and posts reports; none without a resolver.
    pub(super) http: Option<Client>,
    pub(super) known: Known,
}

/// Makes all of it; reads the files of those who vouch, and of policies.
pub(super) fn prepare(
    config: &Config,
    concierge: &Concierge,
    dns: &Names,
) -> Result<Outgoing, Failure> {
    let trust =
        config::tls_policy::trust(config).map_err(|mistake| Failure::Wrong(mistake.to_string()))?;
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let caller = match &trust {
        Trust::These(pem) => Caller::trusting(pem).map_err(|why| failed(&why))?,
        Trust::System | Trust::Nobody => {
            let (caller, why) = Caller::trusting_system().map_err(|error| failed(&error))?;
            if let Some(why) = why {
                event(Level::Warn, "no_authorities", &[("why", Value::Shown(&why))]);
            }
            caller
        }
    };
    let sts = &config.mta_sts;
    let bounds = Bounds { at_once: sts.requests, waiting: STS_WAITING_MAX, timeout: sts.timeout };
    let http = match dns {
        Names::Servers(resolver) => {
            let client = Client::resolving(concierge, &trust, bounds, resolver.clone());
            Some(client.map_err(|why| failed(&why))?)
        }
        Names::Nobody | Names::Script(_) => None,
    };
    let tally = config.tls_report.enabled.then(Tally::default);
    let policies = match http.clone().filter(|_| sts.enabled) {
        Some(client) => Some(policies(config, concierge, client).map_err(|error| failed(&error))?),
        None => None,
    };
    Ok(Outgoing { caller, http, known: Known { dane: config.queue.dane, policies, tally } })
}

fn policies(config: &Config, concierge: &Concierge, client: Client) -> std::io::Result<Policies> {
    let port = match config.mta_sts.port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let fetch = move |domain: &str| -> Fetching {
        let url = format!("https://mta-sts.{domain}{port}/.well-known/mta-sts.txt");
        let (client, url) = (client.clone(), Endpoint::parse(&url));
        Box::pin(async move {
            let url = url.ok_or_else(|| Failed("the domain is none of the web".into()))?;
            let question = Question::GetText { octets_max: STS_FILE_OCTETS_MAX };
            client.ask(&url, question).await.map(Into::into)
        })
    };
    let path = config.data_dir.join(JOURNAL);
    let journal = Journal::open(concierge, path, STS_JOURNAL_OCTETS_MAX)?;
    Ok(Policies::new(fetch, config.mta_sts.refresh, Some(journal), now()))
}

#[expect(clippy::disallowed_types, reason = "there is no shard yet whose clock could be asked")]
fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Wall(u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX))
}

/// Begins, on one shard, what goes on beside the mail.
pub fn begin<E: Env>(shard: &Rc<Shard<E>>, plan: &Plan) {
    if let Some(policies) = plan.published.policies.clone() {
        let (env, dns) = (shard.env.clone(), shard.dns.clone());
        shard.env.spawn(async move {
            loop {
                env.sleep(RENEWAL_PAUSE).await;
                policies.renew(&env, &dns).await;
            }
        });
    }
    let (Some(tally), Some(http)) = (plan.published.tally.clone(), plan.http.clone()) else {
        return;
    };
    let (of, own) = (&plan.config.tls_report, plan.config.hostname.as_str());
    let contact = of.contact.as_ref().map(|one| (one.local.as_str(), one.domain.as_str()));
    let (local, domain) = contact.unwrap_or(("postmaster", own));
    let submitter = Submitter {
        organization: of.organization.as_deref().unwrap_or(own).into(),
        contact: Address::from_parts(local, domain),
    };
    let sender = Rc::clone(shard);
    let daily = Daily {
        env: shard.env.clone(),
        dns: shard.dns.clone(),
        tally,
        submitter,
        post: posting(http),
        send: Box::new(move |mail| -> Sent {
            let shard = Rc::clone(&sender);
            Box::pin(async move { send(&shard, mail).await })
        }),
    };
    shard.env.spawn(daily.run());
}

/// Brings a report on its way, wherever its reader is.
async fn send<E: Env>(shard: &Rc<Shard<E>>, mail: Mail) -> bool {
    let Mail { sender, recipient, message } = mail;
    let Ok(places) = Home(Rc::downgrade(shard)).find(&recipient, true) else { return false };
    // RFC 8460 §3: nobody looks at one that is not signed.
    let Ok(message) = shard.sign(message, sender.domain()).await else { return false };
    let Places { accounts: recipients, elsewhere, .. } = places;
    let message = Message::new(message, false, true, shard.env.wall().seconds());
    let to = |address| To { address, notify: None, orcpt: None };
    let away = (!elsewhere.is_empty()).then(|| Away {
        name: shard.name_message().into(),
        sender: Some(sender),
        options: MailOptions { tls_optional: true, ..MailOptions::default() },
        recipients: elsewhere.into_iter().map(to).collect(),
        utf8: false,
        is_here: false,
        is_signed: true,
        via: None,
        before: None,
    });
    let away = away.into_iter().collect();
    let envelope = Envelope { recipients, away, judge: Judge::Together };
    Outcome::overall(&shard.intake.accept(&envelope, message).await).is_stored()
}
