//! The ring: which nodes are replicas of which partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::options::{NodeId, NodeOptions};
use crate::schema::Replication;
use crate::storage::Token;

/// The places of all nodes on the ring.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    owners: BTreeMap<Token, NodeId>,
    places: BTreeMap<NodeId, (String, String)>,
}

impl Ring {
    pub(crate) fn new(nodes: &[NodeOptions]) -> Self {
        let mut owners = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (id, node) in (0..).map(NodeId).zip(nodes) {
            places.insert(id, (node.data_center.clone(), node.rack.clone()));
            owners.extend(node.tokens.iter().map(|token| (*token, id)));
        }
        Self { owners, places }
    }

    pub(crate) fn data_center(&self, node: NodeId) -> &str {
        self.places.get(&node).map_or("", |(data_center, _)| data_center)
    }

    pub(crate) fn rack(&self, node: NodeId) -> &str {
        self.places.get(&node).map_or("", |(_, rack)| rack)
    }

    /// The nodes from a token on, around the ring, each with its token.
    fn walk(&self, token: Token) -> impl Iterator<Item = NodeId> {
        self.owners.range(token..).chain(self.owners.range(..token)).map(|(_, node)| *node)
    }

    /// The replicas of a token in the order of the ring; the first is the owner.
    pub(crate) fn replicas(&self, replication: &Replication, token: Token) -> Vec<NodeId> {
        match replication {
            Replication::Local | Replication::Everywhere => self.places.keys().copied().collect(),
            Replication::Simple { factor } => {
                let mut replicas = Vec::new();
                for node in self.walk(token) {
                    if replicas.len() == *factor {
                        break;
                    }
                    if !replicas.contains(&node) {
                        replicas.push(node);
                    }
                }
                replicas
            }
            Replication::NetworkTopology { factors } => self.spread(factors, token),
        }
    }

    /// `NetworkTopologyStrategy`: in each data centre a rack is used again only as often as there are more replicas
    /// than racks.
    fn spread(&self, factors: &BTreeMap<String, usize>, token: Token) -> Vec<NodeId> {
        let mut replicas = Vec::new();
        let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut left: BTreeMap<&str, usize> =
            factors.iter().map(|(data_center, factor)| (data_center.as_str(), *factor)).collect();
        let mut repeats: BTreeMap<&str, usize> =
            left.iter().map(|(name, factor)| (*name, factor.saturating_sub(self.racks(name)))).collect();
        for node in self.walk(token) {
            let (data_center, rack) = (self.data_center(node), self.rack(node));
            let (Some(left), Some(repeats)) = (left.get_mut(data_center), repeats.get_mut(data_center))
            else {
                continue;
            };
            if *left == 0 || replicas.contains(&node) {
                continue;
            }
            if !used.insert((data_center, rack)) {
                if *repeats == 0 {
                    continue;
                }
                *repeats -= 1;
            }
            *left -= 1;
            replicas.push(node);
        }
        replicas
    }

    fn racks(&self, data_center: &str) -> usize {
        let racks: BTreeSet<&str> =
            self.places.values().filter(|(of, _)| of == data_center).map(|(_, rack)| rack.as_str()).collect();
        racks.len()
    }

    /// The ring cut into ranges whose partitions have the same replicas: after the first token, up to the second.
    pub(crate) fn ranges(&self, replication: &Replication) -> Vec<(Token, Token, Vec<NodeId>)> {
        let mut ranges: Vec<(Token, Token, Vec<NodeId>)> = Vec::new();
        let ends = self.owners.keys().copied().chain([Token(i64::MAX)]);
        let mut after = Token::MIN;
        for up_to in ends {
            if up_to <= after {
                continue;
            }
            let replicas = self.replicas(replication, up_to);
            match ranges.last_mut() {
                Some((_, last, same))
                    if same.iter().collect::<BTreeSet<_>>() == replicas.iter().collect() =>
                {
                    *last = up_to;
                }
                _ => ranges.push((after, up_to, replicas)),
            }
            after = up_to;
        }
        ranges
    }

    /// How many replicas there should be in all.
    pub(crate) fn factor(&self, replication: &Replication) -> usize {
        match replication {
            Replication::NetworkTopology { factors } => factors.values().sum(),
            Replication::Simple { factor } => *factor,
            Replication::Local => 1,
            Replication::Everywhere => self.places.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::cluster::AdjustableClock;
    use crate::storage::Disk;

    /// A ring of nodes with one token each, 0, 10, 20 and so on.
    fn ring(places: &[(&str, &str)]) -> Ring {
        let node = |(number, (data_center, rack)): (usize, &(&str, &str))| NodeOptions {
            address: IpAddr::V4(Ipv4Addr::from(number as u32)),
            port: 9042,
            data_center: (*data_center).to_owned(),
            rack: (*rack).to_owned(),
            tokens: vec![Token(10 * number as i64)],
            clock: Arc::new(AdjustableClock::new(0)),
            disk: Disk::new(),
        };
        Ring::new(&places.iter().enumerate().map(node).collect::<Vec<_>>())
    }

    fn ids(nodes: &[u32]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn the_owner_of_a_key_is_the_node_at_its_token_or_the_next_around_the_ring() {
        let ring = ring(&[("dc", "r"); 4]);
        let simple = Replication::Simple { factor: 2 };
        for (token, replicas) in [(10, [1, 2]), (11, [2, 3]), (30, [3, 0]), (31, [0, 1]), (-5, [0, 1])] {
            assert_eq!(ring.replicas(&simple, Token(token)), ids(&replicas), "{token}");
        }
        assert_eq!(ring.replicas(&Replication::Simple { factor: 9 }, Token(0)).len(), 4);
    }

    #[test]
    fn replicas_are_spread_over_racks_before_one_is_used_again() {
        let ring = ring(&[("dc", "a"), ("dc", "a"), ("dc", "b"), ("dc", "b"), ("other", "a")]);
        let factors = |factor| Replication::NetworkTopology { factors: [("dc".to_owned(), factor)].into() };
        assert_eq!(ring.replicas(&factors(2), Token(0)), ids(&[0, 2]));
        assert_eq!(ring.replicas(&factors(3), Token(0)), ids(&[0, 1, 2]));
        assert_eq!(ring.replicas(&factors(2), Token(30)), ids(&[3, 0]));
        assert_eq!(ring.replicas(&factors(9), Token(0)), ids(&[0, 1, 2, 3]));
        let both =
            Replication::NetworkTopology { factors: [("dc".to_owned(), 1), ("other".to_owned(), 1)].into() };
        assert_eq!(ring.replicas(&both, Token(1)), ids(&[1, 4]));
    }

    #[test]
    fn ranges_cover_the_ring_once_and_say_who_has_them() {
        let ring = ring(&[("dc", "r"); 3]);
        for factor in 1..=3 {
            let replication = Replication::Simple { factor };
            let ranges = ring.ranges(&replication);
            assert_eq!(ranges.first().map(|(after, ..)| *after), Some(Token::MIN));
            assert_eq!(ranges.last().map(|(_, up_to, _)| *up_to), Some(Token(i64::MAX)));
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            for (after, up_to, replicas) in &ranges {
                for token in [Token(after.0 + 1), *up_to] {
                    let mut expected = ring.replicas(&replication, token);
                    let mut found = replicas.clone();
                    expected.sort();
                    found.sort();
                    assert_eq!(found, expected);
                }
            }
        }
        assert_eq!(ring.ranges(&Replication::Simple { factor: 3 }).len(), 1);
    }
}
