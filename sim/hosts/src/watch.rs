//! A value that tasks watch.
//!
//! As tokio's `sync::watch`, which wakes tasks in an order that it draws at random: a run of a cluster would depend on more
//! than its seed. Here they wake in the order in which they began to wait.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Shared<T> {
    /// The value, and how often it was set.
    state: Mutex<(T, u64)>,
    changed: Notify,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (T, u64)> {
        // A change that panics leaves the value as the change left it, and the count as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value, for who sets it.
pub struct Watched<T>(Arc<Shared<T>>);

/// A value, for a task that waits for changes. A change that was made before the watcher was created is none.
pub struct Watcher<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.0.lock().0).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Watcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.shared.lock().0).finish()
    }
}

impl<T: Clone> Watched<T> {
    /// A value that nobody watches yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared { state: Mutex::new((value, 0)), changed: Notify::new() }))
    }

    /// The value now.
    pub fn get(&self) -> T {
        self.0.lock().0.clone()
    }

    /// Sets the value. That is a change even if it is equal.
    pub fn set(&self, value: T) {
        self.modify(|current| *current = value);
    }

    /// Changes the value.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.0.lock();
        change(&mut state.0);
        state.1 += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Watches it from now on.
    pub fn watch(&self) -> Watcher<T> {
        Watcher { shared: self.0.clone(), seen: self.0.lock().1 }
    }
}

impl<T: Clone> Watcher<T> {
    /// The value now, which is taken as seen: [`changed`](Self::changed) waits for the next change.
    pub fn see(&mut self) -> T {
        let state = self.shared.lock();
        self.seen = state.1;
        state.0.clone()
    }

    /// Takes the value as seen without a look at it.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.lock().1;
    }

    /// Waits for a change that was not seen, and takes it as seen.
    pub async fn changed(&mut self) {
        loop {
            // Before the look at the value, so that no change gets lost between both.
            let notified = self.shared.changed.notified();
            let changes = self.shared.lock().1;
            if changes != self.seen {
                self.seen = changes;
                return;
            }
            notified.await;
        }
    }

    /// Waits until the value is as demanded, which it may be already.
    pub async fn wait_for(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> T {
        loop {
            let notified = self.shared.changed.notified();
            {
                let state = self.shared.lock();
                self.seen = state.1;
                if is_wanted(&state.0) {
                    return state.0.clone();
                }
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_wake_in_the_order_in_which_they_began_to_wait() {
        let value = Watched::new(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..50).map(|number| {
            let (mut watcher, order) = (value.watch(), order.clone());
            tokio::spawn(async move {
                watcher.changed().await;
                order.lock().unwrap().push(number);
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tokio::task::yield_now().await;
        value.set(1);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_once_and_one_that_was_marked_not_at_all() {
        let value = Watched::new('a');
        let mut watcher = value.watch();
        let soon = std::time::Duration::from_secs(1);
        value.set('b');
        watcher.changed().await;
        assert!(tokio::time::timeout(soon, watcher.changed()).await.is_err());
        value.modify(|value| *value = 'c');
        watcher.mark_unchanged();
        assert!(tokio::time::timeout(soon, watcher.changed()).await.is_err());
        value.set('c');
        assert_eq!(watcher.see(), 'c');
        assert!(tokio::time::timeout(soon, watcher.changed()).await.is_err());
        assert_eq!(watcher.wait_for(|value| *value == 'c').await, 'c');
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_value_gets_it_when_it_is_set() {
        let value = Arc::new(Watched::new(1));
        let mut watcher = value.watch();
        let setter = value.clone();
        tokio::spawn(async move {
            for next in 2..9 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                setter.set(next);
            }
        });
        assert_eq!(watcher.wait_for(|value| *value > 4).await, 5);
        assert_eq!(value.get(), 5);
    }
}
