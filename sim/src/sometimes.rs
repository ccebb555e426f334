//! Rare states that a suite of seeds must reach, or it proves less than it seems to. The book counts them as they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use weirkeeper::time::Tick;

use crate::ledger::{Book, End, Request};

/// What must be reached over all seeds of a suite.
pub const SOMETIMES: &[&str] = &[
    "502",
    "504",
    "backed off",
    "blackhole",
    "broke off within its answer",
    "broken answer",
    "cancelled while running",
    "cancelled while waiting",
    "connection refused",
    "crash",
    "died before its answer",
    "fail open",
    "gave up",
    "hang",
    "malformed",
    "not idempotent, and not made up for",
    "orphaned work",
    "queued",
    "refuse",
    "reset",
    "restart",
    "retried and answered",
    "reuse race",
    "shed: deadline",
    "shed: queue full",
    "shed: queue timeout",
    "slow",
];

/// What must be reached over all seeds of a suite of worlds with caches.
pub const CACHED: &[&str] = &[
    "a change raced a fetch",
    "a part out of a whole",
    "a part out of parts",
    "a visitor has it already",
    "Redis lied",
    "broken answer",
    "cacheable body broken off",
    "followed",
    "found in Redis",
    "gave up",
    "gave way to others",
    "hit",
    "redis_crash",
    "redis_lies",
    "redis_loss",
    "redis_slow",
    "redis_stall",
    "not in the cache, and nothing else wanted",
    "refreshed early",
    "refreshed while a stale one was served",
    "shared with a logged-in user",
    "stale in the place of an error",
    "stale while revalidated",
    "stale, and the visitor takes it",
    "the leader left, its follower was served",
    "validated, and unchanged",
    "variant served from the cache",
    "waited for another replica",
];

/// What must be reached over all seeds of a suite of worlds over HTTP/2 and TLS.
pub const HTTP2: &[&str] = &[
    "a backend heard of a reset",
    "a backend quit over HTTP/2",
    "a backend read slowly",
    "a backend refused a stream",
    "a backend reset a stream",
    "a backend said GOAWAY",
    "a client read slowly",
    "a client reset its stream",
    "a client's connection of HTTP/2 aborted",
    "a tunnel broke off",
    "a tunnel ended in order",
    "an answer's stream was reset",
    "answered before the request was there",
    "blackhole",
    "cancelled while running",
    "cancelled while waiting",
    "crash",
    "restart",
    "retried and answered",
    "streams side by side",
    "trailers came to a backend",
    "trailers came to a client",
    "tunnel over HTTP/1.1",
    "tunnel over HTTP/2",
    "tunnels were full",
];

/// Those of `list` that were never reached.
pub fn missing(list: &[&'static str], reached: &BTreeMap<String, u64>) -> Vec<&'static str> {
    let never = |what: &&&str| reached.get(**what).copied().unwrap_or(0) == 0;
    list.iter().filter(never).copied().collect()
}

/// Rare states of caches, which visits show when all is over.
pub fn of_caches(book: &Book) -> Vec<&'static str> {
    let mut notes = Vec::new();
    for (id, visit) in &book.visits {
        let Some(got) = &visit.got else {
            continue;
        };
        let made = got.made.and_then(|m| book.made.get(m));
        let request = |id: u64| book.requests.get(usize::try_from(id).ok()?);
        let ttl = got.ttl().unwrap_or(0);
        let mut note = |on: bool, what: &'static str| notes.extend(on.then_some(what));
        let hit = got.is_hit();
        note(hit && ttl > 0, "hit");
        let stale = hit && ttl <= 0;
        note(
            stale && visit.asked.max_stale.is_none(),
            "stale while revalidated",
        );
        note(
            stale && visit.asked.max_stale.is_some(),
            "stale, and the visitor takes it",
        );
        // It went on, and what came out of the cache all the same was neither validated nor brought by others.
        let others = ["stored", "collapsed", "fwd-status=304", "detail=redis"];
        let by_itself = !others.iter().any(|word| got.says(word));
        note(
            got.is_forwarded() && got.age.is_some() && ttl <= 0 && by_itself && got.status < 400,
            "stale in the place of an error",
        );
        note(got.says("collapsed"), "followed");
        note(got.says("fwd-status=304"), "validated, and unchanged");
        note(got.status == 304, "a visitor has it already");
        note(got.says("detail=redis") && hit, "found in Redis");
        note(
            got.says("detail=redis") && !hit,
            "waited for another replica",
        );
        let kept_off = got.status == 504 && visit.asked.only_if_cached;
        note(kept_off, "not in the cache, and nothing else wanted");
        let Some(made) = made else {
            continue;
        };
        let part = hit && got.status == 206;
        note(part && made.status != 206, "a part out of a whole");
        note(part && made.status == 206, "a part out of parts");
        note(hit && visit.asked.user > 0, "shared with a logged-in user");
        let variant = made.rep.language + made.rep.coding > 0;
        note(hit && variant, "variant served from the cache");
        let left = |r: &Request| matches!(r.end, Some((at, End::GaveUp)) if at < got.at);
        let followed = got.says("collapsed") && got.whole && made.request != *id;
        let orphaned = followed && request(made.request).is_some_and(left);
        note(orphaned, "the leader left, its follower was served");
    }
    notes.extend(refreshes(book));
    notes.extend(races(book));
    notes.extend(evictions(book));
    notes
}

/// Fetches that nobody waited for.
fn refreshes(book: &Book) -> Vec<&'static str> {
    let hit = |id: u64| {
        let got = book.visits.get(&id)?.got.as_ref()?;
        got.is_hit().then(|| got.ttl().unwrap_or(0))
    };
    let executions = book.executions.iter();
    executions
        .filter_map(|e| hit(e.request))
        .map(|ttl| match ttl {
            1.. => "refreshed early",
            _ => "refreshed while a stale one was served",
        })
        .collect()
}

/// Changes that came while what they outdated was on its way.
fn races(book: &Book) -> Vec<&'static str> {
    let mut notes = Vec::new();
    for change in book.made.iter().filter(|m| m.changed) {
        let raced = book.executions.iter().any(|e| {
            let other = book.visits.get(&e.request);
            other.is_some_and(|v| v.asked.page == change.rep.page && v.asked.is_plain())
                && e.began < change.at
                && e.ended.is_some_and(|end| end > change.at)
        });
        notes.extend(raced.then_some("a change raced a fetch"));
    }
    notes
}

/// Pages that were stored, would still be fresh, and are gone.
fn evictions(book: &Book) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let mut kept: BTreeMap<(usize, usize), Tick> = BTreeMap::new();
    for visit in book.visits.values() {
        let Some(got) = &visit.got else {
            continue;
        };
        let place = (visit.replica, visit.asked.page);
        if visit.asked.method == "POST" {
            kept.remove(&place);
        } else if got.says("stored") && got.ttl().is_some_and(|t| t > 0) && got.whole {
            let ttl = u64::try_from(got.ttl().unwrap_or(0)).unwrap_or(0);
            kept.insert(place, got.at + Duration::from_secs(ttl));
        } else if got.says("fwd=uri-miss")
            && !got.says("collapsed")
            && kept.remove(&place).is_some_and(|until| got.at < until)
        {
            notes.push("gave way to others");
        }
    }
    notes
}
