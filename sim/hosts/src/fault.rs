//! What may happen to hosts, disks, clocks and links.
//!
//! A fault says what happens, not to which host or link, when, or for how long: that is up to whoever plans it. Nor does
//! it say what a service does then, only in which state the process, the operating system and the network are:
//!
//! | | memory of the process | page cache of the host | data not synced | connections |
//! |---|---|---|---|---|
//! | [`HostFault::Stop`] | written as the process decides | kept | synced, if the process does so | closed by the process |
//! | [`HostFault::Kill`] | lost | kept | kept, the kernel writes it | closed by the kernel |
//! | [`HostFault::PowerLoss`] | lost | lost | lost | nothing is sent: peers wait |
//! | [`HostFault::Pause`] | kept | kept | kept | open, and acknowledged by the kernel |
//!
//! A process that passes data to its operating system (`write`, or a file that is mapped) before it acknowledges them
//! keeps them through [`HostFault::Kill`]. To keep them through [`HostFault::PowerLoss`], too, it must sync them (`fsync`,
//! `msync`) before. Cassandra's `commitlog_sync: periodic`, its default, and Kafka's default (`log.flush.interval.messages`
//! unset) do not sync before they acknowledge; Cassandra's `batch` and `group` do.
//!
//! Sources: signal(7), write(2), fsync(2) and tcp(7) of Linux; cassandra.yaml of Cassandra 5.0; "Application and OS flush
//! management" of the documentation of Kafka.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoEnumIterator, IntoStaticStr, ParseError};

/// What happens to the process of a host, or to the host. [`HostFault::recovery`] ends it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HostFault {
    /// The process ends at once, as by SIGKILL. Its memory is lost. What it had passed to the operating system is in the page
    /// cache and reaches the disk, synced or not. The kernel closes its connections, so its peers learn that it ended, and
    /// refuses new ones.
    Kill,
    /// The host loses its power. Memory and page cache are lost: the disk has what was synced, and nothing is known of the rest.
    /// No connection is closed: peers wait for their timeouts, until the host runs again and its kernel resets them.
    PowerLoss,
    /// The process ends orderly, as by SIGTERM: it may write and sync what it has in memory, hand over its duties and
    /// close its connections before it ends.
    Stop,
    /// The process does not run, as after SIGSTOP, and loses nothing. Its kernel keeps its connections open, acknowledges
    /// data as long as there are buffers and accepts connections as long as the backlog has space; nobody responds. When
    /// it is resumed it processes what has arrived, as if no time had passed.
    Pause,
}

impl HostFault {
    /// What ends it.
    pub const fn recovery(self) -> Recovery {
        match self {
            HostFault::Kill | HostFault::PowerLoss | HostFault::Stop => Recovery::Start,
            HostFault::Pause => Recovery::Resume,
        }
    }

    /// Whether the process ends, and with it all that it had in memory.
    pub const fn ends_process(self) -> bool {
        match self {
            HostFault::Kill | HostFault::PowerLoss | HostFault::Stop => true,
            HostFault::Pause => false,
        }
    }

    /// Whether data that were passed to the operating system and not synced are lost.
    pub const fn loses_unsynced(self) -> bool {
        match self {
            HostFault::PowerLoss => true,
            HostFault::Kill | HostFault::Stop | HostFault::Pause => false,
        }
    }
}

/// What ends a [`HostFault`].
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Recovery {
    /// The process starts, on what its disk has; a host without power has it again before. It is another process: its
    /// peers' old connections are reset.
    Start,
    /// The paused process continues, as after SIGCONT.
    Resume,
}

/// A command to a host: a fault, or what ends it. Written and parsed as a command line has it, with hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostCommand {
    /// Begins a fault.
    Fault(HostFault),
    /// Ends one.
    Recovery(Recovery),
}

impl HostCommand {
    /// All of them.
    pub fn all() -> impl Iterator<Item = HostCommand> {
        HostFault::iter().map(HostCommand::Fault).chain(Recovery::iter().map(HostCommand::Recovery))
    }
}

impl From<HostFault> for HostCommand {
    fn from(fault: HostFault) -> Self {
        HostCommand::Fault(fault)
    }
}

impl From<Recovery> for HostCommand {
    fn from(recovery: Recovery) -> Self {
        HostCommand::Recovery(recovery)
    }
}

impl fmt::Display for HostCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &str = match self {
            HostCommand::Fault(fault) => fault.into(),
            HostCommand::Recovery(recovery) => recovery.into(),
        };
        f.pad(&name.replace('_', "-"))
    }
}

impl FromStr for HostCommand {
    type Err = ParseError;

    /// Parses `power-loss`, and also `power_loss`.
    fn from_str(command: &str) -> Result<Self, ParseError> {
        let name = command.replace('-', "_");
        match name.parse() {
            Ok(fault) => Ok(HostCommand::Fault(fault)),
            Err(_) => name.parse().map(HostCommand::Recovery),
        }
    }
}

/// What happens to a disk whose process does not run.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DiskFault {
    /// It is replaced by an empty one, and what was on it is lost, synced or not, with everything by which the process
    /// recognized itself. Nothing ends it: the process starts as a new one, at the same address.
    Wipe,
}

/// What happens to a host's clock, the one that shows the time of day. Timers are not affected.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumDiscriminants, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[strum_discriminants(
    name(ClockFaultName),
    doc = "A [`ClockFault`] without its parameters.",
    derive(PartialOrd, Ord, Hash, Display, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize),
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case")
)]
pub enum ClockFault {
    /// It is set forward or back, and by as much in the other direction at the end. It shows some times twice, or never.
    Step {
        /// By how many milliseconds; back if negative.
        by_ms: i64,
    },
    /// It shows only multiples of some time, so that many events have the same time.
    Coarse {
        /// The time, in milliseconds.
        step_ms: i64,
    },
}

impl ClockFault {
    /// The fault without its parameters.
    pub fn name(self) -> ClockFaultName {
        self.into()
    }
}

/// What happens to a link: to what one host sends to another. The other direction is a link of its own.
///
/// A message is what the link of a service carries: a request, a response, a message between nodes, or a segment of a
/// TCP connection. What a link does with a lost message depends on what it is made of: TCP sends it again, so that it arrives
/// late and in order when the fault has ended, unless a timeout closed the connection before; a link without
/// connections loses it. Which messages are affected, all or those of a kind, is up to whoever plans the fault. Rates are
/// of 1,000 messages, independent of each other.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumDiscriminants, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[strum_discriminants(
    name(LinkFaultName),
    doc = "A [`LinkFault`] without its parameters.",
    derive(PartialOrd, Ord, Hash, Display, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize),
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case")
)]
pub enum LinkFault {
    /// Every message is lost, in this direction. Connections stay open, and neither host learns of it.
    Cut,
    /// Some messages are lost: a lost request has no effect.
    Lose {
        /// How many.
        per_mille: u64,
    },
    /// Requests arrive and are processed, and some of their responses are lost: the sender does not learn the outcome.
    LoseResponses {
        /// How many.
        per_mille: u64,
    },
    /// Some messages arrive late, and so after others that were sent later.
    Delay {
        /// How many.
        per_mille: u64,
        /// By how much at most, in milliseconds.
        up_to_ms: u64,
    },
    /// Some messages arrive a second time, later.
    Duplicate {
        /// How many.
        per_mille: u64,
        /// By how much later at most, in milliseconds.
        up_to_ms: u64,
    },
    /// The connections are reset (RST), once: both hosts learn it, and what was in flight is lost. Later connections are
    /// not affected, so nothing ends it.
    Reset,
}

impl LinkFault {
    /// The fault without its parameters.
    pub fn name(self) -> LinkFaultName {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    /// Checks that each value is parsed from its name and serialized as it. Returns the names.
    fn names<T>() -> Vec<String>
    where
        T: Copy
            + Debug
            + PartialEq
            + fmt::Display
            + FromStr
            + IntoEnumIterator
            + Serialize
            + DeserializeOwned,
    {
        let check = |value: T| {
            let name = value.to_string();
            assert_eq!(name.parse::<T>().ok(), Some(value));
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(json, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
            name
        };
        T::iter().map(check).collect()
    }

    #[test]
    fn every_name_is_written_parsed_and_serialized_in_snake_case() {
        assert_eq!(names::<HostFault>(), ["kill", "power_loss", "stop", "pause"]);
        assert_eq!(names::<Recovery>(), ["start", "resume"]);
        assert_eq!(names::<DiskFault>(), ["wipe"]);
        assert_eq!(names::<ClockFaultName>(), ["step", "coarse"]);
        let links = ["cut", "lose", "lose_responses", "delay", "duplicate", "reset"];
        assert_eq!(names::<LinkFaultName>(), links);
    }

    #[test]
    fn a_fault_with_parameters_is_serialized_with_their_units_and_refuses_others() {
        let delay = LinkFault::Delay { per_mille: 30, up_to_ms: 400 };
        let json = serde_json::to_string(&delay).unwrap();
        assert_eq!(json, r#"{"delay":{"per_mille":30,"up_to_ms":400}}"#);
        assert_eq!(serde_json::from_str::<LinkFault>(&json).unwrap(), delay);
        assert_eq!(serde_json::from_str::<LinkFault>(r#""cut""#).unwrap(), LinkFault::Cut);
        assert!(serde_json::from_str::<LinkFault>(r#"{"lose":{"per_mille":1,"up_to_ms":1}}"#).is_err());
        assert!(serde_json::from_str::<ClockFault>(r#"{"step":{"by_s":1}}"#).is_err());
        assert_eq!(ClockFault::Step { by_ms: -5 }.name(), ClockFaultName::Step);
        assert_eq!(delay.name().to_string(), "delay");
    }

    #[test]
    fn a_command_has_hyphens_and_each_is_parsed_from_its_text() {
        let commands: Vec<String> = HostCommand::all().map(|command| command.to_string()).collect();
        assert_eq!(commands, ["kill", "power-loss", "stop", "pause", "start", "resume"]);
        for command in HostCommand::all() {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
        assert_eq!("power_loss".parse(), Ok(HostCommand::Fault(HostFault::PowerLoss)));
        assert!("Kill".parse::<HostCommand>().is_err() && "".parse::<HostCommand>().is_err());
        assert_eq!(format!("{:<8}|", HostCommand::from(Recovery::Start)), "start   |");
    }

    #[test]
    fn every_fault_of_a_host_has_a_recovery_and_every_recovery_a_fault() {
        let ends: BTreeSet<Recovery> = HostFault::iter().map(HostFault::recovery).collect();
        assert_eq!(ends, Recovery::iter().collect());
        for fault in HostFault::iter() {
            assert_eq!(fault.ends_process(), fault.recovery() == Recovery::Start, "{fault}");
            assert!(fault.ends_process() || !fault.loses_unsynced(), "{fault}");
        }
    }
}
