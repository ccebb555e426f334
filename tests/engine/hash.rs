//! Hashing: a key has its own backend, whoever asks and in whatever state; what moves it, how far, and that it comes back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{BackendId, Meta, Offer, Outcome, Slot, Strategy as Rule};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::{admitted, grants, spec, upstream, weighted, without};

const T0: Tick = Tick::ZERO;
const UNBOUNDED: Rule = Rule::Hash { load_percent: None };

fn of(client: u64) -> Meta {
    let mut meta = Meta::first(T0);
    meta.client = client;
    meta
}

fn run(u: &mut Upstream, client: u64) -> Slot {
    admitted(u.offer(T0, &of(client), &mut NoTrace))
}

fn finish(u: &mut Upstream, slot: Slot, outcome: Outcome) {
    u.finish(T0, slot, outcome, &mut NoTrace);
}

/// Where each of these clients goes while nothing else runs.
fn owners(u: &mut Upstream, clients: u64) -> Vec<BackendId> {
    (0..clients)
        .map(|client| {
            let slot = run(u, client);
            let owner = slot.backend;
            finish(u, slot, Outcome::Success);
            owner
        })
        .collect()
}

fn moved(before: &[BackendId], after: &[BackendId], but: BackendId) -> usize {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|&(a, b)| a != b && *a != but && *b != but)
        .count()
}

#[test]
fn a_restart_with_another_seed_and_another_order_changes_no_owner() {
    let before = owners(&mut upstream(weighted(Rule::HASH, &[3, 1, 4, 1, 5])), 2000);
    let mut spec = weighted(Rule::HASH, &[3, 1, 4, 1, 5]);
    spec.backends.reverse();
    let after = owners(&mut Upstream::new(T0, spec, Rng::new(99)), 2000);
    assert_eq!(before, after);
}

#[test]
fn keys_are_shared_by_weight() {
    let weights = [1, 2, 3, 4];
    let owners = owners(&mut upstream(weighted(Rule::HASH, &weights)), 20_000);
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner.0).or_insert(0_u32) += 1;
    }
    for (id, weight) in (0..).zip(weights) {
        // 2,000 for each unit; the standard deviation is at most 70.
        assert!(counts[&id].abs_diff(2000 * weight) < 300, "{counts:?}");
    }
}

#[test]
fn a_reload_that_removes_a_backend_moves_its_keys_and_few_others() {
    for n in [2_u32, 5, 20, 100] {
        let all = weighted(Rule::HASH, &vec![1; n as usize]);
        let mut u = upstream(all.clone());
        let before = owners(&mut u, 10_000);
        u.apply(T0, without(all.clone(), n / 2), &mut NoTrace);
        let without_it = owners(&mut u, 10_000);
        assert!(!without_it.contains(&BackendId(n / 2)));
        let others = moved(&before, &without_it, BackendId(n / 2));
        assert!(others <= 300, "{others} of 10000 with {n} backends");
        u.apply(T0, all, &mut NoTrace);
        assert_eq!(owners(&mut u, 10_000), before, "all are back");
    }
}

#[test]
fn a_backend_that_fails_loses_its_keys_alone_and_gets_them_back() {
    let mut u = upstream(weighted(Rule::HASH, &[1; 8]));
    let before = owners(&mut u, 2000);
    let slot = run(&mut u, 0);
    let failed = slot.backend;
    finish(&mut u, slot, Outcome::Died);
    let meanwhile = owners(&mut u, 2000);
    assert_eq!(moved(&before, &meanwhile, failed), 0);
    let heirs: Vec<_> = before
        .iter()
        .zip(&meanwhile)
        .filter(|(a, _)| **a == failed)
        .map(|(_, b)| *b)
        .collect();
    for id in (0..8).map(BackendId).filter(|id| *id != failed) {
        assert!(heirs.contains(&id), "its keys spread over all others");
    }
    assert_eq!(owners(&mut u, 2000), meanwhile, "and stay there");
    u.poll(Tick::from_millis(1000), &mut NoTrace);
    assert_eq!(owners(&mut u, 2000), before);
}

#[test]
fn a_full_backend_is_passed_over_until_it_has_room() {
    let mut u = upstream(spec(UNBOUNDED, &[(1, Some(1)), (1, Some(1)), (1, Some(1))]));
    let own = run(&mut u, 7);
    let next = run(&mut u, 7);
    assert_ne!(own.backend, next.backend);
    let (first, second) = (own.backend, next.backend);
    finish(&mut u, own, Outcome::Success);
    let again = run(&mut u, 7);
    assert_eq!(again.backend, first);
    finish(&mut u, next, Outcome::Success);
    assert_eq!(run(&mut u, 7).backend, second, "the walk is the key's own");
    finish(&mut u, again, Outcome::Success);
}

#[test]
fn a_retry_goes_where_the_walk_leads_and_not_back() {
    let mut u = upstream(weighted(Rule::HASH, &[1; 5]));
    let first = run(&mut u, 3);
    let mut retry = of(3);
    retry.exclude.insert(first.backend);
    let second = admitted(u.offer(T0, &retry, &mut NoTrace));
    assert_ne!(first.backend, second.backend);
    finish(&mut u, first, Outcome::Cancelled);
    let heir = second.backend;
    finish(&mut u, second, Outcome::Success);
    let again = admitted(u.offer(T0, &retry, &mut NoTrace));
    assert_eq!(again.backend, heir);
    finish(&mut u, again, Outcome::Success);
}

#[test]
fn a_waiter_keeps_its_key() {
    for client in 0..50 {
        let backends = [(1, Some(1)), (1, Some(1)), (1, Some(1))];
        let mut spec = spec(UNBOUNDED, &backends);
        spec.max_in_flight = Some(1);
        let mut u = upstream(spec);
        let owner = owners(&mut u, 50)[client as usize];
        let slot = run(&mut u, 1000);
        let offer = u.offer(T0, &of(client), &mut NoTrace);
        assert!(matches!(offer, Offer::Wait(_)));
        finish(&mut u, slot, Outcome::Success);
        let granted = grants(&mut u).remove(0).verdict.expect("a slot");
        assert_eq!(granted.backend, owner);
        finish(&mut u, granted, Outcome::Success);
    }
}

#[test]
fn without_a_bound_a_hot_key_stays_and_with_one_it_spreads_no_more_than_it_must() {
    let mut sticky = upstream(weighted(UNBOUNDED, &[1; 10]));
    let slots: Vec<Slot> = (0..100).map(|_| run(&mut sticky, 1)).collect();
    assert!(slots.iter().all(|s| s.backend == slots[0].backend));
    let mut bounded = upstream(weighted(Rule::HASH, &[1; 10]));
    let slots: Vec<Slot> = (0..100).map(|_| run(&mut bounded, 1)).collect();
    let mut counts = BTreeMap::new();
    for slot in &slots {
        *counts.entry(slot.backend).or_insert(0) += 1;
    }
    // A quarter above ten each, rounded up.
    assert!(counts.values().all(|&n| n <= 13), "{counts:?}");
    assert_eq!(counts[&slots[0].backend], 13, "its own has all that it may");
}

proptest! {
    /// Whatever comes and goes, no backend is given more than its bound, and nobody who could run waits.
    #[test]
    fn load_stays_within_the_bound(
        weights in prop::collection::vec(1_u32..6, 1..12),
        percent in 100_u32..300,
        ops in prop::collection::vec((any::<bool>(), 0_u64..6, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut u = upstream(weighted(Rule::Hash { load_percent: Some(percent) }, &weights));
        let total: u32 = weights.iter().sum();
        let mut running: Vec<Slot> = Vec::new();
        for (more, client, index) in ops {
            if more || running.is_empty() {
                let slot = run(&mut u, client);
                let place = slot.backend.0 as usize;
                running.push(slot);
                let is = u.status().backends[place].in_flight;
                let all = running.len() as u32;
                prop_assert!(is <= (all * weights[place] * percent).div_ceil(100 * total));
            } else {
                let slot = running.swap_remove(index.index(running.len()));
                finish(&mut u, slot, Outcome::Success);
            }
        }
    }
}
