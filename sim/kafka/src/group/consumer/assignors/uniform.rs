//! `uniform` for members with the same subscription: all get as many partitions as any other, or one more, and keep
//! what they had as far as that allows (Kafka's `UniformHomogeneousAssignmentBuilder`).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::Partitions;
use super::Spec;

pub(super) fn assign(
    members: &BTreeMap<String, Spec>,
    topics: &BTreeSet<Uuid>,
    counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Partitions> {
    let held: BTreeSet<(Uuid, i32)> = members
        .values()
        .flat_map(|spec| spec.target.iter().flat_map(|(topic, all)| all.iter().map(|p| (*topic, *p))))
        .collect();
    let all = topics
        .iter()
        .flat_map(|topic| (0..counts.get(topic).copied().unwrap_or(0)).map(|partition| (*topic, partition)));
    let all: Vec<_> = all.collect();
    let mut free: Vec<_> = all.iter().copied().filter(|partition| !held.contains(partition)).collect();
    let (minimum, mut extra) = (all.len() / members.len().max(1), all.len() % members.len().max(1));
    let mut target: BTreeMap<String, Partitions> = BTreeMap::new();
    let mut unfilled = Vec::new();
    for (index, (id, spec)) in members.iter().enumerate() {
        let mut has_extra = extra > 0;
        let mut quota = minimum + usize::from(has_extra);
        let mut kept = Partitions::new();
        for (topic, partitions) in &spec.target {
            if !topics.contains(topic) {
                continue;
            }
            for partition in partitions {
                // A partition of a topic that was recreated with fewer is gone.
                if *partition >= counts.get(topic).copied().unwrap_or(0) {
                    continue;
                }
                if quota > 0 {
                    quota -= 1;
                    kept.entry(*topic).or_default().insert(*partition);
                } else {
                    free.push((*topic, *partition));
                }
            }
        }
        // The extra one may be left to a later member, as long as there are enough of them.
        if quota > 0 && has_extra && members.len() - index > extra {
            quota -= 1;
            has_extra = false;
        }
        if quota > 0 {
            unfilled.push((id, quota));
        }
        extra -= usize::from(has_extra);
        target.insert(id.clone(), kept);
    }
    let mut free = free.into_iter();
    for (id, quota) in unfilled {
        let assigned = target.entry(id.clone()).or_default();
        for (topic, partition) in free.by_ref().take(quota) {
            assigned.entry(topic).or_default().insert(partition);
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(targets: &[(&str, &[i32])], partitions: i32) -> BTreeMap<String, Vec<i32>> {
        let topic = Uuid::from_u128(1);
        let spec = |held: &[i32]| {
            let target = if held.is_empty() {
                Partitions::new()
            } else {
                [(topic, held.iter().copied().collect())].into()
            };
            Spec { topics: [topic].into(), target, ..Spec::default() }
        };
        let members = targets.iter().map(|(id, held)| ((*id).to_owned(), spec(held))).collect();
        let target = assign(&members, &[topic].into(), &[(topic, partitions)].into());
        let list = |topics: Partitions| topics.into_values().flatten().collect();
        target.into_iter().map(|(id, topics)| (id, list(topics))).collect()
    }

    #[test]
    fn a_member_that_joins_takes_only_what_balances() {
        let target = run(&[("a", &[0, 1, 2, 3]), ("b", &[])], 4);
        assert_eq!(target, [("a".to_owned(), vec![0, 1]), ("b".to_owned(), vec![2, 3])].into());
    }

    #[test]
    fn the_partitions_of_a_member_that_left_go_to_the_others_which_keep_theirs() {
        let target = run(&[("a", &[0, 1]), ("c", &[4, 5])], 6);
        assert_eq!(target, [("a".to_owned(), vec![0, 1, 2]), ("c".to_owned(), vec![3, 4, 5])].into());
    }

    #[test]
    fn an_extra_partition_stays_with_the_member_that_has_it() {
        let target = run(&[("a", &[0]), ("b", &[1, 2])], 3);
        assert_eq!(target, [("a".to_owned(), vec![0]), ("b".to_owned(), vec![1, 2])].into());
    }

    #[test]
    fn surplus_members_get_nothing() {
        let target = run(&[("a", &[0]), ("b", &[]), ("c", &[])], 1);
        assert_eq!(target.values().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
    }

    proptest::proptest! {
        #[test]
        fn every_partition_has_one_member_and_loads_differ_by_one_at_most(
            members in 1_usize..8, partitions in 0_i32..40, moved in 0_usize..8,
        ) {
            let ids: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
            // A skewed assignment before: all belongs to one.
            let before: Vec<i32> = (0..partitions).collect();
            let targets: Vec<(&str, &[i32])> = ids
                .iter()
                .enumerate()
                .map(|(n, id)| (id.as_str(), if n == moved { before.as_slice() } else { &[] }))
                .collect();
            let target = run(&targets, partitions);
            let mut all: Vec<i32> = target.values().flatten().copied().collect();
            all.sort_unstable();
            proptest::prop_assert_eq!(all, (0..partitions).collect::<Vec<_>>());
            let loads = target.values().map(Vec::len);
            proptest::prop_assert!(loads.clone().max().unwrap_or(0) - loads.min().unwrap_or(0) <= 1);
        }
    }
}
