//! The requests of a simulated node to others that are in flight, and their responses.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tokio::time::{Instant, timeout_at};

/// The requests in flight, by number, with responses of type `R`.
pub struct Calls<R>(Mutex<BTreeMap<u64, Received<R>>>);

/// The responses that nobody has looked at, and the task that waits for one.
struct Received<R> {
    responses: VecDeque<R>,
    task: Option<Waker>,
}

impl<R> fmt::Debug for Calls<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl<R> Default for Calls<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> Calls<R> {
    /// A request is sent, perhaps to several nodes, perhaps several times.
    pub fn begin(self: &Arc<Self>, number: u64) -> Call<R> {
        let received = Received { responses: VecDeque::new(), task: None };
        self.lock().insert(number, received);
        Call { calls: self.clone(), number }
    }

    /// A response arrives. One to a request that is over is ignored.
    pub fn respond(&self, number: u64, response: R) {
        let mut calls = self.lock();
        if let Some(received) = calls.get_mut(&number) {
            received.responses.push_back(response);
            if let Some(task) = received.task.take() {
                drop(calls);
                task.wake();
            }
        }
    }

    /// Forgets all of them: no response arrives any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Received<R>>> {
        // Nothing panics while it holds the lock half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight. Responses that arrive after it is dropped are ignored.
pub struct Call<R> {
    calls: Arc<Calls<R>>,
    number: u64,
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<R> Call<R> {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next response; none at the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Option<R> {
        let response = poll_fn(|context| {
            let mut calls = self.calls.lock();
            // Otherwise it was forgotten: nothing comes any more.
            let Some(received) = calls.get_mut(&self.number) else { return Poll::Pending };
            match received.responses.pop_front() {
                Some(response) => Poll::Ready(response),
                None => {
                    received.task = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        timeout_at(deadline, response).await.ok()
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_its_own_responses_in_order_until_its_deadline() {
        let calls = Arc::<Calls<char>>::default();
        let (mut one, mut other) = (calls.begin(1), calls.begin(2));
        let deadline = Instant::now() + Duration::from_secs(1);
        for (number, response) in [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')] {
            calls.respond(number, response);
        }
        assert_eq!((one.next(deadline).await, one.next(deadline).await), (Some('a'), Some('c')));
        assert_eq!(other.next(deadline).await, Some('b'));
        let responding = calls.clone();
        tokio::spawn(async move { responding.respond(1, 'e') });
        assert_eq!(one.next(deadline).await, Some('e'));
        assert!(Instant::now() < deadline, "it is woken by the response");
        assert_eq!((one.number(), one.next(deadline).await, Instant::now()), (1, None, deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_a_call_is_dropped_or_forgotten_is_ignored() {
        let calls = Arc::<Calls<char>>::default();
        drop(calls.begin(1));
        assert!(calls.lock().is_empty());
        calls.respond(1, 'a');
        let deadline = || Instant::now() + Duration::from_secs(1);
        assert_eq!(calls.begin(1).next(deadline()).await, None);
        let mut call = calls.begin(2);
        calls.clear();
        calls.respond(2, 'b');
        assert_eq!(call.next(deadline()).await, None);
    }
}
