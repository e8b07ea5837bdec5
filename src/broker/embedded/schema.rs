//! The tables of `log.sqlite`. A change of these texts is a new version.

use crate::embedded::Format;

pub(super) const FORMAT: Format = Format {
    name: "log.sqlite",
    application_id: i32::from_be_bytes(*b"xo1l"),
    version: 1,
    tables: &[
        // A number is never used again, so that what is left of a deleted topic is nobody's.
        "CREATE TABLE topics (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            id TEXT NOT NULL,
            partitions INTEGER NOT NULL,
            replication INTEGER NOT NULL,
            compacted INTEGER NOT NULL
        ) STRICT",
        "CREATE TABLE partitions (
            topic INTEGER NOT NULL,
            partition INTEGER NOT NULL,
            log_start INTEGER NOT NULL,
            log_end INTEGER NOT NULL,
            PRIMARY KEY (topic, partition)
        ) STRICT, WITHOUT ROWID",
        "CREATE TABLE records (
            topic INTEGER NOT NULL,
            partition INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            timestamp INTEGER NOT NULL,
            key BLOB,
            value BLOB,
            checksum INTEGER NOT NULL,
            PRIMARY KEY (topic, partition, offset)
        ) STRICT, WITHOUT ROWID",
    ],
    command: "exactlyonce topic create",
};
