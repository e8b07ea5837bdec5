//! The coordinators of groups.

use std::sync::{Arc, Mutex};

use super::{Hosts, Shard, lock, read};
use crate::cluster::observe::{CoordinatorKind, Event};
use crate::cluster::{Broker, Draws, ToVerify, Verification};
use crate::coordinator::{BatchId, Context, Effects, Producer, Token, Topics};
use crate::error::{ErrorCode, Result};
use crate::group::{GroupRequest, GroupResponse, GroupShard};
use crate::log::Claim;
use crate::metadata::CONSUMER_OFFSETS;
use crate::protocol::batch::Batch;
use crate::protocol::messages::{
    ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsResponse,
    ListGroupsResponse, OffsetFetchResponse,
};
use crate::protocol::records::{EndMarker, Marker, records};
use crate::types::PartitionId;

impl Shard for GroupShard {
    type Response = GroupResponse;
    const TOPIC: &'static str = CONSUMER_OFFSETS;
    const KIND: CoordinatorKind = CoordinatorKind::Groups;

    fn create(broker: &Broker, _epoch: i32, topics: Arc<Topics>) -> Self {
        let options = broker.options();
        GroupShard::new(options.groups.clone(), topics).observed(broker.id, options.observer.clone())
    }

    fn replay(&mut self, batch: &Batch) {
        let producer = batch
            .is_transactional()
            .then(|| Producer { id: batch.producer_id(), epoch: batch.producer_epoch() });
        if batch.is_control() {
            let end =
                records(batch, 1 << 16).ok().and_then(|records| records.first().and_then(EndMarker::of));
            if let (Some(producer), Some(end)) = (producer, end) {
                self.replay_marker(producer, end.marker == Marker::Commit);
            }
            return;
        }
        for record in read(batch) {
            if let Err(error) = GroupShard::replay(self, &record, producer) {
                tracing::warn!(%error, "a record of a group cannot be read");
            }
        }
    }

    fn high_watermark_reached(&mut self) -> Option<BatchId> {
        Some(GroupShard::high_watermark_reached(self))
    }

    fn loaded(&mut self, now: i64) -> Effects<GroupResponse> {
        GroupShard::loaded(self, now)
    }

    fn tick(&mut self, broker: &Arc<Broker>, now: i64) -> Effects<GroupResponse> {
        GroupShard::tick(self, now, &mut Draws(&broker.cluster))
    }

    fn next_deadline(&self) -> Option<i64> {
        GroupShard::next_deadline(self)
    }

    fn committed(&mut self, now: i64, batch: BatchId) -> Effects<GroupResponse> {
        GroupShard::committed(self, now, batch)
    }

    fn failed(&mut self, now: i64, batch: BatchId, error: ErrorCode) -> Effects<GroupResponse> {
        GroupShard::failed(self, now, batch, error)
    }

    fn topics_changed(&mut self, now: i64, topics: Arc<Topics>) -> Effects<GroupResponse> {
        GroupShard::topics_changed(self, now, topics)
    }

    fn unload(self) -> Vec<(Token, GroupResponse)> {
        GroupShard::unload(self)
    }

    fn hosts(broker: &Broker) -> &Mutex<Hosts<Self>> {
        &broker.groups
    }
}

impl Broker {
    /// Serves a request of a group's member, or about groups.
    pub(crate) async fn serve_group(
        self: &Arc<Self>,
        context: &Context,
        request: GroupRequest,
    ) -> GroupResponse {
        if let GroupRequest::ListGroups(_) = request {
            return self.list_groups(context, request).await;
        }
        let nothing = empty(&request);
        let mut parts = split(request).into_iter();
        let Some(first) = parts.next() else { return nothing };
        let mut response = self.serve_one_group(context, first).await;
        for part in parts {
            merge(&mut response, self.serve_one_group(context, part).await);
        }
        response
    }

    async fn serve_one_group(self: &Arc<Self>, context: &Context, request: GroupRequest) -> GroupResponse {
        // Without a partition that exists, neither the transaction nor the group is looked at (`KafkaApis`).
        if let GroupRequest::TxnOffsetCommit(commit) = &request {
            let image = self.image();
            let exists = commit.topics.iter().any(|topic| {
                let known = image.topic(&topic.name);
                known.is_some_and(|known| {
                    topic.partitions.iter().any(|wanted| known.partition(wanted.partition_index).is_some())
                })
            });
            if !exists {
                return request.refuse(context.api_version, ErrorCode::UnknownTopicOrPartition);
            }
        }
        let id = request.groups().first().and_then(|group| self.shard_of::<GroupShard>(group));
        let id = id.ok_or(ErrorCode::CoordinatorNotAvailable);
        let result = match id {
            Ok(id) => match self.verify_offsets(context, &request, id).await {
                Ok(()) => self.on_group_shard(id, context, request.clone()).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let response = result.unwrap_or_else(|error| request.refuse(context.api_version, error));
        if self.cluster.witness.is_on() {
            self.see_refused_commits(&request, &response);
        }
        response
    }

    /// Reports the errors in the response to a commit of offsets.
    fn see_refused_commits(&self, request: &GroupRequest, response: &GroupResponse) {
        let see = |group: &str, topic: &str, partition, epoch, member: &str, code| {
            if let Some(error) = ErrorCode::try_from_code(code) {
                let broker = self.id;
                let event = || Event::CommitRefused { broker, group, topic, partition, epoch, member, error };
                self.cluster.witness.see(event);
            }
        };
        match (request, response) {
            (GroupRequest::OffsetCommit(request), GroupResponse::OffsetCommit(response)) => {
                let (epoch, member) = (request.generation_id_or_member_epoch, &request.member_id);
                for topic in &response.topics {
                    for partition in &topic.partitions {
                        let (index, code) = (partition.partition_index, partition.error_code);
                        see(&request.group_id, &topic.name, index, epoch, member, code);
                    }
                }
            }
            (GroupRequest::TxnOffsetCommit(request), GroupResponse::TxnOffsetCommit(response)) => {
                let (epoch, member) = (request.generation_id, &request.member_id);
                for topic in &response.topics {
                    for partition in &topic.partitions {
                        let (index, code) = (partition.partition_index, partition.error_code);
                        see(&request.group_id, &topic.name, index, epoch, member, code);
                    }
                }
            }
            _ => {}
        }
    }

    async fn on_group_shard(
        self: &Arc<Self>,
        id: PartitionId,
        context: &Context,
        request: GroupRequest,
    ) -> Result<GroupResponse> {
        let now = self.coordinator_now();
        self.on_shard::<GroupShard>(id, |shard, token| {
            shard.handle(now, &mut Draws(&self.cluster), token, context, request)
        })
        .await
    }

    async fn list_groups(self: &Arc<Self>, context: &Context, request: GroupRequest) -> GroupResponse {
        let mut all = ListGroupsResponse::default();
        for id in self.hosted::<GroupShard>() {
            match self.on_group_shard(id, context, request.clone()).await {
                Ok(GroupResponse::ListGroups(response)) => all.groups.extend(response.groups),
                Ok(_) => {}
                Err(error) => all.error_code = error.code(),
            }
        }
        GroupResponse::ListGroups(all)
    }

    /// Offsets that a transaction commits: the group's partition must be part of it (KIP-890).
    async fn verify_offsets(
        self: &Arc<Self>,
        context: &Context,
        request: &GroupRequest,
        id: PartitionId,
    ) -> Result<()> {
        let GroupRequest::TxnOffsetCommit(request) = request else { return Ok(()) };
        let claim = Claim { producer_id: request.producer_id.0, epoch: request.producer_epoch, sequence: -1 };
        let verification = Verification::of(context.api_version, 4, 5);
        let partition = ToVerify { topic: CONSUMER_OFFSETS.to_owned(), id, claim };
        let verified = self.verify(&request.transactional_id, &[partition], verification).await;
        match verified.refused.get(&id) {
            None => {}
            Some(ErrorCode::NetworkException | ErrorCode::NotCoordinator) => {
                return Err(ErrorCode::CoordinatorLoadInProgress);
            }
            Some(other) => return Err(*other),
        }
        // Its marker may have come in between. Nothing else can until the offsets are appended.
        let proof = verified.proof(self, id);
        let state = self.lock();
        let Some(replica) = state.replicas.get(&id) else { return Ok(()) };
        // Another broker leads by now, which has verified nothing.
        replica.leader().map_err(|_| ErrorCode::NotCoordinator)?;
        replica.log.producers().check_proof(claim, proof)
    }

    /// A marker was appended to a partition of `__consumer_offsets`.
    pub(super) fn group_marker(self: &Arc<Self>, id: PartitionId, producer: Producer, commit: bool) {
        let now = self.coordinator_now();
        let mut hosts = lock::<GroupShard>(self);
        let Some(host) = hosts.hosts.get_mut(&id) else { return };
        // The marker is below the high watermark, and so is what came before it.
        self.commit(id, host);
        if let Some(shard) = &mut host.shard {
            let effects = shard.marker_written(now, producer, commit);
            self.perform(id, host, effects);
        }
    }
}

/// One request for each group that a request names; the list is taken out first, so that it is not copied each time.
fn split(request: GroupRequest) -> Vec<GroupRequest> {
    match request {
        GroupRequest::OffsetFetch(mut request) if request.groups.len() > 1 => {
            let groups = std::mem::take(&mut request.groups).into_iter();
            groups.map(|group| GroupRequest::OffsetFetch(request.clone().with_groups(vec![group]))).collect()
        }
        GroupRequest::DeleteGroups(request) => {
            let one = |group| DeleteGroupsRequest::default().with_groups_names(vec![group]);
            request.groups_names.into_iter().map(|group| GroupRequest::DeleteGroups(one(group))).collect()
        }
        GroupRequest::DescribeGroups(mut request) => {
            let groups = std::mem::take(&mut request.groups).into_iter();
            groups
                .map(|group| GroupRequest::DescribeGroups(request.clone().with_groups(vec![group])))
                .collect()
        }
        GroupRequest::ConsumerGroupDescribe(mut request) => {
            let groups = std::mem::take(&mut request.group_ids).into_iter();
            let one = |group| request.clone().with_group_ids(vec![group]);
            groups.map(|group| GroupRequest::ConsumerGroupDescribe(one(group))).collect()
        }
        other => vec![other],
    }
}

/// The response to a request that names no group.
fn empty(request: &GroupRequest) -> GroupResponse {
    match request {
        GroupRequest::DeleteGroups(_) => GroupResponse::DeleteGroups(DeleteGroupsResponse::default()),
        GroupRequest::ConsumerGroupDescribe(_) => {
            GroupResponse::ConsumerGroupDescribe(ConsumerGroupDescribeResponse::default())
        }
        // No other is split.
        _ => GroupResponse::DescribeGroups(DescribeGroupsResponse::default()),
    }
}

/// Puts the groups of another response behind those of one.
fn merge(response: &mut GroupResponse, other: GroupResponse) {
    match (response, other) {
        (
            GroupResponse::OffsetFetch(OffsetFetchResponse { groups, .. }),
            GroupResponse::OffsetFetch(other),
        ) => {
            groups.extend(other.groups);
        }
        (
            GroupResponse::DeleteGroups(DeleteGroupsResponse { results, .. }),
            GroupResponse::DeleteGroups(other),
        ) => {
            results.extend(other.results);
        }
        (
            GroupResponse::DescribeGroups(DescribeGroupsResponse { groups, .. }),
            GroupResponse::DescribeGroups(other),
        ) => {
            groups.extend(other.groups);
        }
        (
            GroupResponse::ConsumerGroupDescribe(ConsumerGroupDescribeResponse { groups, .. }),
            GroupResponse::ConsumerGroupDescribe(other),
        ) => {
            groups.extend(other.groups);
        }
        _ => {}
    }
}
