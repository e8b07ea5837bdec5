//! Profiles: ways to draw a scenario from a seed, each of which leads to other situations.
//!
//! A profile is a function that returns the draft of a seed, with a [`FaultMix`], and a change of each drawn fault. Its
//! draws come from streams of its own, so the records and faults of a seed stay as similar as its options allow.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};

use crate::Seed;
use crate::random::{Random, Stream};
use crate::scenario::fault::{
    Direction, Fault, Host, Kind, KindName, POINTS_OF_A_BATCH, Target, Trigger, combination,
};
use crate::scenario::kafka::KafkaCluster;
use crate::scenario::mix::FaultMix;
use crate::scenario::options::{Begin, RunOptions};
use crate::scenario::simplification::Simplification;
use crate::scenario::workload::WorkloadShape;
use crate::scenario::{Draft, Log, Tables, World};

/// A way to draw a scenario.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
    ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Profile {
    /// All options, and each kind of fault with probability 1/2
    #[default]
    Standard,
    /// Each option, feature and kind of fault only sometimes: many runs have few kinds of faults, some have one
    Swarm,
    /// Workers that are paused or cut off in one direction for about the session timeout, and rebalances
    Zombies,
    /// Most messages lost, delayed or duplicated, short timeouts, and everything is killed often
    Storms,
    /// One or two workers and partitions, at most 30 records, and few faults at points of a batch; fast
    Tiny,
    /// Long names, hundreds of windows, and a small cache of counts
    Wide,
    /// Everything is late: the log's end, messages, nodes, clocks; and partitions are added
    Lagging,
    /// Space for few records everywhere, many records, and services that do not respond for a while, again and again
    Backpressure,
    /// Partitions move between workers again and again, while each writes small batches slowly
    Handovers,
    /// Few faults, and damage to the log or the tables that must be refused, or named by verify
    Damaged,
    /// As standard, with a store that loses acknowledged writes: most runs must fail, to test the simulation itself
    Sabotaged,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

impl Profile {
    /// The profiles that a correct pipeline survives.
    pub fn survivable() -> impl Iterator<Item = Self> {
        Self::iter().filter(|profile| *profile != Self::Sabotaged)
    }

    pub(super) fn draft(self, seed: Seed, world: World) -> Draft {
        let draft = match self {
            Self::Standard => standard,
            Self::Swarm => swarm,
            Self::Zombies => zombies,
            Self::Storms => storms,
            Self::Tiny => tiny,
            Self::Wide => wide,
            Self::Lagging => lagging,
            Self::Backpressure => backpressure,
            Self::Handovers => handovers,
            Self::Damaged => damaged,
            Self::Sabotaged => sabotaged,
        };
        Draft { profile: self, ..draft(seed, world) }
    }

    /// Changes a drawn fault.
    pub(super) fn adjust(self, fault: &mut Fault, draft: &Draft) {
        let random = &mut Random::new(draft.seed, Stream::ProfileOfFault(fault.id));
        if draft.mix.duration_percent != 100 {
            let duration_ms = (fault.duration_ms * draft.mix.duration_percent).div_ceil(100);
            fault.duration_ms = duration_ms.clamp(1, draft.options.chaos_ms);
        }
        match self {
            Self::Zombies => around_session_timeout(fault, &draft.options, random),
            Self::Storms => with_high_rates(fault, random),
            Self::Tiny => at_a_point_of_a_batch(fault, &draft.options, random),
            _ => {}
        }
    }

    /// Faults that the profile has in addition to the drawn ones.
    pub(super) fn more_faults(self, draft: &Draft) -> Vec<Fault> {
        match self {
            Self::Sabotaged => vec![lost_writes(draft)],
            Self::Standard | Self::Zombies | Self::Lagging => {
                combination::draw(draft.seed, &draft.options, draft.services())
            }
            _ => Vec::new(),
        }
    }
}

/// A draft with few windows and small batches, on these services.
fn narrow(seed: Seed, world: World) -> Draft {
    let drawn = RunOptions::narrow(&mut Random::new(seed, Stream::Options));
    Draft::on(seed, world, drawn)
}

fn standard(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Options);
    // One in eight on simple services has more counts than the pipeline may keep in memory.
    let is_wide = random.below(8) == 0 && world == World::Simple;
    let drawn = if is_wide { RunOptions::wide(random) } else { RunOptions::narrow(random) };
    Draft::on(seed, world, drawn)
}

fn swarm(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    for simplification in Simplification::iter() {
        if random.coin() {
            simplification.apply(&mut draft.options, &mut draft.tables, &mut draft.log);
        }
    }
    let shape = &mut draft.shape;
    let features = [
        &mut shape.malformed_per_mille,
        &mut shape.late_per_mille,
        &mut shape.repeated_id_per_mille,
        &mut shape.gap_per_mille,
    ];
    for feature in features {
        if random.coin() {
            *feature = 0;
        }
    }
    let all: Vec<KindName> = KindName::drawn(draft.services()).collect();
    // On average one kind, or a quarter, or half of them.
    let per_mille = random.pick(&[1_000 / all.len() as u64, 250, 500]);
    let mut enabled: Vec<KindName> = all.iter().copied().filter(|_| random.chance(per_mille)).collect();
    if enabled.is_empty() {
        enabled.push(random.pick(&all));
    }
    draft.mix = FaultMix::of(&enabled.iter().map(|kind| (*kind, 1_000)).collect::<Vec<_>>());
    draft
}

fn zombies(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    let options = &mut draft.options;
    options.workers = random.within(2..=3) as u8;
    options.partitions = random.within(1..=3) as u8;
    options.draw_sessions(random, 300..=1_200, 1..=2);
    options.rebalance_timeout_ms = random.log_uniform(100..=600);
    draft.shape.at_start_per_mille = random.pick(&[0, 200, 500]);
    draft.mix = FaultMix {
        number_percent: 300,
        ..FaultMix::of(&[
            (KindName::WorkerPaused, 1_000),
            (KindName::WorkerStopped, 250),
            (KindName::WorkerKilled, 250),
            (KindName::LinkCut, 700),
            (KindName::ClientLinkCut, 700),
            (KindName::ConsumerLinkCut, 700),
            (KindName::BrokerKilled, 300),
            (KindName::GroupShuffled, 500),
            (KindName::RequestsDelayed, 500),
            (KindName::ReplicaMessagesDelayed, 500),
            (KindName::PartitionAdded, 250),
        ])
    };
    draft
}

/// Around the session timeout, below and above, and never in both directions.
fn around_session_timeout(fault: &mut Fault, options: &RunOptions, random: &mut Random) {
    let direction = random.pick(&[Direction::Forward, Direction::Backward]);
    let duration_ms = options.session_timeout_ms * random.within(50..=400) / 100;
    match (fault.name(), &mut fault.target) {
        (
            KindName::LinkCut | KindName::ClientLinkCut | KindName::ConsumerLinkCut,
            Target::Link { direction: cut, .. },
        ) => *cut = direction,
        (KindName::WorkerPaused, _) => {}
        _ => return,
    }
    fault.duration_ms = duration_ms;
}

fn storms(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    let options = &mut draft.options;
    options.request_timeout_ms = random.log_uniform(30..=150);
    options.service_time_ms = random.log_uniform(1..=(options.request_timeout_ms / 8).max(1));
    options.draw_sessions(random, 300..=800, 1..=4);
    options.rebalance_timeout_ms = random.log_uniform(100..=600);
    if let Tables::Cassandra(cluster) = &mut draft.tables {
        cluster.write_timeout_ms = random.log_uniform(100..=300);
        cluster.read_timeout_ms = random.log_uniform(100..=400);
        cluster.request_timeout_ms = random.log_uniform(100..=600);
        cluster.link_ms = cluster.longest_link_ms().min(cluster.link_ms);
    }
    let most = |kind| (kind, 800);
    let kinds: Vec<(KindName, u64)> =
        KindName::drawn(draft.services()).filter(|kind| is_of_a_storm(*kind)).map(most).collect();
    draft.mix = FaultMix { number_percent: 200, duration_percent: 60, ..FaultMix::of(&kinds) };
    draft
}

fn is_of_a_storm(kind: KindName) -> bool {
    let is_calm = matches!(
        kind,
        KindName::WorkerStopped
            | KindName::WorkerPaused
            | KindName::PartitionAdded
            | KindName::GroupShuffled
            | KindName::LogEndLags
            | KindName::LogTrimmed
            | KindName::NodePaused
            | KindName::ClockStepped
            | KindName::ClockCoarse
            | KindName::BrokerPaused
            | KindName::BrokerStopped
            | KindName::BrokerClockStepped
            | KindName::MetadataLags
            | KindName::ReadsFail
            | KindName::LeadersMoved
    );
    !is_calm
}

fn with_high_rates(fault: &mut Fault, random: &mut Random) {
    if let Some(per_mille) = fault.kind.rate_mut() {
        *per_mille = random.within(400..=1_000);
    }
}

fn tiny(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    let options = &mut draft.options;
    options.workers = random.within(1..=2) as u8;
    options.partitions = random.within(1..=2) as u8;
    options.chaos_ms = random.log_uniform(1_000..=3_000);
    options.request_timeout_ms = random.log_uniform(50..=400);
    options.service_time_ms = random.log_uniform(1..=(options.request_timeout_ms / 8).max(1));
    options.session_timeout_ms = random.log_uniform(300..=800);
    options.heartbeat_ms = options.session_timeout_ms / 3;
    options.poll_timeout_ms = options.session_timeout_ms * random.within(1..=4);
    options.begin = Begin::Start;
    options.retired_offsets = 0;
    let pipeline = &mut options.pipeline;
    pipeline.batch_records = random.log_uniform(1..=8) as usize;
    pipeline.write_records = Some(random.log_uniform(1..=4) as usize);
    pipeline.binding_spec.window.threshold = random.within(1..=4) as i32;
    let shape = &mut draft.shape;
    shape.records = random.log_uniform(4..=30);
    shape.sources = random.within(1..=2);
    shape.at_start_per_mille = random.pick(&[500, 1_000]);
    draft.mix = FaultMix { per_mille: 200, number_percent: 15, ..FaultMix::default() };
    draft
}

fn at_a_point_of_a_batch(fault: &mut Fault, options: &RunOptions, random: &mut Random) {
    let (point, nth) = (random.pick(&POINTS_OF_A_BATCH), random.log_uniform(1..=6));
    fault.trigger = Trigger::When { point, nth, latest_ms: options.chaos_ms * 9 / 10 };
    if let Some(worker) = fault.target.worker_mut() {
        *worker = Host::Triggering;
    }
}

fn wide(seed: Seed, world: World) -> Draft {
    let drawn = RunOptions::wide(&mut Random::new(seed, Stream::Options));
    let mut draft = Draft::on(seed, world, drawn);
    draft.options.pipeline.counts_cache_bytes = 1 << 10;
    if world != World::Simple {
        // Each count costs much more.
        draft.shape.records /= 4;
        draft.options.pipeline.binding_spec.window.slide_ms *= 2;
    }
    draft
}

fn lagging(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    draft.shape.at_start_per_mille = random.pick(&[0, 200]);
    draft.shape.late_per_mille = 300;
    draft.options.prefetched_fetches = 3;
    draft.options.stale_deliveries_per_mille = random.pick(&[300, 1_000]);
    draft.mix = FaultMix {
        duration_percent: 200,
        ..FaultMix::of(&[
            (KindName::LogEndLags, 800),
            (KindName::LogTrimmed, 700),
            (KindName::PartitionAdded, 500),
            (KindName::RequestsDelayed, 900),
            (KindName::RequestsDuplicated, 500),
            (KindName::WorkerPaused, 300),
            (KindName::ServiceKilled, 300),
            (KindName::ReplicaMessagesDelayed, 900),
            (KindName::NodePaused, 700),
            (KindName::ReplicaLinkCut, 700),
            (KindName::ClockStepped, 500),
            (KindName::ClockCoarse, 500),
            (KindName::MetadataLags, 700),
            (KindName::BrokerPaused, 700),
            (KindName::BrokerKilled, 500),
            (KindName::LeadersMoved, 700),
            (KindName::BrokerMessagesDelayed, 900),
            (KindName::TransactionOpen, 700),
        ])
    };
    draft
}

fn backpressure(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    draft.options.tighten(random);
    draft.options.begin = Begin::Start;
    draft.options.workers = random.within(1..=2) as u8;
    draft.options.partitions = random.within(1..=2) as u8;
    draft.options.prefetched_fetches = random.within(2..=4) as usize;
    draft.shape.records = random.within(100..=300);
    draft.shape.at_start_per_mille = 1_000;
    if world != World::Simple {
        draft.shape.records /= 4;
    }
    if let Log::Kafka(cluster) = &mut draft.log
        && random.below(3) == 0
    {
        flood(&mut draft.options, &mut draft.shape, cluster);
    }
    draft.mix = FaultMix {
        number_percent: 300,
        ..FaultMix::of(&[
            (KindName::ServiceKilled, 900),
            (KindName::RequestsLost, 600),
            (KindName::RequestsDelayed, 600),
            (KindName::ClientLinkCut, 600),
            (KindName::NodePaused, 900),
            (KindName::NodeKilled, 900),
            (KindName::WorkerPaused, 300),
            (KindName::BrokerKilled, 300),
            (KindName::ConsumerLinkCut, 300),
        ])
    };
    draft
}

/// More and longer records of one partition than the thread of a group member takes from librdkafka before it learns that the
/// partition is paused.
fn flood(options: &mut RunOptions, shape: &mut WorkloadShape, cluster: &mut KafkaCluster) {
    options.partitions = 1;
    options.pipeline.batch_records = 20;
    (shape.records, shape.source_bytes, shape.gap_per_mille) = (4_000, 900, 0);
    cluster.appended_together = Some(1_000);
    for client in &mut cluster.clients {
        (client.fetch_bytes, client.queued_records) = (1 << 20, None);
    }
}

/// A worker that must release a partition has writes in flight nearly always, and records that wait behind them.
fn handovers(seed: Seed, world: World) -> Draft {
    let random = &mut Random::new(seed, Stream::Profile);
    let mut draft = narrow(seed, world);
    draft.options.tighten(random);
    let options = &mut draft.options;
    options.workers = random.within(2..=3) as u8;
    options.partitions = random.within(2..=3) as u8;
    options.chaos_ms = random.within(8_000..=15_000);
    options.request_timeout_ms = random.within(1_000..=1_500);
    options.service_time_ms = random.log_uniform(20..=options.request_timeout_ms / 8);
    options.draw_sessions(random, 300..=1_200, 2..=4);
    options.rebalance_timeout_ms = random.log_uniform(600..=3_000);
    options.pipeline.write_records = Some(random.within(1..=2) as usize);
    slow_down(&mut draft.tables, random);
    draft.shape.records = random.within(50..=100);
    draft.shape.at_start_per_mille = random.pick(&[0, 200, 500]);
    draft.mix = FaultMix {
        number_percent: 300,
        ..FaultMix::of(&[
            (KindName::WorkerStopped, 900),
            (KindName::WorkerKilled, 500),
            (KindName::WorkerPaused, 300),
            (KindName::GroupShuffled, 700),
            (KindName::PartitionAdded, 500),
            (KindName::NodePaused, 500),
            (KindName::RequestsDelayed, 500),
            (KindName::ReplicaMessagesDelayed, 500),
            (KindName::ClientLinkCut, 300),
            (KindName::ConsumerLinkCut, 300),
            (KindName::BrokerStopped, 300),
            (KindName::LeadersMoved, 300),
            (KindName::ReadsFail, 900),
        ])
    };
    draft
}

/// Messages between replicas take long, and timeouts are longer.
fn slow_down(tables: &mut Tables, random: &mut Random) {
    if let Tables::Cassandra(cluster) = tables {
        cluster.write_timeout_ms = random.within(1_000..=2_000);
        cluster.read_timeout_ms = random.within(1_000..=2_000);
        cluster.request_timeout_ms = random.within(1_000..=4_000);
        cluster.link_ms = random.log_uniform(20..=cluster.longest_link_ms());
    }
}

fn damaged(seed: Seed, world: World) -> Draft {
    let mut draft = standard(seed, world);
    let random = &mut Random::new(seed, Stream::Profile);
    let damage = Fault::draw_damage(seed, &draft.options, draft.services());
    if damage.name() == KindName::LogTrimmedPastProgress
        && let Log::Kafka(cluster) = &mut draft.log
    {
        // Much of what is deleted is not fetched yet.
        cluster
            .clients
            .iter_mut()
            .for_each(|client| (client.fetch_bytes, client.queued_records) = (200, Some(1)));
        draft.options.tighten(random);
        slow_down(&mut draft.tables, random);
        draft.shape.records = random.within(50..=100);
        draft.shape.at_start_per_mille = 1_000;
        (draft.options.begin, draft.options.init_among_faults) = (Begin::Start, false);
    }
    draft
}

fn sabotaged(seed: Seed, world: World) -> Draft {
    let mut draft = standard(seed, world);
    (draft.options.begin, draft.options.init_among_faults) = (Begin::Start, false);
    draft
}

/// A store that drops writes that it acknowledges, all the time.
fn lost_writes(draft: &Draft) -> Fault {
    let (trigger, target) = (Trigger::At { at_ms: 0 }, Target::Anyone);
    let kind = Kind::AcknowledgedWritesDropped { per_mille: 600 };
    Fault { id: Fault::ADDED, trigger, target, kind, duration_ms: draft.options.chaos_ms }
}
