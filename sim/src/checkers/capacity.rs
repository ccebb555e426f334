//! No bound on what runs is exceeded: connections to a backend, busy and idle, by its max_in_flight, and what an upstream runs by
//! its own. (What a backend has at once, orphans aside, its model checks as it happens.)

use weirkeeper::config::model::Upstream;
use weirkeeper::engine::trace::Event;

use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (plan, open) in run.plan.backends.iter().zip(&run.open) {
        // A health check comes beside the requests.
        let checked = |u: &&Upstream| u.health.is_some() && u.id_of(&plan.name).is_some();
        let checks = run.plan.config.upstreams.iter().filter(checked).count();
        let checks = u32::try_from(checks).unwrap_or(u32::MAX);
        if let Some(max) = plan.max_in_flight
            && open.peak > max.saturating_add(checks)
        {
            let (name, peak) = (&plan.name, open.peak);
            found.push(format!(
                "{name} had {peak} connections at once, and may have {max}"
            ));
        }
    }
    let upstreams = &run.plan.config.upstreams;
    let mut running = vec![0_i64; upstreams.len()];
    let mut by_backend: Vec<Vec<i64>> = upstreams
        .iter()
        .map(|u| vec![0; u.backends.len()])
        .collect();
    for (upstream, at, event) in &run.book.engine {
        let (u, step, backend) = match event {
            Event::Picked { backend, .. } => (*upstream, 1, *backend),
            Event::Finished(backend, _) => (*upstream, -1, *backend),
            _ => continue,
        };
        running[u] += step;
        let spec = &upstreams[u].spec;
        if let Some(i) = spec.backends.iter().position(|b| b.id == backend) {
            by_backend[u][i] += step;
            let max = spec.backends[i].max_in_flight.map(i64::from);
            if max.is_some_and(|max| by_backend[u][i] > max) {
                let name = &upstreams[u].backends[i].name;
                found.push(format!(
                    "{name} was granted {} slots at {at}",
                    by_backend[u][i]
                ));
            }
        }
        if spec
            .max_in_flight
            .is_some_and(|max| running[u] > i64::from(max))
        {
            let name = &upstreams[u].name;
            found.push(format!("{name} ran {} requests at {at}", running[u]));
        }
    }
    found.truncate(5);
    found
}
