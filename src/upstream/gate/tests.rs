//! The gate against a simple model, under arbitrary cancellation: no wake-up is lost, no slot leaks, fifo holds. Futures are
//! polled by hand, so that a waker that was not called shows.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio_test::task::{Spawn, spawn};

use super::*;
use crate::engine::{BackOffSpec, BackendSpec, Phase, QueueSpec, Strategy as Pick};
use crate::env::tokio::TokioEnv;

/// Places in flight: two on the first backend, one on the second.
const PLACES: usize = 3;
/// Places in the queue.
const QUEUE: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A request arrives and its future is polled once.
    Arrive,
    /// The client of the n-th live request goes away, whether it waits, was granted unheard, or runs.
    Leave(usize),
    /// The n-th running request ends.
    Finish(usize),
    /// Every task that was woken is polled.
    Run,
}

/// What a request does, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waits,
    Runs,
}

/// The model: who runs, and who waits in which order. A freed place goes to the first who waits at once, heard or not.
#[derive(Clone, Debug, Default)]
struct Model {
    next: usize,
    live: BTreeMap<usize, Life>,
    shed: usize,
}

impl Model {
    fn of(&self, life: Life) -> impl Iterator<Item = usize> {
        self.live
            .iter()
            .filter(move |(_, l)| **l == life)
            .map(|(n, _)| *n)
    }

    fn nth(&self, life: Option<Life>, n: usize) -> Option<usize> {
        let all: Vec<usize> = self
            .live
            .iter()
            .filter(|(_, l)| life.is_none_or(|want| **l == want))
            .map(|(n, _)| *n)
            .collect();
        (!all.is_empty()).then(|| all[n % all.len()])
    }

    fn remove(&mut self, number: usize) {
        let ran = self.live.remove(&number) == Some(Life::Runs);
        let first = self.of(Life::Waits).next();
        if let (true, Some(first)) = (ran, first) {
            self.live.insert(first, Life::Runs);
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![
            4 => Just(Step::Arrive),
            2 => (0..16_usize).prop_map(Step::Leave),
            2 => (0..16_usize).prop_map(Step::Finish),
            2 => Just(Step::Run),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Arrive => {
                let number = model.next;
                model.next += 1;
                if model.of(Life::Runs).count() < PLACES {
                    model.live.insert(number, Life::Runs);
                } else if model.of(Life::Waits).count() < QUEUE {
                    model.live.insert(number, Life::Waits);
                } else {
                    model.shed += 1;
                }
            }
            Step::Leave(n) => {
                if let Some(number) = model.nth(None, *n) {
                    model.remove(number);
                }
            }
            Step::Finish(n) => {
                if let Some(number) = model.nth(Some(Life::Runs), *n) {
                    model.remove(number);
                }
            }
            Step::Run => {}
        }
        model
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<Lease<TokioEnv>, ShedReason>>>>;

/// A request as its client's task holds it.
enum Request {
    Pending(Spawn<Acquire>),
    Running(Lease<TokioEnv>),
}

/// The gate under test, with the requests that the model knows.
struct Real {
    env: TokioEnv,
    gate: Arc<Gate<TokioEnv>>,
    requests: BTreeMap<usize, Request>,
    shed: usize,
}

impl Real {
    fn poll(&mut self, number: usize) {
        let Some(Request::Pending(future)) = self.requests.get_mut(&number) else {
            return;
        };
        match future.poll() {
            Poll::Pending => {}
            Poll::Ready(Ok(lease)) => {
                self.requests.insert(number, Request::Running(lease));
            }
            Poll::Ready(Err(reason)) => {
                assert_eq!(reason, ShedReason::QueueFull);
                self.requests.remove(&number);
                self.shed += 1;
            }
        }
    }

    fn run_woken(&mut self) {
        let woken: Vec<usize> = self
            .requests
            .iter()
            .filter(|(_, r)| matches!(r, Request::Pending(future) if future.is_woken()))
            .map(|(n, _)| *n)
            .collect();
        woken.into_iter().for_each(|n| self.poll(n));
    }
}

struct Cancellation;

impl StateMachineTest for Cancellation {
    type SystemUnderTest = (Real, usize);
    type Reference = Model;

    fn init_test(_: &Model) -> (Real, usize) {
        let backend = |id, max| BackendSpec {
            id: BackendId(id),
            weight: 1,
            max_in_flight: Some(max),
            key: u64::from(id),
        };
        let spec = UpstreamSpec {
            strategy: Pick::LeastRequest,
            max_in_flight: None,
            queue: QueueSpec {
                capacity: QUEUE,
                timeout: Duration::from_secs(3600),
            },
            backends: vec![backend(0, 2), backend(1, 1)],
            back_off: BackOffSpec {
                base: Duration::from_secs(1),
                max: Duration::from_secs(1),
            },
            outlier: None,
            phase: Phase::Zero,
        };
        let env = TokioEnv::new().expect("the system has entropy");
        let gate = Gate::new(&env, "test", spec, RetrySpec::default());
        (
            Real {
                env,
                gate,
                requests: BTreeMap::new(),
                shed: 0,
            },
            0,
        )
    }

    fn apply((mut real, mut next): (Real, usize), model: &Model, step: Step) -> (Real, usize) {
        match step {
            Step::Arrive => {
                let (gate, now) = (Arc::clone(&real.gate), real.env.clock().now());
                let future: Acquire =
                    Box::pin(async move { gate.acquire(now, &Meta::first(now)).await });
                real.requests.insert(next, Request::Pending(spawn(future)));
                real.poll(next);
                next += 1;
            }
            // The model has applied the step already: who is no longer alive there is who went.
            Step::Leave(_) | Step::Finish(_) => {
                let gone: Vec<usize> = real
                    .requests
                    .keys()
                    .copied()
                    .filter(|n| !model.live.contains_key(n))
                    .collect();
                for number in gone {
                    match real.requests.remove(&number) {
                        Some(Request::Running(lease)) if matches!(step, Step::Finish(_)) => {
                            lease.finish(Outcome::Success)
                        }
                        // A granted request that never heard of it, too: the future's drop gives the slot on.
                        other => drop(other),
                    }
                }
            }
            Step::Run => real.run_woken(),
        }
        (real, next)
    }

    fn check_invariants((real, _): &(Real, usize), model: &Model) {
        let status = real.gate.status();
        assert_eq!(
            status.in_flight as usize,
            model.of(Life::Runs).count(),
            "places taken"
        );
        assert_eq!(
            status.waiting,
            model.of(Life::Waits).count(),
            "places in the queue"
        );
        assert_eq!(real.shed, model.shed);
        for (number, request) in &real.requests {
            match (request, model.live.get(number)) {
                (Request::Running(_), Some(Life::Runs)) => {}
                // Granted and not yet polled: then it must have been woken.
                (Request::Pending(future), Some(Life::Runs)) => {
                    assert!(future.is_woken(), "a lost wake-up")
                }
                (Request::Pending(_), Some(Life::Waits)) => {}
                (_, life) => panic!("request {number} is {life:?} in the model"),
            }
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_wake_up_is_lost_under_arbitrary_cancellation(sequential 1..60 => Cancellation);
}
