//! Appends records with an idempotent producer that waits for every in-sync replica.
//!
//! After a topic was deleted and created again, another producer appends to it. librdkafka 2.12 notices that the topic's id
//! has changed, but keeps the leader epochs of the former partitions (`rd_kafka_topic_metadata_update`), and ignores leaders of
//! lower epochs as outdated (`rd_kafka_toppar_leader_update`). The epochs of a new topic begin at 0, so where the leader is
//! another broker, records would go to the former one, and time out, until the new epoch is as high as the old one was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as Safe;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};
use tracing::debug;

use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::log;
use crate::broker::{BrokerError, NewRecord};

/// Wait before a retry if librdkafka's queue is full.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);

/// The outcome of the records of one call.
#[derive(Debug, Default)]
pub(super) struct DeliveryReport {
    state: Mutex<State>,
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    positions: Vec<Option<(i32, i64)>>,
    pending: usize,
    error: Option<KafkaError>,
}

impl DeliveryReport {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives log lines and the outcome of records.
#[derive(Debug)]
pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::line(level as i32, facility, line);
    }

    fn error(&self, error: Safe, reason: &str) {
        debug!(error = %KafkaError::from_safe(&error), reason, "error of the producer");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<(usize, Arc<DeliveryReport>)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (index, report) = *opaque;
        let mut state = report.state();
        match result {
            Ok(message) => {
                if let Some(slot) = state.positions.get_mut(index) {
                    *slot = Some((message.partition(), message.offset()));
                }
            }
            Err((error, _)) => {
                state.error.get_or_insert(KafkaError::from_safe(error));
            }
        }
        state.pending -= 1;
        if state.pending == 0 {
            report.done.notify_one();
        }
    }
}

type Native = Arc<Elsewhere>;

/// librdkafka's producer. Whoever drops it last, a task that appends or the broker, does not wait for its threads.
pub(super) struct Elsewhere(Option<ThreadedProducer<Context>>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop_elsewhere(self.0.take());
    }
}

/// A producer, and the ids of the topics that it has appended to.
struct Made {
    native: Native,
    topics: BTreeMap<String, String>,
}

/// The producer, created on first use.
#[derive(Default)]
pub(super) struct Producer(Mutex<Option<Made>>);

impl Producer {
    /// The producer for a topic with this id, if it is known.
    fn get(&self, config: &ClientConfig, topic: &str, id: Option<String>) -> Result<Native, KafkaError> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A producer stays unusable after a fatal error (a gap in its sequence numbers).
        let is_usable = |producer: &Native| {
            producer.0.as_ref().is_some_and(|producer| producer.client().fatal_error().is_none())
        };
        if let Some(made) = made.as_mut().filter(|made| is_usable(&made.native)) {
            let same = id
                .as_ref()
                .is_none_or(|id| made.topics.entry(topic.to_owned()).or_insert_with(|| id.clone()) == id);
            if same {
                return Ok(made.native.clone());
            }
        }
        let producer: ThreadedProducer<Context> =
            config.create_with_context(Context).map_err(|error| KafkaError::from_safe(&error))?;
        let native = Arc::new(Elsewhere(Some(producer)));
        let topics = id.map(|id| (topic.to_owned(), id)).into_iter().collect();
        *made = Some(Made { native: native.clone(), topics });
        Ok(native)
    }

    /// Gives up a producer: the next append has another one.
    fn give_up(&self, native: &Native) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_some_and(|made| Arc::ptr_eq(&made.native, native)) {
            *made = None;
        }
    }

    /// Appends records to a topic that exists and has this id, if it is known.
    pub(super) async fn append(
        &self,
        config: &ClientConfig,
        topic: &str,
        id: Option<String>,
        records: Vec<NewRecord>,
    ) -> Result<Vec<(i32, i64)>, BrokerError> {
        let what = || format!("append to topic {topic}");
        let made = self.get(config, topic, id).map_err(|error| error.about(topic, what()))?;
        let Some(native) = &made.0 else {
            return Err(BrokerError::Fatal { what: what(), cause: None });
        };
        let report = Arc::new(DeliveryReport::default());
        report.state().positions = vec![None; records.len()];
        for (index, record) in records.into_iter().enumerate() {
            report.state().pending += 1;
            let mut opaque = Box::new((index, report.clone()));
            loop {
                let mut message = BaseRecord::with_opaque_to(topic, opaque).timestamp(record.timestamp);
                message.key = record.key.as_deref();
                message.payload = record.value.as_deref();
                message.partition = record.partition;
                match native.send::<[u8], [u8]>(message) {
                    Ok(()) => break,
                    Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                        opaque = back.delivery_opaque;
                        sleep(QUEUE_FULL_WAIT).await;
                    }
                    Err((error, _)) => {
                        report.state().pending -= 1;
                        let error = KafkaError::from_safe(&error);
                        if error.is(Code::UnknownPartition) {
                            let partition = record.partition.unwrap_or_default();
                            let what = format!("topic {topic} has no partition {partition}");
                            return Err(error.fatal(what));
                        }
                        return Err(error.about(topic, what()));
                    }
                }
            }
        }
        loop {
            // Created before the check, so that no notification between the two is missed.
            let done = report.done.notified();
            if report.state().pending == 0 {
                break;
            }
            done.await;
        }
        let mut state = report.state();
        if let Some(error) = state.error.take() {
            // After all brokers were unavailable for a while, an idempotent producer of librdkafka 2.12 may never send again: the
            // simulation has shown one whose records timed out for five minutes, although its partition had a leader.
            if error.is(Code::MessageTimedOut) {
                self.give_up(&made);
            }
            return Err(error.about(topic, what()));
        }
        Ok(state.positions.iter().copied().flatten().collect())
    }
}

/// Drops a value on a thread of its own, because dropping it waits for librdkafka's threads.
pub(super) fn drop_elsewhere<T: Send + 'static>(value: T) {
    end_elsewhere(move || drop(value));
}

/// Ends a client on a thread of its own, because that waits for librdkafka's threads.
pub(super) fn end_elsewhere(end: impl FnOnce() + Send + 'static) {
    // If no thread can be started, what `end` owns is dropped here, and the caller waits.
    let _ = std::thread::Builder::new().name("kafka end".to_owned()).spawn(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::kafka::KafkaOptions;

    #[test]
    fn one_producer_appends_until_a_topic_gets_another_id_or_it_is_given_up() {
        let config = KafkaOptions::new("127.0.0.1:1").producer();
        let producer = Producer::default();
        let get = |topic, id: &str| producer.get(&config, topic, Some(id.to_owned())).unwrap();
        let first = get("t", "1");
        assert!(Arc::ptr_eq(&first, &get("t", "1")));
        assert!(Arc::ptr_eq(&first, &get("another", "2")));
        let second = get("t", "3");
        assert!(!Arc::ptr_eq(&first, &second));
        for (topic, id) in [("t", "3"), ("another", "2")] {
            assert!(Arc::ptr_eq(&second, &get(topic, id)));
            assert!(Arc::ptr_eq(&second, &producer.get(&config, topic, None).unwrap()));
        }
        producer.give_up(&first);
        assert!(Arc::ptr_eq(&second, &get("t", "3")), "the first one was replaced already");
        producer.give_up(&second);
        assert!(!Arc::ptr_eq(&second, &get("t", "3")));
    }
}
