//! A minimum rate for what a client sends or takes: bytes over a sliding window of the time in which it alone was waited for.
//!
//! Time in which the backend or the proxy itself was slow does not pass here at all. So a client that keeps the rate whenever it
//! is its turn is never found slow, and one that moves a byte now and then is, however often it does. Absent: what happens to
//! those that are.

use std::time::Duration;

use crate::time::Tick;

/// The least that a client must move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second; 0 asks for nothing.
    pub bytes_per_second: u64,
    /// How long it may be below that: any window of waiting as long as this has its bytes. Above zero.
    pub window: Duration,
}

impl MinRate {
    /// Bytes that a window must have.
    fn needed(&self) -> u64 {
        let nanos = u128::from(self.bytes_per_second) * self.window.as_nanos();
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

/// Parts of a window. A window may be longer by one of them than it is said to be, and never shorter.
const PARTS: u64 = 10;

/// One direction of one exchange.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes that a window must have; 0 is none.
    needed: u64,
    /// A part of the window, in nanoseconds.
    part: u64,
    /// Nanoseconds in which the client was waited for, up to `since`.
    waited: u64,
    /// The client is waited for since then.
    since: Option<Tick>,
    /// Bytes that have moved.
    moved: u64,
    /// What had moved when each of the latest parts began. Part `n` is at `n` modulo [`PARTS`].
    marks: [u64; PARTS as usize],
    /// A window has had too few. What comes behind it is too late.
    late: bool,
}

impl Pace {
    /// Nothing has moved, and nobody is waited for.
    pub fn new(rule: MinRate) -> Self {
        let window = u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX);
        Pace {
            needed: rule.needed(),
            part: (window / PARTS).max(1),
            waited: 0,
            since: None,
            moved: 0,
            marks: [0; PARTS as usize],
            late: false,
        }
    }

    /// The client is waited for from `now` on, if it was not already.
    pub fn wait(&mut self, now: Tick) {
        self.since.get_or_insert(now);
    }

    /// So many bytes have moved by `now`. Whether the client is waited for stays as it is.
    pub fn moved(&mut self, now: Tick, bytes: u64) {
        self.pass(now);
        self.moved = self.moved.saturating_add(bytes);
    }

    /// The client is not waited for from `now` on.
    pub fn rest(&mut self, now: Tick) {
        self.pass(now);
        self.since = None;
    }

    /// Is it waited for?
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Was it too slow, by the latest time that is known of?
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// When it will have been too slow, if nothing moves and it is waited for until then. [`Tick::MAX`] when nobody waits, and
    /// where no rate is asked for. A time that has passed says that it is too slow.
    pub fn deadline(&self) -> Tick {
        let Some(since) = self.since.filter(|_| self.needed > 0) else {
            return Tick::MAX;
        };
        if self.late {
            return Tick::ZERO;
        }
        // The first part that will begin with too few bytes in the window before it.
        let current = self.waited / self.part;
        let first = (current + 1).max(PARTS);
        let late = (first..=current + PARTS).find(|part| {
            let mark = self.marks[((part - PARTS) % PARTS) as usize];
            self.moved - mark < self.needed
        });
        // Nothing at all will move in the window behind those.
        let part = late.unwrap_or(current + PARTS + 1);
        let left = part.saturating_mul(self.part).saturating_sub(self.waited);
        since + Duration::from_nanos(left)
    }

    /// Takes the time up to `now` into account.
    fn pass(&mut self, now: Tick) {
        let Some(since) = self.since.filter(|since| *since < now) else {
            return;
        };
        self.late |= self.deadline() <= now;
        self.since = Some(now);
        let before = self.waited / self.part;
        let passed = u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX);
        self.waited = self.waited.saturating_add(passed);
        let after = self.waited / self.part;
        // Those that began meanwhile began with what has moved by now.
        for part in (before + 1)..=after.min(before + PARTS) {
            let part = part + after.saturating_sub(before + PARTS);
            self.marks[(part % PARTS) as usize] = self.moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: MinRate = MinRate {
        bytes_per_second: 50,
        window: Duration::from_secs(20),
    };

    fn at(seconds: u64) -> Tick {
        Tick::from_millis(seconds * 1000)
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress() {
        let mut pace = Pace::new(RULE);
        pace.wait(at(0));
        for second in 1..20 {
            assert_eq!(pace.deadline(), at(20), "after {second} s");
            pace.moved(at(second), 1);
        }
        assert_eq!(pace.deadline(), at(20));
    }

    #[test]
    fn who_stalls_has_a_window_from_its_last_bytes() {
        let mut pace = Pace::new(RULE);
        pace.wait(at(0));
        pace.moved(at(5), 10_000);
        // The part in which they came is the last that has them.
        assert_eq!(pace.deadline(), at(26));
        pace.moved(at(25), 999);
        assert_eq!(pace.deadline(), at(26));
        pace.moved(at(25), 1);
        assert_eq!(pace.deadline(), at(46));
    }

    #[test]
    fn what_comes_behind_a_window_with_too_few_is_too_late() {
        let mut pace = Pace::new(RULE);
        pace.wait(at(0));
        for tenth in 1..=210 {
            // However often it comes, and however close to the end of the window.
            pace.moved(Tick::from_millis(tenth * 100), 4);
            assert_eq!(pace.is_late(), tenth >= 200, "after {tenth} tenths");
        }
        pace.moved(at(21), 1_000_000);
        assert!(pace.is_late() && pace.deadline() <= at(21));
    }

    #[test]
    fn the_time_of_others_does_not_pass() {
        let mut pace = Pace::new(RULE);
        pace.wait(at(0));
        pace.rest(at(19));
        assert_eq!(pace.deadline(), Tick::MAX);
        pace.wait(at(1000));
        assert_eq!(pace.deadline(), at(1001));
    }

    #[test]
    fn where_no_rate_is_asked_for_nobody_is_slow() {
        let mut pace = Pace::new(MinRate {
            bytes_per_second: 0,
            ..RULE
        });
        pace.wait(at(0));
        assert_eq!(pace.deadline(), Tick::MAX);
    }

    /// What happens next, and after how many milliseconds.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Moved(u64),
        Wait,
        Rest,
    }

    fn step() -> impl Strategy<Value = (u64, Step)> {
        let step = prop_oneof![
            4 => (0_u64..400).prop_map(Step::Moved),
            1 => Just(Step::Wait),
            1 => Just(Step::Rest),
        ];
        (0_u64..700, step)
    }

    /// Every byte with the time waited before it came, which is looked at from scratch each time.
    #[derive(Default)]
    struct Model {
        waited: u64,
        moved: Vec<(u64, u64)>,
    }

    impl Model {
        /// Bytes after `from` and up to `to`.
        fn within(&self, from: u64, to: u64) -> u64 {
            let within = self.moved.iter().filter(|(w, _)| *w > from && *w <= to);
            within.map(|(_, bytes)| bytes).sum()
        }
    }

    proptest! {
        /// In milliseconds of waiting: whoever is found slow was below the rate for a whole window, and whoever is below it for
        /// a window and a part of one is found slow.
        #[test]
        fn the_slow_are_found_and_no_others(steps in prop::collection::vec(step(), 0..300)) {
            let rule = MinRate { bytes_per_second: 100, window: Duration::from_secs(2) };
            let (window, part, needed) = (2000, 200, 200);
            let mut pace = Pace::new(rule);
            let mut model = Model::default();
            let mut now = 0;
            pace.wait(Tick::ZERO);
            for (after, step) in steps {
                let waiting = pace.is_waiting();
                let until = model.waited + if waiting { after } else { 0 };
                let due = pace.deadline() <= Tick::from_millis(now + after);
                if due {
                    let late = model.waited + (pace.deadline().as_nanos() / 1_000_000 - now);
                    prop_assert!(late >= window);
                    prop_assert!(model.within(late - window, late) < needed, "wronged at {late}");
                    return Ok(());
                }
                let slow = |end: u64| end >= window + part
                    && model.within(end - window - part, end) < needed;
                prop_assert!(!slow(until), "slow, and not found at {until}");
                now += after;
                model.waited = until;
                match step {
                    Step::Moved(bytes) => {
                        pace.moved(Tick::from_millis(now), bytes);
                        model.moved.push((model.waited, bytes));
                    }
                    Step::Wait => pace.wait(Tick::from_millis(now)),
                    Step::Rest => pace.rest(Tick::from_millis(now)),
                }
            }
        }
    }
}
