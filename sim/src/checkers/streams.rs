//! What happens to one stream is its own affair: where nothing goes wrong by itself, no answer breaks off. (Connections that go
//! down with streams on them, and streams whose reset is not passed on, are seen where they happen.)

use crate::ledger::{End, PROBE};
use crate::model::streams::FORGOTTEN;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let backends = &plan.backends;
    let manners: Vec<_> = backends.iter().filter_map(|b| b.manner).collect();
    let odd = manners
        .iter()
        .any(|m| m.reset + m.quit + m.goaway + m.refuse > 0.0);
    let short = plan
        .config
        .upstreams
        .iter()
        .any(|u| u.timeouts.request.is_some());
    let wrong = backends.iter().any(|b| b.model.malformed_rate > 0.0);
    let forgotten = run.book.reached.contains_key(FORGOTTEN);
    if manners.is_empty() || odd || short || wrong || forgotten || !plan.faults.is_empty() {
        return Vec::new();
    }
    let requests = (0_u64..).zip(&run.book.requests);
    let broken = requests.filter(|(_, r)| r.group != PROBE);
    let broken = broken.filter_map(|(id, r)| match r.end {
        Some((at, End::Broken)) => Some((id, at)),
        _ => None,
    });
    broken
        .map(|(id, at)| format!("request {id} broke off at {at}, and nothing had gone wrong"))
        .take(5)
        .collect()
}
