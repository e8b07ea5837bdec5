//! A scenario: everything that determines a run, as data. `{}` and a file of TOML contain all of it; nothing else is drawn
//! from the seed but what the services and the workers draw while it runs.

pub mod cassandra;
pub mod fault;
pub mod kafka;
pub mod mix;
pub mod options;
pub mod profile;
pub mod simplification;
pub mod workload;

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};
use thiserror::Error;

use crate::Seed;
use crate::random::{Random, Stream};
use cassandra::ClusterOptions;
use fault::{Fault, KindName, combination};
use kafka::KafkaCluster;
use mix::FaultMix;
use options::{Heal, RunOptions};
use profile::Profile;
use workload::{Item, WorkloadShape};

/// The services of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, ValueEnum)]
#[strum(serialize_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum World {
    /// A simple log and a simple store
    Simple,
    /// The simple log, and the production store on a simulated Cassandra cluster
    Cassandra,
    /// The production broker and store, with their drivers, on simulated clusters of Kafka and Cassandra
    Full,
}

impl World {
    /// True if each run needs a process of its own, because it leaves something behind in its process or may end it.
    pub fn isolated(self) -> bool {
        self == World::Full
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tables {
    /// The simple store.
    Simple,
    /// A simulated Cassandra cluster.
    Cassandra(ClusterOptions),
}

/// Where the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// The simple log.
    #[default]
    Simple,
    /// A simulated Kafka cluster.
    Kafka(KafkaCluster),
}

impl Log {
    fn is_simple(&self) -> bool {
        matches!(self, Log::Simple)
    }

    /// True if the topic is created when the tables are there already.
    pub(crate) fn is_created_last(&self) -> bool {
        matches!(self, Log::Kafka(cluster) if cluster.topic_known_after_ms.is_some())
    }
}

/// The services of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Services<'a> {
    /// Where the tables are.
    pub tables: &'a Tables,
    /// Where the log is.
    pub log: &'a Log,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The seed of everything that services and workers draw while it runs.
    pub seed: Seed,
    /// The profile that it was drawn with. It determines nothing else.
    #[serde(default)]
    pub profile: Profile,
    /// The name of the violation that the run must have, in a scenario that tests the checker; otherwise it must have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The options of the run and of its workers.
    pub options: RunOptions,
    /// The tables.
    pub tables: Tables,
    /// The log.
    #[serde(default, skip_serializing_if = "Log::is_simple")]
    pub log: Log,
    /// The faults, in no order.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// The records, in the order in which they are appended.
    #[serde(default, rename = "record")]
    pub records: Vec<Item>,
}

/// The error of a file that is not a scenario.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// It is not TOML, or has other keys or values.
    #[error("not a scenario")]
    Toml(#[from] toml::de::Error),
    /// It is not JSON, or has other keys or values.
    #[error("not a scenario")]
    Json(#[from] serde_json::Error),
    /// What a fault says cannot happen to its target.
    #[error("fault {id} cannot happen to its target")]
    Impossible {
        /// The fault's id.
        id: u64,
    },
}

/// The shortest time with faults on a Kafka cluster.
const SHORTEST_CHAOS_ON_KAFKA_MS: u64 = 8_000;

/// A scenario whose records and faults are not drawn yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The seed.
    pub seed: Seed,
    /// The profile.
    pub profile: Profile,
    /// The options.
    pub options: RunOptions,
    /// What the records are like.
    pub shape: WorkloadShape,
    /// The tables.
    pub tables: Tables,
    /// The log.
    pub log: Log,
    /// Which faults it will have.
    pub mix: FaultMix,
}

impl Draft {
    /// The draft of a seed.
    pub fn new(seed: Seed, world: World, profile: Profile) -> Self {
        profile.draft(seed, world)
    }

    /// A draft with these options on these services.
    fn on(seed: Seed, world: World, (mut options, mut shape): (RunOptions, WorkloadShape)) -> Self {
        let tables = match world {
            World::Simple => Tables::Simple,
            World::Cassandra | World::Full => {
                // Each record costs much more, and drivers wait up to a minute before they reconnect to a node.
                shape.records = shape.records.min(150);
                options.settle_limit_ms = 300_000;
                Tables::Cassandra(ClusterOptions::draw(seed))
            }
        };
        options.heal = Random::new(seed, Stream::Heal).pick(&[
            Heal::Everything,
            Heal::Everything,
            Heal::Core,
            Heal::Rates,
        ]);
        options.init_among_faults = Random::new(seed, Stream::Init).below(8) == 0;
        let log = match world {
            World::Simple | World::Cassandra => Log::Simple,
            World::Full => {
                shape.records = shape.records.min(100);
                if options.init_among_faults {
                    // Brokers that are killed forget that records were deleted since the last checkpoint.
                    options.retired_offsets = 0;
                }
                // Brokers and members need seconds to notice that another one is down.
                options.chaos_ms = options.chaos_ms.max(SHORTEST_CHAOS_ON_KAFKA_MS);
                let cluster = KafkaCluster::draw(seed, &options);
                if cluster.topic_known_after_ms.is_some() {
                    // A log without records is there sooner, while brokers do not know it yet.
                    options.retired_offsets = 0;
                }
                Log::Kafka(cluster)
            }
        };
        let (profile, mix) = (Profile::default(), FaultMix::default());
        Self { seed, profile, options, shape, tables, log, mix }
    }

    /// Its services.
    pub fn services(&self) -> Services<'_> {
        Services { tables: &self.tables, log: &self.log }
    }

    /// Draws the records.
    pub fn without_faults(self) -> Scenario {
        let Self { seed, profile, options, shape, tables, log, mix: _ } = self;
        let mut records = shape.draw(seed, &options);
        if matches!(log, Log::Kafka(_)) {
            workload::end_early(seed, &mut records);
        }
        Scenario { seed, profile, expected: None, options, tables, log, faults: Vec::new(), records }
    }

    /// Draws the records, few faults, and one that no client can survive.
    pub fn damaged(mut self) -> Scenario {
        (self.options.heal, self.options.init_among_faults) = (Heal::Everything, false);
        let mut damage = Fault::draw_damage(self.seed, &self.options, self.services());
        let mut faults = Fault::draw_all(self.seed, &self.options, self.services(), &self.mix);
        faults.retain(Fault::is_first_of_its_kind);
        faults.extend(combination::restarts(self.seed, &self.options));
        faults.extend(combination::pauses(self.seed, &self.options, &self.log, &mut damage));
        faults.push(damage);
        Scenario { faults, ..self.without_faults() }
    }

    /// Draws the records and the faults.
    pub fn scenario(self) -> Scenario {
        if self.profile == Profile::Damaged {
            return self.damaged();
        }
        let mut faults = Fault::draw_all(self.seed, &self.options, self.services(), &self.mix);
        faults.iter_mut().for_each(|fault| self.profile.adjust(fault, &self));
        faults.extend(self.profile.more_faults(&self));
        Scenario { faults, ..self.without_faults() }
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: Seed, world: World, profile: Profile) -> Self {
        Draft::new(seed, world, profile).scenario()
    }

    /// Its services.
    pub fn world(&self) -> World {
        match (&self.tables, &self.log) {
            (_, Log::Kafka(_)) => World::Full,
            (Tables::Simple, Log::Simple) => World::Simple,
            (Tables::Cassandra(_), Log::Simple) => World::Cassandra,
        }
    }

    /// Where its tables and its log are.
    pub fn services(&self) -> Services<'_> {
        Services { tables: &self.tables, log: &self.log }
    }

    /// The scenario of a JSON document, as it is serialized.
    ///
    /// # Errors
    /// If it is not a scenario.
    pub fn from_json(json: &[u8]) -> Result<Self, ScenarioError> {
        serde_json::from_slice::<Scenario>(json)?.checked()
    }

    fn checked(self) -> Result<Self, ScenarioError> {
        let is_possible = |fault: &&Fault| KindName::of(fault.kind, fault.target).is_some();
        match self.faults.iter().find(|fault| !is_possible(fault)) {
            Some(fault) => Err(ScenarioError::Impossible { id: fault.id }),
            None => Ok(self),
        }
    }

    /// The text of its file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a scenario has only values that TOML has")
    }
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        toml::from_str::<Scenario>(text)?.checked()
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn a_scenario_is_what_its_file_contains() {
        for (world, profile) in World::iter().flat_map(|world| Profile::iter().map(move |each| (world, each)))
        {
            for seed in 0..40 {
                let scenario = Scenario::draw(seed, world, profile);
                let read: Scenario = scenario.to_toml().parse().expect("a scenario");
                assert_eq!(read, scenario, "seed {seed} ({world}, {profile})");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = Scenario::draw(1, World::Simple, Profile::Standard).to_toml();
        let error = text.replace("chaos_ms", "storm_ms").parse::<Scenario>().expect_err("refused");
        let text = exactlyonce::error::chain(&error);
        assert!(text.contains("storm_ms") && text.contains("line"), "{text}");
    }

    #[test]
    fn a_fault_that_cannot_happen_to_its_target_is_refused() {
        let mut scenario = Scenario::draw(1, World::Simple, Profile::Standard);
        let fault = &mut scenario.faults[0];
        (fault.kind, fault.target) = (fault::Kind::CallsTorn { per_mille: 1 }, fault::Target::AllNodes);
        let (id, text) = (fault.id, toml::to_string(&scenario).expect("it has only values that TOML has"));
        let error = text.parse::<Scenario>().expect_err("refused");
        assert_eq!(error.to_string(), format!("fault {id} cannot happen to its target"));
    }
}
