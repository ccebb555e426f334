//! What is called, and of what an upstream is made, at random.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use weirkeeper::engine::outlier::OutlierSpec;
use weirkeeper::engine::{
    BackOffSpec, BackendId, BackendSpec, Outcome, Phase, QueueSpec, Strategy as Rule, UpstreamSpec,
};

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A request: what it excludes (bits), how long ago it arrived, how long from now it may start, whose it is.
    Offer(u8, u64, Option<u64>, u64),
    Cancel(usize),
    Finish(usize, Outcome),
    Wait(u64),
    Poll,
    Apply(UpstreamSpec),
    /// Is there a place for a health check of this backend?
    MayCheck(u32),
    /// Its checks say how it stands.
    SetDown(u32, bool),
}

const OUTCOMES: [Outcome; 8] = [
    Outcome::Success,
    Outcome::Failed,
    Outcome::Failed,
    Outcome::Refused,
    Outcome::Died,
    Outcome::Broken,
    Outcome::ReuseRace,
    Outcome::Cancelled,
];

fn rule() -> impl Strategy<Value = Rule> {
    prop::sample::select(vec![
        Rule::RoundRobin,
        Rule::WeightedRoundRobin,
        Rule::SmoothWeightedRoundRobin,
        Rule::LeastRequest,
        Rule::PowerOfTwo,
        Rule::HASH,
        Rule::Hash { load_percent: None },
    ])
}

fn outlier() -> impl Strategy<Value = OutlierSpec> {
    let parts = (0_u32..4, 0_u32..3, 1_u32..4, 1_u64..4, 0_u64..3, 0_u32..3);
    parts.prop_map(
        |(consecutive, third, min_requests, base, slow, part)| OutlierSpec {
            consecutive,
            failure_percent: third * 33,
            latency_percent: 0,
            min_requests,
            window: Duration::from_millis(50),
            base: Duration::from_millis(10 * base),
            max: Duration::from_millis(60),
            max_ejected_percent: 50 * part,
            slow_start: Duration::from_millis(20 * slow),
        },
    )
}

pub(super) fn upstream_spec() -> impl Strategy<Value = UpstreamSpec> {
    let backend = (1_u32..6, prop::option::weighted(0.9, 1_u32..4));
    let backends = vec(prop::option::weighted(0.6, backend), 5);
    let bounds = (prop::option::of(1_u32..8), 0_usize..7, 0_u64..3);
    let parts = (
        rule(),
        backends,
        bounds,
        prop::option::weighted(0.7, outlier()),
    );
    parts.prop_map(|(strategy, backends, bounds, outlier)| {
        let (max_in_flight, capacity, base) = bounds;
        let backend = |(id, backend): (u32, Option<(u32, Option<u32>)>)| {
            let (weight, max_in_flight) = backend?;
            let id = BackendId(id);
            Some(BackendSpec {
                id,
                weight,
                max_in_flight,
                key: u64::from(id.0),
            })
        };
        UpstreamSpec {
            strategy,
            max_in_flight,
            queue: QueueSpec {
                capacity,
                timeout: Duration::from_millis(50),
            },
            backends: (0..).zip(backends).filter_map(backend).collect(),
            back_off: BackOffSpec {
                base: Duration::from_millis(10 * base),
                max: Duration::from_millis(60),
            },
            outlier,
            phase: Phase::Random,
        }
    })
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let exclude = prop_oneof![3 => Just(0_u8), 2 => 0_u8..32];
    let age = prop_oneof![3 => Just(0_u64), 1 => 0_u64..60];
    let deadline = prop::option::weighted(0.2, 0_u64..60);
    prop_oneof![
        10 => (exclude, age, deadline, 0_u64..20).prop_map(|(e, a, d, c)| Op::Offer(e, a, d, c)),
        2 => any::<usize>().prop_map(Op::Cancel),
        6 => (any::<usize>(), prop::sample::select(&OUTCOMES[..])).prop_map(|(i, o)| Op::Finish(i, o)),
        3 => (0_u64..30).prop_map(Op::Wait),
        1 => Just(Op::Poll),
        1 => upstream_spec().prop_map(Op::Apply),
        1 => (0_u32..5).prop_map(Op::MayCheck),
        2 => (0_u32..5, any::<bool>()).prop_map(|(id, down)| Op::SetDown(id, down)),
    ]
}
