//! The kinds of faults, and which of them were injected.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use simulated_hosts::HostFault;

use crate::services::Host;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of one process.
    One(Host, HostFault),
    /// A pause of a worker that lasts longer than its session timeout.
    PauseOverSession,
    /// Of two of three nodes: nothing is acknowledged until it ends.
    QuorumOfNodes(HostFault),
    /// Of all nodes at once.
    AllNodes(HostFault),
    /// All processes are stopped and started, one after another.
    InTurn(Host),
    /// Of the messages from one server to another; those in the other direction arrive.
    Cut(Host),
    /// Of all messages between one server and the others of its kind. Clients still reach it.
    CutOff(Host),
    /// To another replica in sync, of a partition or of the coordinator of a group.
    LeaderMoved,
    PartitionAdded,
}

impl Kind {
    /// What it affects, and how if it is a fault of a process; none if it is no fault.
    fn affects(self) -> Option<(Host, Option<HostFault>)> {
        match self {
            Kind::One(host, fault) => Some((host, Some(fault))),
            Kind::PauseOverSession => Some((Host::Worker, Some(HostFault::Pause))),
            Kind::QuorumOfNodes(fault) | Kind::AllNodes(fault) => Some((Host::Node, Some(fault))),
            Kind::InTurn(host) => Some((host, Some(HostFault::Stop))),
            Kind::Cut(host) | Kind::CutOff(host) => Some((host, None)),
            Kind::LeaderMoved => Some((Host::Broker, None)),
            Kind::PartitionAdded => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::One(Host::Worker, HostFault::Pause) => {
                f.write_str("worker paused below the session timeout")
            }
            Kind::PauseOverSession => f.write_str("worker paused over the session timeout"),
            Kind::One(host, fault) => write!(f, "{host} {}", participle(*fault)),
            Kind::QuorumOfNodes(fault) => write!(f, "nodes {}, a quorum of them", participle(*fault)),
            Kind::AllNodes(fault) => write!(f, "nodes {}, all at once", participle(*fault)),
            Kind::InTurn(host) => write!(f, "{host}s restarted in turn"),
            Kind::Cut(host) => write!(f, "link between {host}s cut in one direction,"),
            Kind::CutOff(host) => write!(f, "{host} cut off from the others"),
            Kind::LeaderMoved => f.write_str("leader moved,"),
            Kind::PartitionAdded => f.write_str("partition added, now"),
        }
    }
}

fn participle(fault: HostFault) -> &'static str {
    match fault {
        HostFault::Kill => "killed",
        HostFault::PowerLoss => "without power",
        HostFault::Stop => "stopped",
        HostFault::Pause => "paused",
    }
}

/// The faults that were injected so far.
pub struct FaultLog {
    start: Instant,
    counts: Mutex<BTreeMap<Kind, u32>>,
}

impl FaultLog {
    pub fn new() -> Self {
        Self { start: Instant::now(), counts: Mutex::default() }
    }

    pub fn record(&self, kind: Kind, target: &str) {
        println!("{:>7.2} s  {kind} {target}", self.start.elapsed().as_secs_f64());
        *self.counts.lock().expect("no panic").entry(kind).or_default() += 1;
    }

    /// Number of such faults; of any kind, if none is given.
    pub fn count(&self, host: Host, fault: Option<HostFault>) -> u32 {
        let counts = self.counts.lock().expect("no panic");
        let matches = |kind: &Kind| {
            kind.affects().is_some_and(|(of, what)| of == host && (fault.is_none() || fault == what))
        };
        counts.iter().filter(|(kind, _)| matches(kind)).map(|(_, count)| count).sum()
    }

    pub fn print(&self) {
        for (kind, count) in self.counts.lock().expect("no panic").iter() {
            println!("{count:>5} x {kind}");
        }
    }
}

#[test]
fn every_fault_is_printed_and_counted_by_what_it_does_to_which_process() {
    let log = FaultLog::new();
    let kinds = [
        (Kind::One(Host::Worker, HostFault::Kill), "worker killed"),
        (Kind::One(Host::Worker, HostFault::Pause), "worker paused below the session timeout"),
        (Kind::PauseOverSession, "worker paused over the session timeout"),
        (Kind::InTurn(Host::Worker), "workers restarted in turn"),
        (Kind::One(Host::Node, HostFault::Kill), "node killed"),
        (Kind::One(Host::Node, HostFault::Pause), "node paused"),
        (Kind::QuorumOfNodes(HostFault::Pause), "nodes paused, a quorum of them"),
        (Kind::AllNodes(HostFault::Kill), "nodes killed, all at once"),
        (Kind::One(Host::Broker, HostFault::Kill), "broker killed"),
        (Kind::One(Host::Broker, HostFault::Pause), "broker paused"),
        (Kind::InTurn(Host::Broker), "brokers restarted in turn"),
        (Kind::One(Host::Broker, HostFault::PowerLoss), "broker without power"),
        (Kind::AllNodes(HostFault::PowerLoss), "nodes without power, all at once"),
        (Kind::Cut(Host::Node), "link between nodes cut in one direction,"),
        (Kind::CutOff(Host::Broker), "broker cut off from the others"),
        (Kind::LeaderMoved, "leader moved,"),
        (Kind::PartitionAdded, "partition added, now"),
    ];
    for (kind, text) in kinds {
        assert_eq!(kind.to_string(), text);
        log.record(kind, "");
    }
    let count = |host, fault| log.count(host, fault);
    assert_eq!(
        (count(Host::Worker, Some(HostFault::Kill)), count(Host::Worker, Some(HostFault::Pause))),
        (1, 2)
    );
    assert_eq!((count(Host::Worker, None), count(Host::Node, None), count(Host::Broker, None)), (4, 6, 6));
    assert_eq!(count(Host::Node, Some(HostFault::Stop)), 0);
}
