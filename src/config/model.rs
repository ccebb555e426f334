//! The honest form of a config: everything resolved, every default filled in, nothing left to check.

mod backend;
mod client;
mod ejection;
mod headers;
mod health;
mod redis;
pub(crate) mod retry;
mod untrusted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::rules::Rules;
use crate::engine::pace::MinRate;
use crate::engine::retry::RetrySpec;
use crate::engine::router::RouteMatch;
use crate::engine::{BackendId, UpstreamSpec};
use crate::h1::HeadLimits;
use crate::message::affinity::HashBy;
use crate::message::client_hello::ClientHello;
use crate::message::path::PathRules;
use crate::message::proxy_protocol;
use crate::tls;

pub use self::backend::BackendTimeouts;
pub use self::client::{Cidr, ClientTimeouts, Http2, Limits};
pub use self::ejection::Ejection;
pub use self::headers::HeaderRules;
pub use self::health::HealthCheck;
pub use self::redis::{Redis, RedisServers, RedisTls};
pub use self::untrusted::{FieldPattern, UntrustedFields};

/// A whole config, compiled.
#[derive(Clone, Debug)]
pub struct Config {
    /// Runtimes, one a core; `None` is one for each core of the machine.
    pub workers: Option<usize>,
    /// In config order; names are unique.
    pub listeners: Vec<Listener>,
    /// In config order; names are unique. Routes refer to them by index.
    pub upstreams: Vec<Upstream>,
    /// The admin listener; `None` when it is off.
    pub admin: Option<Admin>,
    /// The access log; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// The cache's memory.
    pub cache: Cache,
    /// The cache's second tier; `None` without one.
    pub redis: Option<Redis>,
    /// How long what runs may take to finish after SIGTERM or SIGINT.
    pub shutdown_grace: Duration,
    /// Things that are legal and probably not meant, each one sentence with its place.
    pub warnings: Vec<String>,
}

impl Config {
    /// Is any route cached?
    pub fn is_cached(&self) -> bool {
        let mut routes = self.listeners.iter().flat_map(|l| l.routes.iter());
        routes.any(|r| r.cache.is_some())
    }

    /// The names of its upstreams, each with those of its backends, in config order.
    pub fn names(&self) -> Vec<(String, Vec<String>)> {
        let upstreams = self.upstreams.iter().map(|u| {
            let backends = u.backends.iter().map(|b| b.name.clone());
            (u.name.clone(), backends.collect())
        });
        upstreams.collect()
    }
}

/// A bound address and what is served there.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where it binds.
    pub bind: SocketAddr,
    /// What is served there.
    pub protocol: Protocol,
    /// First match in this order wins. Those of a listener that is not HTTP only forward.
    pub routes: Arc<Vec<Arc<Route>>>,
    /// Peers whose X-Forwarded-* fields are believed and appended to. After a PROXY protocol header, whom it names is the peer.
    pub trusted_proxies: Vec<Cidr>,
    /// Who may connect, each beginning with a PROXY protocol header; `None` is anybody, without one.
    pub proxy_protocol: Option<Vec<Cidr>>,
    /// Client-side timeouts.
    pub timeouts: ClientTimeouts,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// TLS; `None` is in the clear.
    pub tls: Option<Arc<tls::server::Settings>>,
    /// HTTP/2; `None` is HTTP/1 alone.
    pub http2: Option<Http2>,
    /// What becomes of paths that servers read in different ways.
    pub path: PathRules,
    /// What clients may say that are no trusted proxies.
    pub untrusted_fields: UntrustedFields,
}

impl Listener {
    /// What a client must send of a body, while it is waited for.
    pub fn sending_rate(&self) -> MinRate {
        MinRate {
            bytes_per_second: self.limits.min_rate,
            window: self.timeouts.rate_window,
        }
    }

    /// What it must take of an answer. Systems take in large steps what a client reads in small ones, so that a window is as long
    /// as a stall may be.
    pub fn taking_rate(&self) -> MinRate {
        MinRate {
            window: self.timeouts.rate_window.max(self.timeouts.body),
            ..self.sending_rate()
        }
    }

    /// Would another listener of `protocol` at `bind` take its address? TCP and UDP have ports of their own.
    pub fn collides(&self, bind: SocketAddr, protocol: Protocol) -> bool {
        let udp = |p| p == Protocol::Udp;
        self.bind == bind && bind.port() != 0 && udp(self.protocol) == udp(protocol)
    }

    /// Where a connection or session goes, when the listener is not HTTP: to the upstream of the first route that takes it.
    /// `hello` is `None` where it does not begin with TLS.
    pub fn leads_to(&self, hello: Option<&ClientHello>) -> Option<usize> {
        match self.routes.iter().find(|r| r.matches.takes(hello))?.action {
            Action::Forward { upstream, .. } => Some(upstream),
            _ => None,
        }
    }

    /// Does it take a client's hello to say where its connection goes?
    pub fn asks_for_hello(&self) -> bool {
        self.routes.iter().any(|r| r.matches.asks_for_hello())
    }
}

/// What a listener serves, and what a backend is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// L7.
    Http,
    /// Connections, byte for byte.
    Tcp,
    /// Datagrams, in sessions by the client's address.
    Udp,
}

impl Protocol {
    /// Its name in configs, logs and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A rule that leads somewhere.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in logs; unique within the config.
    pub name: String,
    /// What it matches.
    pub matches: RouteMatch,
    /// Where it leads.
    pub action: Action,
    /// Paths in Location and Set-Cookie get back the prefix that was taken off the request's path.
    pub restore_prefix: bool,
    /// When another backend is tried, but for the budget; `None` is as the upstream has it.
    pub retry: Option<RetrySpec>,
    /// How its responses are cached; `None` is not at all.
    pub cache: Option<Arc<Rules>>,
    /// The protocols that a request may ask to change to, in lower case; empty is none.
    pub upgrades: Vec<String>,
    /// Changes to the request's fields.
    pub request_headers: HeaderRules,
    /// Changes to the response's fields.
    pub response_headers: HeaderRules,
}

impl Route {
    /// How the path changes before it is forwarded.
    pub fn rewrite(&self) -> &Rewrite {
        match &self.action {
            Action::Forward { rewrite, .. } => rewrite,
            Action::Redirect { .. } | Action::Respond { .. } => &Rewrite::Keep,
        }
    }
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to `Config::upstreams[upstream]`.
    Forward {
        /// Index into [`Config::upstreams`].
        upstream: usize,
        /// How the path changes on its way.
        rewrite: Rewrite,
    },
    /// Answer with a redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location template: `{scheme}`, `{host}`, `{path}`, `{query}` (with its `?`) stand for the request's parts.
        location: String,
    },
    /// Answer at once with this status and text.
    Respond {
        /// 200 ..= 599.
        status: u16,
        /// The body, as text/plain.
        body: String,
    },
}

/// How a path changes before it is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Not at all.
    Keep,
    /// The prefix is taken off; what is left begins with `/`.
    StripPrefix(String),
    /// The first prefix gives way to the second.
    ReplacePrefix(String, String),
}

impl Rewrite {
    /// Does the path lie at or below what is to be changed?
    pub fn applies_to(&self, path: &str) -> bool {
        match self {
            Rewrite::Keep => false,
            Rewrite::StripPrefix(from) | Rewrite::ReplacePrefix(from, _) => {
                let rest = path.strip_prefix(from.as_str());
                rest.is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || from.ends_with('/')
                })
            }
        }
    }
}

/// A named group of backends.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name in logs, metrics and scenarios.
    pub name: String,
    /// What the engine needs. `spec.backends[i]` is `backends[i]`.
    pub spec: UpstreamSpec,
    /// Where the backends are, in config order.
    pub backends: Vec<Backend>,
    /// Backend-side timeouts.
    pub timeouts: BackendTimeouts,
    /// When to try another backend.
    pub retry: RetrySpec,
    /// By what requests belong together, if the strategy is hashing.
    pub hash_by: HashBy,
    /// The PROXY protocol header that each connection to a backend begins with. Such a connection serves one request.
    pub proxy_protocol: Option<proxy_protocol::Version>,
    /// What is spoken with the backends.
    pub protocol: BackendProtocol,
    /// Bounds on the head of a response.
    pub limits: HeadLimits,
    /// Does this proxy name itself in the Via of requests and responses (RFC 9110 section 7.6.3)?
    pub via: bool,
    /// The names of fields are written with capitals in requests of HTTP/1.1.
    pub title_case: bool,
    /// Bytes of a request body that are read before a place is asked for, where places are bounded.
    pub buffer_request: usize,
    /// Upgraded connections at once, which no max_in_flight counts; `None` is unlimited.
    pub max_tunnels: Option<u32>,
    /// How its backends are checked; `None` is not at all.
    pub health: Option<HealthCheck>,
    /// When requests alone take a backend out; `None` is never. `spec.outlier` says the same.
    pub ejection: Option<Ejection>,
    /// How backends that are reached over TLS are met; `Some` if there is one.
    pub tls: Option<Arc<UpstreamTls>>,
}

impl Upstream {
    /// Bytes of a request body that are read before a place is asked for; 0 where there are always places.
    pub fn read_ahead(&self) -> usize {
        let bounded = self.spec.max_in_flight.is_some()
            || self.spec.backends.iter().any(|b| b.max_in_flight.is_some());
        if bounded { self.buffer_request } else { 0 }
    }

    /// The id of the backend of this name.
    pub fn id_of(&self, name: &str) -> Option<BackendId> {
        let place = self.backends.iter().position(|b| b.name == name)?;
        Some(self.spec.backends[place].id)
    }

    /// What its backends are spoken to in.
    pub fn protocol(&self) -> Protocol {
        self.backends
            .first()
            .map_or(Protocol::Http, |b| b.scheme.protocol())
    }
}

/// TLS towards the backends of an upstream, with files as the config names them.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// The authorities to trust, in PEM; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// The name to ask for and to find in the certificate; `None` is the backend's host.
    pub sni: Option<String>,
    /// Are certificates verified?
    pub verify: bool,
    /// Our certificate and its key, for backends that want to know who we are.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// All of it, loaded.
    pub client: tls::Client,
}

/// What is spoken with backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1: one exchange at a time on a connection.
    Http1,
    /// HTTP/2: many exchanges on a connection. In the clear it begins without being asked for (RFC 9113 section 3.3).
    Http2,
    /// Over TLS alone: HTTP/2 where the backend speaks it, else HTTP/1.1.
    Auto,
}

/// How a backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes in the clear.
    Tcp,
    /// Bytes over TLS.
    Tls,
    /// Datagrams.
    Udp,
}

impl Scheme {
    /// As a URL begins.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
            Scheme::Udp => "udp",
        }
    }

    /// Where it is spoken unless a port is given.
    pub fn port(self) -> Option<u16> {
        match self {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Tcp | Scheme::Tls | Scheme::Udp => None,
        }
    }

    /// The listeners that lead to it.
    pub fn protocol(self) -> Protocol {
        match self {
            Scheme::Http | Scheme::Https => Protocol::Http,
            Scheme::Tcp | Scheme::Tls => Protocol::Tcp,
            Scheme::Udp => Protocol::Udp,
        }
    }

    /// The same without TLS.
    pub fn in_the_clear(self) -> Self {
        match self {
            Scheme::Https => Scheme::Http,
            Scheme::Tls => Scheme::Tcp,
            other => other,
        }
    }
}

/// One configured entry of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in logs and metrics: `host:port` as written, unless named.
    pub name: String,
    /// How it is reached; the protocol is the same for all backends of an upstream.
    pub scheme: Scheme,
    /// A name or an IP literal (without brackets).
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Put before every path; empty, or begins with `/` and does not end with one.
    pub path_prefix: String,
}

impl Backend {
    /// `host:port` as a Host field has it, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `http://host:port/prefix`.
    pub fn url(&self) -> String {
        let scheme = self.scheme.as_str();
        format!("{scheme}://{}{}", self.authority(), self.path_prefix)
    }

    /// Is it reached over TLS?
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Tls)
    }
}

/// The cache's memory, shared by all routes and cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes, counting keys, fields and bodies.
    pub memory: u64,
}

/// The admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it binds.
    pub bind: SocketAddr,
    /// The config names this address itself. Otherwise, when it is taken, the next free port is used and printed.
    pub explicit: bool,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// A file, or `None` for standard output.
    pub path: Option<std::path::PathBuf>,
    /// Its lines' form.
    pub format: LogFormat,
}

/// The form of an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Apache's combined log format.
    Combined,
    /// One JSON object a line.
    Json,
}
