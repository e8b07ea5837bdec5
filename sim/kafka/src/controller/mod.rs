//! The controller: decides who leads what, and keeps topics and configurations.
//!
//! It is one state machine, whose state is never lost: a quorum that replicates it is not simulated. It acts on the host of
//! one of the brokers, and only while a majority of its voters runs. When its host fails, another takes over after a delay,
//! during which nobody is elected, fenced or registered, and no topic is created.

mod announce;
mod brokers;
mod configs;
mod credentials;
mod election;
mod partitions;
mod quotas;
mod request;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand_core::Rng;
use simulated_hosts::watch::{Watched, Watcher};
use tokio::time::Instant;

pub(crate) use configs::{BROKER, DELETE, SET, SUBTRACT, TOPIC, change_of_no_list};
pub(crate) use request::{ControlRequest, ControlResponse, Proposal, Registration};

use crate::cluster::observe::Witness;
use crate::error::ErrorCode;
use crate::metadata::{Image, TopicImage, TopicSettings};
use crate::quota::Window;
use crate::quota::tokens::{Charge, Mutations, Requester};
use crate::types::{NodeId, TopicId};

/// How the controller is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerSettings {
    /// How long a broker may be silent before it is fenced (`broker.session.timeout.ms`, 9 s).
    pub session_timeout: Duration,
    /// How long it takes until another host acts as the controller.
    pub failover_delay: Duration,
    /// Whether leaders return to the first replica by themselves (`auto.leader.rebalance.enable`), and how often that is
    /// checked (`leader.imbalance.check.interval.seconds`, 300).
    pub rebalance_interval: Option<Duration>,
    /// How often partitions without a leader are looked at that allow unclean elections
    /// (`unclean.leader.election.interval.ms`, 5 min).
    pub unclean_interval: Duration,
    /// The partitions of a topic that does not say how many (`num.partitions`).
    pub partitions: i32,
    /// The replicas of a topic that does not say how many (`default.replication.factor`).
    pub replication: i16,
    /// Whether eligible leader replicas are kept (`eligible.leader.replicas.version` 1).
    pub eligible_leader_replicas: bool,
    /// How the quota of changes is measured (`controller.quota.window.num` and `controller.quota.window.size.seconds`).
    pub mutation_window: Window,
    /// Configuration of all topics that do not have their own, by the topic's name of it.
    pub topic_defaults: BTreeMap<String, String>,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(9),
            failover_delay: Duration::from_secs(2),
            rebalance_interval: Some(Duration::from_secs(300)),
            unclean_interval: Duration::from_secs(300),
            partitions: 1,
            replication: 1,
            eligible_leader_replicas: true,
            mutation_window: Window::default(),
            topic_defaults: BTreeMap::new(),
        }
    }
}

/// The state machine.
pub(crate) struct Controller {
    settings: ControllerSettings,
    image: Watched<Arc<Image>>,
    /// When each registered broker was last heard of.
    heard: BTreeMap<NodeId, Instant>,
    /// The version of the metadata that each broker has.
    versions: BTreeMap<NodeId, i64>,
    random: Box<dyn Rng + Send>,
    next_producer_id: i64,
    mutations: Mutations,
    started: Instant,
    next_rebalance: Instant,
    next_unclean: Instant,
    witness: Witness,
}

/// How many producer ids a broker gets at once (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub(crate) const PRODUCER_IDS: i64 = 1000;

impl Controller {
    pub(crate) fn new(settings: ControllerSettings, random: Box<dyn Rng + Send>) -> Self {
        let now = Instant::now();
        Self {
            next_rebalance: now + settings.rebalance_interval.unwrap_or_default(),
            next_unclean: now + settings.unclean_interval,
            mutations: Mutations::new(settings.mutation_window),
            started: now,
            settings,
            image: Watched::new(Arc::new(Image::default())),
            heard: BTreeMap::new(),
            versions: BTreeMap::new(),
            random,
            next_producer_id: 0,
            witness: Witness::default(),
        }
    }

    /// Reports changes of the metadata from now on.
    pub(crate) fn report_to(&mut self, witness: Witness) {
        self.witness = witness;
    }

    /// The metadata as it is decided.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.image.get()
    }

    /// Follows the metadata.
    pub(crate) fn watch(&self) -> Watcher<Arc<Image>> {
        self.image.watch()
    }

    /// Another host acts as the controller: it does not know when it would have heard of the brokers.
    pub(crate) fn take_over(&mut self) {
        let now = Instant::now();
        self.heard.values_mut().for_each(|heard| *heard = now);
        self.mutations.clear();
    }

    /// Begins a request that counts for the quota of changes.
    fn charge(&self, by: &Requester) -> Charge {
        self.mutations.charge(&self.image(), by, self.started.elapsed())
    }

    /// Handles a request of a broker, but for [`ControlRequest::Metadata`], which may have to wait.
    pub(crate) fn handle(&mut self, from: NodeId, request: ControlRequest) -> ControlResponse {
        let response = match request {
            ControlRequest::Register(registration) => self.register(registration),
            ControlRequest::Heartbeat { epoch, version, wants_to_end } => {
                self.heartbeat(from, epoch, version, wants_to_end)
            }
            ControlRequest::Metadata { .. } => Ok(ControlResponse::Metadata(self.image())),
            ControlRequest::AlterPartition { epoch, proposals } => {
                self.alter_partitions(from, epoch, proposals)
            }
            ControlRequest::ProducerIds { epoch } => {
                self.check_epoch(from, epoch).map(|()| ControlResponse::ProducerIds(self.take_producer_ids()))
            }
            ControlRequest::CreateTopics(request, by) => {
                Ok(ControlResponse::CreateTopics(self.create_topics(&request, &by)))
            }
            ControlRequest::DeleteTopics(request, by) => {
                Ok(ControlResponse::DeleteTopics(self.delete_topics(&request, &by)))
            }
            ControlRequest::CreatePartitions(request, by) => {
                Ok(ControlResponse::CreatePartitions(self.create_partitions(&request, &by)))
            }
            ControlRequest::AlterConfigs(request) => {
                Ok(ControlResponse::AlterConfigs(self.alter_configs(&request, false)))
            }
            ControlRequest::ReplaceConfigs(request) => {
                Ok(ControlResponse::AlterConfigs(self.alter_configs(&request, true)))
            }
            ControlRequest::AlterCredentials(request) => {
                Ok(ControlResponse::AlterCredentials(self.alter_credentials(&request)))
            }
            ControlRequest::AlterQuotas(request) => {
                Ok(ControlResponse::AlterQuotas(self.alter_quotas(&request)))
            }
            ControlRequest::ElectLeaders(request) => {
                Ok(ControlResponse::ElectLeaders(self.elect_leaders(&request)))
            }
        };
        response.unwrap_or_else(ControlResponse::Refused)
    }

    /// The first of [`PRODUCER_IDS`] that no producer has.
    pub(crate) fn take_producer_ids(&mut self) -> i64 {
        let first = self.next_producer_id;
        self.next_producer_id += PRODUCER_IDS;
        first
    }

    /// What is due: fencing brokers that are silent, preferred leaders, unclean elections.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        self.fence_silent(now);
        if let Some(interval) = self.settings.rebalance_interval
            && now >= self.next_rebalance
        {
            self.next_rebalance = now + interval;
            self.rebalance();
        }
        if now >= self.next_unclean {
            self.next_unclean = now + self.settings.unclean_interval;
            self.elect_leaderless();
        }
    }

    /// Changes the metadata and publishes it, if it is not the same afterwards.
    fn change<R>(&mut self, change: impl FnOnce(&mut Self, &mut Image) -> R) -> R {
        let before = self.image();
        let mut image = Image::clone(&before);
        let result = change(self, &mut image);
        if image != *before {
            image.version += 1;
            let after = Arc::new(image);
            self.image.set(after.clone());
            if self.witness.is_on() {
                announce::announce(&self.witness, &before, &after);
            }
        }
        result
    }

    fn settings_of(&self, topic: &TopicImage, image: &Image) -> TopicSettings {
        TopicSettings::of(&topic.configs, &self.defaults(image))
    }

    /// The configuration of topics that do not have their own.
    fn defaults(&self, image: &Image) -> BTreeMap<String, String> {
        topic_defaults(&self.settings.topic_defaults, image)
    }

    fn new_topic_id(&mut self) -> TopicId {
        let number = (u128::from(self.random.next_u64()) << 64) | u128::from(self.random.next_u64());
        // Version 4, variant 1.
        let number = (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        TopicId(uuid::Uuid::from_u128(number))
    }

    fn check_epoch(&self, node: NodeId, epoch: i64) -> Result<(), ErrorCode> {
        match self.image().brokers.get(&node) {
            None => Err(ErrorCode::BrokerIdNotRegistered),
            Some(broker) if broker.epoch != epoch => Err(ErrorCode::StaleBrokerEpoch),
            Some(_) => Ok(()),
        }
    }
}

/// The configuration of topics that do not have their own: the cluster's static one, and what was changed dynamically
/// for all brokers.
pub(crate) fn topic_defaults(fixed: &BTreeMap<String, String>, image: &Image) -> BTreeMap<String, String> {
    let mut defaults = fixed.clone();
    if let Some(dynamic) = image.broker_configs.get(&None) {
        for key in crate::metadata::config::KEYS {
            if let Some(value) = dynamic.get(key.broker_name) {
                defaults.insert(key.name.to_owned(), value.clone());
            }
        }
    }
    defaults
}
