//! The chairman assignment's promises, in exact fractions.

use proptest::prelude::*;
use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{Meta, Outcome, Slot, Strategy as Rule};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::{admitted, spec, turn, upstream, weighted};

/// Counts picks over a constant set, and checks each one against the rule and each prefix against the theorem.
struct Ledger {
    weights: Vec<i128>,
    total: i128,
    /// 2n - 2.
    e: i128,
    picks: i128,
    counts: Vec<i128>,
}

impl Ledger {
    fn new(weights: &[u32]) -> Self {
        Ledger {
            weights: weights.iter().map(|&w| i128::from(w)).collect(),
            total: weights.iter().map(|&w| i128::from(w)).sum(),
            e: 2 * weights.len() as i128 - 2,
            picks: 0,
            counts: vec![0; weights.len()],
        }
    }

    /// (c + e) / w <= V + 1/W, with all denominators multiplied out.
    fn is_released(&self, i: usize) -> bool {
        (self.counts[i] * self.e + 1) * self.total <= (self.picks + 1) * self.weights[i] * self.e
    }

    /// Is the deadline of `a` strictly before that of `b`?
    fn is_before(&self, a: usize, b: usize) -> bool {
        let due = |i: usize| (self.counts[i] + 1) * self.e - 1;
        due(a) * self.weights[b] < due(b) * self.weights[a]
    }

    /// The pick is the rule's: released, and of the released none has an earlier deadline.
    fn check_rule(&self, pick: usize) {
        assert!(self.is_released(pick), "{pick} ran ahead of its release");
        let earlier =
            (0..self.weights.len()).find(|&i| self.is_released(i) && self.is_before(i, pick));
        assert_eq!(earlier, None, "somebody was due before {pick}");
    }

    fn count(&mut self, pick: usize) {
        self.counts[pick] += 1;
        self.picks += 1;
    }

    /// |n w/W - c| <= 1 - 1/(2N - 2) for everyone.
    fn check_bound(&self) {
        for (w, c) in self.weights.iter().zip(&self.counts) {
            let lag = (self.picks * w - c * self.total).abs();
            assert!(
                lag * self.e <= self.total * (self.e - 1),
                "after {} picks weight {w} of {} had {c}",
                self.picks,
                self.total
            );
        }
    }
}

fn check_theorem(upstream: &mut Upstream, weights: &[u32], picks: i128) {
    let mut ledger = Ledger::new(weights);
    for _ in 0..picks {
        let pick = turn(upstream);
        ledger.check_rule(pick);
        ledger.count(pick);
        ledger.check_bound();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_prefix_is_within_the_bound(weights in prop::collection::vec(1_u32..=1000, 2..=64)) {
        // A whole cycle and the beginning of the next, unless that takes too long.
        let cycle: i128 = weights.iter().map(|&w| i128::from(w)).sum();
        let mut upstream = upstream(weighted(Rule::WeightedRoundRobin, &weights));
        check_theorem(&mut upstream, &weights, (cycle + 50).min(200_000 / weights.len() as i128));
    }

    #[test]
    fn a_backend_that_is_full_between_picks_loses_nothing(weights in prop::collection::vec(1_u32..=30, 2..=12)) {
        // Everyone is full while its request runs and back before the next pick, so each pick sees the constant set.
        let backends: Vec<_> = weights.iter().map(|&w| (w, Some(1))).collect();
        let mut upstream = upstream(spec(Rule::WeightedRoundRobin, &backends));
        let cycle: i128 = weights.iter().map(|&w| i128::from(w)).sum();
        check_theorem(&mut upstream, &weights, 3 * cycle + 7);
    }

    #[test]
    fn the_order_is_that_of_fractions_at_the_largest_weights(weights in prop::collection::vec(65_000_u32..=65_535, 2..=8)) {
        let mut upstream = upstream(weighted(Rule::WeightedRoundRobin, &weights));
        check_theorem(&mut upstream, &weights, 20_000);
    }
}

#[test]
fn whole_cycles_of_awkward_weights_are_within_the_bound() {
    let awkward: [&[u32]; 6] = [
        &[3, 2],
        &[1000, 1],
        &[999, 1000, 1],
        &[512, 256, 128, 64, 32, 16, 8, 4, 2, 1],
        &[900, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        &[7; 31],
    ];
    for weights in awkward {
        let cycle: i128 = weights.iter().map(|&w| i128::from(w)).sum();
        let mut upstream = upstream(weighted(Rule::WeightedRoundRobin, weights));
        check_theorem(&mut upstream, weights, 3 * cycle);
    }
}

#[test]
fn whole_cycles_of_all_small_weights_are_within_the_bound() {
    // Small numbers meet their releases exactly far more often than large ones.
    for (backends, heaviest) in [(2_u32, 40_u64), (3, 16), (4, 8)] {
        for code in 0..heaviest.pow(backends) {
            let digit = |i: u32| 1 + (code / heaviest.pow(i) % heaviest) as u32;
            let weights: Vec<u32> = (0..backends).map(digit).collect();
            let cycle: u32 = weights.iter().sum();
            let mut upstream = upstream(weighted(Rule::WeightedRoundRobin, &weights));
            check_theorem(&mut upstream, &weights, i128::from(cycle));
        }
    }
}

#[test]
fn round_robin_gives_equal_turns_whatever_the_weights() {
    let mut upstream = upstream(weighted(Rule::RoundRobin, &[9, 1, 4]));
    check_theorem(&mut upstream, &[1, 1, 1], 300);
}

/// Entitlement under sets that change. W differs from pick to pick, so the sum has no small common denominator: it is kept in
/// 64 fraction bits, whose rounding over a million picks is below 2^-40.
struct Changing {
    upstream: Upstream,
    weights: Vec<u32>,
    now: Tick,
    running: Vec<Slot>,
    lags: Vec<i128>,
    worst: i128,
}

impl Changing {
    fn new(rng: &mut Rng, backends: usize, heaviest: u64) -> Self {
        let weights: Vec<u32> = (0..backends)
            .map(|_| 1 + rng.below(heaviest) as u32)
            .collect();
        let backends: Vec<_> = weights
            .iter()
            .map(|&w| (w, Some(1 + rng.below(4) as u32)))
            .collect();
        let spec = spec(Rule::WeightedRoundRobin, &backends);
        Changing {
            upstream: upstream(spec),
            now: Tick::ZERO,
            running: Vec::new(),
            lags: vec![0; weights.len()],
            worst: 0,
            weights,
        }
    }

    /// Who may be picked now, by what the status says.
    fn eligible(&mut self) -> Vec<bool> {
        self.upstream.poll(self.now, &mut NoTrace);
        let backends = self.upstream.status().backends;
        let all_backed_off = backends.iter().all(|b| b.backed_off_until.is_some());
        backends
            .iter()
            .map(|b| {
                let full = b.max_in_flight.is_some_and(|max| b.in_flight >= max);
                !full && (all_backed_off || b.backed_off_until.is_none())
            })
            .collect()
    }

    fn pick(&mut self) {
        let eligible = self.eligible();
        let entitled = |(w, e): (&u32, &bool)| if *e { i128::from(*w) } else { 0 };
        let shares: Vec<i128> = self.weights.iter().zip(&eligible).map(entitled).collect();
        let total: i128 = shares.iter().sum();
        if total == 0 {
            return;
        }
        for (lag, share) in self.lags.iter_mut().zip(shares) {
            *lag += (share << 64) / total;
        }
        let offer = self
            .upstream
            .offer(self.now, &Meta::first(self.now), &mut NoTrace);
        let slot = admitted(offer);
        self.lags[slot.backend.0 as usize] -= 1 << 64;
        self.running.push(slot);
        let worst = self.lags.iter().map(|lag| lag.abs()).max();
        self.worst = self.worst.max(worst.expect("there are backends"));
    }

    fn finish(&mut self, rng: &mut Rng, failing: f64) {
        if !self.running.is_empty() {
            let i = rng.below(self.running.len() as u64) as usize;
            let slot = self.running.swap_remove(i);
            let outcome = match rng.chance(failing) {
                true => Outcome::Died,
                false => Outcome::Success,
            };
            self.upstream.finish(self.now, slot, outcome, &mut NoTrace);
        }
    }
}

#[test]
fn lags_stay_small_while_the_set_changes_at_random() {
    let mut worst: f64 = 0.0;
    for seed in 0..120 {
        let mut rng = Rng::new(seed);
        let backends = 2 + rng.below(63) as usize;
        let heaviest = [1, 10, 1000][rng.below(3) as usize];
        let failing = [0.0, 0.001, 0.02][rng.below(3) as usize];
        // From nearly idle to saturated: how likely a pick is against a finish.
        let load = 0.5 + 0.15 * rng.below(4) as f64;
        let mut world = Changing::new(&mut rng, backends, heaviest);
        for _ in 0..6000 {
            world.now = world.now + std::time::Duration::from_millis(rng.below(20));
            if rng.chance(load) {
                world.pick();
            } else {
                world.finish(&mut rng, failing);
            }
        }
        worst = worst.max(world.worst as f64 / 2_f64.powi(64));
    }
    println!("worst lag under random change of the eligible set: {worst:.3} picks");
    assert!(
        worst > 1.0,
        "the set changed, so the theorem's bound was left"
    );
    assert!(worst < 3.0, "{worst}");
}
