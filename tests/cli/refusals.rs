//! Messages of commands that fail or refuse to run: exit codes 2, 3 and 4.

use crate::harness::{Folder, assert_output, ten_critical};

#[test]
fn a_worker_never_binds() {
    let folder = Folder::new();
    assert_output!(&folder, "run-no-folder", folder.run("run --until-end"));
    folder.succeed("topic create");
    assert_output!(&folder, "run-no-tables", folder.run("run --until-end"));
    folder.succeed("schema apply");
    assert_output!(&folder, "run-unbound", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn nothing_is_created_without_a_log() {
    let folder = Folder::new();
    assert_output!(&folder, "init-no-log", folder.run("init"));
    for command in ["show records", "show events", "topic describe", "schema check", "run --until-end"] {
        let output = folder.run(command);
        assert_eq!(output.code, 2, "{command}: {output}");
    }
    assert!(!folder.data().exists());
    folder.succeed("topic create");
    assert_output!(&folder, "init-no-topic", folder.run("--topic other init"));
}

#[test]
fn parameters_that_differ_from_the_binding_are_refused() {
    let folder = Folder::bound();
    assert_output!(
        &folder,
        "run-differs",
        folder.run("--set window.threshold=5 --set log.level=off run --until-end")
    );
    assert_output!(&folder, "init-differs", folder.run("--set window.threshold=5 init"));
}

#[test]
fn a_layout_that_differs_from_that_of_the_tables_is_refused_and_both_are_reported() {
    let folder = Folder::new();
    folder.succeed("topic create");
    let bucketed = "--set store.layout=bucketed --set store.bucket_rows=500 --set log.level=off";
    folder.succeed(&format!("{bucketed} schema apply"));
    assert_output!(&folder, "layout-schema-check", folder.run("schema check"));
    assert_output!(&folder, "layout-init", folder.run("init"));
    folder.succeed(&format!("{bucketed} init"));
    folder.append_events(0, &ten_critical().iter().map(String::as_str).collect::<Vec<_>>());
    folder.succeed(&format!("{bucketed} run --until-end"));
    assert_output!(&folder, "layout-run", folder.run("run --until-end"));
    for arguments in ["", "--set store.layout=bucketed", &format!("{bucketed} --set store.bucket_rows=5")] {
        for command in ["schema apply", "init", "run --until-end", "verify", "show events", "show progress"] {
            let output = folder.run(format!("{arguments} {command}").trim_start());
            assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{arguments} {command}: {output}");
            assert!(output.stderr.contains("in the layout bucketed:500, not "), "{output}");
        }
    }
    assert!(folder.succeed(&format!("{bucketed} verify")).contains("differences   0"));
    assert_eq!(folder.succeed(&format!("{bucketed} show events --json")).lines().count(), 10);
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

fn put_back(files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        std::fs::write(path, content).expect("a file is written");
    }
}

#[test]
fn a_recreated_topic_is_refused() {
    let folder = Folder::bound();
    take(&folder, "log.sqlite");
    folder.succeed("topic create");
    assert_output!(&folder, "run-recreated", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn a_truncated_log_is_refused() {
    let folder = Folder::bound();
    let empty = take(&folder, "log.sqlite");
    put_back(&empty);
    let events = ten_critical();
    folder.append_events(0, &events.iter().map(String::as_str).collect::<Vec<_>>());
    folder.succeed("--set log.level=off run --until-end");
    take(&folder, "log.sqlite");
    put_back(&empty);
    assert_output!(&folder, "run-truncated", folder.run("--set log.level=off run --until-end"));
}

#[test]
fn files_of_other_programs_are_not_changed() {
    let folder = Folder::bound();
    let store = folder.data().join("store.sqlite");
    take(&folder, "store.sqlite");
    let text = "this is not a database, but a text. ".repeat(200);
    std::fs::write(&store, &text).expect("a file is written");
    assert_output!(&folder, "run-not-sqlite", folder.run("run --until-end"));
    assert_output!(&folder, "apply-not-sqlite", folder.run("schema apply"));
    assert_eq!(std::fs::read_to_string(&store).expect("the file is there"), text);
}

#[test]
fn tables_with_different_columns_are_reported() {
    let folder = Folder::bound();
    let connection = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    connection.execute_batch("ALTER TABLE alerts ADD COLUMN note TEXT").expect("a column is added");
    drop(connection);
    assert_output!(&folder, "schema-check-differs", folder.run("schema check"));
}

#[test]
fn a_data_folder_that_is_a_file_is_reported() {
    let folder = Folder::new();
    folder.write("exactlyonce-data", "x");
    assert_output!(&folder, "data-is-a-file", folder.run("topic create"));
}
