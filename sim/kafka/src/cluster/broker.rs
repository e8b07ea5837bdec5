//! A running broker: its state, its tasks, the requests that it serves and those that it sends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_hosts::calls::Calls;
use simulated_hosts::process::Process;
use simulated_hosts::watch::Watched;
use tokio::time::Instant;

use super::message::{Body, Message, Request, Response};
use super::options::{BrokerOptions, Options};
use super::producer_ids::ProducerBlocks;
use super::shards::Hosts;
use super::{Envelope, Environment, Verb};
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::{ErrorCode, Result};
use crate::group::GroupShard;
use crate::metadata::Image;
use crate::quota::Quotas;
use crate::replica::Replica;
use crate::server::Sessions;
use crate::transaction::TransactionShard;
use crate::types::{NodeId, PartitionId, Timestamp};

/// What a broker knows while it runs.
pub(crate) struct State {
    /// The metadata that have reached it.
    pub(crate) image: Arc<Image>,
    pub(crate) replicas: BTreeMap<PartitionId, Replica>,
    /// The epoch of its registration; -1 before that.
    pub(crate) epoch: i64,
    pub(crate) sessions: Sessions,
    pub(crate) quotas: Quotas,
    pub(super) producer_ids: ProducerBlocks,
    /// Requests of other brokers that must not be served twice when they are sent again, and their responses.
    served: BTreeMap<(NodeId, u64), Option<Response>>,
}

/// How many requests of another broker are remembered; far more than are in flight.
const REMEMBERED: usize = 256;

/// What is known of a request that has arrived.
enum Serving {
    First,
    InProgress,
    Done(Box<Response>),
}

impl State {
    fn begin_serving(&mut self, request: (NodeId, u64)) -> Serving {
        match self.served.get(&request) {
            Some(Some(response)) => Serving::Done(Box::new(response.clone())),
            Some(None) => Serving::InProgress,
            None => {
                self.served.insert(request, None);
                let (from, _) = request;
                let of_sender = self.served.range((from, 0)..=(from, u64::MAX));
                if of_sender.clone().count() > REMEMBERED
                    && let Some(oldest) = of_sender.map(|(known, _)| *known).next()
                {
                    self.served.remove(&oldest);
                }
                Serving::First
            }
        }
    }
}

/// A run of a broker.
pub(crate) struct Broker {
    pub(crate) id: NodeId,
    pub(crate) cluster: Arc<Environment>,
    pub(crate) incarnation: u128,
    /// Changes whenever a log, a high watermark or a role did: what waits for that looks again.
    pub(crate) progress: Watched<u64>,
    /// The version of the metadata that it has.
    pub(crate) version: Watched<i64>,
    /// Whether it serves clients: it has been unfenced once.
    pub(crate) readiness: Watched<bool>,
    /// Whether it is about to end gracefully.
    pub(crate) ending: Watched<bool>,
    /// When it started, and what its clock showed then.
    pub(crate) started: Instant,
    pub(crate) started_at: Timestamp,
    pub(crate) groups: Mutex<Hosts<GroupShard>>,
    pub(crate) transactions: Mutex<Hosts<TransactionShard>>,
    process: Arc<Process<Message>>,
    calls: Arc<Calls<Response>>,
    state: Mutex<State>,
}

impl Broker {
    pub(crate) fn start(cluster: Arc<Environment>, id: NodeId) -> Arc<Self> {
        let state = State {
            image: Arc::new(Image::default()),
            replicas: BTreeMap::new(),
            epoch: -1,
            sessions: Sessions::default(),
            quotas: Quotas::default(),
            producer_ids: ProducerBlocks::default(),
            served: BTreeMap::new(),
        };
        let incarnation = cluster.unique();
        let started_at = cluster.member(id).clock.micros().div_euclid(1000);
        Arc::new(Self {
            id,
            cluster,
            incarnation,
            progress: Watched::new(0),
            version: Watched::new(-1),
            readiness: Watched::new(false),
            ending: Watched::new(false),
            started: Instant::now(),
            started_at,
            groups: Mutex::default(),
            transactions: Mutex::default(),
            process: Arc::default(),
            calls: Arc::default(),
            state: Mutex::new(state),
        })
    }

    /// Starts the broker's own tasks.
    pub(crate) fn begin_work(self: &Arc<Self>) {
        self.begin(Self::live);
        self.begin(Self::learn);
        self.begin(Self::propose_in_sync);
        self.begin(Self::write_checkpoints);
        self.begin(Self::clean);
        self.begin(Self::host::<GroupShard>);
        self.begin(Self::host::<TransactionShard>);
        for leader in self.cluster.ids().filter(|leader| *leader != self.id) {
            self.begin(move |broker| broker.copy_from(leader));
        }
    }

    /// Begins a task that ends with the broker at the latest.
    pub(crate) fn begin<F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.cluster.hub.begin(self.task(work(self.clone())));
    }

    /// What a task of the broker does: suspended while the process is paused, and ended with it.
    pub(crate) fn task<F>(self: &Arc<Self>, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.process.task(work)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.cluster.options
    }

    pub(crate) fn member(&self) -> &BrokerOptions {
        self.cluster.member(self.id)
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.lock().image.clone()
    }

    /// This broker's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.member().clock.micros().div_euclid(1000)
    }

    /// Something changed that others may wait for.
    pub(crate) fn notify(&self) {
        self.progress.modify(|count| *count += 1);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Ends the broker: its tasks and its responses. What it had in memory is lost.
    pub(crate) fn die(&self) {
        self.process.end();
        self.calls.clear();
    }

    /// Waits until it has been unfenced once.
    pub(crate) async fn unfenced(&self) {
        self.readiness.watch().wait_for(|ready| *ready).await;
    }

    /// Waits for the broker's end.
    pub(crate) async fn died(&self) {
        self.process.died().await;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.process.is_paused()
    }

    /// Suspends the broker's tasks and keeps the messages that arrive.
    pub(crate) fn pause(&self) {
        self.process.pause();
    }

    /// Handles the messages that arrived meanwhile, and continues the tasks.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.process.resume(|message| self.receive(message));
    }

    /// Receives a message.
    pub(crate) fn receive(self: &Arc<Self>, message: Message) {
        let Some(message) = self.process.receive(message) else { return };
        match message.body {
            Body::Response(_, response) => self.calls.respond(message.request, response),
            Body::Request(request) => {
                let (from, number) = (message.from, message.request);
                let verb = request.verb();
                let once = !matches!(verb, Verb::Replicate | Verb::Range | Verb::Metadata | Verb::Heartbeat);
                if once {
                    match self.lock().begin_serving((from, number)) {
                        Serving::First => {}
                        Serving::InProgress => return,
                        Serving::Done(response) => {
                            return self.send(from, number, Body::Response(verb, *response));
                        }
                    }
                }
                self.begin(move |broker| async move {
                    // As those of clients (`SocketServer.enableRequestProcessing`): before, it may believe that it leads
                    // what it led in its last run, and may have lost what others have.
                    if !matches!(request, Request::Control(_)) {
                        broker.unfenced().await;
                    }
                    if let Some(response) = broker.serve_peer(from, request).await {
                        if once {
                            broker.lock().served.insert((from, number), Some(response.clone()));
                        }
                        broker.send(from, number, Body::Response(verb, response));
                    }
                });
            }
        }
    }

    /// Sends a message. One to the broker itself arrives at once, though not before this returns.
    fn send(&self, to: NodeId, request: u64, body: Body) {
        if self.is_dead() {
            return;
        }
        let (verb, response_to) = match &body {
            Body::Request(request) => (request.verb(), None),
            Body::Response(verb, _) => (Verb::Response, Some(*verb)),
        };
        let message = Message { from: self.id, to, request, body };
        if to == self.id {
            self.cluster.hub.send(Instant::now(), message);
            return;
        }
        let envelope = Envelope { from: self.id, to, verb, response_to, request };
        for delay in self.cluster.links.deliveries(&envelope) {
            self.cluster.hub.send(Instant::now() + delay, message.clone());
        }
    }

    /// Asks another broker, and again while it does not respond. None if it does not in time.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        to: NodeId,
        request: Request,
        wait: Duration,
    ) -> Option<Response> {
        let deadline = Instant::now() + wait;
        let mut call = self.calls.begin(self.cluster.next_request());
        // What waits at the receiver takes longer than what is lost.
        let limit = self.options().retransmission + self.options().replica_fetch_wait;
        loop {
            self.send(to, call.number(), Body::Request(request.clone()));
            let until = deadline.min(Instant::now() + limit);
            if let Some(response) = call.next(until).await {
                return Some(response);
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Asks the controller, wherever it is.
    ///
    /// # Errors
    /// [`ErrorCode::NotController`] if there is none, [`ErrorCode::RequestTimedOut`] if it does not respond in time, or
    /// what it responds.
    pub(crate) async fn ask_controller(
        self: &Arc<Self>,
        request: ControlRequest,
        wait: Duration,
    ) -> Result<ControlResponse> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(controller) = self.cluster.active_controller() else {
                if left.is_zero() {
                    return Err(ErrorCode::NotController);
                }
                tokio::time::sleep(left.min(self.options().heartbeat_interval / 10)).await;
                continue;
            };
            let limit = left.min(self.options().retransmission * 2);
            match self.ask(controller, Request::Control(request.clone()), limit).await {
                Some(Response::Control(ControlResponse::Refused(ErrorCode::NotController)))
                    if !left.is_zero() =>
                {
                    tokio::time::sleep(self.options().heartbeat_interval / 10).await;
                }
                Some(Response::Control(ControlResponse::Refused(error))) => return Err(error),
                Some(Response::Control(response)) => return Ok(response),
                _ if left.is_zero() => return Err(ErrorCode::RequestTimedOut),
                _ => {}
            }
        }
    }
}
