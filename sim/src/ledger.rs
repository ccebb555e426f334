//! What happened: one book that clients, backends, faults and the proxy's engine write into, and checkers read afterwards.
//!
//! Every entry also goes into the run's hash, in order. Absent: judgement (checkers) and figures (report).

pub mod l4;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use weirkeeper::engine::outlier::Reason;
use weirkeeper::engine::trace::Event;
use weirkeeper::engine::{Outcome, ShedReason};
use weirkeeper::time::Tick;

use crate::env::lock;
use crate::model::content::{Rep, Terms};
use crate::trace::TraceHash;
use crate::wires::Wires;

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
    /// What backends of cacheable pages said, by the number that their answers carry.
    pub made: Vec<Made>,
    /// What visitors of such pages asked and got, by the request's id.
    pub visits: BTreeMap<u64, Visit>,
    /// What only wires show.
    pub wires: Wires,
    /// How old the oldest connection was on which a request began, by the backend's index in the plan.
    pub oldest: BTreeMap<usize, Duration>,
    /// Clients that were slow on purpose.
    pub slow: Vec<Slow>,
    /// What happened at L4.
    pub l4: l4::L4,
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
    /// Index of the client group; [`PROBE`] for a probe after healing, [`UNRULY`] for an unruly client.
    pub group: usize,
    /// Index of the request model within the group.
    pub kind: usize,
    /// May it be executed more than once (RFC 9110 section 9.2.2)?
    pub idempotent: bool,
    /// When it was offered.
    pub offered: Tick,
    /// How it ended, and when.
    pub end: Option<(Tick, End)>,
    /// Its answer had been made for another.
    pub from_cache: bool,
}

/// The group of probes.
pub const PROBE: usize = usize::MAX;

/// The group of unruly clients.
pub const UNRULY: usize = usize::MAX - 1;

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

/// One answer about a cacheable page, as its backend gave it.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// The request that reached the backend.
    pub request: u64,
    /// When it was made.
    pub at: Tick,
    /// What the page was then, for that request.
    pub rep: Rep,
    /// What was said of its caching.
    pub terms: Terms,
    /// May others than its request have it?
    pub shareable: bool,
    /// The request changed the page.
    pub changed: bool,
    /// The status.
    pub status: u16,
    /// Bytes of the whole representation.
    pub size: usize,
    /// Its body broke off.
    pub broken: bool,
}

/// One visit of a cacheable page, as its visitor knows it.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// Which of the replicas was asked.
    pub replica: usize,
    /// What was asked.
    pub asked: Asked,
    /// What came.
    pub got: Option<Got>,
}

/// A client that is slow on purpose, at a listener with a minimum rate.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// Its request.
    pub id: u64,
    /// It keeps the rate all the same.
    pub keeps: bool,
    /// It is slow in reading the answer, and not in sending the body.
    pub sips: bool,
    /// Its body is read before there is a place for it.
    pub ahead: bool,
    /// How long it may be below the rate.
    pub bound: Duration,
    /// When the proxy began to wait for it.
    pub began: Option<Tick>,
    /// When its exchange was over.
    pub ended: Option<Tick>,
    /// It was told that it is too slow, or its answer broke off.
    pub cut: bool,
}

/// What a visitor asks.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The page.
    pub page: usize,
    /// GET, HEAD or POST.
    pub method: &'static str,
    /// Accept-Language.
    pub language: usize,
    /// Accept-Encoding.
    pub codings: &'static str,
    /// Whoever is logged in; 0 is nobody.
    pub user: u32,
    /// By Authorization; else by a cookie.
    pub authorized: bool,
    /// Cache-Control: no-cache.
    pub no_cache: bool,
    /// Cache-Control: max-age.
    pub max_age: Option<u32>,
    /// Cache-Control: max-stale.
    pub max_stale: Option<u32>,
    /// Cache-Control: only-if-cached.
    pub only_if_cached: bool,
    /// Range.
    pub range: Option<(usize, usize)>,
    /// If-None-Match, with what the visitor has.
    pub has: Option<Rep>,
}

impl Asked {
    /// Nothing but the page, its language and its coding, by nobody in particular.
    pub fn is_plain(&self) -> bool {
        self.method == "GET"
            && self.user == 0
            && !(self.no_cache || self.only_if_cached)
            && self.max_age.is_none()
            && self.max_stale.is_none()
            && self.range.is_none()
            && self.has.is_none()
    }
}

/// What a visitor got.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// When its head had come.
    pub at: Tick,
    /// The status.
    pub status: u16,
    /// The number of what was made, as its head says.
    pub made: Option<usize>,
    /// Cache-Status.
    pub cache: String,
    /// Age.
    pub age: Option<u64>,
    /// The proxy's word for why there is no answer.
    pub error: Option<String>,
    /// The body came to its end.
    pub whole: bool,
}

impl Got {
    /// Did the cache answer by itself?
    pub fn is_hit(&self) -> bool {
        self.says("hit")
    }

    /// Is this among what Cache-Status says?
    pub fn says(&self, word: &str) -> bool {
        self.cache.split(';').any(|part| part.trim() == word)
    }

    /// Did the request go on to a backend, for whatever reason?
    pub fn is_forwarded(&self) -> bool {
        self.cache.contains("fwd=")
    }

    /// Seconds of freshness left, as Cache-Status has it.
    pub fn ttl(&self) -> Option<i64> {
        let mut parts = self.cache.split(';');
        parts.find_map(|p| p.trim().strip_prefix("ttl=")?.parse().ok())
    }
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
            from_cache: false,
        });
        self.trace
            .event(at, "offer", &[id, group as u64, kind as u64]);
        id
    }

    /// The answer to a request had been made for another.
    pub fn from_cache(&mut self, id: u64) {
        let request = usize::try_from(id)
            .ok()
            .and_then(|i| self.requests.get_mut(i));
        if let Some(request) = request {
            request.from_cache = true;
        }
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

    /// The backend `name` has received a head. Somebody must have sent it as one.
    pub fn hear(&mut self, name: &str, id: Option<u64>, method: &str, target: &str) {
        let offered = |id: &u64| *id < self.requests.len() as u64;
        let wrong = match id.filter(offered) {
            None => Some("no client sent it"),
            Some(id) => self.wires.dispute(id, method, target),
        };
        if let Some(wrong) = wrong {
            let id = id.map_or("no id".to_string(), |id| format!("id {id}"));
            let what = format!("{method} {target} with {id} came to {name}: {wrong}");
            self.violation("origin", what);
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

    /// A backend says something of a cacheable page; its number.
    pub fn made(&mut self, made: Made) -> usize {
        let number = self.made.len();
        let rep = &made.rep;
        let numbers = [
            number as u64,
            made.request,
            rep.page as u64,
            rep.version,
            u64::from(made.status),
        ];
        self.trace.event(made.at, "made", &numbers);
        self.made.push(made);
        number
    }

    /// A visitor asks.
    pub fn ask(&mut self, id: u64, replica: usize, asked: Asked) {
        let got = None;
        self.visits.insert(
            id,
            Visit {
                replica,
                asked,
                got,
            },
        );
    }

    /// A visitor has the head of an answer.
    pub fn got(&mut self, id: u64, got: Got) {
        let made = got.made.map_or(0, |m| m as u64 + 1);
        let numbers = [id, u64::from(got.status), made, got.cache.len() as u64];
        self.trace.event(got.at, "got", &numbers);
        if let Some(visit) = self.visits.get_mut(&id) {
            visit.got = Some(got);
        }
    }

    /// And the whole body.
    pub fn got_whole(&mut self, id: u64) {
        if let Some(got) = self.visits.get_mut(&id).and_then(|v| v.got.as_mut()) {
            got.whole = true;
        }
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
            Event::Down(backend) => [6, u64::from(backend.0), 0, 0],
            Event::Up(backend) => [7, u64::from(backend.0), 0, 0],
            Event::Ejected(backend, until, reason) => {
                [8, u64::from(backend.0), until.as_nanos(), reason as u64]
            }
            Event::Spared(backend, reason) => [9, u64::from(backend.0), reason as u64, 0],
            Event::Returned(backend) => [10, u64::from(backend.0), 0, 0],
            Event::Unheard(waiter) => [11, waiter.0, 0, 0],
        };
        self.trace.event(at, "engine", &numbers);
        match event {
            Event::Queued(_) => self.reach("queued"),
            Event::Cancelled(_) => self.reach("cancelled while waiting"),
            Event::Unheard(_) => self.reach("granted, and gone before it ran"),
            Event::BackedOff(..) => self.reach("backed off"),
            Event::Ejected(_, _, Reason::Consecutive) => {
                self.reach("ejected for failures in a row")
            }
            Event::Ejected(_, _, Reason::FailureRate) => {
                self.reach("ejected for its share of failures");
            }
            Event::Ejected(_, _, Reason::Latency) => self.reach("ejected for late answers"),
            Event::Spared(..) => self.reach("not ejected, since too many are out"),
            Event::Returned(_) => self.reach("back from an ejection"),
            Event::Down(_) => self.reach("checks found a backend down"),
            Event::Up(_) => self.reach("checks found a backend up again"),
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
