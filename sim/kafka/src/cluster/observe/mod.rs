//! What an observer of a cluster learns, at the moment when it happens.
//!
//! Events are for who looks at a cluster from outside: they draw it, count rare situations, or begin a fault at a certain
//! point. Brokers behave in the same way with and without an observer, and nothing is computed for one that is not there.
//!
//! Brokers, coordinators and the controller report each for itself, from what they know: a broker that was paused or cut off
//! may report that it leads, or that a member's session is over, while others know better. A process that dies closes its
//! connections, and reports nothing else of what ends with it.

mod event;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use event::Event;

use crate::types::NodeId;

/// Learns what happens in a cluster ([`Options::observer`](super::Options::observer)).
pub trait Observer: Send + Sync {
    /// Something happens. The call is made where it does, while locks of the cluster may be held: the callee must neither
    /// call into the cluster nor wait. To act on an event, let it wake a task.
    fn event(&self, event: &Event<'_>);
}

/// Partitions by the names of their topics.
pub type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// The kind of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorKind {
    /// Of groups: a partition of `__consumer_offsets`.
    Groups,
    /// Of transactions: a partition of `__transaction_state`.
    Transactions,
}

/// The protocol of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupProtocol {
    /// The classic protocol: JoinGroup, SyncGroup, Heartbeat.
    Classic,
    /// The `consumer` protocol (KIP-848): ConsumerGroupHeartbeat.
    Consumer,
}

/// Why a member is not in its group any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// It left by a request, its own or an administrator's.
    Left,
    /// It was not heard of within its session timeout.
    SessionExpired,
    /// It did not join again, ask for its assignment or give up partitions within the rebalance timeout.
    RebalanceTimeout,
    /// Another process joined with its `group.instance.id`, so that this one is fenced.
    Replaced,
    /// The group has as many members as it may have.
    GroupFull,
}

/// Who ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndedBy {
    /// Its producer, with EndTxn.
    Producer,
    /// Another producer that began with the same transactional id, and fenced it.
    NewProducer,
    /// Its coordinator, because it was open for longer than its timeout.
    Timeout,
}

/// The observer of a cluster, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Witness(Option<Arc<dyn Observer>>);

impl Witness {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self(observer)
    }

    /// Whether there is an observer: for events that need work of their own.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Reports an event, which is only made if there is an observer.
    pub(crate) fn see<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = &self.0 {
            observer.event(&event());
        }
    }
}

/// What a part of a broker reports to: the observer, and which broker it is.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    broker: NodeId,
    witness: Witness,
}

impl Observed {
    pub(crate) fn new(broker: NodeId, witness: Witness) -> Self {
        Self { broker, witness }
    }

    /// See [`Witness::is_on`].
    pub(crate) fn is_on(&self) -> bool {
        self.witness.is_on()
    }

    /// Reports an event of the broker.
    pub(crate) fn see<'a>(&self, event: impl FnOnce(NodeId) -> Event<'a>) {
        self.witness.see(|| event(self.broker));
    }
}

impl Default for Observed {
    /// Nobody observes.
    fn default() -> Self {
        Self::new(NodeId(crate::types::NONE), Witness::default())
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Witness").field(&self.is_on()).finish()
    }
}
