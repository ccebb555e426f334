//! Health checks as they are made: for each backend a task that asks, counts and tells the gate. A check goes over a connection
//! of its own, or a stream of HTTP/2, unless the backend has as many requests as it takes: these tell how it is. Absent: what
//! results mean (engine::health), and who is picked while a backend is down (engine).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Uri, Version, header};
use tokio::sync::Semaphore;

use crate::config::model::{self, HealthCheck, Protocol};
use crate::engine::BackendId;
use crate::engine::health::Health;
use crate::env::{Clock, Env};
use crate::h1::{self, BodyFraming, ResponseDecoder};
use crate::message::known::Known;
use crate::message::proxy_protocol;
use crate::telemetry::CheckStatus;
use crate::upstream::Upstream;
use crate::upstream::carrier::Carrier;
use crate::upstream::exchange::Exchange;
use crate::upstream::h1::OnLink;
use crate::upstream::h2::OnStream;
use crate::upstream::pool::{Backend, Connected};
use crate::upstream::replay::NoBody;
use crate::wire::core::Core;
use crate::wire::errand::Errand;

/// Checks at once of all backends together.
pub const AT_ONCE: usize = 64;

/// How checks call themselves.
const USER_AGENT: &str = "weir-health";

/// What is known of the backends of an upstream by their checks, over all generations.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<BackendId, Record>>);

#[derive(Debug)]
struct Record {
    health: Health,
    status: CheckStatus,
}

impl Checks {
    /// How the checks of a backend have gone; `None` if none is made.
    pub fn status(&self, id: BackendId) -> Option<CheckStatus> {
        self.lock().get(&id).map(|record| record.status)
    }

    /// Forgets those whom `is_checked` does not know any more, and returns them.
    fn retain(&self, is_checked: impl Fn(BackendId) -> bool) -> Vec<BackendId> {
        let mut records = self.lock();
        let gone = records.keys().copied().filter(|id| !is_checked(*id));
        let gone: Vec<BackendId> = gone.collect();
        records.retain(|id, _| is_checked(*id));
        gone
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackendId, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to check as this generation has it: who is to be checked. Who is checked no more is not down either.
pub fn begin<E: Env>(upstream: &Upstream<E>) -> Vec<BackendId> {
    let specs = upstream.model.spec.backends.iter().map(|b| b.id);
    let Some(check) = &upstream.model.health else {
        let gone = upstream.checks.retain(|_| false);
        gone.into_iter()
            .for_each(|id| upstream.gate.set_down(id, false));
        return Vec::new();
    };
    let ids: Vec<BackendId> = specs.collect();
    upstream.checks.retain(|id| ids.contains(&id));
    for id in &ids {
        let is_up = {
            let mut records = upstream.checks.lock();
            let record = records.entry(*id).or_insert_with(|| Record {
                health: Health::new(&check.spec),
                status: CheckStatus::default(),
            });
            record.health.is_up()
        };
        upstream.gate.begin_down(*id, !is_up);
    }
    ids
}

/// Checks one backend again and again, together with not too many others.
pub async fn run<E: Env>(
    core: Arc<Core<E>>,
    upstream: Arc<Upstream<E>>,
    id: BackendId,
    at_once: Arc<Semaphore>,
) {
    let (Some(check), Some(backend)) = (upstream.model.health.clone(), upstream.backend(id)) else {
        return;
    };
    let number = (upstream.number() as u64) << 32 | backend.number as u64;
    let mut rng = core.env.rng("health checks", number);
    let clock = core.env.clock();
    let mut wait = check.spec.fast_interval.mul_f64(rng.unit() / 2.0);
    loop {
        clock.sleep_until(clock.now() + wait).await;
        // The semaphore is never closed.
        let Ok(_turn) = at_once.acquire().await else {
            return;
        };
        let result = match upstream.gate.may_check(id) {
            false => None,
            true => {
                let (errand, _registered) = Errand::begin(&core);
                let asking = ask(&errand, &upstream, &backend, &check);
                let asked = clock.timeout(check.timeout, asking).await;
                Some(asked.unwrap_or_else(|| Err("no answer in time".to_owned())))
            }
        };
        let change = note(&upstream, id, &check, result.as_ref().map(Result::is_ok));
        if let Some(is_up) = change {
            upstream.gate.set_down(id, !is_up);
            tell(
                &upstream,
                &backend,
                &check,
                is_up,
                result.and_then(Result::err),
            );
        }
        wait = match upstream.checks.lock().get(&id) {
            Some(record) => record.health.wait(&check.spec, &mut rng),
            None => return,
        };
    }
}

/// Counts a check, which was skipped if there is no result. `Some` says that the backend is up from here on, or down.
fn note<E: Env>(
    upstream: &Upstream<E>,
    id: BackendId,
    check: &HealthCheck,
    passed: Option<bool>,
) -> Option<bool> {
    let mut records = upstream.checks.lock();
    let Record { health, status } = records.get_mut(&id)?;
    match passed {
        None => status.skipped += 1,
        Some(true) => status.passed += 1,
        Some(false) => status.failed += 1,
    }
    health.handle(&check.spec, passed?)
}

/// A backend is up from here on, or down.
fn tell<E: Env>(
    upstream: &Upstream<E>,
    backend: &Backend<E>,
    check: &HealthCheck,
    is_up: bool,
    why: Option<String>,
) {
    let status = upstream.status();
    let left = status.backends.iter().filter(|b| !b.down).count();
    let all = status.backends.len();
    let (name, backend) = (&upstream.model.name, &backend.model.name);
    if is_up {
        tracing::warn!("upstream {name}: backend {backend} is up; {left} of {all} are");
        return;
    }
    let (failed, why) = (check.spec.unhealthy, why.unwrap_or_default());
    tracing::warn!(
        "upstream {name}: backend {backend} is down: {failed} checks failed, last: {why}; {left} of {all} left"
    );
}

/// One check.
///
/// # Errors
/// Why it failed, in words.
async fn ask<E: Env>(
    errand: &Arc<Errand<E>>,
    upstream: &Upstream<E>,
    backend: &Arc<Backend<E>>,
    check: &HealthCheck,
) -> Result<(), String> {
    let model = &upstream.model;
    // It is nobody's connection but the proxy's own.
    let first = model
        .proxy_protocol
        .map(|version| proxy_protocol::write(version, None));
    let first = first.as_deref().unwrap_or_default();
    let connecting = backend.checkout(errand.env(), errand.coarse_now(), first, true);
    let connected = connecting
        .await
        .map_err(|undialled| undialled.cause.to_string())?;
    if model.protocol() == Protocol::Tcp {
        return Ok(());
    }
    let status = match connected {
        Connected::Link(mut link) => {
            let path = [&backend.model.path_prefix, check.path.as_str()];
            h1::request_line(&mut link.write, &Method::GET, &path);
            h1::known_field(
                &mut link.write,
                Known::Host,
                host(check, &backend.model).as_bytes(),
            );
            h1::known_field(&mut link.write, Known::UserAgent, USER_AGENT.as_bytes());
            h1::known_field(&mut link.write, Known::Accept, b"*/*");
            h1::known_field(&mut link.write, Known::Connection, b"close");
            h1::end_of_head(&mut link.write);
            let decoder = ResponseDecoder::new(&Method::GET, model.limits);
            let carrier = OnLink::new(link, backend, decoder, BodyFraming::None);
            answer(errand, carrier, model).await?
        }
        Connected::Stream(ticket) => {
            let request = request(check, &backend.model).map_err(|error| error.to_string())?;
            let carrier = OnStream::begin(ticket, request, true, model.limits);
            let carrier = carrier.map_err(|failure| failure.cause.to_string())?;
            answer(errand, carrier, model).await?
        }
    };
    match check.is_good(status) {
        true => Ok(()),
        false => Err(format!("status {status}")),
    }
}

/// The status of the answer. What else it has is not waited for.
async fn answer<E: Env, C: Carrier<E>>(
    errand: &Errand<E>,
    carrier: C,
    model: &model::Upstream,
) -> Result<u16, String> {
    let mut exchange = Exchange::new(carrier, true, model.timeouts.first_byte);
    let head = exchange.head(errand, &mut NoBody, None).await;
    let head = head.map_err(|failure| failure.cause.to_string())?;
    Ok(head.status.as_u16())
}

/// A check over HTTP/2.
fn request(check: &HealthCheck, backend: &model::Backend) -> Result<Request<()>, http::Error> {
    let scheme = if backend.is_tls() { "https" } else { "http" };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host(check, backend))
        .path_and_query(format!("{}{}", backend.path_prefix, check.path))
        .build()?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(uri)
        .version(Version::HTTP_2);
    request.header(header::USER_AGENT, USER_AGENT).body(())
}

/// Whom a check asks for.
fn host(check: &HealthCheck, backend: &model::Backend) -> String {
    check.host.clone().unwrap_or_else(|| backend.authority())
}
