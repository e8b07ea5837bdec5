//! Two that bind the same keyspace at once.

use exactlyonce::binding::{BindingError, Facts, Origin, init};
use exactlyonce::broker::Producer;
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::store::cassandra::CassandraStore;
use exactlyonce::store::{Layout, Store};

use super::services::{self, Kept};
use crate::store::known;

const REPETITIONS: usize = 40;

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn of_two_different_inits_at_once_exactly_one_succeeds() {
    let kept = Kept::new(Layout::ORIGINAL).await;
    let session = services::session(&kept.options).await;
    let other = CassandraStore::connect(&kept.options, Layout::ORIGINAL).await.unwrap();
    let broker = MemoryBroker::default();
    broker.create_topic("topic", 2, 1).await.unwrap();
    let facts = |threshold| {
        let mut facts = Facts::new("topic");
        facts.window.threshold = threshold;
        facts
    };
    let mut winners = [0, 0];
    for repetition in 0..REPETITIONS {
        let (one, two) = (facts(10), facts(20));
        let both = tokio::join!(
            init(&broker, &kept.store, &one, &Origin::Start),
            init(&broker, &other, &two, &Origin::Start),
        );
        let winner = match &both {
            (Ok(bound), Err(BindingError::Differs { .. })) if bound.new => 0,
            (Err(BindingError::Differs { .. }), Ok(bound)) if bound.new => 1,
            both => panic!("repetition {repetition}: {both:?}"),
        };
        winners[winner] += 1;
        // Everybody sees the winner's.
        for store in [&kept.store, &other] {
            let there = known(store.binding().await).unwrap();
            assert_eq!(there.window.threshold, [10, 20][winner], "repetition {repetition}");
            // And who comes again with the same is at home.
            let again = init(&broker, store, &facts([10, 20][winner]), &Origin::Start).await.unwrap();
            assert!(!again.new);
        }
        // The next pair begins anew. Conditionally, so that it is in line with the inserts.
        let keyspace = &kept.options.keyspace;
        let unbind = format!("DELETE FROM {keyspace}.pipeline WHERE name = 'pipeline' IF EXISTS");
        session.query_unpaged(unbind, ()).await.unwrap();
        session.query_unpaged(format!("TRUNCATE {keyspace}.progress"), ()).await.unwrap();
    }
    println!("{winners:?} of {REPETITIONS}");
    kept.drop().await;
}
