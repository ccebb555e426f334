//! What goes in comes out: a request that was answered, and not by the cache, had reached a backend, whole, and its answer came
//! back whole. The bodies themselves are compared byte by byte where they are read.

use std::collections::BTreeSet;

use crate::ledger::End;
use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let worked = run.book.executions.iter().filter(|e| e.worked.is_some());
    let worked: BTreeSet<u64> = worked.map(|e| e.request).collect();
    let answered = |end: &Option<_>| matches!(end, Some((_, End::Answered { .. })));
    let requests = (0_u64..).zip(&run.book.requests);
    requests
        .filter(|(id, r)| {
            let cached = r.from_cache || run.book.visits.contains_key(id);
            answered(&r.end) && !cached && !worked.contains(id)
        })
        .map(|(id, _)| format!("request {id} was answered, and no backend had it"))
        .take(5)
        .collect()
}
