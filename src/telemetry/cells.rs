//! Where each counter stands in a core's block of counters, and the block itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Layout;
use crate::cache::status::CacheResult;
use crate::engine::ShedReason;
use crate::message::cause::Cause;

/// Classes of status codes: none, 1xx .. 5xx.
pub(super) const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Buckets with a bound: 100 us doubled 20 times (104.9 s). One more is for what is longer.
pub(super) const BOUNDS: usize = 21;
const FIRST_BOUND_NANOS: u64 = 100_000;
/// The buckets and, behind them, the sum in nanoseconds.
pub(super) const HISTOGRAM: usize = BOUNDS + 2;
/// Every cause, at its discriminant.
pub(super) const CAUSES: [Cause; 43] = [
    Cause::BadRequest,
    Cause::BadRequestBody,
    Cause::UriTooLong,
    Cause::HeadTooLarge,
    Cause::BodyTooLarge,
    Cause::ClientTimeout,
    Cause::ClientSlow,
    Cause::AddressFull,
    Cause::ClientTls,
    Cause::NotTls,
    Cause::TlsInClear,
    Cause::Misdirected,
    Cause::ClientGone,
    Cause::MethodNotAllowed,
    Cause::NotImplemented,
    Cause::VersionUnsupported,
    Cause::NoRoute,
    Cause::Loop,
    Cause::QueueFull,
    Cause::QueueTimeout,
    Cause::NoBackend,
    Cause::Deadline,
    Cause::TunnelsFull,
    Cause::Dns,
    Cause::ConnectRefused,
    Cause::ConnectTimeout,
    Cause::ConnectFailed,
    Cause::NoDescriptor,
    Cause::NoPort,
    Cause::TlsCertificate,
    Cause::TlsAlert,
    Cause::TlsProtocol,
    Cause::BackendClosed,
    Cause::FirstByteTimeout,
    Cause::BackendStatus,
    Cause::BadResponse,
    Cause::ResponseHeadTooLarge,
    Cause::ResponseIncomplete,
    Cause::BodyTimeout,
    Cause::TunnelIdle,
    Cause::SessionEvicted,
    Cause::Panic,
    Cause::ShuttingDown,
];

/// A cause that is added to the enum and not to the list does not compile.
const _: () = {
    assert!(CAUSES.len() == Cause::ShuttingDown as usize + 1);
    let mut i = 0;
    while i < CAUSES.len() {
        assert!(CAUSES[i] as usize == i);
        i += 1;
    }
};

/// The upper bound of bucket `i` in nanoseconds.
pub(super) fn bound_nanos(i: usize) -> u64 {
    FIRST_BOUND_NANOS << i
}

/// Offsets into a block. A *target* is nobody (0), an upstream without a backend, or a backend.
#[derive(Debug)]
pub(super) struct Cells {
    /// For each upstream, the target of its first backend.
    first_backend: Vec<usize>,
    upstreams: usize,
    targets: usize,
    durations: usize,
    queue_waits: usize,
    refused: usize,
    shed: usize,
    retries: usize,
    opened: usize,
    closed: usize,
    cache: usize,
    sessions: usize,
    panics: usize,
    pauses: usize,
}

/// Counters of what passes byte for byte, for each listener and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Sessions that have ended.
    Ended,
    /// Bytes from clients.
    Received,
    /// Bytes to clients.
    Sent,
    /// Datagrams that were dropped.
    Dropped,
}

impl Flow {
    pub(super) const ALL: [Flow; 4] = [Flow::Ended, Flow::Received, Flow::Sent, Flow::Dropped];
}

impl Cells {
    pub(super) fn new(layout: &Layout) -> Self {
        let (listeners, upstreams) = (layout.listeners.len(), layout.upstreams.len());
        let mut targets = 1 + upstreams;
        let mut first_backend = Vec::with_capacity(upstreams);
        for (_, backends) in &layout.upstreams {
            first_backend.push(targets);
            targets += backends.len();
        }
        let durations = listeners * targets * CODES.len();
        let queue_waits = durations + targets * HISTOGRAM;
        let refused = queue_waits + upstreams * HISTOGRAM;
        let shed = refused + listeners * CAUSES.len();
        let retries = shed + upstreams * ShedReason::ALL.len();
        let opened = retries + upstreams;
        let closed = opened + listeners;
        let cache = closed + listeners;
        let sessions = cache + listeners * CacheResult::ALL.len();
        let panics = sessions + listeners * targets * Flow::ALL.len();
        let pauses = panics + 1;
        Cells {
            first_backend,
            upstreams,
            targets,
            durations,
            queue_waits,
            refused,
            shed,
            retries,
            opened,
            closed,
            cache,
            sessions,
            panics,
            pauses,
        }
    }

    /// Where two blocks count the same names: the place in the first, the place in the second, and how many counters.
    pub(super) fn shared(
        (before, from): (&Layout, &Cells),
        (after, to): (&Layout, &Cells),
    ) -> Vec<(usize, usize, usize)> {
        let mut shared = vec![(from.panics, to.panics, 1), (from.pauses, to.pauses, 1)];
        let mut targets = vec![(0, 0)];
        let upstreams = before.upstreams.iter().zip(&after.upstreams);
        for (u, ((name, backends), (later, later_backends))) in upstreams.enumerate() {
            if name != later {
                continue;
            }
            let at = [from.queue_wait(u), to.queue_wait(u)];
            shared.push((at[0], at[1], HISTOGRAM));
            shared.push((
                from.shed + u * ShedReason::ALL.len(),
                to.shed + u * ShedReason::ALL.len(),
                ShedReason::ALL.len(),
            ));
            shared.push((from.retried(u), to.retried(u), 1));
            targets.push((from.target(Some(u), None), to.target(Some(u), None)));
            let backends = backends.iter().zip(later_backends).enumerate();
            let stay = backends.filter(|(_, (name, later))| name == later);
            targets.extend(
                stay.map(|(b, _)| (from.target(Some(u), Some(b)), to.target(Some(u), Some(b)))),
            );
        }
        for (t, later) in &targets {
            shared.push((from.duration(*t), to.duration(*later), HISTOGRAM));
        }
        // Listeners are the same for as long as the process lives.
        for l in 0..before.listeners.len() {
            let causes = CAUSES.len();
            shared.push((from.refused + l * causes, to.refused + l * causes, causes));
            shared.push((from.opened(l), to.opened(l), 1));
            shared.push((from.closed(l), to.closed(l), 1));
            let results = CacheResult::ALL.len();
            shared.push((from.cache + l * results, to.cache + l * results, results));
            for (t, later) in &targets {
                shared.push((
                    from.request(l, *t, 0),
                    to.request(l, *later, 0),
                    CODES.len(),
                ));
                let flow = |cells: &Cells, target| cells.flow(l, target, Flow::Ended);
                shared.push((flow(from, *t), flow(to, *later), Flow::ALL.len()));
            }
        }
        shared
    }

    /// Counters in a block.
    pub(super) fn len(&self) -> usize {
        self.pauses + 1
    }

    pub(super) fn target(&self, upstream: Option<usize>, backend: Option<usize>) -> usize {
        match (upstream, backend) {
            (None, _) => 0,
            (Some(upstream), None) => {
                debug_assert!(upstream < self.upstreams);
                1 + upstream
            }
            (Some(upstream), Some(backend)) => self.first_backend[upstream] + backend,
        }
    }

    pub(super) fn request(&self, listener: usize, target: usize, status: u16) -> usize {
        let class = usize::from(status / 100);
        let class = if class < CODES.len() { class } else { 0 };
        (listener * self.targets + target) * CODES.len() + class
    }

    pub(super) fn duration(&self, target: usize) -> usize {
        self.durations + target * HISTOGRAM
    }

    pub(super) fn queue_wait(&self, upstream: usize) -> usize {
        self.queue_waits + upstream * HISTOGRAM
    }

    pub(super) fn refused(&self, listener: usize, cause: Cause) -> usize {
        self.refused + listener * CAUSES.len() + cause as usize
    }

    pub(super) fn shed(&self, upstream: usize, reason: ShedReason) -> usize {
        self.shed + upstream * ShedReason::ALL.len() + reason as usize
    }

    pub(super) fn retried(&self, upstream: usize) -> usize {
        self.retries + upstream
    }

    pub(super) fn opened(&self, listener: usize) -> usize {
        self.opened + listener
    }

    pub(super) fn closed(&self, listener: usize) -> usize {
        self.closed + listener
    }

    pub(super) fn cached(&self, listener: usize, result: CacheResult) -> usize {
        self.cache + listener * CacheResult::ALL.len() + result as usize
    }

    pub(super) fn flow(&self, listener: usize, target: usize, flow: Flow) -> usize {
        self.sessions + (listener * self.targets + target) * Flow::ALL.len() + flow as usize
    }

    pub(super) fn panicked(&self) -> usize {
        self.panics
    }

    pub(super) fn paused(&self) -> usize {
        self.pauses
    }
}

/// Unused counters at both ends of a block: 128 bytes, so that no cache line (nor the pair that is prefetched) is shared.
const PADDING: usize = 16;

/// One core's counters.
#[derive(Debug)]
pub(super) struct Block(Box<[AtomicU64]>);

impl Block {
    pub(super) fn new(len: usize) -> Self {
        Block((0..len + 2 * PADDING).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, cell: usize) {
        self.0[PADDING + cell].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_many(&self, cell: usize, n: u64) {
        if n > 0 {
            self.0[PADDING + cell].fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, cell: usize) -> u64 {
        self.0[PADDING + cell].load(Ordering::Relaxed)
    }

    /// Counts `value` in the histogram that begins at `cell`.
    pub(super) fn observe(&self, cell: usize, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.add(cell + bucket(nanos));
        self.0[PADDING + cell + BOUNDS + 1].fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The first bucket whose bound is not below `nanos`.
pub(super) fn bucket(nanos: u64) -> usize {
    let units = nanos.saturating_sub(1) / FIRST_BOUND_NANOS;
    ((u64::BITS - units.leading_zeros()) as usize).min(BOUNDS)
}
