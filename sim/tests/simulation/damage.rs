//! Damage that no client can survive: retention past progress, truncated, recreated and compacted topics, another binding,
//! deleted rows, wiped disks, power losses without syncs. A worker refuses to continue, or `verify` names it; never silence.

use std::collections::BTreeMap;

use simulation::observed::Sometimes;
use simulation::scenario::fault::KindName;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, World};

use crate::played::played;

fn assert_named(world: World, seeds: u64) {
    let mut outcomes: BTreeMap<KindName, [u64; 4]> = BTreeMap::new();
    let outcome =
        [Sometimes::WorkerRefused, Sometimes::DamageFoundByVerify, Sometimes::DamageWithoutConsequence];
    for seed in 0..seeds {
        let scenario = Draft::new(seed, world, Profile::Standard).damaged();
        let kind = scenario.faults.last().expect("it is damaged").name();
        let report = played(scenario);
        assert_eq!(report.violation, None, "{report}");
        let counts = outcomes.entry(kind).or_default();
        counts[0] += u64::from(report.observed.faults(kind).effective > 0);
        for (count, situation) in counts[1..].iter_mut().zip(outcome) {
            *count += u64::from(report.observed.count(situation) > 0);
        }
    }
    println!("{world}: runs with an effect, refused, found by verify, without consequence");
    for (kind, [effective, refused, found, nothing]) in &outcomes {
        println!("{effective:>6} {refused:>6} {found:>6} {nothing:>6}  {kind}");
        assert!(*effective > 0, "{kind} had no effect in any seed");
        // What one replica loses, the others mostly have.
        let is_of_a_replica = matches!(kind, KindName::PowerLost | KindName::DiskWiped);
        assert!(refused + found > 0 || is_of_a_replica, "{kind} was never noticed");
    }
    let kinds = match world {
        World::Simple => 5,
        World::Cassandra => 8,
        World::Full => 9,
    };
    assert_eq!(outcomes.len(), kinds, "{outcomes:?}");
}

#[test]
fn damage_is_refused_or_named() {
    assert_named(World::Simple, 60);
}

#[test]
fn damage_is_refused_or_named_on_kafka_and_cassandra() {
    assert_named(World::Full, 100);
}

#[test]
fn damage_is_refused_or_named_on_cassandra() {
    assert_named(World::Cassandra, 60);
}
