//! What tells the strategies apart.

use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{BackendId, Meta, Outcome, Phase, Slot, Strategy};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::{run, spec, turn, upstream, weighted};

const T0: Tick = Tick::ZERO;

fn turns(u: &mut Upstream, n: usize) -> Vec<usize> {
    (0..n).map(|_| turn(u)).collect()
}

#[test]
fn the_smooth_one_gives_the_sequence_that_nginx_documents() {
    let mut u = upstream(weighted(Strategy::SmoothWeightedRoundRobin, &[5, 1, 1]));
    assert_eq!(
        turns(&mut u, 14),
        [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]
    );
}

#[test]
fn the_smooth_one_agrees_with_its_definition_under_changing_sets() {
    let mut rng = Rng::new(11);
    for backends in [1, 3, 64, 65, 200] {
        let backends: Vec<_> = (0..backends)
            .map(|_| (1 + rng.below(9) as u32, Some(2)))
            .collect();
        let mut u = upstream(spec(Strategy::SmoothWeightedRoundRobin, &backends));
        let mut balances = vec![0_i64; backends.len()];
        let mut load = vec![0; backends.len()];
        let mut running: Vec<Slot> = Vec::new();
        for _ in 0..2000 {
            let free: Vec<usize> = (0..load.len()).filter(|&i| load[i] < 2).collect();
            if !free.is_empty() && rng.chance(0.55) {
                free.iter()
                    .for_each(|&i| balances[i] += i64::from(backends[i].0));
                let best = *free
                    .iter()
                    .max_by_key(|&&i| (balances[i], std::cmp::Reverse(i)))
                    .expect("someone is free");
                balances[best] -= free.iter().map(|&i| i64::from(backends[i].0)).sum::<i64>();
                load[best] += 1;
                let slot = run(&mut u);
                assert_eq!(slot.backend, BackendId(best as u32));
                running.push(slot);
            } else if !running.is_empty() {
                let slot = running.swap_remove(rng.below(running.len() as u64) as usize);
                load[slot.backend.0 as usize] -= 1;
                u.finish(T0, slot, Outcome::Success, &mut NoTrace);
            }
        }
    }
}

#[test]
fn least_request_goes_where_the_least_of_the_capacity_is_used() {
    let backends = [(1, Some(6)), (1, Some(3)), (2, None), (1, Some(4))];
    let capacity = [6_u64, 3, 2, 4];
    let mut u = upstream(spec(Strategy::LeastRequest, &backends));
    let mut rng = Rng::new(5);
    let mut running: Vec<Slot> = Vec::new();
    let mut picked = [0_u64; 4];
    for n in 1..5000 {
        let load = u
            .status()
            .backends
            .iter()
            .map(|b| u64::from(b.in_flight))
            .collect::<Vec<_>>();
        let room = |i: &usize| backends[*i].1.is_none_or(|max| load[*i] < u64::from(max));
        if rng.chance(0.52) {
            let slot = run(&mut u);
            let expected = (0..4)
                .filter(room)
                // Twelve is a multiple of every capacity here; of equals the one that was picked longest ago.
                .min_by_key(|&i| (load[i] * 12 / capacity[i], picked[i]))
                .expect("one is unlimited");
            assert_eq!(slot.backend, BackendId(expected as u32));
            picked[expected] = n;
            running.push(slot);
        } else if !running.is_empty() {
            let slot = running.swap_remove(rng.below(running.len() as u64) as usize);
            u.finish(T0, slot, Outcome::Success, &mut NoTrace);
        }
    }
}

#[test]
fn least_request_takes_turns_when_idle() {
    let mut u = upstream(weighted(Strategy::LeastRequest, &[1, 1, 1]));
    assert_eq!(turns(&mut u, 6), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn power_of_two_never_takes_the_most_utilised() {
    let mut u = upstream(spec(
        Strategy::PowerOfTwo,
        &[(1, Some(40)), (1, Some(20)), (1, Some(10))],
    ));
    for _ in 0..60 {
        let before = u.status().backends;
        let use_of = |i: usize| before[i].in_flight as f64 / f64::from([40, 20, 10][i]);
        let most = (0..3).map(use_of).fold(0.0, f64::max);
        let alone = (0..3).filter(|&i| use_of(i) == most).count() == 1;
        let picked = run(&mut u).backend.0 as usize;
        assert!(!alone || use_of(picked) < most);
    }
    // Even use: two thirds and something of each are taken.
    let load: Vec<u32> = u.status().backends.iter().map(|b| b.in_flight).collect();
    assert!(load[0] >= 31 && load[1] >= 15 && load[2] >= 7, "{load:?}");
}

#[test]
fn power_of_two_compares_all_pairs_alike() {
    let mut u = upstream(weighted(Strategy::PowerOfTwo, &[1; 5]));
    let mut counts = [0_u32; 5];
    turns(&mut u, 50_000)
        .into_iter()
        .for_each(|i| counts[i] += 1);
    // 10,000 each; the standard deviation is 89.
    assert!(
        counts.iter().all(|c| c.abs_diff(10_000) < 450),
        "{counts:?}"
    );
}

#[test]
fn every_strategy_fills_every_place_and_no_more() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::WeightedRoundRobin,
        Strategy::SmoothWeightedRoundRobin,
        Strategy::LeastRequest,
        Strategy::PowerOfTwo,
        Strategy::HASH,
    ] {
        let mut spec = spec(strategy, &[(1, Some(3)), (50, Some(1)), (2, Some(7))]);
        spec.phase = Phase::Random;
        spec.queue.capacity = 0;
        let mut u = upstream(spec);
        let slots: Vec<Slot> = (0..11).map(|_| run(&mut u)).collect();
        assert!(!matches!(
            u.offer(T0, &Meta::first(T0), &mut NoTrace),
            weirkeeper::engine::Offer::Admit(_)
        ));
        for slot in slots {
            u.finish(T0, slot, Outcome::Success, &mut NoTrace);
        }
        assert_eq!(u.in_flight(), 0);
    }
}
