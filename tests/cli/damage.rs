//! Every command that finds a damaged file exits with code 5, whatever the damage is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Folder, ProgramOutput};

/// A folder whose files have many pages, none of them only in the WAL.
fn filled() -> Folder {
    let folder = Folder::bound();
    folder.succeed("generate --preset mixed --events 3000 --start-ms 0 --seed 3");
    folder.succeed("--set log.level=off run --until-end");
    for file in ["log.sqlite", "store.sqlite"] {
        let file = rusqlite::Connection::open(folder.data().join(file)).expect("the file opens");
        file.pragma_update(None, "wal_checkpoint", "truncate").expect("the WAL is copied");
    }
    folder
}

fn intact_files(folder: &Folder) -> Vec<(PathBuf, Vec<u8>)> {
    let files = ["log.sqlite", "store.sqlite"].map(|file| folder.data().join(file));
    files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

fn restore(folder: &Folder, files: &[(PathBuf, Vec<u8>)]) {
    fs::remove_dir_all(folder.data()).expect("the folder can be removed");
    fs::create_dir(folder.data()).expect("a folder is created");
    for (path, content) in files {
        fs::write(path, content).expect("a file is written");
    }
}

const PAGE: usize = 4096;

type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: [Damage; 6] = [
    ("its first 16 bytes are overwritten", |bytes| bytes[..16].fill(0xa5)),
    ("its first page is overwritten", |bytes| bytes[..PAGE].fill(0xa5)),
    ("the first page after its header is overwritten", |bytes| bytes[100..PAGE].fill(0xa5)),
    ("all pages but the first are overwritten", |bytes| bytes[PAGE..].fill(0xa5)),
    ("all pages but the first are zero", |bytes| bytes[PAGE..].fill(0)),
    ("it ends after its first page", |bytes| bytes.truncate(PAGE)),
];

fn assert_reports_damage(output: &ProgramOutput, path: &Path, what: &str) {
    assert_eq!(output.code, 5, "{what}: {output}");
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains("damaged"), "{what}: {output}");
    assert!(
        output.stderr.contains(path.file_name().and_then(|name| name.to_str()).expect("a name")),
        "{what}: {output}"
    );
}

#[test]
fn every_command_that_finds_damage_exits_with_code_5() {
    let folder = filled();
    let files = intact_files(&folder);
    let of_log = [
        "run --until-end",
        "verify",
        "show records",
        "generate --events-per-key 9",
        "topic describe",
        "init",
    ];
    let of_store = ["run --until-end", "verify", "show events", "show progress", "init"];
    for (file, commands) in [(0, &of_log[..]), (1, &of_store[..])] {
        for (what, damage) in DAMAGES {
            for command in commands {
                restore(&folder, &files);
                let (path, mut content) = files[file].clone();
                damage(&mut content);
                fs::write(&path, content).expect("a file is written");
                let output = folder.run(&format!("--set log.level=off {command}"));
                assert_reports_damage(&output, &path, &format!("{} {what}: {command}", path.display()));
            }
        }
    }
}

#[test]
fn damage_in_the_middle_of_a_table_is_found_by_commands_that_read_all_of_it() {
    let folder = filled();
    let files = intact_files(&folder);
    for (file, commands) in [(0, ["show records", "verify"]), (1, ["show events", "verify"])] {
        let (path, content) = &files[file];
        let pages = content.len() / PAGE;
        assert!(pages > 40, "{pages} pages");
        type Cut = fn(&[u8]) -> Vec<u8>;
        let damages: [(&str, Cut); 2] = [
            ("half of it is gone", |content| content[..content.len() / PAGE / 2 * PAGE].to_vec()),
            ("a quarter in its middle is zero", |content| {
                let (quarter, mut damaged) = (content.len() / 4, content.to_vec());
                damaged[content.len() / 2..][..quarter].fill(0);
                damaged
            }),
        ];
        for (what, damage) in damages {
            for command in commands {
                restore(&folder, &files);
                fs::write(path, damage(content)).expect("a file is written");
                let output = folder.run(command);
                assert_reports_damage(&output, path, &format!("{} {what}: {command}", path.display()));
            }
        }
    }
}

#[test]
fn an_altered_or_missing_record_is_damage() {
    for change in
        ["UPDATE records SET value = x'00' WHERE offset = 5", "DELETE FROM records WHERE offset = 5"]
    {
        let folder = filled();
        let log = rusqlite::Connection::open(folder.data().join("log.sqlite")).expect("the log opens");
        assert!(log.execute(change, []).expect("the log is damaged") > 0);
        drop(log);
        for command in ["show records", "verify"] {
            assert_reports_damage(&folder.run(command), Path::new("log.sqlite"), change);
        }
    }
}
