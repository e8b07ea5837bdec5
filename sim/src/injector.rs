//! Injects the faults of a scenario: into workers, simple services and their network itself, and into the tables through
//! their service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::broker::Broker;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::context::{SimContext, Triggered};
use crate::network::{Caller, Service};
use crate::observed::Sometimes;
use crate::scenario::fault::{Direction, Fault, Kind, Moment, Point, Step, Target, Trigger};
use crate::scenario::options::TOPIC;
use crate::service::TablesService;

/// How often a fault whose target is affected by another one is tried again.
const RETRY_MS: u64 = 20;

/// How long a fault waits at once.
const WAIT_MS: u64 = 1_000;

/// The run's nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub workers: Vec<NodeId>,
    pub services: BTreeMap<Service, NodeId>,
}

pub(crate) struct Injector<T> {
    context: Arc<SimContext>,
    handle: Handle,
    nodes: Nodes,
    /// By id.
    faults: BTreeMap<u64, Fault>,
    tables: Arc<T>,
}

impl<T: TablesService> Injector<T> {
    pub fn new(context: Arc<SimContext>, nodes: Nodes, faults: &[Fault], tables: Arc<T>) -> Self {
        let faults = faults.iter().map(|fault| (fault.id, fault.clone())).collect();
        Self { context, handle: Handle::current(), nodes, faults, tables }
    }

    /// Starts and ends the faults of the scenario, each at its time.
    pub async fn inject(self: Arc<Self>, mut triggered: mpsc::UnboundedReceiver<Triggered>) {
        let all: Vec<Fault> = self.faults.values().cloned().collect();
        self.context.arm(&all);
        for fault in all {
            tokio::spawn(self.clone().inject_timed(fault));
        }
        while let Some((id, caller)) = triggered.recv().await {
            let Some(fault) = self.faults.get(&id).cloned() else { continue };
            tokio::spawn(self.clone().inject_triggered(fault, caller));
        }
    }

    async fn inject_timed(self: Arc<Self>, mut fault: Fault) {
        match fault.trigger {
            Trigger::At { at_ms } => self.wait(at_ms).await,
            Trigger::When { latest_ms, .. } => {
                self.wait(latest_ms).await;
                if !self.context.stop_waiting(fault.id) {
                    return;
                }
                if fault.target == Target::Triggering {
                    // Any worker will do, but the same one in every run.
                    let workers = u64::from(self.context.options.workers);
                    fault.target = Target::Worker((fault.id % workers) as u8);
                }
            }
        }
        self.inject_fault(fault, None).await;
    }

    async fn inject_triggered(self: Arc<Self>, mut fault: Fault, caller: Caller) {
        if fault.target == Target::Triggering {
            let Some(worker) = caller.worker else { return };
            fault.target = Target::Worker(worker);
        }
        let point = match fault.trigger {
            Trigger::When { point, .. } => Some(point),
            Trigger::At { .. } => None,
        };
        self.inject_fault(fault, point).await;
    }

    /// Injects one fault, whose point was reached, and ends it after its duration.
    async fn inject_fault(&self, fault: Fault, mut point: Option<Point>) {
        loop {
            if self.context.faults_have_ended() {
                return;
            }
            if self.begin(&fault).await {
                break;
            }
            point = None;
            sleep(Duration::from_millis(RETRY_MS)).await;
        }
        if let Some(point) = point {
            self.context.observe(Sometimes::FaultAtAPoint);
            if fault.kind == Kind::WorkerKilled {
                self.observe_crash(point);
            }
        }
        // The effect of a cut link is known when it ends.
        if !matches!(fault.kind, Kind::ClientLinkCut { .. }) {
            self.context.wait_for_effect(fault.id).await;
        }
        self.wait(fault.duration_ms).await;
        self.end(fault.id);
    }

    /// Waits, or returns soon after all faults have ended: a task that outlives its run would leak it.
    async fn wait(&self, ms: u64) {
        let until_ms = self.context.now_ms() + ms;
        while !self.context.faults_have_ended() {
            let left_ms = until_ms.saturating_sub(self.context.now_ms());
            if left_ms == 0 {
                return;
            }
            sleep(Duration::from_millis(left_ms.min(WAIT_MS))).await;
        }
    }

    fn observe_crash(&self, point: Point) {
        let situation = match (point.step, point.moment) {
            (Step::WriteCounts, Moment::After)
            | (Step::ReadRegistry, _)
            | (Step::ReadSums, Moment::Before) => Sometimes::CrashBetweenCountsAndSums,
            (Step::ReadSums, Moment::After) | (Step::WriteAlerts, Moment::Before) => {
                Sometimes::CrashBetweenSumsAndAlert
            }
            (Step::WriteAlerts, Moment::After) => Sometimes::CrashAfterAlert,
            (Step::WriteRows, Moment::After) => Sometimes::CrashAfterRows,
            (Step::WriteProgress, _) => Sometimes::CrashAtProgress,
            _ => return,
        };
        self.context.observe(situation);
    }

    /// Begins a fault; false if its target is already affected by another one.
    async fn begin(&self, fault: &Fault) -> bool {
        let context = &self.context;
        let active = context.active_faults();
        let is_free = |affects: &dyn Fn(&Fault) -> bool| !active.iter().any(affects);
        let is_immediate = match (fault.kind, fault.target) {
            (Kind::WorkerKilled | Kind::WorkerPaused | Kind::WorkerStopped, Target::Worker(worker)) => {
                let same = |other: &Fault| {
                    other.target == fault.target && other.kind.name().affects_process_of_worker()
                };
                if !is_free(&same) {
                    return false;
                }
                let node = self.nodes.workers[usize::from(worker)];
                match fault.kind {
                    Kind::WorkerKilled => self.handle.kill(node),
                    Kind::WorkerPaused => self.handle.pause(node),
                    _ => drop(context.stops[usize::from(worker)].send_replace(true)),
                }
                true
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
                    context.links.cut(from, to);
                }
                false
            }
            (Kind::ServiceKilled { service }, _) => {
                let same =
                    |other: &Fault| matches!(other.kind, Kind::ServiceKilled { service: s } if s == service);
                let (true, Some(node)) = (is_free(&same), self.nodes.services.get(&service)) else {
                    return false;
                };
                self.handle.kill(*node);
                true
            }
            (Kind::PartitionAdded, _) => {
                let partitions = self.partitions().await;
                context.log.grow(TOPIC, partitions + 1);
                context.history.grow(TOPIC, partitions + 1);
                context.group().grow(context.now_ms(), partitions + 1);
                true
            }
            (Kind::LogTrimmed, _) => self.trim().await,
            (Kind::LogEndLags, _) => {
                if !is_free(&|other: &Fault| other.kind == Kind::LogEndLags) {
                    return false;
                }
                context.set_lagging_ends(self.log_ends().await);
                false
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
            ) => false,
            (kind, _) if kind.name().is_of_cassandra() => {
                if !self.tables.begin(fault, &active) {
                    return false;
                }
                false
            }
            _ => return false,
        };
        context.note(format_args!("fault {} starts: {:?} {:?}", fault.id, fault.kind, fault.target));
        context.begin_fault(fault);
        if is_immediate {
            context.effect(fault);
        }
        true
    }

    /// Ends a fault, if it has not ended yet.
    fn end(&self, id: u64) {
        let Some(fault) = self.context.end_fault(id) else { return };
        self.context.note(format_args!("fault {id} ends: {:?} {:?}", fault.kind, fault.target));
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
                for (from, to) in self.links(&fault) {
                    self.context.links.restore(from, to);
                }
            }
            (Kind::ServiceKilled { service }, _) => {
                if let Some(node) = self.nodes.services.get(&service) {
                    self.handle.restart(*node);
                }
            }
            _ => self.tables.end(&fault),
        }
    }

    /// Ends every fault; no further one begins.
    pub fn end_all(&self) {
        self.context.disarm();
        for fault in self.context.active_faults() {
            self.end(fault.id);
        }
        self.context.note(format_args!("all faults have ended"));
    }

    fn links(&self, fault: &Fault) -> Vec<(NodeId, NodeId)> {
        let (Kind::LinkCut { service, direction }, Target::Worker(worker)) = (fault.kind, fault.target)
        else {
            return Vec::new();
        };
        let Some(service) = self.nodes.services.get(&service).copied() else { return Vec::new() };
        let worker = self.nodes.workers[usize::from(worker)];
        match direction {
            Direction::Both => vec![(worker, service), (service, worker)],
            Direction::Requests => vec![(worker, service)],
            Direction::Responses => vec![(service, worker)],
        }
    }

    /// Deletes all records below acknowledged progress, as retention may; false if there were none.
    async fn trim(&self) -> bool {
        let mut is_trimmed = false;
        for partition in 0..self.partitions().await {
            let Some(progress) = self.context.acknowledged_progress(partition) else { continue };
            let log = self.context.log.offsets(TOPIC, partition).await;
            if log.is_ok_and(|log| log.start < progress) {
                self.context.log.delete_below(TOPIC, partition, progress);
                is_trimmed = true;
            }
        }
        is_trimmed
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
