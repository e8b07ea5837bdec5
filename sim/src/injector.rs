//! Injects the faults of a scenario: into workers, simple services and their network itself, and into the log and the tables
//! through their services.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use madsim::runtime::Handle;
use madsim::task::NodeId;
use simulated_hosts::{HostFault, LinkFault};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::context::{SimContext, Triggered};
use crate::observed::Sometimes;
use crate::parties::{Caller, Service};
use crate::scenario::fault::{Fault, Host, Kind, KindName, Moment, Point, Step, Target, Trigger};
use crate::scenario::options::Heal;
use crate::service::{LogService, TablesService};

/// How often a fault whose target is affected by another one is tried again.
const RETRY_MS: u64 = 20;

/// How long a fault waits at once.
const WAIT_MS: u64 = 1_000;

/// Of all requests, at most so many are lost, delayed or refused at random while the workers must drain the log.
const MOST_PER_MILLE_OF_HEALED: u64 = 50;

/// The run's nodes.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    pub workers: Vec<NodeId>,
    pub services: BTreeMap<Service, NodeId>,
}

pub(crate) struct Injector<L, T> {
    context: Arc<SimContext>,
    handle: Handle,
    nodes: Nodes,
    /// By id.
    faults: BTreeMap<u64, Fault>,
    log: Arc<L>,
    tables: Arc<T>,
    has_drained: AtomicBool,
}

impl<L: LogService, T: TablesService> Injector<L, T> {
    pub fn new(
        context: Arc<SimContext>,
        nodes: Nodes,
        faults: &[Fault],
        (log, tables): (Arc<L>, Arc<T>),
    ) -> Self {
        let faults = faults.iter().map(|fault| (fault.id, fault.clone())).collect();
        Self {
            context,
            handle: Handle::current(),
            nodes,
            faults,
            log,
            tables,
            has_drained: AtomicBool::new(false),
        }
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
                self.resolve(&mut fault, None);
            }
        }
        self.inject_fault(fault, None).await;
    }

    async fn inject_triggered(self: Arc<Self>, mut fault: Fault, caller: Caller) {
        self.resolve(&mut fault, caller.worker);
        let point = match fault.trigger {
            Trigger::When { point, .. } => Some(point),
            Trigger::At { .. } => None,
        };
        self.inject_fault(fault, point).await;
    }

    /// The worker that reached the point becomes the fault's target. If there is none, any will do, but the same one in
    /// every run.
    fn resolve(&self, fault: &mut Fault, worker: Option<u8>) {
        let any = (fault.id % u64::from(self.context.options.workers)) as u8;
        if let Some(host @ Host::Triggering) = fault.target.worker_mut() {
            *host = Host::Worker(worker.unwrap_or(any));
        }
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
            if fault.name() == KindName::WorkerKilled {
                self.observe_crash(point);
            }
        }
        // The effect of a cut link is known when it ends.
        if !matches!(fault.name(), KindName::ClientLinkCut | KindName::ConsumerLinkCut) {
            self.context.wait_for_effect(fault.id).await;
        }
        match (fault.kind, fault.target) {
            (Kind::HeldUntil { .. }, _) => {
                tokio::select! {
                    () = self.context.wait_for_another(fault.id) => {}
                    () = self.wait(fault.duration_ms) => {}
                }
            }
            (Kind::WriteTorn, Target::Host(Host::Worker(worker)))
                if self.context.had_effect(fault.id) && self.context.finish(fault.id) =>
            {
                self.context.note_event(format_args!("worker {worker} is killed, and its write torn"));
                self.handle.kill(self.nodes.workers[usize::from(worker)]);
                self.wait(fault.duration_ms).await;
            }
            _ => self.wait(fault.duration_ms).await,
        }
        if !self.stays(&fault) {
            self.end(fault.id);
        }
    }

    /// True if a fault stays active after the time of the faults, until the log is drained.
    fn stays(&self, fault: &Fault) -> bool {
        let stays = self.context.options.heal == Heal::Rates && fault.kind.rate().is_some();
        stays && self.context.faults_have_ended() && !self.has_drained.load(Ordering::Relaxed)
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
            (Step::WriteAlerts, Moment::After) => Sometimes::CrashBetweenAlertAndProgress,
            (Step::ReadProgress | Step::ReadRows, _) => Sometimes::CrashWhileResuming,
            (Step::Register, _) => Sometimes::CrashAtRegistration,
            (Step::Revoked | Step::Released, _) => Sometimes::CrashWhileReleasing,
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
        // One thing at a time happens to a worker's process.
        let same = |other: &Fault| other.target == fault.target && other.name().affects_process_of_worker();
        if fault.name().affects_process_of_worker() && !is_free(&same) {
            return false;
        }
        let is_immediate = match (fault.kind, fault.target) {
            (
                kind @ (Kind::Host(_) | Kind::WorkerMisconfigured | Kind::HeldUntil { .. }),
                Target::Host(Host::Worker(worker)),
            ) => {
                if let Kind::HeldUntil { point, same_partition } = kind {
                    context.hold(fault.id, worker, point, same_partition);
                }
                self.begin_at_worker(worker, kind);
                true
            }
            (Kind::Link(LinkFault::Cut), Target::Link { from, to: to @ Host::Service(_), .. }) => {
                let same = |other: &Fault| {
                    let is_same =
                        matches!(other.target, Target::Link { from: f, to: t, .. } if (f, t) == (from, to));
                    is_same && other.name() == KindName::LinkCut
                };
                if !is_free(&same) {
                    return false;
                }
                for (from, to) in self.links(fault) {
                    context.links.cut(from, to);
                }
                false
            }
            (Kind::Host(HostFault::Kill), Target::Host(Host::Service(service))) => {
                let same = |other: &Fault| (other.kind, other.target) == (fault.kind, fault.target);
                let (true, Some(node)) = (is_free(&same), self.nodes.services.get(&service)) else {
                    return false;
                };
                self.handle.kill(*node);
                true
            }
            (Kind::WriteTorn, _) => false,
            // Also what is processed later is deleted.
            (Kind::LogTrimmed, _) => context.trim(),
            (Kind::Link(_), Target::Requests(_))
            | (
                Kind::ErrorsReturned { .. }
                | Kind::CallsTorn { .. }
                | Kind::Sabotaged { .. }
                | Kind::AcknowledgedWritesDropped { .. },
                _,
            ) => false,
            _ => {
                let has_begun = match self.log.begin(fault, &active).await {
                    Some(has_begun) => has_begun,
                    None => self.tables.begin(fault, &active),
                };
                if !has_begun {
                    return false;
                }
                false
            }
        };
        context.note_event(format_args!(
            "fault {} starts: {} {:?} {:?}",
            fault.id,
            fault.name(),
            fault.kind,
            fault.target
        ));
        context.begin_fault(fault);
        if is_immediate {
            context.effect(fault);
        }
        true
    }

    /// Ends a fault, if it has not ended yet.
    fn end(&self, id: u64) {
        let Some(fault) = self.context.end_fault(id) else { return };
        self.context.note_event(format_args!(
            "fault {id} ends: {} {:?} {:?}",
            fault.name(),
            fault.kind,
            fault.target
        ));
        match (fault.kind, fault.target) {
            (
                kind @ (Kind::Host(_) | Kind::WorkerMisconfigured | Kind::HeldUntil { .. } | Kind::WriteTorn),
                Target::Host(Host::Worker(worker)),
            ) => {
                self.end_at_worker(worker, kind, &fault);
            }
            (Kind::Link(LinkFault::Cut), Target::Link { to: Host::Service(_), .. }) => {
                for (from, to) in self.links(&fault) {
                    self.context.links.restore(from, to);
                }
            }
            (Kind::Host(_), Target::Host(Host::Service(service))) => {
                if let Some(node) = self.nodes.services.get(&service) {
                    self.handle.restart(*node);
                }
            }
            _ => {
                if !self.log.end(&fault) {
                    self.tables.end(&fault);
                }
            }
        }
    }

    /// Begins what happens to a worker's process.
    fn begin_at_worker(&self, worker: u8, kind: Kind) {
        let node = self.nodes.workers[usize::from(worker)];
        match kind {
            Kind::Host(HostFault::Kill | HostFault::PowerLoss) => self.handle.kill(node),
            Kind::Host(HostFault::Pause) | Kind::HeldUntil { .. } => {
                self.context.members().stands_still(worker);
                self.handle.pause(node);
            }
            Kind::Host(HostFault::Stop) => drop(self.context.stops[usize::from(worker)].send_replace(true)),
            _ => {
                self.handle.kill(node);
                self.context.damage().misconfigured.insert(worker);
                self.handle.restart(node);
            }
        }
    }

    /// Ends it.
    fn end_at_worker(&self, worker: u8, kind: Kind, fault: &Fault) {
        let node = self.nodes.workers[usize::from(worker)];
        match kind {
            Kind::Host(HostFault::Kill | HostFault::PowerLoss) => self.handle.restart(node),
            Kind::WriteTorn => {
                // Otherwise it was not killed.
                if self.context.had_effect(fault.id) {
                    self.handle.restart(node);
                }
            }
            Kind::HeldUntil { .. } => self.handle.resume(node),
            Kind::Host(HostFault::Pause) => {
                if fault.duration_ms > self.context.options.session_timeout_ms {
                    self.context.observe(Sometimes::PausedLongerThanSession);
                }
                self.handle.resume(node);
            }
            Kind::Host(HostFault::Stop) => drop(self.context.stops[usize::from(worker)].send_replace(false)),
            _ => {
                self.handle.kill(node);
                {
                    let mut damage = self.context.damage();
                    damage.misconfigured.remove(&worker);
                    damage.refused.remove(&worker);
                }
                self.handle.restart(node);
            }
        }
    }

    /// No further fault begins. Those end that the scenario's [`Heal`] says; the workers must drain the log then.
    pub async fn heal(&self) {
        let heal = self.context.options.heal;
        self.context.disarm();
        for fault in self.context.active_faults() {
            if !self.stays(&fault) {
                self.end(fault.id);
            }
        }
        self.context.lower_rates(MOST_PER_MILLE_OF_HEALED);
        if heal == Heal::Core {
            let workers = self.context.options.workers;
            let worker = (workers > 1).then(|| Host::Worker(workers - 1));
            for (id, host) in (Fault::AFTER_FAULTS..).zip(worker.into_iter().chain(self.tables.dispensable()))
            {
                let (trigger, target) = (Trigger::At { at_ms: 0 }, Target::Host(host));
                let kind = Kind::Host(HostFault::Kill);
                self.begin(&Fault { id, trigger, target, kind, duration_ms: 0 }).await;
            }
        }
        self.context.note_event(format_args!("the faults have ended: {heal:?}"));
    }

    /// Ends every fault.
    pub fn end_all(&self) {
        self.has_drained.store(true, Ordering::Relaxed);
        self.context.disarm();
        for fault in self.context.active_faults() {
            self.end(fault.id);
        }
        self.context.note_event(format_args!("all faults have ended"));
    }

    /// The links of a worker to a simple service that a fault cuts.
    fn links(&self, fault: &Fault) -> Vec<(NodeId, NodeId)> {
        let Target::Link { from: Host::Worker(worker), to: Host::Service(service), direction } = fault.target
        else {
            return Vec::new();
        };
        let Some(service) = self.nodes.services.get(&service).copied() else { return Vec::new() };
        direction.links(self.nodes.workers[usize::from(worker)], service)
    }
}
