//! After every fault is over, all is well again: what was under way ended, probes are answered (both are seen in the world
//! itself), and no engine passes a backend over for longer than its back-off allows.

use weirkeeper::engine::trace::Event;

use crate::run::Run;

pub(super) fn check(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    let offered = run
        .book
        .requests
        .iter()
        .any(|r| r.group != crate::ledger::PROBE);
    if run.stopped.is_none() && offered && run.book.engine.is_empty() && !run.status.is_empty() {
        found.push("no engine ever decided anything".to_string());
    }
    for (u, at, event) in &run.book.engine {
        let Event::BackedOff(_, until) = event else {
            continue;
        };
        let most = run.plan.config.upstreams[*u].spec.back_off.max;
        if until.since(*at) > most {
            found.push(format!(
                "a back-off at {at} lasts until {until}, longer than {most:?}"
            ));
        }
    }
    found.truncate(5);
    found
}
