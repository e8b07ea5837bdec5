//! A member of a group of the `consumer` protocol.

use bytes::Bytes;

use super::Partitions;
use super::records::{CurrentValue, MemberValue};

/// The epoch of a member that is leaving.
pub(crate) const LEAVE: i32 = -1;
/// The epoch of a static member that left for now, and may come back.
pub(crate) const LEAVE_STATIC: i32 = -2;

/// How far a member is on its way to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has what it shall have, as of its epoch.
    Stable,
    /// It has yet to give up partitions.
    UnrevokedPartitions,
    /// It waits for partitions that others have yet to give up.
    UnreleasedPartitions,
    /// Written by a later version of Kafka.
    Unknown,
}

impl MemberState {
    /// The state of a record.
    pub(crate) fn of(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Stable),
            1 => Some(Self::UnrevokedPartitions),
            2 => Some(Self::UnreleasedPartitions),
            127 => Some(Self::Unknown),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }
}

/// What is known of a member that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassicMetadata {
    /// In milliseconds.
    pub(crate) session_timeout: i32,
    /// Names and metadata, in the order of preference.
    pub(crate) protocols: Vec<(String, Bytes)>,
}

/// A member of a group of the `consumer` protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerMember {
    pub(crate) id: String,
    /// What it says of itself.
    pub(crate) value: MemberValue,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    /// What it has, and may keep.
    pub(crate) assigned: Partitions,
    /// What it has, and has to give up.
    pub(crate) pending_revocation: Partitions,
}

impl ConsumerMember {
    /// A member that is not yet in its group.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            value: MemberValue { rebalance_timeout: -1, ..MemberValue::default() },
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            pending_revocation: Partitions::new(),
        }
    }

    /// Takes a record of its assignment.
    pub(crate) fn take(&mut self, value: CurrentValue) {
        self.epoch = value.epoch;
        self.previous_epoch = value.previous_epoch;
        self.state = value.state;
        self.assigned = value.assigned;
        self.pending_revocation = value.pending_revocation;
    }

    /// Whether it has all of the target of this epoch.
    pub(crate) fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// Whether it speaks the classic protocol.
    pub(crate) fn is_classic(&self) -> bool {
        self.value.classic.is_some()
    }

    pub(crate) fn instance(&self) -> Option<&str> {
        self.value.instance_id.as_deref()
    }

    /// Its regular expression; an empty one is none.
    pub(crate) fn regex(&self) -> Option<&str> {
        self.value.regex.as_deref().filter(|regex| !regex.is_empty())
    }
}
