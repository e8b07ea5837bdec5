//! The target `configuration`: the sources of the configuration.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use exactlyonce::config::Settings;
use exactlyonce::config::keys::KEYS;
use exactlyonce::config::layers::{Effective, Layers, Origin, Problem, Sources};
use tempfile::TempDir;

/// The name of the configuration file.
const FILE: &str = "exactlyonce.toml";

/// What separates the file from the variables of the environment, and these from the flags.
const SEPARATOR: u8 = 0x1e;

/// Settings that name a file, which is read. A path of an input could be any file of this machine.
const FILES: [&str; 3] =
    ["kafka.tls_key_password_file", "kafka.sasl_password_file", "cassandra.password_file"];

/// A folder for the file of this process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| TempDir::new().expect("a folder for temporary files")).path()
}

/// Reads an input as a file, variables of the environment (`NAME=value`, one a line) and flags (`key=value`), separated by the
/// byte 0x1E. What is refused has a message that names where the error is; what is accepted and printed is read as the same.
///
/// # Panics
/// If it is not so.
pub fn configuration(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (text, environment, flags) = (part(), lines(part()), lines(part()));
    let environment = environment.iter().filter_map(|line| line.split_once('='));
    let sources = Sources {
        environment: environment.map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
        flags: flags.into_iter().map(|flag| ("--set", flag)).collect(),
        ..written(text)
    };
    let layers = match Layers::read(&sources) {
        Ok(layers) => layers,
        Err(problems) => return check_problems(&problems),
    };
    let names_a_file = |effective: &&Effective| FILES.contains(&effective.key.name);
    if layers.values().iter().filter(names_a_file).any(|value| value.value.as_str() != Some("")) {
        return;
    }
    match Settings::new(&layers) {
        Ok(settings) => check_printed(&layers, &settings),
        Err(problems) => check_problems(&problems),
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

/// A file with this content.
fn written(text: &[u8]) -> Sources {
    let path = folder().join(FILE);
    fs::write(&path, text).expect("the folder for temporary files can be written");
    Sources { file: Some(path), ..Sources::default() }
}

/// Each names its file and line, variable, flag or key.
fn check_problems(problems: &[Problem]) {
    assert!(!problems.is_empty(), "refused without a problem");
    for problem in problems {
        let text = problem.to_string();
        let of = |origin: &Origin| match origin {
            Origin::File { line, .. } => format!("{FILE}:{line}: "),
            Origin::Environment(name) => format!("environment variable {name}: "),
            Origin::Flag(name) => format!("flag {name}: "),
            Origin::Default => "default: ".to_owned(),
        };
        let place = match problem {
            Problem::UnknownKey { origin, .. }
            | Problem::Value { origin, .. }
            | Problem::Section { origin, .. }
            | Problem::Secret { origin, .. } => of(origin),
            Problem::UnknownVariable { .. } => "environment variable ".to_owned(),
            Problem::SecretFlag { .. } | Problem::NoAssignment { .. } => "flag --set: ".to_owned(),
            Problem::Syntax { line, .. } => format!("{FILE}:{line}: not TOML: "),
            Problem::Contradiction { origins, .. } => {
                let names_key = KEYS.iter().any(|key| origins.contains(&format!("{}: ", key.name)));
                assert!(names_key, "no key in {text:?}");
                origins.clone()
            }
            Problem::Unreadable { .. } | Problem::TooLarge { .. } => FILE.to_owned(),
            other => panic!("an unknown problem: {other}"),
        };
        assert!(text.contains(&place), "{place:?} is not in {text:?}");
        if let Problem::Value { key, .. } = problem {
            assert!(text.contains(key), "{key} is not in {text:?}");
        }
    }
}

/// The configuration as a file, as `config show` prints it, but for secrets, which that masks.
fn printed(layers: &Layers) -> String {
    let mut text = String::new();
    let mut current = "";
    for Effective { key, value, .. } in layers.values() {
        let (section, name) = key.parts();
        if section != current {
            text.push_str(&format!("[{section}]\n"));
            current = section;
        }
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

fn check_printed(layers: &Layers, settings: &Settings) {
    let text = printed(layers);
    let describe =
        |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    let read = Layers::read(&written(text.as_bytes()));
    let read = read.unwrap_or_else(|problems| panic!("{}\n{text}", describe(problems)));
    for (one, other) in layers.values().iter().zip(read.values()) {
        assert_eq!(one.value, other.value, "{}, printed as\n{text}", one.key.name);
        // As it is shown: a secret is not in it.
        let shown = one.key.shown(&one.value);
        assert!(shown.parse::<toml::Value>().is_ok(), "{} is shown as {shown}", one.key.name);
    }
    let again = Settings::new(&read).unwrap_or_else(|problems| panic!("{}\n{text}", describe(problems)));
    assert_eq!(&again, settings, "printed as\n{text}");
}
