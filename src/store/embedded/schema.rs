//! The tables of `store.sqlite`.
//!
//! Clustered by their keys, as the protocol reads them. A change of these texts is a new version.

use crate::embedded::Format;

pub(super) const FORMAT: Format = Format {
    name: "store.sqlite",
    application_id: i32::from_be_bytes(*b"xo1s"),
    version: 1,
    tables: &[
        "CREATE TABLE events (
            partition INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            id INTEGER NOT NULL,
            ts INTEGER NOT NULL,
            source TEXT NOT NULL,
            client TEXT NOT NULL,
            health INTEGER NOT NULL,
            PRIMARY KEY (partition, offset)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE alerts (
            source TEXT NOT NULL,
            ts INTEGER NOT NULL,
            event_count INTEGER NOT NULL,
            write_timestamp INTEGER NOT NULL,
            PRIMARY KEY (source, ts)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE window_counts (
            source TEXT NOT NULL,
            window_end INTEGER NOT NULL,
            partition INTEGER NOT NULL,
            count INTEGER NOT NULL,
            through_offset INTEGER NOT NULL,
            write_timestamp INTEGER NOT NULL,
            PRIMARY KEY (source, window_end, partition)
        ) STRICT, WITHOUT ROWID",
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
            schema_version INTEGER NOT NULL,
            origins TEXT NOT NULL
        ) STRICT",
    ],
    command: "exactlyonce init",
};
