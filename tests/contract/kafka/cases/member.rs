//! A member of a group that behaves like a worker and records all its events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exactlyonce::broker::{Assignment, Broker, Consumer, Delivery};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::helpers::{TIMEOUT, kind};

/// The next offset of each partition, as in the store of a pipeline. Shared by members.
#[derive(Clone, Default)]
pub struct Positions(Arc<Mutex<BTreeMap<i32, i64>>>);

impl Positions {
    /// These positions, and 0 for all other partitions.
    pub fn at(positions: impl IntoIterator<Item = (i32, i64)>) -> Self {
        Self(Arc::new(Mutex::new(positions.into_iter().collect())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, partition: i32) -> i64 {
        self.lock().get(&partition).copied().unwrap_or(0)
    }

    /// The positions of all partitions.
    pub fn all(&self) -> BTreeMap<i32, i64> {
        self.lock().clone()
    }
}

/// An event of a member. Values are texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
    Records {
        at: Assignment,
        records: Vec<(i64, String)>,
        next: i64,
    },
    End {
        at: Assignment,
        offset: i64,
    },
    Failed {
        at: Assignment,
        offset: i64,
        kind: &'static str,
    },
    /// `poll` returned an error that ended the membership.
    Ended(&'static str),
}

/// What a member does on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Starts assigned partitions at the stored positions, and releases revoked ones.
    Worker,
    /// Starts assigned partitions like a worker, and releases revoked ones only on command.
    Holds,
    /// Acts only on command.
    Idle,
}

enum Command {
    Start(i32, i64),
    Pause(i32),
    Resume(i32),
    Release(i32),
    Report(i32, i64),
    Leave,
}

/// A member. Dropping it is a crash.
pub struct Member {
    events: Arc<Mutex<Vec<MemberEvent>>>,
    commands: UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Member {
    /// Joins as a worker.
    pub async fn join<B: Broker>(broker: &B, group: &str, topic: &str, positions: &Positions) -> Self {
        Self::join_as(Behaviour::Worker, broker, group, topic, positions).await
    }

    /// Joins.
    pub async fn join_as<B: Broker>(
        habit: Behaviour,
        broker: &B,
        group: &str,
        topic: &str,
        positions: &Positions,
    ) -> Self {
        let consumer = super::helpers::retry(|| broker.subscribe(group, topic)).await.expect("a membership");
        let events = Arc::new(Mutex::new(Vec::new()));
        let (commands, received) = unbounded_channel();
        let task = MemberTask {
            consumer,
            habit,
            incarnation: 0,
            current: BTreeMap::new(),
            positions: positions.clone(),
            events: events.clone(),
        };
        Self { events, commands, task: tokio::spawn(task.run(received)) }
    }

    fn command(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the membership ended: {:?}", self.events().last());
    }

    /// Starts a partition as the next incarnation.
    pub fn start(&self, partition: i32, offset: i64) {
        self.command(Command::Start(partition, offset));
    }

    pub fn pause(&self, partition: i32) {
        self.command(Command::Pause(partition));
    }

    pub fn resume(&self, partition: i32) {
        self.command(Command::Resume(partition));
    }

    pub fn release(&self, partition: i32) {
        self.command(Command::Release(partition));
    }

    pub fn report(&self, partition: i32, offset: i64) {
        self.command(Command::Report(partition, offset));
    }

    /// Leaves, and returns what it received until then.
    pub async fn leave(self) -> Vec<MemberEvent> {
        self.command(Command::Leave);
        self.ended().await
    }

    /// Ends without leaving the group, and returns what it received until then.
    pub async fn crash(self) -> Vec<MemberEvent> {
        self.task.abort();
        self.ended().await
    }

    async fn ended(mut self) -> Vec<MemberEvent> {
        match (&mut self.task).await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => self.events(),
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<MemberEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of events so far, for [`Member::since`].
    pub fn mark(&self) -> usize {
        self.events().len()
    }

    /// The events after a mark.
    pub fn since(&self, mark: usize) -> Vec<MemberEvent> {
        self.events().split_off(mark)
    }

    /// Waits until the events satisfy a condition.
    pub async fn until(&self, what: &str, enough: impl Fn(&[MemberEvent]) -> bool) {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let events = self.events();
            if enough(&events) {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{what}: not within {TIMEOUT:?}; events: {}", brief(&events));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it owns exactly this many partitions.
    pub async fn until_owns(&self, count: usize) {
        self.until(&format!("{count} partitions"), |events| owned(events).len() == count).await;
    }

    /// Waits until it received each of these ends.
    pub async fn until_ends(&self, ends: &[(i32, i64)]) {
        let reached = |events: &[MemberEvent], partition, end| {
            events.iter().any(|events| {
                matches!(events, MemberEvent::End { at, offset } if at.partition == partition && *offset == end)
            })
        };
        let all =
            |events: &[MemberEvent]| ends.iter().all(|&(partition, end)| reached(events, partition, end));
        self.until(&format!("the ends {ends:?}"), all).await;
    }

    /// Waits until it received this many records.
    pub async fn until_delivered(&self, partition: i32, count: usize) {
        let what = format!("{count} records of partition {partition}");
        self.until(&what, |events| delivered(events, partition).len() >= count).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct MemberTask<C> {
    consumer: C,
    habit: Behaviour,
    incarnation: u64,
    /// The incarnation of each partition that is started.
    current: BTreeMap<i32, u64>,
    positions: Positions,
    events: Arc<Mutex<Vec<MemberEvent>>>,
}

impl<C: Consumer> MemberTask<C> {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            // Biased, so that the order is deterministic.
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Start(partition, offset)) => self.start(partition, offset),
                    Some(Command::Pause(partition)) => self.consumer.pause(partition),
                    Some(Command::Resume(partition)) => self.consumer.resume(partition),
                    Some(Command::Release(partition)) => self.release(partition),
                    Some(Command::Report(partition, offset)) => self.consumer.report(partition, offset),
                    Some(Command::Leave) => return self.consumer.leave().await,
                    None => return,
                },
                delivery = self.consumer.poll() => match delivery {
                    Ok(delivery) => self.take(delivery),
                    Err(error) if error.is_retriable() => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => return self.remember(MemberEvent::Ended(kind(&error))),
                },
            }
        }
    }

    fn remember(&self, events: MemberEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(events);
    }

    fn start(&mut self, partition: i32, offset: i64) {
        self.incarnation += 1;
        self.current.insert(partition, self.incarnation);
        self.consumer.start(Assignment { partition, incarnation: self.incarnation }, offset);
    }

    fn release(&mut self, partition: i32) {
        self.current.remove(&partition);
        self.consumer.release(partition);
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Assigned(partitions) => {
                self.remember(MemberEvent::Assigned(sorted(&partitions)));
                if self.habit != Behaviour::Idle {
                    for partition in partitions {
                        self.start(partition, self.positions.of(partition));
                    }
                }
            }
            Delivery::Revoked(partitions) => {
                self.remember(MemberEvent::Revoked(sorted(&partitions)));
                if self.habit == Behaviour::Worker {
                    partitions.into_iter().for_each(|partition| self.release(partition));
                }
            }
            Delivery::Lost(partitions) => {
                self.remember(MemberEvent::Lost(sorted(&partitions)));
                for partition in partitions {
                    self.current.remove(&partition);
                }
            }
            Delivery::Records { assignment, records, next_offset } => {
                if self.current.get(&assignment.partition) == Some(&assignment.incarnation) {
                    self.positions.lock().insert(assignment.partition, next_offset);
                }
                let text =
                    |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
                let records = records.into_iter().map(|record| (record.offset, text(record.value))).collect();
                self.remember(MemberEvent::Records { at: assignment, records, next: next_offset });
            }
            Delivery::End { assignment, offset } => {
                if self.current.get(&assignment.partition) == Some(&assignment.incarnation) {
                    self.positions.lock().insert(assignment.partition, offset);
                }
                self.remember(MemberEvent::End { at: assignment, offset });
            }
            Delivery::Failed { assignment, offset, error } => {
                self.remember(MemberEvent::Failed { at: assignment, offset, kind: kind(&error) });
            }
        }
    }
}

fn sorted(partitions: &[i32]) -> Vec<i32> {
    let mut sorted = partitions.to_vec();
    sorted.sort_unstable();
    sorted
}

/// The partitions that a member owns after these events.
pub fn owned(events: &[MemberEvent]) -> Vec<i32> {
    let mut owned = std::collections::BTreeSet::new();
    for events in events {
        match events {
            MemberEvent::Assigned(partitions) => owned.extend(partitions),
            MemberEvent::Revoked(partitions) | MemberEvent::Lost(partitions) => {
                partitions.iter().for_each(|partition| {
                    owned.remove(partition);
                });
            }
            _ => {}
        }
    }
    owned.into_iter().collect()
}

/// Offsets and values of one partition, as delivered.
pub fn delivered(events: &[MemberEvent], partition: i32) -> Vec<(i64, String)> {
    let records = |events: &MemberEvent| match events {
        MemberEvent::Records { at, records, .. } if at.partition == partition => records.clone(),
        _ => Vec::new(),
    };
    events.iter().flat_map(records).collect()
}

/// Offsets of one partition, as delivered.
pub fn offsets_delivered(events: &[MemberEvent], partition: i32) -> Vec<i64> {
    delivered(events, partition).into_iter().map(|(offset, _)| offset).collect()
}

/// The events of the membership: assigned, revoked, lost, ended.
pub fn of_the_group(events: &[MemberEvent]) -> Vec<MemberEvent> {
    let of_the_group = |events: &&MemberEvent| {
        matches!(
            events,
            MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Lost(_) | MemberEvent::Ended(_)
        )
    };
    events.iter().filter(of_the_group).cloned().collect()
}

/// The kinds of the events of the membership, in order, without partitions.
pub fn summary(events: &[MemberEvent]) -> String {
    let name = |events: &MemberEvent| match events {
        MemberEvent::Assigned(partitions) if partitions.is_empty() => Some("assigned nothing"),
        MemberEvent::Assigned(_) => Some("assigned"),
        MemberEvent::Revoked(_) => Some("revoked"),
        MemberEvent::Lost(_) => Some("lost"),
        MemberEvent::Ended(kind) => Some(*kind),
        _ => None,
    };
    let mut names: Vec<_> = events.iter().filter_map(name).collect();
    names.dedup();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// A short text of events, for failure messages.
pub fn brief(events: &[MemberEvent]) -> String {
    let line = |events: &MemberEvent| match events {
        MemberEvent::Records { at, records, next } => {
            let offsets: Vec<_> = records.iter().map(|(offset, _)| *offset).collect();
            format!("records {at:?} {} next {next}", super::helpers::ranges(&offsets))
        }
        other => format!("{other:?}"),
    };
    events.iter().map(line).collect::<Vec<_>>().join("; ")
}
