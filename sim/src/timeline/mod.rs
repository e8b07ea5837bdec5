//! The timeline of a run, as data: what its workers, services and nodes did, which messages they exchanged, which faults
//! were active, and what became of the cells of its first violation. [`page`] shows it.
//!
//! It is recorded where each thing happens, not read from the trace, and only on demand. Recording reads and never waits or
//! draws, so a recorded run has the trace of one that is not. Lanes, kinds of items and texts are part of the data: who
//! shows a timeline knows no service, and a service that is added brings its own lanes and kinds.
//!
//! Times are simulated microseconds; `event` is the number of the last event of the trace by then.

mod calls;
mod difference;
mod faults;
mod group;
mod history;
mod kind;
mod lanes;
mod meaning;
mod messages;
mod packed;
pub mod page;
mod recording;

use serde::{Deserialize, Serialize};

pub(crate) use calls::{Call, Described};
pub use difference::{Difference, first_difference};
pub(crate) use history::Touched;
pub use history::{CellKey, Touch};
pub use kind::{Description, Kind, Shape};
pub(crate) use recording::{ItemId, Party, Recorder, Recording};

/// The version of the format. Timelines of another version cannot be read.
pub const FORMAT: u32 = 1;

/// A timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// [`FORMAT`].
    pub format: u32,
    /// What was run.
    pub run: About,
    /// What it did wrong, in the order in which it was found.
    pub violations: Vec<Judged>,
    /// Who did something, in the order in which they are shown.
    pub lanes: Vec<Lane>,
    /// What kinds of items there are.
    pub kinds: Vec<Description>,
    /// The sources of the records that occur, each shortened.
    pub sources: Vec<String>,
    /// What happened, in the order of its beginning.
    pub items: Vec<Item>,
    /// The cells of the first violation, as keys and in plain text.
    pub cells: Vec<(CellKey, String)>,
    /// What happened to these cells, in order.
    pub history: Vec<Touch>,
    /// When the run ended, in simulated microseconds.
    pub end: u64,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// What the run is called.
    pub title: String,
    /// What a reader should look at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The scenario's seed.
    pub seed: String,
    /// Its services.
    pub world: String,
    /// Its profile.
    pub profile: String,
    /// The commit of the build.
    pub commit: String,
    /// What repeats the run.
    pub command: String,
    /// Number of events of the trace.
    pub events: u64,
    /// The hash of the trace.
    pub hash: String,
}

/// A violation, in plain terms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// The same as a phrase.
    pub title: String,
    /// What a violation of this name means.
    pub meaning: String,
    /// What was found, in a sentence.
    pub finding: String,
    /// The evidence as the report has it.
    pub evidence: String,
    /// When it was found, in simulated microseconds.
    pub at: u64,
    /// The event of the trace.
    pub event: u64,
    /// Whose act it was found at, if it was one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u16>,
}

/// A lane: a worker, a service, a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// What it belongs to. Lanes of a group are shown together.
    pub group: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Which kind of thing.
    pub kind: Kind,
    /// Who did it; none for what concerns the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u16>,
    /// The receiver of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// When it began, or was sent.
    pub start: u64,
    /// The event of the trace at which it began.
    pub event: u64,
    /// When it ended, or arrived; none if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// The event of the trace at which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_event: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Outcome::is_none")]
    pub outcome: Outcome,
    /// What it is, short.
    pub text: String,
    /// More: names and texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, String)>,
    /// The partitions that it concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<i32>,
    /// The sources that it concerns, as places in [`Timeline::sources`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<u16>,
    /// The item that answers it, or that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// The lanes that a fault affects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<u16>,
}

/// How something ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has no outcome.
    #[default]
    None,
    /// It was acknowledged, or did what it should.
    Acknowledged,
    /// Who did it never learned what became of it.
    Unknown,
    /// It was refused.
    Refused,
    /// An error was returned.
    Failed,
    /// It never arrived.
    Lost,
    /// It arrived when nobody waited for it any more.
    Late,
    /// The process that did it ended before.
    Interrupted,
}

impl Outcome {
    fn is_none(&self) -> bool {
        *self == Outcome::None
    }
}
