//! The name of the folder of the embedded services may have any characters.

#![cfg(unix)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::harness::{Folder, ProgramOutput};

/// Names that a shell, SQLite (URIs, in-memory databases), TOML or a parser of flags could misinterpret.
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

/// Runs the commands; `set` passes the folder's name to each.
fn assert_works(folder: &Folder, name: &OsStr, set: impl Fn(&mut std::process::Command)) {
    let run = |arguments: &str| {
        let mut command = folder.command(arguments.split(' '));
        set(&mut command);
        let output = ProgramOutput::from(command.output().expect("the program starts"));
        assert_eq!(output.code, 0, "{name:?} {arguments}: {output}");
        output.stdout
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
fn a_flag_may_set_every_name() {
    for name in NAMES.map(OsStr::from_bytes) {
        let folder = Folder::new();
        assert_works(&folder, name, |command| {
            let mut flag = OsString::from("--data=");
            flag.push(name);
            command.arg(flag);
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn a_variable_may_set_every_name() {
    for name in NAMES.map(OsStr::from_bytes) {
        let folder = Folder::new();
        assert_works(&folder, name, |command| {
            command.env("EXACTLYONCE_EMBEDDED_DATA", name);
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn a_file_or_the_flag_set_may_set_every_name() {
    for name in NAMES.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        let folder = Folder::new();
        let file = toml::Table::from_iter([("embedded.data".to_owned(), toml::Value::from(name))]);
        let value = file["embedded.data"].to_string();
        folder.write("exactlyonce.toml", format!("[embedded]\ndata = {value}\n"));
        assert_works(&folder, name.as_ref(), |_| {});
        let folder = Folder::new();
        assert_works(&folder, name.as_ref(), |command| {
            command.arg(format!("--set=embedded.data={name}"));
        });
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn a_trailing_slash_and_an_absolute_path_name_the_same_folder() {
    let folder = Folder::new();
    let absolute = folder.path().join("file:x");
    assert_works(&folder, "file:x".as_ref(), |command| {
        command.arg("--data=file:x/");
    });
    for name in ["./file:x", "file:x//", absolute.to_str().expect("UTF-8")] {
        assert_eq!(folder.succeed(&format!("show events --json --data {name}")).lines().count(), 3, "{name}");
    }
    // Other keyspaces are subfolders.
    for command in ["init", "--set log.level=off run --until-end"] {
        folder.succeed(&format!("--data file:x --set store.keyspace=other {command}"));
    }
    assert!(absolute.join("other/store.sqlite").exists());
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
        let output = ProgramOutput::from(folder.command(arguments).output().expect("the program starts"));
        assert!(output.code == 2 && output.stderr.contains(message), "{output}");
    }
    folder.write("exactlyonce.toml", "[embedded]\ndata = \"a\\u0000b\"\n");
    let output = folder.run("topic create");
    assert!(output.code == 2 && output.stderr.contains("embedded.data"), "{output}");
    folder.write("exactlyonce.toml", "");
    let long = "x".repeat(300);
    let output = folder.run(&format!("topic create --data {long}"));
    assert!(output.code == 2 && output.stderr.contains("too long"), "{output}");
    assert_eq!(entries(&folder), ["exactlyonce.toml"]);
}

#[test]
fn a_demonstration_accepts_every_name() {
    for name in [&b"file:x?mode=memory"[..], b"-dash", b" blanks ", b"not \xff utf8"].map(OsStr::from_bytes) {
        let folder = Folder::new();
        let mut flag = OsString::from("--data=");
        flag.push(name);
        let arguments = ["demo", "--events", "300", "--kills", "0"].map(OsString::from);
        let output = folder.command(&arguments).arg(flag).output().expect("the program starts");
        let output = ProgramOutput::from(output);
        assert!(output.code == 0 && output.stdout.contains("differences    0"), "{name:?}: {output}");
        assert_eq!(entries(&folder), [name]);
    }
}

#[test]
fn control_characters_of_a_name_are_escaped_in_messages() {
    let folder = Folder::new();
    let output = folder.command(["run", "--data=a\u{1b}[31m"]).output().expect("the program starts");
    let output = ProgramOutput::from(output);
    assert!(output.stderr.contains("\\u{1b}[31m") && !output.stderr.contains('\u{1b}'), "{output}");
}
