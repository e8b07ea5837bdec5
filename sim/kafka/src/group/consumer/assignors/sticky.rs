//! `uniform` for members with different subscriptions: members keep what they had, partitions without a member go to
//! the subscriber with the fewest, and then partitions move as long as that makes two members' loads more equal.
//!
//! Kafka's `UniformHeterogeneousAssignmentBuilder` reaches the same balance; which partition moves may differ.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::Partitions;
use super::Spec;

pub(super) fn assign(
    members: &BTreeMap<String, Spec>,
    counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Partitions> {
    let mut owners: BTreeMap<(Uuid, i32), &str> = BTreeMap::new();
    let mut loads: BTreeMap<&str, usize> = members.keys().map(|id| (id.as_str(), 0)).collect();
    let exists = |topic: &Uuid, partition: i32| counts.get(topic).is_some_and(|count| partition < *count);
    for (id, spec) in members {
        for (topic, partitions) in spec.target.iter().filter(|(topic, _)| spec.topics.contains(*topic)) {
            for partition in partitions.iter().filter(|partition| exists(topic, **partition)) {
                if owners.insert((*topic, *partition), id).is_none() {
                    *loads.entry(id).or_default() += 1;
                }
            }
        }
    }
    let subscribers = |topic: Uuid| members.iter().filter(move |(_, spec)| spec.topics.contains(&topic));
    // Topics with few subscribers first: they have the fewest places to go.
    let mut topics: Vec<_> =
        counts.iter().map(|(topic, count)| (subscribers(*topic).count(), *topic, *count)).collect();
    topics.sort_unstable();
    for (_, topic, count) in &topics {
        for partition in 0..*count {
            let least = subscribers(*topic).min_by_key(|(id, _)| loads.get(id.as_str()).copied());
            if let Some((id, _)) = least.filter(|_| !owners.contains_key(&(*topic, partition))) {
                owners.insert((*topic, partition), id);
                *loads.entry(id).or_default() += 1;
            }
        }
    }
    // Each move makes the sum of squares of loads smaller, so this ends.
    loop {
        let moved = owners.iter().find_map(|((topic, partition), owner)| {
            let load = loads.get(owner).copied().unwrap_or(0);
            let least = subscribers(*topic).min_by_key(|(id, _)| loads.get(id.as_str()).copied())?;
            let other = loads.get(least.0.as_str()).copied().unwrap_or(0);
            (other + 1 < load).then_some(((*topic, *partition), *owner, least.0.as_str()))
        });
        let Some((partition, from, to)) = moved else { break };
        owners.insert(partition, to);
        loads.entry(from).and_modify(|load| *load = load.saturating_sub(1));
        *loads.entry(to).or_default() += 1;
    }
    let mut target: BTreeMap<String, Partitions> =
        members.keys().map(|id| (id.clone(), Partitions::new())).collect();
    for ((topic, partition), owner) in owners {
        let assigned: &mut BTreeSet<i32> =
            target.entry(owner.to_owned()).or_default().entry(topic).or_default();
        assigned.insert(partition);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(topics: &[u128], held: &[(u128, &[i32])]) -> Spec {
        Spec {
            topics: topics.iter().map(|id| Uuid::from_u128(*id)).collect(),
            target: held
                .iter()
                .map(|(id, all)| (Uuid::from_u128(*id), all.iter().copied().collect()))
                .collect(),
            ..Spec::default()
        }
    }

    #[test]
    fn a_member_with_fewer_topics_gets_what_only_it_can_have_in_balance_with_others() {
        let members = [("a".to_owned(), spec(&[1], &[])), ("b".to_owned(), spec(&[1, 2], &[]))].into();
        let target = assign(&members, &[(Uuid::from_u128(1), 4), (Uuid::from_u128(2), 2)].into());
        let load = |id: &str| target.get(id).map(|topics| topics.values().map(BTreeSet::len).sum::<usize>());
        assert_eq!((load("a"), load("b")), (Some(3), Some(3)));
    }

    #[test]
    fn members_keep_what_they_have_if_it_is_balanced() {
        let members =
            [("a".to_owned(), spec(&[1], &[(1, &[1, 3])])), ("b".to_owned(), spec(&[1, 2], &[(1, &[0, 2])]))]
                .into();
        let target = assign(&members, &[(Uuid::from_u128(1), 4), (Uuid::from_u128(2), 0)].into());
        let has = |id: &str| target.get(id).cloned();
        assert_eq!(has("a"), Some([(Uuid::from_u128(1), [1, 3].into())].into()));
        assert_eq!(has("b"), Some([(Uuid::from_u128(1), [0, 2].into())].into()));
    }
}
