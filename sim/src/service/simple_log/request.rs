//! Requests to the log and to the group, and their responses.

use std::fmt;
use std::time::Duration;

use exactlyonce::broker::{BrokerError, Fetched, LogOffsets, Topic};

use crate::network::Request;
use crate::parties::Service;
use crate::service::simple_log::group::OwnedPartition;
use crate::timeline::Kind;

pub(crate) enum LogRequest {
    Topic(String),
    Offsets(String, i32),
    Fetch {
        topic: String,
        partition: i32,
        offset: i64,
        max_records: usize,
        /// How long to wait for a record if there is none.
        max_wait_ms: u64,
    },
}

pub(crate) enum LogResponse {
    Topic(Topic),
    Offsets(LogOffsets),
    Fetched {
        fetched: Fetched,
        /// It ends where the log ends, as far as the reader can see.
        at_end: bool,
    },
    Refused(BrokerError),
}

impl Request for LogRequest {
    type Response = LogResponse;
    const SERVICE: Service = Service::Log;

    fn is_write(&self) -> bool {
        false
    }

    fn kind(&self) -> Kind {
        Kind::LogRequest
    }

    fn partition(&self) -> Option<i32> {
        match self {
            LogRequest::Topic(_) => None,
            LogRequest::Offsets(_, partition) | LogRequest::Fetch { partition, .. } => Some(*partition),
        }
    }

    fn may_be_held(&self) -> Duration {
        match self {
            LogRequest::Fetch { max_wait_ms, .. } => Duration::from_millis(*max_wait_ms),
            LogRequest::Topic(_) | LogRequest::Offsets(..) => Duration::ZERO,
        }
    }

    fn describe(response: &LogResponse) -> String {
        match response {
            LogResponse::Topic(topic) => format!("{} partitions", topic.partitions),
            LogResponse::Offsets(log) => format!("{}..{}", log.start, log.end),
            LogResponse::Fetched { fetched, at_end } => {
                let offsets: Vec<i64> = fetched.records.iter().map(|record| record.offset).collect();
                let end = if *at_end { ", the end" } else { "" };
                match (offsets.first(), offsets.last()) {
                    (Some(first), Some(last)) => {
                        let length = offsets.len();
                        format!("{length} records {first}..={last}, then {}{end}", fetched.next_offset)
                    }
                    _ => format!("nothing, then {}{end}", fetched.next_offset),
                }
            }
            LogResponse::Refused(error) => error.to_string(),
        }
    }
}

impl fmt::Display for LogRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogRequest::Topic(_) => f.write_str("describe the topic"),
            LogRequest::Offsets(_, partition) => write!(f, "offsets of {partition}"),
            LogRequest::Fetch { partition, offset, max_records, .. } => {
                write!(f, "fetch up to {max_records} of {partition} from {offset}")
            }
        }
    }
}

pub(crate) enum GroupRequest {
    Join,
    Heartbeat { member: u64, released: Vec<(i32, u64)> },
    Leave { member: u64 },
}

#[derive(Debug)]
pub(crate) enum GroupResponse {
    Joined(u64),
    Owned(Vec<OwnedPartition>),
    UnknownMember,
    Left,
}

impl Request for GroupRequest {
    type Response = GroupResponse;
    const SERVICE: Service = Service::Coordinator;

    fn is_write(&self) -> bool {
        false
    }

    fn kind(&self) -> Kind {
        Kind::GroupRequest
    }

    fn describe(response: &GroupResponse) -> String {
        match response {
            GroupResponse::Joined(member) => format!("joined as {member}"),
            GroupResponse::Owned(partitions) => {
                let describe = |owned: &OwnedPartition| {
                    let revoked = if owned.revoked { " (to be released)" } else { "" };
                    format!("{}{revoked}", owned.partition)
                };
                let partitions: Vec<String> = partitions.iter().map(describe).collect();
                format!("owns [{}]", partitions.join(", "))
            }
            GroupResponse::UnknownMember => "unknown member".to_owned(),
            GroupResponse::Left => "left".to_owned(),
        }
    }
}

impl fmt::Display for GroupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupRequest::Join => f.write_str("join"),
            GroupRequest::Heartbeat { member, released } => {
                write!(f, "heartbeat of {member}, released {released:?}")
            }
            GroupRequest::Leave { member } => write!(f, "leave as {member}"),
        }
    }
}
