//! PURE: when a certificate is due, and when to try again after a failure. Time and randomness are arguments; nothing here waits,
//! reads a clock or talks to anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rng::Rng;
use crate::time::{Tick, Wall};

/// After a first failure; each further one doubles it.
const BACK_OFF: Duration = Duration::from_secs(2 * 60);
/// The longest that a failure alone can lead to.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest that an authority may ask for.
const ASKED: Duration = Duration::from_secs(24 * 3600);
/// Between two orders for one name, however short its certificates live.
const BETWEEN: Duration = Duration::from_secs(5);
/// Dates are looked at this often, since a clock may be set.
const LOOK: Duration = Duration::from_secs(60);

/// A certificate's first and last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first.
    pub begins: Wall,
    /// The last.
    pub expires: Wall,
}

/// When to renew: while a third of the lifetime is left, and up to a thirtieth of it earlier, so that certificates of one day
/// part.
pub fn renewal(validity: Validity, rng: &mut Rng) -> Wall {
    let lifetime = validity.expires.since(validity.begins).as_millis();
    let lifetime = u64::try_from(lifetime).unwrap_or(u64::MAX);
    let early = lifetime / 3 + rng.below(lifetime / 30 + 1);
    Wall::from_millis(validity.expires.as_millis().saturating_sub(early))
}

/// How long to wait after the `failures`-th failure in a row: doubling and jittered, from a minute to six hours, and no less
/// than what the authority has asked for, of which a day is believed.
pub fn back_off(failures: u32, asked: Option<Duration>, rng: &mut Rng) -> Duration {
    let doubled = BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let whole = doubled.min(LONGEST);
    // Half of it is certain: whoever failed together does not try together.
    let jittered = whole.mul_f64(0.5 + rng.unit() / 2.0);
    let asked = asked.unwrap_or_default().min(ASKED);
    jittered.clamp(SHORTEST, LONGEST).max(asked)
}

/// What is wanted, and when each is due.
#[derive(Clone, Debug)]
pub struct Book<K> {
    entries: BTreeMap<K, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When there is one: the date to renew it.
    renewal: Option<Wall>,
    /// Nothing is tried before.
    rest: Tick,
    /// In a row.
    failures: u32,
}

impl<K> Default for Book<K> {
    /// Nothing is wanted.
    fn default() -> Self {
        Book {
            entries: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Book<K> {
    /// From now on these are wanted and no others, each with what is there of it. What was wanted before keeps its back-off.
    pub fn want(
        &mut self,
        wanted: impl Iterator<Item = (K, Option<Validity>)>,
        now: Tick,
        rng: &mut Rng,
    ) {
        let before = std::mem::take(&mut self.entries);
        for (key, validity) in wanted {
            let entry = before.get(&key).copied().unwrap_or(Entry {
                renewal: validity.map(|v| renewal(v, rng)),
                rest: now,
                failures: 0,
            });
            self.entries.insert(key, entry);
        }
    }

    /// Of those that are due, the one that could have been tried for the longest time.
    pub fn due(&self, now: Tick, date: Wall) -> Option<&K> {
        let due = self.entries.iter().filter(|(_, e)| {
            let needed = e.renewal.is_none_or(|renewal| renewal <= date);
            needed && e.rest <= now
        });
        due.min_by_key(|(_, e)| e.rest).map(|(key, _)| key)
    }

    /// How long until something may be due: never long, and zero only if something is.
    pub fn sleep(&self, now: Tick, date: Wall) -> Duration {
        let until = |e: &Entry| {
            let date = e.renewal.map_or(Duration::ZERO, |r| r.since(date));
            date.max(e.rest.since(now))
        };
        let first = self.entries.values().map(until).min();
        first.unwrap_or(LOOK).min(LOOK)
    }

    /// One has come.
    pub fn issued(&mut self, key: &K, validity: Validity, now: Tick, date: Wall, rng: &mut Rng) {
        if let Some(entry) = self.entries.get_mut(key) {
            // Due at once again, it would be ordered without end.
            let third = validity.expires.since(date) / 3;
            *entry = Entry {
                renewal: Some(renewal(validity, rng)),
                rest: now + third.clamp(BETWEEN, LOOK),
                failures: 0,
            };
        }
    }

    /// It was tried in vain, and the authority has asked for this long a rest. Returns how long it will be.
    pub fn failed(
        &mut self,
        key: &K,
        asked: Option<Duration>,
        now: Tick,
        rng: &mut Rng,
    ) -> Duration {
        let Some(entry) = self.entries.get_mut(key) else {
            return LOOK;
        };
        entry.failures = entry.failures.saturating_add(1);
        let rest = back_off(entry.failures, asked, rng);
        entry.rest = now + rest;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 3600;

    fn days(begins: u64, expires: u64) -> Validity {
        Validity {
            begins: Wall::from_secs(begins * DAY),
            expires: Wall::from_secs(expires * DAY),
        }
    }

    proptest! {
        #[test]
        fn a_third_of_the_lifetime_is_left_or_a_little_more(
            begins in 0_u64..100_000,
            lifetime in 1_u64..1000,
            seed: u64,
        ) {
            let validity = days(begins, begins + lifetime);
            let renewal = renewal(validity, &mut Rng::new(seed));
            let left = validity.expires.since(renewal);
            let whole = Duration::from_secs(lifetime * DAY);
            prop_assert!(left >= whole / 3 - Duration::from_millis(1));
            prop_assert!(left <= whole * 11 / 30 + Duration::from_millis(1));
        }

        #[test]
        fn a_back_off_has_bounds_and_heeds_what_is_asked_for(
            failures in 1_u32..100_000,
            asked in proptest::option::of(0_u64..10 * DAY),
            seed: u64,
        ) {
            let asked = asked.map(Duration::from_secs);
            let rest = back_off(failures, asked, &mut Rng::new(seed));
            prop_assert!(rest >= SHORTEST);
            prop_assert!(rest >= asked.unwrap_or_default().min(ASKED));
            prop_assert!(rest <= LONGEST.max(asked.unwrap_or_default().min(ASKED)));
            if failures >= 9 {
                prop_assert!(rest >= LONGEST / 2);
            }
        }

        /// Whatever an authority issues and however often it fails, a name is not asked for more often than this.
        #[test]
        fn nothing_is_ever_a_busy_loop(
            outcomes in prop::collection::vec(
                prop_oneof![Just(None), (0_u64..100, 0_u64..40).prop_map(Some)],
                1..60,
            ),
            seed: u64,
        ) {
            let (mut rng, mut book) = (Rng::new(seed), Book::default());
            let (mut now, mut tried) = (Tick::ZERO, 0_u32);
            let date = |now: Tick| Wall::from_secs(1_000_000 * DAY) + now.since(Tick::ZERO);
            book.want([("a", None), ("b", None)].into_iter(), now, &mut rng);
            for outcome in outcomes.into_iter().cycle().take(400) {
                while let Some(key) = book.due(now, date(now)).copied() {
                    prop_assert!(book.sleep(now, date(now)).is_zero());
                    tried += 1;
                    match outcome {
                        None => drop(book.failed(&key, None, now, &mut rng)),
                        Some((ago, left)) => {
                            let at = date(now).as_millis() / 1000;
                            let validity = Validity {
                                begins: Wall::from_secs(at - ago),
                                expires: Wall::from_secs(at + left),
                            };
                            book.issued(&key, validity, now, date(now), &mut rng);
                        }
                    }
                }
                let sleep = book.sleep(now, date(now));
                prop_assert!(!sleep.is_zero() && sleep <= LOOK);
                now = now + sleep;
            }
            let elapsed = now.since(Tick::ZERO).as_secs();
            prop_assert!(u64::from(tried) <= 2 + 2 * (elapsed / BETWEEN.as_secs() + 1), "{tried} in {elapsed} s");
        }
    }

    #[test]
    fn failures_double_their_rest_until_it_is_six_hours() {
        let mut rng = Rng::new(7);
        let (mut book, mut now) = (Book::default(), Tick::ZERO);
        let date = Wall::from_secs(DAY);
        book.want([("a", None)].into_iter(), now, &mut rng);
        let mut rests = Vec::new();
        for _ in 0..12 {
            assert_eq!(book.due(now, date), Some(&"a"));
            let rest = book.failed(&"a", None, now, &mut rng);
            assert_eq!(book.due(now + rest / 2, date), None);
            now = now + rest;
            rests.push(rest);
        }
        assert!(rests[0] >= SHORTEST && rests[0] <= BACK_OFF, "{rests:?}");
        let doubled = |w: &[Duration]| w[1] >= w[0] / 2 && w[1] <= w[0] * 4;
        assert!(rests.windows(2).all(doubled), "{rests:?}");
        assert!(rests[11] >= LONGEST / 2 && rests[11] <= LONGEST);
    }

    #[test]
    fn one_that_is_there_rests_until_its_renewal() {
        let (mut rng, mut book) = (Rng::new(7), Book::default());
        let now = Tick::ZERO;
        let there = Some(days(100, 190));
        book.want([("a", there), ("b", None)].into_iter(), now, &mut rng);
        let at = |day| Wall::from_secs(day * DAY);
        assert_eq!(book.due(now, at(101)), Some(&"b"));
        book.issued(&"b", days(101, 191), now, at(101), &mut rng);
        assert_eq!(book.due(now, at(150)), None);
        assert_eq!(book.sleep(now, at(101)), LOOK);
        // 60 of 90 days are over.
        let later = now + Duration::from_secs(49 * DAY);
        assert!(book.due(later, at(161)).is_some());
        // Ended, or never begun: due.
        assert!(book.due(later, at(1000)).is_some());
    }

    #[test]
    fn what_is_wanted_can_change_and_back_offs_outlive_it() {
        let (mut rng, mut book) = (Rng::new(7), Book::default());
        let (now, date) = (Tick::ZERO, Wall::from_secs(DAY));
        book.want([("a", None), ("b", None)].into_iter(), now, &mut rng);
        book.failed(&"a", None, now, &mut rng);
        book.want([("a", None), ("c", None)].into_iter(), now, &mut rng);
        assert_eq!(book.due(now, date), Some(&"c"));
        book.failed(&"c", Some(Duration::from_secs(10 * DAY)), now, &mut rng);
        assert_eq!(book.due(now + SHORTEST / 2, date), None);
        assert_eq!(book.due(now + LONGEST, date), Some(&"a"));
        // Nobody wants b any more.
        book.issued(&"b", days(0, 90), now, date, &mut rng);
        assert_eq!(book.entries.len(), 2);
    }

    #[test]
    fn who_waits_longest_is_next() {
        let (mut rng, mut book) = (Rng::new(7), Book::default());
        let date = Wall::from_secs(DAY);
        book.want([("a", None), ("b", None)].into_iter(), Tick::ZERO, &mut rng);
        book.failed(&"a", None, Tick::ZERO, &mut rng);
        let later = Tick::ZERO + Duration::from_secs(DAY);
        // a is before b in order, but b could have been tried all the time.
        assert_eq!(book.due(later, date), Some(&"b"));
    }
}
