//! The thread of a group member.
//!
//! It never blocks inside librdkafka: it polls the queues, and sleeps until one of them, or the worker, wakes it. So it
//! handles rebalances immediately, even if partitions are paused or the store is slow. How it acknowledges them
//! (`rdkafka_cgrp.c`, `rdkafka_assignment.c`, librdkafka 2.12):
//!
//! - **Assigned**: it notifies the worker and acknowledges immediately with an empty assignment: the partitions that
//!   librdkafka fetches need not be those that the group assigned. When the worker starts a partition, the partition is
//!   added with its explicit offset. (Delaying the acknowledgement until then would halt all other partitions:
//!   librdkafka pauses them until it arrives.)
//! - **Revoked**: it stops delivering these partitions, and acknowledges when the worker has released all of them.
//!   Meanwhile heartbeats continue; the group waits for up to `max.poll.interval.ms`.
//! - **Lost**: it acknowledges immediately. Partitions that are lost while they are being revoked are reported as revoked first,
//!   and as lost then.
//!
//! Each partition has a queue of its own. The queue of a paused partition is not read; librdkafka stops fetching when
//! the queue is full. (librdkafka's own pause would discard the fetched records and fetch them again.)
//!
//! A worker that has not polled for [`WORKER_STUCK_AFTER`] is considered stuck, and its queues are no longer read:
//! after `max.poll.interval.ms`, librdkafka leaves the group.
//!
//! The module `delivery` describes how the records of a partition are delivered, and `membership` what follows when
//! librdkafka gives a membership up.

mod commits;
mod delivery;
mod membership;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use commits::Commits;
use delivery::Partition;
pub(super) use membership::Memberships;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::flow_control::FlowControl;
use crate::broker::kafka::options::{GroupProtocol, KafkaOptions};
use crate::broker::kafka::raw::{Client, Event, Queue};
use crate::broker::{Assignment, BrokerError, Delivery};

/// The maximum sleep.
const MAX_SLEEP: Duration = Duration::from_millis(200);
/// A worker that has not polled for this time is considered stuck.
const WORKER_STUCK_AFTER: Duration = Duration::from_secs(5);
/// Interval of the error that the group has not accepted this member yet.
const NOT_JOINED_INTERVAL: Duration = Duration::from_secs(10);
/// A member that has been in the group for this time without an assignment is reported as having none.
const EMPTY_ASSIGNMENT_AFTER: Duration = Duration::from_secs(1);

/// A command of the worker.
#[derive(Debug)]
pub(super) enum Command {
    Start(Assignment, i64),
    Pause(i32),
    Resume(i32),
    Release(i32),
    Report(i32, i64),
    /// Leave the group, with this deadline, and confirm it.
    Leave(Instant, oneshot::Sender<()>),
}

/// The thread's state.
pub(super) struct Member {
    client: Arc<Client>,
    queue: Queue,
    topic: String,
    protocol: GroupProtocol,
    commits_enabled: bool,
    commits: Commits,
    commands: Receiver<Command>,
    deliveries: mpsc::UnboundedSender<Result<Delivery, BrokerError>>,
    flow: Arc<FlowControl>,
    memberships: Memberships,
    partitions: BTreeMap<i32, Partition>,
    /// Revoked partitions that the worker has not released yet.
    unreleased: BTreeSet<i32>,
    /// The partition that was delivered last.
    last: i32,
    joined: bool,
    /// Since when this member is in the group, while it has no assignment.
    member_since: Option<Instant>,
    not_joined_since: Instant,
    leaving: bool,
}

impl Member {
    /// Joins the group.
    pub(super) fn join(
        memberships: Memberships,
        topic: &str,
        options: &KafkaOptions,
        commands: Receiver<Command>,
        deliveries: mpsc::UnboundedSender<Result<Delivery, BrokerError>>,
        flow: Arc<FlowControl>,
    ) -> Result<Self, KafkaError> {
        let (client, queue) = memberships.open()?;
        Ok(Self {
            client,
            queue,
            topic: topic.to_owned(),
            protocol: options.group_protocol,
            commits_enabled: options.commit_offsets,
            commits: Commits::new(Instant::now()),
            commands,
            deliveries,
            flow,
            memberships,
            partitions: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            last: -1,
            joined: false,
            member_since: None,
            not_joined_since: Instant::now(),
            leaving: false,
        })
    }

    /// Runs until the worker leaves or is dropped.
    pub(super) fn run(mut self) {
        self.queue.wake(thread::current());
        let leave = loop {
            self.flow.beat();
            match self.take_commands() {
                Ok(None) => {}
                Ok(Some(leave)) => break Some(leave),
                Err(WorkerDropped) => break None,
            }
            let alive = self.flow.polled_within(WORKER_STUCK_AFTER);
            let now = Instant::now();
            if alive {
                self.client.connect_again();
                self.renew_membership(now);
                self.take_events();
            }
            let worked = alive && self.deliver();
            self.send_failures(now);
            self.commit(now);
            if !worked {
                self.check_joined(now);
                thread::park_timeout(MAX_SLEEP);
            }
        };
        match leave {
            Some((deadline, confirm)) => {
                self.leave(deadline);
                let _ = confirm.send(());
            }
            None => debug!(topic = self.topic, "the worker was dropped without leaving its group"),
        }
        membership::answer_rebalances(&self.client, &self.queue, &self.topic);
        // Drops the queues, then the client, which may take a while: hence on this thread.
    }

    fn take_commands(&mut self) -> Result<Option<(Instant, oneshot::Sender<()>)>, WorkerDropped> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start(assignment, offset)) => self.start(assignment, offset),
                Ok(Command::Pause(partition)) => {
                    if let Some(partition) = self.partitions.get_mut(&partition) {
                        partition.paused = true;
                    }
                }
                Ok(Command::Resume(partition)) => {
                    if let Some(partition) = self.partitions.get_mut(&partition) {
                        partition.paused = false;
                    }
                }
                Ok(Command::Release(partition)) => self.release(partition),
                Ok(Command::Report(partition, next_offset)) => {
                    if self.commits_enabled {
                        self.commits.report(partition, next_offset);
                    }
                }
                Ok(Command::Leave(deadline, confirm)) => return Ok(Some((deadline, confirm))),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(WorkerDropped),
            }
        }
    }

    /// The worker is done with a revoked partition.
    fn release(&mut self, number: i32) {
        if self.unreleased.remove(&number) && self.unreleased.is_empty() {
            self.acknowledge_revocation();
        }
    }

    /// Acknowledges a revocation: releases every revoked partition.
    fn acknowledge_revocation(&mut self) {
        let revoked: Vec<i32> =
            self.partitions.iter().filter(|(_, partition)| partition.revoked).map(|(n, _)| *n).collect();
        self.unreleased.clear();
        self.remove(&revoked);
        let waiting: Vec<_> =
            self.partitions.values_mut().filter_map(|partition| partition.waiting.take()).collect();
        for (assignment, offset) in waiting {
            self.start(assignment, offset);
        }
    }

    /// Removes partitions and acknowledges the rebalance that revoked them.
    fn remove(&mut self, numbers: &[i32]) {
        // Positions of this worker are committed before those of the next owner.
        self.commit_now();
        let mut fetched = Vec::new();
        for number in numbers {
            self.commits.forget(*number);
            if self.partitions.remove(number).is_some_and(|partition| partition.queue.is_some()) {
                fetched.push(*number);
            }
        }
        if let Err(error) = self.client.incremental_unassign(&self.topic, &fetched) {
            warn!(topic = self.topic, %error, "librdkafka did not remove partitions from its assignment");
        }
    }

    /// Handles what librdkafka reports, as far as it has by now.
    fn take_events(&mut self) {
        if self.memberships.next_at.is_some() && !self.leaving {
            // Events of a membership that has ended.
            return;
        }
        let events: Vec<Event> = std::iter::from_fn(|| self.queue.event()).collect();
        // A worker that did not poll in time has left its group, but librdkafka does not report partitions as lost if
        // they were being revoked at that time.
        let too_late =
            |event: &Event| matches!(event, Event::Error { error, .. } if error.is(Code::PollExceeded));
        let too_late = events.iter().any(too_late);
        for event in events {
            match event {
                Event::Assign(assigned) => self.assigned(assigned),
                Event::Revoke(revoked) => {
                    let lost = self.client.assignment_lost();
                    self.revoked(revoked, too_late || lost);
                }
                Event::Error { error, fatal, partition } => self.handle_error(error, fatal, partition),
                Event::Committed(committed) => {
                    let accepted = committed.unwrap_or_else(|error| {
                        debug!(topic = self.topic, %error, "positions were not committed to the group");
                        Vec::new()
                    });
                    self.commits.ended(&accepted);
                }
                Event::Other => {}
            }
        }
        // After the events, because the revocation may be one of them.
        if self.client.lost_in_rebalance() {
            self.lose_unreleased();
        }
        if self.client.ignores_rebalances() {
            self.membership_ended(KafkaError::of(Code::RebalanceInProgress));
        }
        // Before, librdkafka repeats its request to join.
        if self.joined && self.client.lacks_group() {
            self.membership_ended(KafkaError::of(Code::GroupIdNotFound));
        }
    }

    /// Partitions that were being revoked are lost: the group does not wait for their release any more.
    fn lose_unreleased(&mut self) {
        let lost: Vec<i32> = std::mem::take(&mut self.unreleased).into_iter().collect();
        if lost.is_empty() {
            return;
        }
        for number in &lost {
            self.commits.forget(*number);
        }
        self.acknowledge_revocation();
        self.send(Delivery::Lost(lost));
    }

    fn assigned(&mut self, assigned: Vec<i32>) {
        // librdkafka assigns nothing before a revocation is acknowledged. If one is open here, an assign or unassign for
        // another partition has acknowledged it before it was noticed.
        self.lose_unreleased();
        // It refuses to add a partition twice, so one that is still fetched is removed before its next start adds it.
        let fetched = |number: &&i32| self.partitions.get(number).is_some_and(|old| old.queue.is_some());
        let fetched: Vec<i32> = assigned.iter().filter(fetched).copied().collect();
        if !fetched.is_empty()
            && let Err(error) = self.client.incremental_unassign(&self.topic, &fetched)
        {
            warn!(topic = self.topic, %error, "librdkafka did not remove partitions from its assignment");
        }
        if let Err(error) = self.client.incremental_assign(&self.topic, &[]) {
            warn!(topic = self.topic, %error, "librdkafka did not accept an assignment");
        }
        for number in &assigned {
            self.partitions.insert(*number, Partition::default());
        }
        if !assigned.is_empty() || !self.joined {
            self.joined(assigned);
        }
    }

    /// The group has accepted this member, and assigned these partitions.
    fn joined(&mut self, assigned: Vec<i32>) {
        self.joined = true;
        // What was logged before is out of date.
        self.client.lacks_group();
        self.send(Delivery::Assigned(assigned));
    }

    /// Detects two conditions that librdkafka reports in no event. With the group protocol `consumer`, a member
    /// without an assignment gets no event, and a cluster that lacks the protocol (before Kafka 4.0) is reported in a
    /// log line only.
    fn check_joined(&mut self, now: Instant) {
        if self.joined || self.memberships.next_at.is_some() {
            return;
        }
        if self.client.met_coordinator_without_heartbeat() {
            self.joined = true;
            return self.send_error(self.without_protocol(KafkaError::of(Code::UnsupportedFeature)));
        }
        if self.client.is_member() {
            if now.saturating_duration_since(*self.member_since.get_or_insert(now)) >= EMPTY_ASSIGNMENT_AFTER
            {
                self.joined(Vec::new());
            }
        } else if now.saturating_duration_since(self.not_joined_since) >= NOT_JOINED_INTERVAL {
            self.not_joined_since = now;
            let lacks_group = self.client.lacks_group();
            let cause = if lacks_group { Code::GroupIdNotFound } else { Code::WaitingForCoordinator };
            let cause = KafkaError::of(cause);
            let what = format!(
                "read topic {}: no coordinator has accepted this member into its group yet",
                self.topic
            );
            self.send_error(cause.retriable(what));
        }
    }

    /// The error for a cluster that lacks the group protocol `consumer`.
    fn without_protocol(&self, cause: KafkaError) -> BrokerError {
        let what = format!(
            "read topic {}: the group protocol `consumer` (KIP-848) is not available: it requires Kafka 4.0 or later \
             and must be enabled there; the group protocol `classic` is always available",
            self.topic
        );
        BrokerError::Unsupported { what, cause: Some(Box::new(cause)) }
    }

    fn revoked(&mut self, revoked: Vec<i32>, lost: bool) {
        // For an unknown partition there is nothing to finish.
        let known = revoked.iter().copied().filter(|number| self.partitions.contains_key(number));
        let known: Vec<i32> = known.collect();
        if lost {
            for number in &known {
                self.unreleased.remove(number);
                // The group would refuse it, or another worker has committed its own already.
                self.commits.forget(*number);
            }
            self.remove(&known);
            if !known.is_empty() {
                self.send(Delivery::Lost(known));
            }
            return;
        }
        for number in &known {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.revoked = true;
                partition.failure = None;
                partition.waiting = None;
            }
            self.unreleased.insert(*number);
        }
        if self.leaving || known.is_empty() {
            return self.acknowledge_revocation();
        }
        self.send(Delivery::Revoked(known));
    }

    fn handle_error(&mut self, error: KafkaError, fatal: bool, location: Option<(i32, i64)>) {
        if let Some((number, offset)) = location.filter(|(number, _)| self.partitions.contains_key(number)) {
            let next = self.partitions.get(&number).map_or(offset, |partition| partition.next_offset);
            return self.fail(number, if offset < 0 { next } else { offset }, error);
        }
        if error.is(Code::PollExceeded) {
            warn!(topic = self.topic, %error, "the worker did not poll in time, and has left its group");
            return self.lose_unreleased();
        }
        let what = format!("read topic {}", self.topic);
        if fatal || error.is(Code::Fatal) {
            // librdkafka keeps the reason separate from the error event.
            let error = self.client.fatal_error().unwrap_or(error);
            return self.membership_ended(error);
        }
        match error.class() {
            // A single unavailable broker does not matter as long as others are available.
            _ if error.is(Code::BrokerTransportFailure)
                || error.is(Code::Resolve)
                || error.is(Code::OperationTimedOut) =>
            {
                debug!(topic = self.topic, %error, "error of librdkafka");
            }
            // Brokers may learn of new credentials one by one. A topic that is reported as unknown is checked by the
            // caller first.
            _ if error.is(Code::Authentication) => self.send_error(error.retriable(what)),
            Class::Retriable | Class::UnknownTopic | Class::OutOfRange | Class::TopicExists => {
                self.send_error(error.retriable(what));
            }
            Class::Fatal => self.send_error(error.fatal(what)),
        }
    }

    fn send(&self, delivery: Delivery) {
        self.flow.put(&delivery);
        // `take_commands` notices a worker that was dropped.
        let _ = self.deliveries.send(Ok(delivery));
    }

    fn send_error(&self, error: BrokerError) {
        let _ = self.deliveries.send(Err(error));
    }

    fn commit(&mut self, now: Instant) {
        // librdkafka starts no partition during a commit, so there is one commit at a time, and none during a
        // rebalance, except for the final positions of partitions that are given back.
        if self.unreleased.is_empty() && self.commits.due(now) {
            self.commit_now();
        }
    }

    /// Commits the positions of owned partitions, even if another commit is in flight: final positions have no later
    /// commit. The coordinator handles the requests of a connection in their order.
    fn commit_now(&mut self) {
        let positions = self.commits.positions(|number| self.partitions.contains_key(&number));
        if positions.is_empty() {
            return;
        }
        match self.client.commit(&self.topic, &positions, &self.queue) {
            Ok(()) => self.commits.sent(),
            Err(error) => debug!(topic = self.topic, %error, "positions were not committed to the group"),
        }
    }

    /// Leaves the group, gracefully if the deadline allows.
    fn leave(&mut self, deadline: Instant) {
        self.leaving = true;
        self.take_events();
        self.commit_now();
        if !self.unreleased.is_empty() {
            self.acknowledge_revocation();
        }
        if let Err(error) = self.client.close(&self.queue) {
            debug!(topic = self.topic, %error, "could not leave the group");
            return;
        }
        while !self.client.closed() {
            self.take_events();
            if Instant::now() >= deadline {
                warn!(
                    topic = self.topic,
                    "could not leave the group in time; it will remove this member after the session timeout"
                );
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// The worker was dropped.
struct WorkerDropped;
