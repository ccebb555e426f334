//! What the engine promises, one short story each.

use std::time::Duration;

use weirkeeper::engine::trace::{Event, NoTrace};
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{
    BackendId, Grant, Meta, Offer, Outcome, ShedReason, Slot, Strategy, UpstreamSpec, WaiterId,
};
use weirkeeper::time::Tick;

use super::{admitted, grants, spec, upstream};

const T0: Tick = Tick::ZERO;

fn at(ms: u64) -> Tick {
    Tick::from_millis(ms)
}

fn one_slot() -> UpstreamSpec {
    spec(Strategy::RoundRobin, &[(1, Some(1))])
}

fn excluding(now: Tick, ids: &[u32]) -> Meta {
    let mut meta = Meta::first(now);
    ids.iter()
        .for_each(|&id| meta.exclude.insert(BackendId(id)));
    meta
}

fn offer(upstream: &mut Upstream, now: Tick, meta: &Meta) -> Offer {
    upstream.offer(now, meta, &mut NoTrace)
}

fn run(upstream: &mut Upstream, now: Tick) -> Slot {
    admitted(offer(upstream, now, &Meta::first(now)))
}

fn wait(upstream: &mut Upstream, now: Tick, meta: &Meta) -> WaiterId {
    match offer(upstream, now, meta) {
        Offer::Wait(waiter) => waiter,
        other => panic!("waits, not {other:?}"),
    }
}

fn granted(upstream: &mut Upstream) -> Vec<(WaiterId, Slot)> {
    grants(upstream)
        .into_iter()
        .map(|Grant { waiter, verdict }| (waiter, verdict.expect("a slot")))
        .collect()
}

fn finish(upstream: &mut Upstream, now: Tick, slot: Slot, outcome: Outcome) {
    upstream.finish(now, slot, outcome, &mut NoTrace);
}

#[test]
fn waiters_run_in_the_order_of_their_arrival() {
    let mut u = upstream(one_slot());
    let mut slot = run(&mut u, T0);
    let waiters: Vec<_> = (1..=5)
        .map(|ms| wait(&mut u, at(ms), &Meta::first(at(ms))))
        .collect();
    for expected in waiters {
        finish(&mut u, at(10), slot, Outcome::Success);
        let mut grants = granted(&mut u);
        assert_eq!(grants.len(), 1);
        let (waiter, next) = grants.remove(0);
        assert_eq!(waiter, expected);
        slot = next;
    }
    finish(&mut u, at(10), slot, Outcome::Success);
    assert_eq!(u.in_flight(), 0);
}

#[test]
fn a_retry_keeps_its_place_in_time() {
    let mut u = upstream(one_slot());
    let slot = run(&mut u, T0);
    let later = wait(&mut u, at(5), &Meta::first(at(5)));
    let retry = wait(&mut u, at(6), &Meta::first(at(1)));
    finish(&mut u, at(7), slot, Outcome::Success);
    let (waiter, slot) = granted(&mut u).remove(0);
    assert_eq!(waiter, retry);
    finish(&mut u, at(8), slot, Outcome::Success);
    assert_eq!(granted(&mut u)[0].0, later);
}

#[test]
fn a_cancelled_waiter_frees_its_place_at_once() {
    let mut spec = one_slot();
    spec.queue.capacity = 1;
    let mut u = upstream(spec);
    let slot = run(&mut u, T0);
    let first = wait(&mut u, T0, &Meta::first(T0));
    let full = Offer::Shed(ShedReason::QueueFull);
    assert_eq!(offer(&mut u, T0, &Meta::first(T0)), full);
    assert!(u.cancel(T0, first, &mut NoTrace));
    let second = wait(&mut u, T0, &Meta::first(T0));
    finish(&mut u, T0, slot, Outcome::Success);
    let (waiter, _slot) = granted(&mut u).remove(0);
    assert_eq!(waiter, second);
    assert!(!u.cancel(T0, second, &mut NoTrace), "it was granted");
}

#[test]
fn a_granted_waiter_that_went_away_gives_its_slot_on() {
    let mut u = upstream(one_slot());
    let slot = run(&mut u, T0);
    let gone = wait(&mut u, T0, &Meta::first(T0));
    let next = wait(&mut u, T0, &Meta::first(T0));
    finish(&mut u, T0, slot, Outcome::Success);
    let (waiter, slot) = granted(&mut u).remove(0);
    assert_eq!(waiter, gone);
    finish(&mut u, T0, slot, Outcome::Cancelled);
    assert_eq!(granted(&mut u)[0].0, next);
}

#[test]
fn a_queue_without_places_sheds_what_cannot_run_at_once() {
    let mut spec = one_slot();
    spec.queue.capacity = 0;
    let mut u = upstream(spec);
    let _slot = run(&mut u, T0);
    let full = Offer::Shed(ShedReason::QueueFull);
    assert_eq!(offer(&mut u, T0, &Meta::first(T0)), full);
}

#[test]
fn waiting_ends_at_the_timeout_or_the_deadline_whichever_is_first() {
    let mut u = upstream(one_slot());
    let _slot = run(&mut u, T0);
    let patient = wait(&mut u, T0, &Meta::first(T0));
    let mut meta = Meta::first(T0);
    meta.deadline = Some(at(300));
    let hasty = wait(&mut u, T0, &meta);
    assert_eq!(u.next_deadline(), Some(at(300)));
    u.poll(at(299), &mut NoTrace);
    assert_eq!(grants(&mut u), []);
    u.poll(at(300), &mut NoTrace);
    let shed = |waiter, reason| Grant {
        waiter,
        verdict: Err(reason),
    };
    assert_eq!(grants(&mut u), [shed(hasty, ShedReason::Deadline)]);
    assert_eq!(u.next_deadline(), Some(at(5000)));
    u.poll(at(5000), &mut NoTrace);
    assert_eq!(grants(&mut u), [shed(patient, ShedReason::QueueTimeout)]);
    assert_eq!((u.next_deadline(), u.waiting()), (None, 0));
    // A request whose deadline has passed does not even run on a free backend.
    assert_eq!(
        offer(&mut u, at(6000), &meta),
        Offer::Shed(ShedReason::Deadline)
    );
}

#[test]
fn a_slot_that_comes_back_late_does_not_go_to_a_waiter_whose_time_is_up() {
    let mut u = upstream(one_slot());
    let slot = run(&mut u, T0);
    let old = wait(&mut u, T0, &Meta::first(T0));
    let young = wait(&mut u, at(4000), &Meta::first(at(4000)));
    finish(&mut u, at(5001), slot, Outcome::Success);
    let grants = grants(&mut u);
    assert_eq!(grants.len(), 2);
    assert_eq!(grants[0].waiter, old);
    assert_eq!(grants[0].verdict, Err(ShedReason::QueueTimeout));
    assert_eq!(grants[1].waiter, young);
    assert!(grants[1].verdict.is_ok());
}

#[test]
fn a_retry_past_the_queue_timeout_runs_at_once_or_not_at_all() {
    let mut u = upstream(one_slot());
    let late = Meta::first(T0);
    let slot = admitted(offer(&mut u, at(9000), &late));
    assert_eq!(
        offer(&mut u, at(9000), &late),
        Offer::Shed(ShedReason::QueueTimeout)
    );
    finish(&mut u, at(9000), slot, Outcome::Success);
}

#[test]
fn a_waiter_that_excludes_the_freed_backend_does_not_block_the_others() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, Some(1)), (1, Some(1))]));
    let slots = [run(&mut u, T0), run(&mut u, T0)];
    let picky = wait(&mut u, T0, &excluding(T0, &[0]));
    let plain = wait(&mut u, T0, &Meta::first(T0));
    let [zero, one] = slots;
    assert_eq!((zero.backend, one.backend), (BackendId(0), BackendId(1)));
    finish(&mut u, T0, zero, Outcome::Success);
    assert_eq!(granted(&mut u)[0].0, plain);
    finish(&mut u, T0, one, Outcome::Success);
    let (waiter, slot) = granted(&mut u).remove(0);
    assert_eq!((waiter, slot.backend), (picky, BackendId(1)));
}

#[test]
fn an_offer_takes_what_those_before_it_cannot_use() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, Some(1)), (1, Some(2))]));
    let _zero = admitted(offer(&mut u, T0, &excluding(T0, &[1])));
    // It waits for backend 0, which it may use; backend 1 has room, and the next one may have it.
    let _waits = wait(&mut u, T0, &excluding(T0, &[1]));
    assert_eq!(run(&mut u, T0).backend, BackendId(1));
}

#[test]
fn no_backend_is_said_at_once_and_only_if_none_is_left() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, Some(1)), (1, Some(1))]));
    let none = Offer::Shed(ShedReason::NoBackend);
    assert_eq!(offer(&mut u, T0, &excluding(T0, &[0, 1])), none);
    let _one = admitted(offer(&mut u, T0, &excluding(T0, &[0])));
    // Backend 1 is merely busy, and 7 does not exist.
    wait(&mut u, T0, &excluding(T0, &[0, 7]));
    let mut empty = upstream(spec(Strategy::LeastRequest, &[]));
    assert_eq!(offer(&mut empty, T0, &Meta::first(T0)), none);
}

#[test]
fn the_bound_of_the_upstream_holds_whatever_the_backends_could_take() {
    let mut spec = spec(Strategy::RoundRobin, &[(1, Some(4)), (1, None)]);
    spec.max_in_flight = Some(3);
    let mut u = upstream(spec);
    let mut slots: Vec<_> = (0..3).map(|_| run(&mut u, T0)).collect();
    wait(&mut u, T0, &Meta::first(T0));
    finish(&mut u, T0, slots.remove(0), Outcome::Success);
    assert_eq!(granted(&mut u).len(), 1);
    assert_eq!(u.in_flight(), 3);
}

#[test]
fn requests_that_fail_together_are_one_failure_step() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, None), (1, None)]));
    let slots: Vec<_> = (0..20).map(|_| run(&mut u, T0)).collect();
    for slot in slots {
        let dies = slot.backend == BackendId(0);
        let outcome = [Outcome::Success, Outcome::Died][usize::from(dies)];
        finish(&mut u, at(10), slot, outcome);
    }
    // The base of one second, once.
    assert_eq!(u.status().backends[0].backed_off_until, Some(at(1010)));
    assert_eq!(u.status().backends[1].backed_off_until, None);
    for ms in 11..1010 {
        let slot = run(&mut u, at(ms));
        assert_eq!(slot.backend, BackendId(1));
        finish(&mut u, at(ms), slot, Outcome::Success);
    }
    // Tried again after it, it fails again: twice as long.
    let tried = std::iter::repeat_with(|| run(&mut u, at(1010))).take(2);
    let slots: Vec<_> = tried.collect();
    for slot in slots.into_iter().filter(|s| s.backend == BackendId(0)) {
        finish(&mut u, at(1020), slot, Outcome::Refused);
    }
    assert_eq!(u.status().backends[0].backed_off_until, Some(at(3020)));
}

#[test]
fn other_ends_start_no_back_off() {
    let mut u = upstream(one_slot());
    for outcome in [Outcome::Broken, Outcome::ReuseRace, Outcome::Cancelled] {
        let slot = run(&mut u, T0);
        finish(&mut u, T0, slot, outcome);
        assert_eq!(u.status().backends[0].backed_off_until, None);
    }
}

#[test]
fn when_everyone_is_in_back_off_it_is_ignored() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, None), (1, None)]));
    for _ in 0..2 {
        let slot = run(&mut u, T0);
        finish(&mut u, T0, slot, Outcome::Refused);
    }
    let slots = [run(&mut u, at(1)), run(&mut u, at(1))];
    assert_ne!(slots[0].backend, slots[1].backend);
    let [one, _other] = slots;
    let alive = one.backend;
    finish(&mut u, at(2), one, Outcome::Success);
    // It has proved alive, so the other is passed over again.
    for _ in 0..5 {
        assert_eq!(run(&mut u, at(3)).backend, alive);
    }
}

#[test]
fn back_off_is_ignored_for_one_request_whose_other_backends_it_has_tried() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, None), (1, None)]));
    let slot = run(&mut u, T0);
    let failed = slot.backend;
    finish(&mut u, T0, slot, Outcome::Died);
    let other = BackendId(1 - failed.0);
    let slot = admitted(offer(&mut u, T0, &excluding(T0, &[other.0])));
    assert_eq!(slot.backend, failed);
    assert_eq!(run(&mut u, T0).backend, other);
}

#[test]
fn the_end_of_a_back_off_wakes_those_who_wait() {
    let mut u = upstream(spec(Strategy::RoundRobin, &[(1, Some(1)), (1, Some(1))]));
    let (zero, _one) = (run(&mut u, T0), run(&mut u, T0));
    finish(&mut u, T0, zero, Outcome::Died);
    let waiter = wait(&mut u, T0, &Meta::first(T0));
    assert_eq!(u.next_deadline(), Some(at(1000)));
    u.poll(at(1000), &mut NoTrace);
    let (granted, slot) = granted(&mut u).remove(0);
    assert_eq!((granted, slot.backend), (waiter, BackendId(0)));
}

#[test]
fn the_trace_tells_each_decision_in_order() {
    let mut u = upstream(one_slot());
    let mut trace = Vec::new();
    let slot = admitted(u.offer(T0, &Meta::first(T0), &mut trace));
    let Offer::Wait(waiter) = u.offer(at(1), &Meta::first(at(1)), &mut trace) else {
        panic!("one slot only");
    };
    u.finish(at(2), slot, Outcome::Died, &mut trace);
    let backend = BackendId(0);
    let picked = |waiter| Event::Picked {
        backend,
        free: 1,
        waiter,
    };
    let until = at(2) + Duration::from_secs(1);
    assert_eq!(
        trace,
        [
            (T0, picked(None)),
            (at(1), Event::Queued(waiter)),
            (at(2), Event::Finished(backend, Outcome::Died)),
            (at(2), Event::BackedOff(backend, until)),
            // Nobody else is left, so it is tried all the same.
            (at(2), picked(Some(waiter))),
        ]
    );
}
