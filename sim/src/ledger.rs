//! What happened: one book that clients, backends, faults and the proxy's engine write into, and checkers read afterwards.
//!
//! Every entry also goes into the run's hash, in order. Absent: judgement (checkers) and figures (report).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use weirkeeper::engine::trace::Event;
use weirkeeper::engine::{Outcome, ShedReason};
use weirkeeper::time::Tick;

use crate::env::lock;
use crate::trace::TraceHash;

/// The shared book.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

/// Its pages.
#[derive(Debug, Default)]
pub struct Book {
    /// By id.
    pub requests: Vec<Request>,
    /// In the order in which backends received them.
    pub executions: Vec<Execution>,
    /// The engine's decisions: upstream, when, what.
    pub engine: Vec<(usize, Tick, Event)>,
    /// Broken invariants that were seen while they happened: the checker's name and a sentence.
    pub violations: Vec<(&'static str, String)>,
    /// How often something worth reaching was reached, by name.
    pub reached: BTreeMap<&'static str, u64>,
    /// The reasons that the proxy gave for its own answers (Proxy-Status), by name.
    pub reasons: BTreeMap<String, u64>,
    /// The hash so far.
    pub trace: TraceHash,
    /// Requests that have not ended.
    pub open: u64,
    closed: bool,
}

/// One request, as its client knows it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Index of the client group; [`PROBE`] for a probe after healing.
    pub group: usize,
    /// Index of the request model within the group.
    pub kind: usize,
    /// May it be executed more than once (RFC 9110 section 9.2.2)?
    pub idempotent: bool,
    /// When it was offered.
    pub offered: Tick,
    /// How it ended, and when.
    pub end: Option<(Tick, End)>,
}

/// The group of probes.
pub const PROBE: usize = usize::MAX;

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A backend answered, in full.
    Answered {
        /// Its status.
        status: u16,
    },
    /// The proxy answered by itself.
    Refused {
        /// Its status; 503 when it was shed.
        status: u16,
    },
    /// The connection ended before a whole answer came.
    Broken,
    /// The client gave up and went away.
    GaveUp,
}

/// One request, as a backend knows it.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The request's id.
    pub request: u64,
    /// The backend, by its index in the plan.
    pub backend: usize,
    /// When its head had arrived.
    pub began: Tick,
    /// When its body had arrived and work began.
    pub worked: Option<Tick>,
    /// When its answer was written, or it ended otherwise.
    pub ended: Option<Tick>,
}

impl Ledger {
    /// Opens the book.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.0)
    }

    /// Closes it: what is dropped with the world is no longer written down.
    pub fn close(&self) {
        self.book().closed = true;
    }

    /// Takes the book out.
    pub fn take(&self) -> Book {
        std::mem::take(&mut *self.book())
    }
}

impl Book {
    /// A client offers a request; its id.
    pub fn offer(&mut self, at: Tick, group: usize, kind: usize, idempotent: bool) -> u64 {
        let id = self.requests.len() as u64;
        self.open += 1;
        self.requests.push(Request {
            group,
            kind,
            idempotent,
            offered: at,
            end: None,
        });
        self.trace
            .event(at, "offer", &[id, group as u64, kind as u64]);
        id
    }

    /// A request has ended for its client. A second end of one request is a broken invariant.
    pub fn end(&mut self, at: Tick, id: u64, end: End) {
        if self.closed {
            return;
        }
        let (tag, status) = match end {
            End::Answered { status } => ("answered", status),
            End::Refused { status } => ("refused", status),
            End::Broken => ("broken", 0),
            End::GaveUp => ("gave up", 0),
        };
        self.trace.event(at, tag, &[id, u64::from(status)]);
        let request = usize::try_from(id)
            .ok()
            .and_then(|i| self.requests.get_mut(i));
        match request {
            Some(request) if request.end.is_none() => {
                request.end = Some((at, end));
                self.open -= 1;
            }
            _ => self.violation("conservation", format!("request {id} ended more than once")),
        }
    }

    /// A backend has received a request's head; the execution's index.
    pub fn begin(&mut self, at: Tick, backend: usize, request: u64) -> usize {
        self.trace.event(at, "begin", &[request, backend as u64]);
        self.executions.push(Execution {
            request,
            backend,
            began: at,
            worked: None,
            ended: None,
        });
        self.executions.len() - 1
    }

    /// A backend has the whole request and works.
    pub fn work(&mut self, at: Tick, execution: usize) {
        self.trace.event(at, "work", &[execution as u64]);
        self.executions[execution].worked = Some(at);
    }

    /// A backend is done with a request, one way or another.
    pub fn finish(&mut self, at: Tick, execution: usize) {
        if self.closed {
            return;
        }
        self.trace.event(at, "finish", &[execution as u64]);
        self.executions[execution].ended = Some(at);
    }

    /// The proxy's engine decided something.
    pub fn engine(&mut self, upstream: usize, at: Tick, event: Event) {
        if self.closed {
            return;
        }
        let numbers = match event {
            Event::Picked {
                backend,
                free,
                waiter,
            } => {
                let waiter = waiter.map_or(0, |w| w.0 + 1);
                [0, u64::from(backend.0), u64::from(free), waiter]
            }
            Event::Queued(waiter) => [1, waiter.0, 0, 0],
            Event::Shed(waiter, reason) => [2, waiter.map_or(0, |w| w.0 + 1), reason as u64, 0],
            Event::Cancelled(waiter) => [3, waiter.0, 0, 0],
            Event::Finished(backend, outcome) => [4, u64::from(backend.0), outcome as u64, 0],
            Event::BackedOff(backend, until) => [5, u64::from(backend.0), until.as_nanos(), 0],
        };
        self.trace.event(at, "engine", &numbers);
        match event {
            Event::Queued(_) => self.reach("queued"),
            Event::Cancelled(_) => self.reach("cancelled while waiting"),
            Event::BackedOff(..) => self.reach("backed off"),
            Event::Shed(_, ShedReason::QueueFull) => self.reach("shed: queue full"),
            Event::Shed(_, ShedReason::QueueTimeout) => self.reach("shed: queue timeout"),
            Event::Shed(_, ShedReason::Deadline) => self.reach("shed: deadline"),
            Event::Finished(_, Outcome::ReuseRace) => self.reach("reuse race"),
            Event::Finished(_, Outcome::Refused) => self.reach("connection refused"),
            Event::Finished(_, Outcome::Died) => self.reach("died before its answer"),
            Event::Finished(_, Outcome::Broken) => self.reach("broke off within its answer"),
            Event::Finished(_, Outcome::Cancelled) => self.reach("cancelled while running"),
            _ => {}
        }
        self.engine.push((upstream, at, event));
    }

    /// A fault begins or ends.
    pub fn fault(&mut self, at: Tick, kind: &'static str, backend: usize, begins: bool) {
        self.trace
            .event(at, kind, &[backend as u64, u64::from(begins)]);
        if begins {
            self.reach(kind);
        }
    }

    /// Something worth reaching was reached.
    pub fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }

    /// An invariant is broken. One sentence of each kind is enough: the first ones are kept.
    pub fn violation(&mut self, checker: &'static str, what: String) {
        if !self.closed && self.violations.len() < 20 {
            self.violations.push((checker, what));
        }
    }
}
