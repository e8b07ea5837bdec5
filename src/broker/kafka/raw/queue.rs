//! librdkafka's queues, and what comes out of them.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Client, error_of, millis, name, text};
use crate::broker::kafka::error::KafkaError;
use crate::event::Record;

/// What a consumer's own queue reports.
#[derive(Debug)]
pub(in crate::broker::kafka) enum Event {
    /// The group gives these partitions.
    Assign(Vec<i32>),
    /// The group takes these partitions.
    Revoke(Vec<i32>),
    /// Something went wrong, with a partition or at large.
    Error { error: KafkaError, fatal: bool, partition: Option<(i32, i64)> },
    /// A commit has ended.
    Committed(Result<(), KafkaError>),
    /// Nothing that matters here.
    Other,
}

/// One thing from a partition's queue.
#[derive(Debug)]
pub(in crate::broker::kafka) enum Message {
    /// A record.
    Record(Record),
    /// The end of the partition, at this offset.
    End(i64),
    /// An error at this offset, if it is not negative.
    Error(KafkaError, i64),
}

/// A queue of librdkafka: a consumer's own, or that of one partition.
#[derive(Debug)]
pub(in crate::broker::kafka) struct Queue {
    pub(super) queue: *mut sys::rd_kafka_queue_t,
    /// Woken when the queue is no longer empty. librdkafka holds a pointer to it, too; `Box::into_raw` made it, and
    /// `drop` takes it back.
    waker: Option<NonNull<Thread>>,
    _client: Arc<Client>,
}

// SAFETY: queues may be used from any thread, and so may the handle of a thread.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the callback is removed under the queue's lock, under which it is also called, so nobody
        // uses the waker afterwards, and it came from `Box::into_raw`. The queue object is ours and counted.
        unsafe {
            if let Some(waker) = self.waker.take() {
                sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
                drop(Box::from_raw(waker.as_ptr()));
            }
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Called by librdkafka when a queue is no longer empty, with the queue's lock held.
unsafe extern "C" fn wake(_: *mut sys::rd_kafka_t, thread: *mut c_void) {
    // SAFETY: the pointer is the waker of a queue that still has its callback.
    unsafe { &*thread.cast::<Thread>() }.unpark();
}

impl Queue {
    fn new(queue: *mut sys::rd_kafka_queue_t, client: &Arc<Client>) -> Option<Self> {
        (!queue.is_null()).then(|| Self { queue, waker: None, _client: client.clone() })
    }

    /// The consumer's own queue: rebalances and errors. Also those that librdkafka has for the whole client
    /// come here.
    pub(in crate::broker::kafka) fn of_consumer(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client lives.
        unsafe {
            error_of(sys::rd_kafka_poll_set_consumer(client.ptr()))?;
            let queue = sys::rd_kafka_queue_get_consumer(client.ptr());
            Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the consumer has no queue"))
        }
    }

    /// What librdkafka has for the whole client, without a group.
    pub(in crate::broker::kafka) fn main(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client lives.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client.ptr()) };
        Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the client has no queue"))
    }

    /// The messages of one partition, which from now on do not go to the consumer's own queue.
    pub(in crate::broker::kafka) fn of_partition(
        client: &Arc<Client>,
        topic: &str,
        partition: i32,
    ) -> Result<Self, KafkaError> {
        // SAFETY: the client lives. The queue remembers that its owner decided where it goes, so that a later
        // start does not lead it elsewhere.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client.ptr(), name(topic).as_ptr(), partition);
            let queue = Self::new(queue, client).ok_or_else(|| {
                KafkaError::new(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32, "")
            })?;
            sys::rd_kafka_queue_forward(queue.queue, ptr::null_mut());
            Ok(queue)
        }
    }

    /// Wakes the thread whenever the queue is no longer empty.
    pub(in crate::broker::kafka) fn wake(&mut self, thread: Thread) {
        let waker = NonNull::from(Box::leak(Box::new(thread)));
        // SAFETY: the waker lives until the callback is removed: from here on only `drop` and the next call of this
        // function free it, each after the queue has let go of it.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, Some(wake), waker.as_ptr().cast());
            if let Some(old) = self.waker.replace(waker) {
                drop(Box::from_raw(old.as_ptr()));
            }
        }
    }

    /// The next event, if there is one already.
    pub(in crate::broker::kafka) fn event(&self) -> Option<Event> {
        // SAFETY: the event is ours, everything is copied out of it, and it is destroyed once.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, 0);
            if event.is_null() {
                return None;
            }
            let outcome = read_event(event);
            sys::rd_kafka_event_destroy(event);
            Some(outcome)
        }
    }

    /// Takes up to `max` messages, waiting `wait` for the first, and says how many there were.
    ///
    /// One by one, although librdkafka would hand over many at once: `rd_kafka_consume_batch_queue` of 2.12
    /// moves the position past an end of partition as if it were a record, so that after a pause, which every
    /// rebalance brings, the record that came there is skipped; and `rd_kafka_consume_callback_queue` hands over
    /// the markers of transactions as records.
    pub(in crate::broker::kafka) fn take(
        &self,
        max: usize,
        wait: Duration,
        mut each: impl FnMut(Message),
    ) -> usize {
        for taken in 0..max {
            let wait = if taken == 0 { millis(wait) } else { 0 };
            // SAFETY: the message is ours, is read, and is destroyed once.
            unsafe {
                let message = sys::rd_kafka_consume_queue(self.queue, wait);
                if message.is_null() {
                    return taken;
                }
                each(read_message(message));
                sys::rd_kafka_message_destroy(message);
            }
        }
        max
    }
}

/// # Safety
/// The event lives.
unsafe fn read_event(event: *mut sys::rd_kafka_event_t) -> Event {
    // SAFETY: only accessors that every kind of event has, or this one.
    unsafe {
        match sys::rd_kafka_event_type(event) {
            sys::RD_KAFKA_EVENT_REBALANCE => {
                let list = sys::rd_kafka_event_topic_partition_list(event);
                let partitions = if list.is_null() || (*list).elems.is_null() {
                    Vec::new()
                } else {
                    let count = usize::try_from((*list).cnt).unwrap_or(0);
                    let elements = std::slice::from_raw_parts((*list).elems, count);
                    elements.iter().map(|place| place.partition).collect()
                };
                match sys::rd_kafka_event_error(event) {
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                        Event::Assign(partitions)
                    }
                    _ => Event::Revoke(partitions),
                }
            }
            sys::RD_KAFKA_EVENT_ERROR => {
                let code = sys::rd_kafka_event_error(event) as i32;
                let error = KafkaError::new(code, text(sys::rd_kafka_event_error_string(event)));
                let place = sys::rd_kafka_event_topic_partition(event);
                let partition = (!place.is_null()).then(|| ((*place).partition, (*place).offset));
                if !place.is_null() {
                    sys::rd_kafka_topic_partition_destroy(place);
                }
                let fatal = sys::rd_kafka_event_error_is_fatal(event) != 0;
                Event::Error { error, fatal, partition }
            }
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => Event::Committed(error_of(sys::rd_kafka_event_error(event))),
            _ => Event::Other,
        }
    }
}

/// # Safety
/// The message lives.
unsafe fn read_message(message: *const sys::rd_kafka_message_t) -> Message {
    // SAFETY: a message's bytes live as long as it does. The code is read as a number, for a broker may send
    // one that the enumeration does not have.
    unsafe {
        let code = (&raw const (*message).err).cast::<i32>().read();
        let m = &*message.cast::<Fields>();
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32 {
            return Message::End(m.offset);
        }
        if code != 0 {
            return Message::Error(KafkaError::new(code, text(m.payload.cast())), m.offset);
        }
        let bytes = |start: *mut c_void, length: usize| {
            (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec())
        };
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        Message::Record(Record {
            partition: m.partition,
            offset: m.offset,
            timestamp: sys::rd_kafka_message_timestamp(message, &raw mut kind),
            key: bytes(m.key, m.key_len),
            value: bytes(m.payload, m.len),
        })
    }
}

/// A message with its error as a plain number; the layout is `rd_kafka_message_t`'s.
#[repr(C)]
struct Fields {
    err: i32,
    rkt: *mut c_void,
    partition: i32,
    payload: *mut c_void,
    len: usize,
    key: *mut c_void,
    key_len: usize,
    offset: i64,
    private: *mut c_void,
}

const _: () = assert!(
    size_of::<Fields>() == size_of::<sys::rd_kafka_message_t>()
        && std::mem::offset_of!(Fields, offset) == std::mem::offset_of!(sys::rd_kafka_message_t, offset)
);
