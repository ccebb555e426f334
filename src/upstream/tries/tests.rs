//! Work that was led to a backend which is gone before it runs.

use tokio_test::assert_ready;
use tokio_test::task::{Spawn, spawn};

use super::*;
use crate::config::{load_str, model};
use crate::env::tokio::TokioEnv;
use crate::telemetry::{Layout, Telemetry};
use crate::wire::core::{Core, Drain};

/// Notes who it was tried on, and holds the place.
struct Noted {
    tried: Vec<String>,
}

impl Work<TokioEnv> for Noted {
    type Done = Lease<TokioEnv>;

    fn set_waiting(&mut self, _: bool) {}

    fn is_unwanted(&mut self, _: &mut Context<'_>) -> bool {
        false
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

#[test]
fn work_is_offered_anew_when_its_backend_is_gone() {
    let env = TokioEnv::new().expect("the system has entropy");
    let model = pair();
    let names = |model: &model::Upstream| {
        let backends = model.backends.iter().map(|b| b.name.clone());
        vec![(model.name.clone(), backends.collect())]
    };
    let layout = Layout {
        listeners: vec!["l".into()],
        upstreams: names(&model),
    };
    let telemetry = Arc::new(Telemetry::new(layout, 1, None));
    let core = Core::new(&env, &telemetry, &Arc::<Drain>::default());
    let (errand, _place) = Errand::begin(&core);
    let enroll = |model| telemetry.enroll(&names(model)).remove(0);
    let upstream = Upstream::new(&env, &model, enroll(&model));

    let meta = Meta::first(errand.now());
    let mut first = spawn(upstream.gate.acquire(errand.now(), &meta));
    let mut second = spawn(upstream.gate.acquire(errand.now(), &meta));
    let held = [assert_ready!(first.poll()), assert_ready!(second.poll())];
    let [leaves, stays] = held.map(|lease| lease.expect("there is a place"));
    let (mut work, mut tries) = (Noted { tried: Vec::new() }, Tries::default());
    {
        let mut trying: Spawn<_> = spawn(try_backends(
            &errand,
            &upstream,
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
        let next = upstream.follow(&env, &less, enroll(&less));
        let _latest = next.follow(&env, &less, enroll(&less));
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
