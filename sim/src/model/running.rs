//! What a backend works on, counted against what the proxy may send it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weirkeeper::env::{Clock, Env};
use weirkeeper::time::Tick;

use crate::env::{Link, SimEnv, lock};
use crate::ledger::Ledger;
use crate::plan::BackendPlan;

/// A stream's reset arrives within this, unless messages are held back.
const PROMPT: Duration = Duration::from_millis(50);

/// The requests that one backend has.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) index: usize,
    name: String,
    /// What the config allows.
    max_in_flight: Option<u32>,
    /// Resets of streams are never held back on their way to it.
    prompt: bool,
    env: SimEnv,
    ledger: Ledger,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Has>,
    /// When there were too many, over streams whose resets may still have been on their way.
    over: Vec<(Tick, Vec<usize>)>,
    peak: u32,
}

impl Load {
    /// That of backend number `index`, which has nothing yet.
    pub(super) fn new(index: usize, plan: &BackendPlan, env: &SimEnv, ledger: &Ledger) -> Self {
        Load {
            index,
            name: plan.name.clone(),
            max_in_flight: plan.max_in_flight,
            prompt: plan.manner.is_some_and(|m| m.prompt),
            env: env.clone(),
            ledger: ledger.clone(),
            state: Mutex::default(),
        }
    }

    /// The most requests at once, orphans aside.
    pub(super) fn peak(&self) -> u32 {
        lock(&self.state).peak
    }
}

/// A request that a backend has.
#[derive(Debug)]
struct Has {
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
    load: &'a Load,
    pub(super) id: u64,
    pub(super) execution: usize,
}

impl<'a> Running<'a> {
    /// It begins, on `connection`, and on a `stream` of it over HTTP/2.
    pub(super) fn begin(
        load: &'a Load,
        id: u64,
        connection: &Arc<Link>,
        stream: Option<&Arc<Link>>,
    ) -> Self {
        let now = load.env.clock().now();
        let execution = load.ledger.book().begin(now, load.index, id);
        let mut state = lock(&load.state);
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
        let over = load.max_in_flight.is_some_and(|max| had > max);
        match stream {
            Some(_) if over && load.prompt => state.over.push((now, held)),
            Some(_) => {}
            None if over => state.over.push((Tick::ZERO, held)),
            None => {}
        }
        let broken = overdue(&mut state, now, load.max_in_flight);
        drop(state);
        let mut book = load.ledger.book();
        if orphans > 0 {
            book.reach("orphaned work");
        }
        if let Some(had) = broken {
            let name = &load.name;
            let what = format!("{name} had {had} requests at once at {now}, more than it may");
            book.violation("capacity", what);
        }
        drop(book);
        Running {
            load,
            id,
            execution,
        }
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
        let load = self.load;
        let now = load.env.clock().now();
        let mut state = lock(&load.state);
        let broken = overdue(&mut state, now, load.max_in_flight);
        state.running.retain(|h| h.execution != self.execution);
        drop(state);
        let mut book = load.ledger.book();
        if let Some(had) = broken {
            let name = &load.name;
            book.violation("capacity", format!("{name} kept {had} requests at {now}"));
        }
        book.finish(now, self.execution);
    }
}
