//! What a backend works on: for how long, and counted against what the proxy may send it.

use std::sync::Arc;
use std::time::Duration;

use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use super::backend::{Backend, State};
use crate::env::{Link, lock};
use crate::scenario::BackendModel;

/// Work takes no longer once all is healed: a probe asks whether it is answered, not whether in time.
const HEALED: Duration = Duration::from_millis(5);

/// A stream's reset arrives within this, unless messages are held back.
const PROMPT: Duration = Duration::from_millis(50);

/// A request that a backend has.
#[derive(Debug)]
pub(super) struct Has {
    execution: usize,
    /// The connection that it came on.
    connection: Arc<Link>,
    /// Its stream there.
    stream: Option<Arc<Link>>,
}

impl Has {
    /// Nobody waits for it any more, as far as can be known.
    fn is_orphan(&self) -> bool {
        let left = |link: &Arc<Link>| link.dialler_left();
        left(&self.connection) || self.stream.as_ref().is_some_and(left)
    }
}

/// A request that the backend has, however it ends.
pub(super) struct Running<'a> {
    backend: &'a Backend,
    pub(super) execution: usize,
}

impl<'a> Running<'a> {
    /// It begins, on `connection`, and on a `stream` of it over HTTP/2.
    pub(super) fn begin(
        backend: &'a Backend,
        id: u64,
        connection: &Arc<Link>,
        stream: Option<&Arc<Link>>,
    ) -> Self {
        let now = backend.env.clock().now();
        let execution = backend.ledger.book().begin(now, backend.index, id);
        let mut state = lock(&backend.state);
        state.running.push(Has {
            execution,
            connection: Arc::clone(connection),
            stream: stream.cloned(),
        });
        let held = state.running.iter().filter(|h| !h.is_orphan());
        let held: Vec<usize> = held.map(|h| h.execution).collect();
        let orphans = state.running.len() - held.len();
        let had = u32::try_from(held.len()).unwrap_or(u32::MAX);
        state.peak = state.peak.max(had);
        let over = backend.plan.max_in_flight.is_some_and(|max| had > max);
        let prompt = backend.plan.manner.is_some_and(|m| m.prompt);
        match stream {
            Some(_) if over && prompt => state.over.push((now, held)),
            Some(_) => {}
            None if over => state.over.push((Tick::ZERO, held)),
            None => {}
        }
        let broken = overdue(&mut state, now, backend.plan.max_in_flight);
        drop(state);
        let mut book = backend.ledger.book();
        if orphans > 0 {
            book.reach("orphaned work");
        }
        if let Some(had) = broken {
            let name = &backend.plan.name;
            let what = format!("{name} had {had} requests at once at {now}, more than it may");
            book.violation("capacity", what);
        }
        drop(book);
        Running { backend, execution }
    }
}

/// Too many at once, and nothing that was on its way explains it: how many.
fn overdue(state: &mut State, now: Tick, max: Option<u32>) -> Option<usize> {
    let max = max? as usize;
    let running = &state.running;
    let mut worst = None;
    state.over.retain(|(at, held)| {
        let due = now.since(*at) >= PROMPT;
        if due || *at == Tick::ZERO {
            let still = |h: &&Has| held.contains(&h.execution) && !h.is_orphan();
            let had = running.iter().filter(still).count();
            worst = worst.max((had > max).then_some(had));
        }
        !due
    });
    worst
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let now = self.backend.env.clock().now();
        let mut state = lock(&self.backend.state);
        let broken = overdue(&mut state, now, self.backend.plan.max_in_flight);
        state.running.retain(|h| h.execution != self.execution);
        drop(state);
        let mut book = self.backend.ledger.book();
        if let Some(had) = broken {
            let name = &self.backend.plan.name;
            book.violation("capacity", format!("{name} kept {had} requests at {now}"));
        }
        book.finish(now, self.execution);
    }
}

impl State {
    /// How long the next work takes.
    pub(super) fn time(&mut self, model: &BackendModel) -> Duration {
        let slow: f64 = self.slow.iter().product();
        let time = model.service_time.sample(&mut self.rng).mul_f64(slow);
        match self.healed {
            true => time.min(HEALED),
            false => time,
        }
    }

    /// The share of answers that are no HTTP.
    pub(super) fn garbled(&self, model: &BackendModel) -> f64 {
        let rates = self.malformed.iter();
        rates.fold(model.malformed_rate, |a, b| a.max(*b))
    }
}
