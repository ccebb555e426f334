//! A tournament tree over a fixed number of places: the place with the smallest key is known at once, and changing one key costs
//! O(log n) with no garbage left behind. Of equal keys the lower place wins.

/// A tournament for the smallest key. A place whose key is `absent` takes no part.
#[derive(Clone, Debug)]
pub(super) struct Tournament<K> {
    absent: K,
    /// One key a place, padded with `absent` to a power of two.
    keys: Vec<K>,
    /// Node 1 is the root, nodes 2p and 2p + 1 are below p, the leaves come last. Each holds the place that wins below it.
    winners: Vec<u32>,
}

impl<K: Ord + Copy> Tournament<K> {
    /// `places` places, all absent. `absent` must be greater than every real key.
    pub(super) fn new(places: usize, absent: K) -> Self {
        let size = places.next_power_of_two();
        let mut winners = vec![0; 2 * size];
        for node in (1..2 * size).rev() {
            winners[node] = if node >= size {
                (node - size) as u32
            } else {
                winners[2 * node]
            };
        }
        Tournament {
            absent,
            keys: vec![absent; size],
            winners,
        }
    }

    /// Gives `place` another key.
    #[inline]
    pub(super) fn set(&mut self, place: usize, key: K) {
        self.keys[place] = key;
        let mut node = (self.keys.len() + place) / 2;
        while node >= 1 {
            let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
            let winner = if self.keys[right as usize] < self.keys[left as usize] {
                right
            } else {
                left
            };
            if winner == self.winners[node] && winner as usize != place {
                // Neither the winner nor its key is new here, so nothing changes above.
                return;
            }
            self.winners[node] = winner;
            node /= 2;
        }
    }

    /// Takes `place` out.
    #[inline]
    pub(super) fn remove(&mut self, place: usize) {
        self.set(place, self.absent);
    }

    /// The place with the smallest key, and that key.
    #[inline]
    pub(super) fn first(&self) -> Option<(usize, K)> {
        let place = self.winners[1] as usize;
        let key = self.keys[place];
        (key < self.absent).then_some((place, key))
    }

    /// Does `place` take part?
    #[inline]
    pub(super) fn contains(&self, place: usize) -> bool {
        self.keys[place] < self.absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_first_is_the_smallest_and_of_equals_the_lowest() {
        let mut rng = Rng::new(1);
        for places in [1, 2, 3, 7, 8, 33] {
            let mut tree = Tournament::new(places, u64::MAX);
            let mut plain = vec![u64::MAX; places];
            for _ in 0..2000 {
                let place = rng.below(places as u64) as usize;
                let key = match rng.below(3) {
                    0 => u64::MAX,
                    _ => rng.below(10),
                };
                tree.set(place, key);
                plain[place] = key;
                let best = plain
                    .iter()
                    .enumerate()
                    .filter(|(_, k)| **k < u64::MAX)
                    .min_by_key(|(_, k)| **k)
                    .map(|(i, k)| (i, *k));
                assert_eq!(tree.first(), best);
                assert_eq!(tree.contains(place), key < u64::MAX);
            }
        }
    }
}
