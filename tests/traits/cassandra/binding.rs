//! Two programs that bind the same keyspace concurrently.

use exactlyonce::binding::{BindingError, BindingSpec, Initialized, Origin, init};
use exactlyonce::broker::Producer;
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore};
use exactlyonce::store::{Layout, Store};
use scylla::client::session::Session;

use super::services::{self, TestKeyspace};
use crate::store::known;

crate::cassandra::on_real_and_simulated_nodes!([of_two_different_concurrent_inits_exactly_one_succeeds]);

const REPETITIONS: usize = 40;

/// Calls [`init`] until it is known whether the conditional write was applied: with contention, Cassandra may return a
/// timeout. Also returns the number of attempts.
async fn init_until_known(
    broker: &MemoryBroker,
    store: &CassandraStore,
    binding_spec: &BindingSpec,
) -> (Result<Initialized, BindingError>, usize) {
    for attempt in 1..20 {
        match init(broker, store, binding_spec, &Origin::Start).await {
            Err(BindingError::StoreUnavailable { source, .. }) => println!("attempt {attempt}: {source}"),
            outcome => return (outcome, attempt),
        }
    }
    panic!("twenty attempts, and none with a known outcome");
}

/// Runs a statement until it succeeds; for statements that may be applied more than once.
async fn execute(session: &Session, cql: &str) {
    let mut failed = String::new();
    for _ in 0..20 {
        match session.query_unpaged(cql, ()).await {
            Ok(_) => return,
            Err(error) => failed = error.to_string(),
        }
    }
    panic!("{cql}: {failed}");
}

async fn of_two_different_concurrent_inits_exactly_one_succeeds(options: CassandraOptions) {
    let test = TestKeyspace::with(options, Layout::ORIGINAL).await;
    let session = services::session(&test.options).await;
    let other = CassandraStore::connect(&test.options, Layout::ORIGINAL).await.unwrap();
    let broker = MemoryBroker::default();
    broker.create_topic("topic", 2, 1).await.unwrap();
    let binding_spec = |threshold| {
        let mut binding_spec = BindingSpec::new("topic");
        binding_spec.window.threshold = threshold;
        binding_spec
    };
    let mut winners = [0, 0];
    for repetition in 0..REPETITIONS {
        let (one, two) = (binding_spec(10), binding_spec(20));
        let both = tokio::join!(
            init_until_known(&broker, &test.store, &one),
            init_until_known(&broker, &other, &two),
        );
        // An attempt whose outcome was unknown may have been the one that was applied.
        let winner = match &both {
            ((Ok(bound), attempts), (Err(BindingError::Differs { .. }), _)) if bound.new || *attempts > 1 => {
                0
            }
            ((Err(BindingError::Differs { .. }), _), (Ok(bound), attempts)) if bound.new || *attempts > 1 => {
                1
            }
            both => panic!("repetition {repetition}: {both:?}"),
        };
        winners[winner] += 1;
        // Both stores read the winner's binding.
        for store in [&test.store, &other] {
            let bound = known(store.binding().await).unwrap();
            assert_eq!(bound.window.threshold, [10, 20][winner], "repetition {repetition}");
            // A further init with the same parameters succeeds.
            let (again, _) = init_until_known(&broker, store, &binding_spec([10, 20][winner])).await;
            assert!(!again.unwrap().new);
        }
        // Unbinds for the next pair. The delete is conditional, so that it is ordered with the inserts.
        let keyspace = &test.options.keyspace;
        let unbind = format!("DELETE FROM {keyspace}.pipeline WHERE name = 'pipeline' IF EXISTS");
        execute(&session, &unbind).await;
        execute(&session, &format!("TRUNCATE {keyspace}.progress")).await;
    }
    println!("{winners:?} of {REPETITIONS}");
    test.drop().await;
}
