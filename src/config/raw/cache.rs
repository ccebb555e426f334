//! `cache` and `redis`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CacheQueryWord, CacheSerializer, DurationOrZero, DurationText, Off, Size};

/// The cache: its memory, and defaults for every cached route.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cache {
    /// Bytes for all stored responses, with their keys and fields. By default "128MiB".
    pub memory: Option<Size>,
    /// What holds for every cached route that says nothing else.
    #[serde(flatten)]
    pub rules: CacheRules,
}

/// How the responses of a route are cached: what differs from the top of the file.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouteCache {
    /// What differs from the top of the file.
    #[serde(flatten)]
    pub rules: CacheRules,
}

/// Rules of caching.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct CacheRules {
    /// The lifetime of responses that say nothing of their own, in whole seconds. Without it they are not stored. By default
    /// none ("30m" in the flat form).
    pub default_ttl: Option<DurationOrZero>,
    /// The lifetime in the place of whatever a response says, in whole seconds. What is private stays so.
    pub ttl: Option<DurationOrZero>,
    /// Guess a lifetime from Last-Modified where a response says nothing. By default false.
    pub heuristic: Option<bool>,
    /// How long after its end a response may be served while it is fetched anew, where it says nothing itself. By default "0s".
    pub stale_while_revalidate: Option<DurationOrZero>,
    /// How long after its end a response may be served in the place of an error, where it says nothing itself. By default "0s".
    pub stale_if_error: Option<DurationOrZero>,
    /// The largest body that is stored, a quarter of the memory at most. By default "8MiB".
    pub max_object: Option<Size>,
    /// What of the query tells responses apart: "all", "none", or all parameters but some. By default "all".
    pub query: Option<CacheQuery>,
    /// Request fields that tell responses apart, whatever Vary says. By default none.
    pub key_headers: Option<Vec<String>>,
    /// Requests that go past the cache. By default none.
    pub bypass: Option<CacheBypass>,
    /// How eagerly hot responses are fetched anew before their end; 0 is never. By default 1.0.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub early_refresh: Option<f64>,
    /// How long requests for a URL whose response could not be shared do not wait for one another. By default "5s".
    pub uncacheable_for: Option<DurationOrZero>,
    /// Add Cache-Status to responses. By default true.
    pub status: Option<bool>,
}

/// A route's caching: on, off, or what differs from the top of the file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RouteCacheOrOff {
    /// As the top of the file says.
    On(bool),
    /// Not cached.
    Off(Off),
    /// What differs.
    Rules(Box<RouteCache>),
}

/// What of the query tells responses apart.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CacheQuery {
    /// All of it, or nothing.
    Word(CacheQueryWord),
    /// All parameters but some.
    Without(CacheQueryWithout),
}

/// All parameters but some.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CacheQueryWithout {
    /// Names of parameters that do not matter.
    pub without: Vec<String>,
}

/// Requests that go past the cache.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CacheBypass {
    /// With these methods.
    pub methods: Option<Vec<String>>,
    /// Whose path begins with one of these.
    pub paths: Option<Vec<String>>,
    /// That carry one of these fields.
    pub headers: Option<Vec<String>>,
    /// That carry one of these cookies.
    pub cookies: Option<Vec<String>>,
}

/// A Redis that replicas share: its URL alone, or with settings.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RedisOrUrl {
    /// "redis://user:password@host:port/database"; only the host has to be there.
    Url(String),
    /// With settings.
    Redis(Box<Redis>),
}

/// A Redis that replicas share, as the cache's second tier.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Redis {
    /// "redis://user:password@host:port/database", or "rediss://..." for TLS; only the host has to be there. By default the
    /// variable WEIR_REDIS_URL, or else "redis://localhost:6379".
    pub url: Option<String>,
    /// In the place of "url": one server, or several with "sentinel" or "cluster".
    pub servers: Option<Vec<String>>,
    /// The servers are sentinels, and this is the master's name.
    pub sentinel: Option<String>,
    /// The servers are nodes of a cluster. By default false.
    pub cluster: Option<bool>,
    /// Speak TLS, with the authorities that the system trusts or others.
    pub tls: Option<RedisTls>,
    /// Whom to log in as. By default the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database's number. By default 0.
    #[schemars(range(min = 0, max = 1000))]
    pub database: Option<i64>,
    /// What every key begins with. By default "weir:".
    pub prefix: Option<String>,
    /// The most that a look at it adds to a request. By default "50ms".
    pub timeout: Option<DurationText>,
    /// The largest record, from 1 KiB to 64 MiB. By default "1MiB".
    pub max_value: Option<Size>,
    /// The form of records. By default "none", which is binary.
    pub serializer: Option<CacheSerializer>,
}

/// TLS towards Redis.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RedisTls {
    /// With the authorities that the system trusts.
    On(bool),
    /// Without.
    Off(Off),
    /// With others.
    With(RedisCa),
}

/// Whom to trust.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RedisCa {
    /// A file of authorities in PEM.
    pub ca: Option<String>,
}
