//! One fetch for a key while it is under way: of two plain requests for a simple page that reached backends by way of one proxy,
//! the second began after the first had its answer.
//!
//! Judged where nothing else explains a second fetch: pages that everybody may share in one variant, small ones and memory
//! enough, no change of the page meanwhile, no failed fetch lately, none that took so long that its answer came stale.

use std::collections::BTreeMap;
use std::time::Duration;

use weirkeeper::time::Tick;

use crate::ledger::{Book, Execution, Made};
use crate::model::content::{Page, Terms};
use crate::plan::Plan;
use crate::run::Run;
use crate::scenario::fault::FaultKind;

/// Bodies up to this size always find room.
const SMALL: usize = 6000;

/// A fetch that ended well.
#[derive(Debug)]
struct Fetch {
    request: u64,
    replica: usize,
    page: usize,
    offered: Tick,
    began: Tick,
    made: Tick,
    /// Nothing lay there, not even stale.
    cold: bool,
}

pub(super) fn check(run: &Run) -> Vec<String> {
    let (plan, book) = (&run.plan, &run.book);
    let Some(site) = &plan.site else {
        return Vec::new();
    };
    if plan.config.cache.memory < 8 << 20 {
        return Vec::new();
    }
    let fetches = fetches(book, |page| is_simple(&site.pages[page]));
    let shared = plan.redis.is_some() && plan.faults.is_empty();
    let mut found = Vec::new();
    for (i, second) in fetches.iter().enumerate() {
        let first = fetches[..i].iter().rev().take(50).find(|first| {
            // Replicas ask each other what is not there; each has what is stale validated by itself.
            let here = first.replica == second.replica || (shared && first.cold && second.cold);
            here && first.page == second.page && first.made > second.began
        });
        let Some(first) = first else {
            continue;
        };
        if !is_excused(plan, book, first, second) {
            found.push(format!(
                "page {} was fetched for request {} at {}, while it was for request {} since {}",
                second.page, second.request, second.began, first.request, first.began
            ));
        }
    }
    found.truncate(5);
    found
}

/// Anybody may have it, in one variant, for a second at least.
pub(super) fn is_simple(page: &Page) -> bool {
    let t = &page.terms;
    let plain = Terms {
        max_age: t.max_age,
        public: t.public,
        stale_if_error: t.stale_if_error,
        stale_while_revalidate: t.stale_while_revalidate,
        ..Terms::default()
    };
    let one = !(page.by_language || page.by_coding || page.personal);
    *t == plain && one && t.max_age >= Some(1) && page.size <= SMALL
}

/// Plain requests that a backend answered at the first attempt, in the order in which they reached it.
fn fetches(book: &Book, is_simple: impl Fn(usize) -> bool) -> Vec<Fetch> {
    let mut attempts: BTreeMap<u64, Vec<&Execution>> = BTreeMap::new();
    for execution in &book.executions {
        attempts
            .entry(execution.request)
            .or_default()
            .push(execution);
    }
    let made: BTreeMap<u64, &Made> = book.made.iter().map(|m| (m.request, m)).collect();
    let mut found: Vec<Fetch> = attempts
        .into_iter()
        .filter_map(|(id, attempts)| {
            let (visit, made) = (book.visits.get(&id)?, made.get(&id)?);
            let [execution] = attempts[..] else {
                return None;
            };
            let simple = visit.asked.is_plain() && is_simple(visit.asked.page);
            let request = book.requests.get(usize::try_from(id).ok()?)?;
            let cold = visit.got.as_ref().is_some_and(|g| g.says("fwd=uri-miss"));
            simple.then_some(Fetch {
                request: id,
                replica: visit.replica,
                page: visit.asked.page,
                offered: request.offered,
                began: execution.began,
                made: made.at,
                cold,
            })
        })
        .collect();
    found.sort_by_key(|f| (f.began, f.request));
    found
}

/// Is there another reason for the second fetch?
fn is_excused(plan: &Plan, book: &Book, first: &Fetch, second: &Fetch) -> bool {
    // Its answer came, and came fresh.
    let quick = first.made.since(first.offered) < Duration::from_millis(900)
        && second.made.since(second.offered) < Duration::from_millis(900);
    let answered = |fetch: &Fetch| {
        let got = book.visits[&fetch.request].got.as_ref();
        let made = got.and_then(|g| book.made.get(g.made?));
        got.is_some_and(|g| g.whole) && made.is_some_and(|m| m.request == fetch.request)
    };
    if !quick || !answered(first) {
        return true;
    }
    let lately = Duration::from_secs(12);
    let touched = |other: &Execution| {
        let Some(visit) = book.visits.get(&other.request) else {
            return true;
        };
        if visit.asked.page != first.page || other.began > second.made {
            return false;
        }
        let mine = book.made.iter().filter(|m| m.request == other.request);
        let well = mine.clone().any(|m| m.status < 400 && m.shareable);
        let changed = visit.asked.method == "POST";
        // What failed lately, was for one alone, or came too late to be fresh, is remembered for a while.
        let late = other
            .ended
            .is_none_or(|e| e.since(other.began) >= Duration::from_millis(900));
        let bad = (!well || late) && other.began + lately > first.began;
        let racing = changed && other.ended.is_none_or(|e| e + lately > first.offered);
        bad || racing
    };
    // A Redis that lost its log of purges has everything forgotten, at any time after that, and what is on its way as well.
    let lost = plan.faults.iter().any(|f| f.kind == FaultKind::RedisLoss);
    lost || book.executions.iter().any(touched)
}
