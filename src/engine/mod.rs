//! PURE: admission, queueing and scheduling for one upstream. No async, no I/O, no clock, no entropy, no logging: `now` is an
//! argument and randomness is a seeded generator given at the start.
//!
//! [`upstream::Upstream`] is the aggregate that the shell holds behind one short lock. It answers every
//! [`offer`](upstream::Upstream::offer) with one of three outcomes and reports later decisions as [`Grant`]s.

pub mod addresses;
mod backend;
pub mod descriptors;
pub mod health;
pub mod outlier;
pub mod pace;
mod pool;
mod queue;
pub mod retry;
pub mod router;
mod scheduler;
pub mod sessions;
pub mod trace;
pub mod upstream;

use std::time::Duration;

use self::outlier::OutlierSpec;
use crate::time::Tick;

/// A backend's identity: given by the config's compiler, kept over reloads, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

/// A waiting request's identity within its upstream; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// How to choose among the backends that may take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Equal turns, quota-optimal (Tijdeman 1980), skipping the full.
    RoundRobin,
    /// Turns by weight, quota-optimal (Tijdeman 1980).
    WeightedRoundRobin,
    /// nginx's smooth weighted round robin, for those who migrate.
    SmoothWeightedRoundRobin,
    /// The lowest in_flight over max_in_flight, or over weight where that is unlimited.
    LeastRequest,
    /// The less utilised of two picked at random (Mitzenmacher 2001).
    PowerOfTwo,
    /// The same backend for the same [`Meta::client`]: Maglev (NSDI 2016) with bounded load (SODA 2018).
    Hash {
        /// A backend runs at most this part of its fair share, in percent, 100 or more; `None` is no bound, however hot a key.
        load_percent: Option<u32>,
    },
}

impl Strategy {
    /// Hashing with the bound that the paper's authors found good: a quarter above the fair share.
    pub const HASH: Strategy = Strategy::Hash {
        load_percent: Some(125),
    };
}

/// Where in the cycle of a round robin a fresh engine begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// A seeded random place, so that many replicas do not all begin at the first backend.
    #[default]
    Random,
    /// The cycle's start.
    Zero,
}

/// Backends of one upstream: schedulers keep a backend's place in 16 bits.
pub const MAX_BACKENDS: usize = 1 << 16;

/// What an upstream is, as [`apply`](upstream::Upstream::apply) takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSpec {
    /// How to choose.
    pub strategy: Strategy,
    /// A bound on all requests in flight; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// The central queue's bounds.
    pub queue: QueueSpec,
    /// In config order; ids are unique.
    pub backends: Vec<BackendSpec>,
    /// How long a backend that refused or died is passed over.
    pub back_off: BackOffSpec,
    /// When requests alone take a backend out for a time; `None` is never.
    pub outlier: Option<OutlierSpec>,
    /// Where a fresh engine begins.
    pub phase: Phase,
}

/// One configured backend, as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Stable over reloads.
    pub id: BackendId,
    /// Its share, 1 ..= 65535.
    pub weight: u32,
    /// Requests it takes at once, at least 1; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// What hashing knows it by: a stable hash of its name, the same after a restart and in other replicas.
    pub key: u64,
}

/// The bounds of the central queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Waiting requests at most; 0 sheds whatever cannot run at once.
    pub capacity: usize,
    /// Waiting time at most, from [`Meta::arrived`].
    pub timeout: Duration,
}

/// Passing over a backend after a refusal or a death: `base`, doubled at each further failure in a row, up to `max`. When no
/// eligible backend is left outside its back-off, back-offs are ignored (fail open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffSpec {
    /// After the first failure.
    pub base: Duration,
    /// At most.
    pub max: Duration,
}

/// What the engine knows of one request.
#[derive(Clone, Debug)]
pub struct Meta {
    /// When its first attempt was offered; a retry keeps it, and with it its place in the queue.
    pub arrived: Tick,
    /// Shed rather than start from this instant on; `None` leaves the queue's timeout alone in force.
    pub deadline: Option<Tick>,
    /// 0 is the most urgent. Kept for a later discipline; fifo ignores it.
    pub priority: u8,
    /// A stable hash of what identifies the client or its request: hashing goes by it, everything else ignores it.
    pub client: u64,
    /// Backends that this request has tried already.
    pub exclude: Exclude,
    /// 0 for the first attempt.
    pub attempt: u8,
}

impl Meta {
    /// A first attempt that arrives now, without a deadline of its own.
    pub fn first(now: Tick) -> Self {
        Meta {
            arrived: now,
            deadline: None,
            priority: 0,
            client: 0,
            exclude: Exclude::default(),
            attempt: 0,
        }
    }
}

/// A small set of backends to leave out, sorted, so that equal sets compare equal. An empty one does not allocate.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclude(Vec<BackendId>);

impl Exclude {
    /// Adds `id`.
    pub fn insert(&mut self, id: BackendId) {
        if let Err(place) = self.0.binary_search(&id) {
            self.0.insert(place, id);
        }
    }

    /// Is `id` left out?
    pub fn contains(&self, id: BackendId) -> bool {
        self.0.contains(&id)
    }

    /// Is nothing left out?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left out, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.0.iter().copied()
    }
}

/// One place in flight on one backend. Not `Clone`: it goes back through [`finish`](upstream::Upstream::finish) exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not finished leaks a place in flight"]
pub struct Slot {
    /// The backend that was picked.
    pub backend: BackendId,
    /// When it was granted.
    pub granted: Tick,
    /// The backend's place in the upstream's list, valid while `layout` is the upstream's.
    index: u32,
    /// Counts the lists that the upstream has had: a reload makes a new one.
    layout: u32,
    /// Failures of the backend that were known when this was granted.
    failures: u32,
    /// The answer's status counts as a failure.
    failed: bool,
    /// When the answer began, if that is measured.
    first_byte: Option<Tick>,
    /// The backend asked to be left alone for so long.
    rest: Option<Duration>,
}

impl Slot {
    /// The backend has begun to answer: with a status that counts as a failure or not, and when, if anybody wants to know.
    pub fn answered(&mut self, failed: bool, first_byte: Option<Tick>) {
        (self.failed, self.first_byte) = (failed, first_byte);
    }

    /// The backend's answer asks to be left alone for so long (RFC 9110 section 10.2.3).
    pub fn rests(&mut self, time: Duration) {
        self.rest = Some(time);
    }
}

/// The answer to an offer.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// Run it now, there.
    Admit(Slot),
    /// It waits; a [`Grant`] follows.
    Wait(WaiterId),
    /// It is refused.
    Shed(ShedReason),
}

/// A later decision on a waiter.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a grant that is dropped leaks a slot"]
pub struct Grant {
    /// Whose.
    pub waiter: WaiterId,
    /// Its slot, or why it is refused.
    pub verdict: Result<Slot, ShedReason>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShedReason {
    /// The queue was at its capacity.
    QueueFull,
    /// It waited for the queue's timeout.
    QueueTimeout,
    /// Its own deadline passed while it waited, or before.
    Deadline,
    /// The upstream has no backend, or the request has tried them all.
    NoBackend,
}

impl ShedReason {
    /// All of them, for counters.
    pub const ALL: [ShedReason; 4] = [
        ShedReason::QueueFull,
        ShedReason::QueueTimeout,
        ShedReason::Deadline,
        ShedReason::NoBackend,
    ];

    /// Its name in metrics and logs: `queue_full`.
    pub fn name(self) -> &'static str {
        match self {
            ShedReason::QueueFull => "queue_full",
            ShedReason::QueueTimeout => "queue_timeout",
            ShedReason::Deadline => "deadline",
            ShedReason::NoBackend => "no_backend",
        }
    }
}

/// How a backend stands, the best first. Requests go to backends of the best standing that any of them has (fail open): the last
/// ones that are left are tried, however they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing speaks against it.
    Sound,
    /// A request has failed there a moment ago.
    BackedOff,
    /// Its requests fail, or are answered late, beside those of its peers.
    Ejected,
    /// Its health checks fail.
    Down,
}

impl Standing {
    /// All of them, in their order.
    pub const ALL: [Standing; 4] = [
        Standing::Sound,
        Standing::BackedOff,
        Standing::Ejected,
        Standing::Down,
    ];

    /// Its name in status and logs: `backed_off`.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Sound => "sound",
            Standing::BackedOff => "backed_off",
            Standing::Ejected => "ejected",
            Standing::Down => "down",
        }
    }
}

/// How an attempt ended, as the engine needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend answered in full.
    Success,
    /// The same, with a status that counts as a failure. It proves that the backend is there, and no more.
    Failed,
    /// The connection was refused or timed out: nothing was sent.
    Refused,
    /// It died, or stayed silent, before its first response byte.
    Died,
    /// It broke off, or broke the protocol, within its response.
    Broken,
    /// A kept-alive connection turned out to be closed: says nothing of the backend's health.
    ReuseRace,
    /// The client went away, or the attempt was dropped.
    Cancelled,
}
