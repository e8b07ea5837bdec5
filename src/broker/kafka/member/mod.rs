//! The thread that is the member of a group.
//!
//! It never waits inside librdkafka: it looks into the queues, and sleeps until one of them, or the worker,
//! wakes it. So rebalances are seen at once, whatever is paused and whatever the store does. How it answers
//! them (`rdkafka_cgrp.c`, `rdkafka_assignment.c`, librdkafka 2.12):
//!
//! - **Assigned**: the worker is told, and the answer is given at once, with no partition in it: librdkafka's
//!   list of what is fetched need not be the group's. A partition is added to it, with its explicit
//!   offset, when the worker starts it. (To delay the answer until then would halt every other partition, for
//!   librdkafka pauses all of them while it waits for one.)
//! - **Revoked**: nothing of these partitions is handed over any more, and the answer waits until the worker has
//!   released all of them. Meanwhile heartbeats go on, and the group waits for up to the longest time between polls.
//! - **Lost**: the answer is given at once.
//!
//! Each partition has a queue of its own. A paused one is not looked into; librdkafka stops fetching when it is
//! full, and nothing is thrown away and fetched again, as librdkafka's own pause does.
//!
//! A worker that does not poll for [`ABANDONED`] is stuck, and the queues are not looked into for
//! it: after the longest time between polls, librdkafka leaves the group.
//!
//! How the records of a partition are delivered is told in the module `delivery`.

mod delivery;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use delivery::Partition;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::handover::Handover;
use crate::broker::kafka::options::{GroupProtocol, KafkaOptions};
use crate::broker::kafka::raw::{Client, Event, Queue};
use crate::broker::{Assignment, BrokerError, Delivery};

/// The longest sleep.
const REST: Duration = Duration::from_millis(200);
/// A worker that has not polled for so long is stuck.
const ABANDONED: Duration = Duration::from_secs(5);
/// Time between two commits for the lag dashboards.
const COMMIT_INTERVAL: Duration = Duration::from_secs(2);
/// A member that the group has not taken for so long says so, and again after as long.
const OUTSIDE: Duration = Duration::from_secs(10);
/// A member that the group has for so long without giving it anything gets nothing for now.
const NOTHING: Duration = Duration::from_secs(1);

/// What the worker says.
#[derive(Debug)]
pub(super) enum Command {
    Start(Assignment, i64),
    Pause(i32),
    Resume(i32),
    Release(i32),
    Report(i32, i64),
    /// Leave the group until this time, and say so.
    Leave(Instant, oneshot::Sender<()>),
}

/// The thread's state.
pub(super) struct Member {
    client: Arc<Client>,
    queue: Queue,
    topic: String,
    protocol: GroupProtocol,
    commits: bool,
    commands: Receiver<Command>,
    told: mpsc::UnboundedSender<Result<Delivery, BrokerError>>,
    handover: Arc<Handover>,
    partitions: BTreeMap<i32, Partition>,
    /// Revoked partitions that the worker has not released.
    unreleased: BTreeSet<i32>,
    /// The partition that was served last.
    last: i32,
    joined: bool,
    /// Since when the group has this member, while it was given nothing.
    member_since: Option<Instant>,
    outside_since: Instant,
    leaving: bool,
    /// Durable positions that the group was not told yet.
    reported: BTreeMap<i32, i64>,
    committing: bool,
    commit_at: Instant,
}

impl Member {
    pub(super) fn new(
        client: Arc<Client>,
        queue: Queue,
        topic: &str,
        options: &KafkaOptions,
        commands: Receiver<Command>,
        told: mpsc::UnboundedSender<Result<Delivery, BrokerError>>,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            client,
            queue,
            topic: topic.to_owned(),
            protocol: options.group_protocol,
            commits: options.commit_offsets,
            commands,
            told,
            handover,
            partitions: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            last: -1,
            joined: false,
            member_since: None,
            outside_since: Instant::now(),
            leaving: false,
            reported: BTreeMap::new(),
            committing: false,
            commit_at: Instant::now(),
        }
    }

    /// Works until the worker leaves or is gone.
    pub(super) fn run(mut self) {
        self.queue.wake(thread::current());
        let left = loop {
            self.handover.beat();
            match self.take_commands() {
                Ok(None) => {}
                Ok(Some(left)) => break Some(left),
                Err(Gone) => break None,
            }
            let alive = self.handover.polled_within(ABANDONED);
            if alive {
                self.take_events();
            }
            let now = Instant::now();
            let worked = alive && self.deliver();
            self.tell_failures(now);
            self.commit(now);
            if !worked {
                self.look_whether_joined(now);
                thread::park_timeout(REST);
            }
        };
        match left {
            Some((deadline, left)) => {
                self.leave(deadline);
                let _ = left.send(());
            }
            None => debug!(topic = self.topic, "the worker is gone without leaving its group"),
        }
        // Queues first, then the client, which may take a while: that is why it happens here.
    }

    fn take_commands(&mut self) -> Result<Option<(Instant, oneshot::Sender<()>)>, Gone> {
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
                    if self.commits {
                        self.reported.insert(partition, next_offset);
                    }
                }
                Ok(Command::Leave(deadline, left)) => return Ok(Some((deadline, left))),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(Gone),
            }
        }
    }

    /// The worker is done with a revoked partition.
    fn release(&mut self, number: i32) {
        if self.unreleased.remove(&number) && self.unreleased.is_empty() {
            self.answer_revocation();
        }
    }

    /// Gives every revoked partition back.
    fn answer_revocation(&mut self) {
        let revoked: Vec<i32> =
            self.partitions.iter().filter(|(_, partition)| partition.revoked).map(|(n, _)| *n).collect();
        self.unreleased.clear();
        self.give_up(&revoked);
        let waiting: Vec<_> =
            self.partitions.values_mut().filter_map(|partition| partition.waiting.take()).collect();
        for (assignment, offset) in waiting {
            self.start(assignment, offset);
        }
    }

    /// Forgets partitions and answers what took them.
    fn give_up(&mut self, numbers: &[i32]) {
        // What the worker has finished is told before somebody else may tell it.
        self.commit_now();
        let mut fetched = Vec::new();
        for number in numbers {
            self.reported.remove(number);
            if self.partitions.remove(number).is_some_and(|partition| partition.queue.is_some()) {
                fetched.push(*number);
            }
        }
        if let Err(error) = self.client.incremental_unassign(&self.topic, &fetched) {
            warn!(topic = self.topic, %error, "librdkafka did not take partitions back");
        }
    }

    fn take_events(&mut self) {
        let events: Vec<Event> = std::iter::from_fn(|| self.queue.event()).collect();
        // A worker that did not poll in time has left its group; but librdkafka does not call lost what was about
        // to be revoked then.
        let too_late =
            |event: &Event| matches!(event, Event::Error { error, .. } if error.is(Code::PollExceeded));
        let too_late = events.iter().any(too_late);
        for event in events {
            match event {
                Event::Assign(given) => self.assigned(given),
                Event::Revoke(taken) => self.revoked(taken, too_late || self.client.assignment_lost()),
                Event::Error { error, fatal, partition } => self.troubled(error, fatal, partition),
                Event::Committed(committed) => {
                    self.committing = false;
                    if let Err(error) = committed {
                        debug!(topic = self.topic, %error, "positions were not committed to the group");
                    }
                }
                Event::Other => {}
            }
        }
    }

    fn assigned(&mut self, given: Vec<i32>) {
        if let Err(error) = self.client.incremental_assign(&self.topic, &[]) {
            warn!(topic = self.topic, %error, "librdkafka did not take an assignment");
        }
        for number in &given {
            self.partitions.insert(*number, Partition::default());
        }
        if !given.is_empty() || !self.joined {
            self.joined = true;
            self.tell(Delivery::Assigned(given));
        }
    }

    /// In the group protocol `consumer`, a member that gets nothing is not told so, and a cluster that lacks the
    /// request for it (before Kafka 4.0) is told of in a log line only.
    fn look_whether_joined(&mut self, now: Instant) {
        if self.joined {
            return;
        }
        if self.client.met_coordinator_without_heartbeat() {
            self.joined = true;
            return self.tell_error(self.without_protocol(KafkaError::of(Code::UnsupportedFeature)));
        }
        if self.client.is_member() {
            if now.saturating_duration_since(*self.member_since.get_or_insert(now)) >= NOTHING {
                self.joined = true;
                self.tell(Delivery::Assigned(Vec::new()));
            }
        } else if now.saturating_duration_since(self.outside_since) >= OUTSIDE {
            self.outside_since = now;
            let cause = KafkaError::of(Code::WaitingForCoordinator);
            let what = format!("read topic {}: no coordinator takes this member into its group", self.topic);
            self.tell_error(cause.retriable(what));
        }
    }

    fn without_protocol(&self, cause: KafkaError) -> BrokerError {
        let what = format!(
            "read topic {}: the group protocol `consumer` (KIP-848) is not there, it needs Kafka 4.0 or later and \
             must be switched on there; the group protocol `classic` is everywhere",
            self.topic
        );
        BrokerError::Unsupported { what, cause: Some(Box::new(cause)) }
    }

    fn revoked(&mut self, taken: Vec<i32>, lost: bool) {
        // Of a partition that is not known here, nothing is to be finished.
        let known = taken.iter().copied().filter(|number| self.partitions.contains_key(number));
        let known: Vec<i32> = known.collect();
        if lost {
            for number in &known {
                self.unreleased.remove(number);
            }
            self.give_up(&known);
            if !known.is_empty() {
                self.tell(Delivery::Lost(known));
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
            return self.answer_revocation();
        }
        self.tell(Delivery::Revoked(known));
    }

    fn troubled(&mut self, error: KafkaError, fatal: bool, place: Option<(i32, i64)>) {
        if let Some((number, offset)) = place.filter(|(number, _)| self.partitions.contains_key(number)) {
            let reads_on = self.partitions.get(&number).map_or(offset, |partition| partition.next_offset);
            return self.fail(number, if offset < 0 { reads_on } else { offset }, error);
        }
        if error.is(Code::PollExceeded) {
            warn!(topic = self.topic, %error, "the worker did not poll in time, and has left its group");
            let late: Vec<i32> = std::mem::take(&mut self.unreleased).into_iter().collect();
            if !late.is_empty() {
                self.answer_revocation();
                self.tell(Delivery::Lost(late));
            }
            return;
        }
        let what = format!("read topic {}", self.topic);
        if fatal || error.is(Code::Fatal) {
            // The reason is kept apart from the error that tells that there is one.
            let error = self.client.fatal_error().unwrap_or(error);
            let unsupported = error.is(Code::UnsupportedFeature) || error.is(Code::UnsupportedVersion);
            return self.tell_error(match self.protocol {
                GroupProtocol::Consumer if unsupported => self.without_protocol(error),
                _ => error.fatal(what),
            });
        }
        match error.class() {
            // A single broker that is away is no trouble as long as others are there.
            _ if error.is(Code::BrokerTransportFailure)
                || error.is(Code::Resolve)
                || error.is(Code::OperationTimedOut) =>
            {
                debug!(topic = self.topic, %error, "librdkafka met an error");
            }
            // Brokers may be told of new credentials one after another, and a topic that is said to be
            // unknown is looked at before it is believed.
            _ if error.is(Code::Authentication) => self.tell_error(error.retriable(what)),
            Class::Retriable | Class::UnknownTopic | Class::OutOfRange | Class::TopicExists => {
                self.tell_error(error.retriable(what));
            }
            Class::Fatal => self.tell_error(error.fatal(what)),
        }
    }

    fn tell(&self, delivery: Delivery) {
        self.handover.put(&delivery);
        // A worker that is gone is noticed where its commands are taken.
        let _ = self.told.send(Ok(delivery));
    }

    fn tell_error(&self, error: BrokerError) {
        let _ = self.told.send(Err(error));
    }

    fn commit(&mut self, now: Instant) {
        // While librdkafka waits for a commit, it starts no partition: one at a time, and none in a rebalance.
        if now >= self.commit_at && !self.committing && self.unreleased.is_empty() {
            self.commit_at = now + COMMIT_INTERVAL;
            self.commit_now();
        }
    }

    fn commit_now(&mut self) {
        let owned = |(number, _): &(&i32, &i64)| self.partitions.contains_key(number);
        let places: Vec<(i32, i64)> = self.reported.iter().filter(owned).map(|(n, o)| (*n, *o)).collect();
        self.reported.clear();
        if places.is_empty() || self.committing {
            return;
        }
        match self.client.commit(&self.topic, &places) {
            Ok(()) => self.committing = true,
            Err(error) => debug!(topic = self.topic, %error, "positions were not committed to the group"),
        }
    }

    /// Leaves the group, in order if the deadline allows.
    fn leave(&mut self, deadline: Instant) {
        self.leaving = true;
        self.take_events();
        self.commit_now();
        if !self.unreleased.is_empty() {
            self.answer_revocation();
        }
        if let Err(error) = self.client.close(&self.queue) {
            debug!(topic = self.topic, %error, "the group was not left");
            return;
        }
        while !self.client.closed() {
            self.take_events();
            if Instant::now() >= deadline {
                warn!(topic = self.topic, "the group was not left in time, it will find out by itself");
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// The worker is gone.
struct Gone;
