//! What happens in the cluster: lines of the trace, points that faults wait for, rare situations, and what must never happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use simulated_kafka::cluster::observe::{CoordinatorKind, EndedBy, Event, GroupProtocol, Observer, Removal};
use simulated_kafka::coordinator::partition_of;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;
use simulated_threads_kafka::OFFSETS_PARTITIONS;
use tokio::sync::Notify;

use crate::context::SimContext;
use crate::observed::Sometimes;
use crate::oracle::Violation;
use crate::oracle::cell::{Cell, Seen, Value};
use crate::parties::Caller;
use crate::scenario::fault::{Kind, Moment, Point, Step, Target};
use crate::scenario::options::TOPIC;
use crate::service::kafka::client::caller_of;
use crate::service::kafka::mirror::{Leaders, Served};
use crate::service::kafka::record::Connections;

/// Time between the markers of two partitions of a transaction, in simulated milliseconds, that is long.
const LATE_MARKER_MS: u64 = 300;

/// Observes a cluster for a run.
pub(crate) struct Observing {
    context: Weak<SimContext>,
    seen: Mutex<History>,
    connections: Mutex<Connections>,
    served: Served,
    /// Wakes the task that follows the log.
    moved: Arc<Notify>,
}

/// What was seen so far.
#[derive(Default)]
struct History {
    /// By partition, where a log was cut off that was longer: the end before.
    truncated: BTreeMap<i32, i64>,
    /// Partitions and epochs of leaders that were elected although they may lack committed records, and have not begun.
    may_shrink: BTreeSet<(i32, i32)>,
    /// By producer, when the first marker of its transaction was written.
    markers: BTreeMap<i64, (u64, i32)>,
    /// The group's protocol and state.
    group: Option<(GroupProtocol, &'static str)>,
    /// The last leader epoch in which a broker began to load the group, and the broker. One that does not know yet that another
    /// leads may answer on, but what it decides is never replicated, and no member learns of it.
    coordinator: Option<(i32, NodeId)>,
    /// By member, its epoch or generation and its partitions.
    members: BTreeMap<String, (i32, BTreeSet<i32>)>,
    /// By member, the process that it is.
    processes: BTreeMap<String, Caller>,
    has_controller: bool,
}

impl Observing {
    pub fn new(context: &Arc<SimContext>, served: Served) -> Arc<Self> {
        let (context, moved) = (Arc::downgrade(context), Arc::new(Notify::new()));
        tokio::spawn(follow(context.clone(), moved.clone()));
        Arc::new(Self { context, seen: Mutex::default(), connections: Mutex::default(), served, moved })
    }
}

/// Follows the log as soon as it may have more: later the leader may not run, and what consumers have read would not be known.
async fn follow(context: Weak<SimContext>, moved: Arc<Notify>) {
    loop {
        moved.notified().await;
        let Some(context) = context.upgrade() else { return };
        context.follow_log();
    }
}

/// True for events of which there are many: the trace has only what they lead to.
fn is_frequent(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Request { .. }
            | Event::Response { .. }
            | Event::FetchAnswered { bytes: 0, error: None, .. }
            | Event::ProduceAnswered { .. }
            | Event::HighWatermarkAdvanced { .. }
            | Event::ListOffsetsAnswered { .. }
    )
}

impl Observer for Observing {
    fn event(&self, event: &Event<'_>) {
        let Some(context) = self.context.upgrade() else { return };
        if !is_frequent(event) && !is_of_internal_topic(event) {
            context.note(format_args!("kafka: {event:?}"));
        }
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).record(&context, event);
        if let Some(step) = step(event) {
            let point = Point { step, moment: Moment::Before };
            context.trigger(point, None, Caller { worker: None, life: 0 });
        }
        if matches!(event, Event::HighWatermarkAdvanced { topic: TOPIC, .. }) {
            self.moved.notify_one();
        }
        let mut history = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        situations(event).for_each(|situation| context.observe(situation));
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        history.log(&context, &mut served, event);
        drop(served);
        history.group(&context, event);
    }
}

/// The topic that an event is about.
fn topic<'a>(event: &Event<'a>) -> Option<&'a str> {
    match *event {
        Event::LeaderElected { topic, .. }
        | Event::InSyncChanged { topic, .. }
        | Event::LeaderBegan { topic, .. }
        | Event::Appended { topic, .. }
        | Event::MarkerWritten { topic, .. }
        | Event::HighWatermarkAdvanced { topic, .. }
        | Event::LogStartAdvanced { topic, .. }
        | Event::Truncated { topic, .. }
        | Event::FetchAnswered { topic, .. }
        | Event::ProduceAnswered { topic, .. }
        | Event::ListOffsetsAnswered { topic, .. } => Some(topic),
        _ => None,
    }
}

fn is_of_internal_topic(event: &Event<'_>) -> bool {
    topic(event).is_some_and(|topic| topic != TOPIC)
}

/// The point that an event is.
fn step(event: &Event<'_>) -> Option<Step> {
    Some(match event {
        Event::HighWatermarkAdvanced { topic: TOPIC, .. } => Step::HighWatermark,
        Event::InSyncChanged { topic: TOPIC, shrunk: true, .. } => Step::InSyncShrunk,
        Event::MarkerWritten { topic: TOPIC, .. } => Step::Marker,
        Event::LeaderElected { topic: TOPIC, .. } => Step::LeaderElected,
        Event::CoordinatorLoading { kind: CoordinatorKind::Groups, .. } => Step::CoordinatorLoads,
        Event::GroupChanged { .. } => Step::GroupChanged,
        Event::OwnershipReported { .. } => Step::RebalanceAnswered,
        _ => return None,
    })
}

/// The rare situations that an event is by itself.
fn situations(event: &Event<'_>) -> impl Iterator<Item = Sometimes> {
    let of_topic = topic(event) == Some(TOPIC);
    let one = match *event {
        Event::BrokerFenced { .. } => Some(Sometimes::BrokerFenced),
        Event::InSyncChanged { shrunk: true, .. } if of_topic => Some(Sometimes::InSyncSetShrank),
        Event::InSyncChanged { shrunk: false, .. } if of_topic => Some(Sometimes::InSyncSetGrew),
        Event::LeaderElected { leader: None, .. } if of_topic => Some(Sometimes::PartitionWithoutLeader),
        Event::LogStartAdvanced { .. } if of_topic => Some(Sometimes::LogStartAdvanced),
        Event::CoordinatorUnloaded { kind: CoordinatorKind::Groups, .. } => Some(Sometimes::CoordinatorMoved),
        Event::TransactionPrepared { by: EndedBy::NewProducer, .. } => Some(Sometimes::ProducerFenced),
        Event::MemberRemoved { why: Removal::SessionExpired, .. } => Some(Sometimes::MemberSessionExpired),
        Event::MemberRemoved { why: Removal::RebalanceTimeout, .. } => {
            Some(Sometimes::MemberTooSlowInRebalance)
        }
        Event::MemberRemoved { why: Removal::Left, .. } => Some(Sometimes::MemberLeft),
        Event::CommitRefused { .. } => Some(Sometimes::CommitRefused),
        Event::ProduceAnswered { duplicate: true, .. } => Some(Sometimes::ProduceRepeated),
        Event::ProduceAnswered { first_offset: Some(_), error: Some(_), .. } => {
            Some(Sometimes::AppendedButNotAcknowledged)
        }
        Event::ListOffsetsAnswered { error: Some(ErrorCode::OffsetNotAvailable), .. } if of_topic => {
            Some(Sometimes::OffsetNotAvailableAtStart)
        }
        Event::FetchAnswered { preferred: Some(_), .. } if of_topic => Some(Sometimes::PreferredReplicaGiven),
        Event::FetchAnswered { is_follower: true, bytes, .. } if of_topic && bytes > 0 => {
            Some(Sometimes::FetchFromFollower)
        }
        Event::FetchAnswered { error: Some(error), .. } if of_topic => match error {
            ErrorCode::OffsetOutOfRange => Some(Sometimes::FetchOutOfRange),
            ErrorCode::UnknownServerError => Some(Sometimes::FetchFailed),
            ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch => {
                Some(Sometimes::FetchWithOtherEpoch)
            }
            _ => None,
        },
        Event::Response { error: Some(error), .. } => match error {
            ErrorCode::NotCoordinator => Some(Sometimes::NotCoordinator),
            ErrorCode::CoordinatorLoadInProgress => Some(Sometimes::CoordinatorLoads),
            ErrorCode::RebalanceInProgress => Some(Sometimes::RebalanceInProgress),
            ErrorCode::UnknownMemberId => Some(Sometimes::UnknownMember),
            ErrorCode::FencedMemberEpoch | ErrorCode::StaleMemberEpoch | ErrorCode::IllegalGeneration => {
                Some(Sometimes::MemberOfAnOldGeneration)
            }
            _ => None,
        },
        _ => None,
    };
    let aborted = matches!(*event, Event::FetchAnswered { aborted, .. } if of_topic && aborted > 0);
    let unstable = matches!(*event, Event::FetchAnswered { error: None, last_stable, high_watermark, .. }
        if of_topic && last_stable < high_watermark);
    let more = [
        aborted.then_some(Sometimes::AbortedTransactionSkipped),
        unstable.then_some(Sometimes::ReaderWaitsForOpenTransaction),
    ];
    one.into_iter().chain(more.into_iter().flatten())
}

impl History {
    /// What happens to logs, leaders and transactions.
    fn log(&mut self, context: &SimContext, leaders: &mut Leaders, event: &Event<'_>) {
        let Leaders { high_watermarks: served, to_compare } = leaders;
        match *event {
            Event::HighWatermarkAdvanced { topic: TOPIC, partition, offset, .. } => {
                let greatest = served.entry(partition).or_insert(offset);
                *greatest = offset.max(*greatest);
                if self.truncated.get(&partition).is_some_and(|end| offset >= *end) {
                    self.truncated.remove(&partition);
                    context.observe(Sometimes::TruncatedThenGrownOver);
                }
            }
            Event::TopicDeleted { topic: TOPIC, .. } => {
                served.clear();
                to_compare.clear();
            }
            Event::LeaderBegan { topic: TOPIC, partition, high_watermark, epoch, end, .. } => {
                // Everybody who had a record has lost it, or does not lead.
                let may_shrink = self.may_shrink.remove(&(partition, epoch));
                if may_shrink {
                    let mut damage = context.damage();
                    let least = damage.began_at.entry(partition).or_insert(end);
                    *least = end.min(*least);
                }
                if may_shrink && context.truncated(partition, end) {
                    let lost = format_args!(
                        "committed records of partition {partition} from offset {end} on are lost"
                    );
                    context.note_event(lost);
                    served.insert(partition, end);
                    context.damage().done = true;
                }
                if may_shrink && let Some(known) = context.known_offsets(partition) {
                    to_compare.insert(partition, known.end);
                }
                if served.get(&partition).is_some_and(|greatest| high_watermark < *greatest) {
                    context.observe(Sometimes::HighWatermarkLaggedAfterElection);
                }
                if context.is_writing(partition) {
                    context.observe(Sometimes::LeaderMovedMidBatch);
                }
            }
            Event::LeaderElected { topic: TOPIC, partition, epoch, is_clean, .. } => {
                if !is_clean {
                    context.observe(Sometimes::UncleanElection);
                }
                if !is_clean || context.damage().logs_may_shrink {
                    self.may_shrink.insert((partition, epoch));
                }
            }
            Event::Truncated { topic: TOPIC, partition, from_end, to_end, .. } if to_end < from_end => {
                self.truncated.insert(partition, from_end);
                context.observe(Sometimes::LogTruncatedAtBroker);
            }
            Event::MarkerWritten { topic: TOPIC, partition, producer_id, .. } => {
                let now_ms = context.now_ms();
                let (first_ms, first) = *self.markers.entry(producer_id).or_insert((now_ms, partition));
                if first != partition && now_ms > first_ms + LATE_MARKER_MS {
                    context.observe(Sometimes::MarkerLateInSecondPartition);
                }
            }
            Event::TransactionCompleted { producer_id, .. } => {
                self.markers.remove(&producer_id);
            }
            Event::ControllerMoved { to: Some(_) } => {
                if self.has_controller {
                    context.observe(Sometimes::ControllerMoved);
                }
                self.has_controller = true;
            }
            _ => {}
        }
    }

    /// What happens in the group of the workers.
    fn group(&mut self, context: &SimContext, event: &Event<'_>) {
        match *event {
            Event::AssignmentSent { broker, .. }
            | Event::OffsetCommitted { broker, .. }
            | Event::OwnershipReported { broker, .. }
                if self.coordinator.is_some_and(|(_, coordinator)| coordinator != broker) => {}
            Event::GroupChanged { protocol, state, .. } => {
                if let Some((GroupProtocol::Classic, _)) = self.group
                    && protocol == GroupProtocol::Consumer
                {
                    context.observe(Sometimes::ClassicToConsumerUpgrade);
                }
                self.group = Some((protocol, state));
                if is_away(context) {
                    context.observe(Sometimes::RebalanceWhileStoreIsAway);
                }
            }
            Event::CoordinatorLoading { kind: CoordinatorKind::Groups, partition, epoch, broker }
                if partition == partition_of(&context.options.pipeline.group, OFFSETS_PARTITIONS) =>
            {
                if self.coordinator.is_none_or(|(known, _)| epoch >= known) {
                    self.coordinator = Some((epoch, broker));
                }
                if self.group.is_some_and(|(_, state)| !matches!(state, "Stable" | "Empty" | "Dead")) {
                    context.observe(Sometimes::CoordinatorMovedInRebalance);
                }
                // What it knows may be older than what it knew; members learn of it by their next requests.
                self.members.clear();
                context.members().reloaded();
            }
            Event::MemberJoined { member, client_id, .. } => {
                if let Some(caller) = caller_of(client_id) {
                    // A process may have had another membership before, which ends later.
                    self.processes.retain(|_, known| *known != caller);
                    self.processes.insert(member.to_owned(), caller);
                }
            }
            // Other reports say only what the member has given back.
            Event::OwnershipReported { member, partitions, is_full: true, .. } => {
                if let Some(caller) = self.processes.get(member) {
                    let owned = partitions.get(TOPIC).cloned().unwrap_or_default();
                    context.members().owns(*caller, owned);
                }
            }
            Event::MemberRemoved { member, why, .. } => {
                self.members.remove(member);
                self.removed(context, member, why);
                if why == Removal::SessionExpired && context.writes_in_flight() {
                    context.observe(Sometimes::SessionExpiredWhileWriting);
                }
            }
            Event::AssignmentSent { member, epoch, partitions, .. } => {
                let assigned = partitions.get(TOPIC).cloned().unwrap_or_default();
                let others = self.members.iter().filter(|(other, _)| *other != member);
                let both = others.filter(|(_, (other, _))| *other == epoch);
                let both = both.flat_map(|(_, (_, owned))| owned.intersection(&assigned)).next().copied();
                if let Some(partition) = both {
                    context.violate(Violation::TwoOwners { partition, epoch });
                }
                if let Some(caller) = self.processes.get(member) {
                    context.members().given(*caller, &assigned);
                }
                self.members.insert(member.to_owned(), (epoch, assigned));
            }
            Event::OffsetCommitted { topic: TOPIC, partition, offset, .. } => {
                context.members().committed(partition, offset);
                let Some(oracles) = context.oracles() else { return };
                let seen = oracles.see(&Cell::Progress(partition)).into_iter();
                let stored = seen.filter_map(|seen| match seen {
                    Seen::Value(Value::Progress(next_offset)) => Some(next_offset),
                    _ => None,
                });
                let origin = oracles.truth().binding().origin(partition);
                let acknowledged = context.acknowledged_progress(partition);
                let durable = stored.chain(acknowledged).max().unwrap_or(origin);
                if offset > durable {
                    context.violate(Violation::CommittedAhead { partition, offset, durable });
                }
            }
            _ => {}
        }
    }
}

impl History {
    /// The coordinator has removed a member.
    fn removed(&self, context: &SimContext, member: &str, why: Removal) {
        let Some(caller) = self.processes.get(member).copied() else { return };
        let is_damaged = context.damage().done;
        let violation = match why {
            Removal::Left if !is_damaged => context.members().left(caller),
            _ => {
                context.members().removed(caller);
                None
            }
        };
        violation.into_iter().for_each(|violation| context.violate(violation));
    }
}

/// True if the tables cannot be written: too many of their nodes are down or paused.
fn is_away(context: &SimContext) -> bool {
    let faults = context.active_faults();
    let is_down = |target: Target| target == Target::AllNodes;
    faults.iter().any(|fault| matches!(fault.kind, Kind::Host(_)) && is_down(fault.target))
        || faults.iter().filter(|fault| fault.affects_process_of_node().is_some()).count() > 1
}
