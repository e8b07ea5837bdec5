//! The next step of a member towards its target (Kafka's `CurrentAssignmentBuilder`).

use uuid::Uuid;

use super::records::collect;
use super::{ConsumerMember, MemberState, Partitions};
use crate::error::ErrorCode;

/// The pairs of topic and partition.
fn pairs(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    partitions.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}

/// Whether a partition is among others.
pub(super) fn contains(partitions: &Partitions, topic: Uuid, partition: i32) -> bool {
    partitions.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
}

/// Whether all partitions are among others.
pub(super) fn is_subset(partitions: &Partitions, of: &Partitions) -> bool {
    pairs(partitions).all(|(topic, partition)| contains(of, topic, partition))
}

/// The member after the next step. `owned` is what it says that it has; `None` if it did not say so. `is_taken` knows
/// whether any member has a partition.
///
/// # Errors
/// FENCED_MEMBER_EPOCH for a member whose state is not known, unless it has nothing.
pub(super) fn reconcile(
    member: &ConsumerMember,
    epoch: i32,
    target: &Partitions,
    owned: Option<&Partitions>,
    is_taken: impl Fn(Uuid, i32) -> bool,
) -> Result<ConsumerMember, ErrorCode> {
    if member.is_reconciled(epoch) {
        return Ok(member.clone());
    }
    // A member that does not say what it has still has all of it.
    let still_has = |revoked: &Partitions| {
        owned.is_none_or(|owned| pairs(owned).any(|(topic, partition)| contains(revoked, topic, partition)))
    };
    let from = match member.state {
        MemberState::Stable | MemberState::UnreleasedPartitions => member.epoch,
        MemberState::UnrevokedPartitions if still_has(&member.pending_revocation) => {
            return Ok(member.clone());
        }
        // It takes the next epoch even if more is to be revoked, so that its timeout begins again.
        MemberState::UnrevokedPartitions => member.epoch.wrapping_add(1),
        MemberState::Unknown if owned.is_none_or(|owned| !owned.is_empty()) => {
            return Err(ErrorCode::FencedMemberEpoch);
        }
        MemberState::Unknown => epoch,
    };
    let kept =
        collect(pairs(&member.assigned).filter(|(topic, partition)| contains(target, *topic, *partition)));
    let revoked =
        collect(pairs(&member.assigned).filter(|(topic, partition)| !contains(target, *topic, *partition)));
    let missing: Vec<_> =
        pairs(target).filter(|(topic, partition)| !contains(&kept, *topic, *partition)).collect();
    let (taken, free): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|(topic, partition)| is_taken(*topic, *partition));
    let step = |state, epoch, assigned, pending_revocation| ConsumerMember {
        previous_epoch: member.epoch,
        epoch,
        state,
        assigned,
        pending_revocation,
        ..member.clone()
    };
    if !revoked.is_empty() && still_has(&revoked) {
        return Ok(step(MemberState::UnrevokedPartitions, from, kept, revoked));
    }
    let state = if taken.is_empty() { MemberState::Stable } else { MemberState::UnreleasedPartitions };
    let assigned = collect(pairs(&kept).chain(free));
    Ok(step(state, epoch, assigned, Partitions::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Uuid {
        Uuid::from_u128(1)
    }

    fn of(partitions: &[i32]) -> Partitions {
        collect(partitions.iter().map(|partition| (topic(), *partition)))
    }

    fn member(epoch: i32, assigned: &[i32]) -> ConsumerMember {
        ConsumerMember { epoch, previous_epoch: epoch, assigned: of(assigned), ..ConsumerMember::new("m") }
    }

    fn step(
        member: &ConsumerMember,
        epoch: i32,
        target: &[i32],
        owned: Option<&[i32]>,
        taken: &[i32],
    ) -> ConsumerMember {
        let owned = owned.map(of);
        reconcile(member, epoch, &of(target), owned.as_ref(), |_, partition| taken.contains(&partition))
            .expect("a step")
    }

    #[test]
    fn a_member_stays_in_its_epoch_until_it_has_given_up_what_it_shall_not_keep() {
        let first = step(&member(10, &[1, 2, 3]), 11, &[2, 3, 4], None, &[1, 2, 3]);
        assert_eq!((first.epoch, first.state), (10, MemberState::UnrevokedPartitions));
        assert_eq!((&first.assigned, &first.pending_revocation), (&of(&[2, 3]), &of(&[1])));
        // It has not said that it gave it up.
        assert_eq!(step(&first, 11, &[2, 3, 4], None, &[1, 2, 3]), first);
        assert_eq!(step(&first, 11, &[2, 3, 4], Some(&[1, 2, 3]), &[1, 2, 3]), first);
        let second = step(&first, 11, &[2, 3, 4], Some(&[2, 3]), &[1, 2, 3]);
        assert_eq!((second.epoch, second.previous_epoch, second.state), (11, 10, MemberState::Stable));
        assert_eq!(second.assigned, of(&[2, 3, 4]));
    }

    #[test]
    fn a_partition_that_another_has_is_not_given() {
        let first = step(&member(10, &[]), 11, &[1, 2], Some(&[]), &[2]);
        assert_eq!((first.epoch, first.state), (11, MemberState::UnreleasedPartitions));
        assert_eq!(first.assigned, of(&[1]));
        let second = step(&first, 11, &[1, 2], None, &[1]);
        assert_eq!((second.state, second.assigned), (MemberState::Stable, of(&[1, 2])));
    }

    #[test]
    fn a_member_with_its_target_only_takes_the_epoch() {
        let next = step(&member(10, &[1]), 12, &[1], None, &[1]);
        assert_eq!((next.epoch, next.previous_epoch, next.state), (12, 10, MemberState::Stable));
    }

    #[test]
    fn a_member_that_already_gave_a_partition_up_skips_the_wait() {
        let next = step(&member(10, &[1, 2]), 11, &[2], Some(&[2]), &[1, 2]);
        assert_eq!((next.epoch, next.state, next.assigned), (11, MemberState::Stable, of(&[2])));
    }

    #[test]
    fn a_member_of_unknown_state_is_fenced_unless_it_has_nothing() {
        let unknown = ConsumerMember { state: MemberState::Unknown, ..member(10, &[1]) };
        let refused = reconcile(&unknown, 11, &of(&[1]), None, |_, _| false);
        assert_eq!(refused, Err(ErrorCode::FencedMemberEpoch));
        assert_eq!(step(&unknown, 11, &[1], Some(&[]), &[1]).state, MemberState::Stable);
    }
}
