//! The timeline of a run: recording changes nothing, and it has what happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use simulation::campaign::Isolation;
use simulation::explain::record;
use simulation::run;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use simulation::timeline::{CellKey, Kind, Outcome, Timeline, page};

/// Bytes of a page of a standard run, at most.
const LARGEST_PAGE: usize = 3_000_000;

fn recorded(seed: u64, world: World, profile: Profile) -> Timeline {
    record(Scenario::draw(seed, world, profile), &[], &Isolation::Threads).1
}

#[test]
fn a_recorded_run_has_the_trace_of_one_that_is_not() {
    let runs = [
        (2, World::Simple, Profile::Standard),
        (3, World::Simple, Profile::Sabotaged),
        (5, World::Simple, Profile::Storms),
        (6, World::Simple, Profile::Damaged),
        (1, World::Cassandra, Profile::Standard),
        (4, World::Cassandra, Profile::Zombies),
        (1, World::Cassandra, Profile::Sabotaged),
    ];
    for (seed, world, profile) in runs {
        let scenario = Scenario::draw(seed, world, profile);
        let trace = run(scenario.clone(), false).trace;
        let timeline = record(scenario, &[CellKey::Registry, CellKey::Progress(0)], &Isolation::Threads).1;
        let hash = format!("{:016x}", trace.hash);
        assert_eq!(
            (timeline.run.events, &timeline.run.hash),
            (trace.events, &hash),
            "{seed} {world} {profile}"
        );
        assert!(timeline.items.len() > 50, "{seed} {world} {profile}: {} items", timeline.items.len());
    }
}

#[test]
fn a_timeline_has_the_lanes_and_kinds_of_its_services_and_refers_to_nothing_else() {
    for world in [World::Simple, World::Cassandra] {
        let timeline = recorded(3, world, Profile::Standard);
        let names: Vec<&str> = timeline.lanes.iter().map(|lane| lane.name.as_str()).collect();
        let has = |name: &str| names.contains(&name);
        assert!(has("worker 0") && has("log") && has("group"), "{names:?}");
        assert_eq!((has("store"), has("cassandra 1")), (world == World::Simple, world == World::Cassandra));
        let kinds: BTreeSet<Kind> = timeline.items.iter().map(|item| item.kind).collect();
        let described: BTreeSet<Kind> = timeline.kinds.iter().map(|description| description.kind).collect();
        assert_eq!(kinds, described);
        let everywhere = [
            Kind::Fault,
            Kind::Life,
            Kind::Assignment,
            Kind::Ownership,
            Kind::Write,
            Kind::Read,
            Kind::TableRequest,
            Kind::LogRequest,
        ];
        let missing: Vec<Kind> = everywhere.into_iter().filter(|kind| !kinds.contains(kind)).collect();
        assert!(missing.is_empty(), "{world}: {missing:?}");
        assert_eq!(kinds.contains(&Kind::ReplicaWrite), world == World::Cassandra);
        for item in &timeline.items {
            let lanes = item.lane.iter().chain(&item.to).chain(&item.affects);
            assert!(lanes.into_iter().all(|lane| usize::from(*lane) < names.len()), "{item:?}");
            assert!(item.end.is_none_or(|end| end >= item.start), "{item:?}");
            assert!(item.sources.iter().all(|source| usize::from(*source) < timeline.sources.len()));
            if let (Some(peer), Some(_)) = (item.peer, item.to) {
                let peer = &timeline.items[peer as usize];
                assert_eq!((peer.lane, peer.to), (item.to, item.lane), "{item:?} and {peer:?}");
            }
        }
        let starts: Vec<u64> = timeline.items.iter().map(|item| item.start).collect();
        assert!(starts.is_sorted());
    }
}

#[test]
fn every_call_and_every_message_of_a_run_has_an_outcome() {
    for (seed, world) in [(2, World::Simple), (3, World::Cassandra)] {
        let timeline = recorded(seed, world, Profile::Standard);
        let calls = timeline.items.iter().filter(|item| matches!(item.kind, Kind::Write | Kind::Read));
        let outcomes: Vec<Outcome> = calls.map(|item| item.outcome).collect();
        assert!(!outcomes.contains(&Outcome::None), "{world}: a call without an outcome");
        assert!(outcomes.contains(&Outcome::Acknowledged) && outcomes.contains(&Outcome::Unknown));
        let lost = |item: &&simulation::timeline::Item| item.to.is_some() && item.end.is_none();
        let lost: Vec<Outcome> = timeline.items.iter().filter(lost).map(|item| item.outcome).collect();
        assert!(
            !lost.is_empty() && lost.iter().all(|outcome| *outcome == Outcome::Lost),
            "{world}: {lost:?}"
        );
    }
}

#[test]
fn the_history_of_the_cells_has_timestamps_replicas_and_what_is_true() {
    let timeline = recorded(2, World::Cassandra, Profile::Sabotaged);
    assert_eq!(timeline.violations[0].name, "not_durable");
    assert!(timeline.history.iter().any(|touch| touch.timestamp.is_some() && touch.to.is_some()));
    let learned: Vec<_> =
        timeline.history.iter().filter(|touch| touch.does == "learns that it is written").collect();
    assert!(learned.iter().any(|touch| touch.seen == ["nothing", "nothing", "nothing"]), "{learned:?}");
    assert!(learned.iter().all(|touch| touch.truth.is_some() && touch.item.is_some()), "{learned:?}");
    let read: Timeline =
        serde_json::from_str(&serde_json::to_string(&timeline).expect("it is written")).expect("it is read");
    assert_eq!(read, timeline);
}

#[test]
fn the_page_of_a_standard_run_is_small_enough() {
    for (seed, world) in [(2, World::Simple), (1, World::Cassandra), (3, World::Cassandra)] {
        let timeline = recorded(seed, world, Profile::Standard);
        let bytes = page::page(&timeline, None).expect("a page").len();
        assert!(bytes < LARGEST_PAGE, "{seed} {world}: {bytes} bytes of {} items", timeline.items.len());
    }
}

/// The gallery, in the folder above.
fn gallery() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gallery")
}

#[test]
fn the_unchanged_pipeline_survives_the_gallery_whose_pages_are_small() {
    let index = std::fs::read_to_string(gallery().join("README.md")).expect("an index");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(gallery()).expect("the gallery is a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a scenario is read");
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let report = run(scenario, false);
        assert_eq!(report.violation, None, "{}\n{report}", path.display());
        let page = path.with_extension("html");
        let html = std::fs::read_to_string(&page).expect("a scenario has a page");
        assert!(html.len() < 500_000, "{}: {} bytes", page.display(), html.len());
        assert!(html.contains("\"difference\":{"), "{} shows two runs that differ", page.display());
        let name = page.file_name().and_then(|name| name.to_str()).expect("its name is text").to_owned();
        assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
        names.push(name);
    }
    assert_eq!(names.len(), 6, "{names:?}");
}
