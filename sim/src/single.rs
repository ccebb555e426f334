//! One plan run and judged, and plans with fewer faults.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checkers::{self, Violation};
use crate::plan::Plan;
use crate::run::Run;
use crate::scenario::Fault;
use crate::subject::Weir;
use crate::world;

/// Runs and checks one plan. A panic of the world itself is a violation too.
pub fn run_one(plan: &Plan) -> (Option<Run>, Vec<Violation>) {
    match catch_unwind(AssertUnwindSafe(|| world::run(plan, Weir::default()))) {
        Ok(run) => {
            let violations = checkers::check(&run);
            (Some(run), violations)
        }
        Err(_) => {
            let what = "the simulated world panicked".to_string();
            let checker = "world".to_string();
            (None, vec![Violation { checker, what }])
        }
    }
}

/// The faults with these numbers.
pub fn pick(faults: &[Fault], numbers: &[usize]) -> Vec<Fault> {
    numbers
        .iter()
        .filter_map(|i| faults.get(*i).cloned())
        .collect()
}
