//! Random numbers derived from the seed. Each purpose has its own stream, so that an additional draw for one of them
//! does not change the others. Integer arithmetic only: the same draws on every machine.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::parties::Service;

/// The purpose of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The run's options.
    Options,
    /// The options of the Cassandra cluster.
    ClusterOptions,
    /// The options of the Kafka cluster and of its clients.
    KafkaOptions,
    /// How many records of a partition the clients of the Kafka cluster queue, how many are appended together, and when brokers
    /// learn of the topic.
    QueuedRecords,
    /// Delays of messages from one Kafka broker to another.
    BrokerLink {
        /// The broker that sends, from 0.
        from: u8,
        /// The broker that receives.
        to: u8,
    },
    /// What a profile changes in the options.
    Profile,
    /// When records are appended.
    Times,
    /// From when on each lane has records.
    Lanes,
    /// Whether records end early, and when.
    LastRecord,
    /// Whether the tables are bound among faults.
    Init,
    /// How often the operator is killed meanwhile, and when.
    Operator,
    /// What ends after the faults.
    Heal,
    /// Behaviour of a simple service towards a worker, or the operator, and of their link, that is allowed without a fault.
    ServiceLink {
        /// The service.
        service: Service,
        /// The worker; `None` for the operator.
        worker: Option<u8>,
    },
    /// Delays of messages between Cassandra nodes.
    Links,
    /// Delays of messages from one Cassandra node to another.
    Link {
        /// The node that sends, from 0.
        from: u32,
        /// The node that receives.
        to: u32,
    },
    /// Random choices of Cassandra nodes.
    Cassandra,
    /// Whether the kind of fault with this number is enabled, and how many there are of it.
    Kind(u64),
    /// Which damage is done, if any.
    Damage,
    /// A record of the workload.
    Record(u64),
    /// A fault of the scenario.
    Fault(u64),
    /// What a profile changes in a fault.
    ProfileOfFault(u64),
    /// Which messages an active fault affects, and by how much.
    FaultDraws(u64),
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
        const KIND: u64 = 1 << 8;
        const RECORD: u64 = 1 << 16;
        const FAULT: u64 = 1 << 24;
        const LINK: u64 = 1 << 62;
        const SERVICE: u64 = 1 << 61;
        const BROKER: u64 = 1 << 60;
        const DRAWS: u64 = 1 << 28;
        const PROFILE: u64 = 1 << 29;
        match self {
            Stream::Options => 1,
            Stream::ClusterOptions => 2,
            Stream::KafkaOptions => 10,
            Stream::BrokerLink { from, to } => BROKER | u64::from(from) << 16 | u64::from(to),
            Stream::Times => 3,
            Stream::Lanes => 9,
            Stream::LastRecord => 11,
            Stream::Init => 12,
            Stream::Operator => 13,
            Stream::QueuedRecords => 14,
            Stream::Heal => 6,
            Stream::Links => 4,
            Stream::Link { from, to } => LINK | u64::from(from) << 16 | u64::from(to),
            Stream::Cassandra => 5,
            Stream::Profile => 7,
            Stream::Damage => 8,
            Stream::ServiceLink { service, worker } => {
                SERVICE | (service as u64) << 16 | worker.map_or(0, |worker| u64::from(worker) + 1)
            }
            Stream::Kind(kind) => KIND + kind,
            Stream::Record(record) => RECORD + record,
            Stream::Fault(fault) => FAULT + fault,
            Stream::ProfileOfFault(fault) => PROFILE + fault,
            Stream::FaultDraws(fault) => DRAWS + fault,
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
        assert_eq!(draws(Stream::Options), draws(Stream::Options));
        assert_ne!(draws(Stream::Options), draws(Stream::Times));
        let alone = [
            Stream::Options,
            Stream::ClusterOptions,
            Stream::KafkaOptions,
            Stream::BrokerLink { from: 0, to: 1 },
            Stream::BrokerLink { from: 1, to: 0 },
            Stream::Profile,
            Stream::Times,
            Stream::Heal,
            Stream::Links,
            Stream::Cassandra,
            Stream::Damage,
            Stream::Lanes,
            Stream::LastRecord,
            Stream::Init,
            Stream::Operator,
            Stream::QueuedRecords,
        ];
        let clients = [None, Some(0), Some(1)];
        let links = Service::ALL
            .into_iter()
            .flat_map(|service| clients.map(|worker| Stream::ServiceLink { service, worker }));
        let streams = alone.into_iter().chain(links);
        let mut all: Vec<_> = streams.map(draws).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), alone.len() + Service::ALL.len() * clients.len());
        let worker = |index, life| draws(Stream::Worker { index, life });
        assert_ne!(worker(0, 1), worker(1, 0));
    }

    #[test]
    fn log_uniform_draws_stay_in_their_range_and_reach_both_ends() {
        let mut random = Random::new(1, Stream::Options);
        let drawn: std::collections::BTreeSet<u64> = (0..1_000).map(|_| random.log_uniform(3..=20)).collect();
        assert_eq!(drawn, (3..=20).collect());
    }
}
