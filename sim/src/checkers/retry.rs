//! A request whose method is not idempotent is executed at most once (RFC 9110 section 9.2.2).

use std::collections::BTreeMap;

use crate::run::Run;

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
    found.take(5).collect()
}
