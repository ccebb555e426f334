//! Fresh engines: over many seeds every prefix has the expected shares, so that replicas don't all begin at the first backend.

use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{Phase, Strategy};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

use super::{turn, weighted};

const ENGINES: u64 = 10_000;
const PICKS: usize = 10;

/// Where each of ten first picks went, over 10,000 engines: `counts[pick][backend]`.
fn first_picks(strategy: Strategy, weights: &[u32]) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; weights.len()]; PICKS];
    for seed in 0..ENGINES {
        let mut spec = weighted(strategy, weights);
        spec.phase = Phase::Random;
        let mut upstream = Upstream::new(Tick::ZERO, spec, Rng::new(seed));
        for row in &mut counts {
            row[turn(&mut upstream)] += 1;
        }
    }
    counts
}

/// Pearson's statistic against shares by weight.
fn chi_square(counts: &[u64], weights: &[u32]) -> f64 {
    let picks: u64 = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    counts
        .iter()
        .zip(weights)
        .map(|(&count, &weight)| {
            let expected = picks as f64 * f64::from(weight) / f64::from(total);
            (count as f64 - expected).powi(2) / expected
        })
        .sum()
}

/// The value that chi-square with this many degrees of freedom passes once in about 100,000 times (Wilson and Hilferty).
fn critical(freedom: usize) -> f64 {
    let v = freedom as f64;
    let spread = 2.0 / (9.0 * v);
    v * (1.0 - spread + 4.265 * spread.sqrt()).powi(3)
}

#[test]
fn shares_over_fresh_engines_fit_the_weights_at_each_pick() {
    let sets: [&[u32]; 4] = [
        &[3, 2],
        &[5, 1, 1],
        &[1, 2, 3, 4, 5],
        &[40, 30, 20, 5, 1, 1, 1, 1, 1],
    ];
    for strategy in [
        Strategy::WeightedRoundRobin,
        Strategy::SmoothWeightedRoundRobin,
    ] {
        for weights in sets {
            for (pick, counts) in first_picks(strategy, weights).iter().enumerate() {
                let statistic = chi_square(counts, weights);
                assert!(
                    statistic < critical(weights.len() - 1),
                    "{strategy:?} {weights:?}, pick {pick}: {counts:?} gives {statistic:.1}"
                );
            }
        }
    }
}

#[test]
fn shares_over_fresh_engines_are_equal_where_weights_do_not_count() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::LeastRequest,
        Strategy::PowerOfTwo,
    ] {
        for (pick, counts) in first_picks(strategy, &[1; 7]).iter().enumerate() {
            let statistic = chi_square(counts, &[1; 7]);
            assert!(
                statistic < critical(6),
                "{strategy:?}, pick {pick}: {counts:?} gives {statistic:.1}"
            );
        }
    }
}

#[test]
fn the_statistic_notices_engines_that_all_begin_alike() {
    assert!(chi_square(&[10_000, 0], &[3, 2]) > critical(1));
    assert!(chi_square(&[6_300, 3_700], &[3, 2]) > critical(1));
}

#[test]
fn phase_zero_begins_alike_whatever_the_seed() {
    let begin = |seed| {
        let spec = weighted(Strategy::WeightedRoundRobin, &[3, 2]);
        let mut upstream = Upstream::new(Tick::ZERO, spec, Rng::new(seed));
        std::array::from_fn(|_| turn(&mut upstream))
    };
    let picks: [usize; 10] = begin(1);
    assert_eq!(picks, begin(2));
    assert_eq!(picks[..5], picks[5..], "a cycle repeats");
}

#[test]
fn windows_of_a_random_phase_are_within_twice_the_bound() {
    let weights = [13_u32, 7, 5, 5, 1];
    for seed in 0..200 {
        let mut spec = weighted(Strategy::WeightedRoundRobin, &weights);
        spec.phase = Phase::Random;
        let mut upstream = Upstream::new(Tick::ZERO, spec, Rng::new(seed));
        let mut counts = [0_i64; 5];
        for n in 1..=62_i64 {
            counts[turn(&mut upstream)] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let lag = (n * i64::from(weight) - count * 31).abs();
                // 2 (1 - 1/8) picks, times 31.
                assert!(lag * 4 <= 31 * 7);
            }
        }
    }
}
