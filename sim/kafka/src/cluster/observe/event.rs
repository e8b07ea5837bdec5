//! The events.

use super::{CoordinatorKind, EndedBy, GroupProtocol, Partitions, Removal};
use crate::error::ErrorCode;
use crate::protocol::messages::ApiKey;
use crate::types::{NodeId, Offset, Timestamp, TopicId};

/// Something that happens in a cluster. Offsets, epochs and generations are those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A host acts as the controller from now on, or none does.
    ControllerMoved {
        /// The host.
        to: Option<NodeId>,
    },
    /// The controller has fenced a broker that was not, because it was silent or is ending.
    BrokerFenced {
        /// The broker.
        broker: NodeId,
    },
    /// The controller lets a broker lead and be in sync.
    BrokerUnfenced {
        /// The broker.
        broker: NodeId,
    },
    /// The controller has created a topic. The leaders of its partitions follow as [`Event::LeaderElected`].
    TopicCreated {
        /// Its name.
        topic: &'a str,
        /// Its id.
        id: TopicId,
        /// How many partitions it has.
        partitions: usize,
    },
    /// The controller has deleted a topic.
    TopicDeleted {
        /// Its name.
        topic: &'a str,
        /// Its id.
        id: TopicId,
    },
    /// The controller has decided who leads a partition, a new one as well. Brokers do not know it yet.
    LeaderElected {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The leader, if there is one.
        leader: Option<NodeId>,
        /// The leader's epoch.
        epoch: i32,
        /// Whether the leader was in sync or an eligible leader replica (KIP-966). Else records may be lost. True without
        /// a leader.
        is_clean: bool,
    },
    /// The controller has changed the in-sync set of a partition.
    InSyncChanged {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The set now.
        in_sync: &'a [NodeId],
        /// Whether a replica is not in it any more.
        shrunk: bool,
    },
    /// A broker begins to lead a partition. If the high watermark is lower than one that an earlier leader served, it goes
    /// back for consumers; if it is lower than the end, they do not learn the end until the high watermark has reached it.
    LeaderBegan {
        /// The leader.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The leader's epoch.
        epoch: i32,
        /// The high watermark that it begins with.
        high_watermark: Offset,
        /// The offset of the next record that it appends.
        end: Offset,
    },
    /// A leader has appended a batch.
    Appended {
        /// The leader.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The offset of the first record.
        first_offset: Offset,
        /// The offset after the last record.
        next_offset: Offset,
        /// The leader's epoch.
        leader_epoch: i32,
    },
    /// A leader has appended the marker that ends a transaction; follows its [`Event::Appended`].
    MarkerWritten {
        /// The leader.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The producer.
        producer_id: i64,
        /// Whether the transaction is committed, or else aborted.
        commits: bool,
    },
    /// A leader's high watermark is higher than before.
    HighWatermarkAdvanced {
        /// The leader.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The high watermark.
        offset: Offset,
    },
    /// A leader's log starts later than before: retention or a DeleteRecords request has removed records.
    LogStartAdvanced {
        /// The leader.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The start of the log.
        offset: Offset,
    },
    /// A broker has cut the end of its log: a follower, to what its leader has, or a host that lost its power, to what was
    /// synced. A follower whose leader's log starts after its own end begins again there: then the end grows.
    Truncated {
        /// The broker.
        broker: NodeId,
        /// The topic; empty if a host lost its power and the topic was deleted before.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The end before.
        from_end: Offset,
        /// The end now.
        to_end: Offset,
    },
    /// A broker begins to load a coordinator, because it leads the coordinator's partition, or because a record of it
    /// could not be appended.
    CoordinatorLoading {
        /// The broker.
        broker: NodeId,
        /// The kind.
        kind: CoordinatorKind,
        /// The partition of its topic.
        partition: i32,
        /// The leader's epoch.
        epoch: i32,
    },
    /// A coordinator serves.
    CoordinatorLoaded {
        /// The broker.
        broker: NodeId,
        /// The kind.
        kind: CoordinatorKind,
        /// The partition of its topic.
        partition: i32,
        /// The leader's epoch.
        epoch: i32,
    },
    /// A broker has ended a coordinator, because it does not lead the partition any more.
    CoordinatorUnloaded {
        /// The broker.
        broker: NodeId,
        /// The kind.
        kind: CoordinatorKind,
        /// The partition of its topic.
        partition: i32,
        /// The leader's epoch.
        epoch: i32,
    },
    /// The coordinator has given a transactional id to a producer, which fences earlier ones. It is replicated.
    ProducerInitialized {
        /// The coordinator.
        broker: NodeId,
        /// The transactional id.
        transactional_id: &'a str,
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        epoch: i16,
    },
    /// The coordinator has the first partitions of a transaction. It is replicated.
    TransactionBegan {
        /// The coordinator.
        broker: NodeId,
        /// The transactional id.
        transactional_id: &'a str,
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        epoch: i16,
    },
    /// The end of a transaction is decided, and replicated: markers follow, one for each partition.
    TransactionPrepared {
        /// The coordinator.
        broker: NodeId,
        /// The transactional id.
        transactional_id: &'a str,
        /// The producer id.
        producer_id: i64,
        /// The producer epoch of the markers.
        epoch: i16,
        /// Whether it is committed, or else aborted.
        commits: bool,
        /// Who ended it.
        by: EndedBy,
        /// How many partitions it has.
        partitions: usize,
    },
    /// All markers of a transaction are written, and that is replicated.
    TransactionCompleted {
        /// The coordinator.
        broker: NodeId,
        /// The transactional id.
        transactional_id: &'a str,
        /// The producer id of the markers.
        producer_id: i64,
        /// The producer epoch.
        epoch: i16,
        /// Whether it was committed, or else aborted.
        commits: bool,
    },
    /// A group has another state, epoch or protocol. Its record may not be replicated yet.
    GroupChanged {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The protocol that it uses now.
        protocol: GroupProtocol,
        /// The state's name in the protocol; `Dead` if the group is deleted.
        state: &'static str,
        /// The generation of a classic group, or the group epoch.
        epoch: i32,
        /// How many members it has.
        members: usize,
    },
    /// A group has a new member.
    MemberJoined {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The member's id.
        member: &'a str,
        /// Its `group.instance.id`.
        instance: Option<&'a str>,
        /// Its `client.id`.
        client_id: &'a str,
    },
    /// A member of a group with the protocol `consumer` says which partitions it has.
    OwnershipReported {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The member's id.
        member: &'a str,
        /// The partitions, of topics that exist.
        partitions: &'a Partitions,
        /// Whether it says everything else, too, as after a request that failed, and not only that it has given partitions
        /// back or has taken them.
        is_full: bool,
    },
    /// A member is not in its group any more.
    MemberRemoved {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The member's id.
        member: &'a str,
        /// Why.
        why: Removal,
    },
    /// A member gets its assignment, of a group of consumers whose assignment can be read (`ConsumerProtocol`). Whoever had
    /// a partition before may not have learned of it.
    AssignmentSent {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The member's id.
        member: &'a str,
        /// The generation, or the member's epoch.
        epoch: i32,
        /// All that it has now.
        partitions: &'a Partitions,
    },
    /// The coordinator has accepted an offset. It may be lost as long as it is not replicated, and the client gets an error
    /// then, or no response.
    OffsetCommitted {
        /// The coordinator.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: Offset,
        /// The generation or member epoch; -1 without.
        epoch: i32,
        /// The member's id; empty without.
        member: &'a str,
        /// The producer whose transaction commits it: it counts when that is committed.
        producer_id: Option<i64>,
    },
    /// The response to a commit of an offset is an error.
    CommitRefused {
        /// The broker that responds.
        broker: NodeId,
        /// The group.
        group: &'a str,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The generation or member epoch; -1 without.
        epoch: i32,
        /// The member's id; empty without.
        member: &'a str,
        /// The error.
        error: ErrorCode,
    },
    /// A client has connected to a broker.
    ConnectionOpened {
        /// The broker.
        broker: NodeId,
        /// The connection, by its place among all connections of the cluster.
        connection: u64,
        /// The client's address without its port.
        client: &'a str,
    },
    /// A connection is closed, by the client or by the broker.
    ConnectionClosed {
        /// The broker.
        broker: NodeId,
        /// The connection.
        connection: u64,
    },
    /// A broker has read a request of a client. Those of the authentication are not reported.
    Request {
        /// The broker.
        broker: NodeId,
        /// The connection.
        connection: u64,
        /// The client's address without its port.
        client: &'a str,
        /// Which request.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// What the response repeats.
        correlation_id: i32,
        /// The client's name for itself.
        client_id: Option<&'a str>,
    },
    /// A broker sends the response to a request. A request of Produce with `acks=0` has none.
    Response {
        /// The broker.
        broker: NodeId,
        /// The connection.
        connection: u64,
        /// Which request.
        api: ApiKey,
        /// That of the request.
        correlation_id: i32,
        /// The first error in it.
        error: Option<ErrorCode>,
        /// How long the request took, in microseconds of the cluster's time.
        micros: u64,
    },
    /// What became of the batch for a partition in a Produce request, when the response is made.
    ProduceAnswered {
        /// The broker.
        broker: NodeId,
        /// The topic; empty if it is not known.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The offset of the first record, if the batch is in the log.
        first_offset: Option<Offset>,
        /// Whether it was in the log before: the producer sent it again.
        duplicate: bool,
        /// Why it was refused, or is not acknowledged although it was appended.
        error: Option<ErrorCode>,
    },
    /// A partition in a response to Fetch of a client. A client above its quota gets a response without partitions instead.
    FetchAnswered {
        /// The broker.
        broker: NodeId,
        /// The topic; empty if it is not known.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The offset that the client asked for.
        fetch_offset: Offset,
        /// How many bytes of batches it gets.
        bytes: usize,
        /// The error.
        error: Option<ErrorCode>,
        /// The high watermark; -1 with an error.
        high_watermark: Offset,
        /// The last stable offset; -1 with an error.
        last_stable: Offset,
        /// The replica that the client is to read from (KIP-392).
        preferred: Option<NodeId>,
        /// How many aborted transactions are listed.
        aborted: usize,
        /// Whether the broker does not lead the partition.
        is_follower: bool,
    },
    /// A partition in a response to ListOffsets.
    ListOffsetsAnswered {
        /// The broker.
        broker: NodeId,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// What was asked for: a time in milliseconds, or -1 for the end, -2 for the start and so on (`ListOffsetsRequest`).
        timestamp: Timestamp,
        /// The offset; -1 if there is none.
        offset: Offset,
        /// The error. `OffsetNotAvailable` means that the leader is new, and does not know yet what is replicated (KIP-207).
        error: Option<ErrorCode>,
    },
}
