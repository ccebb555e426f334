//! Quota-optimal round robin: Tijdeman's chairman assignment ("The chairman assignment problem", Discrete Mathematics 32, 1980).
//!
//! Backend `i` of `n >= 2` has weight `w` and was picked `c` times. Virtual time `V` advances by 1/W a pick, where W is the sum
//! of the eligible weights. Its quota is wV, its lag wV - c. With e = 1/(2n - 2) it may be picked from `R = (c + e)/w` on, and
//! must be by `D = (c + 1 - e)/w`. Each pick goes to the smallest D among those with R <= V + 1/W. On a constant set every
//! lag then stays within 1 - e after every pick, and no rule can do better for all weights.
//!
//! **Changing sets.** Who leaves (full, or backed off) takes its lag along, and finds it unchanged at its return: it neither
//! earns nor owes meanwhile. While a backend is in, its `origin` is the virtual time from which its quota counts; while it is
//! out, that time less V. When nobody is released, which a constant set never shows, the smallest R is picked.
//!
//! **Exactness.** `c` is kept modulo `w` and the picks modulo W, both with their whole part in fixed point, where it is exact.
//! What is rounded is one multiple of a rounded-down unit, so with 95 fraction bits, w < 2^16 and n <= 2^14 (hence W < 2^30) no
//! key is further than 2^-64 from its true value, always below it, and V + 1/W no further than 2^-65. Two deadlines that
//! differ do so by at least 1/(w w' (2n-2)) > 2^-47, a release and V + 1/W by at least 1/(w W (2n-2)) > 2^-61. So the order is
//! that of exact fractions if equality of the latter is granted a tolerance in between, and it is: 2^-62.

use super::tournament::{ABSENT, Tournament};
use super::{Entry, Start};

/// Fraction bits. 32 bits are left for the whole part and the sign.
const BITS: u32 = 95;
const ONE: i128 = 1 << BITS;
const TOLERANCE: i128 = 1 << (BITS - 62);
/// When virtual time has come so far it is set back, along with all that is measured in it.
const REBASE: i128 = ONE << 28;
/// The tree of those who are eligible and were not released at the last look, by R.
const EARLY: usize = 0;
/// The tree of those who are eligible and were released at the last look, by D.
const RELEASED: usize = 1;

/// Quota-optimal round robin over the eligible backends, O(log n).
#[derive(Clone, Debug)]
pub(in crate::engine) struct Quota {
    shares: Vec<Share>,
    /// 2n - 2.
    e: u32,
    /// The sum of the eligible weights.
    total: u64,
    /// V: `base` + `picks` / `rate`, where `rate` is what `total` was at those picks and `unit` is 1 / `rate`.
    now: i128,
    base: i128,
    picks: u64,
    rate: u64,
    unit: i128,
    /// The latest V + 1/W at which a pick was made.
    latest: i128,
    trees: Tournament<2>,
}

/// One backend's account.
#[derive(Clone, Copy, Debug)]
struct Share {
    weight: u32,
    eligible: bool,
    /// Picks since `origin`, below `weight`.
    picked: u32,
    /// 1 / (weight (2n - 2)), rounded down.
    unit: i128,
    /// D - R.
    span: i128,
    /// Where its quota counts from: a point in virtual time while eligible, a distance from it otherwise.
    origin: i128,
}

impl Share {
    fn new(weight: u32, e: u32) -> Self {
        let weight = weight.max(1);
        let unit = reciprocal(u64::from(weight) * u64::from(e));
        Share {
            weight,
            eligible: false,
            picked: 0,
            unit,
            span: unit * i128::from(e - 2),
            origin: 0,
        }
    }

    /// R and D.
    #[inline]
    fn keys(&self, e: u32) -> (i128, i128) {
        let picked = u64::from(self.picked) * u64::from(e);
        let release = self.origin + self.unit * i128::from(picked + 1);
        (release, release + self.span)
    }
}

impl Quota {
    /// Nobody eligible yet.
    pub(super) fn new(entries: Vec<Entry>, start: Start<'_>) -> Self {
        let n = entries.len();
        // One backend alone has no choice; 2 keeps e within the formulas.
        let e = (2 * n).saturating_sub(2).max(2) as u32;
        let mut quota = Quota {
            shares: entries.iter().map(|x| Share::new(x.weight, e)).collect(),
            e,
            total: 0,
            now: 0,
            base: 0,
            picks: 0,
            rate: 1,
            unit: ONE,
            latest: i128::MIN,
            trees: Tournament::new(n),
        };
        let skip = start.draw(&entries);
        if skip > 0 {
            (0..n).for_each(|i| quota.enter(i));
            (0..skip).for_each(|_| {
                quota.pick();
            });
            (0..n).for_each(|i| quota.leave(i));
        }
        quota
    }

    /// The lags of those who stay, in picks; none for newcomers. What the removed were owed or owed is shared out by weight, so
    /// that the lags sum to zero again. Nobody is eligible at first.
    pub(super) fn reload(mut self, entries: Vec<Entry>, from: &[Option<usize>]) -> Self {
        (0..self.shares.len()).for_each(|i| self.leave(i));
        let before: i128 = self.shares.iter().map(Share::lag).sum();
        let mut new = Quota::new(entries, Start::Zero);
        (new.now, new.base, new.picks) = (self.now, self.base, self.picks);
        (new.rate, new.unit) = (self.rate, self.unit);
        for (share, from) in new.shares.iter_mut().zip(from) {
            let Some(old) = from.map(|i| &self.shares[i]) else {
                continue;
            };
            if old.weight == share.weight {
                (share.origin, share.picked) = (old.origin, old.picked);
            } else {
                share.origin = -old.lag() / i128::from(share.weight);
            }
        }
        if from.iter().flatten().count() < self.shares.len() {
            let after: i128 = new.shares.iter().map(Share::lag).sum();
            let weights: i128 = new.shares.iter().map(|s| i128::from(s.weight)).sum();
            for share in &mut new.shares {
                share.origin += (after - before) / weights;
            }
        }
        new
    }

    pub(super) fn enter(&mut self, i: usize) {
        let share = &mut self.shares[i];
        if !share.eligible {
            share.eligible = true;
            share.origin += self.now;
            self.total += u64::from(share.weight);
            let (release, _) = share.keys(self.e);
            self.trees.set(i, [release, ABSENT]);
        }
    }

    pub(super) fn leave(&mut self, i: usize) {
        let share = &mut self.shares[i];
        if share.eligible {
            share.eligible = false;
            share.origin -= self.now;
            self.total -= u64::from(share.weight);
            self.trees.set(i, [ABSENT, ABSENT]);
        }
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        if self.total != self.rate {
            self.base = self.now;
            self.picks = 0;
            self.rate = self.total;
            self.unit = reciprocal(self.rate);
        }
        // V + 1/W, with the tolerance that equality needs.
        let horizon = self.now + self.unit + TOLERANCE;
        let i = match self.first_released(horizon) {
            Some(i) => i,
            None => self.trees.first(EARLY)?.0,
        };
        let share = &mut self.shares[i];
        share.picked += 1;
        if share.picked == share.weight {
            share.picked = 0;
            share.origin += ONE;
        }
        let (release, deadline) = share.keys(self.e);
        self.trees.set(
            i,
            match release <= horizon {
                true => [ABSENT, deadline],
                false => [release, ABSENT],
            },
        );
        self.picks += 1;
        self.now += self.unit;
        if self.picks == self.rate {
            self.picks = 0;
            self.base += ONE;
            self.now = self.base;
            if self.base >= REBASE {
                self.rebase();
            }
        }
        Some(i)
    }

    /// Who has the smallest deadline of those whose release is not past `horizon`.
    #[inline]
    fn first_released(&mut self, horizon: i128) -> Option<usize> {
        while let Some((i, release)) = self.trees.first(EARLY)
            && release <= horizon
        {
            let (_, deadline) = self.shares[i].keys(self.e);
            self.trees.set(i, [ABSENT, deadline]);
        }
        // When W has grown the horizon may lie before an earlier one, and some who were released no longer are.
        while horizon < self.latest
            && let Some((i, _)) = self.trees.first(RELEASED)
        {
            let (release, _) = self.shares[i].keys(self.e);
            if release <= horizon {
                return Some(i);
            }
            self.trees.set(i, [release, ABSENT]);
        }
        self.latest = self.latest.max(horizon);
        self.trees.first(RELEASED).map(|(i, _)| i)
    }

    /// Takes the whole part of virtual time off everything that is a point in it. Differences stay as they are, to the bit.
    fn rebase(&mut self) {
        let whole = (self.base >> BITS) << BITS;
        self.base -= whole;
        self.now -= whole;
        self.latest -= whole;
        for i in 0..self.shares.len() {
            if self.shares[i].eligible {
                self.shares[i].origin -= whole;
                let (release, _) = self.shares[i].keys(self.e);
                self.trees.set(i, [release, ABSENT]);
            }
        }
    }
}

impl Share {
    /// wV - c of one who is not eligible.
    fn lag(&self) -> i128 {
        -self.origin * i128::from(self.weight) - (i128::from(self.picked) << BITS)
    }
}

/// 1 / `d` in fixed point, rounded down, for 1 <= d < 2^32. By two divisions of 64 bits: one of 128 bits costs more than a pick.
#[inline]
fn reciprocal(d: u64) -> i128 {
    const HIGH: u32 = 63;
    const LOW: u32 = BITS - HIGH;
    let high = (1_u64 << HIGH) / d;
    let low = (((1_u64 << HIGH) % d) << LOW) / d;
    (i128::from(high) << LOW) | i128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn quota(weights: &[u32]) -> Quota {
        let entry = |&weight| Entry {
            key: 0,
            weight,
            capacity: weight,
        };
        let mut quota = Quota::new(weights.iter().map(entry).collect(), Start::Zero);
        (0..weights.len()).for_each(|i| quota.enter(i));
        quota
    }

    #[test]
    fn setting_virtual_time_back_changes_no_pick() {
        let mut rng = Rng::new(2);
        let mut kept = quota(&[3, 1, 4, 1, 5]);
        let mut set_back = kept.clone();
        for _ in 0..5000 {
            match rng.below(10) {
                0 => (0..5).for_each(|i| {
                    kept.enter(i);
                    set_back.enter(i);
                }),
                1 => {
                    let i = rng.below(5) as usize;
                    kept.leave(i);
                    set_back.leave(i);
                }
                2 => set_back.rebase(),
                _ => assert_eq!(kept.pick(), set_back.pick()),
            }
        }
        assert!(kept.base > 100 * ONE && set_back.base < 20 * ONE);
    }

    /// The rule, word by word, over all who are eligible.
    fn by_the_rule(quota: &Quota) -> Option<usize> {
        let horizon = quota.now + reciprocal(quota.total.max(1)) + TOLERANCE;
        let eligible = (0..quota.shares.len()).filter(|&i| quota.shares[i].eligible);
        let keys = eligible.map(|i| (i, quota.shares[i].keys(quota.e)));
        let coarse = |key: i128| key >> 16;
        let released = keys.clone().filter(|(_, (release, _))| *release <= horizon);
        let first = released.min_by_key(|(_, (_, deadline))| coarse(*deadline));
        let early = keys.min_by_key(|(_, (release, _))| coarse(*release));
        first.or(early).map(|(i, _)| i)
    }

    #[test]
    fn picks_are_the_rules_while_weights_come_and_go() {
        let mut rng = Rng::new(6);
        for round in 0..200 {
            let heaviest = [3, 40, 1000][round % 3];
            let n = 2 + rng.below(12) as usize;
            let weights: Vec<u32> = (0..n).map(|_| 1 + rng.below(heaviest) as u32).collect();
            let mut quota = quota(&weights);
            for _ in 0..300 {
                let i = rng.below(n as u64) as usize;
                match rng.below(5) {
                    0 => quota.leave(i),
                    1 => quota.enter(i),
                    _ => {
                        let expected = by_the_rule(&quota);
                        assert_eq!(quota.pick(), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_reciprocal_is_rounded_down_at_the_last_bit() {
        let denominators = [1, 2, 3, 7, 10, 65_535, 1 << 31, u64::from(u32::MAX)];
        for d in denominators {
            assert_eq!(reciprocal(d), ONE / i128::from(d));
        }
    }

    #[test]
    fn lags_of_those_who_stay_sum_to_zero_after_a_removal() {
        let mut old = quota(&[5, 3, 2, 1]);
        for picks in 1..40 {
            old.pick();
            let mut before = old.clone();
            let entries = [(5, 0), (2, 2), (9, 3), (4, 9)];
            let from: Vec<Option<usize>> = entries.map(|(_, i)| (i < 4).then_some(i)).to_vec();
            let entries = entries.map(|(weight, _)| Entry {
                key: 0,
                weight,
                capacity: weight,
            });
            let new = before.clone().reload(entries.to_vec(), &from);
            let sum: i128 = new.shares.iter().map(Share::lag).sum();
            assert!(sum.abs() < ONE >> 40, "{sum}");
            // What backend 1 took along is spread by weight: nobody else is moved by more than that.
            (0..4).for_each(|i| before.leave(i));
            let gone = before.shares[1].lag().abs() + (ONE >> 40);
            for (to, from) in from.iter().enumerate() {
                let was = from.map_or(0, |i| before.shares[i].lag());
                assert!((new.shares[to].lag() - was).abs() <= gone, "{picks}");
            }
        }
    }
}
