//! The only randomness: a seeded generator with named substreams. A substream depends on the seed and its name alone, so one
//! consumer that draws more does not disturb another, and a fault that is taken out of a schedule leaves the rest as it was.

use std::time::Duration;

/// A seeded generator (wyrand). Cloning repeats the stream from where it stands.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    inner: fastrand::Rng,
}

impl Rng {
    /// A generator that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Rng {
            seed,
            inner: fastrand::Rng::with_seed(mix(seed)),
        }
    }

    /// The substream called `name`, number `index`: independent of what was drawn from `self` so far.
    pub fn stream(&self, name: &str, index: u64) -> Rng {
        // FNV-1a: short names, stable for ever.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::new(
            mix(self.seed ^ mix(hash)).wrapping_add(mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15))),
        )
    }

    /// Any 64 bits, uniformly.
    pub fn next_u64(&mut self) -> u64 {
        self.inner.u64(..)
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.inner.u64(..bound)
        }
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn unit(&mut self) -> f64 {
        self.inner.f64()
    }

    /// `mean`, a tenth more or less, so that what begins together does not end together.
    pub fn about(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(0.9 + 0.2 * self.unit())
    }

    /// True with probability `p` (clamped to 0..=1).
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Exponentially distributed with this mean, in the mean's unit.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// SplitMix64's finaliser: spreads close seeds far apart.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substreams_do_not_depend_on_what_was_drawn() {
        let mut a = Rng::new(7);
        let before = a.stream("client", 3).next_u64();
        a.next_u64();
        assert_eq!(before, a.stream("client", 3).next_u64());
        assert_ne!(before, a.stream("client", 4).next_u64());
        assert_ne!(before, a.stream("backend", 3).next_u64());
        assert_ne!(before, Rng::new(8).stream("client", 3).next_u64());
    }
}
