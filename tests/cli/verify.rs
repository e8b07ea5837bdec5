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
