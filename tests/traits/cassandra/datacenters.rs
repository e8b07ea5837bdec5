//! Two datacenters: which nodes a request goes to, and which replicas acknowledge it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use exactlyonce::store::cassandra::{
    CassandraOptions, CassandraStore, Consistency, apply_schema, check_schema,
};
use exactlyonce::store::cql::Replication;
use exactlyonce::store::{Binding, Bound, BoundConsistency, Layout, Outcome, Progress, Store};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;
use simulated_cassandra::cluster::Verb;

use super::schema::create_statement;
use super::simulated::{Nodes, OSLO, PARIS};
use crate::store::{binding, known};

/// Nodes of Oslo have a number below this at the links.
const IN_OSLO: u32 = 3;

/// Limit of the time until the driver uses another node.
const DEADLINE: Duration = Duration::from_secs(20);

/// Creates the tables, with so many replicas in each datacenter.
async fn create(nodes: &Nodes, in_oslo: i64, in_paris: i64) {
    let replicas = BTreeMap::from([(OSLO.to_owned(), in_oslo), (PARIS.to_owned(), in_paris)]);
    let replication = Replication::datacenters(replicas).expect("valid numbers");
    apply_schema(&nodes.options(), &replication, Layout::ORIGINAL).await.expect("the tables can be created");
}

fn options(nodes: &Nodes, datacenter: &str, consistency: Consistency) -> CassandraOptions {
    CassandraOptions { datacenter: Some(datacenter.to_owned()), consistency, ..nodes.options() }
}

async fn store(nodes: &Nodes, datacenter: &str, consistency: Consistency) -> CassandraStore {
    let options = options(nodes, datacenter, consistency);
    CassandraStore::connect(&options, Layout::ORIGINAL).await.expect("the tables can be opened")
}

/// Stores of Oslo at a local quorum and at a quorum, with so many replicas in each datacenter, after these nodes were killed.
async fn stores_without(
    killed: RangeInclusive<u8>,
    (in_oslo, in_paris): (i64, i64),
) -> (Nodes, CassandraStore, CassandraStore) {
    let nodes = Nodes::start_in_two_datacenters().await;
    create(&nodes, in_oslo, in_paris).await;
    let local = store(&nodes, OSLO, Consistency::LocalQuorum).await;
    let quorum = store(&nodes, OSLO, Consistency::Quorum).await;
    for node in killed {
        nodes.kill(node).await;
    }
    (nodes, local, quorum)
}

async fn write(store: &CassandraStore) -> Outcome<()> {
    store.write_progress(0, Progress { origin: 0, next_offset: 7 }).await
}

/// Repeats a write until it is acknowledged.
async fn write_in_the_end(store: &CassandraStore) {
    let written = async {
        while !matches!(write(store).await, Outcome::Acknowledged(())) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, written).await.expect("it is acknowledged in time");
}

#[tokio::test]
async fn a_local_quorum_needs_no_node_of_the_other_datacenter_and_a_quorum_does() {
    let (_nodes, local, quorum) = stores_without(4..=6, (3, 3)).await;
    write_in_the_end(&local).await;
    let outcome = write(&quorum).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

/// A quorum of the keyspace is one of its replicas in Paris.
#[tokio::test]
async fn a_quorum_is_reached_through_another_datacenter_and_a_local_quorum_is_not() {
    let (_nodes, local, quorum) = stores_without(1..=3, (1, 3)).await;
    write_in_the_end(&quorum).await;
    for _ in 0..20 {
        let outcome = write(&local).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three of the four replicas are in Oslo, and Paris learns late of what is committed there.
#[tokio::test]
async fn a_binding_is_acknowledged_when_a_quorum_of_every_datacenter_has_it() {
    let nodes = Nodes::start_in_two_datacenters().await;
    create(&nodes, 3, 1).await;
    let oslo = store(&nodes, OSLO, Consistency::LocalQuorum).await;
    let paris = store(&nodes, PARIS, Consistency::LocalQuorum).await;
    nodes.links().rule(|envelope| {
        let to_paris = envelope.from.0 < IN_OSLO && envelope.to.0 >= IN_OSLO;
        (to_paris && envelope.verb == Verb::Commit).then(|| vec![Duration::from_millis(700)])
    });
    let consistency = BoundConsistency::LocalQuorum { datacenter: OSLO.to_owned() };
    let own = Binding { consistency, ..binding("topic") };
    assert_eq!(known(oslo.bind(&own).await), Bound::Now);
    assert_eq!(known(paris.binding().await), Some(own));
}

/// The requests go to nodes that do not know a new table yet.
#[tokio::test]
async fn a_table_that_some_nodes_know_late_is_waited_for() {
    let nodes = Nodes::start_in_two_datacenters().await;
    create(&nodes, 3, 3).await;
    nodes.session().await.query_unpaged("DROP TABLE test.progress", ()).await.expect("it can be dropped");
    let options = options(&nodes, PARIS, Consistency::Quorum);
    let first = &options.contact_points[0];
    let one = SessionBuilder::new()
        .known_node(first)
        .host_filter(std::sync::Arc::new(AllowListHostFilter::new([first]).expect("an address")))
        .auto_await_schema_agreement(false);
    let one = one.build().await.expect("the node responds");
    nodes.links().rule(|envelope| {
        let schema = [Some(Verb::Schema), Some(Verb::SchemaPull)];
        let is_schema = schema.contains(&Some(envelope.verb)) || schema.contains(&envelope.response_to);
        is_schema.then(|| vec![Duration::from_millis(1_500)])
    });
    one.query_unpaged(create_statement(&options, "progress"), ()).await.expect("it can be created");
    check_schema(&options, Layout::ORIGINAL).await.expect("the table is there in the end");
}
