//! What requests themselves tell of a backend, beside its peers: so many failures in a row, too large a share of failures, or
//! answers that begin too late take it out for a time, which doubles when that comes again. Absent: health checks (health), a
//! moment's back-off after a refusal (backend), and who may be out together with whom (pool).

use std::time::Duration;

use crate::time::Tick;

/// When a backend is ejected, for how long, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierSpec {
    /// Failures in a row that eject; 0 is never.
    pub consecutive: u32,
    /// Failures in percent of the requests of a window that eject, if they are twice those of the peers as well; 0 is never.
    pub failure_percent: u32,
    /// The mean time to the first byte, in percent of that of the peers, that ejects; 0 is never.
    pub latency_percent: u32,
    /// Requests that a window must have, of a backend and of its peers, for shares and times to count; at least 1.
    pub min_requests: u32,
    /// How far back they are looked at.
    pub window: Duration,
    /// How long the first ejection lasts; each further one lasts twice as long.
    pub base: Duration,
    /// At most so long.
    pub max: Duration,
    /// At most so much of the weight, in percent, is ejected or down together.
    pub max_ejected_percent: u32,
    /// How long a backend that comes back, after an ejection or after its checks had failed, takes to get its whole share.
    pub slow_start: Duration,
}

/// Why a backend is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Too many requests in a row failed.
    Consecutive,
    /// Too large a share of them failed.
    FailureRate,
    /// Its answers begin too late.
    Latency,
}

impl Reason {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Reason; 3] = [Reason::Consecutive, Reason::FailureRate, Reason::Latency];

    /// Its name in metrics and logs: `failure_rate`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Consecutive => "consecutive",
            Reason::FailureRate => "failure_rate",
            Reason::Latency => "latency",
        }
    }
}

/// A window is made of so many steps: what is older than the window by less than a step still counts.
const STEPS: usize = 10;

/// A peer fails as well when so many of its last requests in a row did.
const FAILING: u32 = 2;

/// Peers are taken to need so long at least, lest a moment more than nothing counts as many times as long.
const SHORTEST: Duration = Duration::from_millis(1);

/// Requests, failures and times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    requests: u64,
    failures: u64,
    /// Those whose time to the first byte is known.
    timed: u64,
    nanos: u64,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.timed += other.timed;
        self.nanos += other.nanos;
    }

    fn subtract(&mut self, other: Sums) {
        self.requests -= other.requests;
        self.failures -= other.failures;
        self.timed -= other.timed;
        self.nanos -= other.nanos;
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.nanos / self.timed.max(1))
    }
}

impl std::iter::Sum for Sums {
    fn sum<I: Iterator<Item = Sums>>(all: I) -> Sums {
        let mut total = Sums::default();
        all.for_each(|sums| total.add(sums));
        total
    }
}

/// Sums over the last so long.
#[derive(Clone, Debug, Default)]
struct Window {
    steps: [Sums; STEPS],
    total: Sums,
    /// The number of the latest step, counted from the beginning of time.
    step: u64,
}

impl Window {
    /// Forgets what is too old.
    fn turn(&mut self, now: Tick, length: Duration) {
        let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let step = now.as_nanos() / (length / STEPS as u64).max(1);
        if step == self.step {
            return;
        }
        let gone = (step.saturating_sub(self.step)).min(STEPS as u64);
        for i in 0..gone {
            let place = ((step - i) % STEPS as u64) as usize;
            self.total.subtract(std::mem::take(&mut self.steps[place]));
        }
        self.step = step;
    }

    fn add(&mut self, sums: Sums) {
        self.steps[(self.step % STEPS as u64) as usize].add(sums);
        self.total.add(sums);
    }
}

/// What is known of one backend by its requests.
#[derive(Clone, Debug, Default)]
pub struct Outlier {
    /// Failures in a row, the latest last.
    streak: u32,
    window: Window,
    /// The step of the window at which its sums were looked at last.
    looked: u64,
    /// Ejections in a row: the exponent of the next.
    repeats: u32,
    /// How long the last one lasted.
    lasted: Duration,
    /// When the last one ended.
    returned: Tick,
}

impl Outlier {
    /// Takes in that a request, granted at `granted`, has failed or not, and when its answer began, if that is measured. False:
    /// it says nothing, since it is from before the last ejection ended.
    pub fn handle(
        &mut self,
        now: Tick,
        spec: &OutlierSpec,
        granted: Tick,
        failed: bool,
        first_byte: Option<Tick>,
    ) -> bool {
        if granted < self.returned {
            return false;
        }
        self.streak = match failed {
            true => self.streak.saturating_add(1),
            false => 0,
        };
        self.window.turn(now, spec.window);
        self.window.add(Sums {
            requests: 1,
            failures: u64::from(failed),
            timed: u64::from(first_byte.is_some()),
            nanos: first_byte.map_or(0, |at| at.since(granted).as_nanos() as u64),
        });
        true
    }

    /// Have so many requests in a row failed as eject it?
    pub fn has_failed_in_a_row(&self, spec: &OutlierSpec) -> bool {
        spec.consecutive > 0 && self.streak >= spec.consecutive
    }

    /// Did its latest requests fail?
    pub fn is_failing(&self) -> bool {
        self.streak >= FAILING
    }

    /// Is it time to look at the sums of the window? Once in each of its steps.
    pub fn is_due(&mut self, spec: &OutlierSpec) -> bool {
        let is_due = self.looked != self.window.step
            && (spec.failure_percent > 0 || spec.latency_percent > 0)
            && self.window.total.requests >= u64::from(spec.min_requests);
        if is_due {
            self.looked = self.window.step;
        }
        is_due
    }

    /// What the window has summed up by `now`.
    pub fn sums(&self, now: Tick, spec: &OutlierSpec) -> Sums {
        let mut window = self.window.clone();
        window.turn(now, spec.window);
        window.total
    }

    /// It is out from `now` on: for how long.
    pub fn eject(&mut self, now: Tick, spec: &OutlierSpec) -> Duration {
        if now.since(self.returned) > self.lasted {
            // It has served well for longer than it was out.
            self.repeats = 0;
        }
        let factor = 1_u32.checked_shl(self.repeats).unwrap_or(u32::MAX);
        self.lasted = spec.base.saturating_mul(factor).min(spec.max);
        self.repeats = self.repeats.saturating_add(1);
        self.lasted
    }

    /// It is back. What was known of it is of no interest any more.
    pub fn come_back(&mut self, now: Tick) {
        self.streak = 0;
        self.window = Window::default();
        self.returned = now;
    }
}

/// Do these sums, beside those of its peers, eject a backend?
pub fn stands_out(spec: &OutlierSpec, own: Sums, peers: Sums) -> Option<Reason> {
    let enough = u64::from(spec.min_requests);
    if own.requests < enough || peers.requests < enough {
        return None;
    }
    let percent = u64::from(spec.failure_percent);
    if percent > 0
        && own.failures * 100 >= percent * own.requests
        && own.failures * peers.requests >= 2 * peers.failures * own.requests
    {
        return Some(Reason::FailureRate);
    }
    if spec.latency_percent > 0 && own.timed >= enough && peers.timed >= enough {
        let peers = peers.mean().max(SHORTEST);
        let bound = peers.saturating_mul(spec.latency_percent) / 100;
        return (own.mean() >= bound).then_some(Reason::Latency);
    }
    None
}

/// A backend that has come back gets its whole share by and by: a part of its turns goes to others, the larger the sooner.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    since: Tick,
    length: Duration,
    /// What is left of turns that were taken in part; a whole one is a turn.
    credit: f64,
}

/// The part of its turns that it takes at once, so that real requests show how it is.
pub const FLOOR: f64 = 0.1;

impl Ramp {
    /// It has come back at `since`. Its first turn is its own.
    pub fn new(since: Tick, length: Duration) -> Self {
        Ramp {
            since,
            length,
            credit: 1.0 - FLOOR,
        }
    }

    /// The part of its turns that it takes at `now`; `None` is all of them, from here on.
    pub fn part(&self, now: Tick) -> Option<f64> {
        let elapsed = now.since(self.since);
        (elapsed < self.length)
            .then(|| (elapsed.as_secs_f64() / self.length.as_secs_f64()).max(FLOOR))
    }

    /// It is its turn: does it take it?
    pub fn takes_turn(&mut self, now: Tick) -> bool {
        let Some(part) = self.part(now) else {
            return true;
        };
        self.credit += part;
        let takes = self.credit >= 1.0 - 1e-9;
        if takes {
            self.credit -= 1.0;
        }
        takes
    }
}

#[cfg(test)]
mod tests;
