//! What a config tells the policy: one set of rules for each cached route.

use std::time::Duration;

use http::{HeaderName, Method};

/// A route's caching rules. The default is a cache that stores only what responses explicitly allow.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Keeps entries of routes apart that requests for one URL may lead to (by a header). Empty where the URL alone decides.
    pub partition: String,
    /// The lifetime of a response that says nothing of its own (no explicit freshness); whole seconds.
    pub default_ttl: Option<Duration>,
    /// The lifetime in the place of whatever a storable response says; whole seconds. Makes none storable that is not: no private
    /// one, and no error page that says nothing.
    pub ttl: Option<Duration>,
    /// A tenth of the time since Last-Modified, at most a day, where nothing explicit is said (RFC 9111 section 4.2.2).
    pub heuristic: bool,
    /// Where a response has no stale-while-revalidate of its own (RFC 5861 section 3); whole seconds.
    pub stale_while_revalidate: Duration,
    /// Where a response has no stale-if-error of its own (RFC 5861 section 4); whole seconds.
    pub stale_if_error: Duration,
    /// Bytes of the largest body that is stored.
    pub max_object: u64,
    /// What of the query belongs to the key.
    pub query: QueryKey,
    /// Request fields whose values belong to the key.
    pub key_headers: Vec<HeaderName>,
    /// Requests with these methods never meet the cache.
    pub bypass_methods: Vec<Method>,
    /// Nor requests whose normal path begins with one of these.
    pub bypass_paths: Vec<String>,
    /// Nor requests that carry one of these fields.
    pub bypass_headers: Vec<HeaderName>,
    /// Nor requests that carry one of these cookies.
    pub bypass_cookies: Vec<String>,
    /// XFetch's beta: a hot entry is refreshed before it ends, the earlier the larger (Vattani and others, 2015). 0 is never.
    pub early_refresh: f64,
    /// How long a URL that gave an uncacheable response is not coalesced.
    pub uncacheable_for: Duration,
    /// Add Cache-Status (RFC 9211) to responses.
    pub cache_status: bool,
}

impl Rules {
    /// Do requests with this path, one of those that it may mean, not meet the cache?
    pub fn bypasses(&self, path: &str) -> bool {
        self.bypass_paths
            .iter()
            .any(|p| path.starts_with(p.as_str()))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            partition: String::new(),
            default_ttl: None,
            ttl: None,
            heuristic: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            max_object: 8 << 20,
            query: QueryKey::All,
            key_headers: Vec::new(),
            bypass_methods: Vec::new(),
            bypass_paths: Vec::new(),
            bypass_headers: Vec::new(),
            bypass_cookies: Vec::new(),
            early_refresh: 1.0,
            uncacheable_for: Duration::from_secs(5),
            cache_status: true,
        }
    }
}

/// What of a query belongs to the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueryKey {
    /// All of it, as it was sent.
    #[default]
    All,
    /// Nothing: one entry for all queries.
    None,
    /// All but the parameters with these names.
    Without(Vec<String>),
}
