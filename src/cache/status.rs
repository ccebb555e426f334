//! What the cache did for one request: as the Cache-Status field (RFC 9211), and as a word for metrics and the access log.

use std::fmt;

/// What the cache did for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// The response came from the cache: without going to a backend first, unless `forward` says otherwise.
    pub hit: bool,
    /// Why the request went on to a backend, if it did (RFC 9211 section 2.2).
    pub forward: Option<Forward>,
    /// The backend's status, where it is not the one that is sent.
    pub forward_status: Option<u16>,
    /// Seconds of freshness left of a response from the cache; negative when stale.
    pub ttl: Option<i64>,
    /// What came was stored.
    pub stored: bool,
    /// It shared another request's fetch.
    pub collapsed: bool,
    /// More, as a token: where the response came from, or why it was not stored.
    pub detail: Option<&'static str>,
}

/// Why a request went on to a backend (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache was told not to be used.
    Bypass,
    /// The method is not cached.
    Method,
    /// Nothing lies under the URL.
    UriMiss,
    /// Something does, for other request fields.
    VaryMiss,
    /// Something does, and the request asks for better.
    Request,
    /// Something does, and it is stale.
    Stale,
    /// Some of it does, and the request asks for more.
    Partial,
}

impl Forward {
    /// Its token in RFC 9211.
    pub fn token(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Request => "request",
            Forward::Stale => "stale",
            Forward::Partial => "partial",
        }
    }
}

/// One word for what the cache did, for counters and the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// Served fresh from the cache.
    Hit,
    /// Served stale from the cache (while it is validated, in the place of an error, or because the client takes it).
    Stale,
    /// Validated with a backend, which had nothing newer.
    Revalidated,
    /// Shared another request's fetch.
    Collapsed,
    /// Fetched.
    Miss,
    /// Not looked up.
    Bypass,
}

impl CacheResult {
    /// All of them, in the order of their discriminants.
    pub const ALL: [CacheResult; 6] = [
        CacheResult::Hit,
        CacheResult::Stale,
        CacheResult::Revalidated,
        CacheResult::Collapsed,
        CacheResult::Miss,
        CacheResult::Bypass,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Stale => "stale",
            CacheResult::Revalidated => "revalidated",
            CacheResult::Collapsed => "collapsed",
            CacheResult::Miss => "miss",
            CacheResult::Bypass => "bypass",
        }
    }
}

impl CacheStatus {
    /// The word for it.
    pub fn result(&self) -> CacheResult {
        match self.forward {
            _ if self.hit && self.ttl.is_some_and(|ttl| ttl < 0) => CacheResult::Stale,
            _ if self.hit => CacheResult::Hit,
            _ if self.collapsed => CacheResult::Collapsed,
            Some(Forward::Bypass | Forward::Method) => CacheResult::Bypass,
            Some(_) if self.forward_status == Some(304) => CacheResult::Revalidated,
            Some(_) | None => CacheResult::Miss,
        }
    }
}

impl fmt::Display for CacheStatus {
    /// The member of this cache in the Cache-Status list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weir")?;
        // They exclude each other (RFC 9211 section 2.1): what went forward is no hit, though the store has the answer in the
        // end.
        match self.forward {
            None if self.hit => f.write_str("; hit")?,
            None => {}
            Some(forward) => write!(f, "; fwd={}", forward.token())?,
        }
        let forwarded = self.forward.is_some();
        if let Some(status) = self.forward_status.filter(|_| forwarded) {
            write!(f, "; fwd-status={status}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        if self.stored && forwarded {
            f.write_str("; stored")?;
        }
        if self.collapsed && forwarded {
            f.write_str("; collapsed")?;
        }
        if let Some(detail) = self.detail {
            write!(f, "; detail={detail}")?;
        }
        Ok(())
    }
}
