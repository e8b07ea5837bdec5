//! What an administrator does to topics and partitions, without a client.
//!
//! Changes of topics are decided at once by the controller, as when a broker forwards the request; brokers learn of them in
//! their own time. What changes a log happens at the leader.

use std::sync::Arc;

use thiserror::Error;

use super::broker::Broker;
use super::{Cluster, locked};
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::ErrorCode;
use crate::log::{Origin, Proof};
use crate::protocol::builder::{BatchBuilder, end_of_transaction};
use crate::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use crate::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use crate::protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use crate::protocol::records::{EndMarker, Marker};
use crate::protocol::text;
use crate::quota::tokens::Requester;
use crate::types::{NodeId, Offset, PartitionId, TopicId};

/// Why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OperatorError {
    /// No host acts as the controller.
    #[error("no host acts as the controller")]
    NoController,
    /// There is no such topic, or it has no such partition.
    #[error("there is no partition {partition} of topic {topic}")]
    Unknown {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The leader of the partition does not run, is paused, does not know yet that it leads, or has started again and is not
    /// unfenced since: it may have lost what others have.
    #[error("nobody serves as the leader of partition {partition} of topic {topic}")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The controller or the leader refuses it.
    #[error("refused with {error:?}: {message}")]
    Refused {
        /// The error that a client would get.
        error: ErrorCode,
        /// What is wrong.
        message: String,
    },
}

/// A transaction that nobody ends ([`Cluster::hang_transaction`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangingTransaction {
    /// Its producer, which does not exist.
    pub producer_id: i64,
    /// The offset of its only record.
    pub offset: Offset,
}

type Outcome<T> = Result<T, OperatorError>;

impl Cluster {
    /// Creates a topic. With -1, it has as many partitions or replicas as the cluster's default says.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], or what the controller refuses, for instance a topic that exists.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i16,
        configs: &[(&str, &str)],
    ) -> Outcome<TopicId> {
        let configs = configs.iter().map(|(name, value)| config(name, value));
        let topic = CreatableTopic::default()
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(configs.collect());
        self.create(name, topic)
    }

    fn create(&self, name: &str, topic: CreatableTopic) -> Outcome<TopicId> {
        let topic = topic.with_name(TopicName(text(name)));
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let ControlResponse::CreateTopics(response) =
            self.control(ControlRequest::CreateTopics(request, administrator()))?
        else {
            return Err(OperatorError::NoController);
        };
        let created = response.topics.into_iter().next().unwrap_or_default();
        accepted(created.error_code, created.error_message.as_deref())?;
        Ok(TopicId(created.topic_id))
    }

    /// Deletes a topic, with its records.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], or what the controller refuses, for instance a topic that does not exist.
    pub fn delete_topic(&self, name: &str) -> Outcome<()> {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(name))]);
        let ControlResponse::DeleteTopics(response) =
            self.control(ControlRequest::DeleteTopics(request, administrator()))?
        else {
            return Err(OperatorError::NoController);
        };
        let deleted = response.responses.into_iter().next().unwrap_or_default();
        accepted(deleted.error_code, deleted.error_message.as_deref())
    }

    /// Deletes a topic, and creates one with the same name, replicas and configuration. Its records are gone, its offsets
    /// begin at 0, and it has another id, which is returned.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], or what the controller refuses: a topic that does not exist, or a partition whose
    /// brokers are all fenced, and then the topic is deleted and not created.
    pub fn recreate_topic(&self, name: &str) -> Outcome<TopicId> {
        let before = self.metadata().topic(name).cloned();
        self.delete_topic(name)?;
        let Some(before) = before else { return Err(OperatorError::NoController) };
        let assignments = (0..).zip(&before.partitions).map(|(index, partition)| {
            let brokers = partition.replicas.iter().map(|node| BrokerId(node.0));
            CreatableReplicaAssignment::default()
                .with_partition_index(index)
                .with_broker_ids(brokers.collect())
        });
        let configs = before.configs.iter().map(|(name, value)| config(name, value));
        let topic = CreatableTopic::default()
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(assignments.collect())
            .with_configs(configs.collect());
        self.create(name, topic)
    }

    /// Adds partitions to a topic, so that it has this many. Records with a key may belong to another partition than
    /// before.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], or what the controller refuses, for instance fewer partitions than there are.
    pub fn add_partitions(&self, topic: &str, count: i32) -> Outcome<()> {
        let wanted = CreatePartitionsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]);
        let ControlResponse::CreatePartitions(response) =
            self.control(ControlRequest::CreatePartitions(request, administrator()))?
        else {
            return Err(OperatorError::NoController);
        };
        let result = response.results.into_iter().next().unwrap_or_default();
        accepted(result.error_code, result.error_message.as_deref())
    }

    /// Changes the configuration of a topic, for instance `cleanup.policy` to `compact`; without a value it is the
    /// cluster's default again.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], or what the controller refuses: an unknown topic, name or value.
    pub fn configure_topic(&self, topic: &str, name: &str, value: Option<&str>) -> Outcome<()> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let change = AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.map(text));
        let resource = AlterConfigsResource::default()
            .with_resource_type(crate::controller::TOPIC)
            .with_resource_name(text(topic))
            .with_configs(vec![change]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let ControlResponse::AlterConfigs(response) = self.control(ControlRequest::AlterConfigs(request))?
        else {
            return Err(OperatorError::NoController);
        };
        let altered = response.responses.into_iter().next().unwrap_or_default();
        accepted(altered.error_code, altered.error_message.as_deref())
    }

    /// Lets a replica lead a partition alone, although it may not be in sync: what it does not have is lost, and the others
    /// copy from it. An election that Kafka allows with `unclean.leader.election.enable` takes the first replica that is
    /// alive; this one takes the given replica. Nothing happens if that leads already.
    ///
    /// # Errors
    /// [`OperatorError::NoController`], [`OperatorError::Unknown`], or [`ErrorCode::EligibleLeadersNotAvailable`] if the
    /// broker has no replica or is fenced.
    pub fn elect_unclean(&self, topic: &str, partition: i32, to: NodeId) -> Outcome<()> {
        let id = self.find(topic, partition)?;
        self.active_controller().ok_or(OperatorError::NoController)?;
        if self.environment().controller().elect_uncleanly(id, to) {
            return Ok(());
        }
        let message = format!("broker {to} has no replica or is fenced");
        Err(OperatorError::Refused { error: ErrorCode::EligibleLeadersNotAvailable, message })
    }

    /// Deletes the records of a partition below an offset, as a DeleteRecords request: the leader's log starts there at
    /// once, and the logs of the followers with their next fetches. -1 stands for the high watermark. Returns where the log
    /// starts.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::NoLeader`], [`ErrorCode::OffsetOutOfRange`] above the high watermark,
    /// or [`ErrorCode::PolicyViolation`] if `cleanup.policy` does not contain `delete`.
    pub fn delete_records(&self, topic: &str, partition: i32, below: Offset) -> Outcome<Offset> {
        let (leader, id) = self.serving_leader(topic, partition)?;
        let deleted = leader.delete_before(id, below).map_err(refused)?;
        leader.notify();
        // The log may have started later before.
        let start = leader.lock().replicas.get(&id).map(|replica| replica.log.start());
        Ok(start.unwrap_or(deleted))
    }

    /// Appends a record of a transaction that nobody ends, as a Produce request does that arrives late at a leader without
    /// verification of transactions (KIP-890): consumers of committed records wait at its offset. Its producer does not
    /// exist, and no coordinator knows the transaction, so that it does not time out.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::NoLeader`], or what the leader refuses.
    pub fn hang_transaction(&self, topic: &str, partition: i32) -> Outcome<HangingTransaction> {
        let (leader, id) = self.serving_leader(topic, partition)?;
        let producer_id = self.environment().controller().take_producer_ids();
        let now = leader.now();
        let batch = BatchBuilder::new(now)
            .producer(producer_id, 0, 0)
            .transactional()
            .record(now, Some(b"hanging"), Some(b"transaction"))
            .build();
        let appended =
            leader.append(id, &batch, Origin::Client, Proof::NotRequired, false).map_err(refused)?;
        Ok(HangingTransaction { producer_id, offset: appended.base_offset })
    }

    /// The producers with an open transaction in a partition, as `kafka-transactions.sh describe-producers` shows them.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::NoLeader`].
    pub fn open_transactions(&self, topic: &str, partition: i32) -> Outcome<Vec<i64>> {
        let (leader, id) = self.serving_leader(topic, partition)?;
        let state = leader.lock();
        let producers =
            state.replicas.get(&id).into_iter().flat_map(|replica| replica.log.producers().iter());
        let open = producers.filter(|(_, producer)| producer.transaction_start.is_some());
        Ok(open.map(|(producer_id, _)| producer_id).collect())
    }

    /// Ends a transaction of a producer in one partition, as `kafka-transactions.sh abort` does. Returns the offset of the
    /// marker.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::NoLeader`], [`ErrorCode::InvalidTxnState`] if the partition has no
    /// open transaction of the producer, or what the leader refuses.
    pub fn abort_transaction(&self, topic: &str, partition: i32, producer_id: i64) -> Outcome<Offset> {
        let (leader, id) = self.serving_leader(topic, partition)?;
        let open = {
            let state = leader.lock();
            let producer =
                state.replicas.get(&id).and_then(|replica| replica.log.producers().get(producer_id));
            producer.filter(|producer| producer.transaction_start.is_some()).cloned()
        };
        let Some(producer) = open else { return Err(refused(ErrorCode::InvalidTxnState)) };
        let epoch = producer.epoch;
        // The epoch of the coordinator that the log knows, or 0 (`TransactionsCommand.AbortTransactionCommand`).
        let end = EndMarker { marker: Marker::Abort, coordinator_epoch: producer.coordinator_epoch.max(0) };
        let batch = end_of_transaction(leader.now(), producer_id, epoch, end);
        let appended =
            leader.append(id, &batch, Origin::Coordinator, Proof::NotRequired, false).map_err(refused)?;
        Ok(appended.base_offset)
    }

    /// Has the controller decide.
    fn control(&self, request: ControlRequest) -> Outcome<ControlResponse> {
        let host = *locked(&self.environment().active);
        let host = host.ok_or(OperatorError::NoController)?;
        match self.environment().controller().handle(host, request) {
            ControlResponse::Refused(error) => Err(refused(error)),
            response => Ok(response),
        }
    }

    fn find(&self, topic: &str, partition: i32) -> Outcome<PartitionId> {
        let unknown = || OperatorError::Unknown { topic: topic.to_owned(), partition };
        self.partition(topic, partition).ok_or_else(unknown)
    }

    /// The broker that serves requests to the leader of a partition.
    fn serving_leader(&self, topic: &str, partition: i32) -> Outcome<(Arc<Broker>, PartitionId)> {
        let id = self.find(topic, partition)?;
        let leader = self.leader(topic, partition).and_then(|leader| self.get(leader));
        let serves = |leader: &Arc<Broker>| {
            let state = leader.lock();
            state.replicas.get(&id).is_some_and(|replica| replica.leader().is_ok())
        };
        let leader = leader.filter(|leader| !leader.is_paused() && leader.readiness.get()).filter(serves);
        let no_leader = || OperatorError::NoLeader { topic: topic.to_owned(), partition };
        Ok((leader.ok_or_else(no_leader)?, id))
    }
}

/// Who changes topics: nobody whose changes are bounded by a quota.
fn administrator() -> Requester {
    Requester { user: None, client_id: String::new(), is_strict: true }
}

fn config(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
}

fn refused(error: ErrorCode) -> OperatorError {
    OperatorError::Refused { error, message: error.to_string() }
}

fn accepted(code: i16, message: Option<&str>) -> Outcome<()> {
    match ErrorCode::try_from_code(code) {
        None => Ok(()),
        Some(error) => {
            let message = message.map_or_else(|| error.to_string(), str::to_owned);
            Err(OperatorError::Refused { error, message })
        }
    }
}
