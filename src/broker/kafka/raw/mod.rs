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
mod queue;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use admin::{Description, Resource, Setting};
pub(super) use queue::{Event, Message, Queue};
use rdkafka_sys as sys;

use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::log as lines;
use crate::broker::kafka::properties::{self, Properties};

/// How librdkafka 2.12 says that a broker lacks the request (`rd_kafka_ConsumerGroupHeartbeatRequest`).
const WITHOUT_HEARTBEAT: &str = "ConsumerGroupHeartbeatRequest not supported by broker";

/// The level of syslog from which on a line is for debugging only.
const INFO: c_int = 6;

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
/// known to librdkafka.
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
        // SAFETY: a configuration that was handed over was forgotten, so this one is ours.
        unsafe { sys::rd_kafka_conf_destroy(self.0) };
    }
}

impl Conf {
    fn new() -> Self {
        // SAFETY: makes a new object.
        Self(unsafe { sys::rd_kafka_conf_new() })
    }

    /// # Errors
    /// librdkafka's message, which hold the value.
    fn set(&mut self, property: &str, value: &str) -> Result<(), String> {
        let mut errstr = [0; 512];
        // SAFETY: all texts end with a zero byte, and the buffer's length is its length.
        let result = unsafe {
            sys::rd_kafka_conf_set(
                self.0,
                name(property).as_ptr(),
                name(value).as_ptr(),
                errstr.as_mut_ptr(),
                errstr.len(),
            )
        };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(text(errstr.as_ptr())),
        }
    }
}

/// Whether librdkafka knows a property and takes its value.
///
/// # Errors
/// librdkafka's message, which hold the value.
pub(super) fn try_property(property: &str, value: &str) -> Result<(), String> {
    Conf::new().set(property, value)
}

/// The names of the properties that have a value by default, without aliases.
#[cfg(test)]
pub(super) fn property_names() -> Vec<String> {
    let conf = Conf::new();
    let mut names = Vec::new();
    // SAFETY: both dumps are arrays of as many texts as they say, names and values in turn, and are freed once; the
    // configurations are ours.
    unsafe {
        let topic = sys::rd_kafka_topic_conf_new();
        let mut count = 0;
        let dump = sys::rd_kafka_conf_dump(conf.0, &raw mut count);
        let mut topic_count = 0;
        let topic_dump = sys::rd_kafka_topic_conf_dump(topic, &raw mut topic_count);
        for (dump, count) in [(dump, count), (topic_dump, topic_count)] {
            names.extend((0..count).step_by(2).map(|place| text(*dump.add(place))));
            sys::rd_kafka_conf_dump_free(dump, count);
        }
        sys::rd_kafka_topic_conf_destroy(topic);
    }
    names
}

/// A consumer of librdkafka. Dropping it ends it without leaving its group.
#[derive(Debug)]
pub(super) struct Client {
    client: NonNull<sys::rd_kafka_t>,
    /// librdkafka holds a pointer to what it points to. `Box::into_raw` made it, and `drop` takes it back: as a `Box`
    /// it would claim to be the only pointer whenever the client is moved.
    lines: NonNull<Lines>,
    /// Requests that wait in [`admin`] end now, as if they had timed out.
    cancelled: AtomicBool,
}

/// A failed connection. librdkafka does not repeat, for half a minute, what it has said of a broker before.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) at: Instant,
}

/// What librdkafka says in log lines only.
#[derive(Debug, Default)]
struct Lines {
    /// Why a connection failed last, and when that was said first.
    failure: Mutex<Option<Failure>>,
    /// Said with `debug=cgrp` only.
    ///
    /// The coordinator's list of requests lacks the heartbeat of the group protocol `consumer`. librdkafka
    /// then looks for another coordinator, but never sends one a heartbeat: for it, the first is under way.
    without_heartbeat: AtomicBool,
}

impl Lines {
    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, level: c_int, facility: &str, line: &str) {
        if facility == "COORD" && line.contains(WITHOUT_HEARTBEAT) {
            self.without_heartbeat.store(true, Ordering::Relaxed);
        }
        // Of a higher level are those that librdkafka itself thinks nothing of: connections that were idle.
        if facility == "FAIL" && level <= INFO {
            // The thread's name comes first.
            let said = line.split_once("]: ").map_or(line, |(_, said)| said);
            *self.failure() = Some(Failure { text: said.to_owned(), at: Instant::now() });
        }
    }
}

// SAFETY: librdkafka may be called from any thread, and from several at once; the lines are `Sync`.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: the client is ours and every queue is gone, for queues hold the client. A consumer that
        // was closed before has left; another one must not, for this is what a crash does. librdkafka's threads have
        // ended when the call returns, so nobody logs any more, and the lines came from `Box::into_raw`.
        unsafe {
            sys::rd_kafka_destroy_flags(self.ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Box::from_raw(self.lines.as_ptr()));
        }
    }
}

/// Receives librdkafka's log lines, on its own threads.
unsafe extern "C" fn log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    let (facility, line) = (text(facility), text(line));
    // SAFETY: it is what the configuration was given, which lives as long as the client.
    if let Some(lines) = unsafe { sys::rd_kafka_opaque(client).cast::<Lines>().as_ref() } {
        lines.hear(level, &facility, &line);
    }
    lines::line(level, &facility, &line);
}

impl Client {
    /// Makes a consumer with these properties. It connects in the background.
    ///
    /// # Errors
    /// If librdkafka does not take the properties, or has no resources.
    pub(super) fn consumer(properties: &Properties) -> Result<Self, KafkaError> {
        let mut conf = Conf::new();
        for (property, value) in properties {
            if let Err(errstr) = conf.set(property, value) {
                let errstr = properties::without_secret(property, errstr);
                return Err(KafkaError::invalid(format!("{property}: {errstr}")));
            }
        }
        let lines = NonNull::from(Box::leak(Box::<Lines>::default()));
        let mut errstr = [0; 512];
        // SAFETY: the configuration is ours; on success it belongs to the client and is forgotten here, and the lines
        // are dropped with the client. Without success there are no threads of librdkafka that could use them.
        unsafe {
            let events =
                sys::RD_KAFKA_EVENT_REBALANCE | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
            sys::rd_kafka_conf_set_events(conf.0, events);
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(log));
            sys::rd_kafka_conf_set_opaque(conf.0, lines.as_ptr().cast());
            let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            match NonNull::new(sys::rd_kafka_new(kind, conf.0, errstr.as_mut_ptr(), errstr.len())) {
                Some(client) => {
                    std::mem::forget(conf);
                    Ok(Self { client, lines, cancelled: AtomicBool::new(false) })
                }
                None => {
                    drop(Box::from_raw(lines.as_ptr()));
                    Err(KafkaError::invalid(text(errstr.as_ptr())))
                }
            }
        }
    }

    fn lines(&self) -> &Lines {
        // SAFETY: it lives as long as the client, and everybody only shares it.
        unsafe { self.lines.as_ref() }
    }

    fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.client.as_ptr()
    }

    /// Ends the waits of requests that describe something, or no longer does so.
    pub(super) fn cancel(&self, cancelled: bool) {
        self.cancelled.store(cancelled, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Why a connection failed last, since that was forgotten.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.lines().failure().clone()
    }

    pub(super) fn forget_failure(&self) {
        *self.lines().failure() = None;
    }

    /// True if a coordinator was found that lacks the group protocol `consumer`, after which this client never
    /// becomes a member; logged only by a client with `debug=cgrp`.
    pub(super) fn met_coordinator_without_heartbeat(&self) -> bool {
        self.lines().without_heartbeat.load(Ordering::Relaxed)
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

    /// True if what is being revoked may be another member's already.
    pub(super) fn assignment_lost(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { sys::rd_kafka_assignment_lost(self.ptr()) != 0 }
    }

    /// Why the client has ended itself, if it has.
    pub(super) fn fatal_error(&self) -> Option<KafkaError> {
        let mut errstr = [0; 512];
        // SAFETY: the buffer's length is its length.
        let code = unsafe { sys::rd_kafka_fatal_error(self.ptr(), errstr.as_mut_ptr(), errstr.len()) } as i32;
        (code != 0).then(|| KafkaError::new(code, text(errstr.as_ptr())))
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

#[cfg(test)]
pub(super) mod mock {
    //! A mock cluster that lacks or refuses a request, which the safe crate cannot say of every request.

    use super::*;

    pub(in crate::broker::kafka) struct Cluster {
        cluster: *mut sys::rd_kafka_mock_cluster_t,
        _client: Client,
    }

    impl Cluster {
        /// A cluster whose brokers do not list this request.
        pub(in crate::broker::kafka) fn lacking(api: i16, topic: &str) -> Self {
            let cluster = Self::new(topic);
            // SAFETY: the cluster is ours.
            unsafe { sys::rd_kafka_mock_set_apiversion(cluster.cluster, api, -1, -1) };
            cluster
        }

        /// A cluster whose brokers answer this request, however often it comes, that they do not have its version.
        pub(in crate::broker::kafka) fn refusing(api: i16, topic: &str) -> Self {
            let cluster = Self::new(topic);
            let answers = [sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION; 100];
            // SAFETY: the cluster is ours, and the answers are copied.
            unsafe {
                sys::rd_kafka_mock_push_request_errors_array(
                    cluster.cluster,
                    api,
                    answers.len(),
                    answers.as_ptr(),
                );
            }
            cluster
        }

        fn new(topic: &str) -> Self {
            let client = Client::consumer(&Properties::new()).unwrap();
            // SAFETY: the cluster lives on the client, and is destroyed before it.
            unsafe {
                let cluster = sys::rd_kafka_mock_cluster_new(client.ptr(), 1);
                sys::rd_kafka_mock_topic_create(cluster, name(topic).as_ptr(), 1, 1);
                Self { cluster, _client: client }
            }
        }

        pub(in crate::broker::kafka) fn servers(&self) -> String {
            // SAFETY: the text lives as long as the cluster.
            text(unsafe { sys::rd_kafka_mock_cluster_bootstraps(self.cluster) })
        }
    }

    impl Drop for Cluster {
        fn drop(&mut self) {
            // SAFETY: the cluster is ours.
            unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) };
        }
    }
}
