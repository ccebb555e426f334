//! A backend that the latest generation lacks gets no request from then on. (What it had is finished: see conservation.)

use std::time::Duration;

use weirkeeper::engine::trace::Event;
use weirkeeper::time::Tick;

use crate::run::Run;

/// The clock wakes whoever puts a generation to work at a whole millisecond.
const WHOLE: Duration = Duration::from_millis(1);

pub(super) fn check(run: &Run) -> Vec<String> {
    let Some((upstream, removed, at)) = run.plan.removed else {
        return Vec::new();
    };
    let late = run.book.engine.iter().find(|(u, when, event)| {
        let is_its = matches!(event, Event::Picked { backend, .. } if *backend == removed);
        *u == upstream && is_its && *when > Tick::ZERO + at + WHOLE
    });
    late.map(|(_, when, _)| format!("a backend that was removed at {at:?} was picked at {when}"))
        .into_iter()
        .collect()
}
