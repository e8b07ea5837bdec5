//! Rows that were changed with plain CQL: the same tests as on the simulated nodes.

use crate::damaged_rows::{rows_of_the_log, rows_of_the_pipeline};
use crate::harness::{Harness, shared};

fn on_a_bound_keyspace(test: impl Fn(&Harness)) {
    let _shared = shared();
    let harness = Harness::of("embedded", "cassandra");
    harness.succeed("topic create");
    harness.succeed("init");
    test(&harness);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn damaged_rows_of_the_log_are_reported_and_all_other_rows_are_checked() {
    on_a_bound_keyspace(rows_of_the_log);
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn damaged_rows_of_the_pipeline_are_reported_and_all_other_rows_are_checked() {
    on_a_bound_keyspace(rows_of_the_pipeline);
}
