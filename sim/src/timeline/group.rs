//! The group's view: which member owns which partition.

use std::collections::BTreeMap;

use crate::parties::{Caller, Service};
use crate::timeline::recording::Open;
use crate::timeline::{Kind, Outcome, Recording};

impl Recording {
    /// The owners of all partitions, as the group has them now.
    pub fn owners(&mut self, owners: &BTreeMap<i32, Caller>, partitions: i32) {
        let lane = self.lane(Service::Coordinator);
        for partition in 0..partitions {
            let text = owners.get(&partition).map(|owner| format!("partition {partition}: {owner}"));
            let open = Open::Owner(partition);
            let known = self.open(open).map(|id| self.get(id).text.clone());
            if known == text {
                continue;
            }
            self.end_open(open, Outcome::None);
            if let Some(text) = text {
                let mut item = self.item(Kind::Ownership, Some(lane), text);
                item.partitions = vec![partition];
                self.begin(open, item);
            }
        }
    }
}
