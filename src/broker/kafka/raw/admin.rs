//! Requests about topics. Each blocks until its response arrives.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::{Client, List, error_from, error_of, millis, name, text};
use crate::broker::kafka::error::KafkaError;

/// The broker's description of a topic.
#[derive(Clone, Debug)]
pub(in crate::broker::kafka) struct Description {
    pub(in crate::broker::kafka) id: String,
    pub(in crate::broker::kafka) partitions: usize,
    /// The minimum number of replicas of a partition.
    pub(in crate::broker::kafka) replication: usize,
    /// The ids of the brokers that have replicas, ascending.
    pub(in crate::broker::kafka) brokers: Vec<i32>,
}

/// A resource that has settings.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker::kafka) enum Resource<'a> {
    Topic(&'a str),
    Broker(i32),
}

/// One setting of a topic or a broker.
#[derive(Clone, Debug)]
pub(in crate::broker::kafka) struct Setting {
    pub(in crate::broker::kafka) name: String,
    pub(in crate::broker::kafka) value: String,
    /// True if it is set on the topic itself, not by a broker or by default.
    pub(in crate::broker::kafka) of_topic: bool,
}

/// The end of the log in a request for offsets (`RD_KAFKA_OFFSET_SPEC_LATEST`).
const LATEST: i64 = -1;
/// The start of the log in a request for offsets (`RD_KAFKA_OFFSET_SPEC_EARLIEST`).
const EARLIEST: i64 = -2;

/// How often a request in flight checks whether it was cancelled.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A response; destroyed on drop.
struct Response(*mut sys::rd_kafka_event_t);

impl Drop for Response {
    fn drop(&mut self) {
        // SAFETY: we own the event.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

impl Client {
    /// Sends a request and waits for its response.
    fn request(
        &self,
        api: sys::rd_kafka_admin_op_t,
        wait: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Response, KafkaError> {
        let mut errstr = [0; 256];
        // SAFETY: queue and options are created and destroyed here; the request copies the options, and the response
        // is a separate object.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.ptr());
            let options = sys::rd_kafka_AdminOptions_new(self.ptr(), api);
            let (start, length) = (errstr.as_mut_ptr(), errstr.len());
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait), start, length);
            send(options, queue);
            sys::rd_kafka_AdminOptions_destroy(options);
            // The request has its own timeout; the additional second lets librdkafka report it.
            let until = Instant::now() + wait + Duration::from_secs(1);
            let event = loop {
                let left = until.saturating_duration_since(Instant::now());
                let event = sys::rd_kafka_queue_poll(queue, millis(left.min(CANCEL_CHECK_INTERVAL)));
                if !event.is_null() || left.is_zero() || self.is_cancelled() {
                    break event;
                }
            };
            sys::rd_kafka_queue_destroy(queue);
            if event.is_null() {
                let timed_out = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT;
                return Err(KafkaError::new(timed_out as i32, ""));
            }
            let response = Response(event);
            match sys::rd_kafka_event_error(event) as i32 {
                0 => Ok(response),
                code => Err(KafkaError::new(code, text(sys::rd_kafka_event_error_string(event)))),
            }
        }
    }

    /// Describes a topic.
    pub(in crate::broker::kafka) fn describe(
        &self,
        topic: &str,
        wait: Duration,
    ) -> Result<Description, KafkaError> {
        let topic = name(topic);
        let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let response = self.request(api, wait, |options, queue| {
            let mut names = [topic.as_ptr()];
            // SAFETY: we own the collection, and the request copies it.
            unsafe {
                let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(self.ptr(), topics, options, queue);
                sys::rd_kafka_TopicCollection_destroy(topics);
            }
        })?;
        // SAFETY: what the accessors return lives as long as the response, and arrays have the reported lengths.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeTopics_result(response.0);
            let topics = borrowed(result, &mut count, |result, count| {
                sys::rd_kafka_DescribeTopics_result_topics(result, count)
            });
            let [topic] = topics else {
                return Err(KafkaError::invalid("the response must have one topic"));
            };
            let error = sys::rd_kafka_TopicDescription_error(*topic);
            if !error.is_null() && sys::rd_kafka_error_code(error) as i32 != 0 {
                let code = sys::rd_kafka_error_code(error) as i32;
                return Err(KafkaError::new(code, text(sys::rd_kafka_error_string(error))));
            }
            let id = sys::rd_kafka_TopicDescription_topic_id(*topic);
            let id = if id.is_null() { String::new() } else { text(sys::rd_kafka_Uuid_base64str(id)) };
            let partitions = borrowed(*topic, &mut count, |topic, count| {
                sys::rd_kafka_TopicDescription_partitions(topic, count)
            });
            let mut brokers = BTreeSet::new();
            let mut replication = usize::MAX;
            for partition in partitions {
                let copies = borrowed(*partition, &mut count, |partition, count| {
                    sys::rd_kafka_TopicPartitionInfo_replicas(partition, count)
                });
                replication = replication.min(copies.len());
                brokers.extend(copies.iter().map(|node| sys::rd_kafka_Node_id(*node)));
            }
            let (partitions, brokers) = (partitions.len(), brokers.into_iter().collect());
            Ok(Description {
                id,
                partitions,
                replication: if partitions == 0 { 0 } else { replication },
                brokers,
            })
        }
    }

    /// All settings of a topic or a broker, except secret ones.
    pub(in crate::broker::kafka) fn settings(
        &self,
        resource: Resource<'_>,
        wait: Duration,
    ) -> Result<Vec<Setting>, KafkaError> {
        let (kind, of) = match resource {
            Resource::Topic(topic) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name(topic)),
            Resource::Broker(id) => {
                (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, name(&id.to_string()))
            }
        };
        let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let response = self.request(api, wait, |options, queue| {
            // SAFETY: we own the resource, and the request copies it.
            unsafe {
                let mut resources = [sys::rd_kafka_ConfigResource_new(kind, of.as_ptr())];
                let (start, length) = (resources.as_mut_ptr(), resources.len());
                sys::rd_kafka_DescribeConfigs(self.ptr(), start, length, options, queue);
                sys::rd_kafka_ConfigResource_destroy(resources[0]);
            }
        })?;
        // SAFETY: what the accessors return lives as long as the response, and arrays have the reported lengths.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeConfigs_result(response.0);
            let resources = borrowed(result, &mut count, |result, count| {
                sys::rd_kafka_DescribeConfigs_result_resources(result, count)
            });
            let [resource] = resources else {
                return Err(KafkaError::invalid("the response must have one resource"));
            };
            error_of(sys::rd_kafka_ConfigResource_error(*resource))?;
            let entries = borrowed(*resource, &mut count, |resource, count| {
                sys::rd_kafka_ConfigResource_configs(resource, count)
            });
            let of_topic = sys::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG;
            let settings = entries.iter().map(|entry| Setting {
                name: text(sys::rd_kafka_ConfigEntry_name(*entry)),
                value: text(sys::rd_kafka_ConfigEntry_value(*entry)),
                of_topic: sys::rd_kafka_ConfigEntry_source(*entry) == of_topic,
            });
            Ok(settings.collect())
        }
    }

    /// Creates a topic.
    pub(in crate::broker::kafka) fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
        wait: Duration,
    ) -> Result<(), KafkaError> {
        let mut errstr = [0; 256];
        // SAFETY: the texts are NUL-terminated, and the buffer has the given length.
        let new = unsafe {
            let (start, length) = (errstr.as_mut_ptr(), errstr.len());
            sys::rd_kafka_NewTopic_new(
                name(topic).as_ptr(),
                partitions,
                c_int::from(replication),
                start,
                length,
            )
        };
        if new.is_null() {
            return Err(KafkaError::invalid(text(errstr.as_ptr())));
        }
        let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
        let response = self.request(api, wait, |options, queue| {
            let mut topics = [new];
            // SAFETY: we own the topic, and the request copies it.
            unsafe {
                let (start, length) = (topics.as_mut_ptr(), topics.len());
                sys::rd_kafka_CreateTopics(self.ptr(), start, length, options, queue);
                sys::rd_kafka_NewTopic_destroy(new);
            }
        })?;
        // SAFETY: what the accessors return lives as long as the response, and arrays have the reported lengths.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreateTopics_result(response.0);
            let results = borrowed(result, &mut count, |result, count| {
                sys::rd_kafka_CreateTopics_result_topics(result, count)
            });
            let [result] = results else {
                return Err(KafkaError::invalid("the response must have one topic"));
            };
            match sys::rd_kafka_topic_result_error(*result) as i32 {
                0 => Ok(()),
                code => Err(KafkaError::new(code, text(sys::rd_kafka_topic_result_error_string(*result)))),
            }
        }
    }

    /// The number of partitions of a topic, according to any broker.
    pub(in crate::broker::kafka) fn partitions(
        &self,
        topic: &str,
        wait: Duration,
    ) -> Result<i32, KafkaError> {
        // SAFETY: the topic object is released, and the metadata is destroyed after it was read.
        unsafe {
            let topic = sys::rd_kafka_topic_new(self.ptr(), name(topic).as_ptr(), ptr::null_mut());
            if topic.is_null() {
                error_of(sys::rd_kafka_last_error())?;
            }
            let mut metadata = ptr::null();
            let result = sys::rd_kafka_metadata(self.ptr(), 0, topic, &raw mut metadata, millis(wait));
            sys::rd_kafka_topic_destroy(topic);
            error_of(result)?;
            let outcome = if (*metadata).topic_cnt == 1 {
                let topic = &*(*metadata).topics;
                error_of(topic.err).map(|()| topic.partition_cnt)
            } else {
                Err(KafkaError::invalid("the response must have one topic"))
            };
            sys::rd_kafka_metadata_destroy(metadata);
            outcome
        }
    }

    /// The start of a partition's log and its last stable offset, according to its leader.
    pub(in crate::broker::kafka) fn offsets(
        &self,
        topic: &str,
        partition: i32,
        wait: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        let (mut start, mut end) = (-1, -1);
        // SAFETY: the call only fills in two numbers.
        error_of(unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.ptr(),
                name(topic).as_ptr(),
                partition,
                &raw mut start,
                &raw mut end,
                millis(wait),
            )
        })?;
        if start == end {
            // It takes one offset for both if a broker has responded to the request for the other one with an error, and to
            // this one after that (`rd_kafka_query_wmark_offsets_resp_cb`, librdkafka 2.12).
            let committed = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
            start = self.offset(topic, partition, EARLIEST, committed, wait)?;
            end = self.offset(topic, partition, LATEST, committed, wait)?;
        }
        Ok((start, end))
    }

    /// The high watermark of a partition, open transactions included.
    pub(in crate::broker::kafka) fn high_watermark(
        &self,
        topic: &str,
        partition: i32,
        wait: Duration,
    ) -> Result<i64, KafkaError> {
        let all = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED;
        self.offset(topic, partition, LATEST, all, wait)
    }

    /// One offset of a partition.
    fn offset(
        &self,
        topic: &str,
        partition: i32,
        which: i64,
        isolation: sys::rd_kafka_IsolationLevel_t,
        wait: Duration,
    ) -> Result<i64, KafkaError> {
        let positions = List::of(topic, &[(partition, which)]);
        let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let response = self.request(api, wait, |options, queue| {
            // SAFETY: the request copies options and list, and we own the error object of the option.
            unsafe {
                // It rejects the option only for other requests.
                let _ = error_from(sys::rd_kafka_AdminOptions_set_isolation_level(options, isolation));
                sys::rd_kafka_ListOffsets(self.ptr(), positions.0, options, queue);
            }
        })?;
        // SAFETY: what the accessors return lives as long as the response, and the array has the reported length.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_ListOffsets_result(response.0);
            let infos = borrowed(result, &mut count, |result, count| {
                sys::rd_kafka_ListOffsets_result_infos(result, count)
            });
            let [info] = infos else {
                return Err(KafkaError::invalid("the response must have one partition"));
            };
            let position = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
            error_of((*position).err)?;
            Ok((*position).offset)
        }
    }
}

/// An array that belongs to librdkafka.
///
/// # Safety
/// `of` is null or a valid argument of `get`, and lives during `'a`.
unsafe fn borrowed<'a, O, T>(
    of: *const O,
    count: &mut usize,
    get: impl FnOnce(*const O, *mut usize) -> *mut T,
) -> &'a [T] {
    *count = 0;
    if of.is_null() {
        return &[];
    }
    let array = get(of, count);
    if array.is_null() {
        return &[];
    }
    // SAFETY: the array has the reported number of elements, and lives as long as its owner `of`.
    unsafe { std::slice::from_raw_parts(array, *count) }
}
