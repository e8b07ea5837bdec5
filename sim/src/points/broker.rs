//! The points at which a worker hears from its broker, and starts or releases a partition.

use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use exactlyonce::guarantee::Finding;

use super::Process;
use crate::scenario::fault::{Moment, Step};
use crate::service::sabotage::SabotagedConsumer;

/// A broker whose messages to its consumer are points.
#[derive(Clone)]
pub(crate) struct ObservedBroker<B> {
    broker: B,
    process: Process,
}

impl<B: Broker> ObservedBroker<B> {
    pub fn new(broker: B, process: Process) -> Self {
        Self { broker, process }
    }
}

impl<B: Broker> Broker for ObservedBroker<B> {
    type Consumer = ObservedConsumer<SabotagedConsumer<B::Consumer>>;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.broker.topic(topic).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.broker.offsets(topic, partition).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.broker.fetch(topic, partition, offset, max_records, max_bytes).await
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        self.broker.guarantees(topic).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Self::Consumer, BrokerError> {
        let consumer = self.broker.subscribe(group, topic).await?;
        let consumer = SabotagedConsumer::new(consumer, self.process.context.clone());
        let membership = Membership::begin(self.process.clone());
        Ok(ObservedConsumer { consumer, process: self.process.clone(), membership, next: None })
    }
}

/// The oracles know of a consumer until it leaves, or is dropped.
struct Membership(Process);

impl Membership {
    fn begin(process: Process) -> Self {
        process.context.members().joins(process.caller);
        Self(process)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.context.members().ends(self.0.caller);
    }
}

/// A consumer of an [`ObservedBroker`].
pub(crate) struct ObservedConsumer<C> {
    consumer: C,
    process: Process,
    membership: Membership,
    /// A delivery whose point was reached. The future that polled for it may have been dropped since.
    next: Option<Result<Delivery, BrokerError>>,
}

impl<C: Consumer> Consumer for ObservedConsumer<C> {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        if self.next.is_none() {
            let mut delivery = self.consumer.poll().await;
            let mut partition = None;
            let step = match &mut delivery {
                Ok(Delivery::Assigned(partitions)) => {
                    self.process.hears("is assigned", partitions);
                    self.process.owns(partitions, true);
                    Some(Step::Assigned)
                }
                Ok(Delivery::Revoked(partitions)) => {
                    self.process.hears("must release", partitions);
                    self.process.gone(partitions);
                    self.process.owns(partitions, false);
                    Some(Step::Revoked)
                }
                Ok(Delivery::Lost(partitions)) => {
                    self.process.hears("has lost", partitions);
                    self.process.gone(partitions);
                    self.process.loses(partitions);
                    self.process.without(partitions, "lost");
                    Some(Step::Lost)
                }
                Ok(Delivery::Records { assignment, records, next_offset }) => {
                    self.process.delivered(*assignment, records, *next_offset);
                    // The oracles have seen the records as they are.
                    *assignment = self.process.relabelled(*assignment);
                    partition = Some(assignment.partition);
                    Some(Step::Delivered)
                }
                Ok(Delivery::End { assignment, offset }) => {
                    self.process.delivered(*assignment, &[], *offset);
                    None
                }
                _ => None,
            };
            self.next = Some(delivery);
            if let Some(step) = step {
                self.process.reached(step, Moment::Before, partition).await;
            }
        }
        match self.next.take() {
            Some(delivery) => delivery,
            None => std::future::pending().await,
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let Process { context, caller, .. } = &self.process;
        context.record(|recording| recording.assignment_starts(*caller, assignment.partition, offset));
        context.judge(|oracles| oracles.before_start(assignment.partition, offset).into_iter().collect());
        let elsewhere = self.process.starts_elsewhere(assignment.partition, offset);
        elsewhere.into_iter().for_each(|violation| context.violate(violation));
        let not_refused = self.process.starting(assignment.partition, offset);
        not_refused.into_iter().for_each(|violation| context.violate(violation));
        self.process.state().delivered.start(assignment, offset);
        self.process.asks(Step::Started, assignment.partition);
        self.consumer.start(assignment, offset);
    }

    fn pause(&mut self, partition: i32) {
        self.process.asks(Step::Paused, partition);
        self.consumer.pause(partition);
    }

    fn resume(&mut self, partition: i32) {
        self.process.asks(Step::Resumed, partition);
        self.consumer.resume(partition);
    }

    fn release(&mut self, partition: i32) {
        self.process.without(&[partition], "released");
        let given = self.process.context.members().released(self.process.caller, partition);
        // The partitions of a topic that was created again are other ones, which the group may give before the old ones are
        // released.
        let given = given.filter(|_| self.process.context.damage().refusable.is_none());
        given.into_iter().for_each(|violation| self.process.context.violate(violation));
        self.process.asks(Step::Released, partition);
        self.consumer.release(partition);
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        let ahead = self.process.reports(partition, next_offset);
        ahead.into_iter().for_each(|violation| self.process.context.violate(violation));
        self.consumer.report(partition, next_offset);
    }

    async fn leave(self) {
        drop(self.membership);
        self.consumer.leave().await;
    }
}
