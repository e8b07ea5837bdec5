//! The consistency that a keyspace is bound to, and its change by an operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exactlyonce::store::cassandra::{self, CassandraOptions, CassandraStore, Changed, RequestKind};
use exactlyonce::store::{Binding, Bound, BoundConsistency, Layout, Outcome, Store};
use scylla::errors::DbError;
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use scylla_proxy::{Condition, RequestOpcode, RequestReaction, RequestRule};
use simulated_cassandra::cluster::Verb;
use tokio::sync::oneshot;

use super::services::TestKeyspace;
use super::simulated::{Nodes, OSLO};
use crate::store::{binding, known};

crate::cassandra::on_real_and_simulated_nodes!([
    the_bound_consistency_is_changed_only_from_what_it_is_and_from_then_on_it_is_the_new_one,
]);

fn local(datacenter: &str) -> BoundConsistency {
    BoundConsistency::LocalQuorum { datacenter: datacenter.to_owned() }
}

/// A store of the same keyspace, at a local quorum.
async fn local_store(options: &CassandraOptions) -> CassandraStore {
    let options = CassandraOptions {
        datacenter: Some(OSLO.to_owned()),
        consistency: cassandra::Consistency::LocalQuorum,
        ..options.clone()
    };
    CassandraStore::connect(&options, Layout::ORIGINAL).await.expect("the tables can be opened")
}

async fn the_bound_consistency_is_changed_only_from_what_it_is_and_from_then_on_it_is_the_new_one(
    options: CassandraOptions,
) {
    let test = TestKeyspace::with(options, Layout::ORIGINAL).await;
    let (quorum, local_quorum) = (&test.store, local_store(&test.options).await);
    let change = async |store: &CassandraStore, from| known(store.change_consistency(&from).await);
    assert_eq!(change(&local_quorum, BoundConsistency::Quorum).await, Changed::Unbound);
    let bound = binding("topic");
    known(quorum.bind(&bound).await);
    let not = Changed::Not(BoundConsistency::Quorum);
    assert_eq!(change(&local_quorum, local("elsewhere")).await, not);
    assert_eq!(change(quorum, BoundConsistency::Quorum).await, Changed::Before);
    assert_eq!(known(quorum.binding().await).as_ref(), Some(&bound));
    assert_eq!(change(&local_quorum, BoundConsistency::Quorum).await, Changed::Now);
    assert_eq!(change(&local_quorum, BoundConsistency::Quorum).await, Changed::Before);
    assert_eq!(change(&local_quorum, local(OSLO)).await, Changed::Before);
    assert_eq!(change(quorum, local("elsewhere")).await, Changed::Not(local(OSLO)));
    let changed = Binding { consistency: local(OSLO), ..bound };
    for store in [quorum, &local_quorum] {
        assert_eq!(known(store.binding().await).as_ref(), Some(&changed));
    }
    test.drop().await;
}

/// Loses the responses of both other replicas to the next commit: its coordinator does not know whether they have it.
fn lose_responses_to_a_commit(nodes: &Nodes) {
    let mut left = 2;
    nodes.links().rule(move |envelope| {
        let is_lost = envelope.response_to == Some(Verb::Commit) && left > 0;
        left -= u32::from(is_lost);
        is_lost.then(Vec::new)
    });
}

#[tokio::test]
async fn a_binding_that_was_written_with_an_unknown_outcome_is_found_and_is_new() {
    let nodes = Nodes::start().await;
    let store = nodes.store(Layout::ORIGINAL).await;
    lose_responses_to_a_commit(&nodes);
    assert_eq!(known(store.bind(&binding("topic")).await), Bound::Now);
    assert_eq!(known(store.binding().await), Some(binding("topic")));
}

#[tokio::test]
async fn a_change_that_was_made_with_an_unknown_outcome_is_made_on_every_replica_and_is_new() {
    let nodes = Nodes::start().await;
    let store = nodes.store(Layout::ORIGINAL).await;
    known(store.bind(&binding("topic")).await);
    let local_quorum = local_store(&nodes.options()).await;
    lose_responses_to_a_commit(&nodes);
    let changed = local_quorum.change_consistency(&BoundConsistency::Quorum).await;
    assert_eq!(known(changed), Changed::Now);
    assert_eq!(known(store.binding().await).map(|bound| bound.consistency), Some(local(OSLO)));
}

/// Another program overwrites the binding after the insert: what the read gets from other replicas is late until then.
#[tokio::test]
async fn a_binding_that_is_another_one_when_it_is_read_back_is_not_acknowledged() {
    let nodes = Nodes::start().await;
    let store = nodes.store(Layout::ORIGINAL).await;
    let session = nodes.session().await;
    let (inserted, is_inserted) = oneshot::channel();
    let is_overwritten = Arc::new(AtomicBool::new(false));
    let (mut inserted, overwritten) = (Some(inserted), is_overwritten.clone());
    nodes.links().rule(move |envelope| {
        if envelope.verb == Verb::Commit {
            inserted.take().map(|inserted| inserted.send(()));
        }
        let reads = inserted.is_none() && [Verb::Read, Verb::ReadDigest].contains(&envelope.verb);
        (reads && !overwritten.load(Ordering::Relaxed)).then(|| vec![Duration::from_secs(3)])
    });
    let overwrite = async {
        is_inserted.await.expect("the rule is there");
        // Later than the insert, whose timestamp is of a node's clock.
        let mut cql = Statement::new(
            "UPDATE test.pipeline USING TIMESTAMP 9000000000000000 SET topic = 'other' WHERE name = 'pipeline'",
        );
        cql.set_consistency(Consistency::All);
        session.query_unpaged(cql, ()).await.expect("the row can be written");
        is_overwritten.store(true, Ordering::Relaxed);
    };
    let own = binding("topic");
    let (outcome, ()) = tokio::join!(store.bind(&own), overwrite);
    match outcome {
        Outcome::Unknown(error) => assert!(error.what.contains("read back Binding"), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// A write that the nodes refuse is sent once: of all attempts, none could succeed.
#[tokio::test]
async fn a_binding_or_a_change_of_it_that_is_refused_is_not_repeated() {
    let nodes = Nodes::start().await;
    let direct = nodes.store(Layout::ORIGINAL).await;
    let mut proxied = nodes.proxied().await;
    let store = local_store(&proxied.options).await;
    // Both conditional writes have the name of the datacenter among their values, and no read has.
    let writes = Condition::RequestOpcode(RequestOpcode::Execute)
        .and(Condition::BodyContainsCaseSensitive(OSLO.as_bytes().into()));
    proxied.on_requests(RequestRule(writes, RequestReaction::forge_with_error(DbError::Unauthorized)));
    let requests = || store.requests().find(|(kind, _)| *kind == RequestKind::Other).map(|(_, sent)| sent);
    let own = Binding { consistency: local(OSLO), ..binding("topic") };
    let outcome = store.bind(&own).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(requests(), Some(1));
    known(direct.bind(&binding("topic")).await);
    let outcome = store.change_consistency(&BoundConsistency::Quorum).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(requests(), Some(2));
    proxied.finish().await;
}
