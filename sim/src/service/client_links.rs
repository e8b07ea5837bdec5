//! Cut links between workers and the hosts of a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use simulated_hosts::LinkFault;
use tokio::network::Network;

use crate::context::SimContext;
use crate::parties::worker_ip;
use crate::scenario::fault::{Fault, Host, Kind, Target};

/// The links between workers and the hosts of a cluster.
pub(crate) struct ClientLinks {
    /// The address of a host of the cluster.
    ip: fn(Host) -> Option<IpAddr>,
    /// Held writes and failed connection attempts at the time when a link was cut, by fault.
    before: Mutex<BTreeMap<u64, u64>>,
}

impl ClientLinks {
    pub fn new(ip: fn(Host) -> Option<IpAddr>) -> Self {
        Self { ip, before: Mutex::default() }
    }

    fn before(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directions in which a fault cuts the link of a worker to a host of the cluster.
    fn of(&self, fault: &Fault) -> Vec<(IpAddr, IpAddr)> {
        match (fault.kind, fault.target) {
            (Kind::Link(LinkFault::Cut), Target::Link { from: Host::Worker(worker), to, direction }) => {
                (self.ip)(to).map_or(Vec::new(), |ip| direction.links(worker_ip(worker), ip))
            }
            _ => Vec::new(),
        }
    }

    /// Cuts the link of a fault.
    pub fn cut(&self, fault: &Fault) {
        let network = Network::current();
        let effects = network.effects();
        self.before().insert(fault.id, effects.held + effects.unanswered);
        self.of(fault).into_iter().for_each(|(from, to)| network.cut(from, to));
    }

    /// Restores it. Whether the cut had an effect is known then.
    pub fn restore(&self, context: &SimContext, fault: &Fault) {
        let network = Network::current();
        let (effects, before) = (network.effects(), self.before().remove(&fault.id));
        if before.is_some_and(|before| effects.held + effects.unanswered > before) {
            context.effect(fault);
        }
        self.of(fault).into_iter().for_each(|(from, to)| network.restore(from, to));
        // Another fault may have cut the same link.
        for other in context.active_faults() {
            self.of(&other).into_iter().for_each(|(from, to)| network.cut(from, to));
        }
    }
}
