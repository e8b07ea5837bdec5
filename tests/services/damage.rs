//! Rows that were changed with plain CQL, as on the simulated nodes.

use crate::damaged_rows::{rows_of_the_log, rows_of_the_pipeline};
use crate::harness::{Harness, shared};

fn with_damaged(test: impl Fn(&Harness)) {
    let _shared = shared();
    let harness = Harness::of("embedded", "cassandra");
    harness.fine("topic create");
    harness.fine("init");
    test(&harness);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn damaged_rows_of_the_log_are_named_and_the_rest_is_judged() {
    with_damaged(rows_of_the_log);
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn damaged_rows_of_the_pipeline_are_named_and_the_rest_is_judged() {
    with_damaged(rows_of_the_pipeline);
}
