//! A node's data: in memory, in the commit log, and on the disk that outlives the node.
//!
//! Every change goes into the commit log and into memory; memory is flushed periodically to the disk's
//! tables and the log restarts empty. A disk keeps the whole log when the process dies (the operating system has the file
//! mapped), but only the part that was synced when the power fails. What is not written here is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::scan::{ReplicaRows, TooManyTombstones, scan};
use super::{DecoratedKey, Mutation, Partition, ReadCommand, Seconds, Timestamp};
use crate::coordinator::StoredStatement;
use crate::schema::{Schema, SchemaChange, Table, TableId};

/// The partitions of a table. Shared until changed, so that a flush copies nothing.
pub(crate) type Partitions = BTreeMap<DecoratedKey, Arc<Partition>>;

/// The proposal number of a conditional write: a time in microseconds, made unique by the other bits. It is also the
/// timestamp of the written cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ballot {
    /// The timestamp.
    pub timestamp: Timestamp,
    /// Which of several with the same timestamp.
    pub tie_breaker: u64,
}

/// What a replica knows of the conditional writes to one partition (`system.paxos`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaxosState {
    /// The highest ballot that was promised: nothing lower is accepted any more.
    pub promised: Ballot,
    /// What was accepted last and not seen committed; no mutation if the condition did not hold.
    pub accepted: Option<(Ballot, Option<Arc<Mutation>>)>,
    /// What was committed last.
    pub committed: Option<(Ballot, Option<Arc<Mutation>>)>,
}

/// A logged batch that may have to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// When its coordinator wrote it, by that node's clock.
    pub written_at: Timestamp,
    /// What it writes.
    pub mutations: Arc<Vec<Arc<Mutation>>>,
}

/// A mutation that a replica missed, kept by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// When the coordinator wrote it down, by its clock in microseconds.
    pub written_at: Timestamp,
    /// After so many seconds it is dropped (the smallest `gc_grace_seconds` of its tables).
    pub lifetime: Seconds,
    /// What was missed, with its original timestamps.
    pub mutation: Arc<Mutation>,
}

/// A schema change with its place in the order in which all nodes apply them.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaEntry {
    /// When it was made, by the clock of the coordinating node.
    pub timestamp: Timestamp,
    /// Which of several with the same timestamp.
    pub unique: u128,
    /// The change.
    pub change: Arc<SchemaChange>,
}

/// A record of the commit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Write(Arc<Mutation>),
    Paxos(TableId, DecoratedKey, PaxosState),
    StoreBatch(u128, StoredBatch),
    RemoveBatch(u128),
}

/// What the commit log describes.
#[derive(Debug, Clone, Default)]
struct Content {
    tables: BTreeMap<TableId, Partitions>,
    paxos: BTreeMap<(TableId, DecoratedKey), PaxosState>,
    batches: BTreeMap<u128, StoredBatch>,
}

impl Content {
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Write(mutation) => {
                for (table, update) in &mutation.updates {
                    let rows = self.tables.entry(*table).or_default();
                    let partition = rows.entry(mutation.key.clone()).or_default();
                    Arc::make_mut(partition).merge(update);
                }
            }
            Record::Paxos(table, key, state) => {
                self.paxos.insert((*table, key.clone()), state.clone());
            }
            Record::StoreBatch(id, batch) => {
                self.batches.insert(*id, batch.clone());
            }
            Record::RemoveBatch(id) => {
                self.batches.remove(id);
            }
        }
    }
}

#[derive(Debug, Default)]
struct DiskContent {
    flushed: Content,
    log: Vec<Record>,
    /// The number of records ever logged before the first of `log`.
    log_start: u64,
    /// The number of records ever logged that survive a power failure.
    synced: u64,
    hints: BTreeMap<u128, VecDeque<Hint>>,
    /// When tables were emptied, by the node's clock.
    truncated: BTreeMap<TableId, Timestamp>,
    schema: BTreeMap<(Timestamp, u128), Arc<SchemaChange>>,
    generation: u32,
    /// How many disks were there before this one.
    predecessors: u32,
    /// Prepared statements, with the number of records that had ever been logged when each was kept.
    prepared: BTreeMap<Bytes, (u64, StoredStatement)>,
}

/// A node's disk. It outlives the node: the caller that starts a node provides one, and a clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<DiskContent>>);

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power failure: what the commit log had not synced is lost. Only for a node that is not running.
    pub fn lose_unsynced(&self) {
        let mut disk = self.lock();
        let synced = disk.synced;
        let keep = synced.saturating_sub(disk.log_start) as usize;
        // A statement is durable after the sync of what was logged after it; no request waits for that sync.
        disk.prepared.retain(|_, (logged, _)| *logged < synced);
        disk.log.truncate(keep);
    }

    /// Replaces the disk by an empty one. Only for a node that is not running. The count of starts continues, because
    /// nodes derive it from the time. The node has another host id from then on, which is on the disk.
    pub fn wipe(&self) {
        let mut disk = self.lock();
        let (generation, predecessors) = (disk.generation, disk.predecessors + 1);
        *disk = DiskContent { generation, predecessors, ..DiskContent::default() };
    }

    /// How many disks were there before this one.
    pub(crate) fn predecessors(&self) -> u32 {
        self.lock().predecessors
    }

    /// How many records of the commit log a power failure would lose now.
    pub fn unsynced(&self) -> usize {
        let disk = self.lock();
        (disk.log_start + disk.log.len() as u64 - disk.synced) as usize
    }

    /// Syncs the commit log. Returns how many records have ever been synced.
    pub(crate) fn sync(&self) -> u64 {
        let mut disk = self.lock();
        disk.synced = disk.log_start + disk.log.len() as u64;
        disk.synced
    }

    /// How many records have ever been logged.
    pub(crate) fn log_end(&self) -> u64 {
        let disk = self.lock();
        disk.log_start + disk.log.len() as u64
    }

    /// Syncs the first `end` records ever logged.
    pub(crate) fn sync_up_to(&self, end: u64) {
        let mut disk = self.lock();
        disk.synced = disk.synced.max(end);
    }

    pub(crate) fn store_prepared(&self, id: Bytes, statement: StoredStatement) {
        let mut disk = self.lock();
        let logged = disk.log_start + disk.log.len() as u64;
        disk.prepared.entry(id).or_insert((logged, statement));
    }

    pub(crate) fn remove_prepared(&self, id: &Bytes) {
        self.lock().prepared.remove(id);
    }

    pub(crate) fn stored_statement(&self, id: &Bytes) -> Option<StoredStatement> {
        self.lock().prepared.get(id).map(|(_, statement)| statement.clone())
    }

    pub(crate) fn stored_prepared(&self) -> BTreeMap<Bytes, StoredStatement> {
        let disk = self.lock();
        disk.prepared.iter().map(|(id, (_, statement))| (id.clone(), statement.clone())).collect()
    }

    /// The number of this start, larger than that of every start before.
    pub(crate) fn next_generation(&self) -> u32 {
        let mut disk = self.lock();
        disk.generation += 1;
        disk.generation
    }

    /// Appends hints for a node to its file.
    pub(crate) fn append_hints(&self, target: u128, hints: Vec<Hint>) {
        self.lock().hints.entry(target).or_default().extend(hints);
    }

    /// The nodes that there are hints for.
    pub(crate) fn hint_targets(&self) -> Vec<u128> {
        self.lock().hints.keys().copied().collect()
    }

    /// The oldest hint for a node.
    pub(crate) fn first_hint(&self, target: u128) -> Option<Hint> {
        self.lock().hints.get(&target)?.front().cloned()
    }

    /// Drops the oldest hint for a node.
    pub(crate) fn remove_first_hint(&self, target: u128) {
        let mut disk = self.lock();
        if let Some(hints) = disk.hints.get_mut(&target) {
            hints.pop_front();
            if hints.is_empty() {
                disk.hints.remove(&target);
            }
        }
    }

    /// Drops the hints for a node that no longer exists.
    pub(crate) fn forget_hints(&self, target: u128) {
        self.lock().hints.remove(&target);
    }

    /// How many hints are on it.
    pub fn hints(&self) -> usize {
        self.lock().hints.values().map(VecDeque::len).sum()
    }

    /// Stores schema changes. Returns whether any was new.
    pub(crate) fn add_schema(&self, entries: &[SchemaEntry]) -> bool {
        let mut disk = self.lock();
        let before = disk.schema.len();
        for entry in entries {
            disk.schema.entry((entry.timestamp, entry.unique)).or_insert_with(|| entry.change.clone());
        }
        disk.schema.len() > before
    }

    /// The schema changes in their order.
    pub(crate) fn schema(&self) -> Vec<SchemaEntry> {
        let disk = self.lock();
        let entries = disk.schema.iter();
        entries
            .map(|((timestamp, unique), change)| SchemaEntry {
                timestamp: *timestamp,
                unique: *unique,
                change: change.clone(),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, DiskContent> {
        // Nothing panics while it holds the lock half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data of a running node.
#[derive(Debug)]
pub(crate) struct Engine {
    disk: Disk,
    content: Content,
    flush_after: usize,
}

impl Engine {
    /// Starts from what is on the disk: its tables, and the commit log replayed. `flush_after` is the number of
    /// records after which the log is flushed.
    pub(crate) fn open(disk: Disk, flush_after: usize) -> Self {
        let mut engine = {
            let mut on_disk = disk.lock();
            let mut content = on_disk.flushed.clone();
            for record in &on_disk.log {
                content.apply(record);
            }
            // What the system still had of the log is read back and so as good as synced.
            on_disk.synced = on_disk.log_start + on_disk.log.len() as u64;
            Self { disk: disk.clone(), content, flush_after }
        };
        engine.flush();
        engine
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Applies a record and logs it, unless it is not to be `durable`. Returns how many records had ever been
    /// logged with it: once that many are synced, it is durable.
    pub(crate) fn apply(&mut self, record: Record, durable: bool) -> u64 {
        self.content.apply(&record);
        let (end, full) = {
            let mut disk = self.disk.lock();
            if durable {
                disk.log.push(record);
            }
            (disk.log_start + disk.log.len() as u64, disk.log.len() >= self.flush_after)
        };
        if full {
            self.flush();
        }
        end
    }

    /// Writes what the commit log describes to the tables on the disk, and starts a new log.
    pub(crate) fn flush(&mut self) {
        let mut disk = self.disk.lock();
        let log = std::mem::take(&mut disk.log);
        disk.log_start += log.len() as u64;
        disk.synced = disk.log_start;
        for record in log {
            if let Record::Write(mutation) = record {
                for table in mutation.updates.keys() {
                    let partition = self.content.tables.get(table).and_then(|rows| rows.get(&mutation.key));
                    if let Some(partition) = partition {
                        let rows = disk.flushed.tables.entry(*table).or_default();
                        rows.insert(mutation.key.clone(), partition.clone());
                    }
                }
            }
        }
        disk.flushed.paxos = self.content.paxos.clone();
        disk.flushed.batches = self.content.batches.clone();
    }

    pub(crate) fn read(
        &self,
        table: &Table,
        command: &ReadCommand,
        tombstone_limit: usize,
    ) -> Result<ReplicaRows, TooManyTombstones> {
        match self.content.tables.get(&table.id) {
            Some(rows) => scan(rows, table, command, tombstone_limit),
            None => Ok(ReplicaRows::default()),
        }
    }

    /// Everything of a table, tombstones and all.
    pub(crate) fn table(&self, table: TableId) -> Option<&Partitions> {
        self.content.tables.get(&table)
    }

    /// Forgets a table at `now`: its rows, also those in the log.
    pub(crate) fn truncate(&mut self, table: TableId, now: Timestamp) {
        self.flush();
        self.content.tables.remove(&table);
        self.content.paxos.retain(|(of, _), _| *of != table);
        let mut disk = self.disk.lock();
        disk.flushed.tables.remove(&table);
        disk.truncated.insert(table, now);
        disk.flushed.paxos.retain(|(of, _), _| *of != table);
    }

    /// What is left of a mutation that was written down at `written_at` and is only delivered now: a table that was
    /// emptied since gets nothing of it (`Hint.apply`, `BatchlogManager`).
    pub(crate) fn not_truncated(&self, mutation: &Arc<Mutation>, written_at: Timestamp) -> Arc<Mutation> {
        let disk = self.disk.lock();
        let truncated = |table: &TableId| disk.truncated.get(table).is_some_and(|at| written_at <= *at);
        if !mutation.updates.keys().any(truncated) {
            return mutation.clone();
        }
        let mut left = Mutation::clone(mutation);
        left.updates.retain(|table, _| !truncated(table));
        Arc::new(left)
    }

    /// Drops for good what reads no longer see: tombstones past their table's `gc_grace_seconds` at `now`,
    /// tables that are no longer in the schema.
    pub(crate) fn compact(&mut self, schema: &Schema, now: Seconds) {
        self.flush();
        self.content.tables.retain(|id, rows| {
            let Ok(table) = schema.table_by_id(*id) else { return false };
            let gc_before = now - Seconds::from(table.options.gc_grace_seconds);
            rows.retain(|_, partition| {
                let purged = Arc::make_mut(partition);
                purged.without_dropped(&table.dropped);
                purged.purge(now, gc_before);
                !purged.is_empty()
            });
            true
        });
        self.disk.lock().flushed.tables = self.content.tables.clone();
    }

    pub(crate) fn paxos(&self, table: TableId, key: &DecoratedKey) -> PaxosState {
        self.content.paxos.get(&(table, key.clone())).cloned().unwrap_or_default()
    }

    pub(crate) fn batches(&self) -> &BTreeMap<u128, StoredBatch> {
        &self.content.batches
    }
}
