//! One certificate: the account, the order, the proofs, the key (RFC 8555 §7).

use super::responder::{Board, Challenge};
use super::{Certificate, Files, Settings};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::CertificateDer;
use std::fmt::Write as _;
use std::time::Duration;

/// How long the authority may take for one step: looking at the proofs, making the certificate.
const STEP_PATIENCE: Duration = Duration::from_mins(2);
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Failed proofs that are told one by one; a certificate may have a hundred domains with one cause.
const TOLD_MAX: usize = 3;

/// Why there is no certificate, and what mends it; for the operator.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// The authority said that it was asked too often.
    pub(super) is_rate_limit: bool,
}

impl Refused {
    pub(super) fn new(why: impl Into<String>) -> Refused {
        Refused { why: why.into(), is_rate_limit: false }
    }

    pub(super) fn unkept(error: &std::io::Error) -> Refused {
        Refused::new(format!("the certificate cannot be kept: {error}: look at data_dir/tls"))
    }
}

/// The account at the authority: the one that is kept, or a new one.
pub(super) async fn account(settings: &Settings, files: &Files) -> Result<Account, Refused> {
    let builder = match &settings.ca_file {
        Some(file) => Account::builder_with_root(file),
        None => Account::builder(),
    };
    let builder = builder.map_err(|error| told(&error, settings))?;
    let kept = files.read_account::<AccountCredentials>(&settings.directory);
    let kept =
        kept.map_err(|error| Refused::new(format!("the account cannot be read: {error}")))?;
    if let Some(credentials) = kept {
        let known = builder.from_credentials(credentials).await;
        return known.map_err(|error| told(&error, settings));
    }
    let contacts: Vec<String> =
        settings.contacts.iter().map(|one| format!("mailto:{one}")).collect();
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contacts,
        // The configuration cannot be had without it.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = settings.external_account.as_ref();
    let external = external.map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
    let made = builder.create(&wanted, settings.directory.clone(), external.as_ref()).await;
    let (account, credentials) = made.map_err(|error| told(&error, settings))?;
    files
        .keep_account(&settings.directory, credentials)
        .map_err(|error| Refused::new(format!("the account cannot be kept: {error}")))?;
    Ok(account)
}

/// When the authority would like this certificate renewed (RFC 9773): seconds since 1970 from and to,
/// and how long that holds. `None` where it has no opinion.
pub(super) async fn window(
    account: &Account,
    certificate: &Certificate,
) -> Option<((u64, u64), Duration)> {
    let der = CertificateDer::from(certificate.der.as_slice());
    let id = CertificateIdentifier::try_from(&der).ok()?;
    let (told, holds) = account.renewal_info(&id).await.ok()?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
    let window = told.suggested_window;
    Some(((seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp())), holds))
}

/// Gets a certificate for all domains: its key and its chain, in PEM form.
pub(super) async fn issue(
    account: &Account,
    settings: &Settings,
    replaces: Option<&Certificate>,
    board: &Board,
) -> Result<(String, String), Refused> {
    let names: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let wanted = NewOrder::new(&names);
    let der = replaces.map(|one| CertificateDer::from(one.der.as_slice()));
    let id = der.as_ref().and_then(|der| CertificateIdentifier::try_from(der).ok());
    let order = match id {
        // Not every authority knows that one certificate replaces another (RFC 9773 §5), or takes it
        // twice for the same one.
        Some(id) => match account.new_order(&wanted.replaces(id)).await {
            Err(_) => account.new_order(&NewOrder::new(&names)).await,
            order => order,
        },
        None => account.new_order(&wanted).await,
    };
    let mut order = order.map_err(|error| told(&error, settings))?;
    let proved = prove(&mut order, settings, board).await;
    board.clear();
    proved?;
    let key = order.finalize().await.map_err(|error| told(&error, settings))?;
    let policy = RetryPolicy::new().initial_delay(POLL_PAUSE).timeout(STEP_PATIENCE);
    let chain = order.poll_certificate(&policy).await.map_err(|error| told(&error, settings))?;
    Ok((key, chain))
}

/// Shows the proofs, asks the authority to look, waits until it has.
async fn prove(order: &mut Order, settings: &Settings, board: &Board) -> Result<(), Refused> {
    if let Err(refused) = show(order, settings, board).await {
        // The authority looks while the other proofs are being shown. Where one fails meanwhile the order is
        // lost, and whatever else is asked of it is refused: not that is what the operator must hear.
        let lost = order.refresh().await.is_ok_and(|state| state.status == OrderStatus::Invalid);
        return Err(if lost { not_proved(order, settings).await } else { refused });
    }
    let policy = RetryPolicy::new().initial_delay(POLL_PAUSE).timeout(STEP_PATIENCE);
    match order.poll_ready(&policy).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Err(error) if !matches!(error, Error::Api(_)) => Err(told(&error, settings)),
        _ => Err(not_proved(order, settings).await),
    }
}

/// Shows the proof of each domain, and says so to the authority.
async fn show(order: &mut Order, settings: &Settings, board: &Board) -> Result<(), Refused> {
    let kind = match settings.challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next.map_err(|error| told(&error, settings))?;
        match authorization.status {
            // Proved lately: it need not be again.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(Refused::new(format!("an authorization is {other:?}"))),
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            let why =
                "the authority does not offer this challenge: set acme.challenge to the other";
            return Err(Refused::new(why));
        };
        let proof = challenge.key_authorization();
        match settings.challenge {
            Challenge::Http01 => board.show_text(&challenge.token, proof.as_str()),
            Challenge::TlsAlpn01 => {
                let domain = challenge.identifier().to_string();
                let shown = board.show_certificate(&domain, proof.digest().as_ref());
                shown.map_err(Refused::new)?;
            }
        }
        challenge.set_ready().await.map_err(|error| told(&error, settings))?;
    }
    Ok(())
}

/// What the authority says against each proof, and where it looked.
async fn not_proved(order: &mut Order, settings: &Settings) -> Refused {
    let mut why = String::from("the authority did not find the proof");
    let mut is_rate_limit = false;
    let mut told = 0;
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        drop(authorization.refresh().await);
        let name = authorization.identifier().to_string();
        for problem in authorization.challenges.iter().filter_map(|one| one.error.as_ref()) {
            is_rate_limit |= is_rate(problem.r#type.as_deref());
            told += 1;
            if told <= TOLD_MAX {
                let detail = problem.detail.as_deref().unwrap_or("it says no more");
                // A string takes all that is written.
                let _ = write!(why, "; {name}: {detail}");
            }
        }
    }
    if told > TOLD_MAX {
        let _ = write!(why, "; and {} more", told - TOLD_MAX);
    }
    let (port, what) = match settings.challenge {
        Challenge::Http01 => (80, "in clear"),
        Challenge::TlsAlpn01 => (443, "by TLS"),
    };
    let _ = write!(
        why,
        ": it looks {what} at port {port} of every address that DNS has for a domain (A and AAAA); \
         that port must lead to acme.listen"
    );
    Refused { why, is_rate_limit }
}

fn is_rate(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| kind.ends_with(":rateLimited"))
}

/// An error in words, with what mends it.
fn told(error: &Error, settings: &Settings) -> Refused {
    let advice = match error {
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next());
            match kind.unwrap_or_default() {
                "rateLimited" => "asked too often: nothing to do but to wait",
                "externalAccountRequired" => {
                    "set acme.external_account and acme.external_key as the authority told you"
                }
                "caa" => "a CAA record in DNS forbids this authority the domain",
                "rejectedIdentifier" => "the authority takes no such domain: look at acme.domains",
                "invalidContact" | "unsupportedContact" => "look at acme.contact",
                "accountDoesNotExist" | "unauthorized" => {
                    "the account is not known, or no longer: move data_dir/tls/acme-account.json away \
                     for a new one"
                }
                _ => "the authority says so",
            }
        }
        Error::Hyper(_) | Error::Http(_) | Error::InvalidUri(_) | Error::Other(_) => {
            "the directory could not be asked: look at the network, DNS, acme.directory and acme.ca_file"
        }
        Error::Timeout(_) => "the authority was slow; it is asked again",
        _ => "the authority's answer was not understood",
    };
    let is_rate_limit = matches!(error, Error::Api(problem) if is_rate(problem.r#type.as_deref()));
    let mut why = error.to_string();
    // What is underneath says more: "connection refused", "unknown issuer".
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(why, ": {inner}");
        cause = inner.source();
    }
    Refused { why: format!("{}: {why}: {advice}", settings.directory), is_rate_limit }
}
