//! The mirror of an upstream.

use schemars::JsonSchema;
use serde::Serialize;

use super::leaf::{
    BackendProtocol, BackendUrl, CountOrOff, DurationOrOff, DurationOrZero, DurationText,
    FactorOrOff, FieldCase, HashWord, LoadFactor, Off, PartOrOff, Phase, ProxyVersion,
    RetryMethods, RetryOn, Size, SizeOrOff, StatusRange, Strategy, Switch,
};

/// A group of backends behind one queue.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Upstream {
    /// How to choose a backend. By default "round-robin".
    pub strategy: Option<Strategy>,
    /// By what requests go to the same backend under "hash". By default "address".
    pub hash_by: Option<HashBy>,
    /// How far a backend may be ahead of its share under "hash", before its keys give way: 1.25 is a quarter. By default 1.25.
    pub hash_load_factor: Option<LoadFactor>,
    /// Requests in flight (connections at tcp, sessions at udp) to all backends together. By default "off", which is unlimited.
    pub max_in_flight: Option<CountOrOff>,
    /// Where requests wait while every backend is full.
    pub queue: Option<Queue>,
    /// How long backends may take.
    pub timeouts: Option<UpstreamTimeouts>,
    /// When another backend is tried.
    pub retry: Option<Retry>,
    /// How long a backend that refused or died is passed over.
    pub back_off: Option<BackOff>,
    /// How backends are checked, whether requests come or not. By default "off".
    pub health: Option<HealthOrOff>,
    /// When a backend is taken out for a time for how its requests end. By default as the section says ("off" in the flat form).
    pub ejection: Option<EjectionOrOff>,
    /// Where a fresh round robin begins: at a random place, or at its start ("zero"). By default "random".
    pub phase: Option<Phase>,
    /// Begin each connection with a PROXY protocol header that names the client. By default none. Such a connection serves one
    /// request.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What is spoken with the backends: "http1", "http2" (which gRPC needs), or over TLS "auto", which is HTTP/2 where the
    /// backend speaks it. By default "http1".
    pub protocol: Option<BackendProtocol>,
    /// How large the head of a response may be.
    pub limits: Option<ResponseLimits>,
    /// Name this proxy in the Via of requests and responses, or "off", since some servers do not compress for a proxy. By
    /// default true.
    pub via: Option<Switch>,
    /// How the names of fields are written in requests of HTTP/1.1: "received" leaves what came over HTTP/1.1 as it is and writes
    /// others in small letters, "title" writes all of them as in Content-Type, for servers that know no other. By default
    /// "received".
    pub field_case: Option<FieldCase>,
    /// Bytes of a request body that are read before a place is asked for, where max_in_flight bounds the places. So whoever
    /// sends slowly holds none meanwhile. By default "64KiB".
    pub buffer_request: Option<SizeOrOff>,
    /// Upgraded connections (WebSocket) at once, to all backends together. They count apart from requests in flight. By default
    /// 10,000.
    pub max_tunnels: Option<CountOrOff>,
    /// How backends whose URLs begin with "https://" are met. By default verified by the authorities that the system trusts.
    pub tls: Option<UpstreamTls>,
    /// URLs, or objects with a URL.
    #[schemars(length(min = 1))]
    pub backends: Vec<BackendEntry>,
}

/// By what requests go to the same backend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HashBy {
    /// The client's address without its port, or the path without its query.
    Word(HashWord),
    /// What the request says.
    Said(HashSaid),
}

/// What a request says; one that does not say it goes by its address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashSaid {
    /// The value of this field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// TLS towards backends. Files are named from the folder of this one.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamTls {
    /// A file with the authorities to trust, in PEM. By default the system's.
    pub ca: Option<String>,
    /// The name to ask for, which the certificate must be for. By default the host of the backend's URL.
    pub sni: Option<String>,
    /// Whether certificates are verified. By default true.
    pub verify: Option<bool>,
    /// A file with our own certificate and those that lead to its authority, in PEM, for backends that ask for one.
    pub certificate: Option<String>,
    /// A file with its private key, in PEM.
    pub key: Option<String>,
}

/// How long backends may take.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamTimeouts {
    /// Resolving and dialling, over all addresses. By default "2s".
    pub connect: Option<DurationText>,
    /// From the request's end to the response's first byte. By default "60s".
    pub first_byte: Option<DurationOrOff>,
    /// Between two pieces of a response body. By default "60s".
    pub body_gap: Option<DurationOrOff>,
    /// The whole request with queueing and retries. By default "off".
    pub request: Option<DurationOrOff>,
    /// How long an idle connection is kept; the backend's own `Keep-Alive: timeout` lowers it. By default "4s".
    pub idle: Option<DurationOrZero>,
    /// After so long, give or take a tenth, a connection takes no further request and ends behind those under way. By default
    /// "off".
    pub connection_age: Option<DurationOrOff>,
    /// After so long without a byte TCP asks whether the backend is still there, and gives it up after as long again without an
    /// answer; 1s to 9h. By default "60s".
    pub keepalive: Option<DurationOrOff>,
}

/// How large the head of a response may be; beyond it the answer is 502.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ResponseLimits {
    /// Bytes, 8 KiB to 16 MiB. By default "128KiB".
    pub head: Option<Size>,
    /// Fields. By default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub fields: Option<u64>,
}

/// The bounds of a queue.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Queue {
    /// Waiting requests at most; 0 refuses whatever cannot run at once. By default 1,024 (10,000 in the flat form).
    #[schemars(range(max = 1_000_000))]
    pub capacity: Option<u64>,
    /// Waiting time at most. By default "5s" ("30s" in the flat form).
    pub timeout: Option<DurationText>,
}

/// When another backend is tried.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    /// Further attempts after the first. By default 1.
    #[schemars(range(max = 10))]
    pub attempts: Option<u8>,
    /// Retries for each request, on average. By default 0.2.
    #[schemars(range(min = 0, max = 1))]
    pub budget_ratio: Option<f64>,
    /// Retries a second whatever the load. By default 3.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub budget_per_second: Option<f64>,
    /// After what another backend is tried: "connect" (no connection), "reset" (it broke off before its answer), "timeout" (it
    /// took too long to begin its answer), and statuses such as 503 or "502-504". By default ["connect", "reset"]. A kept
    /// connection that turns out to be closed is made up for in any case.
    pub on: Option<Vec<RetryOn>>,
    /// Which requests may be sent again though a backend may have worked on them: "idempotent" methods, "keyed" (those, and
    /// requests with an Idempotency-Key), or "all". By default "idempotent".
    pub methods: Option<RetryMethods>,
    /// From the beginning of an attempt to the head of its answer. By default "off".
    pub per_try: Option<DurationOrOff>,
}

/// How long a backend that refused or died is passed over: `base`, doubled at each failure in a row, up to `max`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BackOff {
    /// After the first failure. By default "1s".
    pub base: Option<DurationOrZero>,
    /// At most. By default "30s".
    pub max: Option<DurationOrZero>,
}

/// When backends are ejected, or "off".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EjectionOrOff {
    /// When they are.
    On(Box<Ejection>),
    /// They are not.
    Off(Off),
}

/// When a backend is taken out for a time for how its requests end. While it is out it gets no requests, unless no other backend
/// is left.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row that eject a backend, unless most of the others fail as well. By default 5.
    pub consecutive: Option<CountOrOff>,
    /// The part of its requests within the window that must have failed, at least twice as large as that of the others. By
    /// default 0.5.
    pub failure_rate: Option<PartOrOff>,
    /// How many times as long as those of the others its answers take to begin, on average over the window. By default "off".
    pub latency_factor: Option<FactorOrOff>,
    /// Requests within the window, to a backend and to the others, for failure_rate and latency_factor to count. By default 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: Option<u64>,
    /// How far back failure_rate and latency_factor look. By default "10s".
    pub window: Option<DurationText>,
    /// How long the first ejection lasts; each one that follows lasts twice as long, until the backend has served for longer than
    /// it was out. By default "10s".
    pub base: Option<DurationText>,
    /// How long an ejection lasts at most. By default "300s".
    pub max: Option<DurationText>,
    /// The part of the weight that may be ejected or down together. By default 0.5.
    #[schemars(range(min = 0, max = 1))]
    pub max_ejected: Option<f64>,
    /// How long a backend that was ejected or down takes to get its whole share again, from a tenth on. By default "10s".
    pub slow_start: Option<DurationOrZero>,
    /// The statuses that are failures: one such as 503, a range such as "500-599", or several. By default "500-599".
    pub status: Option<Statuses>,
}

/// Health checks, or "off".
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HealthOrOff {
    /// How backends are checked.
    On(Box<Health>),
    /// They are not.
    Off(Off),
}

/// How backends are checked. A backend that is down gets no requests while another one is not.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Health {
    /// What is asked for over HTTP, with GET. By default "/". At tcp a connection is all.
    #[schemars(pattern(r"^/[!-~]*$"))]
    pub path: Option<String>,
    /// The Host that is asked for. By default the backend's own.
    pub host: Option<String>,
    /// The statuses that are good: one such as 200, a range such as "200-399", or several. By default "200-399".
    pub status: Option<Statuses>,
    /// From one check of a backend to the next, give or take a tenth. By default "5s".
    pub interval: Option<DurationText>,
    /// The same after a result that contradicts how the backend stands, and before the first one. By default "1s".
    pub fast_interval: Option<DurationText>,
    /// How long a check may take, the connection included. By default "2s".
    pub timeout: Option<DurationText>,
    /// Checks in a row that must pass until a backend that is down is up. By default 2.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy: Option<u64>,
    /// Checks in a row that must fail until a backend is down. By default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy: Option<u64>,
    /// How a backend stands before its first check. By default "up". One that begins down is up after one check.
    pub initial: Option<Initial>,
}

/// Statuses.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    /// A status or a range.
    One(StatusRange),
    /// Any of several.
    Many(Vec<StatusRange>),
}

/// How a backend stands at first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    /// Until its checks say otherwise.
    Up,
    /// Until a check has passed.
    Down,
}

/// A backend's URL, or an object with it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum BackendEntry {
    /// "http://host:port/prefix", "https://...", "tcp://host:port", "tls://..." or "udp://...".
    Url(BackendUrl),
    /// With more to say.
    Object(Backend),
}

/// One backend.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Backend {
    /// "http://host:port/prefix" or "https://...", whose prefix is put before every path; "tcp://host:port", "tls://..." or
    /// "udp://..." for listeners of that protocol.
    pub url: BackendUrl,
    /// Its name in logs and metrics. By default host:port.
    pub name: Option<String>,
    /// Its share, 1 to 65,535. By default 1.
    #[schemars(range(min = 1, max = 65_535))]
    pub weight: Option<u32>,
    /// Requests (connections at tcp, sessions at udp) that it takes at once. By default "off", which is unlimited.
    pub max_in_flight: Option<CountOrOff>,
}
