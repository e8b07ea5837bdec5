//! Topics: creation, deletion, more partitions (`ReplicationControlManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Controller;
use crate::error::{ErrorCode, code};
use crate::metadata::{Image, PartitionImage, TopicImage, check_topic_name, config};
use crate::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::create_topics_request::CreatableTopic;
use crate::protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use crate::protocol::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use crate::protocol::text;
use crate::quota::tokens::{Charge, Requester};
use crate::types::{NodeId, TopicId};

/// An error and its message for the client.
type Refused = (ErrorCode, String);

/// More partitions than any test needs; each takes memory.
const MOST_PARTITIONS: usize = 10_000;

impl Controller {
    pub(super) fn create_topics(
        &mut self,
        request: &CreateTopicsRequest,
        by: &Requester,
    ) -> CreateTopicsResponse {
        let mut charge = self.charge(by);
        let names: Vec<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
        let mut results = Vec::new();
        let mut done = BTreeSet::new();
        for topic in &request.topics {
            let name = topic.name.as_str();
            if !done.insert(name) {
                continue;
            }
            let result = if names.iter().filter(|other| **other == name).count() > 1 {
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            } else if request.validate_only {
                let mut image = Image::clone(&self.image());
                self.create_topic(&mut image, topic, &mut charge)
            } else {
                self.change(|controller, image| controller.create_topic(image, topic, &mut charge))
            };
            results.push(self.created(name, result));
        }
        CreateTopicsResponse::default().with_topics(results).with_throttle_time_ms(charge.throttle_ms)
    }

    fn created(&self, name: &str, result: Result<TopicImage, Refused>) -> CreatableTopicResult {
        let response = CreatableTopicResult::default().with_name(TopicName(text(name)));
        match result {
            Ok(topic) => {
                let defaults = self.defaults(&self.image());
                let configs = config::KEYS.iter().map(|key| {
                    let own = topic.configs.contains_key(key.name);
                    CreatableTopicConfigs::default()
                        .with_name(text(key.name))
                        .with_value(Some(text(config::effective(key.name, &topic.configs, &defaults))))
                        .with_read_only(false)
                        .with_config_source(if own { 1 } else { 5 })
                        .with_is_sensitive(false)
                });
                let replication = topic.partitions.first().map_or(0, |first| first.replicas.len());
                response
                    .with_topic_id(topic.id.0)
                    .with_num_partitions(topic.partitions.len() as i32)
                    .with_replication_factor(replication as i16)
                    .with_configs(Some(configs.collect()))
            }
            Err((error, message)) => response
                .with_error_code(error.code())
                .with_error_message(Some(text(&message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new())),
        }
    }

    fn create_topic(
        &mut self,
        image: &mut Image,
        wanted: &CreatableTopic,
        charge: &mut Charge,
    ) -> Result<TopicImage, Refused> {
        let name = wanted.name.as_str();
        check_topic_name(name).map_err(|message| (ErrorCode::InvalidTopicException, message))?;
        if image.names.contains_key(name) {
            return Err((ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        // Metrics replace dots by underscores, so names that differ in these alone collide.
        let folded = |name: &str| name.replace('.', "_");
        if let Some(other) = image.names.keys().find(|other| folded(other) == folded(name)) {
            return Err((
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            ));
        }
        let mut configs = BTreeMap::new();
        for entry in &wanted.configs {
            let value = entry.value.as_ref().ok_or_else(|| {
                (
                    ErrorCode::InvalidConfig,
                    format!("Null value not supported for topic configs: {}", entry.name),
                )
            })?;
            config::check(&entry.name, value)
                .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
            configs.insert(entry.name.to_string(), value.to_string());
        }
        let assignments =
            if wanted.assignments.is_empty() { self.place(image, wanted)? } else { assigned(image, wanted)? };
        let partitions = assignments.into_iter().map(|replicas| new_partition(image, replicas));
        let partitions = partitions.collect::<Result<Vec<_>, _>>()?;
        self.mutations.record(charge, partitions.len()).map_err(throttled)?;
        let topic = TopicImage { id: self.new_topic_id(), name: name.to_owned(), partitions, configs };
        image.names.insert(topic.name.clone(), topic.id);
        image.topics.insert(topic.id, Arc::new(topic.clone()));
        Ok(topic)
    }

    fn place(&mut self, image: &Image, wanted: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refused> {
        let partitions =
            if wanted.num_partitions == -1 { self.settings.partitions } else { wanted.num_partitions };
        let replication = if wanted.replication_factor == -1 {
            self.settings.replication
        } else {
            wanted.replication_factor
        };
        // The order of these matters when both are wrong (`ReplicationControlManager.createTopic`).
        let replication = usize::try_from(replication).ok().filter(|replication| *replication > 0);
        let replication = replication.ok_or_else(|| {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            (ErrorCode::InvalidReplicationFactor, message.to_owned())
        })?;
        if partitions <= 0 {
            return Err((
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.".to_owned(),
            ));
        }
        let count = partitions as usize;
        if count > MOST_PARTITIONS {
            return Err((
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.".to_owned(),
            ));
        }
        self.spread(image, count, replication)
    }

    /// Spreads replicas over the brokers, from a random one on (`StripedReplicaPlacer`).
    fn spread(
        &mut self,
        image: &Image,
        partitions: usize,
        replication: usize,
    ) -> Result<Vec<Vec<NodeId>>, Refused> {
        let usable: Vec<NodeId> =
            image.brokers.values().filter(|broker| !broker.shutting_down).map(|broker| broker.id).collect();
        let active: Vec<NodeId> =
            usable.iter().copied().filter(|node| image.active(*node).is_some()).collect();
        if replication > usable.len() || active.is_empty() {
            return Err((
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {replication} time(s): The target replication factor of {replication} cannot be reached because only {} broker(s) are registered.",
                    usable.len()
                ),
            ));
        }
        let first = (self.random.next_u64() % active.len() as u64) as usize;
        let spread = (0..partitions).map(|partition| {
            let leader = active.get((first + partition) % active.len()).copied();
            let start = usable.iter().position(|node| Some(*node) == leader).unwrap_or(0);
            (0..replication).filter_map(|place| usable.get((start + place) % usable.len()).copied()).collect()
        });
        Ok(spread.collect())
    }

    pub(super) fn delete_topics(
        &mut self,
        request: &DeleteTopicsRequest,
        by: &Requester,
    ) -> DeleteTopicsResponse {
        let mut charge = self.charge(by);
        let image = self.image();
        let by_name = request.topic_names.iter().map(|name| (Some(name.to_string()), TopicId::default()));
        let by_either = request
            .topics
            .iter()
            .map(|topic| (topic.name.as_ref().map(|name| name.to_string()), TopicId(topic.topic_id)));
        let results = by_name.chain(by_either).map(|(name, id)| {
            let topic = match &name {
                Some(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
                None => image.topics.get(&id).ok_or(ErrorCode::UnknownTopicId),
            };
            let name = topic.as_ref().map(|topic| topic.name.clone()).ok().or(name);
            let id = topic.as_ref().map_or(id, |topic| topic.id);
            let topic = topic
                .and_then(|topic| self.mutations.record(&mut charge, topic.partitions.len()).map(|()| topic));
            let response = DeletableTopicResult::default()
                .with_name(name.map(|name| TopicName(text(&name))))
                .with_topic_id(id.0)
                .with_error_code(code(&topic))
                .with_error_message(topic.as_ref().err().map(|error| text(&error.to_string())));
            if let Ok(topic) = topic {
                self.change(|_, image| {
                    image.topics.remove(&topic.id);
                    image.names.remove(&topic.name);
                });
            }
            response
        });
        let results = results.collect();
        DeleteTopicsResponse::default().with_responses(results).with_throttle_time_ms(charge.throttle_ms)
    }

    pub(super) fn create_partitions(
        &mut self,
        request: &CreatePartitionsRequest,
        by: &Requester,
    ) -> CreatePartitionsResponse {
        let mut charge = self.charge(by);
        let results = request.topics.iter().map(|topic| {
            let result = if request.validate_only {
                let mut image = Image::clone(&self.image());
                self.add_partitions(&mut image, topic, &mut charge)
            } else {
                self.change(|controller, image| controller.add_partitions(image, topic, &mut charge))
            };
            CreatePartitionsTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(result.as_ref().err().map_or(0, |(error, _)| error.code()))
                .with_error_message(result.err().map(|(_, message)| text(&message)))
        });
        let results = results.collect();
        CreatePartitionsResponse::default().with_results(results).with_throttle_time_ms(charge.throttle_ms)
    }

    fn add_partitions(
        &mut self,
        image: &mut Image,
        wanted: &CreatePartitionsTopic,
        charge: &mut Charge,
    ) -> Result<(), Refused> {
        let unknown = || {
            (ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.".to_owned())
        };
        let topic = image.topic(&wanted.name).cloned().ok_or_else(unknown)?;
        let invalid = |message: String| (ErrorCode::InvalidPartitions, message);
        let has = topic.partitions.len();
        let count = usize::try_from(wanted.count).unwrap_or(0);
        if count == has {
            return Err(invalid(format!("Topic already has {has} partition(s).")));
        }
        if count < has {
            return Err(invalid(format!(
                "The topic {} currently has {has} partition(s); {} would not be an increase.",
                topic.name, wanted.count
            )));
        }
        if count > MOST_PARTITIONS {
            return Err((
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.".to_owned(),
            ));
        }
        if let Some(assignments) = &wanted.assignments
            && assignments.len() != count - has
        {
            let message = format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                count - has,
                assignments.len()
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
        self.mutations.record(charge, count - has).map_err(throttled)?;
        let added = match &wanted.assignments {
            Some(assignments) => assignments
                .iter()
                .map(|assignment| assignment.broker_ids.iter().map(|broker| NodeId(broker.0)).collect())
                .collect(),
            None => {
                let replication = topic.partitions.first().map_or(1, |first| first.replicas.len());
                self.spread(image, count - has, replication)?
            }
        };
        let mut after = TopicImage::clone(&topic);
        for replicas in added {
            after.partitions.push(new_partition(image, replicas)?);
        }
        image.topics.insert(topic.id, Arc::new(after));
        Ok(())
    }
}

/// Why a change beyond a quota is refused.
fn throttled(error: ErrorCode) -> Refused {
    (error, "The throttling quota has been exceeded.".to_owned())
}

/// The replicas that a request says.
fn assigned(image: &Image, wanted: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refused> {
    let invalid = |message: &str| (ErrorCode::InvalidReplicaAssignment, message.to_owned());
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        return Err((
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.".to_owned(),
        ));
    }
    let mut by_index = BTreeMap::new();
    for assignment in &wanted.assignments {
        let replicas: Vec<NodeId> = assignment.broker_ids.iter().map(|broker| NodeId(broker.0)).collect();
        if by_index.insert(assignment.partition_index, replicas).is_some() {
            return Err(invalid("Found multiple manual partition assignments for a partition"));
        }
    }
    let is_consecutive = by_index.keys().copied().eq(0..by_index.len() as i32);
    if !is_consecutive {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence"));
    }
    let mut lengths = by_index.values().map(Vec::len);
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        return Err(invalid("The manual partition assignments have different numbers of replicas"));
    }
    for replica in by_index.values().flatten() {
        if !image.brokers.contains_key(replica) {
            return Err(invalid(&format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            )));
        }
    }
    Ok(by_index.into_values().collect())
}

fn new_partition(image: &Image, replicas: Vec<NodeId>) -> Result<PartitionImage, Refused> {
    let invalid = |message: &str| (ErrorCode::InvalidReplicaAssignment, message.to_owned());
    if replicas.is_empty() {
        return Err(invalid("The manual partition assignment includes an empty replica list."));
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() < replicas.len() {
        return Err(invalid("The manual partition assignment includes a broker more than once."));
    }
    let in_sync: Vec<NodeId> =
        replicas.iter().copied().filter(|node| image.active(*node).is_some()).collect();
    let leader = in_sync.first().copied();
    if leader.is_none() {
        return Err(invalid(
            "All brokers specified in the manual partition assignment are fenced or in controlled shutdown.",
        ));
    }
    let (eligible, last_known_leader) = (Vec::new(), None);
    let (leader_epoch, partition_epoch, recovering) = (0, 0, false);
    let partition = PartitionImage {
        replicas,
        in_sync,
        eligible,
        last_known_leader,
        leader,
        leader_epoch,
        partition_epoch,
        recovering,
    };
    Ok(partition)
}
