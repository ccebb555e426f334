//! Unruly clients in the swarm's worlds of HTTP/1.1: what the config has for them, and what they and the backends are like.
//! They are drawn from streams of their own, so that the rest of a world is what it is without them.

use serde_json::{Value, json};
use weirkeeper::config::model::Config;
use weirkeeper::rng::Rng;

use super::one;
use crate::model::speech::{Habits, Unruly};
use crate::plan::Plan;

/// The host that well-behaved clients ask. Nothing of the proxy's own is answered there.
pub(super) const HOST: &str = "weir.test";

/// The listeners: one for everybody, and one that takes no body larger than the smallest of requests, where there is more to be
/// refused.
pub(super) fn listeners() -> Value {
    json!({
        "web": { "bind": ":8080" },
        "narrow": { "bind": ":8081", "limits": { "body": "68" } },
    })
}

/// What the proxy answers by itself. For a third target there is no route.
pub(super) fn routes() -> [Value; 2] {
    [
        json!({
            "name": "forbidden",
            "match": { "host": "own.test", "path": "/forbidden" },
            "respond": { "status": 403 },
        }),
        json!({
            "name": "moved",
            "match": { "host": "own.test", "path": "/moved" },
            "redirect": { "to": "https://else.test/", "status": 307 },
        }),
    ]
}

/// Adds unruly clients to most worlds, and habits to their backends; in `sound` worlds, where every request is to be answered,
/// nobody leaves behind an early answer.
pub(super) fn add(seed: u64, plan: &mut Plan, sound: bool) {
    let root = Rng::new(seed);
    let mut rng = root.stream("swarm unruly", 0);
    if rng.below(5) == 0 {
        return;
    }
    let rate = 3.0 + rng.unit() * 7.0;
    let paths = match plan.site {
        Some(_) => Vec::new(),
        None => vec!["/".to_string(), "/back/office".to_string()],
    };
    plan.unruly = Some(Unruly {
        rate,
        doors: doors(&plan.config),
        paths,
    });
    for (i, backend) in plan.backends.iter_mut().enumerate() {
        let mut rng = root.stream("swarm habits", i as u64);
        backend.habits = Habits {
            early: one(&mut rng, &[0.0, 0.1, 0.3]),
            leaves: if sound {
                0.0
            } else {
                one(&mut rng, &[0.0, 0.5])
            },
            interim: one(&mut rng, &[0.0, 0.05, 0.2]),
        };
    }
}

fn doors(config: &Config) -> Vec<(u16, Option<u64>)> {
    let listeners = config.listeners.iter();
    listeners
        .map(|l| (l.bind.port(), l.limits.body_bytes))
        .collect()
}
