//! A fetch that broke off is made anew for those who have read nothing of it, and once: whoever is told that the answer broke off
//! has seen two of them do so, and nobody causes more.
//!
//! Judged where nothing but broken bodies keeps a fetch from its end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ledger::Made;
use crate::run::Run;

/// What the proxy calls a body that broke off.
const INCOMPLETE: &str = "http_response_incomplete";

/// A body may take so long, from the moment that it was made.
const PACE: Duration = Duration::from_secs(5);

pub(super) fn check(run: &Run) -> Vec<String> {
    let (plan, book) = (&run.plan, &run.book);
    let spared = plan.faults.iter().all(|f| f.kind.spares_backends());
    if plan.site.is_none() || !spared {
        return Vec::new();
    }
    let broken = || book.made.iter().filter(|m| m.broken);
    let mut found = Vec::new();
    for (id, visit) in &book.visits {
        let Some(got) = &visit.got else {
            continue;
        };
        let request = usize::try_from(*id).ok().and_then(|i| book.requests.get(i));
        if got.error.as_deref() != Some(INCOMPLETE) {
            continue;
        }
        let Some(request) = request else {
            continue;
        };
        let of_page = |m: &&Made| {
            m.rep.page == visit.asked.page && m.at + PACE > request.offered && m.at <= got.at
        };
        let fetches = broken().filter(of_page).count();
        if fetches < 2 {
            found.push(format!(
                "visit {id} had read nothing and was refused, after {fetches} fetches that broke off; {}",
                got.cache
            ));
        }
    }
    let mut caused: BTreeMap<u64, u32> = BTreeMap::new();
    for made in broken() {
        *caused.entry(made.request).or_default() += 1;
    }
    let many = caused.into_iter().filter(|(_, n)| *n > 2);
    found.extend(
        many.map(|(id, n)| format!("visit {id} caused {n} fetches, all of which broke off")),
    );
    found.truncate(5);
    found
}
