//! Nothing fails because of the cache or its Redis: where backends do nothing wrong and nothing is short, every visit is
//! answered, whatever Redis does.

use std::time::Duration;

use crate::ledger::{End, PROBE, UNRULY};
use crate::plan::Plan;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    if !is_sound(&run.plan) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (id, visit) in &run.book.visits {
        let request = usize::try_from(*id).ok();
        let Some(request) = request.and_then(|i| run.book.requests.get(i)) else {
            continue;
        };
        // They have more reasons than one to get no answer.
        if request.group == UNRULY {
            continue;
        }
        let well = match request.end {
            Some((_, End::Answered { status })) => status < 500,
            Some((_, End::Refused { status: 504 })) => visit.asked.only_if_cached,
            Some((_, End::GaveUp)) => request.group != PROBE,
            Some((_, End::Refused { .. } | End::Broken)) => false,
            // Others look for these.
            None => true,
        };
        if !well {
            let (asked, end) = (&visit.asked, &request.end);
            found.push(format!("visit {id} ({asked:?}) ended with {end:?}"));
        }
    }
    found.truncate(5);
    found
}

/// Longer than any backend takes, or a message.
const AMPLE: Duration = Duration::from_secs(10);

/// Backends do nothing wrong, and have the time for it.
pub fn is_sound(plan: &Plan) -> bool {
    let ample = plan.config.upstreams.iter().all(|u| {
        let t = &u.timeouts;
        t.connect >= AMPLE && t.first_byte >= AMPLE && t.body_gap >= AMPLE
    });
    let site = plan.site.as_ref().is_some_and(|s| s.break_rate == 0.0);
    let backends = plan.backends.iter().all(|b| {
        let m = &b.model;
        m.fail_rate == 0.0 && m.malformed_rate == 0.0 && m.close_rate == 0.0
    });
    site && backends && ample && plan.faults.iter().all(|f| f.kind.spares_backends())
}
