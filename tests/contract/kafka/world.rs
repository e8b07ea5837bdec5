//! What a case may do to a world of Kafka.

/// What not every world can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {}

/// A cluster of Kafka.
pub trait World: crate::suite::World<Verb = Verb> {}
