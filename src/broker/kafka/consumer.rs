//! The worker's side of a member of a group.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::broker::kafka::KafkaBroker;
use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::flow_control::FlowControl;
use crate::broker::kafka::member::{Command, Member, Memberships};
use crate::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, LogOffsets};

/// How often a poll without deliveries checks the thread.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A thread that has been inactive for this time is considered stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How often one partition without deliveries is checked for undelivered records.
const QUIET_INTERVAL: Duration = Duration::from_secs(60);
/// How long leaving the group may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The member of a group in Kafka.
///
/// Dropping it without [`Consumer::leave`] ends its thread and its connections without leaving the group.
#[derive(Debug)]
pub struct KafkaConsumer {
    broker: KafkaBroker,
    topic: String,
    commands: std_mpsc::Sender<Command>,
    deliveries: mpsc::UnboundedReceiver<Result<Delivery, BrokerError>>,
    flow: Arc<FlowControl>,
    /// The latest start of each partition.
    started: BTreeMap<i32, Started>,
    warned: bool,
    /// The check of a quiet partition in flight.
    end_request: Option<(Assignment, i64, EndRequest)>,
    next_check_at: Instant,
    last_checked: i32,
}

/// A request for the offsets of a log.
type EndRequest = JoinHandle<Result<LogOffsets, BrokerError>>;

#[derive(Debug)]
struct Started {
    assignment: Assignment,
    next_offset: i64,
    paused: bool,
    /// Time of the last delivery, or of the start.
    last_delivery: Instant,
}

impl KafkaConsumer {
    pub(super) fn join(
        broker: &KafkaBroker,
        group: &str,
        topic: &str,
        partitions: usize,
    ) -> Result<Self, KafkaError> {
        let options = broker.options();
        let memberships = Memberships::new(options.member(group, partitions), topic);
        let (commands, command_receiver) = std_mpsc::channel();
        let (sender, deliveries) = mpsc::unbounded_channel();
        let flow = Arc::new(FlowControl::new());
        let member = Member::join(memberships, topic, options, command_receiver, sender, flow.clone())?;
        let thread = thread::Builder::new()
            .name("kafka consumer".to_owned())
            .spawn(move || member.run())
            .map_err(|error| KafkaError::invalid(error.to_string()))?;
        flow.wakes(thread.thread().clone());
        Ok(Self {
            broker: broker.clone(),
            topic: topic.to_owned(),
            commands,
            deliveries,
            flow,
            started: BTreeMap::new(),
            warned: false,
            end_request: None,
            next_check_at: Instant::now() + QUIET_INTERVAL,
            last_checked: -1,
        })
    }

    fn send(&self, command: Command) {
        // A thread that has ended is noticed by the next poll.
        let _ = self.commands.send(command);
        self.flow.wake();
    }

    /// True if the delivery belongs to the latest start of its partition, or to no start at all.
    fn is_current(&mut self, delivery: &Delivery) -> bool {
        let (assignment, next_offset) = match delivery {
            Delivery::Assigned(_) => return true,
            Delivery::Revoked(partitions) | Delivery::Lost(partitions) => {
                self.started.retain(|partition, _| !partitions.contains(partition));
                return true;
            }
            Delivery::Records { assignment, next_offset, .. } => (assignment, Some(*next_offset)),
            Delivery::End { assignment, offset } => (assignment, Some(*offset)),
            Delivery::Failed { assignment, .. } => (assignment, None),
        };
        match self.started.get_mut(&assignment.partition) {
            Some(started) if started.assignment == *assignment => {
                started.last_delivery = Instant::now();
                match next_offset {
                    Some(next_offset) => started.next_offset = next_offset,
                    None => started.paused = true,
                }
                true
            }
            _ => false,
        }
    }

    /// Warns if the thread is stuck in librdkafka, or if a partition has records that are not delivered.
    async fn check_health(&mut self) {
        let silent = self.flow.silent_for();
        if silent > STUCK_AFTER && !self.warned {
            warn!(topic = self.topic, seconds = silent.as_secs(), "the Kafka client is stuck in a call");
        }
        self.warned = silent > STUCK_AFTER;
        if let Some((assignment, next_offset, end_request)) =
            self.end_request.take_if(|(_, _, end_request)| end_request.is_finished())
            && let Ok(Ok(log)) = end_request.await
            && let Some(started) = self.started.get(&assignment.partition)
            && (started.assignment, started.next_offset, started.paused) == (assignment, next_offset, false)
            && log.end > next_offset
        {
            let seconds = started.last_delivery.elapsed().as_secs();
            warn!(
                topic = self.topic,
                partition = assignment.partition,
                next_offset,
                log_end = log.end,
                seconds,
                "the log has more records, but none were delivered for a while"
            );
        }
        if self.end_request.is_none() && self.next_check_at <= Instant::now() {
            self.next_check_at = Instant::now() + QUIET_INTERVAL;
            let quiet = |(_, started): &(&i32, &Started)| {
                !started.paused && started.last_delivery.elapsed() >= QUIET_INTERVAL
            };
            let after = self.started.range(self.last_checked.saturating_add(1)..).find(quiet);
            let next = after.or_else(|| self.started.iter().find(quiet));
            if let Some((partition, Started { assignment, next_offset, .. })) = next {
                let (broker, topic, partition) = (self.broker.clone(), self.topic.clone(), *partition);
                self.last_checked = partition;
                let end_request = tokio::spawn(async move { broker.offsets(&topic, partition).await });
                self.end_request = Some((*assignment, *next_offset, end_request));
            }
        }
    }
}

impl Consumer for KafkaConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            self.flow.poll();
            match timeout(CHECK_INTERVAL, self.deliveries.recv()).await {
                Ok(Some(Ok(delivery))) => {
                    self.flow.take(&delivery);
                    if let Delivery::Assigned(partitions) = &delivery
                        && let Some(last) = partitions.iter().max()
                    {
                        self.broker.knows(&self.topic, last.saturating_add(1));
                    }
                    if self.is_current(&delivery) {
                        return Ok(delivery);
                    }
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => {
                    let what = format!("read topic {}: the client's thread has ended", self.topic);
                    return Err(BrokerError::Fatal { what, cause: None });
                }
                Err(_) => self.check_health().await,
            }
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let last_delivery = Instant::now();
        let started = Started { assignment, next_offset: offset, paused: false, last_delivery };
        self.started.insert(assignment.partition, started);
        self.send(Command::Start(assignment, offset));
    }

    fn pause(&mut self, partition: i32) {
        if let Some(started) = self.started.get_mut(&partition) {
            started.paused = true;
        }
        self.send(Command::Pause(partition));
    }

    fn resume(&mut self, partition: i32) {
        if let Some(started) = self.started.get_mut(&partition) {
            started.paused = false;
            started.last_delivery = Instant::now();
        }
        self.send(Command::Resume(partition));
    }

    fn release(&mut self, partition: i32) {
        self.send(Command::Release(partition));
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.send(Command::Report(partition, next_offset));
    }

    async fn leave(self) {
        let (confirm, confirmed) = oneshot::channel();
        self.send(Command::Leave(Instant::now() + LEAVE_TIMEOUT, confirm));
        // The thread observes the timeout itself.
        let _ = confirmed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::kafka::raw::mock::{Cluster, Response};
    use crate::broker::kafka::{GroupProtocol, KafkaOptions};

    /// `ConsumerGroupHeartbeat`, KIP-848.
    const HEARTBEAT: i16 = 68;

    /// A member in the group protocol `consumer`.
    async fn member(cluster: &Cluster) -> KafkaConsumer {
        let mut options = KafkaOptions::new(cluster.servers());
        options.group_protocol = GroupProtocol::Consumer;
        let broker = KafkaBroker::connect(&options).unwrap();
        broker.subscribe("g", "t").await.unwrap()
    }

    /// The next delivery or error; fails after half a minute.
    async fn next(consumer: &mut KafkaConsumer) -> Result<Delivery, BrokerError> {
        timeout(Duration::from_secs(30), consumer.poll()).await.expect("a delivery")
    }

    /// The error that ends the membership in the group protocol `consumer` on this cluster.
    async fn ended(cluster: Cluster) -> BrokerError {
        let mut consumer = member(&cluster).await;
        let polls = async {
            loop {
                match consumer.poll().await {
                    Err(error) if !error.is_retriable() => break error,
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(30), polls).await.expect("the membership ends")
    }

    #[tokio::test]
    async fn a_cluster_without_the_group_protocol_consumer_ends_the_membership_and_is_reported() {
        let unsupported = Response::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION;
        for cluster in [Cluster::lacking(HEARTBEAT, "t"), Cluster::refusing(HEARTBEAT, "t", unsupported)] {
            let error = ended(cluster).await;
            assert!(matches!(error, BrokerError::Unsupported { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("KIP-848") && text.contains("classic") && !text.contains("  "), "{text}");
        }
    }

    #[tokio::test]
    async fn a_membership_that_ends_is_followed_by_a_new_one_after_its_partitions_are_reported_as_lost() {
        for error in [
            Response::RD_KAFKA_RESP_ERR_INVALID_REQUEST,
            Response::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
            Response::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND,
        ] {
            let cluster = Cluster::new("t");
            let mut consumer = member(&cluster).await;
            assert!(
                matches!(next(&mut consumer).await, Ok(Delivery::Assigned(partitions)) if partitions == [0])
            );
            cluster.fail(HEARTBEAT, &[error]);
            assert!(matches!(next(&mut consumer).await, Ok(Delivery::Lost(partitions)) if partitions == [0]));
            match next(&mut consumer).await {
                Err(error) => assert!(error.is_retriable(), "{error:?}"),
                other => panic!("{other:?}"),
            }
            let mut again = next(&mut consumer).await;
            // The group may assign it after the former member's session only.
            while matches!(&again, Ok(Delivery::Assigned(partitions)) if partitions.is_empty()) {
                again = next(&mut consumer).await;
            }
            assert!(matches!(&again, Ok(Delivery::Assigned(partitions)) if *partitions == [0]), "{again:?}");
        }
    }

    #[tokio::test]
    async fn an_error_that_a_new_membership_would_get_again_ends_the_worker() {
        let cluster =
            Cluster::refusing(HEARTBEAT, "t", Response::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
        let error = ended(cluster).await;
        assert!(
            matches!(&error, BrokerError::Refused { reason, .. } if reason.contains("Read on the group")),
            "{error:?}"
        );
        let error =
            ended(Cluster::refusing(HEARTBEAT, "t", Response::RD_KAFKA_RESP_ERR_INVALID_REQUEST)).await;
        assert!(matches!(error, BrokerError::Fatal { .. }), "{error:?}");
    }

    /// What was logged on this thread.
    #[derive(Clone, Default)]
    struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Logged {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Logged {
        fn times(&self, message: &str) -> usize {
            String::from_utf8_lossy(&self.0.lock().unwrap()).matches(message).count()
        }
    }

    /// The test replaces the thread that calls librdkafka, which is inactive or sends heartbeats.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_stuck_in_a_call_is_reported_once_and_again_after_it_recovered() {
        let logged = Logged::default();
        let writer = logged.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let broker = KafkaBroker::connect(&KafkaOptions::new("127.0.0.1:1")).unwrap();
        let (commands, _command_receiver) = std_mpsc::channel();
        let (_sender, deliveries) = mpsc::unbounded_channel();
        let mut consumer = KafkaConsumer {
            broker,
            topic: "the topic".to_owned(),
            commands,
            deliveries,
            flow: Arc::new(FlowControl::silent(STUCK_AFTER - Duration::from_secs(20))),
            started: BTreeMap::new(),
            warned: false,
            end_request: None,
            next_check_at: Instant::now() + QUIET_INTERVAL,
            last_checked: -1,
        };
        let message = "the Kafka client is stuck in a call";
        assert!(timeout(CHECK_INTERVAL * 3, consumer.poll()).await.is_err());
        assert_eq!(logged.times(message), 0);
        for times in 1..3 {
            consumer.flow = Arc::new(FlowControl::silent(STUCK_AFTER + Duration::from_secs(3)));
            assert!(timeout(CHECK_INTERVAL * 5, consumer.poll()).await.is_err());
            assert_eq!(logged.times(message), times);
            assert_eq!(logged.times("topic=\"the topic\" seconds=3"), times);
            consumer.flow.beat();
            assert!(timeout(CHECK_INTERVAL * 3, consumer.poll()).await.is_err());
            assert_eq!(logged.times(message), times);
        }
    }
}
