//! Offsets of groups, and their members under both protocols.

use proto_kafka::messages::consumer_group_heartbeat_request::TopicPartitions;
use proto_kafka::messages::join_group_request::JoinGroupRequestProtocol;
use proto_kafka::messages::leave_group_request::MemberIdentity;
use proto_kafka::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use proto_kafka::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use proto_kafka::messages::offset_fetch_request::OffsetFetchRequestGroup;
use proto_kafka::messages::sync_group_request::SyncGroupRequestAssignment;
use proto_kafka::messages::*;
use proto_kafka::protocol::{HeaderVersion, Request, StrBytes};

use crate::side::{Side, text, topic_name};
use crate::steps::{Consumer, Member, Step, TOPICS};

/// What a member of the new protocol knows.
#[derive(Clone, Default)]
struct Known {
    epoch: i32,
    owned: Vec<TopicPartitions>,
    topic: usize,
    is_static: bool,
    /// How often its process was started again.
    run: usize,
}

impl Known {
    fn id(&self, member: usize) -> String {
        format!("m{member}-{}", self.run)
    }

    fn instance(&self, member: usize) -> Option<StrBytes> {
        self.is_static.then(|| text(&format!("i{member}")))
    }
}

fn beat(group: &str, member: usize, known: &Known, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(&known.id(member)))
        .with_instance_id(known.instance(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

impl Side {
    /// Asks the coordinator of a group until it has an answer that does not pass.
    async fn at_group<R>(
        &mut self,
        group: &str,
        request: &R,
        version: i16,
        code: impl Fn(&R::Response) -> i16,
    ) -> R::Response
    where
        R: Request,
        R::Response: HeaderVersion,
    {
        let ask = async |side: &mut Self| {
            let node = side.coordinator(0, group).await;
            side.send(node, request, version).await
        };
        self.settled(ask, code).await.expect("a response")
    }

    fn commit_request(&self, group: &str, topic: usize, partition: i32, offset: i64) -> OffsetCommitRequest {
        let wanted = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("m")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.name("t", topic)))
            .with_partitions(vec![wanted]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    }

    async fn commit(&mut self, group: &str, request: &OffsetCommitRequest, version: i16) -> String {
        let code = |response: &OffsetCommitResponse| response.topics[0].partitions[0].error_code;
        let response = self.at_group(group, request, version, code).await;
        format!("{} ", code(&response))
    }

    pub async fn offsets(&mut self, step: &Step) -> Vec<String> {
        match step {
            Step::Commit { group, topic, partition, offset, version } => {
                let group = self.name("g", *group);
                let request = self.commit_request(&group, *topic, *partition, *offset);
                vec![self.commit(&group, &request, *version).await]
            }
            Step::Committed { group, stable, version } => {
                let group = self.name("g", *group);
                let id = GroupId(text(&group));
                let mut found: Vec<(String, i32, i64, i16)> = Vec::new();
                let error;
                if *version >= 8 {
                    let wanted = OffsetFetchRequestGroup::default()
                        .with_group_id(id)
                        .with_topics(None)
                        .with_member_epoch(-1);
                    let request =
                        OffsetFetchRequest::default().with_groups(vec![wanted]).with_require_stable(*stable);
                    let response = self
                        .at_group(&group, &request, *version, |fetched| fetched.groups[0].error_code)
                        .await;
                    error = response.groups[0].error_code;
                    for topic in &response.groups[0].topics {
                        for partition in &topic.partitions {
                            let place = (topic.name.0.to_string(), partition.partition_index);
                            found.push((place.0, place.1, partition.committed_offset, partition.error_code));
                        }
                    }
                } else {
                    let stable = *stable && *version >= 7;
                    let request = OffsetFetchRequest::default()
                        .with_group_id(id)
                        .with_topics(None)
                        .with_require_stable(stable);
                    let response =
                        self.at_group(&group, &request, *version, |fetched| fetched.error_code).await;
                    error = response.error_code;
                    for topic in &response.topics {
                        for partition in &topic.partitions {
                            let place = (topic.name.0.to_string(), partition.partition_index);
                            found.push((place.0, place.1, partition.committed_offset, partition.error_code));
                        }
                    }
                }
                found.sort();
                let mut lines = vec![format!("{error} {}", found.len())];
                lines.extend(found.iter().map(|found| format!("  {found:?}")));
                lines
            }
            Step::DeleteOffsets { group, topic, partition } => {
                let group = self.name("g", *group);
                let wanted = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
                let topic = OffsetDeleteRequestTopic::default()
                    .with_name(topic_name(&self.name("t", *topic)))
                    .with_partitions(vec![wanted]);
                let request = OffsetDeleteRequest::default()
                    .with_group_id(GroupId(text(&group)))
                    .with_topics(vec![topic]);
                let response = self.at_group(&group, &request, 0, |deleted| deleted.error_code).await;
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
                vec![format!("{} {codes:?}", response.error_code)]
            }
            Step::DeleteGroup { group } => {
                let group = self.name("g", *group);
                let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(&group))]);
                let code = |response: &DeleteGroupsResponse| response.results[0].error_code;
                let response = self.at_group(&group, &request, 2, code).await;
                vec![format!("{} ", code(&response))]
            }
            other => panic!("{other:?} is for others"),
        }
    }

    pub async fn classic(&mut self, group: usize, instance: Option<usize>, steps: &[Member]) -> Vec<String> {
        let instance = instance.map(|instance| text(&format!("i{instance}")));
        let group = self.name("g", group);
        let id = GroupId(text(&group));
        let (mut member, mut generation) = (String::new(), -1);
        let mut lines = Vec::new();
        for step in steps {
            if let Member::Restart = step {
                member.clear();
            }
            let line = match step {
                Member::Join { .. } | Member::Restart => {
                    let (version, timeout) = match step {
                        Member::Join { version, timeout } => (version, timeout),
                        _ => (&5, &10_000),
                    };
                    let mut join = JoinGroupRequest::default()
                        .with_group_id(id.clone())
                        .with_session_timeout_ms(*timeout)
                        .with_rebalance_timeout_ms(if *version > 0 { 10_000 } else { -1 })
                        .with_member_id(text(&member))
                        .with_group_instance_id(instance.clone().filter(|_| *version >= 5))
                        .with_protocol_type(text("consumer"))
                        .with_protocols(vec![
                            JoinGroupRequestProtocol::default()
                                .with_name(text("range"))
                                .with_metadata(bytes::Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0")),
                        ]);
                    let mut response =
                        self.at_group(&group, &join, *version, |joined| joined.error_code).await;
                    let mut codes = vec![response.error_code];
                    if response.error_code == 79 {
                        join.member_id = response.member_id.clone();
                        response = self.at_group(&group, &join, *version, |joined| joined.error_code).await;
                        codes.push(response.error_code);
                    }
                    let leads = response.leader == response.member_id;
                    if response.error_code == 0 {
                        member = response.member_id.to_string();
                        generation = response.generation_id;
                    } else if response.error_code == 25 {
                        member.clear();
                    }
                    let protocol = response.protocol_name.as_deref().unwrap_or_default();
                    let members = response.members.len();
                    format!("{codes:?} {} {protocol} {leads} {members}", response.generation_id)
                }
                Member::Sync { generation: delta } => {
                    let assignment = SyncGroupRequestAssignment::default()
                        .with_member_id(text(&member))
                        .with_assignment(bytes::Bytes::from_static(b"all"));
                    let sync = SyncGroupRequest::default()
                        .with_group_id(id.clone())
                        .with_generation_id(generation + delta)
                        .with_member_id(text(&member))
                        .with_group_instance_id(instance.clone())
                        .with_assignments(vec![assignment]);
                    let response = self.at_group(&group, &sync, 3, |synced| synced.error_code).await;
                    format!("{} {:?}", response.error_code, response.assignment)
                }
                Member::Beat { generation: delta } => {
                    let beat = HeartbeatRequest::default()
                        .with_group_id(id.clone())
                        .with_generation_id(generation + delta)
                        .with_group_instance_id(instance.clone())
                        .with_member_id(text(&member));
                    format!("{} ", self.at_group(&group, &beat, 3, |beat| beat.error_code).await.error_code)
                }
                Member::BeatAs(other) => {
                    let beat = HeartbeatRequest::default()
                        .with_group_id(id.clone())
                        .with_generation_id(generation)
                        .with_member_id(text(other));
                    format!("{} ", self.at_group(&group, &beat, 4, |beat| beat.error_code).await.error_code)
                }
                Member::Commit { generation: delta, offset } => {
                    let mut commit = self.commit_request(&group, 0, 0, *offset);
                    commit.generation_id_or_member_epoch = generation + delta;
                    commit.member_id = text(&member);
                    commit.group_instance_id = instance.clone();
                    self.commit(&group, &commit, 8).await
                }
                Member::Leave | Member::LeaveAsInstance => {
                    let known = if let Member::Leave = step { member.as_str() } else { "" };
                    let leaving = MemberIdentity::default()
                        .with_member_id(text(known))
                        .with_group_instance_id(instance.clone());
                    let leave =
                        LeaveGroupRequest::default().with_group_id(id.clone()).with_members(vec![leaving]);
                    let response = self.at_group(&group, &leave, 4, |left| left.error_code).await;
                    let codes: Vec<i16> = response.members.iter().map(|left| left.error_code).collect();
                    format!("{} {codes:?}", response.error_code)
                }
                Member::Describe => {
                    let describe = DescribeGroupsRequest::default().with_groups(vec![id.clone()]);
                    let response =
                        self.at_group(&group, &describe, 5, |found| found.groups[0].error_code).await;
                    let found = &response.groups[0];
                    // What has led to no record yet may be described as it was before: a group without members as one
                    // that does not exist, members that join not at all.
                    if found.group_state.as_str() != "Stable" {
                        lines.push(format!("{} ", found.error_code));
                        continue;
                    }
                    let kind = &found.protocol_type;
                    format!(
                        "{} stable {kind} {} {}",
                        found.error_code,
                        found.protocol_data,
                        found.members.len()
                    )
                }
            };
            lines.push(line);
        }
        lines
    }

    pub async fn consumer(&mut self, group: usize, is_static: bool, steps: &[Consumer]) -> Vec<String> {
        let group = self.name("g", group);
        let mut ids = Vec::new();
        for topic in 0..TOPICS {
            let name = self.name("t", topic);
            let known = self.describe(self.any(), &name).await.expect("a topic");
            ids.push((known.topic_id, topic));
        }
        let mut members = vec![Known { is_static, ..Known::default() }; 2];
        let mut lines = Vec::new();
        for step in steps {
            match step {
                Consumer::Join { member, topic, .. } | Consumer::Restart { member, topic } => {
                    let (timeout, restarts) = match step {
                        Consumer::Join { timeout, .. } => (*timeout, 0),
                        _ => (60_000, 1),
                    };
                    let run = members[*member].run + restarts;
                    members[*member] = Known { topic: *topic, is_static, run, ..Known::default() };
                    let beat = beat(&group, *member, &members[*member], 0)
                        .with_rebalance_timeout_ms(timeout)
                        .with_subscribed_topic_names(Some(vec![topic_name(&self.name("t", *topic))]))
                        .with_server_assignor(Some(text("range")))
                        .with_topic_partitions(Some(Vec::new()));
                    lines.push(self.heartbeat(&group, &beat, &mut members[*member], &ids).await);
                }
                Consumer::Beat { member, epoch } => {
                    let known = members[*member].clone();
                    let beat = beat(&group, *member, &known, known.epoch + epoch)
                        .with_topic_partitions(Some(known.owned));
                    lines.push(self.heartbeat(&group, &beat, &mut members[*member], &ids).await);
                }
                Consumer::Leave { member, epoch } => {
                    let beat = beat(&group, *member, &members[*member], *epoch);
                    let response = self.at_group(&group, &beat, 1, |beat| beat.error_code).await;
                    lines.push(format!("{} {}", response.error_code, response.member_epoch));
                }
                Consumer::Commit { member, epoch } => {
                    let known = &members[*member];
                    let mut commit = self.commit_request(&group, known.topic, 0, 3);
                    commit.generation_id_or_member_epoch = known.epoch + epoch;
                    commit.member_id = text(&known.id(*member));
                    commit.group_instance_id = known.instance(*member);
                    lines.push(self.commit(&group, &commit, 9).await);
                }
                Consumer::Describe => {
                    let describe =
                        ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(&group))]);
                    let response =
                        self.at_group(&group, &describe, 1, |found| found.groups[0].error_code).await;
                    let found = &response.groups[0];
                    lines.push(format!(
                        "{} {} {} {} {} {}",
                        found.error_code,
                        found.group_state,
                        found.group_epoch,
                        found.assignment_epoch,
                        found.assignor_name,
                        found.members.len()
                    ));
                }
            }
        }
        // Those whose place was not taken are there still.
        for (member, known) in members.iter().enumerate().filter(|_| is_static) {
            for run in 0..=known.run {
                let earlier = Known { run, ..known.clone() };
                let request = beat(&group, member, &earlier, -1);
                let response = self.at_group(&group, &request, 1, |beat| beat.error_code).await;
                lines.push(format!("{} {}", response.error_code, response.member_epoch));
            }
        }
        lines
    }

    async fn heartbeat(
        &mut self,
        group: &str,
        beat: &ConsumerGroupHeartbeatRequest,
        known: &mut Known,
        ids: &[(uuid::Uuid, usize)],
    ) -> String {
        let response = self.at_group(group, beat, 1, |beat| beat.error_code).await;
        if response.error_code == 0 {
            known.epoch = response.member_epoch;
        }
        let mut shown = Vec::new();
        if let Some(assignment) = &response.assignment {
            known.owned = Vec::new();
            for topic in &assignment.topic_partitions {
                let name = ids.iter().find(|(id, _)| *id == topic.topic_id).map(|(_, topic)| *topic);
                shown.push((name, topic.partitions.clone()));
                known.owned.push(
                    TopicPartitions::default()
                        .with_topic_id(topic.topic_id)
                        .with_partitions(topic.partitions.clone()),
                );
            }
            shown.sort();
        }
        let assigned = response.assignment.is_some();
        format!("{} {} {assigned} {shown:?}", response.error_code, response.member_epoch)
    }
}
