//! The broker as a worker sees it. A member of the group does its heartbeats and fetches in tasks of its own,
//! as the real client does in threads; `poll` only hands over what they found.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::broker::group::Share;
use crate::broker::question::{AskGroup, AskLog, GroupAnswer, LogAnswer};
use crate::faults::Point;
use crate::network::{Line, NoAnswer};
use crate::observed;

/// How long a fetcher that has nothing to do waits before it looks again.
const IDLE_MS: u64 = 25;

/// A client of the simulated broker.
#[derive(Clone)]
pub struct BrokerClient(Line);

fn unanswered(what: String, error: NoAnswer) -> BrokerError {
    BrokerError::Retriable { what, cause: Some(error.into()) }
}

impl BrokerClient {
    pub(crate) fn new(line: Line) -> Self {
        Self(line)
    }

    async fn ask(&self, ask: AskLog) -> Result<LogAnswer, BrokerError> {
        match self.0.ask(&ask).await {
            Ok(LogAnswer::Refused(error)) => Err(error),
            Ok(answer) => Ok(answer),
            Err(error) => Err(unanswered(ask.to_string(), error)),
        }
    }
}

impl Broker for BrokerClient {
    type Consumer = GroupMember;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        match self.ask(AskLog::Topic(topic.to_owned())).await? {
            LogAnswer::Topic(topic) => Ok(topic),
            _ => unreachable!("the log answers what it was asked"),
        }
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        match self.ask(AskLog::Offsets(topic.to_owned(), partition)).await? {
            LogAnswer::Offsets(log) => Ok(log),
            _ => unreachable!("the log answers what it was asked"),
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
        let ask = AskLog::Fetch { topic: topic.to_owned(), partition, offset, max_records };
        match self.ask(ask).await? {
            LogAnswer::Fetched { fetched, .. } => Ok(fetched),
            _ => unreachable!("the log answers what it was asked"),
        }
    }

    async fn subscribe(&self, _group: &str, topic: &str) -> Result<GroupMember, BrokerError> {
        let member = join(&self.0).await?;
        let shared = Arc::new(Shared {
            line: self.0.clone(),
            topic: topic.to_owned(),
            state: Mutex::new(State { member, polled_ms: self.0.stage.now_ms(), ..State::default() }),
            delivered: Notify::new(),
            hurry: Notify::new(),
        });
        tokio::spawn(stay_member(shared.clone()));
        Ok(GroupMember { shared })
    }
}

async fn join(line: &Line) -> Result<u64, BrokerError> {
    match line.ask(&AskGroup::Join).await {
        Ok(GroupAnswer::Joined(member)) => Ok(member),
        Ok(_) => unreachable!("the group answers what it was asked"),
        Err(error) => Err(unanswered("join".to_owned(), error)),
    }
}

/// A member of the group.
pub struct GroupMember {
    shared: Arc<Shared>,
}

struct Shared {
    line: Line,
    topic: String,
    state: Mutex<State>,
    /// Something is ready to be polled.
    delivered: Notify,
    /// The next heartbeat should not wait.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    member: u64,
    /// The group member is gone; its tasks end.
    closed: bool,
    polled_ms: u64,
    held: BTreeMap<i32, Held>,
    positions: BTreeMap<i32, Position>,
    ready: VecDeque<Result<Delivery, BrokerError>>,
    /// What was fetched for incarnations that are over, and may yet turn up.
    stale: BTreeMap<i32, Vec<Delivery>>,
}

/// A partition that the group gave to this member.
struct Held {
    epoch: u64,
    revoked: bool,
    released: bool,
}

/// Where delivery of a partition stands.
struct Position {
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

    /// How many fetches of an assignment wait to be polled.
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.line.stage.dice().within(low..=high))
    }
}

impl Consumer for GroupMember {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            {
                let state = &mut *self.shared.lock();
                state.polled_ms = self.shared.line.stage.now_ms();
                if let Some(delivery) = state.ready.pop_front() {
                    if let Ok(Delivery::Revoked(partitions) | Delivery::Lost(partitions)) = &delivery {
                        partitions.iter().for_each(|partition| state.retire(*partition));
                    }
                    return delivery;
                }
            }
            // Woken also when nothing came, so that a consumer that waits is not taken for one that is stuck.
            let patience = Duration::from_millis(self.shared.line.stage.world.heartbeat_ms);
            let _ = timeout(patience, self.shared.delivered.notified()).await;
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let stage = &self.shared.line.stage;
        let partition = assignment.partition;
        {
            let state = &mut *self.shared.lock();
            state.retire(partition);
            state.positions.insert(partition, Position { assignment, paused: false });
            for delivery in state.stale.remove(&partition).unwrap_or_default() {
                if stage.dice().chance(stage.world.stale_deliveries_per_mille) {
                    stage.observe(observed::STALE_DELIVERY);
                    state.ready.push_back(Ok(delivery));
                }
            }
        }
        stage.note(format_args!("{} starts {assignment:?} at {offset}", self.shared.line.caller));
        tokio::spawn(fetch(self.shared.clone(), assignment, offset));
    }

    fn pause(&mut self, partition: i32) {
        if let Some(position) = self.shared.lock().positions.get_mut(&partition) {
            position.paused = true;
        }
    }

    fn resume(&mut self, partition: i32) {
        if let Some(position) = self.shared.lock().positions.get_mut(&partition) {
            position.paused = false;
        }
    }

    fn release(&mut self, partition: i32) {
        if let Some(held) = self.shared.lock().held.get_mut(&partition) {
            held.released = true;
        }
        self.shared.hurry.notify_one();
    }

    fn report(&mut self, _partition: i32, _next_offset: i64) {}

    async fn leave(self) {
        let member = {
            let mut state = self.shared.lock();
            state.closed = true;
            state.member
        };
        // Once: who is not heard finds out by the session's end.
        let _ = self.shared.line.ask(&AskGroup::Leave { member }).await;
    }
}

impl Drop for GroupMember {
    /// The member's own tasks end; the group is not told.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
    }
}

/// Heartbeats until the member is closed, and joins again when the group does not know it any more.
async fn stay_member(shared: Arc<Shared>) {
    let (line, world) = (&shared.line, &shared.line.stage.world);
    loop {
        let (member, released, stuck) = {
            let state = shared.lock();
            if state.closed {
                return;
            }
            let released = state.held.iter().filter(|(_, held)| held.released);
            let released = released.map(|(partition, held)| (*partition, held.epoch)).collect();
            (state.member, released, line.stage.now_ms() > state.polled_ms + world.poll_timeout_ms)
        };
        if !stuck {
            match line.ask(&AskGroup::Heartbeat { member, released }).await {
                Ok(GroupAnswer::Shares(shares)) => take_shares(&shared, shares).await,
                Ok(GroupAnswer::UnknownMember) => {
                    take_shares(&shared, Vec::new()).await;
                    if let Ok(member) = join(line).await {
                        shared.lock().member = member;
                    }
                }
                Ok(_) => unreachable!("the group answers what it was asked"),
                // Not knowing is no loss: the worker goes on with what it has.
                Err(NoAnswer::TimedOut | NoAnswer::Overloaded) => {}
            }
        }
        let _ = timeout(Duration::from_millis(world.heartbeat_ms), shared.hurry.notified()).await;
    }
}

/// Tells the worker what changed since the last answer of the group.
async fn take_shares(shared: &Shared, shares: Vec<Share>) {
    let (mut assigned, mut revoked, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    {
        let state = &mut *shared.lock();
        state.held.retain(|partition, held| {
            let kept = shares.iter().any(|share| share.partition == *partition && share.epoch == held.epoch);
            if !kept && !held.released {
                lost.push(*partition);
            }
            kept
        });
        for share in shares {
            let held = state.held.entry(share.partition).or_insert_with(|| {
                assigned.push(share.partition);
                Held { epoch: share.epoch, revoked: false, released: false }
            });
            if share.revoked && !held.revoked {
                held.revoked = true;
                revoked.push(share.partition);
            }
        }
        let news = [
            (!lost.is_empty()).then(|| Delivery::Lost(lost.clone())),
            (!assigned.is_empty()).then(|| Delivery::Assigned(assigned.clone())),
            (!revoked.is_empty()).then(|| Delivery::Revoked(revoked.clone())),
        ];
        for delivery in news.into_iter().flatten() {
            shared.line.stage.note(format_args!("{} is told {delivery:?}", shared.line.caller));
            state.ready.push_back(Ok(delivery));
        }
    }
    shared.delivered.notify_one();
    let (stage, caller) = (&shared.line.stage, shared.line.caller);
    if !lost.is_empty() {
        stage.observe(observed::LOST);
    }
    if !assigned.is_empty() {
        stage.reached(Point::Assigned, caller).await;
    }
    if !revoked.is_empty() {
        stage.reached(Point::Revoked, caller).await;
    }
}

/// Fetches for one assignment until it is over.
async fn fetch(shared: Arc<Shared>, of: Assignment, mut offset: i64) {
    let (line, world) = (&shared.line, &shared.line.stage.world);
    let mut told_end = None;
    loop {
        let step = shared.lock().next_step(of, world.prefetched_fetches);
        match step {
            Step::Fetch => {}
            Step::Wait => {
                sleep(shared.ms(1, IDLE_MS)).await;
                continue;
            }
            Step::End => return,
        }
        let max_records = line.stage.dice().within(1..=world.fetch_records) as usize;
        let ask = AskLog::Fetch { topic: shared.topic.clone(), partition: of.partition, offset, max_records };
        let answer = line.ask(&ask).await;
        let delivery = match answer {
            Ok(LogAnswer::Fetched { fetched: Fetched { records, next_offset }, at_end }) => {
                if let Some(last) = records.last() {
                    // It need not know of a gap behind the last record.
                    let knows_gap = line.stage.dice().coin();
                    let next_offset = if knows_gap { next_offset } else { last.offset + 1 };
                    offset = next_offset;
                    Ok(Delivery::Records { assignment: of, records, next_offset })
                } else {
                    offset = next_offset;
                    if at_end && told_end != Some(offset) {
                        told_end = Some(offset);
                        Ok(Delivery::End { assignment: of, offset })
                    } else {
                        sleep(shared.ms(1, IDLE_MS * 2)).await;
                        continue;
                    }
                }
            }
            Ok(LogAnswer::Refused(error)) => Ok(Delivery::Failed { assignment: of, offset, error }),
            Ok(_) => unreachable!("the log answers what it was asked"),
            // Mostly the client asks again by itself; at times the worker hears of it.
            Err(error) if line.stage.dice().chance(200) => Err(unanswered("fetch".to_owned(), error)),
            Err(_) => {
                sleep(shared.ms(1, IDLE_MS)).await;
                continue;
            }
        };
        let failed = matches!(&delivery, Ok(Delivery::Failed { .. }));
        {
            let state = &mut *shared.lock();
            if state.is_current(of) {
                state.ready.push_back(delivery);
            } else if let Ok(delivery) = delivery {
                let stage = &line.stage;
                let superseded = state.positions.contains_key(&of.partition);
                if superseded && stage.dice().chance(stage.world.stale_deliveries_per_mille) {
                    stage.observe(observed::STALE_DELIVERY);
                    state.ready.push_back(Ok(delivery));
                } else if !superseded {
                    state.stale.entry(of.partition).or_default().push(delivery);
                }
            }
        }
        shared.delivered.notify_one();
        if failed {
            return;
        }
    }
}
