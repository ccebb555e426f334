//! Rare states that a suite of seeds must reach, or it proves less than it seems to. The book counts them as they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use weirkeeper::time::Tick;

use weirkeeper::engine::trace::Event;
use weirkeeper::engine::{Outcome, Strategy};

use crate::ledger::l4::{Conn, Heard};
use crate::ledger::{Book, End, Request};
use crate::plan::Plan;

/// What must be reached over all seeds of a suite.
pub const SOMETIMES: &[&str] = &[
    "a backend was checked",
    "a backend was removed under load",
    "checks found a backend down",
    "checks found a backend up again",
    "another generation came under load",
    "answered poorly by one backend after another",
    "back from an ejection",
    "ejected for failures in a row",
    "ejected for its share of failures",
    "ejected for late answers",
    "fail",
    "not ejected, since too many are out",
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
    "granted, and gone before it ran",
    "hang",
    "idempotent, and sent again with its body",
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
    "the proxy stopped under load",
];

/// What must be reached over all seeds of a suite of worlds with caches.
pub const CACHED: &[&str] = &[
    "a backend was removed under load",
    "another generation came under load",
    "a change raced a fetch",
    "a part out of a whole",
    "a part out of parts",
    "a visitor has it already",
    "a visitor has what may not be stored",
    "Redis lied",
    "broken answer",
    "cacheable body broken off",
    "clock_step",
    "fetched anew behind a body that broke off",
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

/// What must be reached beside it over all seeds of a suite of worlds that have unruly clients, which are both of those above.
pub const UNRULY: &[&str] = &[
    "a claim was kept from a backend",
    "a closed path in some spelling",
    "a backend sent interim responses",
    "a body was still to come behind an answer",
    "a client said its end behind a whole request",
    "a client was told to go on",
    "a connection went on behind a body that nobody read",
    "a late body behind a backend's early answer",
    "a late body behind an answer of the proxy's own",
    "a pipelined pair was answered",
    "an unruly client left before its answer",
    "an unruly client left within its answer",
    "an unruly client left within its body",
    "an unruly client left within its head",
    "answered early, and left",
    "answered early, and the body came behind the answer",
    "answered early, and the body never came",
    "the proxy answered before the body was there",
];

/// What must be reached over all seeds of a suite of worlds with a listener that has a minimum rate.
pub const SLOW: &[&str] = &[
    "a dripped body was given up",
    "a slow body was taken whole",
    "a slow reader got all of its answer",
    "an answer that was hardly read came to its end",
    "the last request of a connection",
];

/// What must be reached over all seeds of a suite of worlds over HTTP/2 and TLS.
pub const HTTP2: &[&str] = &[
    "a backend was removed under load",
    "another generation came under load",
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

/// What must be reached over all seeds of a suite of worlds of L4.
pub const L4: &[&str] = &[
    "a backend was removed under load",
    "another generation came under load",
    "a backend ended first",
    "a client ended first",
    "a client was reset",
    "ended before it heard who calls",
    "a header was missing",
    "a header was passed on",
    "a large datagram",
    "a reply came to nobody",
    "a reply for each of several",
    "a session expired",
    "a session gave way to others",
    "an empty datagram",
    "backed off",
    "blackhole",
    "broke off within its answer",
    "cancelled while running",
    "cancelled while waiting",
    "chopped",
    "closed with something unread",
    "connection refused",
    "crash",
    "dialled again",
    "died before its answer",
    "hang",
    "hashed",
    "left without a word",
    "more came before a reply than may pass",
    "queued",
    "refuse",
    "reset",
    "restart",
    "shed: queue full",
    "shed: queue timeout",
    "silent for too long",
    "slow",
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
        let barred = made.terms.no_store || made.terms.private || made.terms.set_cookie;
        let whole = made.status == 200;
        note(
            got.status == 304 && whole && barred,
            "a visitor has what may not be stored",
        );
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
    notes.extend(renewals(book));
    notes.extend(refreshes(book));
    notes.extend(races(book));
    notes.extend(evictions(book));
    notes
}

/// Requests whose fetch broke off, and that got what another brought.
fn renewals(book: &Book) -> Vec<&'static str> {
    let broken = book.made.iter().filter(|m| m.broken);
    let whole = broken.filter(|m| {
        let visit = book.visits.get(&m.request);
        let got = visit.and_then(|v| v.got.as_ref());
        got.is_some_and(|g| g.whole && g.status == 200 && !g.is_hit())
    });
    whole
        .map(|_| "fetched anew behind a body that broke off")
        .collect()
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

/// Rare states of L4, which the book shows when all is over.
pub fn of_l4(book: &Book, plan: &Plan) -> Vec<&'static str> {
    let mut notes = Vec::new();
    for conn in book.l4.conns.values() {
        let mut note = |on: bool, what: &'static str| notes.extend(on.then_some(what));
        let reset = conn.end.heard == Some(Heard::Reset);
        note(reset, "a client was reset");
        note(conn.barred, "a header was missing");
        let silent = conn.end.sent == 0 && conn.unwilling;
        note(silent && !conn.end.broke, "left without a word");
        let Some(joint) = conn.joint.and_then(|j| book.l4.joints.get(j)) else {
            continue;
        };
        let both = conn.end.heard == Some(Heard::End) && joint.end.heard == Some(Heard::End);
        note(both && joint.first, "a backend ended first");
        note(both && !joint.first, "a client ended first");
        note(
            joint.end.broke && joint.end.ended,
            "closed with something unread",
        );
        note(waited(conn, plan) && both, "a header was passed on");
        note(joint.conn.is_none(), "ended before it heard who calls");
        let quiet = reset && joint.end.heard == Some(Heard::Reset) && !conn.end.broke;
        note(
            quiet && joint.willing && !joint.end.broke,
            "silent for too long",
        );
    }
    notes.extend(sessions(book, plan));
    notes.extend(dials(book));
    let hashed =
        |u: &weirkeeper::config::model::Upstream| matches!(u.spec.strategy, Strategy::Hash { .. });
    notes.extend(plan.config.upstreams.iter().any(hashed).then_some("hashed"));
    notes
}

/// Is the backend told of somebody whom a header named?
fn waited(conn: &Conn, plan: &Plan) -> bool {
    let listener = &plan.config.listeners[conn.listener];
    let upstream = listener.leads_to(None).map(|u| &plan.config.upstreams[u]);
    listener.proxy_protocol.is_some() && upstream.is_some_and(|u| u.proxy_protocol.is_some())
}

/// Dials that failed and were made up for at once.
fn dials(book: &Book) -> Vec<&'static str> {
    let failed = |(u, at, event): &(usize, Tick, Event)| match event {
        Event::Finished(_, Outcome::Refused) => Some((*u, *at)),
        _ => None,
    };
    let again = |pair: &[(usize, Tick, Event)]| {
        let picked = matches!(pair[1].2, Event::Picked { waiter: None, .. });
        picked && failed(&pair[0]) == Some((pair[1].0, pair[1].1))
    };
    let without: Vec<_> = book
        .engine
        .iter()
        .filter(|(_, _, e)| !matches!(e, Event::BackedOff(..)))
        .copied()
        .collect();
    let found = without.windows(2).filter(|pair| again(pair));
    found.map(|_| "dialled again").collect()
}

/// What became of sessions.
fn sessions(book: &Book, plan: &Plan) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let sessions = &book.l4.sessions;
    for (number, session) in sessions.iter().enumerate() {
        let asker = session.asker.and_then(|id| book.l4.askers.get(&id));
        let Some(asker) = asker else {
            continue;
        };
        let mut note = |on: bool, what: &'static str| notes.extend(on.then_some(what));
        let lost = session.replies.iter().any(|r| !r.got);
        note(lost, "a reply came to nobody");
        let several = session.replies.iter().filter(|r| r.got).count() > 1;
        note(several, "a reply for each of several");
        let large = session.replies.iter().any(|r| r.got && r.size > 20_000);
        note(large, "a large datagram");
        let unanswered = session.replies.is_empty() && session.received >= 8;
        note(
            unanswered && asker.all > 8,
            "more came before a reply than may pass",
        );
        let mut later = sessions[number + 1..].iter();
        if let Some(later) = later.find(|s| s.asker == session.asker) {
            let idle = plan.config.listeners[asker.listener].timeouts.session;
            let silent = later.first.since(session.last) >= idle;
            note(silent, "a session expired");
            note(
                !silent && plan.faults.is_empty(),
                "a session gave way to others",
            );
        }
    }
    notes
}
