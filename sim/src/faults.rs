//! The fault plan of a run. It is data, whether drawn, written by hand or reduced.
//!
//! A plan is a list of faults; a fault has a trigger (a time, or a point of the protocol: "when the third write of counts
//! was applied and its response not yet sent"), a target and a duration. Each kind is enabled with probability 1/2, with
//! log-uniform rates, so that many runs have few kinds, and some have only one. A correct pipeline survives every drawn
//! fault; [`Kind::AcknowledgedWritesDropped`], which no client could survive, is for testing the checker and never drawn.

use std::fmt;

use crate::config::SimConfig;
use crate::network::Service;
use crate::random::{Random, Stream};

/// A plan of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In no order.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it starts.
    pub trigger: Trigger,
    /// Which worker it affects, if any.
    pub target: Target,
    /// What happens.
    pub kind: Kind,
    /// Its duration in simulated milliseconds.
    pub duration_ms: u64,
}

/// When a fault starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At this time after the workers start.
    At {
        /// In simulated milliseconds.
        ms: u64,
    },
    /// When this point was reached for the nth time, from 1, after the workers started.
    When {
        /// The point.
        point: Point,
        /// How often.
        nth: u64,
    },
}

/// A point of the protocol. The service that handles a worker's request has reached it and has not responded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// `progress` was read: nothing was written yet in this assignment.
    ProgressRead,
    /// A partition was registered, and no count of it written yet in this assignment.
    Registered,
    /// Counts of a partition were read: own ones while folding, or those of another partition for the sums.
    CountsRead,
    /// A write has arrived and is not applied yet.
    WriteArrived,
    /// Counts are written, and the sums not yet read.
    CountsWritten,
    /// The registry was read, and the other partitions' counts not yet.
    RegistryRead,
    /// Alerts are written.
    AlertsWritten,
    /// Events and dead letters are written.
    RowsWritten,
    /// Progress is written.
    ProgressWritten,
    /// A partition was assigned to a worker.
    Assigned,
    /// A partition was revoked from a worker.
    Revoked,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 11] = [
        Point::ProgressRead,
        Point::Registered,
        Point::CountsRead,
        Point::WriteArrived,
        Point::CountsWritten,
        Point::RegistryRead,
        Point::AlertsWritten,
        Point::RowsWritten,
        Point::ProgressWritten,
        Point::Assigned,
        Point::Revoked,
    ];
}

/// Which worker a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Worker(u8),
    /// The one that reached the point.
    Triggering,
    /// None in particular.
    Anyone,
}

/// In which direction messages are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// Requests are lost.
    Requests,
    /// Requests arrive, responses are lost.
    Responses,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The worker's process is killed at any await point, and restarted after the duration.
    WorkerKilled,
    /// The worker is paused, and then resumes as if no time had passed.
    WorkerPaused,
    /// The worker is asked to stop, and restarted when it has stopped and the duration is over.
    WorkerStopped,
    /// The link between the worker and a service is cut.
    LinkCut {
        /// The service.
        service: Service,
        /// In which direction.
        direction: Direction,
    },
    /// The service's process is killed with all requests in flight, and restarted after the duration.
    ServiceKilled {
        /// The service.
        service: Service,
    },
    /// Requests are lost before they are applied.
    RequestsLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are applied late, mostly after their client timed out.
    RequestsDelayed {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// Maximum delay in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied a second time, later.
    RequestsDuplicated {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// Maximum delay in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied, and their responses lost.
    ResponsesLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are not applied, and return an error that does not say so.
    ErrorsReturned {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Calls to the store are applied in part and return an error.
    CallsTorn {
        /// How many.
        per_mille: u64,
    },
    /// A partition is added to the topic.
    PartitionAdded,
    /// The group reassigns its partitions repeatedly.
    GroupShuffled {
        /// Time between two reassignments, in milliseconds.
        every_ms: u64,
    },
    /// Readers see the log's end as it was when the fault started, as after an election.
    LogEndLags,
    /// The store acknowledges a write and drops it. Never drawn: the checker must find it.
    AcknowledgedWritesDropped {
        /// How many.
        per_mille: u64,
    },
}

impl Kind {
    /// The names of all kinds that are drawn.
    pub const DRAWN: [&str; 14] = [
        "worker killed",
        "worker paused",
        "worker stopped",
        "link cut",
        "service killed",
        "requests lost",
        "requests delayed",
        "requests duplicated",
        "responses lost",
        "errors returned",
        "calls torn",
        "partition added",
        "group shuffled",
        "log end lags",
    ];

    /// The kind without its details; observed effects are counted under it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::WorkerKilled => "worker killed",
            Kind::WorkerPaused => "worker paused",
            Kind::WorkerStopped => "worker stopped",
            Kind::LinkCut { .. } => "link cut",
            Kind::ServiceKilled { .. } => "service killed",
            Kind::RequestsLost { .. } => "requests lost",
            Kind::RequestsDelayed { .. } => "requests delayed",
            Kind::RequestsDuplicated { .. } => "requests duplicated",
            Kind::ResponsesLost { .. } => "responses lost",
            Kind::ErrorsReturned { .. } => "errors returned",
            Kind::CallsTorn { .. } => "calls torn",
            Kind::PartitionAdded => "partition added",
            Kind::GroupShuffled { .. } => "group shuffled",
            Kind::LogEndLags => "log end lags",
            Kind::AcknowledgedWritesDropped { .. } => "acknowledged writes dropped",
        }
    }

    /// True if it affects a worker, and so needs a target.
    fn affects_worker(self) -> bool {
        matches!(self, Kind::WorkerKilled | Kind::WorkerPaused | Kind::WorkerStopped | Kind::LinkCut { .. })
    }
}

/// Maximum delay of a request, in milliseconds; a run waits at least this long after all faults have ended.
pub const LONGEST_DELAY_MS: u64 = 8_000;

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, config: &SimConfig) -> Self {
        let random = &mut Random::new(seed, Stream::Faults);
        let mut faults = Vec::new();
        for name in Kind::DRAWN {
            if !random.coin() {
                continue;
            }
            for _ in 0..random.log_uniform(1..=12) {
                faults.push(Fault::draw(random, config, name));
            }
        }
        Self { faults }
    }
}

impl Fault {
    fn draw(random: &mut Random, config: &SimConfig, name: &'static str) -> Self {
        let kind = Kind::draw(random, name);
        let point = random.chance(333).then(|| random.pick(&Point::ALL));
        let trigger = match point {
            Some(point) => Trigger::When { point, nth: random.log_uniform(1..=200) },
            None => Trigger::At { ms: random.below(config.chaos_ms) },
        };
        let target = match (kind.affects_worker(), trigger) {
            (false, _) => Target::Anyone,
            (true, Trigger::When { .. }) => Target::Triggering,
            (true, Trigger::At { .. }) => Target::Worker(random.below(config.workers.into()) as u8),
        };
        // Around the session timeout, below and above.
        let duration_ms = match kind.affects_worker() {
            true => random.log_uniform(config.session_timeout_ms / 16..=config.session_timeout_ms * 4),
            false => random.log_uniform(20..=4_000),
        };
        Self { trigger, target, kind, duration_ms }
    }
}

impl Kind {
    fn draw(random: &mut Random, name: &'static str) -> Self {
        let mut service =
            || random.pick(&[Service::Store, Service::Store, Service::Log, Service::Coordinator]);
        let service = service();
        let per_mille = random.log_uniform(8..=600);
        let up_to_ms = random.log_uniform(30..=LONGEST_DELAY_MS);
        let direction =
            random.pick(&[Direction::Both, Direction::Both, Direction::Requests, Direction::Responses]);
        match name {
            "worker killed" => Kind::WorkerKilled,
            "worker paused" => Kind::WorkerPaused,
            "worker stopped" => Kind::WorkerStopped,
            "link cut" => Kind::LinkCut { service, direction },
            "service killed" => Kind::ServiceKilled { service },
            "requests lost" => Kind::RequestsLost { service, per_mille },
            "requests delayed" => Kind::RequestsDelayed { service, per_mille, up_to_ms },
            "requests duplicated" => Kind::RequestsDuplicated { service, per_mille, up_to_ms },
            "responses lost" => Kind::ResponsesLost { service, per_mille },
            "errors returned" => Kind::ErrorsReturned { service, per_mille },
            "calls torn" => Kind::CallsTorn { per_mille },
            "partition added" => Kind::PartitionAdded,
            "group shuffled" => Kind::GroupShuffled { every_ms: random.log_uniform(20..=1_000) },
            "log end lags" => Kind::LogEndLags,
            other => unreachable!("no kind of fault is drawn under the name {other:?}"),
        }
    }
}

impl fmt::Display for Plan {
    /// A line for each fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let Fault { trigger, target, kind, duration_ms } = fault;
            writeln!(f, "  {number:>3}  {trigger:?}  {target:?}  {kind:?}  for {duration_ms} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_of_many_seeds_hold_every_kind_and_every_point_and_never_a_store_that_drops_writes() {
        let faults: Vec<Fault> =
            (0..300).flat_map(|seed| Plan::of(seed, &SimConfig::of(seed)).faults).collect();
        for name in Kind::DRAWN {
            assert!(faults.iter().any(|fault| fault.kind.name() == name), "{name}");
        }
        for point in Point::ALL {
            let at = |fault: &Fault| matches!(fault.trigger, Trigger::When { point: p, .. } if p == point);
            assert!(faults.iter().any(at), "{point:?}");
        }
        let drops = |fault: &Fault| matches!(fault.kind, Kind::AcknowledgedWritesDropped { .. });
        assert!(!faults.iter().any(drops));
    }
}
