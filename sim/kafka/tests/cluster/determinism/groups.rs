//! Members of groups of both protocols, which come and go, and commit offsets.

use std::time::Duration;

use bytes::Bytes;
use proto_kafka::messages::join_group_request::JoinGroupRequestProtocol;
use proto_kafka::messages::leave_group_request::MemberIdentity;
use proto_kafka::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use proto_kafka::messages::sync_group_request::SyncGroupRequestAssignment;
use proto_kafka::messages::{
    ConsumerGroupHeartbeatRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, SyncGroupRequest,
};
use proto_kafka::protocol::StrBytes;
use tokio::time::sleep;

use super::producers::coordinator;
use super::{Run, TOPICS};
use crate::harness::{text, topic_name};

async fn commit(
    run: &Run,
    who: &str,
    node: i32,
    group: &str,
    member: &StrBytes,
    generation: i32,
    offset: i64,
) {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic]);
    run.ask(who, node, request, 9).await;
}

/// Joins and syncs: the member's id and generation.
async fn join(run: &Run, who: &str, node: i32, member: StrBytes) -> Option<(StrBytes, i32)> {
    let group = GroupId(text("classic"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(&[0, 0]));
    let request = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_member_id(member)
        .with_session_timeout_ms(3_000)
        .with_rebalance_timeout_ms(2_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut response = run.ask(who, node, request.clone(), 9).await?;
    // MEMBER_ID_REQUIRED
    if response.error_code == 79 {
        response = run.ask(who, node, request.with_member_id(response.member_id), 9).await?;
    }
    if response.error_code != 0 {
        return None;
    }
    let assignments = response.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(Bytes::from_static(b"anything"))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group)
        .with_generation_id(response.generation_id)
        .with_member_id(response.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect());
    let synced = run.ask(who, node, request, 5).await?;
    (synced.error_code == 0).then_some((response.member_id, response.generation_id))
}

pub async fn classic(run: Run, number: u64) {
    let who = format!("classic member {number}");
    let mut member = StrBytes::default();
    while !run.is_over() {
        sleep(Duration::from_millis(200)).await;
        let node = coordinator(&run, &who, "classic", 0).await;
        let Some((id, generation)) = join(&run, &who, node, member).await else {
            member = StrBytes::default();
            continue;
        };
        member = id;
        for beat in 0..40 + 10 * number as i64 {
            sleep(Duration::from_millis(300)).await;
            let request = HeartbeatRequest::default()
                .with_group_id(GroupId(text("classic")))
                .with_generation_id(generation)
                .with_member_id(member.clone());
            let response = run.ask(&who, node, request, 4).await;
            if run.is_over() || response.is_none_or(|response| response.error_code != 0) {
                break;
            }
            commit(&run, &who, node, "classic", &member, generation, beat).await;
        }
        if number == 0 {
            let leaving = MemberIdentity::default().with_member_id(std::mem::take(&mut member));
            let request = LeaveGroupRequest::default()
                .with_group_id(GroupId(text("classic")))
                .with_members(vec![leaving]);
            run.ask(&who, node, request, 5).await;
        }
    }
}

pub async fn consumer(run: Run, number: u64) {
    let who = format!("consumer {number}");
    let member = text(&who);
    let mut epoch = 0;
    while !run.is_over() {
        let node = coordinator(&run, &who, "consumer", 0).await;
        for beat in 0..30 + 7 * number as i64 {
            let mut request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("consumer")))
                .with_member_id(member.clone())
                .with_member_epoch(epoch)
                .with_rebalance_timeout_ms(-1);
            if epoch == 0 {
                let topics = TOPICS.map(|(topic, _)| topic_name(topic));
                request = request
                    .with_rebalance_timeout_ms(5_000)
                    .with_subscribed_topic_names(Some(topics.to_vec()))
                    .with_topic_partitions(Some(Vec::new()));
            }
            let response = run.ask(&who, node, request, 1).await;
            let Some(response) = response else { break };
            if run.is_over() || response.error_code != 0 {
                epoch = 0;
                break;
            }
            epoch = response.member_epoch;
            commit(&run, &who, node, "consumer", &member, epoch, beat).await;
            sleep(Duration::from_millis(400)).await;
        }
        if number == 0 {
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("consumer")))
                .with_member_id(member.clone())
                .with_member_epoch(-1)
                .with_rebalance_timeout_ms(-1);
            run.ask(&who, node, request, 1).await;
            epoch = 0;
        }
        sleep(Duration::from_millis(200)).await;
    }
}
