//! No request begins on a connection to a backend that is older than its upstream lets it be.

use std::time::Duration;

use weirkeeper::config::units::NEVER;

use crate::run::Run;
use crate::scenario::FaultKind;

/// The proxy's clock may be a sweep behind, and what it sends is under way for a while.
const SLACK: Duration = Duration::from_millis(300);

pub(super) fn check(run: &Run) -> Vec<String> {
    // What a cut link holds back comes at any time.
    let held = |f: &crate::scenario::Fault| f.kind == FaultKind::Blackhole;
    if run.plan.faults.iter().any(held) {
        return Vec::new();
    }
    let judge = |(index, age): (&usize, &Duration)| {
        let backend = run.plan.backends.get(*index)?;
        let upstreams = backend.members.iter();
        let upstreams = upstreams.filter_map(|(u, _)| run.plan.config.upstreams.get(*u));
        let bound = upstreams.map(|u| u.timeouts.connection_age).max()?;
        // A tenth more for some of them.
        let bound = (bound < NEVER).then(|| bound.mul_f64(1.1) + SLACK)?;
        let name = &backend.name;
        (*age > bound).then(|| {
            format!("a request began on a connection to {name} that was {age:?} old, and {bound:?} is the most")
        })
    };
    run.book.oldest.iter().filter_map(judge).collect()
}
