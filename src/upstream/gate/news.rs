//! What is told of an upstream when it happens: that no backend is sound any more, and what became of single ones. Absent: the
//! lines of health checks, which know why they failed (prober).

use std::time::Duration;

use super::State;
use crate::engine::Standing;
use crate::engine::outlier::Reason;
use crate::engine::upstream::{BackendStatus, Notice};
use crate::time::Tick;

/// How long nothing is said again of what may come again and again.
const SILENCE: Duration = Duration::from_secs(10);

impl State {
    /// The best standing is worse than was said, or a backend has proved that it serves. `Some` when that is to be said: the
    /// worse not again within a moment, and the better not while there is none.
    #[cold]
    pub(super) fn news(&mut self, now: Tick) -> Option<Standing> {
        let best = self.engine.best();
        let is_proved = std::mem::take(&mut self.is_proved);
        if best > self.said {
            if self.warned.is_some_and(|at| now.since(at) < SILENCE) {
                return None;
            }
            self.warned = Some(now);
        } else if !is_proved || best == self.said {
            return None;
        }
        self.said = best;
        Some(best)
    }

    /// What is to be told of single backends. Ejections are seldom by themselves; what is spared may be spared at every request.
    #[cold]
    pub(super) fn notices(&mut self, now: Tick) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(notice) = self.engine.next_notice() {
            let (id, text) = match notice {
                Notice::Ejected(id, until, reason) => {
                    self.ejections.entry(id).or_default()[reason as usize] += 1;
                    let seconds = until.since(now).as_secs_f64();
                    let why = match reason {
                        Reason::Consecutive => "too many requests in a row failed",
                        Reason::FailureRate => "too large a part of its requests failed",
                        Reason::Latency => "its answers begin late beside those of the others",
                    };
                    (id, format!("is ejected for {seconds:.1} s: {why}"))
                }
                Notice::Returned(id) => (id, "is no longer ejected".to_owned()),
                Notice::Spared(id, reason) => {
                    let is_told = |at| now.since(at) < SILENCE;
                    if self.told_spared.is_some_and(is_told) {
                        continue;
                    }
                    self.told_spared = Some(now);
                    let reason = reason.name();
                    let text = format!("goes on ({reason}), since too many of the others are out");
                    (id, text)
                }
            };
            let status = self.engine.status();
            let is_in = |b: &&BackendStatus| b.standing < Standing::Ejected;
            let left = status.backends.iter().filter(is_in).count();
            let all = status.backends.len();
            let name = self.names.get(&id).map_or("(removed)", String::as_str);
            told.push(format!("backend {name} {text}; {left} of {all} left"));
        }
        told
    }

    /// A backend has served, or its checks pass.
    #[inline]
    pub(super) fn prove(&mut self) {
        self.is_proved = self.said != Standing::Sound;
    }
}

/// Says how the best of the backends stands.
#[cold]
pub(super) fn tell(upstream: &str, best: Standing) {
    match best {
        Standing::Sound => tracing::warn!("upstream {upstream}: a backend is sound again"),
        Standing::BackedOff => tracing::warn!(
            "upstream {upstream}: no backend is sound, since requests have failed on each that is up; they are tried all \
             the same"
        ),
        Standing::Ejected => tracing::warn!(
            "upstream {upstream}: no backend is sound, since each is ejected or down; they are tried all the same"
        ),
        Standing::Down => tracing::warn!(
            "upstream {upstream}: every backend is down; they are tried all the same"
        ),
    }
}
