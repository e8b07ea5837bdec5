//! The oracles: what must hold while a run goes on, and at its end. One file for each anomaly.
//!
//! An oracle only reads, and draws no random numbers. Those that look while the run goes on are called at the points of the
//! protocol: when a worker is about to write, when it learns that a write is acknowledged, when records are delivered to
//! it; and every 100 ms of simulated time. At the end, everything is compared with the ground truth.

pub mod alerts;
pub mod cell;
pub mod counts;
pub mod delivery;
pub mod durability;
pub(crate) mod members;
pub mod memory;
pub(crate) mod outcome;
pub mod progress;
pub(crate) mod refusal;
pub(crate) mod registry;
pub mod rows;
pub(crate) mod tables;
pub(crate) mod truth;
mod violation;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exactlyonce::event::{Record, Row};
use exactlyonce::store::{Alert, Count, Progress, WindowKey};

use cell::{Cell, Replicas, Value};
use truth::Truth;
pub use violation::{Difference, Position, Violation, Window};

/// The oracles of a run that look while it goes on.
pub(crate) struct Oracles {
    truth: Mutex<Truth>,
    replicas: Box<dyn Replicas>,
    progress: Mutex<progress::Checked>,
}

impl Oracles {
    pub fn new(truth: Truth, replicas: Box<dyn Replicas>) -> Self {
        Self { truth: Mutex::new(truth), replicas, progress: Mutex::default() }
    }

    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is appended to the log.
    pub fn appended(&self, record: Record) {
        self.truth().add(record);
    }

    /// A worker is about to write counts.
    pub fn before_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Vec<Violation> {
        let unregistered = registry::before_counts(partition, self.replicas.see(&Cell::Registry));
        counts::before(&self.truth(), partition, counts).into_iter().chain(unregistered).collect()
    }

    /// A worker is about to write alerts.
    pub fn before_alerts(&self, alerts: &[Alert]) -> Vec<Violation> {
        alerts::before(&self.truth(), alerts)
    }

    /// A worker is about to write rows.
    pub fn before_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Vec<Violation> {
        rows::before(&self.truth(), partition, rows)
    }

    /// A worker is about to write progress; `acknowledged` is that of all partitions.
    pub fn before_progress(
        &self,
        partition: i32,
        progress: Progress,
        acknowledged: &BTreeMap<i32, i64>,
    ) -> Vec<Violation> {
        let mut checked = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        checked.before(&self.truth(), self.replicas.as_ref(), partition, progress.next_offset, acknowledged)
    }

    /// A worker learns that these cells are written.
    pub fn acknowledged(&self, cells: Vec<(Cell, Value)>) -> Vec<Violation> {
        let mut violations = Vec::new();
        let truth = self.truth();
        for (cell, value) in cells {
            let seen = self.replicas.see(&cell);
            violations.extend(counts::seen(&truth, &cell, &seen));
            violations.extend(alerts::seen(&truth, &cell, &seen));
            violations.extend(durability::acknowledged(cell, value, seen));
        }
        violations
    }

    /// A worker starts at a position, which its successor must not find behind it.
    pub fn before_start(&self, partition: i32, offset: i64) -> Option<Violation> {
        let cell = Cell::Progress(partition);
        let seen = self.replicas.see(&cell);
        durability::acknowledged(cell, Value::Progress(offset), seen)
    }

    /// The broker delivers records to a worker.
    pub fn delivered(&self, records: &[Record]) -> Vec<Violation> {
        delivery::changed(&self.truth(), records)
    }

    /// Called regularly.
    pub fn tick(&self) -> Vec<Violation> {
        let mut checked = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        checked.tick(&self.truth(), self.replicas.as_ref())
    }

    /// True if a quorum of another data center lacks a value.
    pub fn is_missing_elsewhere(&self, (cell, value): &(Cell, Value)) -> bool {
        !cell::is_durable(&self.replicas.see_elsewhere(cell), *value)
    }

    /// What the replicas have of a cell.
    pub fn see(&self, cell: &Cell) -> Vec<cell::Seen> {
        self.replicas.see(cell)
    }
}

/// Replicas for tests of oracles.
#[cfg(test)]
pub(crate) struct FakeReplicas(pub Vec<(Cell, Vec<cell::Seen>)>);

#[cfg(test)]
impl Replicas for FakeReplicas {
    fn see(&self, cell: &Cell) -> Vec<cell::Seen> {
        let found = self.0.iter().find(|(known, _)| known == cell);
        found.map_or_else(|| vec![cell::Seen::Nothing; 3], |(_, seen)| seen.clone())
    }
}
