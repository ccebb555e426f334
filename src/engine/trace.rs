//! What the engine decided, as events. [`NoTrace`] compiles away; tests, checkers and the event log collect.

use super::outlier::Reason;
use super::{BackendId, Outcome, ShedReason, WaiterId};
use crate::time::Tick;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A backend was picked; `free` backends could have been.
    Picked {
        /// Which.
        backend: BackendId,
        /// How many were eligible at that moment, this one included.
        free: u32,
        /// Whose waiting ended by it, if it had waited.
        waiter: Option<WaiterId>,
    },
    /// A request began to wait.
    Queued(WaiterId),
    /// A request was refused, at its offer or as a waiter.
    Shed(Option<WaiterId>, ShedReason),
    /// A waiter went away.
    Cancelled(WaiterId),
    /// A waiter went away after its grant and before it heard of it. What it was granted comes back next.
    Unheard(WaiterId),
    /// A slot came back.
    Finished(BackendId, Outcome),
    /// A backend is passed over until then.
    BackedOff(BackendId, Tick),
    /// Requests alone take a backend out, until then.
    Ejected(BackendId, Tick, Reason),
    /// They would have, but too much of the upstream is out already.
    Spared(BackendId, Reason),
    /// A backend is no longer ejected.
    Returned(BackendId),
    /// A backend's health checks fail from here on.
    Down(BackendId),
    /// A backend's health checks fail no more.
    Up(BackendId),
}

/// Receives events while the engine decides. It must not block: the engine's lock is held.
pub trait Trace {
    /// Called at each decision, in order.
    fn event(&mut self, now: Tick, event: Event);
}

/// Listens to nothing, at no cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline(always)]
    fn event(&mut self, _now: Tick, _event: Event) {}
}

impl Trace for Vec<(Tick, Event)> {
    fn event(&mut self, now: Tick, event: Event) {
        self.push((now, event));
    }
}
