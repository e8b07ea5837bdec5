//! librdkafka's queues, their events and messages.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Client, error_of, millis, name, text};
use crate::broker::kafka::error::KafkaError;
use crate::event::Record;

/// An event from a consumer's own queue.
#[derive(Debug)]
pub(in crate::broker::kafka) enum Event {
    /// The group assigns these partitions.
    Assign(Vec<i32>),
    /// The group revokes these partitions.
    Revoke(Vec<i32>),
    /// An error, of one partition or of the client.
    Error { error: KafkaError, fatal: bool, partition: Option<(i32, i64)> },
    /// The result of a commit: the positions that the group has accepted, or why it has accepted none.
    Committed(Result<Vec<(i32, i64)>, KafkaError>),
    /// Any other event; ignored.
    Other,
}

/// A message from a partition's queue.
#[derive(Debug)]
pub(in crate::broker::kafka) enum Message {
    /// A record.
    Record(Record),
    /// The end of the partition, at this offset.
    End(i64),
    /// An error at this offset, if it is not negative.
    Error(KafkaError, i64),
}

/// A librdkafka queue: a consumer's own, or that of one partition.
#[derive(Debug)]
pub(in crate::broker::kafka) struct Queue {
    pub(super) queue: *mut sys::rd_kafka_queue_t,
    /// The thread to wake when the queue is no longer empty. librdkafka has a copy of this pointer. It comes from a
    /// leaked `Box` and is freed in `drop`.
    waker: Option<NonNull<Thread>>,
    _client: Arc<Client>,
}

// SAFETY: queues and thread handles may be used from any thread.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the callback is called and removed under the queue's lock, so the waker is not used afterwards; it
        // comes from a leaked `Box`. We own a reference to the queue object.
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

    /// The consumer's own queue: rebalances and errors, including those of the whole client.
    pub(in crate::broker::kafka) fn of_consumer(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client is alive.
        unsafe {
            error_of(sys::rd_kafka_poll_set_consumer(client.ptr()))?;
            let queue = sys::rd_kafka_queue_get_consumer(client.ptr());
            Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the consumer has no queue"))
        }
    }

    /// The main queue: events of a client without a group.
    pub(in crate::broker::kafka) fn main(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client is alive.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client.ptr()) };
        Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the client has no queue"))
    }

    /// The queue of one partition, whose messages no longer go to the consumer's own queue.
    pub(in crate::broker::kafka) fn of_partition(
        client: &Arc<Client>,
        topic: &str,
        partition: i32,
    ) -> Result<Self, KafkaError> {
        // SAFETY: the client is alive. The call removes the queue's forwarding permanently: a later start of the
        // partition does not forward it again.
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
        // SAFETY: the waker lives until the callback is removed: from here on, only `drop` and the next call of this
        // function free it, each after the queue has dropped its pointer.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, Some(wake), waker.as_ptr().cast());
            if let Some(old) = self.waker.replace(waker) {
                drop(Box::from_raw(old.as_ptr()));
            }
        }
    }

    /// Whether there is an event to take.
    #[cfg(test)]
    pub(in crate::broker::kafka) fn has_events(&self) -> bool {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_length(self.queue) > 0 }
    }

    /// The next event, without waiting.
    pub(in crate::broker::kafka) fn event(&self) -> Option<Event> {
        // SAFETY: we own the event, everything is copied out of it, and it is destroyed once.
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

    /// Takes up to `max` messages, waiting `wait` for the first one, and returns their number.
    ///
    /// Takes them one by one, because librdkafka's batch calls are incorrect in 2.12: `rd_kafka_consume_batch_queue`
    /// moves the position past an end of partition as if it were a record, so that after a pause, which every
    /// rebalance causes, the record at that offset is skipped; and `rd_kafka_consume_callback_queue` returns
    /// transaction markers as records.
    pub(in crate::broker::kafka) fn take(
        &self,
        max: usize,
        wait: Duration,
        mut each: impl FnMut(Message),
    ) -> usize {
        for taken in 0..max {
            let wait = if taken == 0 { millis(wait) } else { 0 };
            // SAFETY: we own the message, and it is destroyed once, after it was read.
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
/// `event` is alive.
unsafe fn read_event(event: *mut sys::rd_kafka_event_t) -> Event {
    // SAFETY: each accessor is valid for all kinds of events, or for the kind that was matched.
    unsafe {
        match sys::rd_kafka_event_type(event) {
            sys::RD_KAFKA_EVENT_REBALANCE => {
                let list = elements(sys::rd_kafka_event_topic_partition_list(event));
                let partitions = list.into_iter().map(|element| element.partition).collect();
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
                let position = sys::rd_kafka_event_topic_partition(event);
                let partition = (!position.is_null()).then(|| ((*position).partition, (*position).offset));
                if !position.is_null() {
                    sys::rd_kafka_topic_partition_destroy(position);
                }
                let fatal = sys::rd_kafka_event_error_is_fatal(event) != 0;
                Event::Error { error, fatal, partition }
            }
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                let list = elements(sys::rd_kafka_event_topic_partition_list(event));
                let accepted = list.into_iter().filter(|element| element.error == 0);
                let accepted = accepted.map(|element| (element.partition, element.offset)).collect();
                Event::Committed(error_of(sys::rd_kafka_event_error(event)).map(|()| accepted))
            }
            _ => Event::Other,
        }
    }
}

/// An element of a list of partitions.
struct Element {
    partition: i32,
    offset: i64,
    /// Zero, or the code of an error.
    error: i32,
}

/// # Safety
/// `list` is null, or alive.
unsafe fn elements(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Element> {
    // SAFETY: the list has as many elements as it says. A code is read as a number, because a broker may send one that the
    // enumeration does not have.
    unsafe {
        if list.is_null() || (*list).elems.is_null() {
            return Vec::new();
        }
        let read = |element: *const sys::rd_kafka_topic_partition_t| Element {
            partition: (*element).partition,
            offset: (*element).offset,
            error: (&raw const (*element).err).cast::<i32>().read(),
        };
        (0..usize::try_from((*list).cnt).unwrap_or(0)).map(|index| read((*list).elems.add(index))).collect()
    }
}

/// # Safety
/// `message` is alive.
unsafe fn read_message(message: *const sys::rd_kafka_message_t) -> Message {
    // SAFETY: a message's bytes live as long as the message. The code is read as a number, because a broker may send a
    // code that the enumeration does not have.
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

/// A message with its error as a plain number; it has the layout of `rd_kafka_message_t`.
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
