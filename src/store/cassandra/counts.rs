//! The counts of windows: hundreds of rows are read and written by one request.
//!
//! The counts of one partition of the log are in partitions of the store of their own, one for each block of windows
//! and shard of sources, see [`CountLayout`](crate::store::CountLayout). A request covers one of these: a read is
//! a slice or lists the keys of its rows ([`Slices`]), a write is an unlogged batch, which is one mutation.

use std::cmp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;

use super::execute::{rows_of, side_by_side};
use super::statements::REGISTRY;
use super::write::{STATEMENT_BYTES, Written, copies, requests};
use super::{Connection, Failed, RequestKind};
use crate::store::layout::CountPlace;
use crate::store::{Count, Flaw, RowKey, Stored, WindowKey, registration};

/// Maximum rows of one read.
const MOST_KEYS: usize = 256;

/// A read of fewer windows names them.
const LEAST_SLICED: usize = 16;

/// Maximum partitions of the log of one read, and maximum rows that it requests of all of them. A node reads each
/// partition of the store by itself, but a request costs it more than a read of a few rows or of a partition that is
/// empty.
const MOST_PARTITIONS: usize = 16;
const MOST_ROWS: usize = 1_024;

/// Rows of a partition that a slice may return for each window that is requested.
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

impl Written for CountRow<'_> {
    fn bytes(&self) -> usize {
        STATEMENT_BYTES + 48 + self.window.source.len()
    }

    fn beside(&self, other: &Self) -> bool {
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
    Err(Flaw::null(column)
        .of("window_counts", RowKey::Count { partition, source: source.into(), window_end }))
}

/// The order of the store: by place, then by the clustering key.
fn order(a: (CountPlace, &WindowKey), b: (CountPlace, &WindowKey)) -> cmp::Ordering {
    (a.0, clustering_key(a.1)).cmp(&(b.0, clustering_key(b.1)))
}

/// The key of a window's row within its partition of the store, in the order of the store.
fn clustering_key(window: &WindowKey) -> (i64, &str) {
    (window.end, &window.source)
}

/// A window to read: where it is, and its number among the requested ones.
type Requested<'a> = (CountPlace, &'a WindowKey, usize);

/// Splits windows, in the order of the store, into reads: each of one partition of the store, with at most this many
/// keys and bytes.
fn reads<'a, 'w>(
    requested: &'a [Requested<'w>],
    most_bytes: usize,
) -> impl Iterator<Item = &'a [Requested<'w>]> {
    let mut rest = requested;
    std::iter::from_fn(move || {
        let (place, ..) = rest.first()?;
        let mut bytes = 0;
        let fits = |(number, (other, window, _)): &(usize, &Requested<'_>)| {
            bytes += KEY_BYTES + window.source.len();
            other == place && *number < MOST_KEYS && (*number == 0 || bytes <= most_bytes)
        };
        let length = rest.iter().enumerate().take_while(fits).count();
        let (read, left) = rest.split_at(length);
        rest = left;
        Some(read)
    })
}

/// Partitions of the log that are read at once for these windows.
fn partitions_of(windows: &[Requested<'_>]) -> usize {
    (MOST_ROWS / windows.len().max(1)).clamp(1, MOST_PARTITIONS)
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
        requested.sort_unstable_by(|a, b| order((a.0, a.1), (b.0, b.1)));
        let mut split = Vec::new();
        for windows in reads(&requested, self.request_bytes) {
            split.extend(partitions.chunks(partitions_of(windows)).map(|partitions| (partitions, windows)));
        }
        let requests = split.iter().map(|(partitions, windows)| self.counts_at(partitions, windows));
        let found = |found: Vec<(usize, Count)>| {
            for (number, count) in found {
                handle(number, count);
            }
        };
        side_by_side(requests, self.limits.requests(), found).await
    }

    /// The counts that these partitions have of windows of one place, with the windows' numbers.
    async fn counts_at(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
    ) -> Result<Vec<(usize, Count)>, Failed> {
        let mut found = Vec::new();
        if windows.len() < LEAST_SLICED || !self.slices.next_is_one() {
            self.listed_counts(partitions, windows, &mut found).await?;
            return Ok(found);
        }
        let sparse = self.counts_between(partitions, windows, &mut found).await?;
        if !sparse.is_empty() {
            self.slices.was_sparse();
            self.listed_counts(&sparse, windows, &mut found).await?;
        }
        Ok(found)
    }

    /// Reads exactly these windows.
    async fn listed_counts(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
        found: &mut Vec<(usize, Count)>,
    ) -> Result<(), Failed> {
        let Some((CountPlace { block, shard }, ..)) = windows.first() else { return Ok(()) };
        let keys: Vec<(CqlTimestamp, &str)> =
            windows.iter().map(|(_, window, _)| (CqlTimestamp(window.end), &*window.source)).collect();
        let statements = &self.statements.select_counts;
        let result = match partitions {
            [one] => {
                let values = (one, block, shard, keys);
                self.read_counts(partitions, windows, &statements.of_one, values).await?
            }
            _ => {
                let values = (partitions, block, shard, keys);
                self.read_counts(partitions, windows, &statements.of_several, values).await?
            }
        };
        self.find(partitions, windows, &result, |_, number, count| found.push((number, count)))
    }

    /// Reads all counts from the first window to the last, at most [`ROWS_PER_KEY`] rows of a partition for each.
    /// Returns the partitions that may have more, of which nothing is added.
    async fn counts_between(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
        found: &mut Vec<(usize, Count)>,
    ) -> Result<Vec<i32>, Failed> {
        let [(CountPlace { block, shard }, first, _), .., (_, last, _)] = windows else {
            return Ok(Vec::new());
        };
        let limit = ROWS_PER_KEY * windows.len();
        let rows = i32::try_from(limit).unwrap_or(i32::MAX);
        let from = (CqlTimestamp(first.end), &*first.source);
        let to = (CqlTimestamp(last.end), &*last.source);
        let statements = &self.statements.select_counts_between;
        let result = match partitions {
            [one] => {
                let values = (one, block, shard, from.0, from.1, to.0, to.1, rows);
                self.read_counts(partitions, windows, &statements.of_one, values).await?
            }
            _ => {
                let values = (partitions, block, shard, from.0, from.1, to.0, to.1, rows);
                self.read_counts(partitions, windows, &statements.of_several, values).await?
            }
        };
        let mut sparse = Vec::new();
        if result.rows_num() >= limit {
            let mut rows: BTreeMap<i32, usize> = BTreeMap::new();
            self.each_row(partitions, windows, &result, |(partition, ..)| {
                *rows.entry(partition).or_default() += 1;
                Ok(())
            })?;
            rows.retain(|_, rows| *rows >= limit);
            sparse.extend(rows.into_keys());
        }
        self.find(partitions, windows, &result, |partition, number, count| {
            if !sparse.contains(&partition) {
                found.push((number, count));
            }
        })?;
        Ok(sparse)
    }

    async fn read_counts(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, Failed> {
        let what = || self.reading_counts(partitions, windows);
        rows_of(what, self.execute(RequestKind::ReadCounts, what, statement, values).await?)
    }

    fn reading_counts(&self, partitions: &[i32], windows: &[Requested<'_>]) -> String {
        let place = windows.first().map(|(place, ..)| *place);
        let CountPlace { block, shard } = place.unwrap_or(CountPlace { block: 0, shard: 0 });
        let partitions = match partitions {
            [one] => format!("partition {one}"),
            several => format!("partitions {several:?}"),
        };
        format!(
            "read {} counts of {partitions}, block {block}, shard {shard} from {}",
            windows.len(),
            self.of("window_counts")
        )
    }

    /// Passes on each row, until one is damaged.
    fn each_row<'r>(
        &self,
        partitions: &[i32],
        windows: &[Requested<'_>],
        result: &'r QueryRowsResult,
        mut handle: impl FnMut(Columns<'r>) -> Stored<()>,
    ) -> Result<(), Failed> {
        let what = || self.reading_counts(partitions, windows);
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
        windows: &[Requested<'_>],
        result: &QueryRowsResult,
        mut handle: impl FnMut(i32, usize, Count),
    ) -> Result<(), Failed> {
        self.each_row(partitions, windows, result, |row| {
            let (partition, CqlTimestamp(end), source, count, through_offset) = row;
            let key = (end, source);
            let first = windows.partition_point(|(_, window, _)| clustering_key(window) < key);
            // A window may be requested more than once.
            let of_this = windows[first..].iter().take_while(|(_, window, _)| clustering_key(window) == key);
            for (.., number) in of_this {
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
        rows.sort_by(|a, b| order((a.place, a.window), (b.place, b.window)));
        let write = requests(rows.into_iter(), self.request_bytes)
            .map(|(rows, bytes)| self.write_counts_of(partition, rows, bytes));
        side_by_side(write, self.limits.requests(), drop).await
    }

    /// Counts of one partition of the store.
    async fn write_counts_of(
        &self,
        partition: i32,
        rows: Vec<CountRow<'_>>,
        bytes: usize,
    ) -> Result<(), Failed> {
        let what = || {
            let place = rows.first().map_or((0, 0), |row| (row.place.block, row.place.shard));
            format!(
                "write {} counts of partition {partition}, block {}, shard {} into {}",
                rows.len(),
                place.0,
                place.1,
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

    #[test]
    fn after_a_sparse_slice_the_next_reads_name_their_windows() {
        let slices = Slices::default();
        assert!(slices.next_is_one() && slices.next_is_one());
        slices.was_sparse();
        let listed = (0..1_000).take_while(|_| !slices.next_is_one()).count();
        assert_eq!(listed, READS_AFTER_SPARSE as usize);
        assert!(slices.next_is_one());
    }

    #[test]
    fn a_read_is_of_one_place_and_bounded_by_keys_and_bytes() {
        let windows: Vec<WindowKey> = (0..1_000).map(|end| WindowKey { source: "abc".into(), end }).collect();
        let wanted: Vec<Requested<'_>> = windows
            .iter()
            .enumerate()
            .map(|(number, window)| (CountPlace { block: window.end / 600, shard: 1 }, window, number))
            .collect();
        let lengths = |most_bytes| reads(&wanted, most_bytes).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(usize::MAX), [256, 256, 88, 256, 144]);
        assert_eq!(lengths(300 * (KEY_BYTES + 3)), [256, 256, 88, 256, 144]);
        assert_eq!(lengths(200 * (KEY_BYTES + 3)), [200, 200, 200, 200, 200]);
        assert_eq!(lengths(0).len(), 1_000, "a window always fits");
        assert_eq!(reads(&[], 10).count(), 0);
    }
}
