//! A request whose method is not idempotent is executed at most once (RFC 9110 section 9.2.2). One that is idempotent and whose
//! body is at hand is not lost because a kept connection turns out to be closed: where backends do nothing worse than to close
//! connections that idle, it is answered.

use std::collections::BTreeMap;

use crate::ledger::End;
use crate::run::Run;

/// Bytes that a proxy holds of a body, to send it again.
const HELD: u64 = 64 << 10;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for execution in run.book.executions.iter().filter(|e| e.worked.is_some()) {
        *times.entry(execution.request).or_default() += 1;
    }
    let request = |id: u64| {
        usize::try_from(id)
            .ok()
            .and_then(|i| run.book.requests.get(i))
    };
    let twice = times.into_iter().filter(|(_, n)| *n > 1);
    let found = twice.filter_map(|(id, n)| match request(id) {
        Some(request) if request.idempotent => None,
        Some(_) => Some(format!(
            "request {id} is not idempotent and was executed {n} times"
        )),
        None => Some(format!("request {id} was executed and never offered")),
    });
    found.chain(lost(run)).take(5).collect()
}

/// Idempotent requests without an answer, in a world where nothing keeps a backend from answering.
fn lost(run: &Run) -> Vec<String> {
    let plan = &run.plan;
    let calm = plan.backends.iter().all(|b| {
        let leaves = b.habits.leaves > 0.0 || b.manner.is_some();
        b.model.malformed_rate == 0.0 && !leaves
    });
    let plain = plan.site.is_none() && plan.traffic.is_none() && plan.faults.is_empty();
    if !(calm && plain) {
        return Vec::new();
    }
    let requests = (0_u64..).zip(&run.book.requests);
    let found = requests.filter_map(|(id, request)| {
        let (model, _) = plan.clients.get(request.group)?;
        let kind = model.requests.get(request.kind)?;
        let held = request.idempotent && u64::from(kind.body_bytes) <= HELD;
        let refused = matches!(request.end, Some((_, End::Refused { status: 502 })));
        (held && refused).then(|| {
            let (method, size) = (&kind.method, kind.body_bytes);
            format!(
                "request {id}, a {method} of {size} bytes, is idempotent and was not sent again"
            )
        })
    });
    found.collect()
}
