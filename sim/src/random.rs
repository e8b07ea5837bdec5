//! Random numbers derived from the seed. Each purpose has its own stream, so that an additional draw for one of them
//! does not change the others. Integer arithmetic only: the same draws on every machine.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The purpose of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The run's options.
    Config,
    /// The records, and when they are appended.
    Workload,
    /// The plan of faults.
    Faults,
    /// Which requests a fault affects, and by how much.
    FaultDraws,
    /// Behaviour of services and clients that is allowed without a fault.
    Services,
    /// Delays of messages between Cassandra nodes.
    Links,
    /// Random choices of Cassandra nodes.
    Cassandra,
    /// The configuration of Cassandra.
    CassandraConfig,
    /// The plan of Cassandra faults.
    CassandraFaults,
    /// Which messages of Cassandra a fault affects, and by how much.
    CassandraFaultDraws,
    /// A process of a worker: the production code's own random numbers.
    Worker {
        /// Which worker.
        index: u8,
        /// How many times it was started before.
        life: u32,
    },
}

impl Stream {
    fn number(self) -> u64 {
        match self {
            Stream::Config => 1,
            Stream::Workload => 2,
            Stream::Faults => 3,
            Stream::FaultDraws => 4,
            Stream::Services => 5,
            Stream::Links => 6,
            Stream::Cassandra => 7,
            Stream::CassandraConfig => 8,
            Stream::CassandraFaults => 9,
            Stream::CassandraFaultDraws => 10,
            Stream::Worker { index, life } => (u64::from(index) + 1) << 32 | u64::from(life),
        }
    }

    /// The generator itself.
    pub fn generator(self, seed: u64) -> ChaCha8Rng {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(self.number());
        generator
    }
}

/// Draws from one stream.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The generator of a stream.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self(stream.generator(seed))
    }

    /// A number below `end`, which is at least 1. (Its bias, less than 2^-32 here, does not matter.)
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// A number of the range with a log-uniform distribution: as often between 1 and 2 as between 512 and 1,024.
    pub fn log_uniform(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        let bits = self.within(u64::from(low.max(1).ilog2())..=u64::from(high.max(1).ilog2()));
        self.within(1 << bits..=(2 << bits) - 1).clamp(low, high)
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// True in half of all cases.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of them; there is at least one.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    /// Shuffles them.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_differs_from_the_others() {
        let draws = |stream| {
            let mut random = Random::new(7, stream);
            [(); 8].map(|()| random.below(1_000_000))
        };
        assert_eq!(draws(Stream::Config), draws(Stream::Config));
        assert_ne!(draws(Stream::Config), draws(Stream::Faults));
        let worker = |index, life| draws(Stream::Worker { index, life });
        assert_ne!(worker(0, 1), worker(1, 0));
    }

    #[test]
    fn log_uniform_draws_stay_in_their_range_and_reach_both_ends() {
        let mut random = Random::new(1, Stream::Config);
        let drawn: std::collections::BTreeSet<u64> = (0..1_000).map(|_| random.log_uniform(3..=20)).collect();
        assert_eq!(drawn, (3..=20).collect());
    }
}
