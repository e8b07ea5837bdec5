//! The tables of `store.sqlite`, and the statements that depend on the layout of `events`.
//!
//! The tables are clustered by their keys, as the protocol reads them. A change of these statements requires a new
//! version.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::sqlite::{Format, Shape};
use crate::store::EventLayout;

/// Name of the file.
pub(super) const NAME: &str = "store.sqlite";

/// The file with `events` in this layout. Its statement contains the layout, including the rows of a bucket.
pub(super) fn format(layout: EventLayout) -> Format {
    Format {
        name: NAME,
        application_id: i32::from_be_bytes(*b"xo1s"),
        version: 2,
        tables: [events(layout)].into_iter().chain(TABLES.iter().map(|&table| table.into())).collect(),
        shape: Some(Shape { name: layout.to_string(), of: layout_of }),
        command: "exactlyonce init",
    }
}

const EVENTS: &str = "CREATE TABLE events (
            partition INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            id INTEGER NOT NULL,
            ts INTEGER NOT NULL,
            source TEXT NOT NULL,
            client TEXT NOT NULL,
            health INTEGER NOT NULL,
            PRIMARY KEY (partition, offset)
        ) STRICT, WITHOUT ROWID";

/// The text before the rows of a bucket in the statement of [`EventLayout::Bucketed`].
const BUCKET: &str = "bucket INTEGER NOT NULL CHECK (bucket = offset / ";

fn events(layout: EventLayout) -> Cow<'static, str> {
    match layout {
        EventLayout::Original => EVENTS.into(),
        EventLayout::Bucketed { rows } => EVENTS
            .replace(
                "PRIMARY KEY (partition, offset)",
                &format!("{BUCKET}{rows}),\n            PRIMARY KEY (partition, bucket, offset)"),
            )
            .into(),
    }
}

/// The layout of a file, by its statements.
fn layout_of(statements: &BTreeSet<String>) -> Option<String> {
    let rows = |statement: &String| {
        let (_, rest) = statement.split_once(BUCKET)?;
        let rows = rest.split(')').next()?.parse().ok()?;
        Some(EventLayout::Bucketed { rows })
    };
    let bucketed = statements.iter().find_map(rows).into_iter();
    let mut layouts = bucketed.chain([EventLayout::Original]);
    layouts.find(|&layout| statements.contains(events(layout).as_ref())).map(|layout| layout.to_string())
}

/// Rows of [`Events::insert_many`]. With several rows a statement takes a quarter less time for each, because it is bound,
/// started and ended once, and keeps its position in the table.
pub(super) const ROWS_AT_ONCE: usize = 16;

/// Parameters of a row of `events`.
pub(super) const EVENT_PARAMETERS: usize = 7;

/// Statements about `events`. In each, `?1` is the partition.
#[derive(Debug)]
pub(super) struct Events {
    /// Offset, id, ts, source, client, health: writes a row, unless there is one.
    pub insert: String,
    /// The same for [`ROWS_AT_ONCE`] rows, each with all its parameters.
    pub insert_many: String,
    /// As `insert`, over the row that is there.
    pub replace: String,
    /// The row at offset `?2`.
    pub one: String,
    /// The first `?4` rows from offset `?2` up to and without `?3`.
    pub first: String,
    /// The last `?4` of them, the last one first.
    pub last: String,
}

impl Events {
    pub fn new(layout: EventLayout) -> Self {
        let (one, range) = match layout {
            EventLayout::Original => {
                let range = "offset >= ?2 AND offset < ?3";
                ("offset = ?2".to_owned(), range.to_owned())
            }
            // Buckets ascend with their offsets, so a range of offsets is one of the key, too.
            EventLayout::Bucketed { rows } => (
                format!("bucket = ?2 / {rows} AND offset = ?2"),
                format!("(bucket, offset) >= (?2 / {rows}, ?2) AND (bucket, offset) < (?3 / {rows}, ?3)"),
            ),
        };
        // The row whose parameters begin after `before`.
        let row = |before: usize| {
            let mut columns: Vec<String> =
                (1..=EVENT_PARAMETERS).map(|column| format!("?{}", before + column)).collect();
            if let EventLayout::Bucketed { rows } = layout {
                columns.push(format!("?{} / {rows}", before + 2));
            }
            format!("({})", columns.join(", "))
        };
        let many: Vec<String> = (0..ROWS_AT_ONCE).map(|index| row(index * EVENT_PARAMETERS)).collect();
        let many = many.join(", ");
        let values = format!("events VALUES {}", row(0));
        let columns = "id, ts, source, client, health FROM events WHERE partition = ?1";
        let order = |direction| match layout {
            EventLayout::Original => format!("ORDER BY offset{direction} LIMIT ?4"),
            EventLayout::Bucketed { .. } => format!("ORDER BY bucket{direction}, offset{direction} LIMIT ?4"),
        };
        Self {
            insert: format!("INSERT INTO {values} ON CONFLICT DO NOTHING"),
            insert_many: format!("INSERT INTO events VALUES {many} ON CONFLICT DO NOTHING"),
            replace: format!("INSERT OR REPLACE INTO {values}"),
            one: format!("SELECT {columns} AND {one}"),
            first: format!("SELECT offset, {columns} AND {range} {}", order("")),
            last: format!("SELECT offset, {columns} AND {range} {}", order(" DESC")),
        }
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE alerts (
            source TEXT NOT NULL,
            ts INTEGER NOT NULL,
            event_count INTEGER NOT NULL,
            write_timestamp INTEGER NOT NULL,
            PRIMARY KEY (source, ts)
        ) STRICT, WITHOUT ROWID",
    "CREATE TABLE window_counts (
            partition INTEGER NOT NULL,
            window_end INTEGER NOT NULL,
            source TEXT NOT NULL,
            count INTEGER NOT NULL,
            through_offset INTEGER NOT NULL,
            write_timestamp INTEGER NOT NULL,
            PRIMARY KEY (partition, window_end, source)
        ) STRICT, WITHOUT ROWID",
    "CREATE TABLE registry (
            only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
            partitions INTEGER NOT NULL
        ) STRICT",
    "CREATE TABLE progress (
            partition INTEGER NOT NULL PRIMARY KEY,
            next_offset INTEGER NOT NULL,
            next_offset_timestamp INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            origin_timestamp INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID",
    "CREATE TABLE dead_letters (
            partition INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            reason TEXT NOT NULL,
            timestamp INTEGER NOT NULL,
            key BLOB,
            value BLOB,
            key_length INTEGER,
            value_length INTEGER,
            sha256 BLOB,
            PRIMARY KEY (partition, offset)
        ) STRICT, WITHOUT ROWID",
    "CREATE TABLE pipeline (
            only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
            topic TEXT NOT NULL,
            topic_id TEXT NOT NULL,
            window_size_ms INTEGER NOT NULL,
            window_slide_ms INTEGER NOT NULL,
            threshold INTEGER NOT NULL,
            health TEXT NOT NULL,
            max_mutation_bytes INTEGER NOT NULL,
            decoder_version INTEGER NOT NULL,
            layout TEXT NOT NULL,
            count_block_ms INTEGER NOT NULL,
            count_shards INTEGER NOT NULL,
            schema_version INTEGER NOT NULL,
            consistency TEXT NOT NULL,
            datacenter TEXT NOT NULL,
            origins TEXT NOT NULL
        ) STRICT",
];
