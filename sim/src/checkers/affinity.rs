//! Under `hash`, connections of one client address go to one backend, for as long as nothing gives way: no bound on load, no
//! capacity, no backend that failed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weirkeeper::engine::trace::Event;
use weirkeeper::engine::{Outcome, Strategy};

use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    if run.plan.traffic.is_none() {
        return Vec::new();
    }
    let mut homes: BTreeMap<(usize, IpAddr), (usize, usize)> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, joint) in run.book.l4.joints.iter().enumerate() {
        let (upstream, _) = run.plan.backends[joint.backend].members[0];
        let conn = joint.conn.and_then(|id| run.book.l4.conns.get(&id));
        let Some(source) = conn.and_then(|c| c.source).filter(|_| keeps(run, upstream)) else {
            continue;
        };
        let home = homes.entry((upstream, source.ip()));
        let (backend, first) = *home.or_insert((joint.backend, number));
        if backend != joint.backend {
            let (ip, other) = (source.ip(), joint.backend);
            found.push(format!(
                "joint {first} of {ip} went to backend {backend}, and joint {number} to {other}"
            ));
        }
    }
    found.truncate(5);
    found
}

/// Does nothing keep a client from its own backend?
fn keeps(run: &Run, upstream: usize) -> bool {
    let spec = &run.plan.config.upstreams[upstream].spec;
    let unbounded = spec.backends.iter().all(|b| b.max_in_flight.is_none());
    let failed = |(u, _, event): &(usize, _, Event)| {
        let bad = match event {
            Event::BackedOff(..) | Event::Down(_) | Event::Ejected(..) => true,
            Event::Finished(_, outcome) => {
                !matches!(outcome, Outcome::Success | Outcome::Cancelled)
            }
            _ => false,
        };
        *u == upstream && bad
    };
    let free = matches!(spec.strategy, Strategy::Hash { load_percent: None });
    free && unbounded && !run.book.engine.iter().any(failed)
}
