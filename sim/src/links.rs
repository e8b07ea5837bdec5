//! The links between workers and simple services: who serves, which links are cut, and what is still under way.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use madsim::plugin;
use madsim::task::NodeId;
use tokio::sync::mpsc;

use crate::parties::Service;

/// A message whose type its receiver knows.
pub(crate) type Message = Box<dyn Any + Send>;

/// The services that serve, and the links that are cut. The node of a service that is killed drops its receiver.
#[derive(Default)]
pub(crate) struct Links {
    services: Mutex<BTreeMap<Service, (NodeId, mpsc::UnboundedSender<Message>)>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    delayed: AtomicUsize,
}

/// A request that a service will apply later, or again.
pub(crate) struct Delayed<'a>(&'a AtomicUsize);

impl Drop for Delayed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Links {
    /// How many requests a service will apply later, or again.
    pub fn delayed(&self) -> usize {
        self.delayed.load(Ordering::Relaxed)
    }

    /// Counts a request that will be applied later, as long as the result lives.
    pub fn delay(&self) -> Delayed<'_> {
        self.delayed.fetch_add(1, Ordering::Relaxed);
        Delayed(&self.delayed)
    }

    /// Cuts the link from one node to another. The other direction is not affected.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).insert((from, to));
    }

    /// Undoes [`cut`](Self::cut).
    pub fn restore(&self, from: NodeId, to: NodeId) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).remove(&(from, to));
    }

    /// True if messages from one node to another are lost.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).contains(&(from, to))
    }

    /// The requests to a service whose node is the current one.
    pub fn serve(&self, service: Service) -> mpsc::UnboundedReceiver<Message> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.insert(service, (plugin::node(), sender));
        receiver
    }

    /// Where the requests to a service are received, if it serves.
    pub fn of(&self, service: Service) -> Option<(NodeId, mpsc::UnboundedSender<Message>)> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(&service).cloned()
    }
}
