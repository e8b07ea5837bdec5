//! Random numbers from a seed, the same on every machine and with every version of the libraries.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The generator of a seed.
pub(crate) fn seeded(seed: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(bytes)
}

/// A number from 0 up to and without `limit` (0 if that is 0). Implemented here because the records of a
/// seed must not change with a library's version; the bias is below `limit` in 2^64.
pub(crate) fn below(rng: &mut ChaCha8Rng, limit: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_stays_below_its_limit_and_reaches_all_below_it() {
        let mut rng = seeded(1);
        let seen: std::collections::BTreeSet<u64> = (0..1_000).map(|_| below(&mut rng, 7)).collect();
        assert_eq!(seen, (0..7).collect());
        assert_eq!(below(&mut rng, 0), 0);
    }
}
