//! `range`: each topic is cut into as many ranges as it has subscribers, the first of them one partition longer.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::Partitions;
use super::Spec;

struct Cut {
    partitions: i32,
    quota: i32,
    /// Members that still get one more.
    extra: i32,
    next: i32,
}

pub(super) fn assign(
    members: &BTreeMap<String, Spec>,
    counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Partitions> {
    // Static members first, by instance id, so that a new member id does not move partitions.
    let mut order: Vec<_> = members.iter().collect();
    order.sort_by(|(a, one), (b, other)| match (&one.instance_id, &other.instance_id) {
        (Some(one), Some(other)) => one.cmp(other),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    });
    let mut cuts: BTreeMap<Uuid, Cut> = BTreeMap::new();
    for (topic, partitions) in counts {
        let subscribers = members.values().filter(|spec| spec.topics.contains(topic)).count();
        let subscribers = i32::try_from(subscribers).unwrap_or(i32::MAX);
        if let (Some(quota), Some(extra)) =
            (partitions.checked_div(subscribers), partitions.checked_rem(subscribers))
        {
            cuts.insert(*topic, Cut { partitions: *partitions, quota, extra, next: 0 });
        }
    }
    let mut target = BTreeMap::new();
    for (id, spec) in order {
        let mut assigned = Partitions::new();
        for topic in &spec.topics {
            let Some(cut) = cuts.get_mut(topic) else { continue };
            let longer = i32::from(cut.extra > 0);
            cut.extra -= longer;
            let end = (cut.next + cut.quota + longer).min(cut.partitions);
            if cut.next < end {
                assigned.insert(*topic, (cut.next..end).collect());
            }
            cut.next = end;
        }
        target.insert(id.clone(), assigned);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(topics: &[u128]) -> Spec {
        Spec { topics: topics.iter().map(|id| Uuid::from_u128(*id)).collect(), ..Spec::default() }
    }

    fn has(target: &BTreeMap<String, Partitions>, member: &str, topic: u128) -> Vec<i32> {
        let partitions = target.get(member).and_then(|topics| topics.get(&Uuid::from_u128(topic)));
        partitions.into_iter().flatten().copied().collect()
    }

    #[test]
    fn neighbours_go_to_one_member_and_the_first_gets_the_extra_one() {
        let members = [("a".to_owned(), spec(&[1, 2])), ("b".to_owned(), spec(&[1, 2]))].into();
        let counts = [(Uuid::from_u128(1), 3), (Uuid::from_u128(2), 3)].into();
        let target = assign(&members, &counts);
        assert_eq!((has(&target, "a", 1), has(&target, "a", 2)), (vec![0, 1], vec![0, 1]));
        assert_eq!((has(&target, "b", 1), has(&target, "b", 2)), (vec![2], vec![2]));
    }

    #[test]
    fn only_subscribers_count() {
        let members = [("a".to_owned(), spec(&[1])), ("b".to_owned(), spec(&[1, 2]))].into();
        let counts = [(Uuid::from_u128(1), 2), (Uuid::from_u128(2), 2)].into();
        let target = assign(&members, &counts);
        assert_eq!((has(&target, "a", 1), has(&target, "a", 2)), (vec![0], vec![]));
        assert_eq!((has(&target, "b", 1), has(&target, "b", 2)), (vec![1], vec![0, 1]));
    }

    #[test]
    fn static_members_come_first_in_the_order_of_their_instances() {
        let mut one = spec(&[1]);
        one.instance_id = Some("2".to_owned());
        let mut other = spec(&[1]);
        other.instance_id = Some("1".to_owned());
        let members = [("a".to_owned(), spec(&[1])), ("b".to_owned(), one), ("c".to_owned(), other)].into();
        let target = assign(&members, &[(Uuid::from_u128(1), 3)].into());
        assert_eq!(
            (has(&target, "c", 1), has(&target, "b", 1), has(&target, "a", 1)),
            (vec![0], vec![1], vec![2])
        );
    }
}
