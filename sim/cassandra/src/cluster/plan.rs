//! Which replicas get a request and how many of them must respond.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use super::NodeId;
use super::node::Node;
use super::ring::Ring;
use crate::coordinator::{Consistency, RequestError};
use crate::schema::Replication;
use crate::storage::Token;

/// How many of which replicas must respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    /// In all.
    pub(crate) block_for: usize,
    /// If set, only replicas in this data centre count.
    only: Option<String>,
    /// If set, this many in each data centre.
    each: Option<BTreeMap<String, usize>>,
}

impl Quota {
    pub(crate) fn new(ring: &Ring, replication: &Replication, consistency: Consistency, local: &str) -> Self {
        let quorum = |factor: usize| factor / 2 + 1;
        let factors = match replication {
            Replication::NetworkTopology { factors } => Some(factors),
            _ => None,
        };
        let total = ring.factor(replication);
        // Without data centres in the replication, every replica counts as local (`ConsistencyLevel.localQuorumFor`).
        let in_local = factors.map_or(total, |factors| factors.get(local).copied().unwrap_or(0));
        let each = factors.filter(|_| consistency == Consistency::EachQuorum).map(|factors| {
            factors.iter().map(|(name, factor)| (name.clone(), quorum(*factor))).collect::<BTreeMap<_, _>>()
        });
        let (block_for, is_local) = match consistency {
            Consistency::Any | Consistency::One => (1, false),
            Consistency::LocalOne => (1, true),
            Consistency::Two => (2, false),
            Consistency::Three => (3, false),
            Consistency::Quorum | Consistency::Serial => (quorum(total), false),
            Consistency::All => (total, false),
            Consistency::LocalQuorum | Consistency::LocalSerial => (quorum(in_local), true),
            Consistency::EachQuorum => {
                (each.as_ref().map_or(quorum(total), |each| each.values().sum()), false)
            }
        };
        Self { block_for, only: is_local.then(|| local.to_owned()), each }
    }

    /// Whether a node's response counts.
    pub(crate) fn counts(&self, ring: &Ring, node: NodeId) -> bool {
        self.only.as_ref().is_none_or(|only| ring.data_center(node) == only)
    }

    /// The error if only these nodes are alive. If each data centre must have enough, it is what the first needs that
    /// has not, and by a mistake of Cassandra's that none is alive (`ReplicaPlans.assureSufficientLiveReplicas`).
    fn unavailable(&self, ring: &Ring, consistency: Consistency, alive: &BTreeSet<NodeId>) -> RequestError {
        let lacks = |name: &str, needed: usize| {
            alive.iter().filter(|node| ring.data_center(**node) == name).count() < needed
        };
        let lacking = self.each.iter().flatten().find(|(name, needed)| lacks(name, **needed));
        let (required, alive) = lacking.map_or((self.block_for, alive.len()), |(_, needed)| (*needed, 0));
        RequestError::Unavailable { consistency, required, alive }
    }

    /// Whether these responses are enough. Those that do not count must not be among them.
    pub(crate) fn is_met(&self, ring: &Ring, responses: &BTreeSet<NodeId>) -> bool {
        responses.len() >= self.block_for
            && self.each.iter().flatten().all(|(name, needed)| {
                responses.iter().filter(|node| ring.data_center(**node) == name).count() >= *needed
            })
    }
}

/// Where a write goes.
#[derive(Debug, Clone)]
pub(crate) struct WritePlan {
    pub(crate) quota: Quota,
    /// The replicas that are believed to be alive; joining ones are among them.
    pub(crate) alive: Vec<NodeId>,
    /// The others.
    pub(crate) down: Vec<NodeId>,
    /// How many replicas count, alive or not.
    pub(crate) candidates: usize,
}

/// Where a read goes.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub(crate) quota: Quota,
    /// Replicas that are contacted first.
    pub(crate) contacts: Vec<NodeId>,
    /// Replicas that can be contacted in addition.
    pub(crate) spare: Vec<NodeId>,
}

impl Node {
    pub(crate) fn quota(&self, replication: &Replication, consistency: Consistency) -> Quota {
        Quota::new(&self.cluster.ring, replication, consistency, &self.member().data_center)
    }

    /// The replicas of a token and how many must acknowledge a write to it.
    ///
    /// # Errors
    ///
    /// `Unavailable` if fewer are believed to be alive.
    pub(crate) fn plan_write(
        &self,
        replication: &Replication,
        token: Token,
        consistency: Consistency,
    ) -> Result<WritePlan, RequestError> {
        let ring = &self.cluster.ring;
        let mut quota = self.quota(replication, consistency);
        let replicas = ring.replicas(replication, token);
        let (alive, down): (Vec<NodeId>, Vec<NodeId>) =
            replicas.iter().partition(|node| self.is_alive(**node));
        // A joining node is written to but does not count as a replica that has the data already.
        let joining =
            alive.iter().filter(|node| self.is_joining(**node) && quota.counts(ring, **node)).count();
        if consistency != Consistency::Any {
            quota.block_for += joining;
        }
        let candidates = replicas.iter().filter(|node| quota.counts(ring, **node)).count() + joining;
        let counted: BTreeSet<NodeId> =
            alive.iter().copied().filter(|node| quota.counts(ring, *node)).collect();
        if consistency != Consistency::Any && !quota.is_met(ring, &counted) {
            return Err(quota.unavailable(ring, consistency, &counted));
        }
        Ok(WritePlan { quota, alive, down, candidates })
    }

    /// The replicas to read from, nearest first: this node, its data centre, the others; otherwise in random order.
    ///
    /// # Errors
    ///
    /// `Unavailable` if too few are believed to be alive.
    pub(crate) fn plan_read(
        &self,
        replication: &Replication,
        replicas: &[NodeId],
        consistency: Consistency,
    ) -> Result<ReadPlan, RequestError> {
        let ring = &self.cluster.ring;
        let quota = self.quota(replication, consistency);
        let mut candidates: Vec<NodeId> = replicas
            .iter()
            .copied()
            .filter(|node| self.is_alive(*node) && !self.is_joining(*node) && quota.counts(ring, *node))
            .collect();
        self.cluster.shuffle(&mut candidates);
        let local = &self.member().data_center;
        candidates.sort_by_key(|node| (*node != self.id, ring.data_center(*node) != local));
        let alive: BTreeSet<NodeId> = candidates.iter().copied().collect();
        let mut contacts = Vec::new();
        let mut spare = Vec::new();
        let mut left = quota.each.clone();
        for node in candidates {
            let is_contacted = match &mut left {
                None => contacts.len() < quota.block_for,
                Some(left) => match left.get_mut(ring.data_center(node)) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        true
                    }
                    _ => false,
                },
            };
            if is_contacted { contacts.push(node) } else { spare.push(node) }
        }
        if !quota.is_met(ring, &contacts.iter().copied().collect()) {
            return Err(quota.unavailable(ring, consistency, &alive));
        }
        Ok(ReadPlan { quota, contacts, spare })
    }
}

/// Shuffles items.
pub(crate) fn shuffle<T>(random: &mut dyn Rng, things: &mut [T]) {
    for at in (1..things.len()).rev() {
        things.swap(at, (random.next_u64() % (at as u64 + 1)) as usize);
    }
}
