//! The folder of the embedded services is the one that is named, whatever characters its name has.

#![cfg(unix)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::harness::{Folder, Said};

/// Names that a shell, SQLite (URIs, in-memory databases), TOML or a reader of flags could take for something else.
const NAMES: [&[u8]; 18] = [
    b"a?b#c%20 d",
    b"file:x",
    b"file:x?mode=memory",
    b"file::memory:",
    b":memory:",
    b"line\nfeed",
    b" blanks ",
    b"-dash",
    b"--data",
    b"~",
    b"%41",
    b"a=b",
    b"a,b",
    b"quotes'\"",
    b"back\\slash",
    "\u{e4}\u{6f22}\u{1f600}".as_bytes(),
    b"[brackets]",
    b"not \xff utf8",
];

/// Goes through the commands with a folder that is named in some way. Nothing else may be made.
fn works(folder: &Folder, name: &OsStr, named: impl Fn(&mut std::process::Command)) {
    let run = |arguments: &str| {
        let mut command = folder.command(arguments.split(' '));
        named(&mut command);
        let said = Said::from(command.output().expect("the program starts"));
        assert_eq!(said.code, 0, "{name:?} {arguments}: {said}");
        said.stdout
    };
    let created = "generate --create-topic --events-per-key 1 --seed 1";
    for arguments in [created, "init", "--set log.level=off run --until-end", "verify"] {
        run(arguments);
    }
    assert_eq!(run("show events --json").lines().count(), 3, "{name:?}");
    for file in ["log.sqlite", "store.sqlite", "worker.lock"] {
        let path = folder.path().join(name).join(file);
        assert!(std::fs::metadata(&path).is_ok(), "{} is missing", path.display());
    }
}

fn entries(folder: &Folder) -> Vec<OsString> {
    let entries = std::fs::read_dir(folder.path()).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

#[test]
fn every_name_is_a_folder_by_flag() {
    for name in NAMES.map(OsStr::from_bytes) {
        let folder = Folder::new();
        works(&folder, name, |command| {
            let mut flag = OsString::from("--data=");
            flag.push(name);
            command.arg(flag);
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn every_name_is_a_folder_by_variable() {
    for name in NAMES.map(OsStr::from_bytes) {
        let folder = Folder::new();
        works(&folder, name, |command| {
            command.env("EXACTLYONCE_EMBEDDED_DATA", name);
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn every_name_is_a_folder_by_file_and_by_set() {
    for name in NAMES.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        let folder = Folder::new();
        let file = toml::Table::from_iter([("embedded.data".to_owned(), toml::Value::from(name))]);
        let value = file["embedded.data"].to_string();
        folder.write("exactlyonce.toml", format!("[embedded]\ndata = {value}\n"));
        works(&folder, name.as_ref(), |_| {});
        let folder = Folder::new();
        works(&folder, name.as_ref(), |command| {
            command.arg(format!("--set=embedded.data={name}"));
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn a_slash_at_the_end_and_a_whole_path_name_the_same_folder() {
    let folder = Folder::new();
    let whole = folder.path().join("file:x");
    works(&folder, "file:x".as_ref(), |command| {
        command.arg("--data=file:x/");
    });
    for name in ["./file:x", "file:x//", whole.to_str().expect("UTF-8")] {
        assert_eq!(folder.fine(&format!("show events --json --data {name}")).lines().count(), 3, "{name}");
    }
    // Other keyspaces are folders in it.
    for command in ["init", "--set log.level=off run --until-end"] {
        folder.fine(&format!("--data file:x --set store.keyspace=other {command}"));
    }
    assert!(whole.join("other/store.sqlite").exists());
}

#[test]
fn a_name_that_cannot_be_a_folder_is_refused() {
    let folder = Folder::new();
    for (arguments, message) in [
        (["--data=", "topic", "create"], "--data"),
        (
            ["--set=embedded.data=", "topic", "create"],
            "embedded.data is \"\", it must be the path of a folder",
        ),
    ] {
        let said = Said::from(folder.command(arguments).output().expect("the program starts"));
        assert!(said.code == 2 && said.stderr.contains(message), "{said}");
    }
    folder.write("exactlyonce.toml", "[embedded]\ndata = \"a\\u0000b\"\n");
    let said = folder.run("topic create");
    assert!(said.code == 2 && said.stderr.contains("embedded.data"), "{said}");
    folder.write("exactlyonce.toml", "");
    let long = "x".repeat(300);
    let said = folder.run(&format!("topic create --data {long}"));
    assert!(said.code == 2 && said.stderr.contains("too long"), "{said}");
    assert_eq!(entries(&folder), ["exactlyonce.toml"]);
}

#[test]
fn a_demonstration_takes_every_name() {
    for name in [&b"file:x?mode=memory"[..], b"-dash", b" blanks ", b"not \xff utf8"].map(OsStr::from_bytes) {
        let folder = Folder::new();
        let mut flag = OsString::from("--data=");
        flag.push(name);
        let arguments = ["demo", "--events", "300", "--kills", "0"].map(OsString::from);
        let said = folder.command(&arguments).arg(flag).output().expect("the program starts");
        let said = Said::from(said);
        assert!(said.code == 0 && said.stdout.contains("differences    0"), "{name:?}: {said}");
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn a_name_does_not_control_the_terminal_of_who_reads_the_messages() {
    let folder = Folder::new();
    let said = folder.command(["run", "--data=a\u{1b}[31m"]).output().expect("the program starts");
    let said = Said::from(said);
    assert!(said.stderr.contains("\\u{1b}[31m") && !said.stderr.contains('\u{1b}'), "{said}");
}
