//! The manual's fairness table: how far each rule strays from the exact shares over whole cycles. The other rules are written
//! out here, so that all three meet the same weights.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use weirkeeper::engine::Strategy;
use weirkeeper::rng::Rng;

use super::{turn, upstream, weighted};

/// The most that any backend was behind and ahead of its share at any prefix of a cycle, in picks.
fn deviation(weights: &[u32], mut pick: impl FnMut() -> usize) -> (f64, f64) {
    let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
    let mut counts = vec![0_i64; weights.len()];
    let (mut behind, mut ahead) = (0, 0);
    for n in 1..=total {
        counts[pick()] += 1;
        for (count, &weight) in counts.iter().zip(weights) {
            let lag = n * i64::from(weight) - count * total;
            behind = behind.max(lag);
            ahead = ahead.max(-lag);
        }
    }
    (behind as f64 / total as f64, ahead as f64 / total as f64)
}

/// The engine's own, through its front door.
fn engine(strategy: Strategy, weights: &[u32]) -> (f64, f64) {
    let mut upstream = upstream(weighted(strategy, weights));
    deviation(weights, || turn(&mut upstream))
}

/// Earliest deadline first, as Envoy schedules: who was picked comes again 1/weight later, equal deadlines in the order in which
/// they were set. Deadlines are fractions: the k-th turn of weight w is due at k/w.
fn earliest_deadline_first(weights: &[u32]) -> (f64, f64) {
    #[derive(PartialEq, Eq)]
    struct Due {
        turn: u64,
        weight: u64,
        set: u64,
        place: usize,
    }
    impl Ord for Due {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            (self.turn * other.weight)
                .cmp(&(other.turn * self.weight))
                .then(self.set.cmp(&other.set))
        }
    }
    impl PartialOrd for Due {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    let mut set = 0..;
    let mut due: BinaryHeap<Reverse<Due>> = (0..)
        .zip(weights)
        .map(|(place, &weight)| {
            let (weight, set) = (u64::from(weight), set.next().expect("endless"));
            Reverse(Due {
                turn: 1,
                weight,
                set,
                place,
            })
        })
        .collect();
    deviation(weights, || {
        let Reverse(mut first) = due.pop().expect("there are backends");
        let place = first.place;
        first.turn += 1;
        first.set = set.next().expect("endless");
        due.push(Reverse(first));
        place
    })
}

fn table() -> String {
    let mut rng = Rng::new(20);
    let mut random =
        |n: usize| -> Vec<u32> { (0..n).map(|_| 1 + rng.below(1000) as u32).collect() };
    let ones = |first: u32, n: usize| -> Vec<u32> {
        let mut weights = vec![1; n];
        weights[0] = first;
        weights
    };
    let sets = [
        ("3, 2".to_owned(), vec![3, 2]),
        ("5, 1, 1".to_owned(), vec![5, 1, 1]),
        ("1, 2, ... 10".to_owned(), (1..=10).collect()),
        ("50 and fifty of 1".to_owned(), ones(50, 51)),
        (
            "8 each of 1000, 100, 10, 1".to_owned(),
            [[1000; 8], [100; 8], [10; 8], [1; 8]].concat(),
        ),
        (
            "20 each of 1000, 30, 1".to_owned(),
            [[1000; 20], [30; 20], [1; 20]].concat(),
        ),
        ("64 random of 1..1000".to_owned(), random(64)),
    ];
    let mut table = String::from(
        "| weights | quota-optimal (weir) | its bound | smooth WRR (nginx) | EDF (Envoy) |\n|---|---|---|---|---|\n",
    );
    for (name, weights) in sets {
        let bound = 1.0 - 1.0 / (2.0 * weights.len() as f64 - 2.0);
        let (behind, ahead) = engine(Strategy::WeightedRoundRobin, &weights);
        let smooth = engine(Strategy::SmoothWeightedRoundRobin, &weights);
        let edf = earliest_deadline_first(&weights);
        assert!(behind <= bound && ahead <= bound, "{name}");
        writeln!(
            table,
            "| {name} | {behind:.2} / {ahead:.2} | {bound:.2} | {:.2} / {:.2} | {:.2} / {:.2} |",
            smooth.0, smooth.1, edf.0, edf.1
        )
        .expect("a string takes everything");
    }
    table
}

#[test]
fn the_manual_shows_the_fairness_that_is_measured() {
    let table = table();
    println!("picks behind / ahead of the exact share, at worst:\n\n{table}");
    let page = weirkeeper::manual::page("balancing").expect("there is one");
    let shown = page
        .text
        .split_once("<!-- fairness -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /fairness -->"));
    let (shown, _) = shown.expect("the page has the table");
    assert_eq!(shown.trim(), table.trim(), "put the printed table there");
}
