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

    /// Lets a replica lead a partition alone, in sync or not, as after an unclean election; whether it leads.
    pub(crate) fn elect_uncleanly(&mut self, id: PartitionId, to: NodeId) -> bool {
        self.change(|_, image| {
            let Some(partition) = image.partition(id) else { return false };
            if partition.leader == Some(to) {
                return true;
            }
            if !partition.replicas.contains(&to) || image.active(to).is_none() {
                return false;
            }
            let after = PartitionImage {
                leader: Some(to),
                leader_epoch: partition.leader_epoch + 1,
                partition_epoch: partition.partition_epoch + 1,
                in_sync: vec![to],
                eligible: Vec::new(),
                last_known_leader: None,
                recovering: true,
                ..partition.clone()
            };
            set(image, id, after);
            tracing::debug!(partition = id.index, leader = to.0, "elected uncleanly");
            true
        })
    }

    /// Drops a follower from the in-sync set of a partition, as its leader does when its fetches are late; whether it
    /// was in the set and another replica leads.
    pub(crate) fn drop_from_in_sync(&mut self, id: PartitionId, follower: NodeId) -> bool {
        self.change(|controller, image| {
            let Some(partition) = image.partition(id) else { return false };
            let is_led_by_another = partition.leader.is_some_and(|leader| leader != follower);
            if !is_led_by_another || !partition.in_sync.contains(&follower) {
                return false;
            }
            let left = partition.in_sync.iter().copied().filter(|replica| *replica != follower).collect();
            controller.decide(image, id, None, Some(left), &BTreeSet::new())
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

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::controller::{ControlRequest, ControllerSettings, Registration};
    use crate::protocol::messages::CreateTopicsRequest;
    use crate::protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
    use crate::quota::tokens::Requester;

    /// A controller with three brokers, and a topic with a partition that the first one leads.
    struct Bench {
        controller: Controller,
        epochs: Vec<i64>,
        id: PartitionId,
    }

    impl Bench {
        fn new() -> Self {
            let mut controller =
                Controller::new(ControllerSettings::default(), Box::new(ChaCha8Rng::seed_from_u64(1)));
            let epochs = (1..=3).map(|node| register(&mut controller, node, 1)).collect();
            let assignment =
                CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into(), 3.into()]);
            let topic = CreatableTopic::default()
                .with_name(TopicName(text("t")))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(vec![assignment]);
            let by = Requester { user: None, client_id: String::new(), is_strict: true };
            controller.create_topics(&CreateTopicsRequest::default().with_topics(vec![topic]), &by);
            let id = PartitionId { topic: controller.image().topic("t").unwrap().id, index: 0 };
            Self { controller, epochs, id }
        }

        fn partition(&self) -> PartitionImage {
            self.controller.image().partition(self.id).unwrap().clone()
        }

        /// What a broker gets that proposes an in-sync set, with epochs of the partition that are so far from the last.
        fn propose(&mut self, from: i32, in_sync: &[(i32, i64)], shifts: (i32, i32)) -> Result<Vec<i32>> {
            let now = self.partition();
            let proposal = Proposal {
                partition: self.id,
                leader_epoch: now.leader_epoch + shifts.0,
                partition_epoch: now.partition_epoch + shifts.1,
                in_sync: in_sync.iter().map(|(node, epoch)| (NodeId(*node), *epoch)).collect(),
            };
            let epoch = self.epochs[from as usize - 1];
            let request = ControlRequest::AlterPartition { epoch, proposals: vec![proposal] };
            match self.controller.handle(NodeId(from), request) {
                ControlResponse::AlterPartition(mut results) => {
                    results.remove(0).1.map(|after| after.in_sync.iter().map(|node| node.0).collect())
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets a process of a broker register, and knows of it; its epoch.
    fn register(controller: &mut Controller, node: i32, incarnation: u128) -> i64 {
        let node = NodeId(node);
        let (host, clean_epoch) = (format!("broker{node}"), None);
        let registration = Registration { node, incarnation, host, port: 9092, rack: None, clean_epoch };
        let ControlResponse::Registered { epoch } =
            controller.handle(node, ControlRequest::Register(registration))
        else {
            panic!("it is refused");
        };
        let version = controller.image().version;
        controller.handle(node, ControlRequest::Heartbeat { epoch, version, wants_to_end: false });
        epoch
    }

    #[tokio::test(start_paused = true)]
    async fn an_in_sync_set_is_changed_by_the_leader_that_knows_the_last_change() {
        let mut bench = Bench::new();
        assert_eq!(bench.propose(1, &[(1, -1), (2, -1)], (0, 0)), Ok(vec![1, 2]));
        let before = bench.partition();
        for (from, in_sync, shifts, expected) in [
            (1, &[1][..], (1, 0), ErrorCode::NotController),
            (1, &[1], (0, 1), ErrorCode::NotController),
            (1, &[1], (-1, 0), ErrorCode::FencedLeaderEpoch),
            (2, &[2], (0, 0), ErrorCode::InvalidRequest),
            (1, &[1], (0, -1), ErrorCode::InvalidUpdateVersion),
            (1, &[2], (0, 0), ErrorCode::InvalidRequest),
            (1, &[1, 4], (0, 0), ErrorCode::InvalidRequest),
        ] {
            let in_sync: Vec<_> = in_sync.iter().map(|node| (*node, -1)).collect();
            assert_eq!(bench.propose(from, &in_sync, shifts), Err(expected), "{from} {in_sync:?} {shifts:?}");
        }
        assert_eq!(bench.partition(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_fenced_ends_or_runs_in_another_epoch_does_not_become_in_sync() {
        let mut bench = Bench::new();
        assert_eq!(bench.propose(1, &[(1, -1)], (0, 0)), Ok(vec![1]));
        let of_second = bench.epochs[1];
        let refused = Err(ErrorCode::IneligibleReplica);
        assert_eq!(bench.propose(1, &[(1, -1), (2, of_second - 1)], (0, 0)), refused);
        assert_eq!(bench.propose(1, &[(1, -1), (2, of_second)], (0, 0)), Ok(vec![1, 2]));
        // The third ends gracefully.
        let version = bench.controller.image().version;
        let ends = ControlRequest::Heartbeat { epoch: bench.epochs[2], version, wants_to_end: true };
        bench.controller.handle(NodeId(3), ends);
        assert_eq!(bench.propose(1, &[(1, -1), (2, -1), (3, -1)], (0, 0)), refused);
        // The second begins again, and the leader does not know that.
        tokio::time::advance(bench.controller.settings.session_timeout).await;
        bench.epochs[1] = register(&mut bench.controller, 2, 2);
        assert_eq!(bench.partition().in_sync, [NodeId(1)]);
        assert_eq!(bench.propose(1, &[(1, -1), (2, of_second)], (0, 0)), refused);
        let of_second = bench.epochs[1];
        assert_eq!(bench.propose(1, &[(1, -1), (2, of_second)], (0, 0)), Ok(vec![1, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_partitions_those_are_reported_whose_leader_is_elected() {
        let mut bench = Bench::new();
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        assert_eq!(bench.controller.elect_leaders(&all).replica_election_results, []);
        assert!(bench.controller.move_leader(bench.id, NodeId(2)));
        let results = bench.controller.elect_leaders(&all).replica_election_results;
        let results: Vec<_> = results.iter().flat_map(|topic| &topic.partition_result).collect();
        assert_eq!(
            results.iter().map(|result| (result.partition_id, result.error_code)).collect::<Vec<_>>(),
            [(0, 0)]
        );
        assert_eq!(bench.partition().leader, Some(NodeId(1)));
        // Nobody is there who could lead, even uncleanly.
        tokio::time::advance(bench.controller.settings.session_timeout).await;
        bench.controller.tick();
        assert_eq!(bench.partition().leader, None);
        let unclean = ElectLeadersRequest::default().with_election_type(1).with_topic_partitions(None);
        let results = bench.controller.elect_leaders(&unclean).replica_election_results;
        assert_eq!(results[0].partition_result[0].error_code, ErrorCode::EligibleLeadersNotAvailable.code());
    }
}
