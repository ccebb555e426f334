//! Work that was led to a backend which is gone before it runs, and work that nobody wants when its place comes.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_test::assert_ready;
use tokio_test::task::{Spawn, spawn};

use super::*;
use crate::config::{load_str, model};
use crate::env::tokio::TokioEnv;
use crate::telemetry::{Layout, Telemetry};
use crate::wire::core::{Core, Drain, Place};

/// Notes who it was tried on, and holds the place.
#[derive(Default)]
struct Noted {
    tried: Vec<String>,
    /// Those whom it is for have left.
    left: Arc<AtomicBool>,
}

impl Work<TokioEnv> for Noted {
    type Done = Lease<TokioEnv>;

    fn set_waiting(&mut self, _: bool) {}

    fn is_unwanted(&mut self, _: &mut Context<'_>) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    async fn attempt(
        &mut self,
        lease: Lease<TokioEnv>,
        backend: &Arc<Backend<TokioEnv>>,
    ) -> Result<Lease<TokioEnv>, Failure> {
        self.tried.push(backend.model.name.clone());
        Ok(lease)
    }

    fn may_retry(&self, _: &Failure) -> bool {
        false
    }
}

/// Two backends of one place each.
fn pair() -> model::Upstream {
    let backend = |port| format!(r#"{{"url": "http://127.0.0.1:{port}", "max_in_flight": 1}}"#);
    let text = format!(
        r#"{{"listeners": {{"l": {{"bind": "127.0.0.1:8080"}}}},
            "upstreams": {{"u": {{"backends": [{}, {}]}}}}}}"#,
        backend(1),
        backend(2)
    );
    let mut config = load_str("test", &text, &|_| None).expect("it is valid");
    config.upstreams.remove(0)
}

/// Where backends are tried: an errand, and an upstream of `model`.
struct Scene {
    env: TokioEnv,
    model: model::Upstream,
    telemetry: Arc<Telemetry>,
    errand: Arc<Errand<TokioEnv>>,
    _place: Place<TokioEnv>,
    upstream: Arc<Upstream<TokioEnv>>,
}

impl Scene {
    fn new() -> Self {
        let env = TokioEnv::new().expect("the system has entropy");
        let model = pair();
        let layout = Layout {
            listeners: vec!["l".into()],
            upstreams: names(&model),
        };
        let telemetry = Arc::new(Telemetry::new(layout, 1, None));
        let core = Core::new(&env, &telemetry, &Arc::<Drain>::default());
        let (errand, place) = Errand::begin(&core);
        let enrolled = telemetry.enroll(&names(&model)).remove(0);
        let upstream = Upstream::new(&env, &model, enrolled);
        Scene {
            env,
            model,
            telemetry,
            errand,
            _place: place,
            upstream,
        }
    }

    /// Takes both places there are.
    fn fill(&self) -> [Lease<TokioEnv>; 2] {
        let meta = Meta::first(self.errand.now());
        let gate = &self.upstream.gate;
        let mut first = spawn(gate.acquire(self.errand.now(), &meta));
        let mut second = spawn(gate.acquire(self.errand.now(), &meta));
        let held = [assert_ready!(first.poll()), assert_ready!(second.poll())];
        held.map(|lease| lease.expect("there is a place"))
    }
}

fn names(model: &model::Upstream) -> Vec<(String, Vec<String>)> {
    let backends = model.backends.iter().map(|b| b.name.clone());
    vec![(model.name.clone(), backends.collect())]
}

#[test]
fn work_is_offered_anew_when_its_backend_is_gone() {
    let scene = Scene::new();
    let Scene {
        env,
        model,
        errand,
        upstream,
        ..
    } = &scene;
    let enroll = |model| scene.telemetry.enroll(&names(model)).remove(0);
    let meta = Meta::first(errand.now());
    let [leaves, stays] = scene.fill();
    let (mut work, mut tries) = (Noted::default(), Tries::default());
    {
        let mut trying: Spawn<_> = spawn(try_backends(
            errand,
            upstream,
            meta.clone(),
            &mut work,
            &mut tries,
        ));
        assert!(trying.poll().is_pending());
        // It is granted a place on a backend that two generations later nobody knows.
        let gone = leaves.backend();
        leaves.finish(Outcome::Success);
        let mut less = model.clone();
        let place = less.spec.backends.iter().position(|b| b.id == gone);
        let place = place.expect("it is one of them");
        less.spec.backends.remove(place);
        less.backends.remove(place);
        let next = upstream.follow(env, &less, enroll(&less));
        let _latest = next.follow(env, &less, enroll(&less));
        assert!(trying.is_woken());
        assert!(trying.poll().is_pending());
        // The other one is full, and has its place when it is free.
        stays.finish(Outcome::Success);
        assert!(trying.is_woken());
        assert!(assert_ready!(trying.poll()).is_ok());
    }
    assert_eq!(work.tried.len(), 1);
    assert_eq!(tries.attempts, 1);
    assert!(upstream.gate.status().in_flight <= 1);
}

#[test]
fn a_place_goes_on_to_the_next_when_nobody_wants_it_any_more() {
    let scene = Scene::new();
    let (errand, upstream) = (&scene.errand, &scene.upstream);
    let meta = Meta::first(errand.now());
    let [ends, _stays] = scene.fill();
    let (mut work, mut tries) = (Noted::default(), Tries::default());
    let left = Arc::clone(&work.left);
    {
        let tried = try_backends(errand, upstream, meta.clone(), &mut work, &mut tries);
        let mut trying: Spawn<_> = spawn(tried);
        assert!(trying.poll().is_pending());
        let mut next = spawn(upstream.gate.acquire(errand.now(), &meta));
        assert!(next.poll().is_pending());
        // Its place comes, and before it hears of it there is nobody left to want it.
        ends.finish(Outcome::Success);
        assert!(trying.is_woken() && !next.is_woken());
        left.store(true, Ordering::Relaxed);
        let tried = assert_ready!(trying.poll());
        assert!(matches!(tried, Err(Cause::ClientGone)));
        assert!(next.is_woken());
        assert!(assert_ready!(next.poll()).is_ok());
    }
    assert!(work.tried.is_empty());
}
