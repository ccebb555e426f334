//! What a rehearsal found, as data.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::checkers::Violation;
use crate::scenario::Fault;

/// A report over one seed or several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The format's version.
    pub version: u32,
    /// The config's file.
    pub config: String,
    /// The scenario's file, if there was one.
    pub scenario: Option<String>,
    /// The first seed.
    pub seed: u64,
    /// How many seeds, one after the other.
    pub seeds: u64,
    /// The outcome in one word.
    pub verdict: Verdict,
    /// All requests offered while it was measured.
    pub total: GroupReport,
    /// The same by client group.
    pub clients: Vec<GroupReport>,
    /// Upstreams with their backends.
    pub upstreams: Vec<UpstreamReport>,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Each expectation and whether it was met.
    pub expectations: Vec<Judged>,
    /// Broken invariants.
    pub violations: Vec<Found>,
    /// What was reached, and how often: rare states that a run should meet.
    pub reached: BTreeMap<String, u64>,
    /// What a rehearsal leaves out.
    pub not_modelled: Vec<String>,
    /// Semantic events.
    pub events: u64,
    /// Their hash.
    pub trace_hash: String,
}

/// The outcome in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every expectation is met and every invariant holds.
    Met,
    /// An expectation failed.
    Failed,
    /// An invariant is broken.
    Broken,
}

impl Verdict {
    /// 0, 1, 3.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Met => 0,
            Verdict::Failed => 1,
            Verdict::Broken => 3,
        }
    }
}

/// One group of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Requests offered.
    pub offered: u64,
    /// Answered by a backend, by status.
    pub answered: BTreeMap<u16, u64>,
    /// Answered by the proxy itself, by status.
    pub refused: BTreeMap<u16, u64>,
    /// The client gave up.
    pub gave_up: u64,
    /// The connection ended before a whole answer came.
    pub broken: u64,
    /// Latency of requests that a backend answered with a status below 500, in milliseconds.
    pub latency_ms: Latency,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them took at most this.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamReport {
    /// Its name.
    pub name: String,
    /// Requests that waited in its queue.
    pub queued: u64,
    /// Requests it refused, by reason.
    pub shed: BTreeMap<String, u64>,
    /// Waiters and running requests that were cancelled.
    pub cancelled: u64,
    /// Attempts that failed, by outcome.
    pub failures: BTreeMap<String, u64>,
    /// Picks among two or more.
    pub choices: u64,
    /// The furthest that a backend was from its share, in picks. Only strategies that go by turns entitle to a share.
    pub worst_lag: Option<f64>,
    /// In config order.
    pub backends: Vec<BackendReport>,
}

/// One backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackendReport {
    /// Its name.
    pub name: String,
    /// All picks.
    pub picks: u64,
    /// Its part of the picks among two or more, 0 to 1.
    pub share: f64,
    /// The part that it was entitled to, under a strategy that goes by turns.
    pub entitled: Option<f64>,
    /// Requests that reached it.
    pub received: u64,
    /// The most at once, as it saw them, orphans aside.
    pub peak_in_flight: u32,
    /// The most connections at once.
    pub peak_connections: u32,
    /// What the config allows.
    pub max_in_flight: Option<u32>,
}

/// An expectation and whether it was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The line.
    pub expectation: String,
    /// What was measured: milliseconds, percent or requests.
    pub measured: f64,
    /// Whether it holds.
    pub met: bool,
}

/// A violation and where it was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What.
    #[serde(flatten)]
    pub violation: Violation,
    /// The faults that it takes, once the others were left out.
    pub faults: Vec<Fault>,
    /// The one command that replays it.
    pub replay: String,
}

/// What a rehearsal leaves out, in sentences.
pub fn not_modelled() -> Vec<String> {
    [
        "CPU and memory of the proxy: it computes in no time",
        "bandwidth, packet loss and TCP's congestion control; a message takes whole milliseconds",
        "kernel buffers: a sender is held up only by 4,096 segments, not by bytes",
        "a reset that overtakes data which is still under way",
        "DNS: names resolve at once, to one address each",
        "the PROXY protocol outside of worlds of L4: clients and backends speak without it",
        "certificates: a rehearsal has its own, and the proxy believes every backend's",
        "the access log, the admin port, reloads and signals",
    ]
    .map(ToString::to_string)
    .to_vec()
}
