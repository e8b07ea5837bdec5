//! The cases, by subject.

mod batches;
mod conditional;
mod deletes;
mod outcomes;
mod paging;
mod repair;
mod restarts;
mod schema;
mod selects;
mod timestamps;
mod values;

use super::backend::Backend;
use crate::suite::Case;

/// All cases.
pub fn all<W: Backend>() -> Vec<Case<W>> {
    let subjects = [
        values::cases(),
        timestamps::cases(),
        deletes::cases(),
        selects::cases(),
        paging::cases(),
        batches::cases(),
        conditional::cases(),
        schema::cases(),
        repair::cases(),
        outcomes::cases(),
        restarts::cases(),
    ];
    subjects.into_iter().flatten().collect()
}

/// `(p, c)` and an int, for cases that are about rows and not about types.
const ROWS: &str = "t (p int, c int, v int, PRIMARY KEY (p, c))";

/// `(partition, offset)` as in the pipeline's events.
const EVENTS: &str = "events (partition int, offset bigint, source text, PRIMARY KEY (partition, offset)) \
                      WITH CLUSTERING ORDER BY (offset DESC)";

/// The same, but a read uses no more replicas than its level requires, even if they are slow: otherwise a read at ONE may
/// read a second replica, and repair the first.
const UNHURRIED: &str = "events (partition int, offset bigint, source text, PRIMARY KEY (partition, offset)) \
                         WITH CLUSTERING ORDER BY (offset DESC) AND speculative_retry = 'NEVER'";

/// As in the pipeline's counts.
const COUNTS: &str = "counts (id int PRIMARY KEY, count bigint, through bigint)";

/// Like an unlogged batch of some events of one partition, each written at its offset + 1.
fn events(partition: i32, offsets: std::ops::Range<i64>) -> String {
    let rows = offsets.map(|offset| {
        format!(
            "INSERT INTO KS.events (partition, offset, source) VALUES ({partition}, {offset}, 's') USING TIMESTAMP {};",
            offset + 1
        )
    });
    batch("UNLOGGED", &rows.collect::<Vec<_>>().join(" "))
}

/// A batch as text.
fn batch(kind: &str, statements: &str) -> String {
    format!("BEGIN {kind} BATCH {statements} APPLY BATCH")
}
