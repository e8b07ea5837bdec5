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
use crate::broker::kafka::handover::Handover;
use crate::broker::kafka::member::{Command, Member};
use crate::broker::kafka::raw::{Client, Queue};
use crate::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, LogOffsets};

/// How often a poll that has nothing to deliver looks after the thread.
const LOOK: Duration = Duration::from_millis(500);
/// A thread that was silent for so long is stuck.
const SILENT: Duration = Duration::from_secs(30);
/// How often one quiet partition is looked at: whether the log has something that does not come.
const QUIET: Duration = Duration::from_secs(60);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(10);

/// The member of a group in Kafka.
///
/// Dropping it without [`Consumer::leave`] ends its thread and its connections, and says nothing to the group.
#[derive(Debug)]
pub struct KafkaConsumer {
    broker: KafkaBroker,
    topic: String,
    commands: std_mpsc::Sender<Command>,
    told: mpsc::UnboundedReceiver<Result<Delivery, BrokerError>>,
    handover: Arc<Handover>,
    /// The starts that count.
    started: BTreeMap<i32, Started>,
    warned: bool,
    /// The look at a quiet partition that is under way.
    look: Option<(Assignment, i64, Look)>,
    look_at: Instant,
    looked_last: i32,
}

/// A question for the ends of a log.
type Look = JoinHandle<Result<LogOffsets, BrokerError>>;

#[derive(Debug)]
struct Started {
    assignment: Assignment,
    next_offset: i64,
    paused: bool,
    /// When something was delivered last, or the start.
    heard: Instant,
}

impl KafkaConsumer {
    pub(super) fn join(
        broker: &KafkaBroker,
        group: &str,
        topic: &str,
        partitions: usize,
    ) -> Result<Self, KafkaError> {
        let options = broker.options();
        let client = Arc::new(Client::consumer(&options.member(group, partitions))?);
        let queue = Queue::of_consumer(&client)?;
        client.subscribe(topic)?;
        let (commands, to_take) = std_mpsc::channel();
        let (tell, told) = mpsc::unbounded_channel();
        let handover = Arc::new(Handover::new());
        let member = Member::new(client, queue, topic, options, to_take, tell, handover.clone());
        let thread = thread::Builder::new()
            .name("kafka consumer".to_owned())
            .spawn(move || member.run())
            .map_err(|error| KafkaError::invalid(error.to_string()))?;
        handover.wakes(thread.thread().clone());
        Ok(Self {
            broker: broker.clone(),
            topic: topic.to_owned(),
            commands,
            told,
            handover,
            started: BTreeMap::new(),
            warned: false,
            look: None,
            look_at: Instant::now() + QUIET,
            looked_last: -1,
        })
    }

    fn say(&self, command: Command) {
        // A thread that is gone is noticed by the next poll.
        let _ = self.commands.send(command);
        self.handover.wake();
    }

    /// True if the delivery is of a start that counts, or of none.
    fn counts(&mut self, delivery: &Delivery) -> bool {
        let (assignment, reads_on) = match delivery {
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
                started.heard = Instant::now();
                match reads_on {
                    Some(next_offset) => started.next_offset = next_offset,
                    None => started.paused = true,
                }
                true
            }
            _ => false,
        }
    }

    /// Looks whether the thread comes back from librdkafka, and whether a quiet partition should be quiet.
    async fn look_after(&mut self) {
        let silent = self.handover.silent_for();
        if silent > SILENT && !self.warned {
            warn!(
                topic = self.topic,
                seconds = silent.as_secs(),
                "the Kafka client does not come back from a call"
            );
        }
        self.warned = silent > SILENT;
        if let Some((assignment, next_offset, look)) = self.look.take_if(|(_, _, look)| look.is_finished())
            && let Ok(Ok(log)) = look.await
            && let Some(started) = self.started.get(&assignment.partition)
            && (started.assignment, started.next_offset, started.paused) == (assignment, next_offset, false)
            && log.end > next_offset
        {
            let seconds = started.heard.elapsed().as_secs();
            warn!(
                topic = self.topic,
                partition = assignment.partition,
                next_offset,
                log_end = log.end,
                seconds,
                "the log has more, but nothing was delivered for a while"
            );
        }
        if self.look.is_none() && self.look_at <= Instant::now() {
            self.look_at = Instant::now() + QUIET;
            let quiet = |(_, started): &(&i32, &Started)| !started.paused && started.heard.elapsed() >= QUIET;
            let after = self.started.range(self.looked_last.saturating_add(1)..).find(quiet);
            let next = after.or_else(|| self.started.iter().find(quiet));
            if let Some((partition, Started { assignment, next_offset, .. })) = next {
                let (broker, topic, partition) = (self.broker.clone(), self.topic.clone(), *partition);
                self.looked_last = partition;
                let look = tokio::spawn(async move { broker.offsets(&topic, partition).await });
                self.look = Some((*assignment, *next_offset, look));
            }
        }
    }
}

impl Consumer for KafkaConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            self.handover.poll();
            match timeout(LOOK, self.told.recv()).await {
                Ok(Some(Ok(delivery))) => {
                    self.handover.take(&delivery);
                    if self.counts(&delivery) {
                        return Ok(delivery);
                    }
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => {
                    let what = format!("read topic {}: the client's thread has ended", self.topic);
                    return Err(BrokerError::Fatal { what, cause: None });
                }
                Err(_) => self.look_after().await,
            }
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let heard = Instant::now();
        let started = Started { assignment, next_offset: offset, paused: false, heard };
        self.started.insert(assignment.partition, started);
        self.say(Command::Start(assignment, offset));
    }

    fn pause(&mut self, partition: i32) {
        if let Some(started) = self.started.get_mut(&partition) {
            started.paused = true;
        }
        self.say(Command::Pause(partition));
    }

    fn resume(&mut self, partition: i32) {
        if let Some(started) = self.started.get_mut(&partition) {
            started.paused = false;
            started.heard = Instant::now();
        }
        self.say(Command::Resume(partition));
    }

    fn release(&mut self, partition: i32) {
        self.say(Command::Release(partition));
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.say(Command::Report(partition, next_offset));
    }

    async fn leave(self) {
        let (left, to_hear) = oneshot::channel();
        self.say(Command::Leave(Instant::now() + LEAVE, left));
        // The thread ends its wait by itself.
        let _ = to_hear.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::kafka::raw::mock::Cluster;
    use crate::broker::kafka::{GroupProtocol, KafkaOptions};

    /// `ConsumerGroupHeartbeat`, KIP-848.
    const HEARTBEAT: i16 = 68;

    /// How the membership in the group protocol `consumer` ends on this cluster.
    async fn ended(cluster: Cluster) -> BrokerError {
        let mut options = KafkaOptions::new(cluster.servers());
        options.group_protocol = GroupProtocol::Consumer;
        let broker = KafkaBroker::connect(&options).unwrap();
        let mut consumer = broker.subscribe("g", "t").await.unwrap();
        let polls = async {
            loop {
                match consumer.poll().await {
                    Err(error) if !error.is_retriable() => break error,
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(30), polls).await.expect("told")
    }

    #[tokio::test]
    async fn a_cluster_without_the_group_protocol_consumer_ends_the_membership_and_is_told_of() {
        for cluster in [Cluster::lacking(HEARTBEAT, "t"), Cluster::refusing(HEARTBEAT, "t")] {
            let error = ended(cluster).await;
            assert!(matches!(error, BrokerError::Unsupported { .. }), "{error:?}");
            let told = error.to_string();
            assert!(told.contains("KIP-848") && told.contains("classic") && !told.contains("  "), "{told}");
        }
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
        fn times(&self, words: &str) -> usize {
            String::from_utf8_lossy(&self.0.lock().unwrap()).matches(words).count()
        }
    }

    /// The thread of librdkafka's calls is played by the test: it says nothing, or it beats.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_come_back_from_a_call_is_named_once_and_again_after_it_came_back() {
        let logged = Logged::default();
        let writer = logged.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let broker = KafkaBroker::connect(&KafkaOptions::new("127.0.0.1:1")).unwrap();
        let (commands, _to_take) = std_mpsc::channel();
        let (_tell, told) = mpsc::unbounded_channel();
        let mut consumer = KafkaConsumer {
            broker,
            topic: "the topic".to_owned(),
            commands,
            told,
            handover: Arc::new(Handover::silent(SILENT - Duration::from_secs(20))),
            started: BTreeMap::new(),
            warned: false,
            look: None,
            look_at: Instant::now() + QUIET,
            looked_last: -1,
        };
        let words = "the Kafka client does not come back from a call";
        assert!(timeout(LOOK * 3, consumer.poll()).await.is_err());
        assert_eq!(logged.times(words), 0);
        for times in 1..3 {
            consumer.handover = Arc::new(Handover::silent(SILENT + Duration::from_secs(3)));
            assert!(timeout(LOOK * 5, consumer.poll()).await.is_err());
            assert_eq!(logged.times(words), times);
            assert_eq!(logged.times("topic=\"the topic\" seconds=3"), times);
            consumer.handover.beat();
            assert!(timeout(LOOK * 3, consumer.poll()).await.is_err());
            assert_eq!(logged.times(words), times);
        }
    }
}
