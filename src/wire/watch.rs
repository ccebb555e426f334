//! Coarse deadlines. Every task that serves somebody has one [`Watch`] with two deadlines, one for what the client owes and one
//! for what the backend owes, each armed by a single store whenever what it waits for changes. A sweep of each core looks at all
//! of its watches ten times a second and wakes those that are due.
//!
//! A precise timer for each request costs about a tenth of the request; nobody can tell 60.0 from 60.1 seconds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::time::Tick;

/// How often the sweep looks.
pub const SWEEP: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing that is bounded here (the queue and the dial have their own timers).
    Unbounded = 0,
    /// The client's next request.
    Idle = 1,
    /// The rest of a request head.
    Head = 2,
    /// The client's next piece of a request body.
    RequestBody = 3,
    /// The backend's first response byte.
    FirstByte = 4,
    /// The backend's next piece of a response body.
    BodyGap = 5,
    /// The client's reading of what was sent.
    ClientWrite = 6,
    /// The next byte of a tunnel, whichever way.
    Tunnel = 7,
    /// The end of a connection's time, whatever happens on it.
    Age = 8,
    /// As many bytes of a request body as the minimum rate asks for.
    BodyRate = 9,
    /// The client's reading of as many.
    WriteRate = 10,
    /// The client's first request.
    First = 11,
}

impl Phase {
    fn from_bits(bits: u64) -> Phase {
        match bits {
            1 => Phase::Idle,
            2 => Phase::Head,
            3 => Phase::RequestBody,
            4 => Phase::FirstByte,
            5 => Phase::BodyGap,
            6 => Phase::ClientWrite,
            7 => Phase::Tunnel,
            8 => Phase::Age,
            9 => Phase::BodyRate,
            10 => Phase::WriteRate,
            11 => Phase::First,
            _ => Phase::Unbounded,
        }
    }
}

const PHASE_BITS: u32 = 4;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// One deadline and its phase.
#[derive(Debug, Default)]
pub struct Deadline {
    /// In nanoseconds with the phase in the lowest four bits; 0 is unarmed.
    armed: AtomicU64,
    due: AtomicBool,
}

impl Deadline {
    /// Waits for `phase` until `deadline` from now on.
    pub fn arm(&self, phase: Phase, deadline: Tick) {
        self.armed.store(
            (deadline.as_nanos() & !PHASE_MASK) | phase as u64,
            Ordering::Relaxed,
        );
        if self.due.load(Ordering::Relaxed) {
            self.due.store(false, Ordering::Relaxed);
        }
    }

    /// What is waited for as `phase` is overdue at once.
    pub fn expire(&self, phase: Phase) {
        self.arm(phase, Tick::ZERO);
        self.due.store(true, Ordering::Relaxed);
    }

    /// Waits without a bound.
    pub fn disarm(&self) {
        self.arm(Phase::Unbounded, Tick::MAX);
    }

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        Phase::from_bits(self.armed.load(Ordering::Relaxed) & PHASE_MASK)
    }

    /// The phase whose time has passed, if one has.
    pub fn due(&self) -> Option<Phase> {
        self.due.load(Ordering::Relaxed).then(|| self.phase())
    }

    /// Has its time passed by `now`? Then it is due.
    fn is_over(&self, now: Tick) -> bool {
        let armed = self.armed.load(Ordering::Relaxed);
        let over = armed & PHASE_MASK != 0 && armed & !PHASE_MASK <= now.as_nanos();
        if over {
            self.due.store(true, Ordering::Relaxed);
        }
        over
    }
}

/// The deadlines of one task, and whom to wake.
#[derive(Debug, Default)]
pub struct Watch {
    /// What the client owes.
    pub near: Deadline,
    /// What the backend owes.
    pub far: Deadline,
    closing: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Watch {
    /// Asks the task to finish what it does and end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    /// Was it asked to end?
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Does it wait for the client's next request, and not to be told that its time is over?
    pub fn is_idle(&self) -> bool {
        self.near.phase() == Phase::Idle && self.near.due().is_none()
    }

    /// Its wait for the client's next request is over.
    pub fn release(&self) {
        self.near.expire(Phase::Idle);
        self.wake();
    }

    /// Whom to wake: the task. Cheap when it is the same as before.
    pub fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Called by the sweep: wakes the task if a deadline of it has passed.
    pub fn sweep(&self, now: Tick) {
        let near = self.near.is_over(now);
        if self.far.is_over(now) || near {
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_moves_later_is_not_due() {
        let watch = Watch::default();
        let near = &watch.near;
        near.arm(Phase::Head, Tick::from_millis(100));
        watch.sweep(Tick::from_millis(99));
        assert_eq!(near.due(), None);
        near.arm(Phase::Idle, Tick::from_millis(500));
        watch.sweep(Tick::from_millis(200));
        assert_eq!(near.due(), None);
        watch.sweep(Tick::from_millis(500));
        assert_eq!(near.due(), Some(Phase::Idle));
        near.disarm();
        assert_eq!(near.due(), None);
        watch.sweep(Tick::from_millis(1_000_000));
        assert_eq!(near.due(), None);
    }

    #[test]
    fn the_deadlines_of_both_sides_are_apart() {
        let watch = Watch::default();
        watch.near.arm(Phase::RequestBody, Tick::from_millis(300));
        watch.far.arm(Phase::FirstByte, Tick::from_millis(200));
        watch.sweep(Tick::from_millis(250));
        assert_eq!(watch.near.due(), None);
        assert_eq!(watch.far.due(), Some(Phase::FirstByte));
        watch.far.disarm();
        watch.sweep(Tick::from_millis(300));
        assert_eq!(watch.near.due(), Some(Phase::RequestBody));
        assert_eq!(watch.far.due(), None);
    }
}
