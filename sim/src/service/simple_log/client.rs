//! The client of the broker. A member of the group sends heartbeats and fetches in tasks of its own, as the real client
//! does in threads; `poll` only returns their results.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::network::{Channel, RequestError};
use crate::observed::Sometimes;
use crate::parties::Service;
use crate::random::Random;
use crate::service::simple_log::group::OwnedPartition;
use crate::service::simple_log::request::{GroupRequest, GroupResponse, LogRequest, LogResponse};

/// How long the log holds a fetch at its end, as the real one does by default (`fetch.max.wait.ms`).
const MAX_WAIT_MS: u64 = 500;

/// Longest time until a fetcher tries again.
const IDLE_MS: u64 = 25;

/// A client of the simulated broker.
#[derive(Clone)]
pub struct BrokerClient(Channel);

fn request_failed(what: String, error: RequestError) -> BrokerError {
    BrokerError::Retriable { what, cause: Some(error.into()) }
}

impl BrokerClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    async fn send(&self, request: LogRequest) -> Result<LogResponse, BrokerError> {
        let request = Arc::new(request);
        match self.0.send(&request).await {
            Ok(LogResponse::Refused(error)) => Err(error),
            Ok(response) => Ok(response),
            Err(error) => Err(request_failed(request.to_string(), error)),
        }
    }
}

impl Broker for BrokerClient {
    type Consumer = GroupMember;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        match self.send(LogRequest::Topic(topic.to_owned())).await? {
            LogResponse::Topic(topic) => Ok(topic),
            _ => unreachable!("the response is of the request's type"),
        }
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        match self.send(LogRequest::Offsets(topic.to_owned(), partition)).await? {
            LogResponse::Offsets(log) => Ok(log),
            _ => unreachable!("the response is of the request's type"),
        }
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        _max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let request =
            LogRequest::Fetch { topic: topic.to_owned(), partition, offset, max_records, max_wait_ms: 0 };
        match self.send(request).await? {
            LogResponse::Fetched { fetched, .. } => Ok(fetched),
            _ => unreachable!("the response is of the request's type"),
        }
    }

    async fn subscribe(&self, _group: &str, topic: &str) -> Result<GroupMember, BrokerError> {
        let member = join(&self.0).await?;
        let membership = Arc::new(Membership {
            channel: self.0.clone(),
            topic: topic.to_owned(),
            state: Mutex::new(State { member, polled_ms: self.0.context.now_ms(), ..State::default() }),
            delivered: Notify::new(),
            heartbeat_now: Notify::new(),
        });
        tokio::spawn(stay_member(membership.clone()));
        Ok(GroupMember { membership })
    }
}

async fn join(channel: &Channel) -> Result<u64, BrokerError> {
    match channel.send(&Arc::new(GroupRequest::Join)).await {
        Ok(GroupResponse::Joined(member)) => Ok(member),
        Ok(_) => unreachable!("the response is of the request's type"),
        Err(error) => Err(request_failed("join".to_owned(), error)),
    }
}

/// A member of the group.
pub struct GroupMember {
    membership: Arc<Membership>,
}

struct Membership {
    channel: Channel,
    topic: String,
    state: Mutex<State>,
    /// A delivery is ready to be polled.
    delivered: Notify,
    /// The next heartbeat is due now.
    heartbeat_now: Notify,
}

#[derive(Default)]
struct State {
    member: u64,
    /// The consumer was dropped; its tasks end.
    closed: bool,
    polled_ms: u64,
    held: BTreeMap<i32, Held>,
    positions: BTreeMap<i32, DeliveryState>,
    ready: VecDeque<Result<Delivery, BrokerError>>,
    /// What was fetched for incarnations that have ended, and may still be delivered.
    stale: BTreeMap<i32, Vec<Delivery>>,
}

/// A partition that the group assigned to this member.
struct Held {
    epoch: u64,
    revoked: bool,
    released: bool,
}

/// The state of delivery of a partition.
struct DeliveryState {
    assignment: Assignment,
    paused: bool,
}

fn assignment(delivery: &Delivery) -> Option<Assignment> {
    match delivery {
        Delivery::Records { assignment, .. }
        | Delivery::End { assignment, .. }
        | Delivery::Failed { assignment, .. } => Some(*assignment),
        Delivery::Assigned(_) | Delivery::Revoked(_) | Delivery::Lost(_) => None,
    }
}

/// What the fetcher of an assignment does next.
enum Step {
    Fetch,
    Wait,
    End,
}

impl State {
    fn next_step(&self, of: Assignment, prefetched_fetches: usize) -> Step {
        match self.positions.get(&of.partition) {
            Some(position) if position.assignment == of && !self.closed => {
                match position.paused || self.waiting(of) >= prefetched_fetches {
                    true => Step::Wait,
                    false => Step::Fetch,
                }
            }
            _ => Step::End,
        }
    }

    fn is_current(&self, assignment: Assignment) -> bool {
        self.positions.get(&assignment.partition).is_some_and(|position| position.assignment == assignment)
    }

    /// How many fetches of an assignment have not been polled yet.
    fn waiting(&self, of: Assignment) -> usize {
        let own = |delivery: &&Result<Delivery, BrokerError>| {
            delivery.as_ref().is_ok_and(|delivery| assignment(delivery) == Some(of))
        };
        self.ready.iter().filter(own).count()
    }

    /// Ends delivery of a partition; what was fetched for it becomes stale.
    fn retire(&mut self, partition: i32) {
        if self.positions.remove(&partition).is_none() {
            return;
        }
        for delivery in std::mem::take(&mut self.ready) {
            match delivery {
                Ok(delivery) if assignment(&delivery).is_some_and(|of| of.partition == partition) => {
                    self.stale.entry(partition).or_default().push(delivery);
                }
                other => self.ready.push_back(other),
            }
        }
    }
}

impl Channel {
    /// Random numbers for what the client of the log may do at any time.
    fn random(&self) -> MutexGuard<'_, Random> {
        self.context.random(Service::Log, self.caller)
    }
}

impl Membership {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.channel.random().within(low..=high))
    }
}

impl Consumer for GroupMember {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            {
                let state = &mut *self.membership.lock();
                state.polled_ms = self.membership.channel.context.now_ms();
                if let Some(delivery) = state.ready.pop_front() {
                    if let Ok(Delivery::Revoked(partitions) | Delivery::Lost(partitions)) = &delivery {
                        partitions.iter().for_each(|partition| state.retire(*partition));
                    }
                    return delivery;
                }
            }
            // Wakes up even without a delivery, so that a waiting consumer is not mistaken for a stuck one.
            let wake_up = Duration::from_millis(self.membership.channel.context.options.heartbeat_ms);
            let _ = timeout(wake_up, self.membership.delivered.notified()).await;
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let context = &self.membership.channel.context;
        let partition = assignment.partition;
        {
            let state = &mut *self.membership.lock();
            state.retire(partition);
            state.positions.insert(partition, DeliveryState { assignment, paused: false });
            for delivery in state.stale.remove(&partition).unwrap_or_default() {
                if self.membership.channel.random().chance(context.options.stale_deliveries_per_mille) {
                    context.observe(Sometimes::StaleDelivery);
                    state.ready.push_back(Ok(delivery));
                }
            }
        }
        context.note(format_args!("{} starts {assignment:?} at {offset}", self.membership.channel.caller));
        tokio::spawn(fetch(self.membership.clone(), assignment, offset));
    }

    fn pause(&mut self, partition: i32) {
        if let Some(position) = self.membership.lock().positions.get_mut(&partition) {
            position.paused = true;
        }
    }

    fn resume(&mut self, partition: i32) {
        if let Some(position) = self.membership.lock().positions.get_mut(&partition) {
            position.paused = false;
        }
    }

    fn release(&mut self, partition: i32) {
        if let Some(held) = self.membership.lock().held.get_mut(&partition) {
            held.released = true;
        }
        self.membership.heartbeat_now.notify_one();
    }

    fn report(&mut self, _partition: i32, _next_offset: i64) {}

    async fn leave(self) {
        let member = {
            let mut state = self.membership.lock();
            state.closed = true;
            state.member
        };
        // Sent once: if it is lost, the session expires.
        let _ = self.membership.channel.send(&Arc::new(GroupRequest::Leave { member })).await;
    }
}

impl Drop for GroupMember {
    /// The member's tasks end; the group is not notified.
    fn drop(&mut self) {
        self.membership.lock().closed = true;
    }
}

/// Sends heartbeats until the member is closed, and joins again when the group no longer knows it.
async fn stay_member(membership: Arc<Membership>) {
    let (channel, config) = (&membership.channel, &membership.channel.context.options);
    loop {
        let (member, released, stuck) = {
            let state = membership.lock();
            if state.closed {
                return;
            }
            let released = state.held.iter().filter(|(_, held)| held.released);
            let released = released.map(|(partition, held)| (*partition, held.epoch)).collect();
            (state.member, released, channel.context.now_ms() > state.polled_ms + config.poll_timeout_ms)
        };
        if !stuck {
            match channel.send(&Arc::new(GroupRequest::Heartbeat { member, released })).await {
                Ok(GroupResponse::Owned(owned)) => update_owned(&membership, owned).await,
                Ok(GroupResponse::UnknownMember) => {
                    update_owned(&membership, Vec::new()).await;
                    if let Ok(member) = join(channel).await {
                        membership.lock().member = member;
                    }
                }
                Ok(_) => unreachable!("the response is of the request's type"),
                // An unknown outcome is not a loss: the worker keeps its partitions.
                Err(RequestError::TimedOut | RequestError::Overloaded) => {}
            }
        }
        let _ =
            timeout(Duration::from_millis(config.heartbeat_ms), membership.heartbeat_now.notified()).await;
    }
}

/// Queues deliveries for what changed since the last response of the group.
async fn update_owned(membership: &Membership, owned: Vec<OwnedPartition>) {
    let (mut assigned, mut revoked, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    {
        let state = &mut *membership.lock();
        state.held.retain(|partition, held| {
            let kept = owned.iter().any(|owned| owned.partition == *partition && owned.epoch == held.epoch);
            if !kept && !held.released {
                lost.push(*partition);
            }
            kept
        });
        for owned in owned {
            let held = state.held.entry(owned.partition).or_insert_with(|| {
                assigned.push(owned.partition);
                Held { epoch: owned.epoch, revoked: false, released: false }
            });
            if owned.revoked && !held.revoked {
                held.revoked = true;
                revoked.push(owned.partition);
            }
        }
        let news = [
            (!lost.is_empty()).then(|| Delivery::Lost(lost.clone())),
            (!assigned.is_empty()).then(|| Delivery::Assigned(assigned.clone())),
            (!revoked.is_empty()).then(|| Delivery::Revoked(revoked.clone())),
        ];
        for delivery in news.into_iter().flatten() {
            membership
                .channel
                .context
                .note_event(format_args!("{} receives {delivery:?}", membership.channel.caller));
            state.ready.push_back(Ok(delivery));
        }
    }
    membership.delivered.notify_one();
    if !lost.is_empty() {
        membership.channel.context.observe(Sometimes::PartitionLost);
    }
}

/// Fetches for one assignment until it ends.
async fn fetch(membership: Arc<Membership>, of: Assignment, mut offset: i64) {
    let (channel, config) = (&membership.channel, &membership.channel.context.options);
    let mut reported_end = None;
    loop {
        let step = membership.lock().next_step(of, config.prefetched_fetches);
        match step {
            Step::Fetch => {}
            Step::Wait => {
                sleep(membership.ms(1, IDLE_MS)).await;
                continue;
            }
            Step::End => return,
        }
        let max_records = channel.random().within(1..=config.fetch_records) as usize;
        let request = LogRequest::Fetch {
            topic: membership.topic.clone(),
            partition: of.partition,
            offset,
            max_records,
            max_wait_ms: if reported_end == Some(offset) { MAX_WAIT_MS } else { 0 },
        };
        let response = channel.send(&Arc::new(request)).await;
        let delivery = match response {
            Ok(LogResponse::Fetched { fetched: Fetched { records, next_offset }, at_end }) => {
                if let Some(last) = records.last() {
                    // The response need not include a gap after the last record.
                    let knows_gap = channel.random().coin();
                    let next_offset = if knows_gap { next_offset } else { last.offset + 1 };
                    offset = next_offset;
                    Ok(Delivery::Records { assignment: of, records, next_offset })
                } else {
                    offset = next_offset;
                    if at_end && reported_end != Some(offset) {
                        reported_end = Some(offset);
                        Ok(Delivery::End { assignment: of, offset })
                    } else {
                        sleep(membership.ms(1, IDLE_MS * 2)).await;
                        continue;
                    }
                }
            }
            Ok(LogResponse::Refused(error)) => Ok(Delivery::Failed { assignment: of, offset, error }),
            Ok(_) => unreachable!("the response is of the request's type"),
            // Usually the client retries by itself; sometimes the worker gets the error.
            Err(error) if channel.random().chance(200) => Err(request_failed("fetch".to_owned(), error)),
            Err(_) => {
                sleep(membership.ms(1, IDLE_MS)).await;
                continue;
            }
        };
        let failed = matches!(&delivery, Ok(Delivery::Failed { .. }));
        {
            let state = &mut *membership.lock();
            if state.is_current(of) {
                state.ready.push_back(delivery);
            } else if let Ok(delivery) = delivery {
                let context = &channel.context;
                let superseded = state.positions.contains_key(&of.partition);
                if superseded && channel.random().chance(context.options.stale_deliveries_per_mille) {
                    context.observe(Sometimes::StaleDelivery);
                    state.ready.push_back(Ok(delivery));
                } else if !superseded {
                    state.stale.entry(of.partition).or_default().push(delivery);
                }
            }
        }
        membership.delivered.notify_one();
        if failed {
            return;
        }
    }
}
