//! The tables of `log.sqlite`. A change of these texts is a new version.

use crate::sqlite::Format;

/// Name of the file.
pub(super) const NAME: &str = "log.sqlite";

pub(super) fn format() -> Format {
    Format {
        name: NAME,
        application_id: i32::from_be_bytes(*b"xo1l"),
        version: 1,
        tables: vec![
            // A number is never reused, so that remains of a deleted topic do not belong to another.
            "CREATE TABLE topics (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            id TEXT NOT NULL,
            partitions INTEGER NOT NULL,
            replication INTEGER NOT NULL,
            compacted INTEGER NOT NULL
        ) STRICT"
                .into(),
            "CREATE TABLE partitions (
            topic INTEGER NOT NULL,
            partition INTEGER NOT NULL,
            log_start INTEGER NOT NULL,
            log_end INTEGER NOT NULL,
            PRIMARY KEY (topic, partition)
        ) STRICT, WITHOUT ROWID"
                .into(),
            "CREATE TABLE records (
            topic INTEGER NOT NULL,
            partition INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            timestamp INTEGER NOT NULL,
            key BLOB,
            value BLOB,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (topic, partition, offset)
        ) STRICT, WITHOUT ROWID"
                .into(),
        ],
        shape: None,
        command: "exactlyonce topic create",
    }
}
