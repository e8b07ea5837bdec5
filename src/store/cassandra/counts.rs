//! The counts of windows: hundreds of rows are read and written by one request.
//!
//! The counts of one partition of the log are in partitions of the store of their own, one for each block of windows
//! and shard of sources, see [`CountLayout`](crate::store::CountLayout). A read is a slice, of several of these where
//! they are neighbours, or lists the keys of rows of one block ([`Slices`]). A write is an unlogged batch, of several
//! partitions of the store if it is small.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;

use super::execute::{concurrently, rows_of};
use super::statements::REGISTRY;
use super::write::{RequestRow, STATEMENT_BYTES, copies, shared_requests};
use super::{Connection, Failed, RequestKind};
use crate::store::layout::CountPlace;
use crate::store::{Count, Flaw, RowKey, Stored, WindowKey, registration};

/// Maximum windows of one read.
const MOST_KEYS: usize = 256;

/// A read of fewer windows names them.
const LEAST_SLICED: usize = 16;

/// Maximum partitions of the store of one read, which are those of several partitions of the log and several blocks, and
/// maximum rows that it requests of all of them. A node reads each partition by itself, but a request costs it more than
/// reading a few rows, or none.
const MOST_PARTITIONS: usize = 16;
const MOST_ROWS: usize = 1_024;

/// Rows that a slice may return for each requested window.
const ROWS_PER_KEY: usize = 2;

/// Reads that name their windows after a slice that had too many other rows.
const READS_AFTER_SPARSE: u32 = 64;

/// Bytes that the protocol adds to one key of such a list: the lengths of the pair and of both its parts, and the time.
const KEY_BYTES: usize = 3 * 4 + 8;

/// Chooses how counts are read. A slice, which returns every row between two keys, costs a node and the driver less than
/// a list of keys, as long as most of its rows are wanted. That is so where many sources are active: what one partition
/// of the log counts, the others count at about the same time.
#[derive(Default)]
pub(super) struct Slices {
    /// Reads that will name their windows before a slice is tried again.
    listed: AtomicU32,
}

impl Slices {
    /// Whether the next read is a slice.
    fn next_is_one(&self) -> bool {
        let less = |listed: u32| listed.checked_sub(1);
        self.listed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
    }

    /// A slice had too many rows that were not wanted.
    fn was_sparse(&self) {
        self.listed.store(READS_AFTER_SPARSE, Ordering::Relaxed);
    }
}

/// A row to write, with its place.
struct CountRow<'a> {
    partition: i32,
    place: CountPlace,
    window: &'a WindowKey,
    count: Count,
}

impl SerializeRow for CountRow<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        let CountPlace { block, shard } = self.place;
        let Count { count, through_offset } = self.count;
        let (end, source) = (CqlTimestamp(self.window.end), &*self.window.source);
        let at = self.count.write_timestamp();
        (self.partition, block, shard, end, source, count, through_offset, at).serialize(context, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl RequestRow for CountRow<'_> {
    fn bytes(&self) -> usize {
        STATEMENT_BYTES + 48 + self.window.source.len()
    }

    fn same_partition(&self, other: &Self) -> bool {
        (self.partition, self.place) == (other.partition, other.place)
    }
}

/// A row as it is read: the partition, the window's end, its source (which stays in the response), and the count.
type Columns<'a> = (i32, CqlTimestamp, &'a str, Option<i64>, Option<i64>);

/// The count of a row that another program may have written.
pub(super) fn stored_count(
    partition: i32,
    (window_end, source): (i64, &str),
    count: Option<i64>,
    through_offset: Option<i64>,
) -> Stored<Count> {
    let column = match (count, through_offset) {
        (Some(count), Some(through_offset)) => return Ok(Count { count, through_offset }),
        (None, _) => "count",
        (_, None) => "through_offset",
    };
    Err(Flaw::null(column).of(
        "window_counts",
        RowKey::Count { partition: partition.into(), source: source.into(), window_end },
    ))
}

/// The key of a window's row within its partition of the store, in the order of the store.
fn clustering_key(window: &WindowKey) -> (i64, &str) {
    (window.end, &window.source)
}

/// A window to read: where its counts are, and its number among the requested ones.
type Requested<'a> = (CountPlace, &'a WindowKey, usize);

/// A read's windows, all of one shard, and the blocks that have them: a block is a span of window ends, so both ascend.
struct Read<'a, 'w> {
    windows: &'a [Requested<'w>],
    blocks: Vec<i64>,
    /// The number of windows in the block that has most of them.
    most_in_a_block: usize,
}

impl<'a, 'w> Read<'a, 'w> {
    /// The first windows, as many as a read may have: of one shard, of at most this many blocks, and with limits of keys
    /// and bytes. `None` if there are no windows.
    fn first_of(windows: &'a [Requested<'w>], most_blocks: usize, most_bytes: usize) -> Option<Self> {
        let (CountPlace { block, shard }, ..) = windows.first()?;
        let (mut blocks, mut in_block, mut most_in_a_block, mut bytes) = (vec![*block], 0, 0, 0);
        let fits = |(number, (place, window, _)): &(usize, &Requested<'_>)| {
            bytes += KEY_BYTES + window.source.len();
            if place.shard != *shard || *number >= MOST_KEYS || (*number > 0 && bytes > most_bytes) {
                return false;
            }
            if blocks.last() != Some(&place.block) {
                if blocks.len() >= most_blocks {
                    return false;
                }
                blocks.push(place.block);
                in_block = 0;
            }
            in_block += 1;
            most_in_a_block = most_in_a_block.max(in_block);
            true
        };
        let length = windows.iter().enumerate().take_while(fits).count();
        Some(Self { windows: &windows[..length], blocks, most_in_a_block })
    }

    /// All reads of these windows, sorted by shard and clustering key.
    fn all(
        mut windows: &'a [Requested<'w>],
        most_blocks: usize,
        most_bytes: usize,
    ) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let read = Self::first_of(windows, most_blocks, most_bytes)?;
            windows = &windows[read.windows.len()..];
            Some(read)
        })
    }

    /// Partitions of the log of which one request reads these windows.
    fn partitions(&self) -> usize {
        (MOST_PARTITIONS / self.blocks.len()).min(MOST_ROWS / self.windows.len().max(1)).max(1)
    }

    fn shard(&self) -> i32 {
        self.windows.first().map_or(0, |(place, ..)| place.shard)
    }
}

impl Connection {
    pub(super) async fn register(&self, partition: i32) -> Result<(), Failed> {
        let what = || format!("register partition {partition} in {}", self.of("registry"));
        let partitions = registration(partition);
        let values = (REGISTRY, partitions, i64::from(partitions));
        self.execute(RequestKind::WriteRegistry, what, &self.statements.insert_registry, values)
            .await
            .map(drop)
    }

    pub(super) async fn registered(&self) -> Result<i32, Failed> {
        let what = || format!("read the registered partitions from {}", self.of("registry"));
        let statement = &self.statements.select_registry;
        let result = self.execute(RequestKind::ReadRegistry, what, statement, (REGISTRY,)).await?;
        let result = rows_of(what, result)?;
        let row = result.maybe_first_row::<(Option<i32>,)>().map_err(|error| self.damaged(what, error))?;
        let null = || self.damaged(what, Flaw::null("partitions").of("registry", RowKey::Only {}));
        row.map_or(Ok(0), |(partitions,)| partitions.ok_or_else(null))
    }

    pub(super) async fn counts(
        &self,
        partition: i32,
        windows: &[WindowKey],
    ) -> Result<Vec<Option<Count>>, Failed> {
        let mut counts = vec![None; windows.len()];
        self.each_count(&[partition], windows, |number, count| counts[number] = Some(count)).await?;
        Ok(counts)
    }

    pub(super) async fn sums(&self, partitions: &[i32], windows: &[WindowKey]) -> Result<Vec<i64>, Failed> {
        let mut sums = vec![0i64; windows.len()];
        let add = |number: usize, count: Count| sums[number] = sums[number].saturating_add(count.count);
        self.each_count(partitions, windows, add).await?;
        Ok(sums)
    }

    /// Passes on each count that these partitions have of these windows, with the window's number, in any order.
    async fn each_count(
        &self,
        partitions: &[i32],
        windows: &[WindowKey],
        mut handle: impl FnMut(usize, Count),
    ) -> Result<(), Failed> {
        let layout = self.layout.counts;
        let mut requested: Vec<Requested<'_>> =
            (0..).zip(windows).map(|(n, window)| (layout.place(window), window, n)).collect();
        requested.sort_unstable_by(|(a, a_window, _), (b, b_window, _)| {
            (a.shard, clustering_key(a_window)).cmp(&(b.shard, clustering_key(b_window)))
        });
        let mut requests = Vec::new();
        let reads: Vec<Read<'_, '_>> = Read::all(&requested, MOST_PARTITIONS, self.request_bytes).collect();
        for read in &reads {
            requests.extend(partitions.chunks(read.partitions()).map(|partitions| (partitions, read)));
        }
        let requests = requests.iter().map(|(partitions, read)| self.counts_of(partitions, read));
        let found = |found: Vec<(usize, Count)>| {
            for (number, count) in found {
                handle(number, count);
            }
        };
        concurrently(requests, self.limits.requests(), found).await
    }

    /// The counts that these partitions have of a read's windows, with the windows' numbers.
    async fn counts_of(
        &self,
        partitions: &[i32],
        read: &Read<'_, '_>,
    ) -> Result<Vec<(usize, Count)>, Failed> {
        let mut found = Vec::new();
        if read.windows.len() < LEAST_SLICED || !self.slices.next_is_one() {
            self.listed_counts(partitions, read.windows, &mut found).await?;
            return Ok(found);
        }
        let sparse = self.counts_between(partitions, read, &mut found).await?;
        if !sparse.is_empty() {
            self.slices.was_sparse();
            self.listed_counts(&sparse, read.windows, &mut found).await?;
        }
        Ok(found)
    }

    /// Reads exactly these windows. Each request is of one block: a node would look up all keys in every block.
    async fn listed_counts(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
        found: &mut Vec<(usize, Count)>,
    ) -> Result<(), Failed> {
        let reads: Vec<Read<'_, '_>> = Read::all(windows, 1, self.request_bytes).collect();
        let requests = reads.iter().map(async |read| {
            let statements = &self.statements.select_counts;
            let keys: Vec<(CqlTimestamp, &str)> = read
                .windows
                .iter()
                .map(|(_, window, _)| (CqlTimestamp(window.end), &*window.source))
                .collect();
            let mut found = Vec::new();
            let result = match (partitions, &read.blocks[..]) {
                ([partition], [block]) => {
                    let values = (partition, block, read.shard(), keys);
                    self.read_counts(partitions, read, &statements.of_one, values).await?
                }
                (partitions, blocks) => {
                    let values = (partitions, blocks, read.shard(), keys);
                    self.read_counts(partitions, read, &statements.of_several, values).await?
                }
            };
            self.find(partitions, read, &result, |_, number, count| found.push((number, count)))?;
            Ok(found)
        });
        concurrently(requests, self.limits.requests(), |more| found.extend(more)).await
    }

    /// Reads all counts from the first window to the last, at most [`ROWS_PER_KEY`] rows of a partition of the store for
    /// each. Returns the partitions that may have more, of which nothing is added.
    async fn counts_between(
        &self,
        partitions: &[i32],
        read: &Read<'_, '_>,
        found: &mut Vec<(usize, Count)>,
    ) -> Result<Vec<i32>, Failed> {
        let [(_, first, _), .., (_, last, _)] = read.windows else { return Ok(Vec::new()) };
        let limit = ROWS_PER_KEY * read.most_in_a_block;
        let rows = i32::try_from(limit).unwrap_or(i32::MAX);
        let from = (CqlTimestamp(first.end), &*first.source);
        let to = (CqlTimestamp(last.end), &*last.source);
        let statements = &self.statements.select_counts_between;
        let result = match (partitions, &read.blocks[..]) {
            ([partition], [block]) => {
                let values = (partition, block, read.shard(), from.0, from.1, to.0, to.1, rows);
                self.read_counts(partitions, read, &statements.of_one, values).await?
            }
            (partitions, blocks) => {
                let values = (partitions, blocks, read.shard(), from.0, from.1, to.0, to.1, rows);
                self.read_counts(partitions, read, &statements.of_several, values).await?
            }
        };
        let mut sparse = BTreeSet::new();
        if result.rows_num() >= limit {
            let mut rows: BTreeMap<(i32, i64), usize> = BTreeMap::new();
            self.each_row(partitions, read, &result, |(partition, CqlTimestamp(end), ..)| {
                *rows.entry((partition, self.layout.counts.block(end))).or_default() += 1;
                Ok(())
            })?;
            sparse.extend(
                rows.iter().filter(|(_, rows)| **rows >= limit).map(|((partition, _), _)| *partition),
            );
        }
        self.find(partitions, read, &result, |partition, number, count| {
            if !sparse.contains(&partition) {
                found.push((number, count));
            }
        })?;
        Ok(sparse.into_iter().collect())
    }

    async fn read_counts(
        &self,
        partitions: &[i32],
        read: &Read<'_, '_>,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, Failed> {
        let what = || self.reading_counts(partitions, read);
        rows_of(what, self.execute(RequestKind::ReadCounts, what, statement, values).await?)
    }

    fn reading_counts(&self, partitions: &[i32], read: &Read<'_, '_>) -> String {
        let partitions = match partitions {
            [one] => format!("partition {one}"),
            several => format!("partitions {several:?}"),
        };
        let blocks = match &read.blocks[..] {
            [one] => format!("block {one}"),
            several => format!("blocks {several:?}"),
        };
        format!(
            "read {} counts of {partitions}, {blocks}, shard {} from {}",
            read.windows.len(),
            read.shard(),
            self.of("window_counts")
        )
    }

    /// Passes on each row, until one is damaged.
    fn each_row<'r>(
        &self,
        partitions: &[i32],
        read: &Read<'_, '_>,
        result: &'r QueryRowsResult,
        mut handle: impl FnMut(Columns<'r>) -> Stored<()>,
    ) -> Result<(), Failed> {
        let what = || self.reading_counts(partitions, read);
        let rows = result.rows::<Columns<'r>>().map_err(|error| self.damaged(what, error))?;
        for row in rows {
            let row = row.map_err(|error| self.damaged(what, error))?;
            handle(row).map_err(|damaged| self.damaged(what, damaged))?;
        }
        Ok(())
    }

    /// Passes on the counts of the requested windows among these rows, with their partition and the window's number.
    fn find(
        &self,
        partitions: &[i32],
        read: &Read<'_, '_>,
        result: &QueryRowsResult,
        mut handle: impl FnMut(i32, usize, Count),
    ) -> Result<(), Failed> {
        self.each_row(partitions, read, result, |row| {
            let (partition, CqlTimestamp(end), source, count, through_offset) = row;
            let key = (end, source);
            let first = read.windows.partition_point(|(_, window, _)| clustering_key(window) < key);
            // A window may be requested more than once.
            let same =
                read.windows[first..].iter().take_while(|(_, window, _)| clustering_key(window) == key);
            for (.., number) in same {
                handle(partition, *number, stored_count(partition, key, count, through_offset)?);
            }
            Ok(())
        })
    }

    pub(super) async fn write_counts(
        &self,
        partition: i32,
        counts: &[(WindowKey, Count)],
    ) -> Result<(), Failed> {
        let layout = self.layout.counts;
        let mut rows: Vec<CountRow<'_>> = counts
            .iter()
            .map(|(window, count)| CountRow { partition, place: layout.place(window), window, count: *count })
            .collect();
        rows.sort_by(|a, b| (a.place, clustering_key(a.window)).cmp(&(b.place, clustering_key(b.window))));
        let write = shared_requests(rows.into_iter(), self.request_bytes)
            .map(|(rows, bytes)| self.write_some_counts(partition, rows, bytes));
        concurrently(write, self.limits.requests(), drop).await
    }

    /// One request.
    async fn write_some_counts(
        &self,
        partition: i32,
        rows: Vec<CountRow<'_>>,
        bytes: usize,
    ) -> Result<(), Failed> {
        let what = || {
            let place =
                |row: Option<&CountRow<'_>>| row.map_or((0, 0), |row| (row.place.block, row.place.shard));
            let (first, last) = (place(rows.first()), place(rows.last()));
            format!(
                "write {} counts of partition {partition}, block {} shard {} to block {} shard {}, into {}",
                rows.len(),
                first.0,
                first.1,
                last.0,
                last.1,
                self.of("window_counts")
            )
        };
        let _admitted = self.limits.admit(bytes).await;
        let batch = copies(&self.statements.insert_count, rows.len());
        self.requests.add(RequestKind::WriteCounts);
        let result = self.session.batch(&batch, &rows[..]).await;
        result.map(drop).map_err(|error| self.failed(what, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cassandra::write::sizes::assert_estimated;

    #[test]
    fn after_a_sparse_slice_the_next_reads_name_their_windows() {
        let slices = Slices::default();
        assert!(slices.next_is_one() && slices.next_is_one());
        slices.was_sparse();
        let listed = (0..1_000).take_while(|_| !slices.next_is_one()).count();
        assert_eq!(listed, READS_AFTER_SPARSE as usize);
        assert!(slices.next_is_one());
    }

    /// Counts of windows that end at 0 to 999, in blocks of `block` windows.
    fn requested(windows: &[WindowKey], block: i64) -> Vec<Requested<'_>> {
        let place = |window: &WindowKey| CountPlace { block: window.end / block, shard: 1 };
        windows.iter().zip(0..).map(|(window, number)| (place(window), window, number)).collect()
    }

    #[test]
    fn a_read_is_bounded_by_blocks_keys_and_bytes() {
        let windows: Vec<WindowKey> = (0..1_000).map(|end| WindowKey { source: "abc".into(), end }).collect();
        let lengths = |block, most_blocks, most_bytes| -> Vec<usize> {
            let requested = requested(&windows, block);
            Read::all(&requested, most_blocks, most_bytes).map(|read| read.windows.len()).collect()
        };
        assert_eq!(lengths(600, 1, usize::MAX), [256, 256, 88, 256, 144]);
        assert_eq!(lengths(600, 2, usize::MAX), [256, 256, 256, 232]);
        assert_eq!(lengths(600, 1, 300 * (KEY_BYTES + 3)), [256, 256, 88, 256, 144]);
        assert_eq!(lengths(600, 1, 200 * (KEY_BYTES + 3)), [200, 200, 200, 200, 200]);
        assert_eq!(lengths(10, 16, usize::MAX), [160, 160, 160, 160, 160, 160, 40]);
        assert_eq!(lengths(10, 16, 0).len(), 1_000, "a window always fits");
        assert_eq!(Read::all(&[], 10, 10).count(), 0);
    }

    #[test]
    fn a_read_is_of_one_shard_and_knows_its_blocks() {
        let windows: Vec<WindowKey> = (0..20).map(|end| WindowKey { source: "abc".into(), end }).collect();
        let mut requested = requested(&windows, 8);
        requested[18..].iter_mut().for_each(|(place, ..)| place.shard = 2);
        let reads: Vec<_> = Read::all(&requested, 16, usize::MAX)
            .map(|read| (read.shard(), read.blocks.clone(), read.most_in_a_block, read.partitions()))
            .collect();
        assert_eq!(reads, [(1, vec![0, 1, 2], 8, 5), (2, vec![2], 2, 16)]);
    }

    #[test]
    fn the_estimated_size_of_a_count_is_little_more_than_its_size() {
        use scylla::frame::response::result::NativeType::{BigInt, Int, Text, Timestamp};
        for length in [0, 1, 50, 1_024] {
            let window = WindowKey { source: "s".repeat(length).into(), end: 5 };
            let (place, count) = (CountPlace { block: 1, shard: 2 }, Count { count: 3, through_offset: 4 });
            let row = CountRow { partition: 1, place, window: &window, count };
            let columns = [Int, BigInt, Int, Timestamp, Text, BigInt, BigInt, BigInt];
            assert_estimated(&row, &columns, &window);
        }
    }

    #[test]
    fn a_request_reads_fewer_partitions_where_it_reads_many_windows_of_each() {
        let windows: Vec<WindowKey> = (0..300).map(|end| WindowKey { source: "abc".into(), end }).collect();
        let requested = requested(&windows, 1_000);
        let partitions: Vec<usize> = [1, 64, 100, 256]
            .map(|number| Read::first_of(&requested[..number], 16, usize::MAX).unwrap().partitions())
            .into();
        assert_eq!(partitions, [16, 16, 10, 4]);
    }
}
