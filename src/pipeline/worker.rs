//! The worker: a member of the group. It passes each partition's deliveries to the assignment of the current
//! incarnation and keeps polling whatever the assignments do, so that the group does not expel it when the store is
//! slow.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::pin::pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::binding::{self, BindingError};
use crate::broker::{Assignment, Broker, BrokerError, Consumer, Delivery};
use crate::decode::Decoder;
use crate::error::chain;
use crate::pipeline::assignment::Assigned;
use crate::pipeline::error::PipelineError;
use crate::pipeline::inbox::{Chunk, Inbox, Sender, inbox};
use crate::pipeline::messages::{AssignmentEvent, End};
use crate::pipeline::polling::Polling;
use crate::pipeline::retry::{Episode, Retry};
use crate::pipeline::{Options, Summary};
use crate::store::{Binding, Progress, Store};

/// Time between two reads of the progress of other workers, in a run that ends at the log's end.
const END_CHECK: std::time::Duration = std::time::Duration::from_millis(500);

/// A partition that this worker owns.
#[derive(Debug)]
struct Slot {
    assignment: Assignment,
    /// `None` once the assignment is to end.
    inbox: Option<Sender>,
    end: watch::Sender<End>,
    /// True if the group has revoked it: it is released when the assignment has ended.
    release: bool,
}

/// How an assignment ended.
#[derive(Debug)]
enum Ended {
    /// What it folded is durable.
    Done,
    /// Its deadline passed, or its partition was lost.
    Abandoned,
    /// It failed with this error.
    Failed(PipelineError),
}

type Running<'a> = FuturesUnordered<BoxFuture<'a, (Assignment, Ended)>>;

pub(super) struct Worker<'a, B: Broker, S> {
    broker: &'a B,
    store: &'a S,
    options: &'a Options,
    binding: &'a Binding,
    retry: Retry,
    rng: ChaCha8Rng,
    consumer: B::Consumer,
    events: mpsc::UnboundedSender<AssignmentEvent>,
    slots: BTreeMap<i32, Slot>,
    running: Running<'a>,
    incarnation: u64,
    /// Partitions whose current incarnation has been delivered records or an end.
    delivered: BTreeSet<i32>,
    /// True once the group has assigned partitions to this worker, or none.
    joined: bool,
    /// Logs consecutive failed checks of the topic.
    topic_check_failing: Episode,
    summary: Summary,
    /// Set when the worker ends, with the error if there is one.
    ending: Option<Result<(), PipelineError>>,
}

impl<'a, B: Broker, S: Store> Worker<'a, B, S> {
    #[allow(clippy::too_many_arguments, reason = "everything that a worker uses, named once")]
    pub(super) fn new(
        broker: &'a B,
        store: &'a S,
        options: &'a Options,
        binding: &'a Binding,
        retry: Retry,
        rng: ChaCha8Rng,
        consumer: B::Consumer,
        events: mpsc::UnboundedSender<AssignmentEvent>,
    ) -> Self {
        Self {
            broker,
            store,
            options,
            binding,
            retry,
            rng,
            consumer,
            events,
            slots: BTreeMap::new(),
            running: FuturesUnordered::new(),
            incarnation: 0,
            delivered: BTreeSet::new(),
            joined: false,
            topic_check_failing: Episode::default(),
            summary: Summary::default(),
            ending: None,
        }
    }

    /// Runs until it is stopped, reaches the log's end, or fails. `ends` are the offsets to reach, if the options say
    /// so.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<AssignmentEvent>,
        ends: BTreeMap<i32, i64>,
        stop: impl Future<Output = ()>,
    ) -> Result<Summary, PipelineError> {
        let retry = self.retry.clone();
        let mut stop = pin!(stop);
        let mut topic_check = FuturesUnordered::new();
        let mut topic_check_at = Instant::now() + self.options.topic_check_interval;
        let mut end_check = FuturesUnordered::new();
        let mut end_check_at = Instant::now() + END_CHECK;
        let mut polling = Polling::new(&retry);
        loop {
            if self.options.until_end && self.ending.is_none() && self.has_reached(&ends) {
                self.end(Ok(()));
            }
            if self.ending.is_some() && self.running.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = &mut stop, if self.ending.is_none() => {
                    info!("stopping");
                    self.end(Ok(()));
                }
                Some(event) = events.recv() => self.handle(event),
                Some((assignment, ended)) = self.running.next(), if !self.running.is_empty() => {
                    // Events from before it ended are handled first.
                    while let Ok(event) = events.try_recv() {
                        self.handle(event);
                    }
                    self.assignment_ended(assignment, ended);
                }
                Some(checked) = topic_check.next(), if !topic_check.is_empty() => {
                    topic_check_at = Instant::now() + self.options.topic_check_interval;
                    self.topic_checked(checked);
                }
                () = sleep_until(topic_check_at), if topic_check.is_empty() => {
                    topic_check.push(binding::check_topic(self.broker, self.binding));
                }
                Some(all) = end_check.next(), if !end_check.is_empty() => {
                    end_check_at = Instant::now() + END_CHECK;
                    self.record_progress_of_others(all);
                }
                () = sleep_until(end_check_at), if self.options.until_end && end_check.is_empty() => {
                    end_check.push(progress_of_all(self.store, &retry));
                }
                () = wait_until(polling.paused_until()), if polling.paused_until().is_some() => {}
                () = wait_until(polling.recovered_at()), if polling.recovered_at().is_some() => polling.recovered(),
                delivery = self.consumer.poll(), if polling.paused_until().is_none() => match delivery {
                    Ok(delivery) => {
                        polling.recovered();
                        self.deliver(delivery);
                    }
                    Err(error) if error.is_retriable() && polling.failed(|| chain(&error)) => {
                        topic_check_at = Instant::now();
                    }
                    Err(error) => self.end(Err(retry.broker_error(error))),
                },
            }
        }
        if timeout(self.options.stop_deadline, self.consumer.leave()).await.is_err() {
            warn!("the broker did not confirm that this worker has left its group");
        }
        match self.ending {
            Some(Err(error)) => Err(error),
            _ => Ok(self.summary),
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Assigned(partitions) => {
                info!(?partitions, "assigned");
                self.joined = true;
                for partition in partitions {
                    self.begin(partition, None);
                }
            }
            Delivery::Revoked(partitions) => {
                info!(?partitions, "revoked");
                for partition in partitions {
                    match self.slots.get_mut(&partition) {
                        Some(slot) => {
                            slot.release = true;
                            slot.finish(self.options);
                        }
                        None => self.consumer.release(partition),
                    }
                }
            }
            Delivery::Lost(partitions) => {
                warn!(?partitions, "lost");
                for partition in partitions {
                    if let Some(slot) = self.slots.remove(&partition) {
                        slot.end.send_replace(End::Now);
                    }
                }
            }
            Delivery::Records { assignment, records, next_offset } => {
                self.forward(assignment, Chunk::Records { records, next_offset });
            }
            Delivery::End { assignment, offset } => self.forward(assignment, Chunk::End { offset }),
            Delivery::Failed { assignment, offset, error } => self.delivery_failed(assignment, offset, error),
        }
    }

    /// Passes a chunk to the assignment that it belongs to. A chunk of an older incarnation is dropped: offsets may be
    /// sparse, so the gap that it would leave in the newer one could not be detected.
    fn forward(&mut self, assignment: Assignment, chunk: Chunk) {
        match self.slot(assignment) {
            Some(Slot { inbox: Some(inbox), .. }) => {
                if inbox.send(chunk) {
                    self.consumer.pause(assignment.partition);
                }
                self.delivered.insert(assignment.partition);
            }
            _ => debug!(?assignment, "dropped records for an assignment that has ended"),
        }
    }

    fn delivery_failed(&mut self, assignment: Assignment, offset: i64, error: BrokerError) {
        if self.slot(assignment).is_none() || self.ending.is_some() {
            return;
        }
        let refused_at = match &error {
            BrokerError::OutOfRange { .. } => Some(offset),
            error if error.is_retriable() => None,
            _ => return self.end(Err(self.retry.broker_error(error))),
        };
        warn!(?assignment, offset, error = chain(&error), "delivery failed; restarting at progress");
        // A revoked partition is not restarted: its next owner will get the same error.
        if self.slots.get(&assignment.partition).is_some_and(|slot| !slot.release) {
            self.begin(assignment.partition, refused_at);
        }
    }

    /// Starts a new incarnation of a partition; an older one ends immediately.
    fn begin(&mut self, partition: i32, refused_at: Option<i64>) {
        if self.ending.is_some() {
            return;
        }
        self.incarnation += 1;
        self.delivered.remove(&partition);
        let assignment = Assignment { partition, incarnation: self.incarnation };
        let (sender, inbox) = inbox(self.options.prefetch_bytes);
        let (end, end_seen) = watch::channel(End::No);
        let slot = Slot { assignment, inbox: Some(sender), end, release: false };
        if let Some(old) = self.slots.insert(partition, slot) {
            old.end.send_replace(End::Now);
        }
        let assigned = Assigned {
            assignment,
            broker: self.broker,
            store: self.store,
            options: self.options,
            binding: self.binding,
            decoder: Decoder {
                window: self.binding.window,
                max_mutation_bytes: usize::try_from(self.binding.max_mutation_bytes).unwrap_or(usize::MAX),
            },
            retry: self.retry.clone(),
            events: self.events.clone(),
            end: end_seen,
        };
        self.running.push(Box::pin(run_until_ended(assigned, inbox, refused_at, self.rng.next_u64())));
    }

    fn slot(&self, assignment: Assignment) -> Option<&Slot> {
        self.slots.get(&assignment.partition).filter(|slot| slot.assignment == assignment)
    }

    fn handle(&mut self, event: AssignmentEvent) {
        match event {
            AssignmentEvent::Start(assignment, offset) => {
                if self.slot(assignment).is_some_and(|slot| slot.inbox.is_some()) {
                    info!(?assignment, offset, "starting");
                    self.consumer.start(assignment, offset);
                }
            }
            AssignmentEvent::Resume(assignment) => {
                // Without an inbox nothing more is wanted.
                let inbox = self.slot(assignment).and_then(|slot| slot.inbox.as_ref());
                if inbox.is_some_and(Sender::may_resume) {
                    self.consumer.resume(assignment.partition);
                }
            }
            AssignmentEvent::Written { events, dead_letters, alerts } => {
                self.summary.records += events + dead_letters;
                self.summary.events += events;
                self.summary.dead_letters += dead_letters;
                self.summary.alerts += alerts;
                self.summary.batches += 1;
            }
            AssignmentEvent::Durable(assignment, next_offset) => {
                if self.slot(assignment).is_some() {
                    self.summary.next_offsets.insert(assignment.partition, next_offset);
                    self.consumer.report(assignment.partition, next_offset);
                }
            }
        }
    }

    fn assignment_ended(&mut self, assignment: Assignment, ended: Ended) {
        debug!(?assignment, ?ended, "assignment ended");
        if self.slot(assignment).is_none() {
            return;
        }
        if let Some(slot) = self.slots.remove(&assignment.partition)
            && slot.release
        {
            self.consumer.release(assignment.partition);
        }
        if let Ended::Failed(error) = ended {
            self.end(Err(error));
        }
    }

    fn topic_checked(&mut self, checked: Result<crate::broker::Topic, BindingError>) {
        let now = Instant::now();
        match checked {
            Ok(_) => {
                if let Some(failed_for) = self.topic_check_failing.recovered(now) {
                    let (topic, seconds) = (&self.binding.topic, failed_for.as_secs());
                    info!(topic, seconds, "the topic can be checked again");
                }
            }
            Err(error) if error.is_refusal() => self.end(Err(error.into())),
            // It is unknown whether the topic is still the same one; the next check may determine it.
            Err(error) => {
                if let Some(failing_for) = self.topic_check_failing.failed(now) {
                    let (topic, seconds) = (&self.binding.topic, failing_for.as_secs());
                    let last_error = chain(&error);
                    warn!(topic, seconds, last_error, "the topic could not be checked; retrying");
                }
            }
        }
    }

    /// Ends the worker: requests in flight may finish until the deadline. The first error is kept.
    fn end(&mut self, result: Result<(), PipelineError>) {
        match &mut self.ending {
            None => self.ending = Some(result),
            Some(ending) => {
                if ending.is_ok() && result.is_err() {
                    *ending = result;
                }
            }
        }
        for slot in self.slots.values_mut() {
            slot.finish(self.options);
        }
    }

    /// True if every partition is durable up to its end. Of its own partitions the broker must have delivered something
    /// first: a log that ends before progress must be refused, not treated as done.
    fn has_reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        self.joined
            && ends.iter().all(|(partition, end)| {
                let durable = self.summary.next_offsets.get(partition);
                let begun = !self.slots.contains_key(partition) || self.delivered.contains(partition);
                begun && durable.is_some_and(|offset| offset >= end)
            })
    }

    /// Records the progress of the partitions of other workers. A run until the log's end depends on it, so a failure
    /// is an error unless the run is ending anyway.
    fn record_progress_of_others(&mut self, all: Result<BTreeMap<i32, Progress>, PipelineError>) {
        let all = match all {
            Ok(all) => all,
            Err(error) if self.ending.is_none() => return self.end(Err(error)),
            Err(_) => return,
        };
        for (partition, progress) in all {
            if !self.slots.contains_key(&partition) {
                self.summary.next_offsets.insert(partition, progress.next_offset);
            }
        }
    }
}

/// Waits until this time, or forever.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Reads the progress of every partition, with retries until it is acknowledged.
async fn progress_of_all<S: Store>(
    store: &S,
    retry: &Retry,
) -> Result<BTreeMap<i32, Progress>, PipelineError> {
    let request = || "read the progress of all partitions".to_owned();
    retry.until_acknowledged(request, || store.progress_of_all()).await
}

impl Slot {
    /// Closes the inbox; what was folded may finish until the deadline.
    fn finish(&mut self, options: &Options) {
        if self.inbox.take().is_some() {
            self.end.send_replace(End::By(Instant::now() + options.stop_deadline));
        }
    }
}

/// Runs an assignment until it is done, fails, or must end.
async fn run_until_ended<B: Broker, S: Store>(
    assigned: Assigned<'_, B, S>,
    inbox: Inbox,
    refused_at: Option<i64>,
    hash_seed: u64,
) -> (Assignment, Ended) {
    let assignment = assigned.assignment;
    let mut end = assigned.end.clone();
    let out_of_time = async {
        loop {
            let requested = *end.borrow_and_update();
            match requested {
                End::Now => return,
                End::By(time) => tokio::select! {
                    () = sleep_until(time) => return,
                    changed = end.changed() => if changed.is_err() { return },
                },
                End::No => {
                    if end.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let ended = tokio::select! {
        // Polled first, so that nothing more is done for a partition that was lost.
        biased;
        () = out_of_time => Ended::Abandoned,
        result = assigned.run(inbox, refused_at, hash_seed) => match result {
            Ok(()) => Ended::Done,
            Err(error) => Ended::Failed(error),
        },
    };
    (assignment, ended)
}
