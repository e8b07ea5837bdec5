//! Who leads a partition, and who is in sync and eligible (`PartitionChangeBuilder`, KIP-966).

use std::collections::BTreeSet;

use crate::metadata::PartitionImage;
use crate::types::NodeId;

/// Why a leader may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Election {
    /// To the first replica, if it is in sync.
    Preferred,
    /// To one that is in sync or eligible, if the leader is not acceptable.
    Online,
    /// Also to any that is alive.
    Unclean,
}

/// A change to a partition that is about to be decided.
pub(super) struct Change<'a> {
    pub(super) partition: &'a PartitionImage,
    /// Whether a broker may lead.
    pub(super) is_acceptable: &'a dyn Fn(NodeId) -> bool,
    pub(super) election: Election,
    /// `min.insync.replicas`, at most the number of replicas.
    pub(super) min_in_sync: usize,
    pub(super) in_sync: Vec<NodeId>,
    /// Replicas that ended uncleanly, so that they may have lost what they had.
    pub(super) unclean: BTreeSet<NodeId>,
    /// Whether eligible leader replicas are kept (`eligible.leader.replicas.version` 1).
    pub(super) keeps_eligible: bool,
}

impl Change<'_> {
    /// The partition after the change; none if it is the same.
    pub(super) fn decide(mut self) -> Option<PartitionImage> {
        let before = self.partition;
        let mut eligible = self.eligible();
        let (elected, is_unclean) = self.elect(&eligible);
        let mut after = before.clone();
        let mut leader_changes = elected != before.leader;
        if leader_changes {
            if let Some(leader) = elected.filter(|leader| eligible.contains(leader)) {
                self.in_sync = vec![leader];
                eligible.retain(|replica| *replica != leader);
            }
            if let Some(leader) = elected.filter(|_| is_unclean) {
                // Data may be lost: everybody else has to copy from it.
                self.in_sync = vec![leader];
                eligible.clear();
                after.recovering = true;
            }
        }
        if !self.in_sync.is_empty() || self.keeps_eligible {
            after.in_sync = self.in_sync;
        }
        after.eligible = if self.keeps_eligible { eligible } else { Vec::new() };
        after.leader = elected;
        if self.keeps_eligible {
            if after.in_sync.is_empty() && !before.in_sync.is_empty() {
                after.last_known_leader = before.leader.or(before.last_known_leader);
            } else if elected.is_some() {
                after.last_known_leader = None;
            }
        }
        // Metadata versions from 3.6 on do not need a new leader epoch when the in-sync set shrinks.
        leader_changes &= after.leader != before.leader;
        if after == *before {
            return None;
        }
        if leader_changes {
            after.leader_epoch += 1;
        }
        after.partition_epoch += 1;
        Some(after)
    }

    fn eligible(&self) -> Vec<NodeId> {
        if !self.keeps_eligible || self.in_sync.len() >= self.min_in_sync {
            return Vec::new();
        }
        let before = self.partition.eligible.iter().chain(&self.partition.in_sync);
        let candidates: BTreeSet<NodeId> = before.copied().collect();
        let is_left = |replica: &NodeId| !self.in_sync.contains(replica) && !self.unclean.contains(replica);
        candidates.into_iter().filter(is_left).collect()
    }

    /// The leader, and whether data may be lost with the election.
    fn elect(&self, eligible: &[NodeId]) -> (Option<NodeId>, bool) {
        let is_valid = |replica: &NodeId| {
            let is_candidate =
                self.in_sync.contains(replica) || (self.in_sync.is_empty() && eligible.contains(replica));
            is_candidate && (self.is_acceptable)(*replica)
        };
        let replicas = &self.partition.replicas;
        if self.election == Election::Preferred
            && let Some(preferred) = replicas.first().filter(|replica| is_valid(replica))
        {
            return (Some(*preferred), false);
        }
        if let Some(leader) = self.partition.leader.filter(|leader| is_valid(leader)) {
            return (Some(leader), false);
        }
        if let Some(online) = replicas.iter().find(|replica| is_valid(replica)) {
            return (Some(*online), false);
        }
        if self.keeps_eligible
            && eligible.is_empty()
            && self.in_sync.is_empty()
            && let Some(last) = self.partition.last_known_leader.filter(|last| (self.is_acceptable)(*last))
        {
            return (Some(last), true);
        }
        if self.election == Election::Unclean
            && let Some(any) = replicas.iter().find(|replica| (self.is_acceptable)(**replica))
        {
            return (Some(*any), true);
        }
        (None, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn partition(in_sync: &[i32], leader: i32) -> PartitionImage {
        PartitionImage {
            replicas: nodes(&[1, 2, 3]),
            in_sync: nodes(in_sync),
            eligible: Vec::new(),
            last_known_leader: None,
            leader: Some(NodeId(leader)),
            leader_epoch: 5,
            partition_epoch: 9,
            recovering: false,
        }
    }

    /// Decides with these brokers alive, without another in the in-sync set.
    fn decide(
        partition: &PartitionImage,
        alive: &[i32],
        without: i32,
        election: Election,
        unclean: &[i32],
    ) -> Option<PartitionImage> {
        let in_sync = partition.in_sync.iter().copied().filter(|id| id.0 != without).collect();
        let is_acceptable = |id: NodeId| alive.contains(&id.0);
        let unclean = nodes(unclean).into_iter().collect();
        let (min_in_sync, keeps_eligible) = (2, true);
        let change = Change {
            partition,
            is_acceptable: &is_acceptable,
            election,
            min_in_sync,
            in_sync,
            unclean,
            keeps_eligible,
        };
        change.decide()
    }

    #[test]
    fn the_next_in_sync_replica_leads_and_the_leader_epoch_grows() {
        let after = decide(&partition(&[1, 2, 3], 1), &[2, 3], 1, Election::Online, &[]).unwrap();
        assert_eq!((after.leader, after.leader_epoch, after.partition_epoch), (Some(NodeId(2)), 6, 10));
        assert_eq!((after.in_sync, after.eligible), (nodes(&[2, 3]), vec![]));
    }

    #[test]
    fn a_follower_that_is_lost_changes_the_partition_epoch_alone() {
        let after = decide(&partition(&[1, 2, 3], 1), &[1, 2], 3, Election::Online, &[]).unwrap();
        assert_eq!((after.leader, after.leader_epoch, after.partition_epoch), (Some(NodeId(1)), 5, 10));
    }

    #[test]
    fn below_the_minimum_who_was_in_sync_stays_eligible_and_may_lead_later() {
        let one = decide(&partition(&[1, 2], 1), &[1, 3], 2, Election::Online, &[]).unwrap();
        assert_eq!((&one.in_sync, &one.eligible), (&nodes(&[1]), &nodes(&[2])));
        let none = decide(&one, &[3], 1, Election::Online, &[]).unwrap();
        assert_eq!((none.leader, &none.in_sync, &none.eligible), (None, &vec![], &nodes(&[1, 2])));
        assert_eq!(none.last_known_leader, Some(NodeId(1)));
        let back = decide(&none, &[2, 3], 0, Election::Online, &[]).unwrap();
        assert_eq!((back.leader, back.in_sync, back.eligible), (Some(NodeId(2)), nodes(&[2]), nodes(&[1])));
        assert!(!back.recovering);
    }

    #[test]
    fn who_ended_uncleanly_is_eligible_no_more_and_then_the_last_leader_leads_uncleanly() {
        let none = decide(&partition(&[1], 1), &[2], 1, Election::Online, &[]).unwrap();
        let gone = decide(&none, &[2], 0, Election::Online, &[1]).unwrap();
        assert_eq!((gone.leader, &gone.eligible, gone.last_known_leader), (None, &vec![], Some(NodeId(1))));
        assert_eq!(decide(&gone, &[2, 3], 0, Election::Online, &[]), None);
        let back = decide(&gone, &[1, 2], 0, Election::Online, &[]).unwrap();
        assert_eq!((back.leader, back.in_sync, back.recovering), (Some(NodeId(1)), nodes(&[1]), true));
        assert_eq!(back.last_known_leader, None);
    }

    #[test]
    fn an_unclean_election_takes_any_that_lives() {
        let lost = partition(&[1], 1);
        assert_eq!(decide(&lost, &[2, 3], 1, Election::Online, &[]).unwrap().leader, None);
        let after = decide(&lost, &[2, 3], 1, Election::Unclean, &[]).unwrap();
        assert_eq!((after.leader, after.in_sync, after.recovering), (Some(NodeId(2)), nodes(&[2]), true));
    }

    #[test]
    fn an_eligible_replica_does_not_lead_while_another_is_in_sync() {
        let one = PartitionImage { eligible: nodes(&[2]), ..partition(&[1], 1) };
        let none = decide(&one, &[2, 3], 0, Election::Online, &[]).unwrap();
        assert_eq!((none.leader, &none.in_sync, &none.eligible), (None, &nodes(&[1]), &nodes(&[2])));
        assert_eq!(decide(&none, &[2, 3], 0, Election::Online, &[]), None);
        assert_eq!(decide(&none, &[1, 2], 0, Election::Online, &[]).unwrap().leader, Some(NodeId(1)));
    }

    #[test]
    fn the_preferred_leader_returns_only_if_it_is_in_sync() {
        let moved = partition(&[2, 3], 2);
        assert_eq!(decide(&moved, &[1, 2, 3], 0, Election::Preferred, &[]), None);
        let joined = partition(&[1, 2, 3], 2);
        let after = decide(&joined, &[1, 2, 3], 0, Election::Preferred, &[]).unwrap();
        assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), 6));
    }
}
