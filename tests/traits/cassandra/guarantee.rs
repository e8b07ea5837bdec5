//! The requirements of the guarantee, as a cluster reports them.

use exactlyonce::store::{Layout, Store};

use super::services::TestKeyspace;
use super::simulated::Nodes;
use crate::store::known;

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn the_requirements_of_the_guarantee_are_checked_on_the_cluster() {
    let test = TestKeyspace::new(Layout::ORIGINAL).await;
    let findings = known(test.store.guarantees().await);
    for finding in &findings {
        println!("{:<10}{finding}", finding.verdict.label());
    }
    let verdict = |what: &str| {
        let found: Vec<_> = findings.iter().filter(|finding| finding.what.starts_with(what)).collect();
        assert!(!found.is_empty(), "{what}: {findings:#?}");
        found[0].verdict.label()
    };
    assert_eq!(verdict("cassandra write at timestamp 1"), "ok");
    assert_eq!(verdict("cassandra user_timestamps_enabled"), "ok");
    assert_eq!(verdict("cassandra minimum_timestamp_fail_threshold"), "ok");
    assert!(["ok", "warning"].contains(&verdict("cassandra commitlog_sync")), "{findings:#?}");
    assert_eq!(verdict("cassandra repairs"), "unchecked");
    // The test write is neither a binding nor a row that makes the keyspace foreign.
    assert_eq!(known(test.store.binding().await), None);
    assert!(!known(test.store.holds_rows().await));
    test.drop().await;
}

/// Simulated nodes do not report settings.
#[tokio::test]
async fn what_a_cluster_reports_is_checked_and_what_it_does_not_report_is_unchecked() {
    let nodes = Nodes::start().await;
    let store = nodes.store(Layout::ORIGINAL).await;
    assert_eq!(store.replicas(), 3);
    let findings = known(store.guarantees().await);
    let found: Vec<_> =
        findings.iter().map(|finding| (finding.what.as_str(), finding.verdict.label())).collect();
    assert_eq!(
        found,
        [
            ("cassandra keyspace test replication", "ok"),
            ("cassandra keyspace test durable_writes", "ok"),
            ("cassandra keyspace test default_time_to_live, compaction", "ok"),
            ("cassandra commitlog_sync", "unchecked"),
            ("cassandra user_timestamps_enabled", "unchecked"),
            ("cassandra minimum_timestamp_fail_threshold", "unchecked"),
            ("cassandra minimum_timestamp_warn_threshold", "unchecked"),
            ("cassandra write at timestamp 1", "ok"),
            ("cassandra repairs", "unchecked"),
            ("cassandra writes by others", "unchecked"),
        ]
    );
    assert_eq!(known(store.binding().await), None);
    assert!(!known(store.holds_rows().await));
}
