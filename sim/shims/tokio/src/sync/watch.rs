//! tokio's `watch`, whose receivers are woken in the order in which they wait. tokio's own spreads them over eight
//! lists by a generator whose seed depends on how many threads of the process have asked for one before.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use real::sync::{Notify, watch};

pub use watch::{Ref, error};

/// Changes the value.
pub struct Sender<T> {
    value: watch::Sender<T>,
    changed: Arc<Notify>,
}

/// Sees the value, and waits for changes.
pub struct Receiver<T> {
    value: watch::Receiver<T>,
    changed: Arc<Notify>,
}

/// A value and who watches it.
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(initial);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody watches yet.
    pub fn new(initial: T) -> Self {
        Self { value: watch::Sender::new(initial), changed: Arc::new(Notify::new()) }
    }

    /// Sets the value.
    ///
    /// # Errors
    /// If nobody watches: then it stays as it is.
    pub fn send(&self, value: T) -> Result<(), error::SendError<T>> {
        self.value.send(value)?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Sets the value, and returns the one before.
    pub fn send_replace(&self, value: T) -> T {
        let before = self.value.send_replace(value);
        self.changed.notify_waiters();
        before
    }

    /// Changes the value.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.value.send_modify(change);
        self.changed.notify_waiters();
    }

    /// Changes the value, or says that it did not.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.value.send_if_modified(change);
        if modified {
            self.changed.notify_waiters();
        }
        modified
    }

    /// The value. It must not be held for long.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// One more who watches, and has seen the value as it is.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), changed: self.changed.clone() }
    }

    /// True if nobody watches.
    pub fn is_closed(&self) -> bool {
        self.value.is_closed()
    }

    /// Waits until nobody watches.
    pub async fn closed(&self) {
        self.value.closed().await;
    }

    /// How many watch.
    pub fn receiver_count(&self) -> usize {
        self.value.receiver_count()
    }
}

impl<T> Receiver<T> {
    /// The value. It must not be held for long.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// The value, which counts as seen then.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Whether the value was not seen yet.
    ///
    /// # Errors
    /// If nobody can change it any more.
    pub fn has_changed(&self) -> Result<bool, error::RecvError> {
        self.value.has_changed()
    }

    /// Lets the value count as not seen.
    pub fn mark_changed(&mut self) {
        self.value.mark_changed();
    }

    /// Lets the value count as seen.
    pub fn mark_unchanged(&mut self) {
        self.value.mark_unchanged();
    }

    /// Waits for a value that was not seen yet, which counts as seen then.
    ///
    /// # Errors
    /// If nobody can change it any more.
    pub async fn changed(&mut self) -> Result<(), error::RecvError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look: a change between the two is not missed.
            changed.as_mut().enable();
            if self.value.borrow().has_changed() {
                self.value.mark_unchanged();
                return Ok(());
            }
            self.value.has_changed()?;
            changed.await;
        }
    }

    /// Waits for a value of which `is_awaited` says so. It is seen then.
    ///
    /// # Errors
    /// If nobody can change it any more.
    pub async fn wait_for(
        &mut self,
        mut is_awaited: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, error::RecvError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let is_there = is_awaited(&self.value.borrow_and_update());
            if is_there {
                break;
            }
            self.value.has_changed()?;
            changed.await;
        }
        Ok(self.value.borrow())
    }

    /// True if both watch the same.
    pub fn same_channel(&self, other: &Self) -> bool {
        self.value.same_channel(&other.value)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: self.changed.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: self.changed.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Perhaps nobody can change it any more. Who is woken looks after this.
        self.changed.notify_waiters();
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
