//! Invariants, one a file: each reads what a run left behind and says in sentences what is broken.
//!
//! What can only be seen while it happens (a backend that has too much, an answer to another's request) is written into the
//! book by the models, under the checker's name.

mod affinity;
mod age;
mod bytes;
mod capacity;
mod collapsed;
mod conditions;
mod conservation;
mod ejection;
mod entitlement;
mod flight;
mod freshness;
mod generations;
mod heads;
mod health;
mod liveness;
mod pace;
mod private;
mod queue;
mod redis;
mod retry;
mod sessions;
mod stream;
mod streams;
mod tunnels;
mod vary;
mod window;

use crate::run::Run;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// The checker that found it.
    pub checker: String,
    /// What it found.
    pub what: String,
}

/// All violations of a run.
pub fn check(run: &Run) -> Vec<Violation> {
    let mut found: Vec<(&'static str, String)> = run.book.violations.clone();
    found.extend(run.panics.iter().map(|what| ("panic", what.clone())));
    found.extend(run.stopped.iter().map(|what| ("world", what.clone())));
    let named = |name: &'static str, list: Vec<String>| list.into_iter().map(move |w| (name, w));
    found.extend(named("conservation", conservation::check(run)));
    found.extend(named("capacity", capacity::check(run)));
    found.extend(named("queue", queue::check(run)));
    found.extend(named("entitlement", entitlement::check(run)));
    found.extend(named("retry", retry::check(run)));
    found.extend(named("bytes", bytes::check(run)));
    found.extend(named("liveness", liveness::check(run)));
    found.extend(named("pace", pace::check(run)));
    found.extend(named("private", private::check(run)));
    found.extend(named("vary", vary::check(run)));
    found.extend(named("freshness", freshness::check(run)));
    found.extend(named("flight", flight::check(run)));
    found.extend(named("collapsed", collapsed::check(run)));
    found.extend(named("conditions", conditions::check(run)));
    found.extend(named("generations", generations::check(run)));
    found.extend(named("health", health::check(run)));
    found.extend(named("ejection", ejection::check(run)));
    found.extend(named("redis", redis::check(run)));
    found.extend(named("heads", heads::check(run)));
    found.extend(named("streams", streams::check(run)));
    found.extend(named("tunnels", tunnels::check(run)));
    found.extend(named("window", window::check(run)));
    found.extend(named("stream", stream::check(run)));
    found.extend(named("affinity", affinity::check(run)));
    found.extend(named("age", age::check(run)));
    found.extend(named("sessions", sessions::check(run)));
    let violation = |(checker, what): (&str, String)| Violation {
        checker: checker.to_string(),
        what,
    };
    found.into_iter().map(violation).collect()
}
