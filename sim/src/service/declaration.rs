//! What the workers and each service declare: the faults that can happen to them, the steps that they take, and the
//! situations that a run reaches only with them. Scenarios are drawn, and campaigns judged, from the declarations of the
//! services of a run, so another service adds its own and changes no other.

use strum::IntoEnumIterator;

use super::{kafka, simple_log, simple_store};
use crate::observed::Sometimes;
use crate::scenario::fault::{KindName, Point, Step};
use crate::scenario::{Log, Services, Tables};
use crate::{service, worker};

/// The declaration of the workers, or of a service.
pub(crate) struct Declaration {
    /// The faults that a correct pipeline survives.
    pub faults: &'static [KindName],
    /// The faults that no client can survive.
    pub damage: &'static [KindName],
    /// The steps that a fault may wait for.
    pub steps: &'static [Step],
    /// The situations that need this service.
    pub situations: &'static [Sometimes],
}

impl Declaration {
    /// That of the service with the tables.
    pub fn of_tables(tables: &Tables) -> &'static Self {
        match tables {
            Tables::Simple => &simple_store::DECLARATION,
            Tables::Cassandra(_) => &service::cassandra::DECLARATION,
        }
    }

    /// That of the service with the log.
    pub fn of_log(log: &Log) -> &'static Self {
        match log {
            Log::Simple => &simple_log::DECLARATION,
            Log::Kafka(_) => &kafka::declaration::DECLARATION,
        }
    }

    /// Those of a run: of the workers, the log and the tables.
    pub fn of_run(services: Services<'_>) -> [&'static Self; 3] {
        [&worker::DECLARATION, Self::of_log(services.log), Self::of_tables(services.tables)]
    }

    /// All of them.
    pub fn all() -> [&'static Self; 5] {
        let tables = [&simple_store::DECLARATION, &service::cassandra::DECLARATION];
        let logs = [&simple_log::DECLARATION, &kafka::declaration::DECLARATION];
        [&worker::DECLARATION, logs[0], logs[1], tables[0], tables[1]]
    }

    /// The points inside the clusters of a run: those that no worker passes.
    pub fn of_clusters(services: Services<'_>) -> Vec<Point> {
        let of_worker: Vec<Point> = Point::of_worker().collect();
        let of_services = [Self::of_tables(services.tables), Self::of_log(services.log)];
        let points = of_services.into_iter().flat_map(Declaration::points);
        points.filter(|point| !of_worker.contains(point)).collect()
    }

    /// True if a fault, or damage, of this kind can happen to it.
    pub fn has(&self, kind: KindName) -> bool {
        self.faults.contains(&kind) || self.damage.contains(&kind)
    }

    /// The points that it passes, in the order of its steps.
    pub fn points(&self) -> impl Iterator<Item = Point> + use<> {
        self.steps.iter().flat_map(|step| step.moments().map(|moment| Point { step: *step, moment }))
    }
}

impl Point {
    /// The points that a worker passes, with any tables: those of its requests, and of what the log's group sends it.
    pub fn of_worker() -> impl Iterator<Item = Point> {
        worker::DECLARATION.points().chain(simple_log::DECLARATION.points())
    }
}

impl KindName {
    /// The kinds that are drawn for runs on these services.
    pub fn drawn(services: Services<'_>) -> impl Iterator<Item = KindName> + use<> {
        let declared = Declaration::of_run(services);
        KindName::iter().filter(move |kind| declared.iter().any(|each| each.faults.contains(kind)))
    }

    /// The kinds of damage that can be done to runs on these services. A power loss is one, too, where acknowledged writes
    /// are not synced.
    pub fn damage(services: Services<'_>) -> impl Iterator<Item = KindName> + use<> {
        let unsynced = matches!(services.tables, Tables::Cassandra(cluster) if !cluster.synced_first);
        let declared = Declaration::of_run(services);
        let is_damage = move |kind: &KindName| declared.iter().any(|each| each.damage.contains(kind));
        KindName::iter().filter(move |kind| is_damage(kind) || *kind == KindName::PowerLost && unsynced)
    }

    /// True if no client can survive it: the pipeline must refuse to continue, or `verify` must find it.
    pub fn is_damage(self) -> bool {
        Declaration::all().iter().any(|each| each.damage.contains(&self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_every_kind_that_can_be_drawn_is_declared() {
        for step in Step::iter() {
            assert!(Declaration::all().iter().any(|each| each.steps.contains(&step)), "{step:?}");
        }
        let sabotage = [KindName::AcknowledgedWritesDropped, KindName::Sabotaged];
        for kind in KindName::iter().filter(|kind| !sabotage.contains(kind)) {
            assert!(Declaration::all().iter().any(|each| each.has(kind)), "{kind}");
        }
        for kind in KindName::iter() {
            let is_survived = Declaration::all().iter().any(|each| each.faults.contains(&kind));
            assert!(!(is_survived && kind.is_damage()), "{kind}");
        }
    }
}
