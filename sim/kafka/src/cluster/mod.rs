//! A cluster: brokers, the controller and the messages between them.
//!
//! Every broker has its own disk, clock and metadata, and its own copy of the logs; brokers only exchange messages.
//! The caller's [`Links`] decide whether each is delayed, lost or duplicated, in one direction or both. Broker processes
//! can be killed, with or without the power, paused, stopped gracefully and started again, on the same disk or an empty one.
//!
//! A cluster runs in tasks of the runtime that it was started in, and ends when its last [`Cluster`] is dropped.
//!
//! Not simulated: the quorum of the controllers (see [`crate::controller`]), reassignment of replicas, several
//! directories of a broker, tiered storage, and the time that a broker takes for its work: only links take time.

mod broker;
mod committed;
mod duties;
pub(crate) mod dynamic;
mod inspect;
mod links;
mod message;
pub mod observe;
mod operate;
mod options;
mod producer_ids;
mod properties;
mod random;
mod shards;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand_core::Rng;
use simulated_hosts::hub::{Hub, hub};
use tokio::time::Instant;

pub(crate) use broker::{Broker, State};
pub use committed::Committed;
pub use inspect::ReplicaState;
pub use links::{Envelope, Links, Rule, RuledLinks, Verb};
pub use operate::{HangingTransaction, OperatorError};
pub use options::{BrokerOptions, ControllerSettings, Options};
pub use properties::PropertyError;
pub(crate) use random::Draws;
pub(crate) use shards::{MarkerToWrite, ProducerIdsOf, ToVerify, Verification, Verified};
pub use simulated_hosts::clock::{AdjustableClock, Clock};
pub use simulated_hosts::{HostFault, Recovery};

use crate::controller::Controller;
use crate::metadata::Image;
use crate::types::NodeId;
use message::Message;
use observe::{Event, Witness};
use random::Split;

/// How often it is checked whether the controller's host runs.
const GOVERN_INTERVAL: Duration = Duration::from_millis(50);

/// What all brokers share: the environment.
pub(crate) struct Environment {
    pub(crate) options: Options,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) hub: Hub<Message>,
    pub(crate) witness: Witness,
    random: Mutex<Box<dyn Rng + Send>>,
    requests: AtomicU64,
    connections: AtomicU64,
    running: Mutex<BTreeMap<NodeId, Arc<Broker>>>,
    controller: Mutex<Controller>,
    /// The host that acts as the controller.
    active: Mutex<Option<NodeId>>,
    lags: Mutex<BTreeMap<NodeId, Duration>>,
    failing_reads: Mutex<BTreeSet<NodeId>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Environment {
    fn find(&self, id: NodeId) -> Option<&BrokerOptions> {
        self.options.brokers.iter().find(|broker| broker.id == id)
    }

    pub(crate) fn member(&self, id: NodeId) -> &BrokerOptions {
        // A broker is started only if it is among the options, so this finds it.
        self.find(id).unwrap_or(&self.options.brokers[0])
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.options.brokers.iter().map(|broker| broker.id).collect::<Vec<_>>().into_iter()
    }

    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// The place of a new connection of a client among all of them.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn random(&self) -> u64 {
        locked(&self.random).next_u64()
    }

    pub(crate) fn unique(&self) -> u128 {
        let mut random = locked(&self.random);
        (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64())
    }

    pub(crate) fn controller(&self) -> MutexGuard<'_, Controller> {
        locked(&self.controller)
    }

    pub(crate) fn active_controller(&self) -> Option<NodeId> {
        *locked(&self.active)
    }

    pub(crate) fn metadata_lag(&self, id: NodeId) -> Duration {
        locked(&self.lags).get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn reads_fail(&self, id: NodeId) -> bool {
        locked(&self.failing_reads).contains(&id)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Broker>>> {
        locked(&self.running)
    }

    /// Delivers a message to its receiver, if that is running.
    fn deliver(&self, message: Message) {
        let receiver = self.running().get(&message.to).cloned();
        if let Some(receiver) = receiver {
            receiver.receive(message);
        }
    }

    /// A broker has ended gracefully.
    pub(crate) fn ended(&self, broker: &Arc<Broker>) {
        broker.flush();
        let mut running = self.running();
        if running.get(&broker.id).is_some_and(|running| Arc::ptr_eq(running, broker)) {
            running.remove(&broker.id);
        }
        drop(running);
        broker.die();
    }

    /// Whether a broker's host can act as the controller.
    fn can_act(&self, id: NodeId) -> bool {
        self.running().get(&id).is_some_and(|broker| !broker.is_paused())
    }

    /// Sets the host that acts as the controller.
    fn act_on(&self, host: Option<NodeId>) {
        let before = std::mem::replace(&mut *locked(&self.active), host);
        if before != host {
            tracing::debug!(controller = host.map(|id| id.0), "the controller moved");
            self.witness.see(|| Event::ControllerMoved { to: host });
        }
    }

    /// Lets the controller act, and chooses its host.
    async fn govern(cluster: Weak<Self>) {
        let mut since: Option<Instant> = None;
        loop {
            let Some(environment) = cluster.upgrade() else { return };
            let able: Vec<NodeId> = environment.ids().filter(|id| environment.can_act(*id)).collect();
            let has_majority = able.len() * 2 > environment.options.brokers.len();
            let active = environment.active_controller();
            match active.filter(|active| has_majority && able.contains(active)) {
                Some(_) => {
                    since = None;
                    environment.controller().tick();
                }
                None => {
                    environment.act_on(None);
                    let waited = since.get_or_insert_with(Instant::now).elapsed();
                    // The first controller of a cluster is there at once.
                    let is_due = active.is_none() && waited >= environment.options.controller.failover_delay;
                    let is_new = environment.controller().image().brokers.is_empty();
                    if has_majority && (is_due || is_new) {
                        environment.controller().take_over();
                        environment.act_on(able.first().copied());
                        since = None;
                    }
                    if !has_majority {
                        since = None;
                    }
                }
            }
            drop(environment);
            tokio::time::sleep(GOVERN_INTERVAL).await;
        }
    }
}

struct Handle(Arc<Environment>);

impl Drop for Handle {
    fn drop(&mut self) {
        for broker in std::mem::take(&mut *self.0.running()).into_values() {
            broker.die();
        }
    }
}

/// A cluster. A clone is the same cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

/// A weak reference to a cluster.
#[derive(Clone)]
pub struct WeakCluster(Weak<Handle>);

impl WeakCluster {
    /// The cluster, if it still exists.
    pub fn upgrade(&self) -> Option<Cluster> {
        self.0.upgrade().map(Cluster)
    }
}

/// A run of a broker, as its clients and its host see it.
#[derive(Clone)]
pub struct RunningBroker(pub(crate) Arc<Broker>);

impl RunningBroker {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Waits until it serves clients.
    pub async fn ready(&self) {
        self.0.unfenced().await;
    }

    /// Waits until its process ends.
    pub async fn died(&self) {
        self.0.died().await;
    }

    /// Begins a task of the process: it does not run while the process is paused, and ends with it.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.begin(|_| work);
    }

    /// A future of the process, in the same way.
    pub fn task(&self, work: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send {
        self.0.task(work)
    }
}

impl Cluster {
    /// Starts a cluster with all its brokers. Must be called within a tokio runtime, whose tasks do all the work.
    pub fn start(options: Options, links: Arc<dyn Links>, mut random: impl Rng + Send + 'static) -> Self {
        let (hub, hub_tasks) = hub();
        let of_controller = Split(random.next_u64());
        let witness = Witness::new(options.observer.clone());
        let mut controller = Controller::new(options.controller.clone(), Box::new(of_controller));
        controller.report_to(witness.clone());
        controller.add_users(&options.sasl.users);
        let environment = Arc::new(Environment {
            options,
            links,
            hub,
            witness,
            random: Mutex::new(Box::new(random)),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            running: Mutex::default(),
            controller: Mutex::new(controller),
            active: Mutex::default(),
            lags: Mutex::default(),
            failing_reads: Mutex::default(),
        });
        hub_tasks.start(&environment, Environment::deliver);
        let cluster = Self(Arc::new(Handle(environment)));
        for id in cluster.brokers() {
            cluster.start_broker(id);
        }
        tokio::spawn(Environment::govern(Arc::downgrade(cluster.environment())));
        cluster
    }

    /// The same cluster, without keeping it alive.
    pub fn downgrade(&self) -> WeakCluster {
        WeakCluster(Arc::downgrade(&self.0))
    }

    fn environment(&self) -> &Arc<Environment> {
        &self.0.0
    }

    fn get(&self, id: NodeId) -> Option<Arc<Broker>> {
        self.environment().running().get(&id).cloned()
    }

    /// The brokers, running or not.
    pub fn brokers(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.environment().ids()
    }

    /// What a broker was configured with; none if there is no such broker.
    pub fn broker_options(&self, id: NodeId) -> Option<&BrokerOptions> {
        self.environment().find(id)
    }

    /// A broker, if it is running.
    pub fn broker(&self, id: NodeId) -> Option<RunningBroker> {
        self.get(id).map(RunningBroker)
    }

    /// Whether a broker is running, paused or not.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.get(id).is_some()
    }

    /// The host that acts as the controller, if one does.
    pub fn active_controller(&self) -> Option<NodeId> {
        self.environment().active_controller()
    }

    /// The metadata as the controller has decided them, whoever knows of it.
    pub fn metadata(&self) -> Arc<Image> {
        self.environment().controller().image()
    }

    /// The metadata that a broker has, if it is running.
    pub fn metadata_of(&self, id: NodeId) -> Option<Arc<Image>> {
        self.get(id).map(|broker| broker.image())
    }

    /// Waits until every running broker that is not paused serves clients and knows what the controller knows. Without a
    /// majority of running brokers nobody is the controller, and it waits for nothing.
    pub async fn settled(&self) {
        loop {
            let running: Vec<_> = self.environment().running().values().cloned().collect();
            let able = running.iter().filter(|broker| !broker.is_paused()).count();
            if able * 2 <= self.brokers().count() {
                return;
            }
            let image = self.metadata();
            let agree = running.iter().filter(|broker| !broker.is_paused()).all(|broker| {
                broker.readiness.get()
                    && broker.version.get() == image.version
                    && image.active(broker.id).is_some_and(|known| known.incarnation == broker.incarnation)
            });
            if agree && self.active_controller().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn start_broker(&self, id: NodeId) {
        if self.broker_options(id).is_none() || self.get(id).is_some() {
            return;
        }
        let broker = Broker::start(self.environment().clone(), id);
        self.environment().running().insert(id, broker.clone());
        broker.begin_work();
        tracing::debug!(broker = id.0, "started");
    }

    /// Begins a fault of a broker's process or host, if the process is running. A power loss also loses what is not synced
    /// if it is not.
    ///
    /// [`HostFault::Kill`] keeps what was written, which is in the page cache. [`HostFault::Stop`] begins a controlled
    /// shutdown: the process runs until others lead what it led, or `shutdown_timeout` has passed; see
    /// [`is_running`](Self::is_running).
    pub fn apply(&self, id: NodeId, fault: HostFault) {
        let Some(options) = self.broker_options(id) else { return };
        tracing::debug!(broker = id.0, %fault, "began");
        match fault {
            HostFault::Pause => {
                if let Some(broker) = self.get(id) {
                    broker.pause();
                }
            }
            HostFault::Stop => {
                if let Some(broker) = self.get(id) {
                    broker.ending.set(true);
                    let (environment, wait) =
                        (self.environment().clone(), self.environment().options.shutdown_timeout);
                    broker.begin(move |broker| async move {
                        tokio::time::sleep(wait).await;
                        environment.ended(&broker);
                    });
                }
            }
            HostFault::Kill | HostFault::PowerLoss => {
                let broker = self.environment().running().remove(&id);
                if let Some(broker) = broker {
                    broker.die();
                }
                if fault.loses_unsynced() {
                    self.lose_unsynced(options);
                }
            }
        }
    }

    fn lose_unsynced(&self, broker: &BrokerOptions) {
        let cut = broker.disk.lose_unsynced();
        let image = self.metadata();
        for (id, from_end, to_end) in cut {
            self.environment().witness.see(|| {
                let topic = image.topics.get(&id.topic).map_or("", |topic| topic.name.as_str());
                Event::Truncated { broker: broker.id, topic, partition: id.index, from_end, to_end }
            });
        }
    }

    /// Waits until a broker does not run, for instance after [`HostFault::Stop`].
    pub async fn ended(&self, id: NodeId) {
        if let Some(broker) = self.get(id) {
            broker.died().await;
        }
    }

    /// Ends a fault of a broker. [`Recovery::Start`] starts its process on its disk, if it is not running;
    /// [`Recovery::Resume`] resumes a paused process, with the messages that arrived in the meantime.
    pub fn recover(&self, id: NodeId, recovery: Recovery) {
        match (recovery, self.get(id)) {
            (Recovery::Start, _) => self.start_broker(id),
            (Recovery::Resume, Some(broker)) => broker.resume(),
            (Recovery::Resume, None) => {}
        }
    }

    /// Delays all metadata that reach a broker from now on by this long.
    pub fn lag_metadata(&self, id: NodeId, by: Duration) {
        locked(&self.environment().lags).insert(id, by);
    }

    /// From now on, or no longer, a broker cannot read logs for consumers: it answers each fetch of a partition with
    /// UNKNOWN_SERVER_ERROR. Its followers are not affected. So a broker answers whose remote storage fails
    /// (`RemoteLogReader.call`: the error of any exception that has no code, and RemoteStorageException has none).
    pub fn fail_reads(&self, id: NodeId, fail: bool) {
        let mut failing = locked(&self.environment().failing_reads);
        match fail {
            true => failing.insert(id),
            false => failing.remove(&id),
        };
    }

    /// Lets another in-sync replica lead a partition, as a reassignment would; whether it leads now.
    pub fn move_leader(&self, topic: &str, partition: i32, to: NodeId) -> bool {
        let Some(id) = self.partition(topic, partition) else { return false };
        self.environment().controller().move_leader(id, to)
    }

    /// Drops a follower from the in-sync set of a partition now, as its leader does when its fetches are late; whether it
    /// was in the set. It returns as soon as its leader knows of that and it has fetched up to the end.
    pub fn drop_from_in_sync(&self, topic: &str, partition: i32, follower: NodeId) -> bool {
        let Some(id) = self.partition(topic, partition) else { return false };
        self.environment().controller().drop_from_in_sync(id, follower)
    }
}
