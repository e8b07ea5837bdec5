//! The faults of a scenario: what happens, to whom or what, when, and for how long.
//!
//! What happens to hosts, disks, clocks and links is the vocabulary of [`simulated_hosts::fault`], which the tests on real
//! services have, too; the rest is this simulation's own. A fault has an id, a trigger (a time, or a step of the protocol:
//! "when the third write of counts was acknowledged by the store and the worker does not know it yet"), a target and a
//! duration. What it is called in tables and by profiles, its [`KindName`], follows from kind and target.
//!
//! Its draws, when it is planned and while it is active, come from a random stream of its own, so that the other faults of
//! a scenario stay the same without it. The streams of a kind depend on its name only, so that they stay the same when the
//! vocabulary grows. A correct pipeline survives every drawn fault; [`Kind::AcknowledgedWritesDropped`], which no client
//! could survive, tests the oracles and is never drawn, and so does [`Kind::Sabotaged`].
//!
//! More kinds, of the class *damage*, are more than a client can survive: they change the log or the tables in a way that
//! the pipeline must refuse, or that `verify` must find. They are drawn for runs of their own.

pub(crate) mod combination;
mod draw;
mod kind;
mod name;
mod point;
mod target;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use draw::LONGEST_DELAY_MS;
pub use kind::{DeletedFrom, Kind, Sabotage};
pub(crate) use name::FAULTS_OF_A_KIND;
pub use name::KindName;
pub use point::{Moment, Point, Step};
pub(crate) use point::{POINTS_OF_A_BATCH, POINTS_TO_HOLD, POINTS_TO_HOLD_UNTIL, POINTS_TO_TEAR};
pub use target::{Direction, Host, Target};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its number in the scenario, and that of its random stream.
    pub id: u64,
    /// When it starts.
    pub trigger: Trigger,
    /// To whom or what it happens.
    pub target: Target,
    /// What happens.
    pub kind: Kind,
    /// How long it lasts from its first effect on, in simulated milliseconds.
    pub duration_ms: u64,
}

impl Fault {
    /// The ids from this on, up to those of drawn faults, are those of faults that profiles add.
    pub const ADDED: u64 = 999;

    /// The ids from this on are those of faults that a scenario does not contain: what stays down after the time of its faults.
    pub const AFTER_FAULTS: u64 = 1 << 20;

    /// What it is called.
    ///
    /// # Panics
    ///
    /// If its kind cannot happen to its target, which no scenario contains that is drawn or read from a file.
    #[track_caller]
    pub fn name(&self) -> KindName {
        KindName::of(self.kind, self.target).unwrap_or_else(|| panic!("{self} is no fault"))
    }

    /// The node whose process or host it stops or pauses.
    pub(crate) fn affects_process_of_node(&self) -> Option<u8> {
        match (self.kind, self.target) {
            (Kind::Host(_) | Kind::Disk(_), Target::Host(Host::Node(node))) => Some(node),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { id, trigger, target, kind, duration_ms } = self;
        write!(f, "{id:>6}  {trigger:?}  {target:?}  {kind:?}  for {duration_ms} ms")
    }
}

/// When a fault starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Trigger {
    /// At this time after the workers start.
    At {
        /// In simulated milliseconds.
        at_ms: u64,
    },
    /// When a worker reaches this point for the nth time, from 1, after the workers started; at the latest at this time.
    When {
        /// The point.
        point: Point,
        /// How often.
        nth: u64,
        /// In simulated milliseconds.
        latest_ms: u64,
    },
}
