//! The real proxy as the subject of a rehearsal: the library's own serving code, with as many core loops as the plan says.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Mutex};

use weirkeeper::config::model::Config;
use weirkeeper::env::Env;
use weirkeeper::proxy::{self, Proxy};
use weirkeeper::telemetry::{Layout, Telemetry, UpstreamStatus};

use crate::env::{SimEnv, lock};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::run::{Serving, Subject};

/// The proxy itself.
#[derive(Default)]
pub struct Weir {
    /// Each replica, once it serves, and where it does.
    proxies: RefCell<Vec<(Arc<Proxy<SimEnv>>, SimEnv)>>,
    /// How many connections each core cut when it ended.
    cut: Arc<Mutex<Vec<usize>>>,
    cores: Cell<usize>,
}

impl Subject for Weir {
    fn serve(&self, env: SimEnv, plan: &Plan, ledger: Ledger) -> Serving {
        // Engines of other replicas decide for themselves, and the checkers follow the first.
        let followed = self.proxies.borrow().is_empty().then_some(&ledger);
        let started = start(&env, plan, followed);
        if let Ok((proxy, _)) = &started {
            let replica = (Arc::clone(proxy), env.clone());
            self.proxies.borrow_mut().push(replica);
        }
        self.cores.set(self.cores.get() + plan.cores);
        let cut = Arc::clone(&self.cut);
        Box::pin(async move {
            let (proxy, loops) = started?;
            for (env, bound) in loops {
                let serving = proxy::serve(Arc::clone(&proxy), env.clone(), bound);
                let cut = Arc::clone(&cut);
                env.spawn("core", async move {
                    let drained = serving.await;
                    lock(&cut).push(drained.cut);
                });
            }
            std::future::pending().await
        })
    }

    fn status(&self) -> Vec<UpstreamStatus> {
        let proxies = self.proxies.borrow();
        let status = proxies.iter().map(|(proxy, _)| proxy.upstream_status());
        status.flatten().collect()
    }

    fn replace(&self, config: &Config) -> io::Result<()> {
        let proxies = self.proxies.borrow();
        let mut proxies = proxies.iter();
        proxies.try_for_each(|(proxy, env)| proxy.replace(env, config.clone()))
    }

    fn stop(&self) {
        let proxies = self.proxies.borrow();
        proxies.iter().for_each(|(proxy, _)| proxy.shutdown());
    }

    fn stopped(&self) -> Option<usize> {
        let cut = lock(&self.cut);
        (cut.len() == self.cores.get()).then(|| cut.iter().sum())
    }
}

type Started = (Arc<Proxy<SimEnv>>, Vec<(SimEnv, proxy::Bound<SimEnv>)>);

fn start(env: &SimEnv, plan: &Plan, followed: Option<&Ledger>) -> io::Result<Started> {
    let config = Arc::clone(&plan.config);
    let layout = Layout {
        listeners: config.listeners.iter().map(|l| l.name.clone()).collect(),
        upstreams: config
            .upstreams
            .iter()
            .map(|u| {
                let backends = u.backends.iter().map(|b| b.name.clone()).collect();
                (u.name.clone(), backends)
            })
            .collect(),
    };
    let telemetry = Arc::new(Telemetry::new(layout, plan.cores, None));
    let proxy = Proxy::new(env, config, telemetry).expect("TLS of a checked config can be set up");
    if let Some(ledger) = followed.cloned() {
        proxy.observe(move |upstream, at, event| ledger.book().engine(upstream, at, event));
    }
    let mut loops = Vec::new();
    for core in 0..plan.cores {
        let env = env.for_core(core);
        let bound = proxy.bind(&env)?;
        loops.push((env, bound));
    }
    debug_assert!(loops.iter().enumerate().all(|(i, (e, _))| e.core() == i));
    Ok((proxy, loops))
}
