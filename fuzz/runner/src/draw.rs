//! Random numbers from a seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Draws random numbers; the same ones for the same seed and name.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// A stream of its own for each name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(hash);
        Self(generator)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.any() as u8
    }

    /// A number below `end`, or 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.any() % end as u64) as usize }
    }

    /// True in one of `times` cases.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them; there is at least one.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// One of them, to be changed; there is at least one.
    pub fn pick_mut<'a, T>(&mut self, choices: &'a mut [T]) -> &'a mut T {
        let chosen = self.below(choices.len());
        &mut choices[chosen]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_differs_from_those_of_other_names_and_seeds() {
        let of = |seed, name| {
            let mut draw = Draw::new(seed, name);
            [(); 4].map(|()| draw.any())
        };
        assert_eq!(of(1, "event"), of(1, "event"));
        assert_ne!(of(1, "event"), of(1, "cql"));
        assert_ne!(of(1, "event"), of(2, "event"));
    }
}
