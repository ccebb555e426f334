//! Nothing is lost and nothing comes twice: every request has one end, every slot that was granted came back, every waiter
//! was granted, refused or cancelled.

use std::collections::{BTreeMap, BTreeSet};

use weirkeeper::engine::trace::Event;

use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    if run.stopped.is_none() {
        let open = run.book.requests.iter().filter(|r| r.end.is_none()).count();
        if open > 0 {
            found.push(format!("{open} requests have no end"));
        }
    }
    let mut waiting: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut running: BTreeMap<(usize, u32), i64> = BTreeMap::new();
    for (upstream, at, event) in &run.book.engine {
        let ok = match event {
            Event::Queued(waiter) => waiting.insert((*upstream, waiter.0)),
            Event::Cancelled(waiter) | Event::Shed(Some(waiter), _) => {
                waiting.remove(&(*upstream, waiter.0))
            }
            Event::Picked {
                backend, waiter, ..
            } => {
                *running.entry((*upstream, backend.0)).or_default() += 1;
                waiter.is_none_or(|w| waiting.remove(&(*upstream, w.0)))
            }
            Event::Finished(backend, _) => {
                let count = running.entry((*upstream, backend.0)).or_default();
                *count -= 1;
                *count >= 0
            }
            Event::Shed(None, _)
            | Event::Unheard(_)
            | Event::BackedOff(..)
            | Event::Down(_)
            | Event::Up(_)
            | Event::Ejected(..)
            | Event::Spared(..)
            | Event::Returned(_) => true,
        };
        if !ok {
            found.push(format!(
                "{event:?} at {at} does not follow from what was before"
            ));
        }
    }
    if run.stopped.is_some() {
        return found;
    }
    for ((upstream, backend), count) in running {
        if count != 0 {
            let name = &run.plan.config.upstreams[upstream].name;
            found.push(format!(
                "{count} slots of {name}, backend {backend}, never came back"
            ));
        }
    }
    if !waiting.is_empty() {
        found.push(format!("{} waiters were never decided on", waiting.len()));
    }
    for upstream in &run.status {
        if upstream.in_flight > 0 || upstream.waiting > 0 {
            found.push(format!(
                "{} says that {} run and {} wait, after all is over",
                upstream.name, upstream.in_flight, upstream.waiting
            ));
        }
    }
    found
}
