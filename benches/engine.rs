//! What the engine costs: an offer that is admitted and its finish, for each strategy and size, without and with the mutex that
//! all cores share.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weirkeeper::engine::trace::NoTrace;
use weirkeeper::engine::upstream::Upstream;
use weirkeeper::engine::{
    BackOffSpec, BackendId, BackendSpec, Meta, Offer, Outcome, Phase, QueueSpec, Slot, Strategy,
    UpstreamSpec,
};
use weirkeeper::rng::Rng;
use weirkeeper::time::Tick;

const STRATEGIES: [(&str, Strategy); 6] = [
    ("round-robin", Strategy::RoundRobin),
    ("weighted-round-robin", Strategy::WeightedRoundRobin),
    (
        "smooth-weighted-round-robin",
        Strategy::SmoothWeightedRoundRobin,
    ),
    ("least-request", Strategy::LeastRequest),
    ("power-of-two", Strategy::PowerOfTwo),
    ("hash", Strategy::HASH),
];

const NOW: Tick = Tick::from_millis(1);

/// Weights of 1..=100, mixed by a seed.
fn upstream(strategy: Strategy, backends: u32, max_in_flight: Option<u32>) -> Upstream {
    let mut rng = Rng::new(1);
    let spec = UpstreamSpec {
        strategy,
        max_in_flight: None,
        queue: QueueSpec {
            capacity: 1024,
            timeout: Duration::from_secs(5),
        },
        backends: (0..backends)
            .map(|id| BackendSpec {
                id: BackendId(id),
                weight: 1 + rng.below(100) as u32,
                max_in_flight,
                key: u64::from(id),
            })
            .collect(),
        back_off: BackOffSpec {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        outlier: None,
        phase: Phase::Random,
    };
    Upstream::new(NOW, spec, rng)
}

fn admit(upstream: &mut Upstream, meta: &Meta) -> Slot {
    match upstream.offer(NOW, meta, &mut NoTrace) {
        Offer::Admit(slot) => slot,
        other => panic!("there is room: {other:?}"),
    }
}

/// One request at a time on backends without a bound.
fn pick_and_finish(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_and_finish");
    for (name, strategy) in STRATEGIES {
        for backends in [2, 10, 100, 1000] {
            let mut upstream = upstream(strategy, backends, None);
            let meta = Meta::first(NOW);
            group.bench_function(BenchmarkId::new(name, backends), |b| {
                b.iter(|| {
                    let slot = admit(&mut upstream, black_box(&meta));
                    upstream.finish(NOW, slot, Outcome::Success, &mut NoTrace);
                });
            });
        }
    }
    group.finish();
}

/// All backends full but one, at one request each: every pick fills one and every finish opens one, so the set changes twice.
fn saturated(c: &mut Criterion) {
    let mut group = c.benchmark_group("saturated");
    for (name, strategy) in STRATEGIES {
        for backends in [10, 1000] {
            let mut upstream = upstream(strategy, backends, Some(1));
            let meta = Meta::first(NOW);
            let mut running: Vec<Slot> =
                (1..backends).map(|_| admit(&mut upstream, &meta)).collect();
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, backends), |b| {
                b.iter(|| {
                    let slot = admit(&mut upstream, black_box(&meta));
                    next = (next + 7) % running.len();
                    let done = std::mem::replace(&mut running[next], slot);
                    upstream.finish(NOW, done, Outcome::Success, &mut NoTrace);
                });
            });
        }
    }
    group.finish();
}

/// A thousand wait; each finish grants the first of them its slot, and a new one joins the end.
fn queued(c: &mut Criterion) {
    let mut upstream = upstream(Strategy::WeightedRoundRobin, 10, Some(1));
    let meta = Meta::first(NOW);
    let mut slots: Vec<Slot> = (0..10).map(|_| admit(&mut upstream, &meta)).collect();
    for _ in 0..1000 {
        let offer = upstream.offer(NOW, &meta, &mut NoTrace);
        assert!(matches!(offer, Offer::Wait(_)));
    }
    let mut next = 0;
    c.bench_function("offer, wait behind 1000, be granted, finish", |b| {
        b.iter(|| {
            let offer = upstream.offer(NOW, black_box(&meta), &mut NoTrace);
            assert!(matches!(offer, Offer::Wait(_)));
            next = (next + 3) % 10;
            let done = slots.swap_remove(next);
            upstream.finish(NOW, done, Outcome::Success, &mut NoTrace);
            let grant = upstream.next_grant().expect("a freed slot is granted");
            slots.push(grant.verdict.expect("nobody's time is up"));
        });
    });
}

/// Offer and finish under one mutex, locked once for each, from many threads. The time is a pair's, over all threads together.
fn through_a_mutex(c: &mut Criterion) {
    let mut group = c.benchmark_group("through_a_mutex");
    for threads in [1_u64, 2, 4, 8, 16] {
        let upstream = Mutex::new(upstream(Strategy::WeightedRoundRobin, 10, None));
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter_custom(|pairs| contend(&upstream, threads, pairs));
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn contend(upstream: &Mutex<Upstream>, threads: u64, pairs: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let pairs = pairs / threads + u64::from(thread < pairs % threads);
            scope.spawn(move || {
                let meta = Meta::first(NOW);
                for _ in 0..pairs {
                    let slot = admit(&mut upstream.lock().expect("nobody panics"), &meta);
                    let mut upstream = upstream.lock().expect("nobody panics");
                    upstream.finish(NOW, slot, Outcome::Success, &mut NoTrace);
                }
            });
        }
    });
    started.elapsed()
}

criterion_group!(benches, pick_and_finish, saturated, queued, through_a_mutex);
criterion_main!(benches);
