//! Unruly clients in the swarm's worlds of HTTP/1.1: what the config has for them, and what they and the backends are like.
//! They are drawn from streams of their own, so that the rest of a world is what it is without them.

use serde_json::{Value, json};
use weirkeeper::config::model::Config;
use weirkeeper::rng::Rng;

use super::one;
use crate::model::forgery::CLOSED;
use crate::model::speech::{Habits, Paced, Unruly};
use crate::plan::Plan;

/// The host that well-behaved clients ask. Nothing of the proxy's own is answered there.
pub(super) const HOST: &str = "weir.test";

/// The listener that minds who is slow.
const PACED: &str = "paced";

/// The listeners: one for everybody, one that minds who is slow, and one that takes no body larger than the smallest of
/// requests, where there is more to be refused.
pub(super) fn listeners(rng: &mut Rng) -> Value {
    let requests = one(rng, &[None, None, Some(1), Some(3), Some(20)]);
    json!({
        "web": { "bind": ":8080", "limits": { "requests_per_connection": requests } },
        "narrow": { "bind": ":8081", "limits": { "body": "68" } },
        "paced": {
            "bind": ":8082",
            "limits": { "min_rate": "2KiB" },
            "timeouts": { "rate_window": "1s", "body": "900ms" },
        },
    })
}

/// What is closed at the host that everybody asks. It stands before the routes that lead to backends.
pub(super) fn closed() -> Value {
    json!({
        "name": "closed",
        "match": { "path": { "prefix": format!("/{CLOSED}") } },
        "respond": { "status": 403 },
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
        paced: paths.first().map(|path| paced(&plan.config, path)),
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
        .filter(|l| l.name != PACED)
        .map(|l| (l.bind.port(), l.limits.body_bytes))
        .collect()
}

/// The listener that minds, with a path that leads to the upstream behind it.
fn paced(config: &Config, path: &str) -> Paced {
    let listener = config.listeners.iter().find(|l| l.name == PACED);
    let listener = listener.expect("every world with paths has it");
    // Every other path leads to the upstream that the last forwarding route names.
    let upstream = config.upstreams.iter().find(|u| u.name == "front");
    Paced {
        port: listener.bind.port(),
        path: path.to_string(),
        rate: listener.limits.min_rate,
        sending: listener.sending_rate().window,
        taking: listener.taking_rate().window,
        ahead: upstream.is_some_and(|u| u.read_ahead() > 0),
    }
}
