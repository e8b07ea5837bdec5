//! The sources of values: defaults, a file, the environment, flags; later ones override earlier ones.
//!
//! Every value keeps its [`Origin`], so that errors and `config show` can name it. The problems of all layers are
//! reported together.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use crate::config::keys::{KEYS, Key, PREFIX};
use crate::config::nearest::nearest;
use crate::secret::is_secret;

/// The file that is read from the working directory if none is named.
pub const DEFAULT_FILE: &str = "exactlyonce.toml";

/// Names the file, as the flag `--config` does.
pub const FILE_VARIABLE: &str = "EXACTLYONCE_CONFIG";

/// The key of the folder of the embedded services.
const DATA: &str = "embedded.data";

/// Prefixes (after [`PREFIX`]) of the testbed's variables: those of `docker/local/cluster` and of `cargo sim`,
/// which may be set in the same shell.
const TESTBED: [&str; 2] = ["LOCAL_", "SIM_"];

/// Maximum size of the file, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table of keys.
    Default,
    /// A file.
    File {
        /// Its path, as written.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// An error in the configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// Unknown key.
    #[error("{origin}: there is no key {name:?}{}", hint(*.nearest))]
    UnknownKey {
        /// As written.
        name: String,
        /// Where.
        origin: Origin,
        /// A similar known name.
        nearest: Option<&'static str>,
    },
    /// An environment variable with this program's prefix that sets no key.
    #[error("environment variable {} sets no key{}", .name.escape_debug(), hint(.nearest.as_deref()))]
    UnknownVariable {
        /// As written.
        name: String,
        /// A similar known name.
        nearest: Option<String>,
    },
    /// A value that is not allowed.
    #[error("{origin}: {key} is {value}, it must be {allowed}{}", after_colon(.reason.as_deref()))]
    Value {
        /// Full name of the key.
        key: &'static str,
        /// The value, masked if it is secret.
        value: String,
        /// Where.
        origin: Origin,
        /// What is allowed.
        allowed: String,
        /// Which part is invalid, and why, if that is known.
        reason: Option<String>,
    },
    /// A flag sets a secret, which every user of the machine can see in the process list.
    #[error(
        "flag --set: {name} is a secret, and the process list shows command lines: set it with {}",
        secret_sources(.key)
    )]
    SecretFlag {
        /// Name of the key, or of the property.
        name: String,
        /// The key.
        key: &'static Key,
    },
    /// The name of a section is used as a key.
    #[error("{origin}: {name:?} is a section, it must be written as [{name}]")]
    Section {
        /// The section.
        name: &'static str,
        /// Where.
        origin: Origin,
    },
    /// A flag that sets keys has no key or no value.
    #[error("flag {flag}: {text:?} is not of the form section.key=value")]
    NoAssignment {
        /// The flag.
        flag: &'static str,
        /// As written.
        text: String,
    },
    /// Values that contradict each other.
    #[error("{what} (from {origins})")]
    Contradiction {
        /// What is wrong.
        what: String,
        /// Each key's name, and the source of its value.
        origins: String,
    },
    /// A file with a secret cannot be used.
    #[error("{origin}: {key} is {}, which cannot be read", .path.display())]
    Secret {
        /// Full name of the key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// Where the key was set.
        origin: Origin,
        /// What is wrong with the file.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not TOML: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{}: the configuration file has more than {FILE_BYTES} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}

fn after_colon(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// The ways to set a secret.
fn secret_sources(key: &Key) -> String {
    let file = format!("{}_file", key.name);
    let file = match Key::find(&file) {
        Some(key) => format!("{}, ", key.name),
        None => String::new(),
    };
    format!("{file}the environment variable {}, or the configuration file", key.variable())
}

/// The sources of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// A file that is read if it exists and `file` is not given.
    pub default_file: Option<PathBuf>,
    /// The environment; variables that do not start with [`PREFIX`] are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags: name, and `key=value`.
    pub flags: Vec<(&'static str, String)>,
    /// The flag `--data`, which overrides all others: the folder's name, which need not be UTF-8.
    pub data: Option<PathBuf>,
}

/// A key with its effective value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The key.
    pub key: &'static Key,
    /// Allowed by the key.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// The value of every key, in the order of [`KEYS`].
#[derive(Clone, Debug)]
pub struct Layers {
    values: Vec<Effective>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// The value of [`DATA`], if it is not UTF-8.
    pub(super) exact_data: Option<PathBuf>,
}

impl Layers {
    /// Reads all sources.
    ///
    /// # Errors
    /// All errors in them.
    pub fn read(sources: &Sources) -> Result<Self, Vec<Problem>> {
        let default =
            |key: &'static Key| Effective { key, value: key.kind.default(), origin: Origin::Default };
        let mut layers = Layers { values: KEYS.iter().map(default).collect(), file: None, exact_data: None };
        let mut problems = Vec::new();
        layers.file(sources, &mut problems);
        layers.environment(&sources.environment, &mut problems);
        layers.flags(&sources.flags, &mut problems);
        if let (Some(data), Some(key)) = (&sources.data, Key::find(DATA)) {
            layers.folder(key, data.as_os_str(), Origin::Flag("--data"), &mut problems);
        }
        if problems.is_empty() { Ok(layers) } else { Err(problems) }
    }

    /// The value of every key, in the order of [`KEYS`].
    pub fn values(&self) -> &[Effective] {
        &self.values
    }

    /// The sources of the values of these keys, for an error about all of them.
    pub(super) fn origins(&self, names: &[&str]) -> String {
        let named = self.values.iter().filter(|value| names.contains(&value.key.name));
        named.map(|value| format!("{}: {}", value.key.name, value.origin)).collect::<Vec<_>>().join(", ")
    }

    /// The source of a key's value.
    pub(super) fn origin(&self, name: &str) -> Option<&Origin> {
        self.values.iter().find(|value| value.key.name == name).map(|value| &value.origin)
    }

    /// True if a key has its default, whether it is set or not: a file with every key, as `config show` prints it, sets
    /// those that nobody chose, too.
    pub(super) fn is_default(&self, name: &str) -> bool {
        let mut values = self.values.iter();
        values.any(|effective| effective.key.name == name && effective.value == effective.key.kind.default())
    }

    /// Sets the key of a folder, whose name need not be UTF-8.
    fn folder(&mut self, key: &'static Key, name: &OsStr, origin: Origin, problems: &mut Vec<Problem>) {
        self.set(key, name.to_string_lossy().into_owned().into(), origin, problems);
        self.exact_data = name.to_str().is_none().then(|| name.into());
    }

    fn set(&mut self, key: &'static Key, value: Value, origin: Origin, problems: &mut Vec<Problem>) {
        if !key.kind.allows(&value) {
            let (allowed, reason) = (key.kind.to_string(), key.kind.reason(&value));
            let value = key.shown(&value);
            return problems.push(Problem::Value { key: key.name, value, origin, allowed, reason });
        }
        if key.name == DATA {
            self.exact_data = None;
        }
        if let Some(effective) = self.values.iter_mut().find(|effective| effective.key.name == key.name) {
            (effective.value, effective.origin) = (value, origin);
        }
    }

    fn file(&mut self, sources: &Sources, problems: &mut Vec<Problem>) {
        let (path, required) = match (&sources.file, &sources.default_file) {
            (Some(file), _) => (file, true),
            (None, Some(file)) => (file, false),
            (None, None) => return,
        };
        match read_file(path) {
            Ok(text) => {
                self.file = Some(path.clone());
                self.document(path, &text, problems);
            }
            Err(Problem::Unreadable { source, .. })
                if !required && source.kind() == std::io::ErrorKind::NotFound => {}
            Err(problem) => problems.push(problem),
        }
    }

    fn document(&mut self, path: &Path, text: &str, problems: &mut Vec<Problem>) {
        let line = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let document = match DeTable::parse(text) {
            Ok(document) => document.into_inner(),
            Err(error) => {
                let line = line(error.span().map_or(0, |span| span.start));
                let (path, message) = (path.to_owned(), error.message().to_owned());
                return problems.push(Problem::Syntax { path, line, message });
            }
        };
        let origin = |offset: usize| Origin::File { path: path.to_owned(), line: line(offset) };
        for (name, value) in sorted(&document) {
            let at = name.span().start;
            let section = KEYS.iter().map(|key| key.parts().0).find(|section| section == name.get_ref());
            match (value.get_ref(), section) {
                (DeValue::Table(table), _) if Key::find(name.get_ref()).is_none() => {
                    for (inner, value) in sorted(table) {
                        let full = format!("{}.{}", name.get_ref(), inner.get_ref());
                        self.file_value(&full, value, origin(inner.span().start), problems);
                    }
                    if table.is_empty() && section.is_none() {
                        let sections = KEYS.iter().map(|key| key.parts().0);
                        let nearest = nearest(name.get_ref(), sections);
                        let (name, origin) = (name.get_ref().to_string(), origin(at));
                        problems.push(Problem::UnknownKey { name, origin, nearest });
                    }
                }
                (_, Some(name)) => problems.push(Problem::Section { name, origin: origin(at) }),
                _ => self.file_value(name.get_ref(), value, origin(at), problems),
            }
        }
    }

    fn file_value(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
        problems: &mut Vec<Problem>,
    ) {
        let Some(key) = Key::find(name) else {
            return problems.push(unknown(name, origin));
        };
        match Value::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(value) => self.set(key, key.kind.normal(value), origin, problems),
            // A number that TOML allows, but that does not fit into 64 bits.
            Err(error) => problems.push(Problem::Value {
                key: key.name,
                value: match key.secret {
                    true => "not a value that can be parsed".to_owned(),
                    false => format!("not a value that can be parsed ({})", error.message()),
                },
                origin,
                allowed: key.kind.to_string(),
                reason: None,
            }),
        }
    }

    fn environment(&mut self, environment: &[(OsString, OsString)], problems: &mut Vec<Problem>) {
        let is_ours = |name: &OsStr| {
            let rest = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
            rest.is_some_and(|rest| !TESTBED.iter().any(|other| rest.starts_with(other.as_bytes())))
        };
        let mut variables: Vec<_> = environment.iter().filter(|(name, _)| is_ours(name)).collect();
        variables.sort();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if name == FILE_VARIABLE {
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
                let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
                let known = known.iter().map(String::as_str).chain([FILE_VARIABLE]);
                let stem = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
                let stems: Vec<String> = known.map(stem).collect();
                let nearest = nearest(&stem(&name), stems.iter().map(String::as_str));
                let nearest = nearest.map(|stem| format!("{PREFIX}{stem}"));
                problems.push(Problem::UnknownVariable { name: name.into_owned(), nearest });
                continue;
            };
            let origin = Origin::Environment(name.into_owned());
            match value.to_str() {
                Some(text) => self.set(key, key.kind.read(text), origin, problems),
                None if key.name == DATA => self.folder(key, value, origin, problems),
                None => problems.push(Problem::Value {
                    key: key.name,
                    value: "not UTF-8".to_owned(),
                    origin,
                    allowed: key.kind.to_string(),
                    reason: None,
                }),
            }
        }
    }

    fn flags(&mut self, flags: &[(&'static str, String)], problems: &mut Vec<Problem>) {
        for (flag, text) in flags {
            let Some((name, value)) = text.split_once('=') else {
                // Shows only what may be the name of a key, because a secret may follow.
                let is_name = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
                let text = text.chars().take_while(|c| is_name(*c)).collect();
                problems.push(Problem::NoAssignment { flag, text });
                continue;
            };
            let origin = Origin::Flag(flag);
            // `key = value` is accepted, as in a file; but spaces may be part of a text, for example of a folder's name.
            let value = if name.ends_with(' ') { value.trim_start_matches(' ') } else { value };
            let name = name.trim();
            if let Some(key) = Key::find(name) {
                let value = key.kind.read(if key.kind.is_text() { value } else { value.trim() });
                match secret_in(key, &value) {
                    Some(name) => problems.push(Problem::SecretFlag { name, key }),
                    None => self.set(key, value, origin, problems),
                }
            } else if let Some((key, property)) = Key::find_property(name) {
                if is_secret(property) && !value.is_empty() {
                    problems.push(Problem::SecretFlag { name: name.to_owned(), key });
                    continue;
                }
                let before = self.values.iter().find(|effective| effective.key.name == key.name);
                let mut all = before.and_then(|before| before.value.as_table().cloned()).unwrap_or_default();
                all.insert(property.to_owned(), value.trim().into());
                self.set(key, all.into(), origin, problems);
            } else {
                problems.push(unknown(name, origin));
            }
        }
    }
}

/// The name of a secret that this value of a key sets. An empty value is not a secret: it overrides the value of a file.
fn secret_in(key: &Key, value: &Value) -> Option<String> {
    let is_empty = |value: &Value| value.as_str().is_some_and(str::is_empty);
    match value {
        Value::Table(all) => {
            let mut secrets = all.iter().filter(|(name, value)| is_secret(name) && !is_empty(value));
            secrets.next().map(|(name, _)| format!("{}.{name}", key.name))
        }
        value => (key.secret && !is_empty(value)).then(|| key.name.to_owned()),
    }
}

/// The entries of a table in the order of the file.
fn sorted<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn unknown(name: &str, origin: Origin) -> Problem {
    let nearest = nearest(name, KEYS.iter().map(|key| key.name));
    Problem::UnknownKey { name: name.to_owned(), origin, nearest }
}

fn read_file(path: &Path) -> Result<String, Problem> {
    use std::io::Read;
    let unreadable = |source| Problem::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(Problem::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Problem::Syntax { path: path.to_owned(), line, message: "not UTF-8".to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Result<Layers, Vec<Problem>> {
        let mut layers = Layers::read(&Sources::default())?;
        let mut problems = Vec::new();
        layers.document(Path::new("x.toml"), text, &mut problems);
        if problems.is_empty() { Ok(layers) } else { Err(problems) }
    }

    fn problems(text: &str) -> String {
        let problems = document(text).expect_err("a problem");
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    fn value(layers: &Layers, name: &str) -> (String, String) {
        let effective = layers.values().iter().find(|effective| effective.key.name == name);
        let effective = effective.expect("a known key");
        (effective.value.to_string(), effective.origin.to_string())
    }

    #[test]
    fn a_later_layer_overrides_earlier_ones_and_each_value_has_its_origin() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let mut layers = document("topic = 'f'\n[window]\nsize_ms = 1\nslide_ms = 1\nthreshold = 1").unwrap();
        let mut problems = Vec::new();
        let environment =
            [variable("EXACTLYONCE_WINDOW_SIZE_MS", "2"), variable("EXACTLYONCE_WINDOW_SLIDE_MS", "2")];
        layers.environment(&environment, &mut problems);
        layers.flags(&[("--set", "window.size_ms = 3".to_owned())], &mut problems);
        assert!(problems.is_empty());
        let is = |name, value: &str, origin: &str| (name, (value.to_owned(), origin.to_owned()));
        for (name, expected) in [
            is("topic", "\"f\"", "x.toml:1"),
            is("window.threshold", "1", "x.toml:5"),
            is("window.slide_ms", "2", "environment variable EXACTLYONCE_WINDOW_SLIDE_MS"),
            is("window.size_ms", "3", "flag --set"),
            is("window.health", "[\"critical\"]", "default"),
        ] {
            assert_eq!(value(&layers, name), expected, "{name}");
        }
    }

    #[test]
    fn every_problem_of_a_file_is_reported_with_its_line() {
        let text =
            "topc = 'x'\nstore = 'x'\n\n[pipeline]\nbatch_record = 5\nwrite_bytes = 0\ngroup = 7\n[windo]\n";
        insta::assert_snapshot!(problems(text), @r#"
        x.toml:1: there is no key "topc", did you mean topic?
        x.toml:2: "store" is a section, it must be written as [store]
        x.toml:5: there is no key "pipeline.batch_record", did you mean pipeline.batch_records?
        x.toml:6: pipeline.write_bytes is 0, it must be an integer from 1 to 536870912
        x.toml:7: pipeline.group is 7, it must be 1 to 255 bytes of text without control characters
        x.toml:8: there is no key "windo", did you mean window?
        "#);
    }

    #[test]
    fn a_number_too_large_for_an_integer_is_reported_with_its_line() {
        let message = problems("[window]\nsize_ms = 99999999999999999999");
        assert!(
            message.starts_with("x.toml:2: window.size_ms is not a value that can be parsed"),
            "{message}"
        );
    }

    #[test]
    fn what_is_not_toml_is_reported_with_its_line() {
        let message = problems("topic = 'a'\ntopic = 'b'\n");
        assert!(message.starts_with("x.toml:2: not TOML: "), "{message}");
        let message = problems("[window]\nsize_ms = \n");
        assert!(message.starts_with("x.toml:2: not TOML: "), "{message}");
    }

    #[test]
    fn keys_may_be_dotted_or_in_inline_tables_or_in_sections() {
        for text in ["window.size_ms = 7", "window = {size_ms = 7}", "[window]\nsize_ms = 7"] {
            assert_eq!(value(&document(text).unwrap(), "window.size_ms").0, "7", "{text}");
        }
        let replication = document("[store.replication]\nparis = 3\n").unwrap();
        assert_eq!(value(&replication, "store.replication").0, "{ paris = 3 }");
    }

    #[test]
    fn a_variable_that_sets_no_key_is_refused_and_variables_without_the_prefix_are_ignored() {
        let names = [
            "EXACTLYONCE_WINDOW_SIZE",
            "EXACTLYONCE_CONFIG",
            "OTHER",
            "EXACTLYONCEX",
            "EXACTLYONCE_LOCAL_DIR",
            "EXACTLYONCE_SIM_PRINT_CASSANDRA",
        ];
        let environment = names.map(|name| (OsString::from(name), OsString::from("1"))).to_vec();
        let problems = Layers::read(&Sources { environment, ..Sources::default() }).unwrap_err();
        let messages: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            messages,
            ["environment variable EXACTLYONCE_WINDOW_SIZE sets no key, did you mean \
              EXACTLYONCE_WINDOW_SIZE_MS?"]
        );
    }

    #[test]
    fn spaces_are_part_of_a_text_and_are_ignored_elsewhere() {
        for (flag, name, expected) in [
            ("embedded.data= a ", "embedded.data", "\" a \""),
            ("embedded.data = a ", "embedded.data", "\"a \""),
            ("window.size_ms = 7 ", "window.size_ms", "7"),
            ("window.health = warning , critical", "window.health", "[\"warning\", \"critical\"]"),
        ] {
            let sources = Sources { flags: vec![("--set", flag.to_owned())], ..Sources::default() };
            assert_eq!(value(&Layers::read(&sources).unwrap(), name).0, expected, "{flag}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_of_the_last_layer_is_used_even_if_its_name_is_not_utf8() {
        use std::os::unix::ffi::OsStrExt;
        let odd = || OsStr::from_bytes(b"\xff").to_owned();
        let environment = vec![("EXACTLYONCE_EMBEDDED_DATA".into(), odd())];
        let flags = vec![("--set", "embedded.data=set".to_owned())];
        let exact = |sources: &Sources| Layers::read(sources).unwrap().exact_data;
        let of_environment = Sources { environment, ..Sources::default() };
        assert_eq!(exact(&of_environment), Some(odd().into()));
        let of_set = Sources { flags, ..of_environment };
        assert_eq!(exact(&of_set), None);
        let of_data = Sources { data: Some(odd().into()), ..of_set };
        assert_eq!(exact(&of_data), Some(odd().into()));
        assert_eq!(exact(&Sources { data: Some("a".into()), ..of_data }), None);
    }

    #[test]
    fn a_flag_without_a_key_or_a_valid_value_is_refused() {
        for (text, message) in [
            ("window.size_ms", "flag --set: \"window.size_ms\" is not of the form section.key=value"),
            ("size_ms=1", "flag --set: there is no key \"size_ms\", did you mean window.size_ms?"),
            ("window.size_ms=x", "flag --set: window.size_ms is \"x\", it must be an integer, at least 1"),
        ] {
            let sources = Sources { flags: vec![("--set", text.to_owned())], ..Sources::default() };
            let problems = Layers::read(&sources).unwrap_err();
            assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [message]);
        }
    }
}
