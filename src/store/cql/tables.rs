//! The description of the tables.

use std::borrow::Cow;
use std::num::NonZeroU32;

use super::table::Order::{Ascending, Descending};
use super::table::Type::{Bigint, Blob, FrozenMap, FrozenSet, Int, Text, Timestamp};
use super::table::{Column, Table};
use crate::store::EventLayout;

/// All tables of a keyspace, in the order in which they are created and compared.
pub fn tables(layout: EventLayout) -> [Table; 7] {
    let events = match layout {
        EventLayout::Original => EVENTS,
        EventLayout::Bucketed { rows } => bucketed_events(rows),
    };
    [events, ALERTS, WINDOW_COUNTS, REGISTRY, PROGRESS, DEAD_LETTERS, PIPELINE]
}

/// The tables that the pipeline derives from the log: all except the one of the binding.
pub fn derived_tables(layout: EventLayout) -> impl Iterator<Item = Table> {
    tables(layout).into_iter().filter(|table| table.name != PIPELINE.name)
}

const EVENTS: Table = Table {
    name: "events",
    comment: Cow::Borrowed(
        "One row per record that is an event, as in the original of 2016. Written at offset + 1.",
    ),
    columns: Cow::Borrowed(&[
        Column::with("id", Bigint, "the producer's id; not unique"),
        Column::with("ts", Timestamp, "event time"),
        Column::new("partition", Int),
        Column::new("offset", Bigint),
        Column::new("source", Text),
        Column::new("client", Text),
        Column::with("health", Int, "0 nominal, 1 warning, 2 critical"),
    ]),
    partition_key: &["partition"],
    clustering_key: &[("offset", Descending)],
};

/// [`EVENTS`] with a bucket in the partition key.
fn bucketed_events(rows: NonZeroU32) -> Table {
    let bucket = Column::with("bucket", Bigint, "offset / rows of a bucket");
    let comment = format!(
        "One row per record that is an event, in buckets of {rows} offsets, so that no partition grows without \
         bound. Written at offset + 1."
    );
    Table {
        comment: comment.into(),
        columns: EVENTS.columns.iter().copied().chain([bucket]).collect(),
        partition_key: &["partition", "bucket"],
        ..EVENTS
    }
}

const ALERTS: Table = Table {
    name: "alerts",
    comment: Cow::Borrowed(
        "One row per window of a source with enough events, as in the original. Written at event_count, which \
         only grows.",
    ),
    columns: Cow::Borrowed(&[
        Column::with("ts", Timestamp, "the window's end"),
        Column::new("source", Text),
        Column::with("event_count", Int, "counted events of the window, over all partitions"),
    ]),
    partition_key: &["source"],
    clustering_key: &[("ts", Ascending)],
};

const WINDOW_COUNTS: Table = Table {
    name: "window_counts",
    comment: Cow::Borrowed(
        "What each partition has counted in each window. Both cells are a function of the partition's log up to \
         through_offset. Written at through_offset + 1, by the partition's own worker only.",
    ),
    columns: Cow::Borrowed(&[
        Column::new("partition", Int),
        Column::with("block", Bigint, "window_end / pipeline.count_block_ms, floored"),
        Column::with("shard", Int, "a checksum (CRC-32) of the source, modulo pipeline.count_shards"),
        Column::new("window_end", Timestamp),
        Column::new("source", Text),
        Column::new("count", Bigint),
        Column::with("through_offset", Bigint, "offset of the last counted event"),
    ]),
    partition_key: &["partition", "block", "shard"],
    clustering_key: &[("window_end", Ascending), ("source", Ascending)],
};

const REGISTRY: Table = Table {
    name: "registry",
    comment: Cow::Borrowed(
        "The partitions that may have counts: from 0 to partitions - 1. One row. Written at \
         partitions, so that the greatest number is kept.",
    ),
    columns: Cow::Borrowed(&[
        Column::with("name", Text, "always 'partitions'"),
        Column::new("partitions", Int),
    ]),
    partition_key: &["name"],
    clustering_key: &[],
};

const PROGRESS: Table = Table {
    name: "progress",
    comment: Cow::Borrowed(
        "The progress of each partition: everything from origin up to next_offset is durable in every table. \
         next_offset is written at next_offset + 1, origin at 1.",
    ),
    columns: Cow::Borrowed(&[
        Column::new("partition", Int),
        Column::new("next_offset", Bigint),
        Column::with("origin", Bigint, "where this pipeline started; never changes"),
    ]),
    partition_key: &["partition"],
    clustering_key: &[],
};

const DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    comment: Cow::Borrowed(
        "One row per invalid record, with its bytes; if the record is too large, with their lengths \
         and hash. Written at offset + 1.",
    ),
    columns: Cow::Borrowed(&[
        Column::new("partition", Int),
        Column::new("offset", Bigint),
        Column::with("reason", Text, "a fixed code, for example missing_field:source"),
        Column::with("timestamp", Timestamp, "the broker's timestamp of the record"),
        Column::new("key", Blob),
        Column::new("value", Blob),
        Column::new("key_length", Bigint),
        Column::new("value_length", Bigint),
        Column::with("sha256", Blob, "of the bytes of the key followed by those of the value"),
    ]),
    partition_key: &["partition"],
    clustering_key: &[("offset", Descending)],
};

const PIPELINE: Table = Table {
    name: "pipeline",
    comment: Cow::Borrowed(
        "What this keyspace is bound to: one row, written once and conditionally by `exactlyonce init`. The other \
         tables are a function of the log and of this row.",
    ),
    columns: Cow::Borrowed(&[
        Column::with("name", Text, "always 'pipeline'"),
        Column::new("topic", Text),
        Column::with("topic_id", Text, "a recreated topic has a different one"),
        Column::new("window_size_ms", Bigint),
        Column::new("window_slide_ms", Bigint),
        Column::with("threshold", Int, "least count that raises an alert"),
        Column::with("health", FrozenSet(&Int), "the levels that count"),
        Column::with("max_mutation_bytes", Bigint, "a larger record is a dead letter without its bytes"),
        Column::new("decoder_version", Int),
        Column::with("layout", Text, "of events"),
        Column::with(
            "count_block_ms",
            Bigint,
            "milliseconds of window ends that share a block of window_counts",
        ),
        Column::with("count_shards", Int, "shards of a block"),
        Column::new("schema_version", Int),
        Column::with("consistency", Text, "of every read and write: quorum or local_quorum"),
        Column::with("datacenter", Text, "of local_quorum; empty with quorum"),
        Column::with(
            "origins",
            FrozenMap(&Int, &Bigint),
            "start offsets of the partitions that existed then",
        ),
    ]),
    partition_key: &["name"],
    clustering_key: &[],
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const BUCKETED: EventLayout = EventLayout::Bucketed { rows: NonZeroU32::new(70_000).unwrap() };

    #[test]
    fn keys_are_columns_and_no_column_is_there_twice() {
        for table in tables(EventLayout::Original).iter().chain(&tables(BUCKETED)) {
            let columns: BTreeSet<&str> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(columns.len(), table.columns.len(), "{table:?}");
            let clustering = table.clustering_key.iter().map(|(name, _)| name);
            let key: Vec<&str> = table.partition_key.iter().chain(clustering).copied().collect();
            assert!(!table.partition_key.is_empty(), "{table:?}");
            assert_eq!(key.iter().collect::<BTreeSet<_>>().len(), key.len(), "{table:?}");
            assert!(key.iter().all(|name| columns.contains(name)), "{table:?}");
        }
    }

    #[test]
    fn in_buckets_only_events_differ_by_one_column() {
        let (original, bucketed) = (tables(EventLayout::Original), tables(BUCKETED));
        assert_eq!(original[1..], bucketed[1..]);
        assert_eq!(original[0].columns[..], bucketed[0].columns[..7]);
        assert_eq!(bucketed[0].columns[7..].iter().map(|column| column.name).collect::<Vec<_>>(), ["bucket"]);
        assert_eq!(bucketed[0].partition_key, ["partition", "bucket"]);
        assert!(bucketed[0].comment.contains("buckets of 70000 offsets"), "{}", bucketed[0].comment);
    }

    #[test]
    fn only_the_binding_is_not_derived() {
        let derived: Vec<_> = derived_tables(EventLayout::Original).map(|table| table.name).collect();
        assert_eq!(derived, ["events", "alerts", "window_counts", "registry", "progress", "dead_letters"]);
    }
}
