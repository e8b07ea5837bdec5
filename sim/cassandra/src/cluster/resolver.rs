//! Resolution of several replicas' responses to one read: pure functions on data.
//!
//! The responses are merged row by row until the read's limit is reached. Each replica stopped at the same limit on its
//! own rows; where some of those turn out to be deleted, a replica's response may end too early, and what lies after
//! must be fetched before it is passed (short read protection, `ShortReadRowsProtection`). What a replica lacks of
//! the merged rows *that were looked at* is what a read repair writes to it: nothing after the limit, and of the
//! cells only the queried ones (`RowIteratorMergeListener`).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::NodeId;
use crate::schema::Table;
use crate::storage::{
    Counter, DecoratedKey, Partition, PartitionRange, Position, RangeTombstone, ReadCommand, ReadResult,
    ReplicaRows, ResultPartition, Resume, Row,
};

/// The responses to one read, by replica.
#[derive(Debug, Clone)]
pub(crate) struct Resolver<'a> {
    table: &'a Table,
    command: &'a ReadCommand,
    responses: BTreeMap<NodeId, ReplicaRows>,
}

/// The merged rows, up to the limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Merged {
    pub(crate) partitions: BTreeMap<DecoratedKey, Partition>,
    pub(crate) limited: bool,
}

/// More rows to fetch from a replica before the responses can be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct More {
    pub(crate) replica: NodeId,
    pub(crate) command: ReadCommand,
    /// The partition whose rows were cut; none if the replica had reached the limit of the whole read.
    cut: Option<DecoratedKey>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        table: &'a Table,
        command: &'a ReadCommand,
        responses: BTreeMap<NodeId, ReplicaRows>,
    ) -> Self {
        Self { table, command, responses }
    }

    fn merged(&self) -> BTreeMap<DecoratedKey, Partition> {
        let mut merged: BTreeMap<DecoratedKey, Partition> = BTreeMap::new();
        for response in self.responses.values() {
            for (key, partition) in &response.partitions {
                merged.entry(key.clone()).or_default().merge(partition);
            }
        }
        merged
    }

    /// Whether `row` lies after `place` in the order of the read.
    fn is_after(&self, row: &Position, place: &Position) -> bool {
        if self.command.reversed { row < place } else { row > place }
    }

    /// A replica whose rows of this partition end before `row` (or, without one, end at all) although there may be
    /// more.
    fn ends_before(&self, key: &DecoratedKey, row: Option<&Position>) -> Option<More> {
        self.responses.iter().find_map(|(replica, response)| {
            let passed = |end: &Position| row.is_none_or(|row| self.is_after(row, end));
            if let Some((stopped, Some(end))) = &response.stopped
                && stopped == key
                && passed(end)
            {
                return Some(self.more(*replica, response));
            }
            let end = response.cuts.get(key).filter(|end| passed(end))?;
            Some(More {
                replica: *replica,
                command: ReadCommand {
                    partitions: PartitionRange::Key(key.clone()),
                    limit: self.command.limit.min(self.command.per_partition_limit),
                    resume: Some(resume(key, Some(end))),
                    ..self.command.clone()
                },
                cut: Some(key.clone()),
            })
        })
    }

    /// A replica that reached the limit of the read before this partition (or, without one, anywhere).
    fn stopped_before(&self, key: Option<&DecoratedKey>) -> Option<More> {
        self.responses.iter().find_map(|(replica, response)| {
            let (stopped, _) = response.stopped.as_ref()?;
            key.is_none_or(|key| stopped < key).then(|| self.more(*replica, response))
        })
    }

    fn more(&self, replica: NodeId, response: &ReplicaRows) -> More {
        let resume = response.stopped.as_ref().map(|(key, row)| resume(key, row.as_ref()));
        More { replica, command: ReadCommand { resume, ..self.command.clone() }, cut: None }
    }

    /// What must be fetched before [`resolve`](Self::resolve) may be called.
    pub(crate) fn more_needed(&self) -> Option<More> {
        let mut counter = Counter::new(self.command);
        let now = self.command.now;
        for (key, partition) in &self.merged() {
            if let Some(more) = self.stopped_before(Some(key)) {
                return Some(more);
            }
            counter.begin(self.command, key);
            for (position, row) in in_order(&partition.rows, self.command.reversed) {
                if counter.is_partition_done() {
                    break;
                }
                if let Some(more) = self.ends_before(key, Some(position)) {
                    return Some(more);
                }
                if row.is_live(now) {
                    counter.count_row();
                }
            }
            if !counter.is_partition_done()
                && let Some(more) = self.ends_before(key, None)
            {
                return Some(more);
            }
            counter.end(partition.static_row.is_live(now));
            if counter.is_done() {
                return None;
            }
        }
        self.stopped_before(None)
    }

    /// Adds what was fetched.
    pub(crate) fn add(&mut self, more: More, response: ReplicaRows) {
        let own = self.responses.entry(more.replica).or_default();
        for (key, partition) in response.partitions {
            own.partitions.entry(key).or_default().merge(&partition);
        }
        match more.cut {
            Some(key) => {
                own.cuts.remove(&key);
                // Of a single partition, both mean that there may be more rows in it.
                if let Some((key, Some(end))) = response.stopped {
                    own.cuts.insert(key, end);
                }
            }
            None => own.stopped = response.stopped,
        }
        own.cuts.extend(response.cuts);
    }

    /// The merged rows up to the limit.
    pub(crate) fn resolve(&self) -> Merged {
        let mut counter = Counter::new(self.command);
        let mut result = Merged::default();
        for (key, mut partition) in self.merged() {
            counter.begin(self.command, &key);
            let mut last = None;
            for (position, row) in in_order(&partition.rows, self.command.reversed) {
                if row.is_live(self.command.now) {
                    counter.count_row();
                }
                if counter.is_partition_done() {
                    last = Some(position.clone());
                    break;
                }
            }
            if let Some(last) = last {
                self.end_at(&mut partition, &last);
            }
            counter.end(partition.static_row.is_live(self.command.now));
            result.partitions.insert(key, partition);
            if counter.is_done() {
                result.limited = true;
                break;
            }
        }
        result
    }

    /// Drops what lies after a row in the order of the read.
    fn end_at(&self, partition: &mut Partition, last: &Position) {
        let (start, end) = if self.command.reversed {
            partition.rows = partition.rows.split_off(last);
            (last.just_before(), self.table.after(Vec::new()))
        } else {
            partition.rows = {
                let kept = partition.rows.range((Bound::Unbounded, Bound::Included(last)));
                kept.map(|(position, row)| (position.clone(), row.clone())).collect()
            };
            (self.table.before(Vec::new()), last.just_after())
        };
        let ranges = std::mem::take(&mut partition.ranges);
        for range in ranges.into_values() {
            partition.delete_range(&RangeTombstone {
                start: range.start.max(start.clone()),
                end: range.end.min(end.clone()),
                deletion: range.deletion,
            });
        }
    }

    /// What each replica lacks of the merged rows, by partition.
    pub(crate) fn repairs(&self, merged: &Merged) -> BTreeMap<DecoratedKey, BTreeMap<NodeId, Partition>> {
        let nothing = Partition::default();
        let mut repairs: BTreeMap<DecoratedKey, BTreeMap<NodeId, Partition>> = BTreeMap::new();
        for (key, partition) in &merged.partitions {
            for (replica, response) in &self.responses {
                let version = response.partitions.get(key).unwrap_or(&nothing);
                let missing = partition.over(version, &self.command.columns);
                if !missing.is_empty() {
                    repairs.entry(key.clone()).or_default().insert(*replica, missing);
                }
            }
        }
        repairs
    }
}

fn resume(key: &DecoratedKey, row: Option<&Position>) -> Resume {
    Resume { key: key.clone(), row: row.cloned(), remaining_in_partition: u32::MAX }
}

fn in_order(
    rows: &BTreeMap<Position, Row>,
    reversed: bool,
) -> Box<dyn Iterator<Item = (&Position, &Row)> + '_> {
    if reversed { Box::new(rows.iter().rev()) } else { Box::new(rows.iter()) }
}

/// The live rows of what was merged, with their live cells of the queried columns.
pub(crate) fn live(merged: Merged, command: &ReadCommand) -> ReadResult {
    let mut result = ReadResult { partitions: Vec::new(), limited: merged.limited };
    let keep_live = |mut row: Row| {
        row.liveness = row.liveness.filter(|liveness| liveness.is_live(command.now));
        row.deletion = None;
        row.cells.retain(|column, cell| cell.is_live(command.now) && command.columns.has(column));
        row
    };
    for (key, partition) in merged.partitions {
        let mut rows: Vec<(Position, Row)> = partition
            .rows
            .into_iter()
            .filter(|(_, row)| row.is_live(command.now))
            .map(|(position, row)| (position, keep_live(row)))
            .collect();
        if command.reversed {
            rows.reverse();
        }
        let static_row = keep_live(partition.static_row);
        let resumed = command.resume.as_ref().is_some_and(|resume| resume.key == key);
        if !rows.is_empty() || (!static_row.cells.is_empty() && !resumed) {
            result.partitions.push(ResultPartition { key, static_row, rows });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::storage::tests::{NOW, Step, int, merged, step, table};
    use crate::storage::{ClusteringFilter, ColumnSelection, Slice, scan};

    type Replica = BTreeMap<DecoratedKey, std::sync::Arc<Partition>>;

    fn replica(table: &Table, steps: &[(i32, Step)]) -> Replica {
        let mut keys: Vec<i32> = steps.iter().map(|(key, _)| *key).collect();
        keys.sort();
        keys.dedup();
        let of = |key: i32| {
            let steps: Vec<Step> =
                steps.iter().filter(|(of, _)| *of == key).map(|(_, step)| step.clone()).collect();
            (table.key(&[int(key)]), std::sync::Arc::new(merged(table, &steps)))
        };
        keys.into_iter().map(of).collect()
    }

    /// Reads from all replicas as a coordinator does. Gives the merged rows, what to repair, and the number of
    /// further fetches.
    fn coordinate(
        table: &Table,
        command: &ReadCommand,
        replicas: &BTreeMap<NodeId, Replica>,
    ) -> (Merged, BTreeMap<DecoratedKey, BTreeMap<NodeId, Partition>>, usize) {
        let read = |replica: NodeId, command: &ReadCommand| {
            scan(&replicas[&replica], table, command, usize::MAX).expect("few tombstones")
        };
        let responses = replicas.keys().map(|replica| (*replica, read(*replica, command))).collect();
        let mut resolver = Resolver::new(table, command, responses);
        let mut fetches = 0;
        while let Some(more) = resolver.more_needed() {
            let response = read(more.replica, &more.command);
            resolver.add(more, response);
            fetches += 1;
            assert!(fetches < 200, "it never ends");
        }
        let merged = resolver.resolve();
        let repairs = resolver.repairs(&merged);
        (merged, repairs, fetches)
    }

    fn all(replicas: &BTreeMap<NodeId, Replica>) -> Replica {
        let mut all: BTreeMap<DecoratedKey, Partition> = BTreeMap::new();
        for (key, partition) in replicas.values().flatten() {
            all.entry(key.clone()).or_default().merge(partition);
        }
        all.into_iter().map(|(key, partition)| (key, std::sync::Arc::new(partition))).collect()
    }

    fn command() -> impl Strategy<Value = ReadCommand> {
        // Before anything expires, or after all has: in between it matters at equal timestamps whether a replica
        // or the coordinator notices, here as in Cassandra.
        let now = prop_oneof![Just(NOW), Just(NOW + 5)];
        let limits = (1..8u32, prop_oneof![Just(u32::MAX), 1..4u32]);
        (limits, any::<bool>(), 0..4i32, 0..4i32, any::<bool>(), now).prop_map(
            |((limit, per_partition_limit), reversed, from, to, sliced, now)| {
                let table = table();
                let slice = |from, to| Slice {
                    start: table.before(vec![int(from)]),
                    end: table.after(vec![int(to)]),
                };
                ReadCommand {
                    limit,
                    per_partition_limit,
                    reversed,
                    rows: match sliced {
                        true if from < to => ClusteringFilter::Slices(vec![slice(from, from), slice(to, to)]),
                        true => ClusteringFilter::Slices(vec![slice(to, from)]),
                        false => ClusteringFilter::All,
                    },
                    ..ReadCommand::of_table(table.id, now)
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_limited_read_of_differing_replicas_finds_what_one_complete_replica_would(
            steps in vec(vec((0..3i32, step()), 0..14), 2..4), command in command(),
        ) {
            let table = table();
            let replicas: BTreeMap<NodeId, Replica> =
                (0..).map(NodeId).zip(steps.iter().map(|steps| replica(&table, steps))).collect();
            let (merged, _, _) = coordinate(&table, &command, &replicas);
            let complete = BTreeMap::from([(NodeId(9), all(&replicas))]);
            let (expected, _, _) = coordinate(&table, &command, &complete);
            prop_assert_eq!(live(merged, &command).partitions, live(expected, &command).partitions);
        }

        #[test]
        fn after_its_repairs_any_single_replica_gives_the_same_result(
            steps in vec(vec((0..2i32, step()), 0..14), 2..3), command in command(),
        ) {
            let table = table();
            let mut replicas: BTreeMap<NodeId, Replica> =
                (0..).map(NodeId).zip(steps.iter().map(|steps| replica(&table, steps))).collect();
            let (merged, repairs, _) = coordinate(&table, &command, &replicas);
            for (key, repairs) in repairs {
                for (replica, repair) in repairs {
                    let rows = replicas.get_mut(&replica).expect("one that responded");
                    std::sync::Arc::make_mut(rows.entry(key.clone()).or_default()).merge(&repair);
                }
            }
            let expected = live(merged, &command).partitions;
            for (id, rows) in &replicas {
                let alone = BTreeMap::from([(*id, rows.clone())]);
                let (found, _, _) = coordinate(&table, &command, &alone);
                prop_assert_eq!(&live(found, &command).partitions, &expected);
            }
        }
    }

    #[test]
    fn rows_after_the_limit_and_columns_that_were_not_asked_for_are_not_repaired() {
        let table = table();
        let insert = |a| (1, Step::Insert { a, b: 0, timestamp: 1, ttl: 0, value: 1 });
        let full = replica(&table, &[insert(0), insert(1), insert(2)]);
        let older = (1, Step::Insert { a: 2, b: 0, timestamp: 0, ttl: 0, value: 0 });
        let older = replica(&table, &[older]);
        let replicas = BTreeMap::from([(NodeId(0), full), (NodeId(1), Replica::new()), (NodeId(2), older)]);
        let key = table.key(&[int(1)]);
        let command = ReadCommand {
            limit: 1,
            reversed: true,
            columns: ColumnSelection::Queried(["v".into()].into()),
            ..ReadCommand::of_partition(table.id, key.clone(), NOW)
        };
        let (_, repairs, _) = coordinate(&table, &command, &replicas);
        for behind in [NodeId(1), NodeId(2)] {
            let repair = &repairs[&key][&behind];
            let rows: Vec<&Position> = repair.rows.keys().collect();
            assert_eq!(rows, [&table.row(vec![int(2), int(0)])]);
            let columns: Vec<&str> =
                repair.rows.values().flat_map(|row| row.cells.keys()).map(|name| &**name).collect();
            assert_eq!(columns, ["v"]);
        }
        assert!(!repairs[&key].contains_key(&NodeId(0)));
    }

    #[test]
    fn a_replica_whose_rows_turn_out_deleted_is_asked_for_more() {
        let table = table();
        let insert = |a| (1, Step::Insert { a, b: 0, timestamp: 1, ttl: 0, value: 1 });
        let delete = |a| (1, Step::DeleteRow { a, b: 0, timestamp: 2 });
        let behind = replica(&table, &[insert(0), insert(1), insert(2)]);
        let ahead = replica(&table, &[insert(0), insert(1), delete(0), delete(1)]);
        let replicas = BTreeMap::from([(NodeId(0), behind), (NodeId(1), ahead)]);
        let key = table.key(&[int(1)]);
        let command = ReadCommand { limit: 1, ..ReadCommand::of_partition(table.id, key, NOW) };
        let (merged, _, fetches) = coordinate(&table, &command, &replicas);
        let found = live(merged, &command);
        assert_eq!(found.partitions[0].rows[0].0, table.row(vec![int(2), int(0)]));
        assert!(fetches > 0);
    }

    #[test]
    fn rows_beyond_the_end_of_a_replicas_response_do_not_fill_the_limit_before_it_is_asked_for_more() {
        let table = table();
        let insert = |p, a| (p, Step::Insert { a, b: 0, timestamp: 1, ttl: 0, value: 1 });
        let delete = |p, a| (p, Step::DeleteRow { a, b: 0, timestamp: 2 });
        let found = |first: &[(i32, Step)], second: &[(i32, Step)], command: &ReadCommand| {
            let replicas =
                BTreeMap::from([(NodeId(0), replica(&table, first)), (NodeId(1), replica(&table, second))]);
            let (merged, _, _) = coordinate(&table, command, &replicas);
            let partitions = live(merged, command).partitions;
            partitions
                .iter()
                .map(|partition| (partition.key.clone(), partition.rows.len()))
                .collect::<Vec<_>>()
        };
        // In a partition: the first replica stops after rows 0 and 1, the second has row 3 but not row 2.
        let key = table.key(&[int(1)]);
        let first = [insert(1, 0), insert(1, 1), insert(1, 2), insert(1, 3)];
        let second = [delete(1, 0), insert(1, 3)];
        let command = ReadCommand { limit: 2, ..ReadCommand::of_partition(table.id, key.clone(), NOW) };
        let replicas =
            BTreeMap::from([(NodeId(0), replica(&table, &first)), (NodeId(1), replica(&table, &second))]);
        let (merged, _, _) = coordinate(&table, &command, &replicas);
        let rows: Vec<Position> =
            live(merged, &command).partitions[0].rows.iter().map(|(position, _)| position.clone()).collect();
        assert_eq!(rows, [1, 2].map(|a| table.row(vec![int(a), int(0)])));
        // Across partitions: the first replica stops in the first of three, the second has only the last.
        let mut keys: Vec<i32> = (0..3).collect();
        keys.sort_by_key(|p| table.key(&[int(*p)]));
        let first = [insert(keys[0], 0), insert(keys[1], 0), insert(keys[2], 0)];
        let second = [delete(keys[0], 0), insert(keys[2], 0)];
        let command = ReadCommand { limit: 1, ..ReadCommand::of_table(table.id, NOW) };
        assert_eq!(found(&first, &second, &command), [(table.key(&[int(keys[1])]), 1)]);
        // The same where it stopped at a partition of static columns only.
        let first =
            [(keys[0], Step::Static { timestamp: 1, value: 1 }), insert(keys[1], 0), insert(keys[2], 0)];
        let second = [(keys[0], Step::DeletePartition { timestamp: 2 }), insert(keys[2], 0)];
        assert_eq!(found(&first, &second, &command), [(table.key(&[int(keys[1])]), 1)]);
        // With a limit for each partition: the first replica continues to the next one after its first row.
        let first = [insert(1, 0), insert(1, 1)];
        let second = [delete(1, 0)];
        let command = ReadCommand { per_partition_limit: 1, ..ReadCommand::of_table(table.id, NOW) };
        assert_eq!(found(&first, &second, &command), [(key, 1)]);
    }
}
