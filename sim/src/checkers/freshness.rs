//! Nothing is served older than its freshness and the staleness that is allowed, and nothing from before a change that the
//! visitor could know of (RFC 9111 sections 4.2 and 4.4, RFC 5861).
//!
//! A cache counts whole seconds from the moment that it has the head, and rounds the time of the fetch down: where fetches may
//! take long, that is a second of grace. What a request led to itself is as new as it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weirkeeper::cache::rules::Rules;
use weirkeeper::time::Tick;

use super::flight::is_simple;
use crate::ledger::{Asked, End, Got, Made, Visit};
use crate::model::content::Rep;
use crate::plan::Plan;
use crate::run::Run;
use crate::scenario::fault::{Fault, FaultKind};

/// Longer than any fetch takes, and far from what clocks step by.
const FETCH: Duration = Duration::from_secs(60);

/// Memory in which nothing gives way to others.
const AMPLE: u64 = 8 << 20;

/// How long another replica may still serve what was changed, while Redis is well.
const PROPAGATION: Duration = Duration::from_millis(500);

pub(super) fn check(run: &Run) -> Vec<String> {
    if run.plan.site.is_none() {
        return Vec::new();
    }
    // What a request led to: an answer, or the word that what is stored is still good.
    let anybodys = |rep: Rep| Rep { user: 0, ..rep };
    let made = run.book.made.iter();
    let own: BTreeSet<(u64, Rep)> = made.map(|m| (m.request, anybodys(m.rep))).collect();
    let mut found: Vec<String> = answers(run)
        .filter(|(id, _, _, made)| !own.contains(&(*id, anybodys(made.rep))))
        .filter_map(|(id, visit, got, made)| {
            let what = too_old(&run.plan, &visit.asked, got, made)?;
            let (cache, terms) = (&got.cache, made.terms.field());
            let at = got.at;
            Some(format!(
                "visit {id} at {at} ({:?}): {what}; {terms}; made at {}; {cache}",
                visit.asked, made.at
            ))
        })
        .take(5)
        .collect();
    found.extend(outdated(run).into_iter().take(5));
    found.extend(expired(run).into_iter().take(5));
    found
}

/// What was taken for stale while it was fresh: an answer of the same replica that had come whole before has said for how long,
/// and nothing else has become of that page.
fn expired(run: &Run) -> Vec<String> {
    let (plan, book) = (&run.plan, &run.book);
    let Some(site) = &plan.site else {
        return Vec::new();
    };
    if plan.config.cache.memory < AMPLE {
        return Vec::new();
    }
    let simple = |page: usize| {
        let changed = |m: &Made| m.changed && m.rep.page == page;
        is_simple(&site.pages[page]) && !book.made.iter().any(changed)
    };
    let request = |id: u64| book.requests.get(usize::try_from(id).ok()?);
    // When each replica's answers have said that a page ends to be fresh, at the earliest, and since when that was known.
    let mut said: BTreeMap<(usize, usize), Vec<(Tick, Tick)>> = BTreeMap::new();
    for (id, visit, got, _) in answers(run).filter(|(_, v, _, _)| simple(v.asked.page)) {
        let there = got.is_hit() || got.says("stored");
        let end = request(id).and_then(|r| r.end);
        let (Some((end, _)), Some(ttl), true) = (end, got.ttl(), there && got.whole) else {
            continue;
        };
        let Some(ttl) = u64::try_from(ttl).ok().and_then(|ttl| ttl.checked_sub(1)) else {
            continue;
        };
        let fresh = got.at + Duration::from_secs(ttl);
        let place = (visit.replica, visit.asked.page);
        said.entry(place).or_default().push((end, fresh));
    }
    let stale = answers(run).filter(|(_, v, got, _)| v.asked.is_plain() && got.says("fwd=stale"));
    stale
        .filter_map(|(id, visit, got, _)| {
            let offered = request(id)?.offered;
            let known = said.get(&(visit.replica, visit.asked.page))?;
            let slack = transit(plan) + Duration::from_millis(200);
            let early = |(end, fresh): &&(Tick, Tick)| *end <= offered && got.at + slack < *fresh;
            let (_, fresh) = known.iter().find(early)?;
            let (at, page) = (got.at, visit.asked.page);
            Some(format!(
                "visit {id} got page {page} at {at} because what lay there was stale, and it was fresh until {fresh}"
            ))
        })
        .collect()
}

fn answers(run: &Run) -> impl Iterator<Item = (u64, &Visit, &Got, &Made)> {
    let book = &run.book;
    book.visits.iter().filter_map(|(id, visit)| {
        let got = visit.got.as_ref()?;
        let made = book.made.get(got.made?)?;
        (visit.asked.method != "POST").then_some((*id, visit, got, made))
    })
}

/// Messages on their way, and pieces of them.
fn transit(plan: &Plan) -> Duration {
    2 * plan.jitter + Duration::from_millis(20)
}

/// How long a record of what was made at `made` may be on its way into a Redis that is slow or stalls. Its time there begins
/// only then, and it tells whoever finds it how much of that is left.
fn redis_delay(plan: &Plan, made: Tick) -> Duration {
    let delay = |fault: &Fault| {
        let begins = Tick::ZERO + plan.warmup + fault.at.0;
        let ends = begins + fault.lasts.0;
        match fault.kind {
            FaultKind::RedisSlow => Duration::from_secs_f64(fault.factor / 1e3),
            FaultKind::RedisStall if made + transit(plan) >= begins => ends.since(made),
            _ => Duration::ZERO,
        }
    };
    plan.faults.iter().map(delay).sum()
}

fn too_old(plan: &Plan, asked: &Asked, got: &Got, made: &Made) -> Option<String> {
    let fallback = Rules::default();
    let mut routes = plan.config.listeners.first()?.routes.iter();
    let cached = routes.find_map(|route| route.cache.as_deref());
    let rules = cached.unwrap_or(&fallback);
    let terms = &made.terms;
    if terms.no_cache {
        return Some("no-cache, and not validated for it".to_string());
    }
    if asked.no_cache {
        return Some("it was to be validated".to_string());
    }
    let seconds = |n: u32| Duration::from_secs(n.into());
    let lifetime = rules.ttl.or(terms.lifetime().map(seconds));
    let lifetime = lifetime.or(rules.default_ttl).unwrap_or_default();
    let said = terms.stale_while_revalidate.map(seconds);
    let revalidated = said.unwrap_or(rules.stale_while_revalidate);
    let said = terms.stale_if_error.map(seconds);
    let failed = said.unwrap_or(rules.stale_if_error);
    let mut stale = match asked.max_age {
        None => revalidated,
        Some(_) => Duration::ZERO,
    };
    if got.is_forwarded() {
        stale = stale.max(failed);
    }
    if let Some(max) = asked.max_stale {
        stale = stale.max(seconds(max + 1));
    }
    if terms.is_strict() {
        stale = Duration::ZERO;
    }
    let grace = match is_quick(plan) {
        true => transit(plan),
        false => transit(plan) + Duration::from_secs(1),
    };
    let grace = grace + redis_delay(plan, made.at);
    let old = seconds(terms.age) + got.at.since(made.at);
    if old > lifetime + stale + grace {
        return Some(format!("{old:?} old, fresh for {lifetime:?} and {stale:?}"));
    }
    if let Some(max) = asked.max_age
        && old > seconds(max + 1) + grace
    {
        return Some(format!("{old:?} old, and {max} s were asked for"));
    }
    let age = Duration::from_secs(got.age.unwrap_or(0));
    if age + Duration::from_secs(1) + grace < old {
        return Some(format!("{old:?} old, and its Age says {age:?}"));
    }
    // The time that a fetch takes counts as age before anything is made (RFC 9111 section 4.2.3).
    if age > old + FETCH {
        return Some(format!("{old:?} old, and its Age says {age:?}"));
    }
    None
}

/// Do answers come at once when they are made?
fn is_quick(plan: &Plan) -> bool {
    plan.faults.iter().all(|f| f.kind.spares_backends())
}

/// What is older than a change whose answer had come before it was asked for.
fn outdated(run: &Run) -> Vec<String> {
    let book = &run.book;
    let end = |id: u64| {
        let request = book.requests.get(usize::try_from(id).ok()?)?;
        Some((request.offered, request.end?))
    };
    let changes: Vec<(usize, usize, Tick, Tick)> = book
        .visits
        .iter()
        .filter_map(|(id, visit)| {
            let made = book.made.get(visit.got.as_ref()?.made?)?;
            let (_, (ended, end)) = end(*id)?;
            let known = made.changed && matches!(end, End::Answered { .. });
            known.then_some((visit.replica, visit.asked.page, made.at, ended))
        })
        .collect();
    let untouched = run.plan.faults.iter().all(|f| !f.kind.is_redis());
    let mut found = Vec::new();
    for (id, visit, got, made) in answers(run) {
        let Some((offered, _)) = end(id) else {
            continue;
        };
        let before = changes.iter().find(|(replica, page, at, ended)| {
            let known = match *replica == visit.replica {
                true => offered > *ended,
                false => {
                    let shared = run.plan.redis.is_some() && untouched;
                    shared && offered > *ended + PROPAGATION
                }
            };
            *page == visit.asked.page && known && made.at < *at
        });
        if let Some((replica, page, at, ended)) = before {
            found.push(format!(
                "visit {id} of replica {} offered at {offered} got page {page} as made at {}; it was changed at {at} by way \
                 of replica {replica}, which had said so at {ended}; {}",
                visit.replica, made.at, got.cache
            ));
        }
    }
    found
}
