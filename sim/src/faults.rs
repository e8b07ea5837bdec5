//! What goes wrong in a run: a plan, which is data, whether drawn, written by hand or cut down.
//!
//! A plan is a list of faults; a fault has a trigger (a time, or a point in meaning: "when the third write of
//! counts was applied and not yet answered"), a target and a duration. Each kind is enabled with probability
//! 1/2, with rates of uniform magnitude, so that many runs have few kinds, and some have one kind alone.
//! Everything drawn here a correct pipeline survives; [`Kind::AcknowledgedWritesDropped`], which no client
//! could survive, is for testing the oracle and never drawn.

use std::fmt;

use crate::dice::{Dice, Stream};
use crate::network::Service;
use crate::world::World;

/// A plan of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In no order.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub trigger: Trigger,
    /// Which worker it hits, if it hits one.
    pub target: Target,
    /// What happens.
    pub kind: Kind,
    /// How long it lasts, in simulated milliseconds.
    pub duration_ms: u64,
}

/// When a fault begins.
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

/// A point in meaning. The service that a worker is talking to has reached it and has not yet answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// `progress` was read: nothing was written yet in this assignment.
    ProgressRead,
    /// A partition was registered, and no count of it written yet in this assignment.
    Registered,
    /// Counts of a partition were read: own ones while folding, or those of another partition for the sums.
    CountsRead,
    /// A write came in and is not yet applied.
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
    /// A partition was given to a worker.
    Assigned,
    /// A partition was asked back from a worker.
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

/// Which worker a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Worker(u8),
    /// The one that reached the point.
    WhoeverGotThere,
    /// None in particular.
    Anyone,
}

/// Which way messages do not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No way.
    Both,
    /// Requests do not arrive.
    Requests,
    /// Requests arrive, answers do not.
    Answers,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The worker's process is gone, at whatever it awaits, and comes back after the duration.
    WorkerKilled,
    /// The worker does nothing, and then goes on as if no time had passed.
    WorkerPaused,
    /// The worker is told to stop, and started again when it has stopped and the duration is over.
    WorkerStopped,
    /// Nothing comes through between the worker and a service.
    LinkCut {
        /// The service.
        service: Service,
        /// Which way.
        direction: Direction,
    },
    /// The service's process is gone with all requests in it, and comes back after the duration.
    ServiceKilled {
        /// The service.
        service: Service,
    },
    /// Requests vanish before they are applied.
    RequestsLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are applied late, mostly after their client gave them up.
    RequestsDelayed {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// How late at most, in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied a second time, later.
    RequestsDoubled {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// How much later at most, in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied, and their answers vanish.
    AnswersLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are not applied, and answered with an error that does not say so.
    ErrorsAnswered {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Calls to the store are applied in part and answered with an error.
    CallsTorn {
        /// How many.
        per_mille: u64,
    },
    /// A partition is added to the topic.
    PartitionAdded,
    /// The group deals its partitions anew, again and again.
    GroupShuffled {
        /// Time between two deals, in milliseconds.
        every_ms: u64,
    },
    /// Readers see the log end where it ended when the fault began, as after an election.
    LogEndLags,
    /// The store acknowledges a write and forgets it. Never drawn: the oracle must find it.
    AcknowledgedWritesDropped {
        /// How many.
        per_mille: u64,
    },
}

impl Kind {
    /// All names of what is drawn.
    pub const DRAWN: [&str; 14] = [
        "worker killed",
        "worker paused",
        "worker stopped",
        "link cut",
        "service killed",
        "requests lost",
        "requests delayed",
        "requests doubled",
        "answers lost",
        "errors answered",
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
            Kind::RequestsDoubled { .. } => "requests doubled",
            Kind::AnswersLost { .. } => "answers lost",
            Kind::ErrorsAnswered { .. } => "errors answered",
            Kind::CallsTorn { .. } => "calls torn",
            Kind::PartitionAdded => "partition added",
            Kind::GroupShuffled { .. } => "group shuffled",
            Kind::LogEndLags => "log end lags",
            Kind::AcknowledgedWritesDropped { .. } => "acknowledged writes dropped",
        }
    }

    /// True if it hits a worker, and so needs a target.
    fn hits_worker(self) -> bool {
        matches!(self, Kind::WorkerKilled | Kind::WorkerPaused | Kind::WorkerStopped | Kind::LinkCut { .. })
    }
}

/// Longest delay of a request, in milliseconds: what a run waits after everything is healed, too.
pub const LONGEST_DELAY_MS: u64 = 8_000;

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, world: &World) -> Self {
        let dice = &mut Dice::new(seed, Stream::Faults);
        let mut faults = Vec::new();
        for name in Kind::DRAWN {
            if !dice.coin() {
                continue;
            }
            for _ in 0..dice.magnitude(1..=12) {
                faults.push(Fault::draw(dice, world, name));
            }
        }
        Self { faults }
    }
}

impl Fault {
    fn draw(dice: &mut Dice, world: &World, name: &'static str) -> Self {
        let kind = Kind::draw(dice, name);
        let point = dice.chance(333).then(|| dice.pick(&Point::ALL));
        let trigger = match point {
            Some(point) => Trigger::When { point, nth: dice.magnitude(1..=200) },
            None => Trigger::At { ms: dice.below(world.stormy_ms) },
        };
        let target = match (kind.hits_worker(), trigger) {
            (false, _) => Target::Anyone,
            (true, Trigger::When { .. }) => Target::WhoeverGotThere,
            (true, Trigger::At { .. }) => Target::Worker(dice.below(world.workers.into()) as u8),
        };
        // Around the session's timeout, below and over.
        let duration_ms = match kind.hits_worker() {
            true => dice.magnitude(world.session_timeout_ms / 16..=world.session_timeout_ms * 4),
            false => dice.magnitude(20..=4_000),
        };
        Self { trigger, target, kind, duration_ms }
    }
}

impl Kind {
    fn draw(dice: &mut Dice, name: &'static str) -> Self {
        let mut service = || dice.pick(&[Service::Store, Service::Store, Service::Log, Service::Coordinator]);
        let service = service();
        let per_mille = dice.magnitude(8..=600);
        let up_to_ms = dice.magnitude(30..=LONGEST_DELAY_MS);
        let direction =
            dice.pick(&[Direction::Both, Direction::Both, Direction::Requests, Direction::Answers]);
        match name {
            "worker killed" => Kind::WorkerKilled,
            "worker paused" => Kind::WorkerPaused,
            "worker stopped" => Kind::WorkerStopped,
            "link cut" => Kind::LinkCut { service, direction },
            "service killed" => Kind::ServiceKilled { service },
            "requests lost" => Kind::RequestsLost { service, per_mille },
            "requests delayed" => Kind::RequestsDelayed { service, per_mille, up_to_ms },
            "requests doubled" => Kind::RequestsDoubled { service, per_mille, up_to_ms },
            "answers lost" => Kind::AnswersLost { service, per_mille },
            "errors answered" => Kind::ErrorsAnswered { service, per_mille },
            "calls torn" => Kind::CallsTorn { per_mille },
            "partition added" => Kind::PartitionAdded,
            "group shuffled" => Kind::GroupShuffled { every_ms: dice.magnitude(20..=1_000) },
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
    fn the_plans_of_many_seeds_hold_every_kind_and_every_point_and_never_a_lying_store() {
        let faults: Vec<Fault> = (0..300).flat_map(|seed| Plan::of(seed, &World::of(seed)).faults).collect();
        for name in Kind::DRAWN {
            assert!(faults.iter().any(|fault| fault.kind.name() == name), "{name}");
        }
        for point in Point::ALL {
            let at = |fault: &Fault| matches!(fault.trigger, Trigger::When { point: p, .. } if p == point);
            assert!(faults.iter().any(at), "{point:?}");
        }
        let lying = |fault: &Fault| matches!(fault.kind, Kind::AcknowledgedWritesDropped { .. });
        assert!(!faults.iter().any(lying));
    }
}
