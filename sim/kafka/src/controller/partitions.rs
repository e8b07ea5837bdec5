//! Elections and in-sync sets (`ReplicationControlManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::election::{Change, Election};
use super::{ControlResponse, Controller, Proposal};
use crate::error::{ErrorCode, Result, code};
use crate::metadata::{Image, PartitionImage};
use crate::protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use crate::protocol::text;
use crate::types::{NodeId, PartitionId};

impl Controller {
    /// Decides about a partition of an image; whether anything changed.
    fn decide(
        &self,
        image: &mut Image,
        id: PartitionId,
        election: Option<Election>,
        in_sync: Option<Vec<NodeId>>,
        unclean: &BTreeSet<NodeId>,
    ) -> bool {
        let Some(topic) = image.topics.get(&id.topic).cloned() else { return false };
        let Some(partition) = topic.partition(id.index) else { return false };
        let settings = self.settings_of(&topic, image);
        let default = if settings.unclean { Election::Unclean } else { Election::Online };
        let is_acceptable = |node: NodeId| image.active(node).is_some();
        let change = Change {
            partition,
            is_acceptable: &is_acceptable,
            election: election.unwrap_or(default),
            min_in_sync: settings.min_in_sync.min(partition.replicas.len()),
            in_sync: in_sync.unwrap_or_else(|| partition.in_sync.clone()),
            unclean: unclean.clone(),
            keeps_eligible: self.settings.eligible_leader_replicas,
        };
        let Some(after) = change.decide() else { return false };
        tracing::debug!(topic = %topic.name, partition = id.index, leader = ?after.leader, in_sync = ?after.in_sync, "changed");
        set(image, id, after);
        true
    }

    /// Takes a broker out of all in-sync sets, and out of all eligible replicas if it ended uncleanly.
    pub(super) fn remove_from_in_sync(&self, image: &mut Image, node: NodeId, unclean: BTreeSet<NodeId>) {
        for id in partitions_with(image, node) {
            let Some(partition) = image.partition(id) else { continue };
            let left = partition.in_sync.iter().copied().filter(|replica| *replica != node).collect();
            self.decide(image, id, None, Some(left), &unclean);
        }
    }

    /// Elects leaders of partitions that have none, now that a broker is there.
    pub(super) fn elect_for(&self, image: &mut Image, node: NodeId) {
        for id in partitions_with(image, node) {
            if image.partition(id).is_some_and(|partition| partition.leader.is_none()) {
                self.decide(image, id, None, None, &BTreeSet::new());
            }
        }
    }

    /// Elects leaders of partitions that have none, uncleanly where that is allowed.
    pub(super) fn elect_leaderless(&mut self) {
        self.change(|controller, image| {
            let leaderless = image.partitions().filter(|(_, _, partition)| partition.leader.is_none());
            let ids: Vec<_> = leaderless.map(|(id, ..)| id).collect();
            for id in ids {
                controller.decide(image, id, None, None, &BTreeSet::new());
            }
        });
    }

    /// Lets the preferred replicas lead (`maybeBalancePartitionLeaders`).
    pub(super) fn rebalance(&mut self) {
        self.change(|controller, image| {
            let ids: Vec<_> = image.partitions().map(|(id, ..)| id).collect();
            for id in ids {
                controller.decide(image, id, Some(Election::Preferred), None, &BTreeSet::new());
            }
        });
    }

    pub(super) fn alter_partitions(
        &mut self,
        from: NodeId,
        epoch: i64,
        proposals: Vec<Proposal>,
    ) -> Result<ControlResponse> {
        self.check_epoch(from, epoch)?;
        let results = proposals.into_iter().map(|proposal| {
            (proposal.partition, self.change(|controller, image| controller.alter(image, from, &proposal)))
        });
        Ok(ControlResponse::AlterPartition(results.collect()))
    }

    fn alter(&self, image: &mut Image, from: NodeId, proposal: &Proposal) -> Result<PartitionImage> {
        let partition = image.partition(proposal.partition).ok_or(ErrorCode::UnknownTopicId)?;
        if proposal.leader_epoch > partition.leader_epoch
            || proposal.partition_epoch > partition.partition_epoch
        {
            return Err(ErrorCode::NotController);
        }
        if proposal.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if partition.leader != Some(from) {
            return Err(ErrorCode::InvalidRequest);
        }
        if proposal.partition_epoch < partition.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let in_sync: Vec<NodeId> = proposal.in_sync.iter().map(|(node, _)| *node).collect();
        if !in_sync.contains(&from) || in_sync.iter().any(|node| !partition.replicas.contains(node)) {
            return Err(ErrorCode::InvalidRequest);
        }
        for (node, epoch) in &proposal.in_sync {
            let is_eligible =
                image.active(*node).is_some_and(|broker| *epoch == -1 || *epoch == broker.epoch);
            if !is_eligible {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        let recovered = partition.recovering && in_sync.len() > 1;
        let mut ordered = in_sync;
        ordered.sort();
        self.decide(image, proposal.partition, None, Some(ordered), &BTreeSet::new());
        let after = image.partition(proposal.partition).cloned().ok_or(ErrorCode::UnknownTopicId)?;
        if recovered {
            let after = PartitionImage { recovering: false, ..after.clone() };
            set(image, proposal.partition, after);
        }
        Ok(after)
    }

    pub(super) fn elect_leaders(&mut self, request: &ElectLeadersRequest) -> ElectLeadersResponse {
        let election = if request.election_type == 1 { Election::Unclean } else { Election::Preferred };
        let image = self.image();
        let wanted: Vec<(String, Vec<i32>)> = match &request.topic_partitions {
            Some(topics) => {
                topics.iter().map(|topic| (topic.topic.to_string(), topic.partitions.clone())).collect()
            }
            None => image
                .topics
                .values()
                .map(|topic| (topic.name.clone(), (0..topic.partitions.len() as i32).collect()))
                .collect(),
        };
        let is_all = request.topic_partitions.is_none();
        let results = wanted.into_iter().map(|(name, partitions)| {
            let results = partitions.into_iter().filter_map(|index| {
                let result = self.elect_one(&name, index, election);
                // Of all partitions, those that need no election are not reported.
                if is_all && result == Err(ErrorCode::ElectionNotNeeded) {
                    return None;
                }
                Some(
                    PartitionResult::default()
                        .with_partition_id(index)
                        .with_error_code(code(&result))
                        .with_error_message(result.err().map(|error| text(&error.to_string()))),
                )
            });
            ReplicaElectionResult::default()
                .with_topic(TopicName(text(&name)))
                .with_partition_result(results.collect())
        });
        let results = results.filter(|result| !is_all || !result.partition_result.is_empty());
        ElectLeadersResponse::default().with_replica_election_results(results.collect())
    }

    fn elect_one(&mut self, name: &str, index: i32, election: Election) -> Result<()> {
        let image = self.image();
        let topic = image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let leads = |leader: Option<NodeId>| leader.is_some_and(|leader| image.active(leader).is_some());
        let needless = match election {
            Election::Preferred => {
                leads(partition.leader) && partition.leader == partition.replicas.first().copied()
            }
            _ => leads(partition.leader),
        };
        if needless {
            return Err(ErrorCode::ElectionNotNeeded);
        }
        let id = PartitionId { topic: topic.id, index };
        let preferred = partition.replicas.first().copied();
        self.change(|controller, image| {
            controller.decide(image, id, Some(election), None, &BTreeSet::new());
            let leader = image.partition(id).and_then(|partition| partition.leader);
            match election {
                Election::Preferred if leader != preferred => Err(ErrorCode::PreferredLeaderNotAvailable),
                _ if leader.is_none() => Err(ErrorCode::EligibleLeadersNotAvailable),
                _ => Ok(()),
            }
        })
    }

    /// Lets another in-sync replica lead a partition, as a reassignment would; whether it leads.
    pub(crate) fn move_leader(&mut self, id: PartitionId, to: NodeId) -> bool {
        self.change(|_, image| {
            let Some(partition) = image.partition(id) else { return false };
            if partition.leader == Some(to) {
                return true;
            }
            if !partition.in_sync.contains(&to) || image.active(to).is_none() {
                return false;
            }
            let after = PartitionImage {
                leader: Some(to),
                leader_epoch: partition.leader_epoch + 1,
                partition_epoch: partition.partition_epoch + 1,
                ..partition.clone()
            };
            set(image, id, after);
            true
        })
    }
}

/// Replaces a partition of an image.
pub(super) fn set(image: &mut Image, id: PartitionId, partition: PartitionImage) {
    if let Some(topic) = image.topics.get_mut(&id.topic)
        && let Ok(index) = usize::try_from(id.index)
        && let Some(place) = Arc::make_mut(topic).partitions.get_mut(index)
    {
        *place = partition;
    }
}

/// The partitions that a broker has a replica of.
fn partitions_with(image: &Image, node: NodeId) -> Vec<PartitionId> {
    let with = image.partitions().filter(|(_, _, partition)| partition.replicas.contains(&node));
    with.map(|(id, ..)| id).collect()
}
