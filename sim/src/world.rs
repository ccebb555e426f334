//! A world built from a plan: the proxy's host between one host of clients and a few of backends, run to its end.
//!
//! Phases: load with faults (the beginning of it is the warm-up), everything heals, what is under way drains, and probes
//! ask whether all is well again. Absent: judgement, which the checkers pass on the [`Run`].

mod hosts;
mod http;
mod l4;

use crate::plan::Plan;
use crate::run::{Run, Subject};

/// Runs `plan` with `subject` in its middle.
pub fn run(plan: &Plan, subject: impl Subject) -> Run {
    match &plan.traffic {
        None => http::run(plan, subject),
        Some(traffic) => l4::run(plan, traffic, subject),
    }
}
