//! A client that moves less than the minimum rate is gone within a bound, and holds no place meanwhile where its body is read
//! before there is one. One that keeps the rate is never given up for it.

use std::time::Duration;

use crate::ledger::Slow;
use crate::run::Run;

/// A window may be a tenth longer; and what is due is found by the next sweep or the one behind it, and heard of a little later.
/// A body that is not read before there is a place is first waited for when a backend has been reached.
const SLACK: Duration = Duration::from_millis(1200);

pub(super) fn check(run: &Run) -> Vec<String> {
    let found = run.book.slow.iter().filter_map(|slow| judge(run, slow));
    found.take(5).collect()
}

fn judge(run: &Run, slow: &Slow) -> Option<String> {
    let id = slow.id;
    let what = if slow.sips { "answer" } else { "body" };
    if slow.keeps {
        // An answer may break off for its backend's sake, where something goes wrong there.
        let wronged = slow.cut && (!slow.sips || is_sound(run));
        return wronged
            .then(|| format!("client {id} kept the rate, and was given up with its {what}"));
    }
    let began = slow.began?;
    let bound = slow.bound.mul_f64(1.1) + SLACK;
    let Some(ended) = slow.ended else {
        return Some(format!(
            "client {id}, too slow with its {what} from {began} on, was never given up"
        ));
    };
    let took = ended.since(began);
    if took > bound {
        return Some(format!(
            "client {id} was too slow with its {what} for {took:?}, and {bound:?} is the most"
        ));
    }
    let held = slow.ahead && !slow.sips && run.book.executions.iter().any(|e| e.request == id);
    held.then(|| {
        format!("client {id} dripped its {what}, and had a place with a backend meanwhile")
    })
}

/// Does nothing go wrong behind the proxy?
fn is_sound(run: &Run) -> bool {
    let well = |b: &crate::plan::BackendPlan| {
        let rates = [
            b.model.malformed_rate,
            b.model.close_rate,
            b.habits.leaves,
            b.habits.early,
        ];
        rates.iter().all(|rate| *rate == 0.0)
    };
    run.plan.faults.is_empty() && run.plan.backends.iter().all(well)
}
