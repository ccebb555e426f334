//! What is called, and of what an upstream is made, at random.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
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

const OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
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

pub(super) fn upstream_spec() -> impl Strategy<Value = UpstreamSpec> {
    let backend = (1_u32..6, prop::option::weighted(0.9, 1_u32..4));
    let backends = vec(prop::option::weighted(0.6, backend), 5);
    let bounds = (prop::option::of(1_u32..8), 0_usize..7, 0_u64..3);
    (rule(), backends, bounds).prop_map(|(strategy, backends, (max_in_flight, capacity, base))| {
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
