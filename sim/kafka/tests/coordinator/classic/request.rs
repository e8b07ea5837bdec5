//! The requests of members as each side gets them, and responses as both are shown.

use bytes::{BufMut, Bytes, BytesMut};
use proto_kafka::messages::join_group_request::JoinGroupRequestProtocol;
use proto_kafka::messages::leave_group_request::MemberIdentity;
use proto_kafka::messages::sync_group_request::SyncGroupRequestAssignment;
use proto_kafka::messages::*;
use proto_kafka::protocol::StrBytes;

use super::mixed::Owned;
use super::steps::{As, Join};
use super::{Run, Side};
use crate::harness::{GROUP, text};

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// Partitions by topic, as `ConsumerProtocol` has them.
pub(super) fn put_partitions(out: &mut BytesMut, owned: &Owned) {
    out.put_i32(owned.len() as i32);
    for (topic, partitions) in owned {
        put_text(out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
}

/// The metadata of a consumer that is subscribed to these topics (`ConsumerProtocolSubscription`): version 0, or version 1 with
/// the partitions that it has.
fn subscription(topics: &[&str], owned: Option<&Owned>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(i16::from(owned.is_some()));
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| put_text(&mut out, topic));
    out.put_i32(-1);
    if let Some(owned) = owned {
        put_partitions(&mut out, owned);
    }
    out.freeze()
}

impl Run<'_> {
    /// What a process of a member calls itself.
    pub(super) fn client(&self, member: usize) -> String {
        format!("k{:02}-{:04}", member * self.shape.spread, self.members[member].run)
    }

    /// The name of the instance that a static member is. It has the member's place in front, as [`Run::client`] has.
    pub(super) fn instance(&self, member: usize) -> Option<StrBytes> {
        let place = member * self.shape.spread;
        (member >= self.shape.first_static).then(|| text(&format!("k{place:02}-static")))
    }

    /// The member id on one side; empty if it has none.
    fn id(&self, member: usize, side: Side) -> &str {
        let name = self.members[member].name.as_ref();
        name.and_then(|name| self.names[side as usize].ids.get(name)).map_or("", String::as_str)
    }

    fn identity(&self, member: usize, from: As, side: Side) -> (StrBytes, Option<StrBytes>) {
        match from {
            As::Itself => (text(self.id(member, side)), self.instance(member)),
            As::Id(id) => (text(id), self.instance(member)),
            As::Instance(other) => (text(self.id(member, side)), self.instance(other)),
        }
    }

    pub(super) fn join_request(&self, join: &Join, side: Side) -> JoinGroupRequest {
        let protocols = join.protocols.iter().map(|(name, topics)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(subscription(topics, self.owned(join.member)))
        });
        // In an upgrade the sessions of all processes of a member begin at once, and no two of them may end at once.
        let own = if self.mixed.is_some() { self.members[join.member].run as i32 % 16 } else { 0 };
        let request = JoinGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_session_timeout_ms(join.session + own)
            .with_member_id(text(self.id(join.member, side)))
            .with_protocol_type(text(join.protocol_type))
            .with_protocols(protocols.collect());
        let request =
            if join.version > 0 { request.with_rebalance_timeout_ms(join.rebalance + own) } else { request };
        if join.version >= 5 { request.with_group_instance_id(self.instance(join.member)) } else { request }
    }

    pub(super) fn sync_request(
        &self,
        member: usize,
        from: As,
        shift: i32,
        protocol: Option<&str>,
        forgotten: usize,
        side: Side,
    ) -> SyncGroupRequest {
        let (id, instance) = self.identity(member, from, side);
        let ids = &self.names[side as usize].ids;
        let all = self.members[member].followers.as_deref().unwrap_or_default();
        let assignments = all.iter().enumerate().skip(forgotten).map(|(place, name)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(ids.get(name).map_or("", String::as_str)))
                .with_assignment(self.assignment(name, place, all.len()))
        });
        SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_generation_id(self.members[member].generation + shift)
            .with_member_id(id)
            .with_group_instance_id(instance)
            .with_protocol_type(protocol.map(|_| text("consumer")))
            .with_protocol_name(protocol.map(text))
            .with_assignments(assignments.collect())
    }

    pub(super) fn heartbeat_request(
        &self,
        member: usize,
        from: As,
        shift: i32,
        side: Side,
    ) -> HeartbeatRequest {
        let (id, instance) = self.identity(member, from, side);
        HeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_generation_id(self.members[member].generation + shift)
            .with_member_id(id)
            .with_group_instance_id(instance)
    }

    pub(super) fn leave_request(&self, leaving: &[(usize, As, bool)], side: Side) -> LeaveGroupRequest {
        let members = leaving.iter().map(|(member, from, as_instance)| {
            let (id, instance) = self.identity(*member, *from, side);
            let id = if *as_instance { text("") } else { id };
            MemberIdentity::default().with_member_id(id).with_group_instance_id(instance)
        });
        LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_members(members.collect())
    }

    pub(super) fn show_joined(&self, response: &JoinGroupResponse, side: Side) -> String {
        let names = &self.names[side as usize];
        let members = response.members.iter().map(|member| {
            let instance = member.group_instance_id.as_deref();
            format!("{} {instance:?} {:?}", names.show(&member.member_id), member.metadata)
        });
        format!(
            "error {} {} in generation {} of {:?} {:?}, {} leads{} {:?}",
            response.error_code,
            names.show(&response.member_id),
            response.generation_id,
            response.protocol_type.as_deref(),
            response.protocol_name.as_deref(),
            names.show(&response.leader),
            if response.skip_assignment { " without assigning" } else { "" },
            members.collect::<Vec<_>>()
        )
    }

    pub(super) fn show_left(&self, response: &LeaveGroupResponse, side: Side) -> String {
        let names = &self.names[side as usize];
        let members = response.members.iter().map(|member| {
            let instance = member.group_instance_id.as_deref();
            format!("{} {instance:?} {}", names.show(&member.member_id), member.error_code)
        });
        format!("error {} {:?}", response.error_code, members.collect::<Vec<_>>())
    }

    pub(super) fn show_described(&self, response: &DescribeGroupsResponse, side: Side) -> String {
        let names = &self.names[side as usize];
        let group = &response.groups[0];
        let mut members: Vec<String> = group
            .members
            .iter()
            .map(|member| {
                format!(
                    "{} {:?} {} {} {:?} has {:?}",
                    names.show(&member.member_id),
                    member.group_instance_id.as_deref(),
                    member.client_id,
                    member.client_host,
                    member.member_metadata,
                    member.member_assignment
                )
            })
            .collect();
        members.sort();
        format!(
            "error {} {:?} {} {:?} {:?} {members:?}",
            group.error_code,
            group.error_message.as_deref(),
            group.group_state,
            group.protocol_type.as_str(),
            group.protocol_data.as_str()
        )
    }
}
