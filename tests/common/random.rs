//! The random choices of a test, from a seed that is printed and can be given again.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The choices of a seed.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The seed in this environment variable, or a new one. It is printed, so that a failure can be repeated.
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
