//! One order, from the account to the certificate (RFC 8555 section 7): what is asked, in which order, and what is told when it
//! fails.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};

use super::https::Https;
use super::storage;
use crate::env::Env;
use crate::tls::Challenges;
use crate::tls::acme::{Authority, Binding, Challenge};
use crate::tls::challenges::Published;

/// How an authority is asked whether it is done: soon at first, then ever less often, and not for ever.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What an authority that limits rates is left alone for when it does not say for how long.
const RATE_LIMITED: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug)]
pub struct Failure {
    /// A sentence without a full stop.
    pub what: String,
    /// How long the authority has asked to be left alone.
    pub asked: Option<Duration>,
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            asked: None,
        }
    }
}

/// Orders a certificate for `domain`. Returns its key and then its chain, in PEM.
///
/// # Errors
/// Why there is none.
pub async fn obtain<E: Env>(
    https: &Https<E>,
    authority: &Authority,
    challenge: Challenge,
    domain: &str,
    challenges: &Arc<Challenges>,
) -> Result<String, Failure> {
    let said = |step: &'static str| move |error: Error| failure(https, authority, step, &error);
    let account = account(https, authority).await?;
    let identifiers = [Identifier::Dns(domain.to_owned())];
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.map_err(said("the order"))?;
    let published = prove(&mut order, challenge, domain, challenges)
        .await
        .map_err(|e| e.unwrap_or_else(said("the challenge")))?;
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready) => {}
        // It may hold the reason, or its authorization may.
        Ok(_) => return Err(Failure::new(refusal(&mut order, challenge, None).await)),
        Err(Error::Api(problem)) => {
            let text = refusal(&mut order, challenge, Some(problem)).await;
            return Err(Failure::new(text));
        }
        Err(error) => return Err(said("the validation")(error)),
    }
    drop(published);
    let key = order
        .finalize()
        .await
        .map_err(said("the signing request"))?;
    let chain = order.poll_certificate(&POLL).await;
    let chain = chain.map_err(said("the certificate"))?;
    Ok(format!("{key}{chain}"))
}

/// What went wrong in a step: an error of the protocol, or one that has its words already.
enum Trouble {
    Protocol(Error),
    Said(Failure),
}

impl Trouble {
    fn unwrap_or_else(self, say: impl FnOnce(Error) -> Failure) -> Failure {
        match self {
            Trouble::Protocol(error) => say(error),
            Trouble::Said(failure) => failure,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Protocol(error)
    }
}

/// Publishes the answers to all challenges of an order and says that they are ready. They stay as long as what is returned.
async fn prove(
    order: &mut Order,
    challenge: Challenge,
    domain: &str,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Published>, Trouble> {
    let mut published = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        // From an order of a short time ago.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let offered: Vec<String> = authorization
            .challenges
            .iter()
            .map(|c| word(&c.r#type))
            .collect();
        let Some(mut found) = authorization.challenge(kind(challenge)) else {
            return Err(Trouble::Said(Failure::new(format!(
                "the authority has no challenge \"{}\" for it, only {}",
                challenge.name(),
                offered.join(", ")
            ))));
        };
        let authorization = found.key_authorization();
        published.push(match challenge {
            Challenge::Http01 => challenges.publish_token(&found.token, authorization.as_str()),
            Challenge::TlsAlpn01 => challenges
                .publish_handshake(domain, authorization.digest().as_ref())
                .map_err(|what| {
                    let what = format!("the challenge's certificate cannot be made: {what}");
                    Trouble::Said(Failure::new(what))
                })?,
        });
        found.set_ready().await?;
    }
    Ok(published)
}

/// Why an order cannot be had, by the authority's own words about its challenges.
async fn refusal(order: &mut Order, challenge: Challenge, problem: Option<Problem>) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let errors = authorization.challenges.iter();
        found.extend(errors.filter_map(|c| c.error.as_ref()).map(words));
    }
    found.extend(problem.as_ref().map(words));
    found.dedup();
    if found.is_empty() {
        found.push("without a reason".into());
    }
    format!(
        "the authority does not accept the challenge {}, for which it comes to port {} of the name: {}",
        challenge.name(),
        challenge.port(),
        found.join("; ")
    )
}

/// A problem document (RFC 8555 section 6.7) for people.
fn words(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("no detail");
    let mut text = match &problem.r#type {
        Some(kind) => {
            let kind = kind.trim_start_matches("urn:ietf:params:acme:error:");
            format!("{detail} ({kind})")
        }
        None => detail.to_owned(),
    };
    for sub in &problem.subproblems {
        text.push_str(&format!(", {sub}"));
    }
    // It stands in a line of the log, and comes from elsewhere.
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1000)
        .collect()
}

fn failure<E: Env>(https: &Https<E>, authority: &Authority, step: &str, error: &Error) -> Failure {
    let (what, asked) = match error {
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            let asked = https.asked();
            if kind.ends_with(":accountDoesNotExist") {
                forget(authority);
            }
            let limited = kind.ends_with(":rateLimited");
            let asked = asked.or(limited.then_some(RATE_LIMITED));
            (format!("refused: {}", words(problem)), asked)
        }
        Error::Timeout(_) => ("the authority is not done in time".into(), https.asked()),
        other => (other.to_string(), https.asked()),
    };
    Failure {
        what: format!("{step}: {what}"),
        asked,
    }
}

/// The authority knows the stored account no more: the next attempt makes another.
fn forget(authority: &Authority) {
    let file = authority.account();
    match std::fs::remove_file(&file) {
        Ok(()) => tracing::warn!(
            "{}: the authority knows this account no more; a new one will be made",
            file.display()
        ),
        Err(error) => tracing::warn!("{}: cannot be removed: {error}", file.display()),
    }
}

/// The stored account, or a new one.
async fn account<E: Env>(https: &Https<E>, authority: &Authority) -> Result<Account, Failure> {
    let said = |step: &'static str| move |error: Error| failure(https, authority, step, &error);
    if let Some(credentials) = stored(authority) {
        let builder = Account::builder_with_http(Box::new(https.clone()));
        let account = builder.from_credentials(credentials).await;
        return account.map_err(said("the directory"));
    }
    let contact = authority.email.as_ref().map(|e| format!("mailto:{e}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let new = NewAccount {
        contact: &contact,
        // The config is not read without that.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let binding = match &authority.binding {
        Some(binding) => Some(bound(binding).map_err(Failure::new)?),
        None => None,
    };
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let made = builder
        .create(&new, authority.directory.clone(), binding.as_ref())
        .await;
    let (account, credentials) = made.map_err(said("the account"))?;
    let json = serde_json::to_string(&credentials)
        .map_err(|e| Failure::new(format!("the account cannot be stored: {e}")))?;
    storage::keep_account(authority, &json).map_err(|e| Failure::new(e.to_string()))?;
    Ok(account)
}

/// What is stored of the account, if it can be used.
fn stored(authority: &Authority) -> Option<AccountCredentials> {
    let unusable = |what: String| {
        let file = authority.account();
        tracing::warn!("{}: {what}; a new account will be made", file.display());
    };
    let text = storage::account(authority)
        .map_err(|fault| unusable(fault.what))
        .ok()??;
    serde_json::from_str(&text)
        .map_err(|e| unusable(format!("is no account: {e}")))
        .ok()
}

/// The key that ties our account to one that exists elsewhere.
fn bound(binding: &Binding) -> Result<ExternalAccountKey, String> {
    let file = &binding.mac_key_file;
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("{}: cannot be read: {e}", file.display()))?;
    let text = text.trim();
    let key = URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .map_err(|e| format!("{}: is no base64url: {e}", file.display()))?;
    Ok(ExternalAccountKey::new(binding.key_id.clone(), &key))
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn word(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".into(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".into(),
        ChallengeType::Dns01 => "dns-01".into(),
        ChallengeType::DeviceAttest01 => "device-attest-01".into(),
        ChallengeType::Unknown(name) => name.clone(),
        _ => "another".into(),
    }
}
