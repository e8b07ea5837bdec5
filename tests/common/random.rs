//! The random choices of a test, from a seed that is printed, so that they can be repeated.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The random generator of a seed.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A generator with the seed in this environment variable, or with a new one. The seed is printed, so that a failure
    /// can be repeated.
    pub fn from_env(variable: &str) -> Self {
        let seed = match std::env::var(variable) {
            Ok(text) => {
                text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, it must be a number"))
            }
            Err(_) => u64::from(rand::random::<u32>()),
        };
        println!("{variable}={seed} repeats this");
        Self::new(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }
}
