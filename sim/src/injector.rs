//! Injects the faults of a plan: into the network, nodes and the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::broker::Broker;
use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::config::TOPIC;
use crate::context::SimContext;
use crate::faults::{Direction, Fault, Kind, Plan, Target, Trigger};
use crate::network::{Caller, Service};
use crate::observed;

/// The run's nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub workers: Vec<NodeId>,
    pub services: BTreeMap<Service, NodeId>,
}

pub(crate) struct Injector {
    context: Arc<SimContext>,
    handle: Handle,
    nodes: Nodes,
    plan: Plan,
}

impl Injector {
    pub fn new(context: Arc<SimContext>, nodes: Nodes, plan: Plan) -> Self {
        Self { context, handle: Handle::current(), nodes, plan }
    }

    /// Starts and ends the faults of the plan, each at its time.
    pub async fn inject(self: Arc<Self>, mut triggered: mpsc::UnboundedReceiver<(usize, Caller)>) {
        self.context.arm(&self.plan.faults);
        for (number, fault) in self.plan.faults.iter().enumerate() {
            if let Trigger::At { ms } = fault.trigger {
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    this.inject_fault(number, None).await;
                });
            }
        }
        while let Some((number, caller)) = triggered.recv().await {
            tokio::spawn(self.clone().inject_triggered(number, caller));
        }
    }

    async fn inject_triggered(self: Arc<Self>, number: usize, caller: Caller) {
        self.inject_fault(number, Some(caller)).await;
    }

    /// Injects one fault, and ends it after its duration.
    async fn inject_fault(&self, number: usize, triggering: Option<Caller>) {
        let mut fault = self.plan.faults[number].clone();
        if fault.target == Target::Triggering {
            match triggering.and_then(|caller| caller.worker) {
                Some(worker) => fault.target = Target::Worker(worker),
                None => return,
            }
        }
        if !self.start(number, &fault).await {
            return self.context.note(format_args!("fault {number} skipped: {:?}", fault.kind));
        }
        if triggering.is_some() {
            self.context.observe(observed::AT_A_POINT);
        }
        sleep(Duration::from_millis(fault.duration_ms)).await;
        self.end(number);
    }

    /// Starts a fault; false if its target is already affected by another one.
    async fn start(&self, number: usize, fault: &Fault) -> bool {
        let is_free = |hits: &dyn Fn(&Fault) -> bool| {
            let active = self.context.active_faults();
            !active.iter().any(|active| self.context.with_fault(*active, hits))
        };
        let net = NetSim::current();
        match (fault.kind, fault.target) {
            (Kind::WorkerKilled | Kind::WorkerPaused | Kind::WorkerStopped, Target::Worker(worker)) => {
                let same = |other: &Fault| {
                    other.target == fault.target && !matches!(other.kind, Kind::LinkCut { .. })
                };
                if !is_free(&same) {
                    return false;
                }
                let node = self.nodes.workers[usize::from(worker)];
                match fault.kind {
                    Kind::WorkerKilled => self.handle.kill(node),
                    Kind::WorkerPaused => self.handle.pause(node),
                    _ => {
                        self.context.stops[usize::from(worker)].send_replace(true);
                    }
                }
                self.context.observe(fault.kind.name());
            }
            (Kind::LinkCut { service, .. }, Target::Worker(_)) => {
                let same = |other: &Fault| {
                    other.target == fault.target
                        && matches!(other.kind, Kind::LinkCut { service: cut, .. } if cut == service)
                };
                if !is_free(&same) {
                    return false;
                }
                for (from, to) in self.links(fault) {
                    net.clog_link(from, to);
                }
            }
            (Kind::ServiceKilled { service }, _) => {
                let same =
                    |other: &Fault| matches!(other.kind, Kind::ServiceKilled { service: s } if s == service);
                if !is_free(&same) {
                    return false;
                }
                self.handle.kill(self.nodes.services[&service]);
                self.context.observe(fault.kind.name());
            }
            (Kind::PartitionAdded, _) => {
                let partitions = self.partitions().await;
                self.context.log.grow(TOPIC, partitions + 1);
                self.context.group().grow(self.context.now_ms(), partitions + 1);
                self.context.observe(fault.kind.name());
            }
            (Kind::LogEndLags, _) => {
                if !is_free(&|other: &Fault| other.kind == Kind::LogEndLags) {
                    return false;
                }
            }
            (
                Kind::RequestsLost { .. }
                | Kind::RequestsDelayed { .. }
                | Kind::RequestsDuplicated { .. }
                | Kind::ResponsesLost { .. }
                | Kind::ErrorsReturned { .. }
                | Kind::CallsTorn { .. }
                | Kind::GroupShuffled { .. }
                | Kind::AcknowledgedWritesDropped { .. },
                _,
            ) => {}
            (_, Target::Anyone | Target::Triggering) => return false,
        }
        let ends = match fault.kind {
            Kind::LogEndLags => self.log_ends().await,
            _ => BTreeMap::new(),
        };
        self.context.note(format_args!("fault {number} starts: {:?} {:?}", fault.kind, fault.target));
        self.context.begin_fault(number, fault.clone(), ends);
        true
    }

    /// Ends a fault, if it has not ended yet.
    fn end(&self, number: usize) {
        let Some(fault) = self.context.end_fault(number) else { return };
        self.context.note(format_args!("fault {number} ends: {:?} {:?}", fault.kind, fault.target));
        match (fault.kind, fault.target) {
            (Kind::WorkerKilled, Target::Worker(worker)) => {
                self.handle.restart(self.nodes.workers[usize::from(worker)]);
            }
            (Kind::WorkerPaused, Target::Worker(worker)) => {
                self.handle.resume(self.nodes.workers[usize::from(worker)]);
            }
            (Kind::WorkerStopped, Target::Worker(worker)) => {
                self.context.stops[usize::from(worker)].send_replace(false);
            }
            (Kind::LinkCut { .. }, _) => {
                let net = NetSim::current();
                for (from, to) in self.links(&fault) {
                    net.unclog_link(from, to);
                }
            }
            (Kind::ServiceKilled { service }, _) => self.handle.restart(self.nodes.services[&service]),
            _ => {}
        }
    }

    /// Ends every fault; no further one starts.
    pub fn end_all(&self) {
        self.context.disarm();
        for number in self.context.active_faults() {
            self.end(number);
        }
        self.context.note(format_args!("all faults have ended"));
    }

    fn links(&self, fault: &Fault) -> Vec<(NodeId, NodeId)> {
        let (Kind::LinkCut { service, direction }, Target::Worker(worker)) = (fault.kind, fault.target)
        else {
            return Vec::new();
        };
        let (worker, service) = (self.nodes.workers[usize::from(worker)], self.nodes.services[&service]);
        match direction {
            Direction::Both => vec![(worker, service), (service, worker)],
            Direction::Requests => vec![(worker, service)],
            Direction::Responses => vec![(service, worker)],
        }
    }

    async fn partitions(&self) -> i32 {
        self.context.log.topic(TOPIC).await.expect("the topic exists from the start").partitions
    }

    async fn log_ends(&self) -> BTreeMap<i32, i64> {
        let mut ends = BTreeMap::new();
        for partition in 0..self.partitions().await {
            let log = self.context.log.offsets(TOPIC, partition).await;
            ends.insert(partition, log.expect("the in-memory log has its partitions").end);
        }
        ends
    }
}
