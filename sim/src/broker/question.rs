//! What is asked of the log and of the group, and what they answer.

use std::fmt;

use exactlyonce::broker::{BrokerError, Fetched, LogOffsets, Topic};

use crate::broker::group::Share;
use crate::faults::Point;
use crate::network::{Question, Service};

#[derive(Clone)]
pub(crate) enum AskLog {
    Topic(String),
    Offsets(String, i32),
    Fetch { topic: String, partition: i32, offset: i64, max_records: usize },
}

pub(crate) enum LogAnswer {
    Topic(Topic),
    Offsets(LogOffsets),
    Fetched {
        fetched: Fetched,
        /// Nothing lies behind it, as far as the reader may see.
        at_end: bool,
    },
    Refused(BrokerError),
}

impl Question for AskLog {
    type Answer = LogAnswer;
    const SERVICE: Service = Service::Log;

    fn point_on_arrival(&self) -> Option<Point> {
        None
    }

    fn point_before_answer(&self) -> Option<Point> {
        None
    }

    fn describe(answer: &LogAnswer) -> String {
        match answer {
            LogAnswer::Topic(topic) => format!("{} partitions", topic.partitions),
            LogAnswer::Offsets(log) => format!("{}..{}", log.start, log.end),
            LogAnswer::Fetched { fetched, at_end } => {
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
            LogAnswer::Refused(error) => error.to_string(),
        }
    }
}

impl fmt::Display for AskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskLog::Topic(_) => f.write_str("describe the topic"),
            AskLog::Offsets(_, partition) => write!(f, "offsets of {partition}"),
            AskLog::Fetch { partition, offset, max_records, .. } => {
                write!(f, "fetch up to {max_records} of {partition} from {offset}")
            }
        }
    }
}

#[derive(Clone)]
pub(crate) enum AskGroup {
    Join,
    Heartbeat { member: u64, released: Vec<(i32, u64)> },
    Leave { member: u64 },
}

#[derive(Debug)]
pub(crate) enum GroupAnswer {
    Joined(u64),
    Shares(Vec<Share>),
    UnknownMember,
    Left,
}

impl Question for AskGroup {
    type Answer = GroupAnswer;
    const SERVICE: Service = Service::Coordinator;

    fn point_on_arrival(&self) -> Option<Point> {
        None
    }

    fn point_before_answer(&self) -> Option<Point> {
        None
    }

    fn describe(answer: &GroupAnswer) -> String {
        match answer {
            GroupAnswer::Joined(member) => format!("joined as {member}"),
            GroupAnswer::Shares(shares) => {
                let share = |share: &Share| {
                    let revoked = if share.revoked { " (to be released)" } else { "" };
                    format!("{}{revoked}", share.partition)
                };
                let shares: Vec<String> = shares.iter().map(share).collect();
                format!("owns [{}]", shares.join(", "))
            }
            GroupAnswer::UnknownMember => "unknown member".to_owned(),
            GroupAnswer::Left => "left".to_owned(),
        }
    }
}

impl fmt::Display for AskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskGroup::Join => f.write_str("join"),
            AskGroup::Heartbeat { member, released } => {
                write!(f, "heartbeat of {member}, released {released:?}")
            }
            AskGroup::Leave { member } => write!(f, "leave as {member}"),
        }
    }
}
