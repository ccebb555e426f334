//! A scenario resolved against a config: which backends there are, where they stand, who asks what. A plan and nothing else
//! decides a run.

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::config::model::{
    Action, BackendProtocol, Config, Listener, Protocol, RedisServers, Route, Upstream, UpstreamTls,
};
use weirkeeper::engine::BackendId;
use weirkeeper::engine::router::PathMatch;
use weirkeeper::tls::server::Settings;

use crate::model::certificates;
use crate::model::content::Site;
use crate::model::l4::Traffic;
use crate::model::speech::{Habits, Manner, Speech, Unruly};
use crate::scenario::{BackendModel, ClientModel, Expectation, Fault, RequestModel, Scenario};

/// Failure domains at most: each is a simulated host, which costs time at each tick.
const ZONES: usize = 3;

/// What a backend without a bound is taken to work on at once, for the default load.
const UNBOUNDED: u32 = 8;

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The config under rehearsal.
    pub config: Arc<Config>,
    /// Core loops of the proxy.
    pub cores: usize,
    /// A message takes up to this long.
    pub jitter: Duration,
    /// Share of connections whose reads and writes come in pieces.
    pub chop: f64,
    /// Load before anything is measured.
    pub warmup: Duration,
    /// Measured load.
    pub measure: Duration,
    /// Who asks, and at which port.
    pub clients: Vec<(ClientModel, u16)>,
    /// How each group of clients speaks, in their order; HTTP/1.1 in the clear where it says nothing.
    pub speech: Vec<Speech>,
    /// Clients beside those, that do what one should not.
    pub unruly: Option<Unruly>,
    /// Each `host:port` of the config once, in config order.
    pub backends: Vec<BackendPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What must hold.
    pub expect: Vec<Expectation>,
    /// The backends serve cacheable pages, and clients visit them.
    pub site: Option<Arc<Site>>,
    /// What passes at L4, where the world is one of L4.
    pub traffic: Option<Arc<Traffic>>,
    /// Proxies with this config, side by side.
    pub replicas: usize,
    /// The Redis that the config names.
    pub redis: Option<(String, u16)>,
    /// Configs that follow, in the order of their times.
    pub generations: Vec<Generation>,
    /// The upstream and the id of a backend that these lack, and from when on.
    pub removed: Option<(usize, BackendId, Duration)>,
    /// The proxy is asked to stop while the last requests are under way.
    pub stops_early: bool,
}

/// A config that takes the place of the one before it.
#[derive(Clone, Debug)]
pub struct Generation {
    /// When, from the world's beginning.
    pub at: Duration,
    /// The config.
    pub config: Config,
}

/// One modelled backend.
#[derive(Clone, Debug)]
pub struct BackendPlan {
    /// Its name in the config.
    pub name: String,
    /// Its address in the config.
    pub address: (String, u16),
    /// Its failure domain.
    pub zone: usize,
    /// Its port there.
    pub port: u16,
    /// How it behaves.
    pub model: BackendModel,
    /// The entries of the config that lead to it: upstream and place in it.
    pub members: Vec<(usize, usize)>,
    /// What the proxy may send to it at once, over all its entries.
    pub max_in_flight: Option<u32>,
    /// How it speaks; `None` is HTTP/1.1 in the clear, and nothing else is known of it.
    pub manner: Option<Manner>,
    /// What it does beside answering.
    pub habits: Habits,
}

/// What backends are asked for by their health checks.
pub const CHECKED: &str = "/sim/up";

/// How long it may take until every backend is found to be up and none is ejected, once nothing is wrong with any.
pub fn recovery(plan: &Plan) -> Duration {
    let checks = plan
        .config
        .upstreams
        .iter()
        .filter_map(|u| u.health.as_ref());
    let each = checks.map(|check| {
        let spec = &check.spec;
        let fast = spec.fast_interval.mul_f64(1.1) + check.timeout;
        spec.interval.mul_f64(1.1) + check.timeout + fast * (spec.healthy + 1)
    });
    let ejections = plan.config.upstreams.iter().filter_map(|u| u.spec.outlier);
    let longest = ejections.map(|spec| spec.max).max().unwrap_or_default();
    let longest = if are_short(plan) {
        longest
    } else {
        Duration::ZERO
    };
    each.max().unwrap_or_default().max(longest)
}

/// Are ejections so short that a world can wait for their ends? Those of a real config may last for minutes.
pub fn are_short(plan: &Plan) -> bool {
    let ejections = plan.config.upstreams.iter().filter_map(|u| u.spec.outlier);
    let longest = ejections.map(|spec| spec.max).max().unwrap_or_default();
    longest <= Duration::from_secs(10)
}

impl Plan {
    /// Resolves `scenario` against `config`.
    ///
    /// # Errors
    /// One sentence for each name in the scenario that the config does not have.
    pub fn new(seed: u64, config: Arc<Config>, scenario: &Scenario) -> Result<Plan, Vec<String>> {
        let mut errors = Vec::new();
        let config = modelled(config);
        let backends = backends(&config, scenario);
        let known = |name: &str| backends.iter().any(|b| b.name == name);
        let names = || {
            let names: Vec<&str> = backends.iter().map(|b| b.name.as_str()).collect();
            names.join(", ")
        };
        for name in scenario.backends.keys().filter(|n| *n != "*" && !known(n)) {
            errors.push(format!(
                "no backend is called \"{name}\" (backends): there are {}",
                names()
            ));
        }
        for (i, fault) in scenario.faults.iter().enumerate() {
            if fault.kind.is_redis() {
                if config.redis.is_none() {
                    errors.push(format!("the config has no Redis (faults[{i}].kind)"));
                }
            } else if !fault.kind.spares_backends() && !known(&fault.backend) {
                let name = &fault.backend;
                errors.push(format!(
                    "no backend is called \"{name}\" (faults[{i}].backend): there are {}",
                    names()
                ));
            }
        }
        let models = match scenario.clients.is_empty() {
            true => vec![default_client(&config, &backends)],
            false => scenario.clients.clone(),
        };
        let (mut clients, mut speech) = (Vec::new(), Vec::new());
        for (i, model) in models.into_iter().enumerate() {
            let found = match &model.listener {
                None => first_of_http(&config),
                Some(name) => config.listeners.iter().find(|l| l.name == *name),
            };
            match found {
                Some(listener) if listener.protocol == Protocol::Http || model.listener.is_none() => {
                    speech.push(Speech {
                        tls: listener.tls.is_some(),
                        requests: listener.limits.requests_per_connection,
                        ..Speech::default()
                    });
                    clients.push((model, listener.bind.port()));
                }
                Some(listener) => errors.push(format!(
                    "the listener \"{}\" is {}, and a scenario's clients speak HTTP (clients[{i}].listener)",
                    listener.name,
                    listener.protocol.name()
                )),
                None => errors.push(format!("no such listener (clients[{i}].listener)")),
            }
        }
        for expectation in &scenario.expect {
            let subject = &expectation.subject;
            if subject != "all" && !clients.iter().any(|(c, _)| c.name == *subject) {
                errors.push(format!(
                    "no clients are called \"{subject}\" (expect: {expectation})"
                ));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let cores = scenario.cores.map(usize::from).or(config.workers);
        Ok(Plan {
            seed,
            cores: cores.unwrap_or(2).clamp(1, 8),
            site: None,
            traffic: None,
            replicas: 1,
            generations: Vec::new(),
            removed: None,
            stops_early: false,
            redis: config.redis.as_ref().and_then(|r| match &r.servers {
                RedisServers::One(host, port) => Some((host.to_ascii_lowercase(), *port)),
                _ => None,
            }),
            config,
            jitter: scenario.network.jitter.0,
            chop: scenario.network.chopped,
            warmup: scenario.warmup.0,
            measure: scenario.measure.0,
            clients,
            speech,
            unruly: None,
            backends,
            faults: scenario.faults.clone(),
            expect: scenario.expect.clone(),
        })
    }

    /// When the load ends and every fault is over.
    pub fn healed(&self) -> Duration {
        self.warmup + self.measure
    }

    /// The backend called `name`.
    pub fn backend(&self, name: &str) -> Option<usize> {
        self.backends.iter().position(|b| b.name == name)
    }
}

/// The config without the PROXY protocol, and with this world's certificates in the place of its own.
fn modelled(mut config: Arc<Config>) -> Arc<Config> {
    let plain = |l: &Listener| l.proxy_protocol.is_none() && l.tls.is_none();
    if !config.listeners.iter().all(plain) {
        for listener in &mut Arc::make_mut(&mut config).listeners {
            listener.proxy_protocol = None;
            if let Some(tls) = &mut listener.tls {
                *tls = Arc::new(Settings {
                    min_version: tls.min_version,
                    alpn: tls.alpn,
                    session_tickets: tls.session_tickets,
                    ..Settings::new(vec![certificates::identity()], None)
                });
            }
        }
    }
    let plain = |u: &Upstream| u.proxy_protocol.is_none() && u.tls.is_none();
    if !config.upstreams.iter().all(plain) {
        for upstream in &mut Arc::make_mut(&mut config).upstreams {
            upstream.proxy_protocol = None;
            if let Some(tls) = &mut upstream.tls {
                *tls = Arc::new(UpstreamTls {
                    ca: None,
                    sni: None,
                    verify: false,
                    identity: None,
                    client: certificates::dialling(true),
                });
            }
        }
    }
    config
}

/// How the backends of an upstream speak; `None` is HTTP/1.1 in the clear.
fn manner(upstream: &Upstream) -> Option<Manner> {
    let (tls, http2) = (
        upstream.tls.is_some(),
        upstream.protocol != BackendProtocol::Http1,
    );
    (tls || http2).then(|| Manner {
        http2,
        ..Manner::http2(tls)
    })
}

fn backends(config: &Config, scenario: &Scenario) -> Vec<BackendPlan> {
    let mut plans: Vec<BackendPlan> = Vec::new();
    for (u, upstream) in config.upstreams.iter().enumerate() {
        for (b, backend) in upstream.backends.iter().enumerate() {
            let bound = upstream.spec.backends[b].max_in_flight;
            let address = (backend.host.to_ascii_lowercase(), backend.port);
            if let Some(plan) = plans.iter_mut().find(|p| p.address == address) {
                plan.members.push((u, b));
                plan.max_in_flight = plan.max_in_flight.zip(bound).map(|(x, y)| x + y);
                continue;
            }
            let model = scenario.backends.get(&backend.name);
            let model = model.or_else(|| scenario.backends.get("*")).cloned();
            let index = plans.len();
            plans.push(BackendPlan {
                name: backend.name.clone(),
                address,
                zone: index % ZONES,
                port: u16::try_from(1000 + index).unwrap_or(u16::MAX),
                model: model.unwrap_or_default(),
                members: vec![(u, b)],
                max_in_flight: bound,
                manner: manner(upstream),
                habits: Habits::default(),
            });
        }
    }
    plans
}

/// The listener of clients that name none: the first of HTTP, if there is one.
fn first_of_http(config: &Config) -> Option<&Listener> {
    let mut listeners = config.listeners.iter();
    let http = listeners.find(|l| l.protocol == Protocol::Http);
    http.or_else(|| config.listeners.first())
}

/// One open loop at 80 % of what the backends can do, over the forwarding routes of the first listener, each by what its
/// upstream can do.
fn default_client(config: &Config, backends: &[BackendPlan]) -> ClientModel {
    let routes = first_of_http(config).map(|l| Arc::clone(&l.routes));
    let asked: Vec<(usize, RequestModel)> = routes
        .iter()
        .flat_map(|routes| routes.iter())
        .filter_map(|route| request(route))
        .collect();
    let mut rate = 0.0;
    let mut requests = Vec::new();
    for u in 0..config.upstreams.len() {
        let mine: Vec<&RequestModel> = asked.iter().filter(|a| a.0 == u).map(|a| &a.1).collect();
        let able = able(config, backends, u);
        if !mine.is_empty() {
            rate += able;
        }
        requests.extend(mine.iter().map(|request| RequestModel {
            weight: (able / mine.len() as f64).max(1e-3),
            ..(*request).clone()
        }));
    }
    if requests.is_empty() {
        requests.push(RequestModel::default());
    }
    ClientModel {
        rate: Some((0.8 * rate).clamp(1.0, 5000.0).round()),
        requests,
        ..ClientModel::default()
    }
}

/// Requests a second that the backends of upstream `u` can do.
fn able(config: &Config, backends: &[BackendPlan], u: usize) -> f64 {
    let spec = &config.upstreams[u].spec;
    let (mut slots, mut able) = (0.0, 0.0);
    for plan in backends {
        for (_, b) in plan.members.iter().filter(|(member, _)| *member == u) {
            let declared = spec.backends[*b].max_in_flight.unwrap_or(UNBOUNDED);
            let mine = f64::from(declared.min(plan.model.concurrency.unwrap_or(u32::MAX)));
            slots += mine;
            able += mine / plan.model.service_time.mean().max(0.001);
        }
    }
    match spec.max_in_flight {
        Some(bound) if f64::from(bound) < slots => able * f64::from(bound) / slots,
        _ => able,
    }
}

/// A request that takes `route`, and the upstream that it leads to; `None` if a model has to be told how to ask.
fn request(route: &Route) -> Option<(usize, RequestModel)> {
    let Action::Forward { upstream, .. } = route.action else {
        return None;
    };
    if !route.matches.headers.is_empty() {
        return None;
    }
    let path = match &route.matches.path {
        PathMatch::Any => "/".to_string(),
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path.clone(),
        PathMatch::Regex(_) => return None,
    };
    let default = RequestModel::default();
    let host = route.matches.hosts.first().map(|h| h.replace('*', "any"));
    let method = route.matches.methods.first().map(ToString::to_string);
    let request = RequestModel {
        path,
        host: host.unwrap_or(default.host),
        method: method.unwrap_or(default.method),
        ..RequestModel::default()
    };
    Some((upstream, request))
}
