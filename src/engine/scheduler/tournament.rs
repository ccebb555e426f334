//! A tournament tree over a fixed number of places: the place with the smallest key is known at once, and changing a key costs
//! O(log n) steps without a branch that could be mispredicted. `T` trees over the same places are walked together.

use crate::engine::MAX_BACKENDS;

/// The key of those who take no part. Real keys are below it, and above its negative.
pub(super) const ABSENT: i128 = 1 << 126;

/// The low bits of a key hold the place, so that a key alone says who won, and of otherwise equal keys the lower place wins.
/// What the caller has in them is lost.
const PLACE: i128 = (1 << 16) - 1;

/// `T` tournaments for the smallest key over the same places.
#[derive(Clone, Debug)]
pub(super) struct Tournament<const T: usize> {
    /// Node 1 is the root, nodes 2p and 2p + 1 are below p, the leaves are the last half. Each holds the smallest keys below it.
    nodes: Vec<[i128; T]>,
}

impl<const T: usize> Tournament<T> {
    /// `places` places, at most 2^16, all absent.
    pub(super) fn new(places: usize) -> Self {
        assert!(
            places <= MAX_BACKENDS,
            "the config refuses an upstream of more backends"
        );
        Tournament {
            nodes: vec![[ABSENT; T]; 2 * places.next_power_of_two()],
        }
    }

    /// Gives `place` other keys, one a tree.
    #[inline]
    pub(super) fn set(&mut self, place: usize, keys: [i128; T]) {
        let mut least = keys.map(|key| match key {
            ABSENT => ABSENT,
            key => (key & !PLACE) | place as i128,
        });
        let mut node = self.nodes.len() / 2 + place;
        self.nodes[node] = least;
        while node > 1 {
            let beside = self.nodes[node ^ 1];
            for (least, beside) in least.iter_mut().zip(beside) {
                *least = lesser(*least, beside);
            }
            node /= 2;
            self.nodes[node] = least;
        }
    }

    /// The place with the smallest key of one tree, and that key up to its low 16 bits.
    #[inline]
    pub(super) fn first(&self, tree: usize) -> Option<(usize, i128)> {
        let key = self.nodes[1][tree];
        (key != ABSENT).then_some(((key & PLACE) as usize, key))
    }
}

/// The lesser of two. Which it is, is as good as random, and compilers branch on a comparison of 128 bits: so it is computed.
#[inline]
fn lesser(a: i128, b: i128) -> i128 {
    let difference = b.wrapping_sub(a);
    // All ones if b is the lesser; the difference of two keys does not overflow.
    a.wrapping_add(difference & (difference >> 127))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_first_is_the_smallest_and_of_equals_the_lowest() {
        let mut rng = Rng::new(1);
        for places in [1, 2, 3, 7, 8, 33] {
            let mut trees = Tournament::<2>::new(places);
            let mut plain = vec![[None, None]; places];
            for _ in 0..2000 {
                let place = rng.below(places as u64) as usize;
                let mut key = || (rng.below(3) > 0).then(|| i128::from(rng.below(10)) - 5);
                plain[place] = [key(), key()];
                trees.set(
                    place,
                    plain[place].map(|k| k.map_or(ABSENT, |k| (k << 16) + 12_345)),
                );
                for tree in 0..2 {
                    let keys = plain.iter().enumerate();
                    let present = keys.filter_map(|(place, keys)| Some((keys[tree]?, place)));
                    let first = trees.first(tree).map(|(place, key)| (key >> 16, place));
                    assert_eq!(first, present.min());
                }
            }
        }
    }
}
