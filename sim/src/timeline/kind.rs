//! The kinds of items, and how they are shown.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoEnumIterator};

/// The kind of an item. A service that is added adds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A fault is active.
    Fault,
    /// A process runs.
    Life,
    /// A process is paused.
    Pause,
    /// A worker has a partition.
    Assignment,
    /// The group has given a partition to a member.
    Ownership,
    /// A worker writes.
    Write,
    /// A worker reads.
    Read,
    /// Records are delivered to a worker.
    Delivery,
    /// A record is appended to the log.
    Append,
    /// A request of a client to the tables, or its response.
    TableRequest,
    /// A request of a client to the log, or its response.
    LogRequest,
    /// A request of a client to the group, or its response.
    GroupRequest,
    /// A write that a node sends to a replica, or its response.
    ReplicaWrite,
    /// A read that a node sends to a replica, or its response.
    ReplicaRead,
    /// A hint: a write that a replica missed.
    Hint,
    /// A read repair: what a read found missing.
    ReadRepair,
    /// A step of a conditional write.
    ConditionalWrite,
    /// A thread of a client runs.
    ThreadRuns,
    /// Something that happens once.
    Moment,
}

/// How items of a kind are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The line of a lane.
    Line,
    /// A bar from its beginning to its end.
    Bar,
    /// A box with an outcome.
    Box,
    /// An arrow from one lane to another.
    Arrow,
    /// A point in time.
    Mark,
}

/// A kind, for who shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The kind.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub meaning: String,
    /// How it is drawn.
    pub shape: Shape,
    /// Its colour: a place in the palette of the page.
    pub colour: u8,
    /// False for what is only shown on demand because there is much of it.
    pub is_shown: bool,
}

impl Kind {
    /// The kind for who shows it.
    pub fn describe(self) -> Description {
        use Shape::{Arrow, Bar, Box, Line, Mark};
        let (name, meaning, shape, colour, is_shown) = match self {
            Kind::Fault => ("fault", "is active, with its kind, target and parameters", Bar, 0, true),
            Kind::Life => ("process", "runs", Line, 1, true),
            Kind::Pause => ("pause", "the process does not run, and does not know it", Bar, 2, true),
            Kind::Assignment => ("assignment", "a worker has a partition", Bar, 3, true),
            Kind::Ownership => ("owner", "the group has given a partition to a member", Bar, 3, true),
            Kind::Write => {
                ("write", "a worker's call that writes, until it learns the outcome", Box, 4, true)
            }
            Kind::Read => ("read", "a worker's call that reads", Box, 5, true),
            Kind::Delivery => ("delivery", "records are delivered to a worker", Mark, 6, true),
            Kind::Append => ("record", "is appended to the log", Mark, 7, true),
            Kind::TableRequest => {
                ("request to the tables", "from a client, and the response", Arrow, 4, true)
            }
            Kind::LogRequest => ("request to the log", "from a client, and the response", Arrow, 6, true),
            Kind::GroupRequest => ("request to the group", "heartbeats, and the response", Arrow, 3, false),
            Kind::ReplicaWrite => {
                ("replica write", "a write that a node sends to a replica, and the response", Arrow, 4, true)
            }
            Kind::ReplicaRead => {
                ("replica read", "a read that a node sends to a replica, and the response", Arrow, 5, true)
            }
            Kind::Hint => ("hint", "a write that a replica missed, kept by a coordinator", Arrow, 8, true),
            Kind::ReadRepair => ("read repair", "what a read found missing on a replica", Arrow, 9, true),
            Kind::ConditionalWrite => {
                ("conditional write", "prepare, propose and commit, and the responses", Arrow, 10, false)
            }
            Kind::ThreadRuns => {
                ("thread", "a thread of a client calls the C library, without a longer wait", Bar, 8, true)
            }
            Kind::Moment => ("moment", "of the run", Mark, 11, true),
        };
        let (name, meaning) = (name.to_owned(), meaning.to_owned());
        Description { kind: self, name, meaning, shape, colour, is_shown }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::iter()
    }
}
