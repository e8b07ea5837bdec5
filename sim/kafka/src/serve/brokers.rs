//! A cluster on loopback addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_hosts::local::{self, ListenError, MAX_NODES};
use thiserror::Error;
use tokio::net::TcpListener;

use super::serve;
use crate::cluster::{AdjustableClock, BrokerOptions, Cluster, HostFault, Options, Recovery, RuledLinks};
use crate::log::Disk;
use crate::server::ServerOptions;
use crate::types::NodeId;

/// Options of a cluster on loopback addresses.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// How many brokers, from 1 to 100. The first listens on 127.0.0.1, the next on 127.0.0.2, and so on.
    pub brokers: u8,
    /// The port of all; 0 for one that is free on all addresses.
    pub port: u16,
    /// The seed of everything random: the delays of messages between the brokers, if there are any, ids of topics, where
    /// partitions are placed.
    pub seed: u64,
    /// The longest that a message between two brokers takes; each takes a random part of it. Without one a message
    /// arrives immediately. Delays below a millisecond or two are as long as that because of tokio's timers.
    pub longest_delay: Duration,
    /// What the clocks of all brokers show at the start, in microseconds since 1970.
    pub clock: i64,
    /// How each broker serves its clients.
    pub server: ServerOptions,
}

impl LocalOptions {
    /// Three brokers on port 9092, whose clocks show `clock`.
    pub fn new(clock: i64) -> LocalOptions {
        LocalOptions {
            brokers: 3,
            port: 9092,
            seed: 1,
            longest_delay: Duration::ZERO,
            clock,
            server: ServerOptions::default(),
        }
    }
}

/// Why a cluster on loopback addresses, or one of its brokers, cannot carry out a command.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The number of brokers is 0 or more than 100.
    #[error("{0} brokers: there can be from 1 to {MAX_NODES}")]
    Brokers(u8),
    /// There is no such broker.
    #[error("no broker {0}")]
    NoBroker(u8),
    /// The broker runs already.
    #[error("broker {0} runs already")]
    Running(u8),
    /// The broker does not run.
    #[error("broker {0} does not run")]
    NotRunning(u8),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A cluster whose brokers listen on loopback addresses: what happens to their processes is up to the caller. Brokers are
/// numbered from 1, as their addresses are, and have these numbers as ids. They end when it is dropped.
pub struct LocalBrokers {
    cluster: Cluster,
    links: Arc<RuledLinks>,
    clocks: Vec<Arc<AdjustableClock>>,
    port: u16,
    server: ServerOptions,
}

impl LocalBrokers {
    /// Starts a cluster, and waits until every broker serves clients. `change` may change what it is configured with; by
    /// default topics have as many replicas as there are brokers, at most three, failures are noticed within 6 s, and
    /// retention and compaction are looked at every second, and
    /// groups do not wait for their first members.
    ///
    /// # Errors
    /// If the number of brokers is not allowed, or an address is in use.
    pub async fn start(
        options: LocalOptions,
        change: impl FnOnce(&mut Options),
    ) -> Result<LocalBrokers, LocalError> {
        if options.brokers == 0 || options.brokers > MAX_NODES {
            return Err(LocalError::Brokers(options.brokers));
        }
        let listeners = local::listen(options.brokers, options.port).await?;
        let port = match listeners.first().map(TcpListener::local_addr) {
            Some(Ok(address)) => address.port(),
            _ => options.port,
        };
        let clocks: Vec<_> =
            (0..options.brokers).map(|_| Arc::new(AdjustableClock::new(options.clock))).collect();
        let brokers = (1..=options.brokers).zip(&clocks).map(|(broker, clock)| BrokerOptions {
            id: id(broker),
            host: local::address(broker).to_string(),
            port,
            rack: None,
            clock: clock.clone(),
            disk: Disk::new(),
        });
        let mut configured = local(Options::new(brokers.collect()));
        change(&mut configured);
        let random = |stream: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(options.seed);
            random.set_stream(stream);
            random
        };
        let links = Arc::new(RuledLinks::new(Duration::ZERO, options.longest_delay, random(0)));
        let cluster = Cluster::start(configured, links.clone(), random(1));
        let brokers = LocalBrokers { cluster, links, clocks, port, server: options.server };
        for (broker, listener) in (1..).zip(listeners) {
            brokers.serve(broker, listener);
        }
        brokers.cluster.settled().await;
        Ok(brokers)
    }

    fn serve(&self, broker: u8, listener: TcpListener) {
        if let Some(running) = self.cluster.broker(id(broker)) {
            tokio::spawn(serve(running, listener, self.server.clone()));
        }
    }

    /// The cluster, for all other operations.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The links between the brokers.
    pub fn links(&self) -> &RuledLinks {
        &self.links
    }

    /// The clock of a broker.
    ///
    /// # Errors
    /// If there is no such broker.
    pub fn clock(&self, broker: u8) -> Result<&AdjustableClock, LocalError> {
        let clock = usize::from(broker).checked_sub(1).and_then(|place| self.clocks.get(place));
        clock.map(Arc::as_ref).ok_or(LocalError::NoBroker(broker))
    }

    /// How many brokers there are, running or not.
    pub fn count(&self) -> u8 {
        // No more were started.
        u8::try_from(self.clocks.len()).unwrap_or(u8::MAX)
    }

    /// Where a broker listens while it runs.
    pub fn address(&self, broker: u8) -> SocketAddr {
        SocketAddr::new(local::address(broker), self.port)
    }

    /// Whether a broker runs, paused or not.
    pub fn is_running(&self, broker: u8) -> bool {
        self.cluster.is_running(id(broker))
    }

    /// Begins a fault of a broker: see [`Cluster::apply`]. With [`HostFault::Stop`] it waits until the process has ended. A
    /// paused broker responds neither to clients nor to other brokers.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn apply(&self, broker: u8, fault: HostFault) -> Result<(), LocalError> {
        self.running(broker)?;
        self.cluster.apply(id(broker), fault);
        if fault == HostFault::Stop {
            self.cluster.ended(id(broker)).await;
        }
        Ok(())
    }

    /// Ends a fault of these brokers: see [`Cluster::recover`]. [`Recovery::Start`] waits until the running brokers know
    /// each other, if they are a majority; that takes until the sessions of the processes before have ended.
    ///
    /// # Errors
    /// If a broker to start runs, or its address is taken; if a broker to resume does not run.
    pub async fn recover(&self, recovery: Recovery, brokers: &[u8]) -> Result<(), LocalError> {
        for broker in brokers {
            match recovery {
                Recovery::Start => {
                    let listener = self.listener(*broker).await?;
                    self.cluster.recover(id(*broker), recovery);
                    self.serve(*broker, listener);
                }
                Recovery::Resume => {
                    self.running(*broker)?;
                    self.cluster.recover(id(*broker), recovery);
                }
            }
        }
        if recovery == Recovery::Start {
            self.cluster.settled().await;
        }
        Ok(())
    }

    /// Replaces the disk of a broker by an empty one.
    ///
    /// # Errors
    /// If it runs, or there is no such broker.
    pub fn wipe(&self, broker: u8) -> Result<(), LocalError> {
        self.clock(broker)?;
        if self.is_running(broker) {
            return Err(LocalError::Running(broker));
        }
        if let Some(disk) = self.cluster.disk(id(broker)) {
            disk.wipe();
        }
        Ok(())
    }

    /// The address of a broker that does not run, taken for its next run.
    async fn listener(&self, broker: u8) -> Result<TcpListener, LocalError> {
        self.clock(broker)?;
        if self.is_running(broker) {
            return Err(LocalError::Running(broker));
        }
        Ok(local::listen_again(self.address(broker)).await?)
    }

    fn running(&self, broker: u8) -> Result<(), LocalError> {
        self.clock(broker)?;
        if self.is_running(broker) { Ok(()) } else { Err(LocalError::NotRunning(broker)) }
    }
}

/// What differs from Kafka's defaults on loopback addresses.
fn local(mut options: Options) -> Options {
    let replicas = options.brokers.len().min(3) as i16;
    let second = Duration::from_secs(1);
    options.controller.replication = replicas;
    options.controller.session_timeout = 6 * second;
    options.controller.failover_delay = Duration::from_millis(200);
    options.controller.unclean_interval = 5 * second;
    options.heartbeat_interval = second;
    options.replica_lag = 6 * second;
    options.replica_fetch_backoff = second / 10;
    options.retention_check = second;
    options.cleaner_backoff = second;
    options.groups.initial_rebalance_delay = 0;
    options.groups.min_session_timeout = 1_000;
    options.groups.consumer_session_timeout = 6_000;
    options.groups.consumer_heartbeat_interval = 1_000;
    options.transactions.abort_check_interval = 1_000;
    options.offsets_partitions = 3;
    options.offsets_replication = replicas;
    options.transaction_partitions = 3;
    options.transaction_replication = replicas;
    options.transaction_min_in_sync = replicas.min(2);
    options
}

fn id(broker: u8) -> NodeId {
    NodeId(i32::from(broker))
}
