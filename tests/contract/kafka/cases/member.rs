//! A member of a group that does what a worker does, and remembers everything it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exactlyonce::broker::{Assignment, Broker, Consumer, Delivery};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::helpers::{PATIENCE, kind};

/// Where each partition goes on: what a store is to workers. Shared by members.
#[derive(Clone, Default)]
pub struct Positions(Arc<Mutex<BTreeMap<i32, i64>>>);

impl Positions {
    /// These, and 0 for all others.
    pub fn at(positions: impl IntoIterator<Item = (i32, i64)>) -> Self {
        Self(Arc::new(Mutex::new(positions.into_iter().collect())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, partition: i32) -> i64 {
        self.lock().get(&partition).copied().unwrap_or(0)
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<i32, i64> {
        self.lock().clone()
    }
}

/// What a member was told. Values are kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
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
    /// `poll` ended the membership.
    Ended(&'static str),
}

/// What a member does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Starts what it is assigned, at the position that is kept for it, and releases what is revoked.
    Worker,
    /// Starts as a worker does, and releases only when told to.
    Holds,
    /// Does nothing that it is not told to.
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
    told: Arc<Mutex<Vec<Told>>>,
    commands: UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Member {
    /// Joins as a worker.
    pub async fn join<B: Broker>(broker: &B, group: &str, topic: &str, positions: &Positions) -> Self {
        Self::join_as(Habit::Worker, broker, group, topic, positions).await
    }

    /// Joins.
    pub async fn join_as<B: Broker>(
        habit: Habit,
        broker: &B,
        group: &str,
        topic: &str,
        positions: &Positions,
    ) -> Self {
        let consumer =
            super::helpers::patiently(|| broker.subscribe(group, topic)).await.expect("a membership");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (commands, received) = unbounded_channel();
        let life = Life {
            consumer,
            habit,
            incarnation: 0,
            current: BTreeMap::new(),
            positions: positions.clone(),
            told: told.clone(),
        };
        Self { told, commands, task: tokio::spawn(life.live(received)) }
    }

    fn command(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the membership ended: {:?}", self.told().last());
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

    /// Leaves, and returns what it was told until then.
    pub async fn leave(self) -> Vec<Told> {
        self.command(Command::Leave);
        self.ended().await
    }

    /// Ends without a word, and returns what it was told until then.
    pub async fn crash(self) -> Vec<Told> {
        self.task.abort();
        self.ended().await
    }

    async fn ended(mut self) -> Vec<Told> {
        match (&mut self.task).await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => self.told(),
        }
    }

    /// Everything so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much it was told so far; for [`Member::since`].
    pub fn mark(&self) -> usize {
        self.told().len()
    }

    /// What it was told after a mark.
    pub fn since(&self, mark: usize) -> Vec<Told> {
        self.told().split_off(mark)
    }

    /// Waits until what it was told is enough.
    pub async fn until(&self, what: &str, enough: impl Fn(&[Told]) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if enough(&told) {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{what}: not within {PATIENCE:?}; told: {}", brief(&told));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it owns exactly so many partitions.
    pub async fn until_owns(&self, count: usize) {
        self.until(&format!("{count} partitions"), |told| owned(told).len() == count).await;
    }

    /// Waits until each of these ends was told.
    pub async fn until_ends(&self, ends: &[(i32, i64)]) {
        let reached = |told: &[Told], partition, end| {
            told.iter().any(|told| {
                matches!(told, Told::End { at, offset } if at.partition == partition && *offset == end)
            })
        };
        let all = |told: &[Told]| ends.iter().all(|&(partition, end)| reached(told, partition, end));
        self.until(&format!("the ends {ends:?}"), all).await;
    }

    /// Waits until it was delivered so many records.
    pub async fn until_delivered(&self, partition: i32, count: usize) {
        let what = format!("{count} records of partition {partition}");
        self.until(&what, |told| delivered(told, partition).len() >= count).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Life<C> {
    consumer: C,
    habit: Habit,
    incarnation: u64,
    /// The incarnation of each partition that is started.
    current: BTreeMap<i32, u64>,
    positions: Positions,
    told: Arc<Mutex<Vec<Told>>>,
}

impl<C: Consumer> Life<C> {
    async fn live(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            // Biased: what is chosen must not be left to chance.
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
                    Err(error) => return self.remember(Told::Ended(kind(&error))),
                },
            }
        }
    }

    fn remember(&self, told: Told) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
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
                self.remember(Told::Assigned(sorted(&partitions)));
                if self.habit != Habit::Idle {
                    for partition in partitions {
                        self.start(partition, self.positions.of(partition));
                    }
                }
            }
            Delivery::Revoked(partitions) => {
                self.remember(Told::Revoked(sorted(&partitions)));
                if self.habit == Habit::Worker {
                    partitions.into_iter().for_each(|partition| self.release(partition));
                }
            }
            Delivery::Lost(partitions) => {
                self.remember(Told::Lost(sorted(&partitions)));
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
                self.remember(Told::Records { at: assignment, records, next: next_offset });
            }
            Delivery::End { assignment, offset } => {
                if self.current.get(&assignment.partition) == Some(&assignment.incarnation) {
                    self.positions.lock().insert(assignment.partition, offset);
                }
                self.remember(Told::End { at: assignment, offset });
            }
            Delivery::Failed { assignment, offset, error } => {
                self.remember(Told::Failed { at: assignment, offset, kind: kind(&error) });
            }
        }
    }
}

fn sorted(partitions: &[i32]) -> Vec<i32> {
    let mut sorted = partitions.to_vec();
    sorted.sort_unstable();
    sorted
}

/// What a member owns after it was told this.
pub fn owned(told: &[Told]) -> Vec<i32> {
    let mut owned = std::collections::BTreeSet::new();
    for told in told {
        match told {
            Told::Assigned(partitions) => owned.extend(partitions),
            Told::Revoked(partitions) | Told::Lost(partitions) => {
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
pub fn delivered(told: &[Told], partition: i32) -> Vec<(i64, String)> {
    let records = |told: &Told| match told {
        Told::Records { at, records, .. } if at.partition == partition => records.clone(),
        _ => Vec::new(),
    };
    told.iter().flat_map(records).collect()
}

/// Offsets of one partition, as delivered.
pub fn offsets_delivered(told: &[Told], partition: i32) -> Vec<i64> {
    delivered(told, partition).into_iter().map(|(offset, _)| offset).collect()
}

/// Whether anything was said of the membership: assigned, revoked, lost, ended.
pub fn of_the_group(told: &[Told]) -> Vec<Told> {
    let of_the_group =
        |told: &&Told| matches!(told, Told::Assigned(_) | Told::Revoked(_) | Told::Lost(_) | Told::Ended(_));
    told.iter().filter(of_the_group).cloned().collect()
}

/// The kinds of what was said of the membership, in order, without partitions.
pub fn words(told: &[Told]) -> String {
    let word = |told: &Told| match told {
        Told::Assigned(partitions) if partitions.is_empty() => Some("assigned nothing"),
        Told::Assigned(_) => Some("assigned"),
        Told::Revoked(_) => Some("revoked"),
        Told::Lost(_) => Some("lost"),
        Told::Ended(kind) => Some(*kind),
        _ => None,
    };
    let mut words: Vec<_> = told.iter().filter_map(word).collect();
    words.dedup();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// For a failure's message.
pub fn brief(told: &[Told]) -> String {
    let line = |told: &Told| match told {
        Told::Records { at, records, next } => {
            let offsets: Vec<_> = records.iter().map(|(offset, _)| *offset).collect();
            format!("records {at:?} {} next {next}", super::helpers::ranges(&offsets))
        }
        other => format!("{other:?}"),
    };
    told.iter().map(line).collect::<Vec<_>>().join("; ")
}
