//! Rules for the text of this repository:
//!
//! - no private idiom where the field has a term of its own ([`IDIOM`]);
//! - every Rust file starts with a module header;
//! - no Rust file has more than [`MOST_LINES`] lines;
//! - no file holds an absolute path of the machine that it was written on.
//!
//! Exceptions are texts of Cassandra and Kafka; they are listed in `tests/tidy-allowed.txt`, with a reason.

use std::path::Path;
use std::process::Command;

/// Words that are not used here, and what to write instead. They are compared as whole words, whatever their case;
/// an identifier is one word.
const IDIOM: &[(&str, &str)] = &[
    ("accident", "fault, internal error"),
    ("accidents", "faults"),
    ("anew", "again"),
    ("anybody", "any program, any client"),
    ("away", "unavailable, down"),
    ("dice", "random"),
    ("house", "modules, code"),
    ("mend", "restore, fix"),
    ("mended", "restored, fixed"),
    ("mends", "restores, fixes"),
    ("patience", "timeout, deadline"),
    ("patiently", "retry"),
    ("room", "buffer, capacity, space"),
    ("somebody", "another program, another client"),
    ("stage", "context, phase"),
    ("tell", "report, return, log"),
    ("tells", "reports, returns, logs"),
    ("told", "reported, notified, configured"),
    ("trouble", "error, outage, fault"),
    ("wants", "requires, needs"),
    ("weather", "active faults"),
    ("words", "message, text"),
];

/// Where the idiom rule does not hold yet: files, and folders with a slash at the end. Data are never checked.
const UNCHECKED: &[&str] =
    &["fuzz/corpus/", "sim/cassandra/tests/data/", "sim/fuzz/corpus/", "tests/tidy-allowed.txt"];

/// Longest Rust file.
const MOST_LINES: usize = 800;

/// Folders at the root of machines on which people work.
const MACHINE_PATHS: [&str; 3] = [concat!("/", "work"), concat!("/", "root"), concat!("/", "home")];

/// This file, which names what it refuses.
const THIS: &str = "tests/tidy.rs";

/// Lines that a rule does not apply to.
const ALLOWED: &str = include_str!("tidy-allowed.txt");

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let starts = !line[..at].ends_with(|before: char| is_word(before) || "/.<-".contains(before));
        let ends = !line[at + path.len()..].starts_with(|after: char| is_word(after) || "-.".contains(after));
        starts && ends
    })
}

/// True if the list allows this word in this line: `PATH | WORD | PART OF THE LINE | REASON`.
fn is_allowed(list: &str, path: &str, word: &str, line: &str) -> bool {
    list.lines().filter(|entry| !entry.starts_with('#')).any(|entry| {
        let fields: Vec<&str> = entry.split('|').map(str::trim).collect();
        matches!(fields[..], [of, the, part, _reason] if of == path && the == word && line.contains(part))
    })
}

/// What breaks a rule in a file.
fn violations(path: &str, text: &str, allowed: &str) -> Vec<String> {
    let mut found = Vec::new();
    let unchecked =
        UNCHECKED.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place));
    for (number, line) in (1..).zip(text.lines()) {
        for machine in MACHINE_PATHS {
            if has_path(line, machine) {
                found.push(format!("{path}:{number}: a path of a machine, {machine}"));
            }
        }
        if unchecked {
            continue;
        }
        for word in line.split(|character| !is_word(character)).map(str::to_lowercase) {
            if let Some((_, instead)) = IDIOM.iter().find(|(idiom, _)| *idiom == word)
                && !is_allowed(allowed, path, &word, line)
            {
                found.push(format!("{path}:{number}: \"{word}\" is idiom; write: {instead}"));
            }
        }
    }
    if path.ends_with(".rs") {
        if !text.starts_with("//!") && !text.starts_with("#![doc") {
            found.push(format!("{path}:1: no module header (//!)"));
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            found.push(format!("{path}: {lines} lines, more than {MOST_LINES}"));
        }
    }
    found
}

/// The files of the repository, new ones included, without ignored ones.
fn files(root: &Path) -> Vec<String> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let listed = git.output().expect("git lists the files of the repository");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    names.split_terminator('\0').filter(|name| *name != THIS).map(str::to_owned).collect()
}

#[test]
fn every_file_follows_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = files(root);
    assert!(files.len() > 100, "{files:?}");
    let mut found = Vec::new();
    for path in files {
        // A deleted file is still listed, and what is not UTF-8 is no text.
        if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
            found.extend(violations(&path, &text, ALLOWED));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn each_rule_finds_its_violations() {
    let of = |path: &str, text: &str| violations(path, text, "").join("\n");
    assert_eq!(of("src/lib.rs", "//! Fine.\n"), "");
    assert_eq!(
        of("README.md", "One\nA worker is Told to stop."),
        "README.md:2: \"told\" is idiom; write: reported, notified, configured"
    );
    assert_eq!(of("README.md", "the_others_are_told_which, restroom"), "");
    assert_eq!(of("sim/cassandra/tests/data/a.rs", "//! What is told.\n"), "");
    assert_eq!(of("src/new.rs", "use std::fmt;\n"), "src/new.rs:1: no module header (//!)");
    let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
    assert_eq!(of("src/new.rs", &long), "src/new.rs: 801 lines, more than 800");
    for path in MACHINE_PATHS {
        let expected = format!("a.sh:1: a path of a machine, {path}");
        for line in [format!("cd {path}/x"), format!("\"{path}\""), format!("DIR={path}/y")] {
            assert_eq!(of("a.sh", &line), expected, "{line}");
        }
    }
    for fine in ["</root>", "src/work/x", "https://example.org/home/", "/workspace", "/root-ca"] {
        assert_eq!(of("a.sh", fine), "", "{fine}");
    }
}

#[test]
fn an_exception_holds_for_one_word_in_one_line_of_one_file() {
    let list = "# Comment\ndocs/a.md | words | reserved words | Cassandra's term\n";
    assert!(violations("docs/a.md", "reserved words", list).is_empty());
    assert_eq!(violations("docs/a.md", "other words", list).len(), 1);
    assert_eq!(violations("docs/b.md", "reserved words", list).len(), 1);
    assert_eq!(violations("docs/a.md", "reserved words told", list).len(), 1);
}
