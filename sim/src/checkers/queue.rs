//! The queue keeps its bound, its time limit and its order.
//!
//! A retry keeps its place in time and excludes the backend that failed, so it may rightly overtake or be overtaken. Order
//! is therefore judged for as long as no attempt has failed in a way that leads to one; the swarm leaves faults out often
//! enough for that.

use std::collections::BTreeMap;

use weirkeeper::engine::Outcome;
use weirkeeper::engine::trace::Event;
use weirkeeper::time::Tick;

use crate::model::speech::Manner;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (u, upstream) in run.plan.config.upstreams.iter().enumerate() {
        let bounds = upstream.spec.queue;
        // A refused stream is no backend's fault, and leads to a retry all the same.
        let mut manners = run.plan.backends.iter().filter_map(|b| b.manner);
        let refuses = manners.any(|m: Manner| m.refuse > 0.0);
        let mut waiting: BTreeMap<u64, Tick> = BTreeMap::new();
        // An answer may lead to a retry as well, and which one that is the engine does not know.
        let mut in_order = upstream.retry.on.statuses.is_empty();
        for (_, at, event) in run.book.engine.iter().filter(|(i, _, _)| *i == u) {
            match event {
                Event::Queued(waiter) => {
                    waiting.insert(waiter.0, *at);
                    if waiting.len() > bounds.capacity {
                        let (len, most) = (waiting.len(), bounds.capacity);
                        found.push(format!("{len} waited at {at}, and {most} may"));
                    }
                }
                Event::Cancelled(waiter) | Event::Shed(Some(waiter), _) => {
                    waiting.remove(&waiter.0);
                }
                Event::Picked { waiter, .. } => {
                    let first = waiting.first_key_value().map(|(id, _)| *id);
                    match (waiter, first) {
                        (None, Some(first)) if in_order => {
                            found.push(format!("a newcomer overtook waiter {first} at {at}"));
                        }
                        (Some(waiter), Some(first)) if in_order && waiter.0 != first => {
                            found.push(format!("waiter {} overtook {first} at {at}", waiter.0));
                        }
                        _ => {}
                    }
                    let began = waiter.and_then(|w| waiting.remove(&w.0));
                    if let Some(began) = began
                        && at.since(began) > bounds.timeout
                    {
                        let waited = at.since(began);
                        found.push(format!("a waiter began after {waited:?} at {at}"));
                    }
                }
                Event::Finished(_, outcome) => {
                    let retried = Outcome::Refused == *outcome
                        || Outcome::Died == *outcome
                        || Outcome::ReuseRace == *outcome
                        || (refuses && Outcome::Cancelled == *outcome);
                    in_order &= !retried;
                }
                Event::Shed(None, _)
                | Event::Unheard(_)
                | Event::BackedOff(..)
                | Event::Down(_)
                | Event::Up(_)
                | Event::Ejected(..)
                | Event::Spared(..)
                | Event::Returned(_) => {}
            }
            if found.len() >= 5 {
                return found;
            }
        }
    }
    found
}
