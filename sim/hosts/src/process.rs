//! The process of a simulated node: its tasks, which stand still while it is paused and end with it, and the messages that
//! arrive while it is paused.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::watch::Watched;

/// A process that gets messages of type `M`. It runs until [`end`](Self::end).
pub struct Process<M> {
    dead: Watched<bool>,
    state: Mutex<State<M>>,
}

struct State<M> {
    /// What wakes each task, by its number.
    tasks: BTreeMap<u64, Waker>,
    next_task: u64,
    /// The messages that arrived while the process is paused.
    paused: Option<Vec<M>>,
}

impl<M> fmt::Debug for Process<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("dead", &self.is_dead()).finish_non_exhaustive()
    }
}

impl<M> Default for Process<M> {
    fn default() -> Self {
        let state = State { tasks: BTreeMap::new(), next_task: 0, paused: None };
        Self { dead: Watched::new(false), state: Mutex::new(state) }
    }
}

impl<M> Process<M> {
    /// What a task of the process does: suspended while the process is paused, and ended with it.
    pub fn task<F>(self: &Arc<Self>, work: F) -> impl Future<Output = ()> + Send + use<F, M>
    where
        F: Future<Output = ()> + Send + 'static,
        M: Send,
    {
        let mut work = Box::pin(work);
        let process = self.clone();
        let mut number = None;
        poll_fn(move |context| {
            let mut state = process.lock();
            let number = *number.get_or_insert_with(|| {
                state.next_task += 1;
                state.next_task
            });
            if process.is_dead() {
                return Poll::Ready(());
            }
            // Whatever wakes it within `work`, the task is also woken when the process continues or ends.
            if state.tasks.get(&number).is_none_or(|noted| !noted.will_wake(context.waker())) {
                state.tasks.insert(number, context.waker().clone());
            }
            // A paused process does nothing at all; its timers go off when it continues.
            if state.paused.is_some() {
                return Poll::Pending;
            }
            drop(state);
            let polled = work.as_mut().poll(context);
            if polled.is_ready() {
                process.lock().tasks.remove(&number);
            }
            polled
        })
    }

    /// Takes a message that arrives. It is returned if the process handles it now: not if it has ended, and not if it is
    /// paused, which keeps the message.
    pub fn receive(&self, message: M) -> Option<M> {
        if self.is_dead() {
            return None;
        }
        match &mut self.lock().paused {
            Some(messages) => messages.push(message),
            None => return Some(message),
        }
        None
    }

    /// Suspends the tasks, and keeps the messages that arrive.
    pub fn pause(&self) {
        self.lock().paused.get_or_insert_default();
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.lock().paused.is_some()
    }

    /// Hands over the messages that arrived meanwhile, and continues the tasks.
    pub fn resume(&self, receive: impl FnMut(M)) {
        let mut state = self.lock();
        let Some(messages) = state.paused.take() else { return };
        let tasks: Vec<Waker> = state.tasks.values().cloned().collect();
        drop(state);
        messages.into_iter().for_each(receive);
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Ends the process: its tasks, and what it has kept.
    pub fn end(&self) {
        self.dead.set(true);
        let mut state = self.lock();
        state.paused = None;
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        tasks.into_values().for_each(Waker::wake);
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Waits for its end.
    pub async fn died(&self) {
        self.dead.watch().wait_for(|dead| *dead).await;
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Nothing panics while it holds the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// A process with a task that counts milliseconds.
    fn counting() -> (Arc<Process<u8>>, Arc<AtomicU32>) {
        let (process, counted) = (Arc::<Process<u8>>::default(), Arc::<AtomicU32>::default());
        let count = counted.clone();
        tokio::spawn(process.task(async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
        (process, counted)
    }

    async fn counted_in(milliseconds: u64, counted: &AtomicU32) -> u32 {
        let before = counted.load(Ordering::Relaxed);
        sleep(Duration::from_millis(milliseconds)).await;
        counted.load(Ordering::Relaxed) - before
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_stand_still_while_the_process_is_paused_and_end_with_it() {
        let (process, counted) = counting();
        assert!(counted_in(10, &counted).await >= 9);
        process.pause();
        assert!(process.is_paused());
        assert_eq!(counted_in(10, &counted).await, 0);
        process.resume(|_| {});
        assert!(counted_in(10, &counted).await >= 9);
        process.end();
        assert_eq!(counted_in(10, &counted).await, 0);
        assert!(process.is_dead());
        process.died().await;
    }

    #[tokio::test]
    async fn messages_that_arrive_in_a_pause_are_handled_after_it_and_none_after_the_end() {
        let process = Process::default();
        assert_eq!(process.receive('a'), Some('a'));
        process.pause();
        assert_eq!((process.receive('b'), process.receive('c')), (None, None));
        let mut received = Vec::new();
        process.resume(|message| received.push(message));
        assert_eq!(received, ['b', 'c']);
        process.pause();
        assert_eq!(process.receive('d'), None);
        process.end();
        assert_eq!(process.receive('e'), None);
        process.resume(|_| unreachable!("what it had kept is lost"));
    }
}
