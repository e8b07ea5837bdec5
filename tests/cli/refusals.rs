//! What is said when a command cannot, or must not, do its work: exit codes 2, 3 and 4.

use crate::harness::{Folder, said, ten_critical};

#[test]
fn a_worker_never_binds() {
    let folder = Folder::new();
    said!(&folder, "run-no-folder", folder.run("run --until-end"));
    folder.fine("topic create");
    said!(&folder, "run-no-tables", folder.run("run --until-end"));
    folder.fine("schema apply");
    said!(&folder, "run-unbound", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn nothing_is_made_where_there_is_no_log() {
    let folder = Folder::new();
    said!(&folder, "init-no-log", folder.run("init"));
    for command in ["show records", "show events", "topic describe", "schema check", "run --until-end"] {
        let said = folder.run(command);
        assert_eq!(said.code, 2, "{command}: {said}");
    }
    assert!(!folder.data().exists());
    folder.fine("topic create");
    said!(&folder, "init-no-topic", folder.run("--topic other init"));
}

#[test]
fn other_facts_than_those_bound_are_refused() {
    let folder = Folder::bound();
    said!(&folder, "run-differs", folder.run("--set window.threshold=5 --set log.level=off run --until-end"));
    said!(&folder, "init-differs", folder.run("--set window.threshold=5 init"));
}

#[test]
fn another_layout_than_that_of_the_tables_is_refused_and_both_are_named() {
    let folder = Folder::new();
    folder.fine("topic create");
    let bucketed = "--set store.layout=bucketed --set store.bucket_rows=500 --set log.level=off";
    folder.fine(&format!("{bucketed} schema apply"));
    said!(&folder, "layout-schema-check", folder.run("schema check"));
    said!(&folder, "layout-init", folder.run("init"));
    folder.fine(&format!("{bucketed} init"));
    folder.append_events(0, &ten_critical().iter().map(String::as_str).collect::<Vec<_>>());
    folder.fine(&format!("{bucketed} run --until-end"));
    said!(&folder, "layout-run", folder.run("run --until-end"));
    for arguments in ["", "--set store.layout=bucketed", &format!("{bucketed} --set store.bucket_rows=5")] {
        for command in ["schema apply", "init", "run --until-end", "verify", "show events", "show progress"] {
            let said = folder.run(format!("{arguments} {command}").trim_start());
            assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{arguments} {command}: {said}");
            assert!(said.stderr.contains("in the layout bucketed:500, not "), "{said}");
        }
    }
    assert!(folder.fine(&format!("{bucketed} verify")).contains("differences   0"));
    assert_eq!(folder.fine(&format!("{bucketed} show events --json")).lines().count(), 10);
}

/// Removes the files whose names start with a prefix, and returns their names and content.
fn take(folder: &Folder, prefix: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut taken = Vec::new();
    for entry in std::fs::read_dir(folder.data()).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            taken.push((path.clone(), std::fs::read(&path).expect("a file")));
            std::fs::remove_file(path).expect("the file can be removed");
        }
    }
    taken
}

fn give_back(files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        std::fs::write(path, content).expect("a file is written");
    }
}

#[test]
fn a_recreated_topic_is_refused() {
    let folder = Folder::bound();
    take(&folder, "log.sqlite");
    folder.fine("topic create");
    said!(&folder, "run-recreated", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn a_truncated_log_is_refused() {
    let folder = Folder::bound();
    let empty = take(&folder, "log.sqlite");
    give_back(&empty);
    let events = ten_critical();
    folder.append_events(0, &events.iter().map(String::as_str).collect::<Vec<_>>());
    folder.fine("--set log.level=off run --until-end");
    take(&folder, "log.sqlite");
    give_back(&empty);
    said!(&folder, "run-truncated", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn files_that_are_not_ours_are_left_as_they_are() {
    let folder = Folder::bound();
    let store = folder.data().join("store.sqlite");
    take(&folder, "store.sqlite");
    let text = "this is not a database, but a text. ".repeat(200);
    std::fs::write(&store, &text).expect("a file is written");
    said!(&folder, "run-not-sqlite", folder.run("run --until-end"));
    said!(&folder, "apply-not-sqlite", folder.run("schema apply"));
    assert_eq!(std::fs::read_to_string(&store).expect("the file is there"), text);
}

#[test]
fn tables_of_another_shape_are_named() {
    let folder = Folder::bound();
    let connection = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    connection.execute_batch("ALTER TABLE alerts ADD COLUMN note TEXT").expect("a column is added");
    drop(connection);
    said!(&folder, "schema-check-differs", folder.run("schema check"));
}

#[test]
fn a_data_folder_that_is_a_file_is_named() {
    let folder = Folder::new();
    folder.write("exactlyonce-data", "x");
    said!(&folder, "data-is-a-file", folder.run("topic create"));
}
