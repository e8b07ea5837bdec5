//! What the workers and each service declare: the faults that can happen to them, the steps that they take, and the
//! situations that a run reaches only with them. Scenarios are drawn, and campaigns judged, from the declarations of the
//! services of a run, so another service adds its own and changes no other.

use strum::IntoEnumIterator;

use super::{simple_log, simple_store};
use crate::observed::Sometimes;
use crate::scenario::Tables;
use crate::scenario::fault::{KindName, Point, Step};
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

    /// Those of a run: of the workers, the log and the tables.
    pub fn of_run(tables: &Tables) -> [&'static Self; 3] {
        [&worker::DECLARATION, &simple_log::DECLARATION, Self::of_tables(tables)]
    }

    /// All of them.
    pub fn all() -> [&'static Self; 4] {
        let tables = [&simple_store::DECLARATION, &service::cassandra::DECLARATION];
        [&worker::DECLARATION, &simple_log::DECLARATION, tables[0], tables[1]]
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
    /// The kinds that are drawn for runs with these tables.
    pub fn drawn(tables: &Tables) -> impl Iterator<Item = KindName> + use<> {
        let declared = Declaration::of_run(tables);
        KindName::iter().filter(move |kind| declared.iter().any(|each| each.faults.contains(kind)))
    }

    /// The kinds of damage that can be done to runs with these tables. A power loss is one, too, where acknowledged writes
    /// are not synced.
    pub fn damage(tables: &Tables) -> impl Iterator<Item = KindName> + use<> {
        let unsynced = matches!(tables, Tables::Cassandra(cluster) if !cluster.synced_first);
        let declared = Declaration::of_run(tables);
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
