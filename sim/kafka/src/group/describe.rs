//! ListGroups, DescribeGroups and ConsumerGroupDescribe.

use std::collections::BTreeSet;

use super::classic::{CONSUMER, ClassicGroup, Member, State};
use super::consumer::{ConsumerGroup, ConsumerMember, Partitions};
use super::env::{optional, text};
use super::{Assignor, Group, GroupShard};
use crate::coordinator::Context;
use crate::error::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::consumer_group_describe_response::{self as consumer, TopicPartitions};
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
};

/// The first version in which an unknown group is an error, and not a dead group.
const NOT_FOUND: i16 = 6;

impl GroupShard {
    pub(super) fn list_groups(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let lower = |names: &[StrBytes]| -> BTreeSet<String> {
            names.iter().map(|name| name.trim().to_lowercase()).collect()
        };
        let (states, types) = (lower(&request.states_filter), lower(&request.types_filter));
        let asked = |filter: &BTreeSet<String>, name: &str| {
            filter.is_empty() || filter.contains(&name.to_lowercase())
        };
        let groups = self.groups.iter().filter_map(|(id, group)| {
            let (state, kind, protocol) = match group {
                Group::Classic(group) => {
                    (group.state.name(), "classic", group.protocol_type.as_deref().unwrap_or_default())
                }
                Group::Consumer(group) => (group.state().name(), "consumer", CONSUMER),
            };
            (asked(&states, state) && asked(&types, kind)).then(|| {
                ListedGroup::default()
                    .with_group_id(text(id).into())
                    .with_protocol_type(text(protocol))
                    .with_group_state(text(state))
                    .with_group_type(text(kind))
            })
        });
        ListGroupsResponse::default().with_groups(groups.collect())
    }

    pub(super) fn describe_groups(
        &self,
        context: &Context,
        request: &DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let groups = request.groups.iter().map(|id| match self.groups.get(id.as_str()) {
            Some(Group::Classic(group)) => classic(id, group),
            other => {
                let dead = DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_group_state(StrBytes::from_static_str("Dead"));
                if context.api_version < NOT_FOUND {
                    return dead;
                }
                let why = match other {
                    Some(_) => format!("Group {} is not a classic group.", id.as_str()),
                    None => format!("Group {} not found.", id.as_str()),
                };
                dead.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(Some(text(&why)))
            }
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }

    pub(super) fn consumer_group_describe(
        &self,
        request: &ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let groups = request.group_ids.iter().map(|id| {
            let described = consumer::DescribedGroup::default().with_group_id(id.clone());
            match self.groups.get(id.as_str()) {
                _ if id.is_empty() => described.with_error_code(ErrorCode::InvalidGroupId.code()),
                Some(Group::Consumer(group)) => self.consumer(described, group),
                other => {
                    let why = match other {
                        Some(_) => format!("Group {} is not a consumer group.", id.as_str()),
                        None => format!("Group {} not found.", id.as_str()),
                    };
                    let code = ErrorCode::GroupIdNotFound.code();
                    described.with_error_code(code).with_error_message(Some(text(&why)))
                }
            }
        });
        ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
    }

    fn consumer(
        &self,
        described: consumer::DescribedGroup,
        group: &ConsumerGroup,
    ) -> consumer::DescribedGroup {
        let default = self.config.consumer_assignors.first().copied().unwrap_or(Assignor::Uniform);
        described
            .with_group_state(text(group.state().name()))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.assignment_epoch)
            .with_assignor_name(text(&group.assignor_name(default)))
            .with_members(group.members.values().map(|member| self.member(group, member)).collect())
    }

    fn member(&self, group: &ConsumerGroup, member: &ConsumerMember) -> consumer::Member {
        let target = group.target(&member.id);
        consumer::Member::default()
            .with_member_id(text(&member.id))
            .with_instance_id(optional(member.value.instance_id.as_deref()))
            .with_rack_id(optional(member.value.rack_id.as_deref()))
            .with_member_epoch(member.epoch)
            .with_client_id(text(&member.value.client_id))
            .with_client_host(text(&member.value.client_host))
            .with_subscribed_topic_names(member.value.topics.iter().map(|name| text(name).into()).collect())
            // Empty without one, and not null (`ConsumerGroupMember`).
            .with_subscribed_topic_regex(Some(text(member.value.regex.as_deref().unwrap_or_default())))
            .with_assignment(self.assignment(&member.assigned))
            .with_target_assignment(self.assignment(target))
            .with_member_type(i8::from(!member.is_classic()))
    }

    fn assignment(&self, partitions: &Partitions) -> consumer::Assignment {
        let topics = partitions.iter().filter_map(|(topic, partitions)| {
            let name = self.topics.name(*topic)?;
            let topic = TopicPartitions::default()
                .with_topic_id(*topic)
                .with_topic_name(text(name).into())
                .with_partitions(partitions.iter().copied().collect());
            Some(topic)
        });
        consumer::Assignment::default().with_topic_partitions(topics.collect())
    }
}

fn classic(id: &GroupId, group: &ClassicGroup) -> DescribedGroup {
    let protocol = group.protocol.as_deref().filter(|_| group.state == State::Stable);
    let member = |member: &Member| {
        DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(optional(member.instance_id.as_deref()))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(protocol.and_then(|name| member.metadata(name)).unwrap_or_default())
            .with_member_assignment(member.assignment.clone())
    };
    DescribedGroup::default()
        .with_group_id(id.clone())
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(group.members.values().map(member).collect())
}
