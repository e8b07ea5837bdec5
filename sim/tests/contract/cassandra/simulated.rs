//! A cluster in a simulation of its own for each case.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use simulated_cassandra::cluster::{CommitLogSync, NodeId, Verb as Message};
use simulated_hosts::{ClockFault, ClockFaultName, DiskFault, HostFault, LinkFaultName, Recovery};
use simulation::service::cassandra::{Notes, SimulatedCassandra};
use tokio::network::Network;
use tokio::time::{sleep, timeout};

use super::backend::{self, Verb};
use crate::runner::{CaseRunner, panic_message};
use crate::suite::{self, Case, Observations};

/// No case takes as long in simulated time; one that does hangs.
const CASE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Longer than any case waits: keeps hints and batch logs from being delivered.
const LONG: Duration = Duration::from_secs(86_400);

/// Three nodes.
pub struct Simulated {
    cassandra: SimulatedCassandra,
    /// The nodes that do not gossip, and the rule that keeps them from it.
    silent: RefCell<(Vec<usize>, Option<u64>)>,
    /// Rules that lose mutations, by sender and receiver.
    cut: RefCell<Vec<((usize, usize), u64)>>,
}

/// Runs each case in a simulation whose seed is of its name.
pub struct Simulations;

impl CaseRunner for Simulations {
    type Backend = Simulated;

    fn run(&self, case: &Case<Simulated>) -> Result<String, Failed> {
        let seed = case.name.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        let ran = simulation::simulate(seed, async || {
            let notes: Notes = Arc::new(move |note: fmt::Arguments<'_>| {
                if std::env::var_os("EXACTLYONCE_SIM_TRACE").is_some_and(|value| value == "1") {
                    println!("{note}");
                }
            });
            let backend = Simulated::start(seed, notes.clone()).await;
            let seen = Observations::silent(case.name);
            let ended = timeout(CASE_TIMEOUT, (case.run)(&backend, &seen)).await;
            backend.cassandra.shut_down();
            match ended {
                Ok(()) => seen.verdict().map(|()| seen.text()),
                Err(_) => Err(format!("{} did not end within {} s", case.name, CASE_TIMEOUT.as_secs())),
            }
        });
        match ran {
            Ok(result) => Ok(result?),
            Err(panic) => Err(Failed::from(panic_message(&*panic))),
        }
    }

    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

fn id(node: usize) -> NodeId {
    NodeId(node as u32)
}

impl Simulated {
    async fn start(seed: u64, notes: Notes) -> Self {
        Network::current().plug_in(madsim::plugin::node(), [10, 0, 1, 1].into());
        // As the local cluster's real nodes are configured.
        let cassandra = SimulatedCassandra::start(3, seed, notes, |options| {
            options.commit_log_sync = CommitLogSync::Batch(Duration::from_millis(1));
            options.max_mutation_size = 4 << 20;
            options.hints.flush_interval = Duration::from_secs(1);
        });
        cassandra.cluster.settled().await;
        Self { cassandra, silent: RefCell::default(), cut: RefCell::default() }
    }

    /// Loses gossip between some nodes and all others, so that what they know of each other does not change.
    fn silence_nodes(&self, silent: Vec<usize>) {
        let (now, rule) = &mut *self.silent.borrow_mut();
        if let Some(rule) = rule.take() {
            self.cassandra.links.remove(rule);
        }
        now.clone_from(&silent);
        let is_silent = move |node: NodeId| silent.contains(&(node.0 as usize));
        *rule = Some(self.cassandra.links.rule(move |envelope| {
            let lost =
                envelope.verb == Message::Gossip && is_silent(envelope.from) && !is_silent(envelope.to);
            lost.then(Vec::new)
        }));
    }
}

impl suite::Backend for Simulated {
    type Verb = Verb;
    const VERBS: &'static [Verb] = &[
        Verb::Host(HostFault::Kill),
        Verb::Host(HostFault::PowerLoss),
        Verb::Host(HostFault::Stop),
        Verb::Host(HostFault::Pause),
        Verb::Disk(DiskFault::Wipe),
        Verb::Clock(ClockFaultName::Step),
        Verb::Clock(ClockFaultName::Coarse),
        Verb::Link(LinkFaultName::Cut),
        Verb::HintedHandoff,
        Verb::Silence,
        Verb::Compact,
        Verb::HoldHints,
        Verb::AntiEntropy,
        Verb::PeriodicSync,
    ];

    async fn heal(&self, _case: &str) -> Result<(), String> {
        // The next case has another backend.
        Ok(())
    }

    async fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

impl backend::Backend for Simulated {
    fn addresses(&self) -> [SocketAddr; 3] {
        let addresses = self.cassandra.addresses();
        [addresses[0], addresses[1], addresses[2]]
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn delivered_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn death_noticed_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn apply(&self, fault: HostFault, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.cassandra.apply(*node as u8, fault));
    }

    async fn recover(&self, recovery: Recovery, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.cassandra.recover(*node as u8, recovery));
        if recovery == Recovery::Start {
            self.cassandra.cluster.settled().await;
        }
    }

    async fn apply_to_disk(&self, fault: DiskFault, node: usize) {
        match fault {
            DiskFault::Wipe => self.cassandra.cluster.disk(id(node)).expect("a node has a disk").wipe(),
        }
    }

    async fn apply_to_clock(&self, fault: ClockFault, node: usize) {
        self.cassandra.clocks[node].apply(fault);
    }

    async fn restore_clock(&self, fault: ClockFault, node: usize) {
        self.cassandra.clocks[node].restore(fault);
    }

    async fn cut_mutations(&self, from: usize, to: usize) {
        let (sender, receiver) = (id(from), id(to));
        let rule = self.cassandra.links.rule(move |envelope| {
            let writes = matches!(envelope.verb, Message::Write | Message::ReadRepair | Message::Hint);
            (writes && envelope.from == sender && envelope.to == receiver).then(Vec::new)
        });
        self.cut.borrow_mut().push(((from, to), rule));
    }

    async fn restore_mutations(&self, from: usize, to: usize) {
        self.cut.borrow_mut().retain(|(way, rule)| {
            if *way == (from, to) {
                self.cassandra.links.remove(*rule);
            }
            *way != (from, to)
        });
    }

    async fn hinted_handoff(&self, on: bool) {
        self.cassandra.cluster.reconfigure(|settings| settings.hints.enabled = on);
    }

    async fn silence(&self, nodes: &[usize]) {
        let mut silent = self.silent.borrow().0.clone();
        silent.extend(nodes);
        self.silence_nodes(silent.clone());
        let cluster = &self.cassandra.cluster;
        let others: Vec<_> = (0..3).filter(|node| !silent.contains(node)).collect();
        let believed = || {
            others.iter().any(|other| silent.iter().any(|node| cluster.believes_alive(id(*other), id(*node))))
        };
        while believed() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end_silence(&self) {
        self.silence_nodes(Vec::new());
        self.cassandra.cluster.settled().await;
    }

    async fn compact(&self, _keyspace: &str, merge: bool) {
        for node in self.cassandra.cluster.nodes() {
            self.cassandra.cluster.flush(node);
            if merge {
                self.cassandra.cluster.compact(node);
            }
        }
    }

    async fn hold_hints(&self) {
        self.cassandra.cluster.reconfigure(|settings| settings.hints.flush_interval = LONG);
    }

    async fn repair(&self, keyspace: &str) {
        self.cassandra.cluster.repair(id(0), keyspace).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn periodic_sync(&self, on: bool) {
        let sync = match on {
            true => CommitLogSync::Periodic(Duration::from_secs(10)),
            false => CommitLogSync::Batch(Duration::from_millis(1)),
        };
        self.cassandra.cluster.reconfigure(|settings| settings.commit_log_sync = sync);
    }
}
