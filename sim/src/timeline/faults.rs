//! Faults, and the processes that they end or pause.

use simulated_hosts::{HostCommand, HostFault, LinkFault, Recovery};

use crate::scenario::fault::{Direction, Fault, Host, Kind as What, Target, Trigger};
use crate::timeline::recording::Open;
use crate::timeline::{Kind, Outcome, Party, Recording};

/// A host, as its lane is called in a text.
fn name(host: Host) -> String {
    match host {
        Host::Worker(worker) => format!("worker {worker}"),
        Host::Triggering => "the worker at the point".to_owned(),
        Host::Service(service) => format!("the {}", format!("{service:?}").to_lowercase()),
        Host::Node(node) => format!("cassandra {}", node + 1),
        Host::Broker(broker) => format!("kafka {}", broker + 1),
    }
}

/// To whom or what a fault happens, in plain terms.
fn target(target: Target) -> String {
    match target {
        Target::Host(host) => name(host),
        Target::AllNodes => "all nodes".to_owned(),
        Target::AllBrokers => "all brokers".to_owned(),
        Target::Link { from, to, direction } => {
            let (from, to) = (name(from), name(to));
            match direction {
                Direction::Both => format!("between {from} and {to}"),
                Direction::Forward => format!("from {from} to {to}"),
                Direction::Backward => format!("from {to} to {from}"),
            }
        }
        Target::Requests(service) => format!("requests to the {}", format!("{service:?}").to_lowercase()),
        Target::Replicas => "messages between nodes".to_owned(),
        Target::Brokers => "messages between brokers".to_owned(),
        Target::Anyone => String::new(),
    }
}

/// The parameters of a kind, as far as its name does not say them.
fn parameters(kind: What) -> String {
    let rate = |per_mille: u64| format!("{} %", per_mille as f64 / 10.0);
    match kind {
        What::Link(LinkFault::Lose { per_mille } | LinkFault::LoseResponses { per_mille })
        | What::ErrorsReturned { per_mille }
        | What::CallsTorn { per_mille }
        | What::AcknowledgedWritesDropped { per_mille } => rate(per_mille),
        What::Link(
            LinkFault::Delay { per_mille, up_to_ms } | LinkFault::Duplicate { per_mille, up_to_ms },
        ) => {
            format!("{}, up to {up_to_ms} ms", rate(per_mille))
        }
        What::Sabotaged { how, per_mille } => {
            let how: &str = how.into();
            format!("{}, {}", how.replace('_', " "), rate(per_mille))
        }
        What::MetadataLags { by_ms } => format!("by {by_ms} ms"),
        What::CoordinatorKilled { writes } => format!("after {writes} writes"),
        What::GroupShuffled { every_ms } => format!("every {every_ms} ms"),
        What::LogTrimmedPastProgress { records } => format!("{records} records"),
        What::LogTruncated { offsets } => format!("{offsets} offsets"),
        What::RowsDeleted { table } => {
            let table: &str = table.into();
            table.to_owned()
        }
        What::Clock(simulated_hosts::ClockFault::Step { by_ms }) => format!("by {by_ms} ms"),
        What::Clock(simulated_hosts::ClockFault::Coarse { step_ms }) => format!("steps of {step_ms} ms"),
        _ => String::new(),
    }
}

impl Recording {
    /// The lanes that a target affects.
    fn affected(&mut self, target: Target) -> Vec<u16> {
        let parties: Vec<(Party, u16)> = self.parties().collect();
        let is_affected = |party: Party| match (target, party) {
            (Target::Host(host), Party::Host(other)) => host == other,
            (Target::AllNodes | Target::Replicas, Party::Host(host)) => matches!(host, Host::Node(_)),
            (Target::AllBrokers | Target::Brokers, Party::Host(host)) => matches!(host, Host::Broker(_)),
            (Target::Link { from, to, .. }, Party::Host(host)) => from == host || to == host,
            (Target::Requests(service), Party::Host(host)) => host == Host::Service(service),
            _ => false,
        };
        parties.into_iter().filter(|(party, _)| is_affected(*party)).map(|(_, lane)| lane).collect()
    }

    /// A fault begins.
    pub fn fault_begins(&mut self, fault: &Fault) {
        let kind: &str = fault.name().into();
        let parts = [kind.replace('_', " "), target(fault.target), parameters(fault.kind)];
        let text: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let mut item = self.item(Kind::Fault, None, text.join(", "));
        item.affects = self.affected(fault.target);
        let mut detail = |name: &str, text: String| item.details.push((name.to_owned(), text));
        detail("fault", fault.id.to_string());
        detail("kind", format!("{:?}", fault.kind));
        detail("target", format!("{:?}", fault.target));
        detail("duration", format!("{} ms from its first effect on", fault.duration_ms));
        match fault.trigger {
            Trigger::At { at_ms } => detail("trigger", format!("{at_ms} ms after the workers start")),
            Trigger::When { point, nth, latest_ms } => detail(
                "trigger",
                format!(
                    "when a worker or node has reached the point {:?} {:?} {nth} times, or after {latest_ms} ms",
                    point.moment, point.step
                ),
            ),
        }
        self.begin(Open::Fault(fault.id), item);
        // What happens to a node is recorded when its host does it.
        if let Target::Host(host @ (Host::Worker(_) | Host::Service(_))) = fault.target {
            match fault.kind {
                What::Host(fault @ (HostFault::Kill | HostFault::PowerLoss)) => {
                    self.process(host, fault.into())
                }
                What::Host(HostFault::Pause) => self.process(host, HostFault::Pause.into()),
                What::Host(HostFault::Stop) => {
                    self.moment(Some(Party::Host(host)), "is asked to stop");
                }
                What::WorkerMisconfigured => self.process(host, HostFault::Kill.into()),
                _ => {}
            }
        }
    }

    /// A fault ends.
    pub fn fault_ends(&mut self, fault: &Fault) {
        self.end_open(Open::Fault(fault.id), Outcome::None);
        if let Target::Host(host @ (Host::Worker(_) | Host::Service(_))) = fault.target {
            match fault.kind {
                What::Host(HostFault::Pause) => self.process(host, HostCommand::Recovery(Recovery::Resume)),
                What::WorkerMisconfigured => self.process(host, HostFault::Kill.into()),
                _ => {}
            }
        }
    }

    /// Something happens to the process of a host.
    pub fn process(&mut self, host: Host, command: HostCommand) {
        let lane = self.lane(Party::Host(host));
        match command {
            HostCommand::Fault(HostFault::Pause) => {
                let item = self.item(Kind::Pause, Some(lane), "paused");
                self.begin(Open::Pause(lane), item);
            }
            HostCommand::Fault(fault) => self.process_ends(host, &fault.to_string().replace('_', " ")),
            HostCommand::Recovery(Recovery::Resume) => {
                self.end_open(Open::Pause(lane), Outcome::None);
            }
            HostCommand::Recovery(Recovery::Start) => self.process_starts(host, "process"),
        }
    }

    /// A process starts.
    pub fn process_starts(&mut self, host: Host, text: &str) {
        let lane = self.lane(Party::Host(host));
        let item = self.item(Kind::Life, Some(lane), text);
        self.end_open(Open::Life(lane), Outcome::None);
        self.begin(Open::Life(lane), item);
    }

    /// A process ends, and all that it was doing.
    pub fn process_ends(&mut self, host: Host, why: &str) {
        let lane = self.lane(Party::Host(host));
        self.end_open(Open::Pause(lane), Outcome::None);
        if let Some(id) = self.end_open(Open::Life(lane), Outcome::Interrupted) {
            self.detail(id, "ends", why);
        }
        self.interrupt(lane);
    }
}
