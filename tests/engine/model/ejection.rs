//! Ejections, as the model has them: it keeps every result, and looks at all of them each time.

use std::time::Duration;

use weirkeeper::engine::outlier::OutlierSpec;
use weirkeeper::engine::{BackendId, Outcome, Standing};
use weirkeeper::time::Tick;

use super::{Model, ModelBackend};

/// What a backend's requests have come to since it was ejected last.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    /// When each ended, and whether it failed.
    results: Vec<(Tick, bool)>,
    /// The step of the window in which they were looked at last.
    looked: u64,
    repeats: u32,
    lasted: Duration,
    returned: Tick,
}

fn step(at: Tick, spec: &OutlierSpec) -> u64 {
    at.as_nanos() / (spec.window.as_nanos() as u64 / 10)
}

impl Judged {
    fn streak(&self) -> usize {
        let back = self.results.iter().rev();
        back.take_while(|(_, failed)| *failed).count()
    }

    /// Requests and failures within the window.
    fn sums(&self, now: Tick, spec: &OutlierSpec) -> (u64, u64) {
        let recent = |at: Tick| step(at, spec) + 10 > step(now, spec);
        let recent: Vec<_> = self.results.iter().filter(|(at, _)| recent(*at)).collect();
        let failures = recent.iter().filter(|(_, failed)| *failed).count();
        (recent.len() as u64, failures as u64)
    }
}

impl ModelBackend {
    pub(super) fn end_ejection(&mut self, now: Tick) {
        if self.ejected.is_some_and(|until| until <= now) {
            self.ejected = None;
            self.judged.results.clear();
            self.judged.returned = now;
        }
    }
}

impl Model {
    /// Those of the others that are neither ejected nor down.
    fn peers(&self, id: BackendId) -> Vec<&ModelBackend> {
        let is_in = |b: &&ModelBackend| b.spec.id != id && b.standing() < Standing::Ejected;
        self.backends.iter().filter(is_in).collect()
    }

    pub(super) fn judge(&mut self, now: Tick, id: BackendId, granted: Tick, outcome: Outcome) {
        let Some(spec) = self.spec.outlier else {
            return;
        };
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::ReuseRace | Outcome::Cancelled => return,
            _ => true,
        };
        let b = self.find(id).expect("it is there");
        if b.ejected.is_some() || granted < b.judged.returned {
            return;
        }
        b.judged.results.push((now, failed));
        let streak = b.judged.streak();
        let own = b.judged.sums(now, &spec);
        let enough = u64::from(spec.min_requests);
        let is_due =
            b.judged.looked != step(now, &spec) && spec.failure_percent > 0 && own.0 >= enough;
        if is_due {
            b.judged.looked = step(now, &spec);
        }
        let in_a_row = failed && spec.consecutive > 0 && streak >= spec.consecutive as usize;
        let peers = self.peers(id);
        let failing = peers.iter().filter(|p| p.judged.streak() >= 2).count();
        let all_fail = 2 * failing > peers.len();
        let sums = peers.iter().map(|p| p.judged.sums(now, &spec));
        let theirs = sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let left: u32 = peers.iter().map(|p| p.spec.weight).sum();
        let weight: u32 = self.backends.iter().map(|b| b.spec.weight).sum();
        let is_large = own.0 >= enough
            && theirs.0 >= enough
            && own.1 * 100 >= u64::from(spec.failure_percent) * own.0
            && own.1 * theirs.0 >= 2 * theirs.1 * own.0;
        let why = match (in_a_row && !all_fail, is_due && is_large) {
            (true, _) => "ejected for failures in a row",
            (false, true) => "ejected for its share of failures",
            (false, false) => {
                if in_a_row {
                    self.saw("spared since the others fail as well");
                }
                return;
            }
        };
        if (weight - left) * 100 > weight * spec.max_ejected_percent {
            return self.saw("spared for the others that are out");
        }
        let b = self.find(id).expect("it is there");
        if now.since(b.judged.returned) > b.judged.lasted {
            b.judged.repeats = 0;
        }
        let length = (spec.base * 2_u32.pow(b.judged.repeats.min(20))).min(spec.max);
        b.judged.repeats += 1;
        b.judged.lasted = length;
        b.ejected = Some(now + length);
        let again = b.judged.repeats > 1;
        self.saw(why);
        if again {
            self.saw("ejected again for twice as long");
        }
    }
}
