//! Real Kafka.

use super::world::{self, Verb};
use crate::real::Cluster;
use crate::suite;

/// Three brokers of `docker/local/cluster`.
pub struct Real {}

impl Real {
    /// Finds them.
    pub fn start() -> Result<Self, String> {
        Cluster::find()?.addresses("KAFKA", 3)?;
        Ok(Self {})
    }
}

impl suite::World for Real {
    type Verb = Verb;
    const VERBS: &'static [Verb] = &[];

    async fn heal(&self, _case: &str) -> Result<(), String> {
        Ok(())
    }

    async fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

impl world::World for Real {}
