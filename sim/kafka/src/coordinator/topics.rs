//! The topics as a coordinator knows them.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Topics with their ids and counts of partitions: what a coordinator needs of the cluster's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<String, (Uuid, i32)>,
    names: BTreeMap<Uuid, String>,
}

impl Topics {
    /// No topics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a topic, or replaces the one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, id: Uuid, partitions: i32) {
        let name = name.into();
        if let Some((old, _)) = self.by_name.insert(name.clone(), (id, partitions)) {
            self.names.remove(&old);
        }
        self.names.insert(id, name);
    }

    /// The id of a topic.
    pub fn id(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).map(|(id, _)| *id)
    }

    /// The name of a topic.
    pub fn name(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The number of partitions of a topic.
    pub fn partitions(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).map(|(_, partitions)| *partitions)
    }

    /// The number of partitions of a topic.
    pub fn partitions_of(&self, id: Uuid) -> Option<i32> {
        self.name(id).and_then(|name| self.partitions(name))
    }

    /// Whether there is this partition.
    pub fn contains(&self, name: &str, partition: i32) -> bool {
        self.partitions(name).is_some_and(|partitions| (0..partitions).contains(&partition))
    }

    /// The topics by name, with ids and numbers of partitions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Uuid, i32)> {
        self.by_name.iter().map(|(name, (id, partitions))| (name.as_str(), *id, *partitions))
    }
}

impl<N: Into<String>> FromIterator<(N, Uuid, i32)> for Topics {
    fn from_iter<I: IntoIterator<Item = (N, Uuid, i32)>>(topics: I) -> Self {
        let mut all = Self::new();
        for (name, id, partitions) in topics {
            all.insert(name, id, partitions);
        }
        all
    }
}
