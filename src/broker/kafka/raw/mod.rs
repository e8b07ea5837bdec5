//! The only module that calls librdkafka's C functions.
//!
//! The crate `rdkafka` has no topic ids, drops the offset of an end of partition and the partition of a reset error,
//! always leaves the group when a consumer is dropped, returns messages one by one, and ignores log lines and errors of
//! its admin client. So everything except the producer is implemented here.
//!
//! What every `unsafe` block below relies on: a [`Client`] owns its `rd_kafka_t` until it is dropped, librdkafka is
//! thread-safe, a [`Queue`] keeps its client alive, and data that belongs to librdkafka (lists, messages, texts of an
//! event) is copied before the event or message is destroyed.
#![allow(unsafe_code, reason = "this module is where it is allowed, see above")]

mod admin;
mod connections;
#[cfg(test)]
pub(super) mod mock;
mod queue;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use admin::{Description, Resource, Setting};
use connections::Connections;
pub(super) use queue::{Event, Message, Queue};
use rdkafka_sys as sys;

use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::log as log_lines;
use crate::broker::kafka::properties::{self, Properties};

/// librdkafka 2.12's message about a broker that lacks the request (`rd_kafka_ConsumerGroupHeartbeatRequest`).
const WITHOUT_HEARTBEAT: &str = "ConsumerGroupHeartbeatRequest not supported by broker";
/// Its message about partitions that are lost (`rd_kafka_cgrp_assignment_set_lost`), before it reports their revocation.
const ASSIGNMENT_LOST: &str = "partition(s) lost: ";
/// Its messages about a member that has lost its partitions during a rebalance, which it reports in no other way: those of
/// the protocol `classic` (`rd_kafka_cgrp_revoke_all_rejoin_maybe`; the line also contains [`MARKED_LOST`]) and of the protocol
/// `consumer` (`rd_kafka_cgrp_handle_ConsumerGroupHeartbeat`).
const ALREADY_REBALANCING: &str = "already in progress, skipping";
const MARKED_LOST: &str = " (lost)";
const WILL_REJOIN: &str = "will rejoin the group";
/// Its message about a member that joins again, because the topic has more partitions, before it has given back what is being
/// revoked: it no longer says that it owns that, so the group assigns it to others (`rd_kafka_cgrp_metadata_update_check`).
const REJOINS_TOO_EARLY: &str = "rejoining group in state wait-unassign-call";
/// Its messages about a rebalance in which a member takes no part (`rd_kafka_cgrp_group_is_rebalancing`,
/// `rd_kafka_cgrp_revoke_all_rejoin_maybe`) contain both if it never will: it waits for the end of a revocation, and none is
/// under way.
const STEADY: &str = "(join-state steady)";
const INCREMENTAL: &str = "incremental assignment ";
/// Its message about a heartbeat of the protocol `consumer` to which the coordinator has responded with `GROUP_ID_NOT_FOUND`
/// (`rd_kafka_err_action`), which it ignores.
const LACKS_GROUP: &str = "ConsumerGroupHeartbeatRequest failed: Broker: The group id does not exist";

/// The syslog level above which a line is for debugging only.
const INFO: c_int = 6;

/// librdkafka's invalid offset (`RD_KAFKA_OFFSET_INVALID`), which means "none".
const NO_OFFSET: i64 = -1001;

/// A duration in milliseconds, in librdkafka's type.
pub(super) fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// Copies a C string that belongs to librdkafka.
fn text(borrowed: *const c_char) -> String {
    if borrowed.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's texts are NUL-terminated and live as long as their owner, which the caller keeps.
    unsafe { CStr::from_ptr(borrowed) }.to_string_lossy().into_owned()
}

/// A name as a C string. Topics, groups and properties contain no NUL; a name with one becomes a name that librdkafka
/// does not know.
fn name(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::from(c"\u{fffd}"))
}

fn error_of(code: sys::rd_kafka_resp_err_t) -> Result<(), KafkaError> {
    match code as i32 {
        0 => Ok(()),
        code => Err(KafkaError::new(code, "")),
    }
}

/// Converts an error object and destroys it.
fn error_from(error: *mut sys::rd_kafka_error_t) -> Result<(), KafkaError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: we own the object, and it is destroyed once, after it was read.
    unsafe {
        let code = sys::rd_kafka_error_code(error) as i32;
        let text = text(sys::rd_kafka_error_string(error));
        sys::rd_kafka_error_destroy(error);
        Err(KafkaError::new(code, text))
    }
}

/// A configuration that no client owns yet.
struct Conf(*mut sys::rd_kafka_conf_t);

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: a configuration that a client took over was forgotten, so we own this one.
        unsafe { sys::rd_kafka_conf_destroy(self.0) };
    }
}

impl Conf {
    fn new() -> Self {
        // SAFETY: the call creates a new object.
        Self(unsafe { sys::rd_kafka_conf_new() })
    }

    /// # Errors
    /// librdkafka's message, which contains the value.
    fn set(&mut self, property: &str, value: &str) -> Result<(), String> {
        let mut errstr = [0; 512];
        // SAFETY: the texts are NUL-terminated, and the buffer has the given length.
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

/// Checks that librdkafka knows a property and accepts its value.
///
/// # Errors
/// librdkafka's message, which contains the value.
pub(super) fn try_property(property: &str, value: &str) -> Result<(), String> {
    Conf::new().set(property, value)
}

/// The names of the properties that have a default value, without aliases.
#[cfg(test)]
pub(super) fn property_names() -> Vec<String> {
    let conf = Conf::new();
    let mut names = Vec::new();
    // SAFETY: both dumps are arrays of the reported length, alternating names and values, and are freed once; we own
    // the configurations.
    unsafe {
        let topic = sys::rd_kafka_topic_conf_new();
        let mut count = 0;
        let dump = sys::rd_kafka_conf_dump(conf.0, &raw mut count);
        let mut topic_count = 0;
        let topic_dump = sys::rd_kafka_topic_conf_dump(topic, &raw mut topic_count);
        for (dump, count) in [(dump, count), (topic_dump, topic_count)] {
            names.extend((0..count).step_by(2).map(|index| text(*dump.add(index))));
            sys::rd_kafka_conf_dump_free(dump, count);
        }
        sys::rd_kafka_topic_conf_destroy(topic);
    }
    names
}

/// A librdkafka consumer. Dropping it does not leave its group.
#[derive(Debug)]
pub(super) struct Client {
    client: NonNull<sys::rd_kafka_t>,
    /// librdkafka has a copy of this pointer. It comes from a leaked `Box` and is freed in `drop`; a `Box` would
    /// claim to be the only pointer whenever the client is moved.
    log_state: NonNull<LogState>,
    /// The property `bootstrap.servers`.
    servers: CString,
    /// True if requests in flight in [`admin`] are to end, as if they had timed out.
    cancelled: AtomicBool,
}

/// A failed connection. librdkafka logs the same failure of a broker at most once in 30 seconds.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) at: Instant,
}

/// What librdkafka reports in log lines only.
#[derive(Debug, Default)]
struct LogState {
    /// The last failed connection, and when it was first logged.
    failure: Mutex<Option<Failure>>,
    /// True if a coordinator does not support the heartbeat of the group protocol `consumer`; logged with `debug=cgrp`
    /// only. librdkafka then looks for another coordinator, but never sends it a heartbeat, because it considers the
    /// first one to be in flight.
    without_heartbeat: AtomicBool,
    /// True if partitions were lost since this was last read; logged with `debug=cgrp` only.
    lost: AtomicBool,
    /// True if this happened during a rebalance; logged with `debug=cgrp,consumer` only.
    lost_in_rebalance: AtomicBool,
    /// True if this client takes part in no rebalance any more; logged with `debug=cgrp,consumer` only.
    ignores_rebalances: AtomicBool,
    /// True if the coordinator did not know the group since this was last read; logged with `debug=broker` only.
    lacks_group: AtomicBool,
    connections: Connections,
}

impl LogState {
    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, level: c_int, facility: &str, line: &str) {
        if facility == "STATE" {
            return self.connections.observe(line, Instant::now());
        }
        let noticed = match facility {
            "COORD" if line.contains(WITHOUT_HEARTBEAT) => Some(&self.without_heartbeat),
            "LOST" if line.contains(ASSIGNMENT_LOST) => Some(&self.lost),
            "REBALANCE" if line.contains(STEADY) && line.contains(INCREMENTAL) => {
                Some(&self.ignores_rebalances)
            }
            "REBALANCE" if line.contains(ALREADY_REBALANCING) && line.contains(MARKED_LOST) => {
                Some(&self.lost_in_rebalance)
            }
            "HEARTBEAT" if line.contains(WILL_REJOIN) => Some(&self.lost_in_rebalance),
            "REJOIN" if line.contains(REJOINS_TOO_EARLY) => Some(&self.lost_in_rebalance),
            "REQERR" if line.contains(LACKS_GROUP) => Some(&self.lacks_group),
            _ => None,
        };
        if let Some(noticed) = noticed {
            noticed.store(true, Ordering::Release);
        }
        // librdkafka logs closed idle connections at a higher level; they are no failures.
        if facility == "FAIL" && level <= INFO {
            // The thread's name comes first.
            let message = line.split_once("]: ").map_or(line, |(_, message)| message);
            *self.failure() = Some(Failure { text: message.to_owned(), at: Instant::now() });
        }
    }
}

// SAFETY: librdkafka may be called from several threads at once, and the state is `Sync`.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: we own the client, and all queues are gone, because a queue keeps its client alive. A consumer that
        // was closed before has left its group; any other must not leave, as after a crash. librdkafka's threads have
        // ended when the call returns, so `log` is no longer called, and the state comes from a leaked `Box`.
        unsafe {
            sys::rd_kafka_destroy_flags(self.ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Box::from_raw(self.log_state.as_ptr()));
        }
    }
}

/// Receives librdkafka's log lines, on librdkafka's threads.
unsafe extern "C" fn log(
    client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    let (facility, line) = (text(facility), text(line));
    // SAFETY: the opaque pointer is the state that was set in the configuration; it lives as long as the client.
    if let Some(state) = unsafe { sys::rd_kafka_opaque(client).cast::<LogState>().as_ref() } {
        state.observe(level, &facility, &line);
    }
    log_lines::line(level, &facility, &line);
}

impl Client {
    /// Creates a consumer with these properties. It connects in the background.
    ///
    /// # Errors
    /// If librdkafka rejects the properties or lacks resources.
    pub(super) fn consumer(properties: &Properties) -> Result<Self, KafkaError> {
        let mut conf = Conf::new();
        for (property, value) in properties {
            if let Err(errstr) = conf.set(property, value) {
                let errstr = properties::without_secret(property, errstr);
                return Err(KafkaError::invalid(format!("{property}: {errstr}")));
            }
        }
        let servers = name(properties.get("bootstrap.servers").map_or("", String::as_str));
        let log_state = NonNull::from(Box::leak(Box::<LogState>::default()));
        let mut errstr = [0; 512];
        // SAFETY: we own the configuration; on success the client owns it and it is forgotten here, and the state is
        // dropped with the client. On failure there are no librdkafka threads that could use the state.
        unsafe {
            let events =
                sys::RD_KAFKA_EVENT_REBALANCE | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
            sys::rd_kafka_conf_set_events(conf.0, events);
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(log));
            sys::rd_kafka_conf_set_opaque(conf.0, log_state.as_ptr().cast());
            let kind = sys::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            match NonNull::new(sys::rd_kafka_new(kind, conf.0, errstr.as_mut_ptr(), errstr.len())) {
                Some(client) => {
                    std::mem::forget(conf);
                    Ok(Self { client, log_state, servers, cancelled: AtomicBool::new(false) })
                }
                None => {
                    drop(Box::from_raw(log_state.as_ptr()));
                    Err(KafkaError::invalid(text(errstr.as_ptr())))
                }
            }
        }
    }

    fn log_state(&self) -> &LogState {
        // SAFETY: it lives as long as the client, and there are only shared references to it.
        unsafe { self.log_state.as_ref() }
    }

    fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.client.as_ptr()
    }

    /// Gives librdkafka the bootstrap servers once more if it has had no connection for a while; see [`connections`]. Detected
    /// only with `debug=broker`. To be called every now and then.
    pub(super) fn connect_again(&self) {
        if self.log_state().connections.needs_servers(Instant::now()) {
            // SAFETY: the text is copied. Servers that librdkafka has already are not added.
            let known = unsafe { sys::rd_kafka_brokers_add(self.ptr(), self.servers.as_ptr()) };
            tracing::debug!(known, "no broker is connected: gave librdkafka the bootstrap servers again");
        }
    }

    /// Cancels requests in flight, or ends their cancellation.
    pub(super) fn cancel(&self, cancelled: bool) {
        self.cancelled.store(cancelled, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The last failed connection since [`Client::forget_failure`].
    pub(super) fn failure(&self) -> Option<Failure> {
        self.log_state().failure().clone()
    }

    pub(super) fn forget_failure(&self) {
        *self.log_state().failure() = None;
    }

    /// True if the coordinator lacks the group protocol `consumer`, so that this client never becomes a member.
    /// Detected only with `debug=cgrp`.
    pub(super) fn met_coordinator_without_heartbeat(&self) -> bool {
        self.log_state().without_heartbeat.load(Ordering::Relaxed)
    }

    /// Joins the group and subscribes to the topic.
    pub(super) fn subscribe(&self, topic: &str) -> Result<(), KafkaError> {
        let list = List::of(topic, &[(-1, NO_OFFSET)]);
        // SAFETY: the list is copied.
        error_of(unsafe { sys::rd_kafka_subscribe(self.ptr(), list.0) })
    }

    /// Starts fetching partitions from these offsets. Also acknowledges a rebalance that assigned partitions.
    pub(super) fn incremental_assign(&self, topic: &str, positions: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = List::of(topic, positions);
        // SAFETY: the list is copied.
        error_from(unsafe { sys::rd_kafka_incremental_assign(self.ptr(), list.0) })
    }

    /// Stops fetching partitions. Also acknowledges a rebalance that revoked partitions.
    pub(super) fn incremental_unassign(&self, topic: &str, partitions: &[i32]) -> Result<(), KafkaError> {
        let positions: Vec<_> = partitions.iter().map(|partition| (*partition, NO_OFFSET)).collect();
        let list = List::of(topic, &positions);
        // SAFETY: the list is copied.
        error_from(unsafe { sys::rd_kafka_incremental_unassign(self.ptr(), list.0) })
    }

    /// True if the partitions of the revocation that was taken from the queue may already belong to another member.
    pub(super) fn assignment_lost(&self) -> bool {
        // librdkafka resets its flag at every assign and unassign, also if a worker starts a partition after the loss and
        // before the revocation is taken. The log line comes before the revocation, and is read once.
        let logged = self.log_state().lost.swap(false, Ordering::AcqRel);
        // SAFETY: reads a flag.
        logged || unsafe { sys::rd_kafka_assignment_lost(self.ptr()) != 0 }
    }

    /// True if the partitions of a pending revocation were lost since the last call.
    pub(super) fn lost_in_rebalance(&self) -> bool {
        self.log_state().lost_in_rebalance.swap(false, Ordering::AcqRel)
    }

    /// True if this member of a group takes part in no rebalance any more: it will be removed from its group, and not join again.
    pub(super) fn ignores_rebalances(&self) -> bool {
        self.log_state().ignores_rebalances.load(Ordering::Acquire)
    }

    /// True if the coordinator does not know the group, or not as one of the protocol `consumer`, according to a heartbeat since
    /// the last call.
    pub(super) fn lacks_group(&self) -> bool {
        self.log_state().lacks_group.swap(false, Ordering::AcqRel)
    }

    /// The fatal error of the client, if it has one.
    pub(super) fn fatal_error(&self) -> Option<KafkaError> {
        let mut errstr = [0; 512];
        // SAFETY: the buffer has the given length.
        let code = unsafe { sys::rd_kafka_fatal_error(self.ptr(), errstr.as_mut_ptr(), errstr.len()) } as i32;
        (code != 0).then(|| KafkaError::new(code, text(errstr.as_ptr())))
    }

    /// True if this client is a member of its group.
    pub(super) fn is_member(&self) -> bool {
        // SAFETY: we own the metadata, and it is destroyed once, after it was read.
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

    /// Commits positions to the group; [`Event::Committed`] in `queue` reports the result. (`rd_kafka_commit` reports none
    /// to a client without an `offset_commit_cb`, whichever events are enabled: `rd_kafka_cgrp_propagate_commit_result`.)
    pub(super) fn commit(
        &self,
        topic: &str,
        positions: &[(i32, i64)],
        queue: &Queue,
    ) -> Result<(), KafkaError> {
        let list = List::of(topic, positions);
        // SAFETY: the list is copied, and librdkafka keeps a reference to the queue.
        error_of(unsafe {
            sys::rd_kafka_commit_queue(self.ptr(), list.0, queue.queue, None, std::ptr::null_mut())
        })
    }

    /// Starts leaving the group; rebalances go to `queue` until [`Client::closed`].
    pub(super) fn close(&self, queue: &Queue) -> Result<(), KafkaError> {
        // SAFETY: the queue outlives the close, because it keeps the client alive.
        error_from(unsafe { sys::rd_kafka_consumer_close_queue(self.ptr(), queue.queue) })
    }

    /// True if the client has left the group.
    pub(super) fn closed(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { sys::rd_kafka_consumer_closed(self.ptr()) != 0 }
    }

    /// Starts fetching a partition outside any group; messages go to [`Queue::of_partition`].
    pub(super) fn fetch_start(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.with_topic(topic, |topic| {
            // SAFETY: the topic lives during the call.
            unsafe { sys::rd_kafka_consume_start(topic, partition, offset) }
        })
    }

    /// Stops a fetch that [`Client::fetch_start`] started, and waits for its end.
    pub(super) fn fetch_stop(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        // SAFETY: as above.
        self.with_topic(topic, |topic| unsafe { sys::rd_kafka_consume_stop(topic, partition) })
    }

    fn with_topic(
        &self,
        topic: &str,
        call: impl FnOnce(*mut sys::rd_kafka_topic_t) -> c_int,
    ) -> Result<(), KafkaError> {
        // SAFETY: the topic object is reference-counted: our reference is released, and a fetch has its own. The last
        // error is that of this thread.
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
    fn of(topic: &str, positions: &[(i32, i64)]) -> Self {
        let topic = name(topic);
        // SAFETY: we own the list, and a returned element is valid until the next one is added.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(positions.len() as c_int);
            for (partition, offset) in positions {
                let position = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), *partition);
                (*position).offset = *offset;
            }
            Self(list)
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: we own the list.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}
