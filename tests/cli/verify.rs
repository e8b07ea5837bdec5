//! Tables against the log. (What differs is tested where the tables are damaged: `tests/kills`.)

use crate::harness::{Folder, said};

#[test]
fn an_unbound_keyspace_is_no_success() {
    let folder = Folder::new();
    folder.fine("topic create");
    folder.fine("schema apply");
    said!(&folder, "verify-unbound", folder.run("verify"));
}

#[test]
fn exact_tables_have_no_differences() {
    let folder = Folder::bound();
    folder.fine("generate --preset mixed --events 2000 --start-ms 0 --seed 3");
    folder.fine("run --until-end");
    said!(&folder, "verify-exact", folder.fine("verify"));
    let report: serde_json::Value = serde_json::from_str(&folder.fine("verify --json")).expect("JSON");
    assert_eq!((&report["clean"], &report["complete"]), (&true.into(), &true.into()));
    assert_eq!(report["counts"]["lost"], 0);
    assert_eq!(report["partitions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_not_done_yet_is_not_judged() {
    let folder = Folder::bound();
    folder.fine("generate --events-per-key 5 --seed 3");
    let report: serde_json::Value = serde_json::from_str(&folder.fine("verify --json")).expect("JSON");
    assert_eq!((&report["clean"], &report["events"]), (&true.into(), &0.into()));
}

#[test]
fn lost_rows_are_listed_up_to_the_number_asked_for() {
    let folder = Folder::bound();
    folder.fine("generate --events-per-key 5 --seed 3");
    folder.fine("run --until-end");
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    assert_eq!(store.execute("DELETE FROM events WHERE partition = 2", []).expect("rows go"), 10);
    drop(store);
    said!(&folder, "verify-lost", folder.run("verify --list 3"));
}

/// A folder whose log is done, and its store opened by hand.
fn done() -> (Folder, rusqlite::Connection) {
    let folder = Folder::bound();
    folder.fine("generate --preset mixed --events 2000 --start-ms 0 --seed 3");
    folder.fine("run --until-end");
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    (folder, store)
}

/// The differences that the program reports after a change by hand, with exit code 1.
fn differences_after(sql: &str) -> Vec<serde_json::Value> {
    let (folder, store) = done();
    store.execute_batch(sql).expect("the store is changed");
    drop(store);
    let ended = folder.run("verify --json");
    assert_eq!(ended.code, 1, "{sql}: {}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    report["differences"].as_array().expect("a list").clone()
}

#[test]
fn a_damaged_row_is_named_and_the_rest_is_judged() {
    let found = differences_after(
        "UPDATE events SET health = 9 WHERE partition = 0 AND offset = 5;
         DELETE FROM events WHERE partition = 0 AND offset = 6;",
    );
    let damaged = serde_json::json!({
        "difference": "damaged", "table": "events", "partition": 0, "offset": 5, "column": "health",
        "what": "9 is not a health",
    });
    assert!(found.contains(&damaged), "{found:?}");
    let lost = |difference: &serde_json::Value| {
        (&difference["difference"], &difference["offset"]) == (&"lost".into(), &6.into())
    };
    assert!(found.iter().any(lost), "{found:?}");
}

#[test]
fn changed_counts_progress_and_registry_are_named() {
    for (sql, name) in [
        ("UPDATE window_counts SET count = count + 1 WHERE partition = 0", "wrong_count"),
        ("UPDATE window_counts SET through_offset = through_offset - 1 WHERE partition = 0", "wrong_count"),
        ("DELETE FROM window_counts WHERE partition = 0", "missing_count"),
        ("INSERT INTO window_counts VALUES (0, 5000, 'nobody', 1, 1, 2)", "foreign_count"),
        ("UPDATE progress SET origin = 1 WHERE partition = 2", "wrong_progress"),
        ("UPDATE progress SET next_offset = -1 WHERE partition = 2", "wrong_progress"),
        ("DELETE FROM progress WHERE partition = 2", "wrong_progress"),
        ("UPDATE registry SET partitions = 1", "wrong_registry"),
        ("UPDATE registry SET partitions = 9", "wrong_registry"),
    ] {
        let found = differences_after(sql);
        assert!(!found.is_empty() && found.iter().all(|one| one["difference"] == name), "{sql}: {found:?}");
    }
}

#[test]
fn show_names_a_damaged_row_and_goes_on() {
    let (folder, store) = done();
    store.execute_batch("UPDATE events SET health = 9 WHERE partition = 0 AND offset = 0").expect("changed");
    drop(store);
    let ended = folder.run("show events --partition 0");
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stdout.contains("damaged: events partition 0 offset 0: column health: 9 is not a health"));
    assert!(ended.stdout.lines().count() > 10, "{}", ended.stdout);
}

#[test]
fn a_worker_refuses_a_damaged_row_and_names_it() {
    let (folder, store) = done();
    store
        .execute_batch(
            "UPDATE events SET health = 9 WHERE (partition, offset) IN \
             (SELECT partition, max(offset) FROM events GROUP BY partition)",
        )
        .expect("changed");
    drop(store);
    let ended = folder.run("run --until-end");
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("column health: 9 is not a health"), "{}", ended.stderr);
}
