//! Two datacenters of one cluster, each with workers that read and write at LOCAL_QUORUM.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::binding::{self, BindingError, BindingSpec, BoundConsistency, Origin};
use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::Record;
use exactlyonce::pipeline::{self, PipelineError};
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, Changed, Consistency, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication};
use exactlyonce::store::{Layout, Outcome, Store, WindowKey};
use exactlyonce::truth;
use madsim::runtime::Handle;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_cassandra::cluster::Verb;
use simulated_hosts::{HostFault, Recovery};
use simulation::service::cassandra::{Notes, SimulatedCassandra};
use tokio::network::Network;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

const TOPIC: &str = "topic";
const OSLO: &str = "oslo";
const PARIS: &str = "paris";
/// Nodes 0 to 2 are in Oslo, 3 to 5 in Paris.
const IN_OSLO: u8 = 3;

/// A cluster of two datacenters, and options to connect to each.
#[derive(Clone)]
struct Cluster(SimulatedCassandra);

impl Cluster {
    fn options(&self, datacenter: &str, keyspace: &str) -> CassandraOptions {
        let nodes = self.0.addresses().iter().map(ToString::to_string).collect();
        CassandraOptions {
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(4),
            consistency: Consistency::LocalQuorum,
            datacenter: Some(datacenter.to_owned()),
            ..CassandraOptions::new(nodes, Keyspace::try_from(keyspace.to_owned()).unwrap())
        }
    }

    /// Makes the tables of a keyspace, three copies of each row in each datacenter.
    async fn create(&self, keyspace: &str) {
        let replicas = BTreeMap::from([(OSLO.to_owned(), 3), (PARIS.to_owned(), 3)]);
        let replication = Replication::datacenters(replicas).unwrap();
        apply_schema(&self.options(OSLO, keyspace), &replication, Layout::ORIGINAL).await.unwrap();
    }

    async fn store(&self, datacenter: &str, keyspace: &str) -> CassandraStore {
        CassandraStore::connect(&self.options(datacenter, keyspace), Layout::ORIGINAL).await.unwrap()
    }

    /// Loses these messages wherever they pass from one datacenter to the other, until the number is removed.
    fn lose_between_datacenters(&self, verbs: &'static [Verb]) -> u64 {
        self.0.links.rule(move |envelope| {
            let crosses = (envelope.from.0 < IN_OSLO.into()) != (envelope.to.0 < IN_OSLO.into());
            (crosses && verbs.contains(&envelope.verb)).then(Vec::new)
        })
    }
}

fn local(datacenter: &str) -> BoundConsistency {
    BoundConsistency::LocalQuorum { datacenter: datacenter.to_owned() }
}

/// Runs a client's work against a fresh cluster.
fn simulated<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    seed: u64,
    work: impl FnOnce(Cluster) -> F + Send + 'static,
) -> T {
    let ended = simulation::simulate(seed, move || async move {
        let notes: Notes = Arc::new(|_: fmt::Arguments<'_>| {});
        let cluster = SimulatedCassandra::start(2 * IN_OSLO, seed, notes.clone(), |options| {
            options.failure_timeout = Duration::from_secs(3);
            for (node, options) in options.nodes.iter_mut().enumerate() {
                let datacenter = if node < IN_OSLO.into() { OSLO } else { PARIS };
                options.data_center = datacenter.to_owned();
            }
        });
        let client = Handle::current().create_node().name("client").ip([10, 0, 1, 1].into()).build();
        Network::current().plug_in(client.id(), [10, 0, 1, 1].into());
        let on = Cluster(cluster.clone());
        let ended = client.spawn(async move {
            on.0.cluster.settled().await;
            sleep(Duration::from_millis(100)).await;
            work(on).await
        });
        let ended = ended.await.unwrap();
        cluster.shut_down();
        Handle::current().kill(client.id());
        sleep(Duration::from_secs(5)).await;
        ended
    });
    ended.expect("the simulation ends")
}

async fn broker() -> MemoryBroker {
    let broker = MemoryBroker::new(100);
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker
}

/// As many critical events of one source, in one window, into each of the two partitions.
async fn append(broker: &MemoryBroker, each: i64) {
    for id in 0..each {
        for partition in 0..2 {
            let value = format!(r#"{{"id":{id},"ts":{id},"source":"s","client":"c","health":2}}"#);
            let record = NewRecord {
                value: Some(value.into_bytes()),
                timestamp: 7,
                partition: Some(partition),
                ..NewRecord::default()
            };
            broker.append(TOPIC, vec![record]).await.unwrap();
        }
    }
}

async fn records(broker: &MemoryBroker) -> Vec<Record> {
    let mut records = Vec::new();
    for partition in 0..2 {
        records.extend(broker.fetch(TOPIC, partition, 0, usize::MAX, usize::MAX).await.unwrap().records);
    }
    records
}

/// A worker, until it is stopped; then how it ended.
fn worker(
    broker: &MemoryBroker,
    store: CassandraStore,
    id: u64,
) -> (oneshot::Sender<()>, madsim::task::JoinHandle<Result<(), PipelineError>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let broker = broker.clone();
    let task = madsim::task::spawn(async move {
        let options = pipeline::Options::new(BindingSpec::new(TOPIC));
        let stop = async {
            let _ = stopped.await;
        };
        pipeline::run(&broker, &store, &options, ChaCha8Rng::seed_from_u64(id), stop).await.map(drop)
    });
    (stop, task)
}

/// Two workers of two datacenters, who each have one partition and count 6 of a window's 12 events, while what is
/// written in one datacenter reaches the other late. Without a check of the datacenter this is what happens; here
/// the operator gets around it, by moving the binding below a running worker.
#[test]
fn workers_of_two_datacenters_miss_each_other_s_counts_and_an_alert() {
    let (stored, truth, registered) = simulated(1, |cluster| async move {
        cluster.create("k").await;
        let broker = broker().await;
        let binding_spec = BindingSpec::new(TOPIC);
        let (oslo, paris) = (cluster.store(OSLO, "k").await, cluster.store(PARIS, "k").await);
        let bound = binding::init(&broker, &oslo, &binding_spec, &Origin::Start).await.unwrap().binding;
        let one = worker(&broker, oslo.clone(), 1);
        sleep(Duration::from_secs(2)).await;
        // A lie: the first worker runs.
        assert_eq!(paris.change_consistency(&local(OSLO)).await.into_result().unwrap(), Changed::Now);
        let other = worker(&broker, paris.clone(), 2);
        sleep(Duration::from_secs(2)).await;
        let late = cluster.lose_between_datacenters(&[Verb::Write, Verb::Hint]);
        append(&broker, 6).await;
        sleep(Duration::from_secs(10)).await;
        for (stop, task) in [one, other] {
            stop.send(()).unwrap();
            task.await.unwrap().unwrap();
        }
        cluster.0.links.remove(late);
        // Longer than hints take to be delivered.
        sleep(Duration::from_secs(60)).await;
        let registered = [&oslo, &paris].map(|store| store.registered());
        let mut known = Vec::new();
        for registered in registered {
            known.push(registered.await.into_result().unwrap());
        }
        (truth::stored(&oslo).await.unwrap(), truth::tables(&records(&broker).await, &bound), known)
    });
    // All that either wrote is there in the end.
    assert_eq!(registered, [2, 2]);
    assert_eq!(stored.events.len(), 12);
    assert_eq!(stored.events, truth.events);
    // But nobody has seen 12 events in one window.
    assert_eq!(truth.alerts, BTreeMap::from([(WindowKey { source: "s".into(), end: 5_000 }, 12)]));
    assert_eq!(stored.alerts, BTreeMap::new());
}

#[test]
fn a_worker_or_an_init_of_another_datacenter_than_the_bound_one_is_refused() {
    simulated(2, |cluster| async move {
        cluster.create("k").await;
        let broker = broker().await;
        let binding_spec = BindingSpec::new(TOPIC);
        let (oslo, paris) = (cluster.store(OSLO, "k").await, cluster.store(PARIS, "k").await);
        let options = CassandraOptions { consistency: Consistency::Quorum, ..cluster.options(OSLO, "k") };
        let quorum = CassandraStore::connect(&options, Layout::ORIGINAL).await.unwrap();
        binding::init(&broker, &oslo, &binding_spec, &Origin::Start).await.unwrap();
        append(&broker, 6).await;
        for (store, consistency) in [(&paris, local(PARIS)), (&quorum, BoundConsistency::Quorum)] {
            let is_refused = |error: &BindingError| {
                let message = error.to_string();
                assert!(message.contains(&local(OSLO).to_string()), "{message}");
                assert!(message.contains(&consistency.to_string()), "{message}");
                assert!(error.is_refusal());
                matches!(error, BindingError::OtherConsistency { .. })
            };
            let (_stop, task) = worker(&broker, store.clone(), 1);
            let ended = timeout(Duration::from_secs(60), task).await;
            match ended.expect("it ends at its start").unwrap() {
                Err(PipelineError::Binding(error)) => assert!(is_refused(&error), "{error}"),
                other => panic!("{other:?}"),
            }
            let error = binding::init(&broker, store, &binding_spec, &Origin::Start).await.unwrap_err();
            assert!(is_refused(&error), "{error}");
            let error = binding::check_store(store).await.unwrap_err();
            assert!(is_refused(&error), "{error}");
        }
        // Nothing was counted, or written.
        assert_eq!(oslo.partitions().await.into_result().unwrap(), Vec::<i32>::new());
    });
}

#[test]
fn of_two_inits_in_two_datacenters_at_once_exactly_one_wins() {
    const REPETITIONS: u64 = 12;
    let winners = simulated(3, |cluster| async move {
        let broker = broker().await;
        let binding_spec = BindingSpec::new(TOPIC);
        let mut winners = BTreeMap::new();
        for repetition in 0..REPETITIONS {
            let keyspace = format!("k{repetition}");
            cluster.create(&keyspace).await;
            let stores = [cluster.store(OSLO, &keyspace).await, cluster.store(PARIS, &keyspace).await];
            // What one datacenter commits reaches the other much later than the other way round, so a rival that asks
            // only its own datacenter has its answer before it can see that it lost.
            let slow_from_oslo = repetition % 2 == 0;
            let slow = cluster.0.links.rule(move |envelope| {
                let from_oslo = envelope.from.0 < IN_OSLO.into();
                let crosses = from_oslo != (envelope.to.0 < IN_OSLO.into());
                let delay = Duration::from_millis(if from_oslo == slow_from_oslo { 300 } else { 20 });
                (crosses && envelope.verb == Verb::Commit).then(|| vec![delay])
            });
            let init = async |store: &CassandraStore| loop {
                match binding::init(&broker, store, &binding_spec, &Origin::Start).await {
                    // Rivals may make each other time out.
                    Err(error) if error.is_transient() => sleep(Duration::from_millis(100)).await,
                    ended => return ended,
                }
            };
            let won = match futures_util::join!(init(&stores[0]), init(&stores[1])) {
                (Ok(_), Err(BindingError::OtherConsistency { bound, .. })) if bound == local(OSLO) => OSLO,
                (Err(BindingError::OtherConsistency { bound, .. }), Ok(_)) if bound == local(PARIS) => PARIS,
                both => panic!("repetition {repetition}: {both:?}"),
            };
            cluster.0.links.remove(slow);
            sleep(Duration::from_secs(1)).await;
            for store in &stores {
                let there = store.binding().await.into_result().unwrap().unwrap();
                assert_eq!(there.consistency, local(won), "repetition {repetition}");
            }
            *winners.entry(won).or_insert(0u64) += 1;
        }
        winners
    });
    println!("{winners:?}");
    assert_eq!(winners.values().sum::<u64>(), REPETITIONS);
}

#[test]
fn a_binding_moves_only_from_what_it_is_and_when_every_replica_can_know() {
    simulated(4, |cluster| async move {
        cluster.create("k").await;
        let broker = broker().await;
        let binding_spec = BindingSpec::new(TOPIC);
        let (oslo, paris) = (cluster.store(OSLO, "k").await, cluster.store(PARIS, "k").await);
        let change = async |store: &CassandraStore, from: &BoundConsistency| {
            store.change_consistency(from).await.into_result()
        };
        assert_eq!(change(&paris, &local(OSLO)).await.unwrap(), Changed::Unbound);
        let bound = binding::init(&broker, &oslo, &binding_spec, &Origin::Start).await.unwrap().binding;
        // What is not bound is not moved.
        let not = Changed::Not(local(OSLO));
        assert_eq!(change(&paris, &BoundConsistency::Quorum).await.unwrap(), not);
        assert_eq!(change(&paris, &local("rome")).await.unwrap(), not);
        assert_eq!(oslo.binding().await.into_result().unwrap().as_ref(), Some(&bound));
        assert_eq!(change(&oslo, &local(OSLO)).await.unwrap(), Changed::Before);
        // Not every replica can know of it now: who asks cannot know whether it happened.
        cluster.0.apply(1, HostFault::Kill);
        sleep(Duration::from_secs(20)).await;
        let outcome = paris.change_consistency(&local(OSLO)).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        cluster.0.recover(1, Recovery::Start);
        sleep(Duration::from_secs(20)).await;
        // Whatever became of it, repeating it says so, and a second time changes nothing.
        let again = change(&paris, &local(OSLO)).await.unwrap();
        assert!(matches!(again, Changed::Now | Changed::Before), "{again:?}");
        assert_eq!(change(&paris, &local(OSLO)).await.unwrap(), Changed::Before);
        let moved = binding::Binding { consistency: local(PARIS), ..bound };
        for store in [&oslo, &paris] {
            assert_eq!(store.binding().await.into_result().unwrap().as_ref(), Some(&moved));
        }
        let checked = binding::check(&broker, &oslo, &binding_spec).await;
        assert!(matches!(checked, Err(BindingError::OtherConsistency { .. })), "{checked:?}");
        assert_eq!(binding::check(&broker, &paris, &binding_spec).await.unwrap(), moved);
    });
}

/// The change is seen by both datacenters when it returns, also where replicas of the former one are slow to hear of
/// anything but Paxos's own messages.
#[test]
fn a_worker_starts_while_the_other_datacenter_is_down_and_never_with_the_former_binding() {
    simulated(5, |cluster| async move {
        cluster.create("k").await;
        let broker = broker().await;
        let binding_spec = BindingSpec::new(TOPIC);
        let (oslo, paris) = (cluster.store(OSLO, "k").await, cluster.store(PARIS, "k").await);
        binding::init(&broker, &oslo, &binding_spec, &Origin::Start).await.unwrap();
        // While one datacenter cannot learn of the change, it is not acknowledged.
        let lost = cluster.lose_between_datacenters(&[Verb::Commit]);
        let outcome = paris.change_consistency(&local(OSLO)).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        cluster.0.links.remove(lost);
        let late = cluster.lose_between_datacenters(&[Verb::Write, Verb::Hint, Verb::ReadRepair]);
        assert_eq!(paris.change_consistency(&local(OSLO)).await.into_result().unwrap(), Changed::Before);
        let checked = binding::check(&broker, &oslo, &binding_spec).await;
        assert!(matches!(checked, Err(BindingError::OtherConsistency { .. })), "{checked:?}");
        cluster.0.links.remove(late);
        for node in 0..IN_OSLO {
            cluster.0.apply(node, HostFault::Kill);
        }
        sleep(Duration::from_secs(20)).await;
        append(&broker, 6).await;
        let (stop, task) = worker(&broker, paris.clone(), 1);
        sleep(Duration::from_secs(10)).await;
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        let stored = truth::stored(&paris).await.unwrap();
        let bound = paris.binding().await.into_result().unwrap().unwrap();
        assert_eq!(stored, truth::tables(&records(&broker).await, &bound));
        assert_eq!(stored.alerts.len(), 1);
    });
}
