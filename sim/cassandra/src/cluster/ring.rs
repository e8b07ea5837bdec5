//! Who has which partitions.

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

    /// How many replicas there should be, in all and in each data centre that has any.
    pub(crate) fn factors(&self, replication: &Replication) -> BTreeMap<String, usize> {
        match replication {
            Replication::NetworkTopology { factors } => factors.clone(),
            Replication::Simple { factor } => BTreeMap::from([(String::new(), *factor)]),
            Replication::Local => BTreeMap::from([(String::new(), 1)]),
            Replication::Everywhere => BTreeMap::from([(String::new(), self.places.len())]),
        }
    }
}
