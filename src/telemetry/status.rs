//! The state of upstreams and of the cache at one moment, as the proxy reports it, and its form in `/metrics`.

use std::collections::BTreeMap;

use super::render::{Family, Labels};
use crate::cache::store::Stats;
use crate::engine::outlier::Reason;
use crate::time::Wall;

/// One upstream now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Requests that wait for a backend.
    pub waiting: usize,
    /// Requests on its backends.
    pub in_flight: u32,
    /// The bound on them; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// Upgraded connections, those that are being asked for included.
    pub tunnels: u32,
    /// The bound on them; `None` is unlimited.
    pub max_tunnels: Option<u32>,
    /// In config order.
    pub backends: Vec<BackendStatus>,
}

/// One backend now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Requests on it.
    pub in_flight: u32,
    /// Its declared concurrency; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// Connections to it, busy and idle, over all cores.
    pub open_connections: u32,
    /// It is passed over since it refused or died.
    pub backed_off: bool,
    /// Is it out for how its requests ended?
    pub ejected: bool,
    /// How often it was taken out so, by the reasons of [`Reason::ALL`]; `None` where that never happens.
    pub ejections: Option<[u64; Reason::ALL.len()]>,
    /// Its health checks fail.
    pub down: bool,
    /// How they went; `None` if none is made.
    pub checks: Option<CheckStatus>,
}

/// How the health checks of a backend have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckStatus {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were not made, since the backend had no place for them.
    pub skipped: u64,
}

/// One certificate that clients are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The listener that shows it.
    pub listener: String,
    /// The first of its names.
    pub name: String,
    /// The last second of its validity.
    pub expires: Wall,
}

/// What came of asking an authority for one name's certificate, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeStatus {
    /// The name.
    pub name: String,
    /// The authority.
    pub authority: String,
    /// Certificates that were issued.
    pub issued: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// The cache now, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachingStatus {
    /// What lies in memory.
    pub store: Stats,
    /// Fetches that several requests may share.
    pub flights: u64,
    /// Bytes of bodies on their way in, which are held beside the store's.
    pub filling: u64,
    /// The Redis that replicas share, if there is one.
    pub redis: Option<RedisStatus>,
}

/// The Redis tier, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisStatus {
    /// Every core is connected, and the log of purges is being followed: what lies there is used.
    pub up: bool,
    /// Cores that ask nothing at the moment, since there is no connection or were too many failures.
    pub cores_away: u64,
    /// Looks that found a record of use, since the start.
    pub hits: u64,
    /// Looks that found none.
    pub misses: u64,
    /// Records that a purge had ruled out.
    pub banned: u64,
    /// Records that could not be read: cut, changed, of another key or version, too large.
    pub corrupt: u64,
    /// Commands that were not answered in time.
    pub timeouts: u64,
    /// Commands that were answered with an error, and connections that were lost or could not be made.
    pub errors: u64,
    /// Records and removals that were acknowledged.
    pub writes: u64,
    /// Records and removals that were given up: too many at once, or Redis was away.
    pub dropped: u64,
    /// Purges of ours that were published.
    pub purges_sent: u64,
    /// Purges that came from the stream, our own included.
    pub purges_heard: u64,
    /// Purges that are remembered for what lies in Redis.
    pub bans: u64,
}

/// Appends the gauges of `upstreams` in the OpenMetrics text format, without the final `# EOF`.
pub fn render(upstreams: &[UpstreamStatus], out: &mut String) {
    let upstream_gauge =
        |out: &mut String, name, help, value: &dyn Fn(&UpstreamStatus) -> Option<u64>| {
            let mut family = Family::gauge(out, name, help);
            for u in upstreams {
                if let Some(value) = value(u) {
                    family.sample("", Labels(&[("upstream", &u.name)]), value);
                }
            }
        };
    upstream_gauge(
        out,
        "weir_upstream_in_flight",
        "Requests on backends now.",
        &|u| Some(u.in_flight.into()),
    );
    upstream_gauge(
        out,
        "weir_upstream_waiting",
        "Requests that wait for a backend now.",
        &|u| Some(u.waiting as u64),
    );
    upstream_gauge(
        out,
        "weir_upstream_max_in_flight",
        "Bound on requests in flight; absent when unlimited.",
        &|u| u.max_in_flight.map(u64::from),
    );
    upstream_gauge(
        out,
        "weir_upstream_tunnels",
        "Upgraded connections now.",
        &|u| Some(u.tunnels.into()),
    );
    upstream_gauge(
        out,
        "weir_upstream_max_tunnels",
        "Bound on upgraded connections; absent when unlimited.",
        &|u| u.max_tunnels.map(u64::from),
    );
    let backend_gauge =
        |out: &mut String, name, help, value: &dyn Fn(&BackendStatus) -> Option<u64>| {
            let mut family = Family::gauge(out, name, help);
            for u in upstreams {
                for b in &u.backends {
                    if let Some(value) = value(b) {
                        let labels = [("upstream", u.name.as_str()), ("backend", &b.name)];
                        family.sample("", Labels(&labels), value);
                    }
                }
            }
        };
    backend_gauge(
        out,
        "weir_backend_in_flight",
        "Requests on the backend now.",
        &|b| Some(b.in_flight.into()),
    );
    backend_gauge(
        out,
        "weir_backend_max_in_flight",
        "Declared concurrency; absent when unlimited.",
        &|b| b.max_in_flight.map(u64::from),
    );
    backend_gauge(
        out,
        "weir_backend_open_connections",
        "Connections to the backend, busy and idle.",
        &|b| Some(b.open_connections.into()),
    );
    backend_gauge(
        out,
        "weir_backend_backed_off",
        "1 while the backend is passed over after a failure.",
        &|b| Some(b.backed_off.into()),
    );
    render_ejections(upstreams, out);
    render_checks(upstreams, out);
}

/// Appends who is out for how its requests ended, and how often that was so, where it may be.
fn render_ejections(upstreams: &[UpstreamStatus], out: &mut String) {
    let all = || {
        let all = upstreams
            .iter()
            .flat_map(|u| u.backends.iter().map(move |b| (u, b)));
        all.filter_map(|(u, b)| Some((u, b, b.ejections?)))
    };
    if all().next().is_none() {
        return;
    }
    let help = "1 while the backend is out for how its requests ended.";
    let mut family = Family::gauge(out, "weir_backend_ejected", help);
    for (u, b, _) in all() {
        let labels = [("upstream", u.name.as_str()), ("backend", &b.name)];
        family.sample("", Labels(&labels), u64::from(b.ejected));
    }
    let help = "Times that a backend was taken out for how its requests ended.";
    let mut family = Family::counter(out, "weir_ejections", help);
    for (u, b, counts) in all() {
        for (reason, count) in Reason::ALL.into_iter().zip(counts) {
            let (upstream, backend) = (u.name.as_str(), b.name.as_str());
            let labels = [
                ("upstream", upstream),
                ("backend", backend),
                ("reason", reason.name()),
            ];
            family.sample("_total", Labels(&labels), count);
        }
    }
}

/// Appends how health checks have gone, where some are made.
fn render_checks(upstreams: &[UpstreamStatus], out: &mut String) {
    let checked = || {
        let all = upstreams
            .iter()
            .flat_map(|u| u.backends.iter().map(move |b| (u, b)));
        all.filter_map(|(u, b)| Some((u, b, b.checks?)))
    };
    if checked().next().is_none() {
        return;
    }
    let help = "1 while the backend's health checks fail.";
    let mut family = Family::gauge(out, "weir_backend_down", help);
    for (u, b, _) in checked() {
        let labels = [("upstream", u.name.as_str()), ("backend", &b.name)];
        family.sample("", Labels(&labels), u64::from(b.down));
    }
    let help = "Health checks, by what came of them.";
    let mut family = Family::counter(out, "weir_health_checks", help);
    for (u, b, checks) in checked() {
        let results = [
            ("passed", checks.passed),
            ("failed", checks.failed),
            ("skipped", checks.skipped),
        ];
        for (result, count) in results {
            let (upstream, backend) = (u.name.as_str(), b.name.as_str());
            let labels = [
                ("upstream", upstream),
                ("backend", backend),
                ("result", result),
            ];
            family.sample("_total", Labels(&labels), count);
        }
    }
}

/// Appends the ends of certificates and what came of ordering them, in the OpenMetrics text format, without the final `# EOF`.
pub fn render_certificates(
    certificates: &[CertificateStatus],
    acme: &[AcmeStatus],
    out: &mut String,
) {
    if !certificates.is_empty() {
        // A name may have two, of different kinds of keys: the one that ends first is what somebody has to look at.
        let mut ends: BTreeMap<(&str, &str), Wall> = BTreeMap::new();
        for c in certificates {
            let end = ends.entry((&c.listener, &c.name)).or_insert(c.expires);
            *end = c.expires.min(*end);
        }
        let help = "When the certificate ends, in seconds since 1970.";
        let mut family = Family::gauge(out, "weir_certificate_not_after_timestamp_seconds", help);
        for ((listener, name), end) in ends {
            let labels = [("listener", listener), ("name", name)];
            family.sample("", Labels(&labels), end.as_millis() / 1000);
        }
    }
    if acme.is_empty() {
        return;
    }
    let mut counter = |name, help, value: &dyn Fn(&AcmeStatus) -> u64| {
        let mut family = Family::counter(out, name, help);
        for a in acme {
            let labels = [("authority", a.authority.as_str()), ("name", &a.name)];
            family.sample("_total", Labels(&labels), value(a));
        }
    };
    counter(
        "weir_acme_certificates",
        "Certificates that an authority issued by ACME.",
        &|a| a.issued,
    );
    counter(
        "weir_acme_failures",
        "Attempts to have a certificate by ACME that failed.",
        &|a| a.failures,
    );
}

/// Appends what the cache is at in the OpenMetrics text format, without the final `# EOF`.
pub fn render_caching(status: &CachingStatus, out: &mut String) {
    let none = || Labels(&[]);
    let gauges = [
        (
            "weir_cache_entries",
            "Stored responses, with the notes of what they vary by.",
            status.store.entries,
        ),
        (
            "weir_cache_flights",
            "Fetches under way that several requests may share.",
            status.flights,
        ),
    ];
    for (name, help, value) in gauges {
        Family::gauge(out, name, help).sample("", none(), value);
    }
    let bytes = [
        (
            "weir_cache_memory_bytes",
            "What stored responses take, with their keys and fields.",
            status.store.bytes,
        ),
        (
            "weir_cache_memory_limit_bytes",
            "What they may take.",
            status.store.limit,
        ),
        (
            "weir_cache_filling_bytes",
            "Bodies on their way into the cache, which are held beside it.",
            status.filling,
        ),
    ];
    for (name, help, value) in bytes {
        Family::bytes(out, name, help).sample("", none(), value);
    }
    let help = "Stored responses that gave way to others.";
    Family::counter(out, "weir_cache_evictions", help).sample(
        "_total",
        none(),
        status.store.evictions,
    );
    if let Some(redis) = &status.redis {
        render_redis(redis, out);
    }
}

fn render_redis(r: &RedisStatus, out: &mut String) {
    let help = "1 while every core is connected to Redis and what lies there is used.";
    Family::gauge(out, "weir_redis_up", help).sample("", Labels(&[]), u8::from(r.up));
    let help = "Cores that ask Redis nothing at the moment, since it failed.";
    Family::gauge(out, "weir_redis_cores_away", help).sample("", Labels(&[]), r.cores_away);
    let help = "Purges that are remembered for what lies in Redis.";
    Family::gauge(out, "weir_redis_bans", help).sample("", Labels(&[]), r.bans);
    let help = "Looks for a record in Redis, by what came of them.";
    let mut family = Family::counter(out, "weir_redis_lookups", help);
    let results = [
        ("hit", r.hits),
        ("miss", r.misses),
        ("banned", r.banned),
        ("corrupt", r.corrupt),
    ];
    for (result, count) in results {
        family.sample("_total", Labels(&[("result", result)]), count);
    }
    let counters = [
        (
            "weir_redis_timeouts",
            "Commands that were not answered in time.",
            r.timeouts,
        ),
        (
            "weir_redis_errors",
            "Commands that the connection or the server failed, and lost connections.",
            r.errors,
        ),
        (
            "weir_redis_writes",
            "Records and removals that Redis acknowledged.",
            r.writes,
        ),
        (
            "weir_redis_dropped_writes",
            "Records and removals that were given up: too many at once, or Redis was away.",
            r.dropped,
        ),
        (
            "weir_redis_purges_sent",
            "Purges that this process published.",
            r.purges_sent,
        ),
        (
            "weir_redis_purges_heard",
            "Purges that came from all replicas, this one included.",
            r.purges_heard,
        ),
    ];
    for (name, help, count) in counters {
        Family::counter(out, name, help).sample("_total", Labels(&[]), count);
    }
}
