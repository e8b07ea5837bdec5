//! Random changes of the configurations of several resources at once.

use std::collections::BTreeSet;

use crate::draw::Draw;
use crate::steps::{CONFIGS, Step, TOPICS};

/// A resource and the changes of its configuration: operations, names and values.
#[derive(Clone, Debug)]
pub enum Resource {
    Topic(usize, Vec<(i8, &'static str, Option<&'static str>)>),
    /// By its type and name.
    Other(i8, &'static str, Vec<(i8, &'static str, Option<&'static str>)>),
}

/// Changes of brokers, which are only validated.
const OF_BROKERS: [(&str, &str); 7] = [
    ("log.cleanup.policy", "compact"),
    ("log.cleanup.policy", "forget"),
    ("log.retention.ms", "1000"),
    ("log.retention.ms", "soon"),
    ("message.max.bytes", "-1"),
    ("min.insync.replicas", "1"),
    ("node.id", "7"),
];

/// A request for one to three resources.
pub fn alter_all(draw: &mut Draw) -> Step {
    let replaces = draw.chance(50);
    let mut validate = draw.chance(10);
    let mut resources: Vec<Resource> = Vec::new();
    for _ in 0..1 + draw.below(3) {
        let of_topic = draw.chance(80);
        let mut changes = Vec::new();
        for _ in 0..draw.below(3) {
            let (name, value) = if of_topic { draw.pick(&CONFIGS) } else { draw.pick(&OF_BROKERS) };
            let value = (!draw.chance(8)).then_some(value);
            changes.push((draw.pick(&[0, 0, 0, 1, 2]), name, value));
        }
        resources.push(if of_topic {
            Resource::Topic(draw.below(TOPICS + 1), changes)
        } else {
            // What changes for brokers would remain.
            validate = true;
            let (kind, name) = draw.pick(&[
                (4, ""),
                (4, "1"),
                (4, "2"),
                (4, "x"),
                (2, ""),
                (2, "a b"),
                (3, "t"),
                (77, "t"),
                (8, "t"),
            ]);
            Resource::Other(kind, name, changes)
        });
    }
    if replaces {
        // The old form has no response if it names one twice.
        let mut names = BTreeSet::new();
        resources.retain(|resource| match resource {
            Resource::Topic(topic, _) => names.insert((2, topic.to_string())),
            // Types that it does not know are one.
            Resource::Other(3 | 77, name, _) => names.insert((0, (*name).to_owned())),
            Resource::Other(kind, name, _) => names.insert((*kind, (*name).to_owned())),
        });
    }
    let version = if replaces { draw.pick(&[0, 1, 2]) } else { draw.pick(&[0, 1]) };
    Step::AlterAll { replaces, version, validate, resources }
}
