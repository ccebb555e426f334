//! A reload changes the spec and loses nothing: requests in flight, waiters, back-offs, and who was owed how much.

use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::{BackendId, BackendSpec, Meta, Offer, Outcome, ShedReason, Strategy};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::{grants, run, spec, turn, upstream, weighted, without};

const T0: Tick = Tick::ZERO;

#[test]
fn reloads_at_every_pick_leave_the_bound_as_it_is() {
    let weights = [17_i64, 11, 7, 3, 1, 1];
    let total: i64 = weights.iter().sum();
    let weighted = weighted(Strategy::WeightedRoundRobin, &weights.map(|w| w as u32));
    let mut u = upstream(weighted.clone());
    let mut rng = Rng::new(4);
    let mut counts = [0_i64; 6];
    for n in 1..=10 * total {
        counts[turn(&mut u)] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            // 1 - 1/10 picks, times the total.
            assert!((n * weight - count * total).abs() * 10 <= 9 * total);
        }
        // The same backends in another order.
        let mut spec = weighted.clone();
        for i in (1..6).rev() {
            spec.backends.swap(i, rng.below(i as u64 + 1) as usize);
        }
        u.apply(T0, spec, &mut NoTrace);
    }
}

#[test]
fn who_was_owed_before_a_change_of_weights_is_owed_after_it() {
    // Of weights 9 to 1, the first prefixes go to backend 0 for as long as the bound allows; backend 1 is then owed up to half a
    // pick. With weights equal from there on, it must come first.
    let mut u = upstream(weighted(Strategy::WeightedRoundRobin, &[9, 1]));
    let first: Vec<_> = (0..4).map(|_| turn(&mut u)).collect();
    assert_eq!(first, [0; 4]);
    u.apply(
        T0,
        weighted(Strategy::WeightedRoundRobin, &[1, 1]),
        &mut NoTrace,
    );
    assert_eq!([turn(&mut u), turn(&mut u)], [1, 0]);
}

#[test]
fn a_hundred_removals_and_returns_leave_shares_even() {
    let all = weighted(Strategy::WeightedRoundRobin, &[5, 3, 2, 2, 1]);
    let mut u = upstream(all.clone());
    let mut rng = Rng::new(9);
    for _ in 0..100 {
        let gone = rng.below(5) as u32;
        u.apply(T0, without(all.clone(), gone), &mut NoTrace);
        (0..rng.below(20)).for_each(|_| assert_ne!(turn(&mut u), gone as usize));
        u.apply(T0, all.clone(), &mut NoTrace);
        for _ in 0..rng.below(20) {
            turn(&mut u);
        }
    }
    let mut counts = [0_i64; 5];
    (0..13 * 20).for_each(|_| counts[turn(&mut u)] += 1);
    for (count, weight) in counts.iter().zip([5, 3, 2, 2, 1]) {
        assert!((count - 20 * weight).abs() <= 3, "{counts:?}");
    }
}

#[test]
fn a_removed_backend_counts_until_its_last_slot_is_back() {
    let mut two = spec(Strategy::RoundRobin, &[(1, Some(1)), (1, Some(1))]);
    two.max_in_flight = Some(2);
    let mut u = upstream(two.clone());
    let (zero, one) = (run(&mut u), run(&mut u));
    u.apply(T0, without(two, 0), &mut NoTrace);
    assert_eq!((u.in_flight(), u.status().backends.len()), (2, 1));
    u.finish(T0, one, Outcome::Success, &mut NoTrace);
    let again = run(&mut u);
    assert_eq!(again.backend, BackendId(1));
    // The upstream's bound of two is reached by the one that is leaving.
    let offer = u.offer(T0, &Meta::first(T0), &mut NoTrace);
    assert!(matches!(offer, Offer::Wait(_)));
    u.finish(T0, zero, Outcome::Success, &mut NoTrace);
    assert_eq!(u.in_flight(), 1);
    u.finish(T0, again, Outcome::Success, &mut NoTrace);
    assert_eq!(grants(&mut u).len(), 1);
}

#[test]
fn a_backend_that_returns_finds_its_requests_still_running() {
    let two = spec(Strategy::LeastRequest, &[(1, Some(1)), (1, Some(1))]);
    let mut u = upstream(two.clone());
    let (zero, _one) = (run(&mut u), run(&mut u));
    u.apply(T0, without(two.clone(), 0), &mut NoTrace);
    u.apply(T0, two, &mut NoTrace);
    let full = u.offer(T0, &Meta::first(T0), &mut NoTrace);
    assert!(
        matches!(full, Offer::Wait(_)),
        "both still run one: {full:?}"
    );
    u.finish(T0, zero, Outcome::Success, &mut NoTrace);
    let grants = grants(&mut u);
    let slot = grants[0].verdict.as_ref().expect("a slot");
    assert_eq!(slot.backend, BackendId(0));
}

#[test]
fn waiters_stay_and_take_what_a_reload_adds() {
    let mut spec = spec(Strategy::RoundRobin, &[(1, Some(1))]);
    let mut u = upstream(spec.clone());
    let _slot = run(&mut u);
    for _ in 0..3 {
        let offer = u.offer(T0, &Meta::first(T0), &mut NoTrace);
        assert!(matches!(offer, Offer::Wait(_)));
    }
    spec.queue.capacity = 1;
    spec.backends.push(BackendSpec {
        id: BackendId(5),
        weight: 1,
        max_in_flight: Some(1),
        key: 5,
    });
    u.apply(T0, spec, &mut NoTrace);
    assert_eq!(grants(&mut u).len(), 1);
    // Two are above the new capacity, and stay; a third is refused.
    assert_eq!(u.waiting(), 2);
    let full = Offer::Shed(ShedReason::QueueFull);
    assert_eq!(u.offer(T0, &Meta::first(T0), &mut NoTrace), full);
}

#[test]
fn a_waiter_whose_last_backend_is_removed_is_told_so() {
    let two = spec(Strategy::PowerOfTwo, &[(1, Some(1)), (1, Some(1))]);
    let mut u = upstream(two.clone());
    let _slots = [run(&mut u), run(&mut u)];
    let mut picky = Meta::first(T0);
    picky.exclude.insert(BackendId(1));
    let offer = u.offer(T0, &picky, &mut NoTrace);
    assert!(matches!(offer, Offer::Wait(_)));
    u.apply(T0, without(two, 0), &mut NoTrace);
    assert_eq!(grants(&mut u)[0].verdict, Err(ShedReason::NoBackend));
}

#[test]
fn a_back_off_survives_a_reload() {
    let two = spec(Strategy::RoundRobin, &[(1, None), (1, None)]);
    let mut u = upstream(two.clone());
    let slot = run(&mut u);
    u.finish(T0, slot, Outcome::Died, &mut NoTrace);
    let before = u.status();
    let mut reversed = two;
    reversed.backends.reverse();
    u.apply(T0, reversed, &mut NoTrace);
    let mut after = u.status();
    after.backends.reverse();
    assert_eq!(after, before);
    assert!((0..4).all(|_| run(&mut u).backend == BackendId(1)));
}
