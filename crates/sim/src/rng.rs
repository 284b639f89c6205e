//! The only source of chance in a run: a seeded generator (xoshiro256++, Blackman and Vigna), forked per concern so that one more draw in
//! the network does not change the workload.

/// A seeded generator of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    words: [u64; 4],
}

impl Rng {
    /// Starts a generator. Equal seeds give equal sequences on every machine.
    pub fn new(seed: u64) -> Rng {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng {
            words: [next(), next(), next(), next()],
        }
    }

    /// Starts a generator of its own for one concern.
    pub fn fork(seed: u64, concern: u64) -> Rng {
        Rng::new(seed ^ concern.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(17))
    }

    /// Draws any number.
    pub fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.words;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        let c = c ^ a;
        let d = d ^ b;
        self.words = [a ^ d, b ^ c, c ^ shifted, d.rotate_left(45)];
        result
    }

    /// Draws a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw below 0");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range {low}..={high}");
        low + self.below(high - low + 1)
    }

    /// Says yes `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// Draws a waiting time around `mean`: mostly short, sometimes up to eight times as long. Integer arithmetic only.
    pub fn wait(&mut self, mean: u64) -> u64 {
        // The count of leading zeros is geometric: a coarse exponential, made smooth by a uniform factor.
        let steps = u64::from(self.next().leading_zeros()).min(7);
        let ceiling = (mean * (steps + 1)).max(1);
        1 + self.below(ceiling)
    }

    /// Picks one of a slice that is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let (mut a, mut b, mut c) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let draws = |rng: &mut Rng| (0..100).map(|_| rng.next()).collect::<Vec<_>>();
        assert_eq!(draws(&mut a), draws(&mut b));
        assert_ne!(draws(&mut a), draws(&mut c));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            let n = rng.between(3, 7);
            assert!((3..=7).contains(&n));
            seen[(n - 3) as usize] = true;
            assert!(rng.wait(100) <= 800);
        }
        assert_eq!(seen, [true; 5]);
        assert!(!rng.chance(0) && rng.chance(1000));
    }
}
