//! The one place that calls librdkafka's C functions.
//!
//! The safe crate has no topic id, drops the offset of an end of partition and the partition of a reset
//! error, always leaves the group when a consumer is dropped, hands messages over one by one, and leaves log lines
//! and errors of its administration client unread. So everything but the producer is made here.
//!
//! What every `unsafe` below relies on: a [`Client`] owns its `rd_kafka_t` until it is dropped, librdkafka is
//! thread safe, a [`Queue`] holds its client, and what librdkafka lends (lists, messages, texts of an event) is
//! copied before the event or message is destroyed.
#![allow(unsafe_code, reason = "this module is where it is allowed, see above")]

mod admin;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use rdkafka_sys as sys;

use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::log as lines;
use crate::broker::kafka::settings::{self, Properties};
use crate::event::Record;

/// An invalid offset, which librdkafka uses for "none".
const NO_OFFSET: i64 = -1001;

/// Milliseconds as librdkafka takes them.
pub(super) fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// Copies a text that librdkafka lends.
fn text(lent: *const c_char) -> String {
    if lent.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's texts end with a zero byte and live as long as the caller holds what lends them.
    unsafe { CStr::from_ptr(lent) }.to_string_lossy().into_owned()
}

/// A name for librdkafka. No topic, group or property has a zero byte in it; if one does, the name is not
/// known to anybody.
fn name(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::from(c"\u{fffd}"))
}

fn error_of(code: sys::rd_kafka_resp_err_t) -> Result<(), KafkaError> {
    match code as i32 {
        0 => Ok(()),
        code => Err(KafkaError::new(code, "")),
    }
}

/// Takes an error object over.
fn error_from(error: *mut sys::rd_kafka_error_t) -> Result<(), KafkaError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is ours, is read, and is destroyed once.
    unsafe {
        let code = sys::rd_kafka_error_code(error) as i32;
        let text = text(sys::rd_kafka_error_string(error));
        sys::rd_kafka_error_destroy(error);
        Err(KafkaError::new(code, text))
    }
}

/// A configuration that is not given to a client yet.
struct Conf(*mut sys::rd_kafka_conf_t);

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: a configuration that was given away was forgotten, so this one is ours.
        unsafe { sys::rd_kafka_conf_destroy(self.0) };
    }
}

impl Conf {
    fn new() -> Self {
        // SAFETY: makes a new object.
        Self(unsafe { sys::rd_kafka_conf_new() })
    }

    /// # Errors
    /// librdkafka's words, which hold the value.
    fn set(&mut self, property: &str, value: &str) -> Result<(), String> {
        let mut words = [0; 512];
        // SAFETY: all texts end with a zero byte, and the buffer's length is its length.
        let result = unsafe {
            sys::rd_kafka_conf_set(
                self.0,
                name(property).as_ptr(),
                name(value).as_ptr(),
                words.as_mut_ptr(),
                words.len(),
            )
        };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text(words.as_ptr())),
        }
    }
}

/// Whether librdkafka knows a property and takes its value.
///
/// # Errors
/// librdkafka's words, which hold the value.
pub(super) fn try_property(property: &str, value: &str) -> Result<(), String> {
    Conf::new().set(property, value)
}

/// A consumer of librdkafka. Dropping it ends it without leaving its group.
#[derive(Debug)]
pub(super) struct Client(NonNull<sys::rd_kafka_t>);

// SAFETY: librdkafka may be called from any thread, and from several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the client is ours and every queue is gone, for queues hold the client. A consumer that
        // was closed before has left; another one must not, for this is what a crash does.
        unsafe {
            sys::rd_kafka_destroy_flags(self.0.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

/// Receives librdkafka's log lines, on its own threads.
unsafe extern "C" fn log(
    _: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    lines::line(level, &text(facility), &text(line));
}

impl Client {
    /// Makes a consumer with these properties. It connects in the background.
    ///
    /// # Errors
    /// If librdkafka does not take the properties, or has no resources.
    pub(super) fn consumer(properties: &Properties) -> Result<Self, KafkaError> {
        let mut conf = Conf::new();
        for (property, value) in properties {
            if let Err(words) = conf.set(property, value) {
                let words = settings::without_secret(property, words);
                return Err(KafkaError::invalid(format!("{property}: {words}")));
            }
        }
        let mut words = [0; 512];
        // SAFETY: the configuration is ours; on success it belongs to the client and is forgotten here.
        unsafe {
            let events =
                sys::RD_KAFKA_EVENT_REBALANCE | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
            sys::rd_kafka_conf_set_events(conf.0, events);
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(log));
            let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            match NonNull::new(sys::rd_kafka_new(kind, conf.0, words.as_mut_ptr(), words.len())) {
                Some(client) => {
                    std::mem::forget(conf);
                    Ok(Self(client))
                }
                None => Err(KafkaError::invalid(text(words.as_ptr()))),
            }
        }
    }

    fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.0.as_ptr()
    }

    /// Joins the group and asks for a share of the topic.
    pub(super) fn subscribe(&self, topic: &str) -> Result<(), KafkaError> {
        let list = List::of(topic, &[(-1, NO_OFFSET)]);
        // SAFETY: the list is copied.
        error_of(unsafe { sys::rd_kafka_subscribe(self.ptr(), list.0) })
    }

    /// Adds partitions with their offsets to what is fetched. It also answers a rebalance that assigned.
    pub(super) fn incremental_assign(&self, topic: &str, places: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = List::of(topic, places);
        // SAFETY: the list is copied.
        error_from(unsafe { sys::rd_kafka_incremental_assign(self.ptr(), list.0) })
    }

    /// Takes partitions from what is fetched. It also answers a rebalance that revoked.
    pub(super) fn incremental_unassign(&self, topic: &str, partitions: &[i32]) -> Result<(), KafkaError> {
        let places: Vec<_> = partitions.iter().map(|partition| (*partition, NO_OFFSET)).collect();
        let list = List::of(topic, &places);
        // SAFETY: the list is copied.
        error_from(unsafe { sys::rd_kafka_incremental_unassign(self.ptr(), list.0) })
    }

    /// True if what is being revoked may be somebody else's already.
    pub(super) fn assignment_lost(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { sys::rd_kafka_assignment_lost(self.ptr()) != 0 }
    }

    /// Why the client has ended itself, if it has.
    pub(super) fn fatal_error(&self) -> Option<KafkaError> {
        let mut words = [0; 512];
        // SAFETY: the buffer's length is its length.
        let code = unsafe { sys::rd_kafka_fatal_error(self.ptr(), words.as_mut_ptr(), words.len()) } as i32;
        (code != 0).then(|| KafkaError::new(code, text(words.as_ptr())))
    }

    /// True if the group has this member.
    pub(super) fn is_member(&self) -> bool {
        // SAFETY: the metadata is ours, is read, and is destroyed once.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.ptr());
            if metadata.is_null() {
                return false;
            }
            let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            generation > 0
        }
    }

    /// Commits positions to the group; an event says how it went.
    pub(super) fn commit(&self, topic: &str, places: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = List::of(topic, places);
        // SAFETY: the list is copied.
        error_of(unsafe { sys::rd_kafka_commit(self.ptr(), list.0, 1) })
    }

    /// Begins to leave the group; rebalances go to `queue` until [`Client::closed`].
    pub(super) fn close(&self, queue: &Queue) -> Result<(), KafkaError> {
        // SAFETY: the queue outlives the closing, for it holds the client.
        error_from(unsafe { sys::rd_kafka_consumer_close_queue(self.ptr(), queue.queue) })
    }

    /// True when the group was left.
    pub(super) fn closed(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { sys::rd_kafka_consumer_closed(self.ptr()) != 0 }
    }

    /// Begins to fetch a partition outside any group; messages come to [`Queue::of_partition`].
    pub(super) fn fetch_start(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.with_topic(topic, |topic| {
            // SAFETY: the topic lives during the call.
            unsafe { sys::rd_kafka_consume_start(topic, partition, offset) }
        })
    }

    /// Ends what [`Client::fetch_start`] began, and waits until it has ended.
    pub(super) fn fetch_stop(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        // SAFETY: as above.
        self.with_topic(topic, |topic| unsafe { sys::rd_kafka_consume_stop(topic, partition) })
    }

    fn with_topic(
        &self,
        topic: &str,
        call: impl FnOnce(*mut sys::rd_kafka_topic_t) -> c_int,
    ) -> Result<(), KafkaError> {
        // SAFETY: the topic object is counted: ours is given back, and a fetch holds one of its own. The last
        // error is this thread's.
        unsafe {
            let topic = sys::rd_kafka_topic_new(self.ptr(), name(topic).as_ptr(), ptr::null_mut());
            if topic.is_null() {
                return error_of(sys::rd_kafka_last_error());
            }
            let failed = call(topic) != 0;
            let error = sys::rd_kafka_last_error();
            sys::rd_kafka_topic_destroy(topic);
            if failed { error_of(error) } else { Ok(()) }
        }
    }
}

/// A list of partitions with offsets.
struct List(*mut sys::rd_kafka_topic_partition_list_t);

impl List {
    fn of(topic: &str, places: &[(i32, i64)]) -> Self {
        let topic = name(topic);
        // SAFETY: the list is ours, and the element that an addition returns is valid until the next.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(places.len() as c_int);
            for (partition, offset) in places {
                let place = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), *partition);
                (*place).offset = *offset;
            }
            Self(list)
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is ours.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// What a consumer's own queue tells.
#[derive(Debug)]
pub(super) enum Event {
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
pub(super) enum Message {
    /// A record.
    Record(Record),
    /// The end of the partition, at this offset.
    End(i64),
    /// An error at this offset, if it is not negative.
    Error(KafkaError, i64),
}

/// A queue of librdkafka: a consumer's own, or that of one partition.
#[derive(Debug)]
pub(super) struct Queue {
    queue: *mut sys::rd_kafka_queue_t,
    /// Woken when the queue is no longer empty. librdkafka holds a pointer to it.
    waker: Option<Box<Thread>>,
    _client: Arc<Client>,
}

// SAFETY: queues may be used from any thread.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the callback is taken away under the queue's lock, under which it is also called, so nobody
        // uses the waker afterwards. The queue object is ours and counted.
        unsafe {
            if self.waker.is_some() {
                sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
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
    pub(super) fn of_consumer(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client lives.
        unsafe {
            error_of(sys::rd_kafka_poll_set_consumer(client.ptr()))?;
            let queue = sys::rd_kafka_queue_get_consumer(client.ptr());
            Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the consumer has no queue"))
        }
    }

    /// What librdkafka has for the whole client, without a group.
    pub(super) fn main(client: &Arc<Client>) -> Result<Self, KafkaError> {
        // SAFETY: the client lives.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client.ptr()) };
        Self::new(queue, client).ok_or_else(|| KafkaError::invalid("the client has no queue"))
    }

    /// The messages of one partition, which from now on do not go to the consumer's own queue.
    pub(super) fn of_partition(
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
    pub(super) fn wake(&mut self, thread: Thread) {
        let waker = Box::new(thread);
        // SAFETY: the waker lives in this object, at an address that does not move, until the callback is
        // taken away.
        unsafe {
            let pointer = ptr::from_ref::<Thread>(&waker).cast_mut().cast();
            sys::rd_kafka_queue_cb_event_enable(self.queue, Some(wake), pointer);
        }
        self.waker = Some(waker);
    }

    /// The next event, if there is one already.
    pub(super) fn event(&self) -> Option<Event> {
        // SAFETY: the event is ours, everything is copied out of it, and it is destroyed once.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, 0);
            if event.is_null() {
                return None;
            }
            let told = read_event(event);
            sys::rd_kafka_event_destroy(event);
            Some(told)
        }
    }

    /// Takes up to `max` messages, waiting `wait` for the first, and says how many there were.
    ///
    /// One by one, although librdkafka would hand over many at once: `rd_kafka_consume_batch_queue` of 2.12
    /// moves the position past an end of partition as if it were a record, so that after a pause, which every
    /// rebalance brings, the record that came there is skipped; and `rd_kafka_consume_callback_queue` hands over
    /// the markers of transactions as records.
    pub(super) fn take(&self, max: usize, wait: Duration, mut each: impl FnMut(Message)) -> usize {
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

#[cfg(test)]
pub(super) mod mock {
    //! A mock cluster that lacks a request, which the safe crate cannot say of every request.

    use super::*;

    pub(in crate::broker::kafka) struct Lacking {
        cluster: *mut sys::rd_kafka_mock_cluster_t,
        _client: Client,
    }

    impl Lacking {
        pub(in crate::broker::kafka) fn new(api: i16, topic: &str) -> Self {
            let client = Client::consumer(&Properties::new()).unwrap();
            // SAFETY: the cluster lives on the client, and is destroyed before it.
            unsafe {
                let cluster = sys::rd_kafka_mock_cluster_new(client.ptr(), 1);
                sys::rd_kafka_mock_topic_create(cluster, name(topic).as_ptr(), 1, 1);
                sys::rd_kafka_mock_set_apiversion(cluster, api, -1, -1);
                Self { cluster, _client: client }
            }
        }

        pub(in crate::broker::kafka) fn servers(&self) -> String {
            // SAFETY: the text lives as long as the cluster.
            text(unsafe { sys::rd_kafka_mock_cluster_bootstraps(self.cluster) })
        }
    }

    impl Drop for Lacking {
        fn drop(&mut self) {
            // SAFETY: the cluster is ours.
            unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) };
        }
    }
}
