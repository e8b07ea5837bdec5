//! The keys of the configuration: name, meaning, allowed values, default.
//!
//! Files, environment and flags are checked against the table of all keys ([`KEYS`]), and the command line
//! prints keys from it. [`crate::config::Settings`] has a field for each; a test compares
//! the two.

use std::fmt;

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::endpoint;
pub use crate::config::table::KEYS;
use crate::secret::is_secret;
use crate::store::cql::{REPLICATION_RULE, Replication};

/// The allowed values of a key, and its default.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An integer.
    Integer {
        /// Default.
        default: i64,
        /// Minimum.
        min: i64,
        /// Maximum.
        max: i64,
    },
    /// True or false.
    Boolean {
        /// Default.
        default: bool,
    },
    /// A text that satisfies a rule.
    Text {
        /// Default.
        default: &'static str,
        /// The rule.
        valid: fn(&str) -> bool,
        /// The rule as text, after "must be".
        rule: &'static str,
    },
    /// One of several names.
    Choice {
        /// Default.
        default: &'static str,
        /// All of them.
        names: &'static [&'static str],
    },
    /// A subset of several names.
    Choices {
        /// Default.
        default: &'static [&'static str],
        /// All of them.
        names: &'static [&'static str],
    },
    /// One or more `host:port`, in one text, separated by commas.
    Servers {
        /// Default.
        default: &'static str,
    },
    /// A list of one or more `host` or `host:port`.
    Hosts {
        /// Default.
        default: &'static [&'static str],
    },
    /// Texts by name, passed to a library; none by default. The values of secrets ([`is_secret`]) are not shown.
    Properties,
    /// See [`Replication`].
    Replication {
        /// Default.
        default: i64,
    },
}

/// Converts a table to texts: nested tables become names with dots, numbers and booleans become texts.
fn flattened(table: Table) -> Table {
    let mut flat = Table::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => {
                let inner = flattened(inner).into_iter();
                flat.extend(inner.map(|(rest, value)| (format!("{name}.{rest}"), value)));
            }
            Value::Integer(number) => drop(flat.insert(name, number.to_string().into())),
            Value::Float(number) => drop(flat.insert(name, number.to_string().into())),
            Value::Boolean(truth) => drop(flat.insert(name, truth.to_string().into())),
            other => drop(flat.insert(name, other)),
        }
    }
    flat
}

impl Kind {
    /// The default.
    pub fn default(&self) -> Value {
        match *self {
            Kind::Integer { default, .. } | Kind::Replication { default } => default.into(),
            Kind::Text { default, .. } | Kind::Choice { default, .. } | Kind::Servers { default } => {
                default.into()
            }
            Kind::Choices { default, .. } | Kind::Hosts { default } => default.to_vec().into(),
            Kind::Boolean { default } => default.into(),
            Kind::Properties => Table::new().into(),
        }
    }

    /// True if the value is a verbatim text, in which leading and trailing spaces are significant.
    pub fn is_text(&self) -> bool {
        matches!(self, Kind::Text { .. })
    }

    /// True if this value is allowed.
    pub fn allows(&self, value: &Value) -> bool {
        match *self {
            Kind::Integer { min, max, .. } => value.as_integer().is_some_and(|i| (min..=max).contains(&i)),
            Kind::Text { valid, .. } => value.as_str().is_some_and(valid),
            Kind::Choice { names, .. } => value.as_str().is_some_and(|name| names.contains(&name)),
            Kind::Choices { names, .. } => value.as_array().is_some_and(|all| {
                !all.is_empty()
                    && all.iter().all(|one| one.as_str().is_some_and(|name| names.contains(&name)))
            }),
            Kind::Boolean { .. } => value.is_bool(),
            Kind::Servers { .. } => value.as_str().is_some() && self.reason(value).is_none(),
            Kind::Hosts { .. } => {
                let all = value.as_array().filter(|all| !all.is_empty());
                all.is_some_and(|all| all.iter().all(Value::is_str)) && self.reason(value).is_none()
            }
            Kind::Properties => value
                .as_table()
                .is_some_and(|all| all.iter().all(|(name, value)| !name.is_empty() && value.is_str())),
            Kind::Replication { .. } => Replication::deserialize(value.clone()).is_ok(),
        }
    }

    /// Which part of a value is invalid, and why, if that is known.
    pub fn reason(&self, value: &Value) -> Option<String> {
        match self {
            Kind::Servers { .. } => endpoint::check_list(value.as_str()?).err(),
            Kind::Hosts { .. } => {
                let mut hosts = value.as_array()?.iter().filter_map(Value::as_str);
                hosts.find_map(|host| endpoint::check(host, false).err())
            }
            _ => None,
        }
    }

    /// Converts a value of a file to its internal form.
    pub fn normal(&self, value: Value) -> Value {
        match (self, value) {
            (Kind::Properties, Value::Table(table)) => flattened(table).into(),
            (_, value) => value,
        }
    }

    /// Parses a value of the environment or of a flag. Lists and tables are written as in a file; a list may also be
    /// written as items separated by commas, of which the first may start with the bracket of an IPv6 address. What
    /// cannot be parsed remains a text, which [`Kind::allows`] refuses.
    pub fn read(&self, text: &str) -> Value {
        let list = || Some(text.split(',').map(str::trim).collect::<Vec<_>>().into());
        let toml = || toml::de::ValueDeserializer::parse(text).and_then(Value::deserialize).ok();
        let read = match self {
            Kind::Text { .. } | Kind::Choice { .. } | Kind::Servers { .. } => None,
            Kind::Integer { .. } => text.parse().ok().map(Value::Integer),
            Kind::Boolean { .. } => text.parse().ok().map(Value::Boolean),
            Kind::Replication { .. } => toml(),
            Kind::Properties => toml().map(|value| self.normal(value)),
            Kind::Choices { .. } | Kind::Hosts { .. } if text.starts_with('[') => toml().or_else(list),
            Kind::Choices { .. } | Kind::Hosts { .. } => list(),
        };
        read.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

impl fmt::Display for Kind {
    /// What is allowed, worded to follow "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Integer { min, max: i64::MAX, .. } => write!(f, "an integer, at least {min}"),
            Kind::Integer { min, max, .. } => write!(f, "an integer from {min} to {max}"),
            Kind::Text { rule, .. } => f.write_str(rule),
            Kind::Choice { names, .. } => write!(f, "one of {}", names.join(", ")),
            Kind::Choices { names, .. } => write!(f, "a list of one or more of {}", names.join(", ")),
            Kind::Boolean { .. } => f.write_str("true or false"),
            Kind::Servers { .. } => f.write_str("one or more host:port, separated by commas"),
            Kind::Hosts { .. } => f.write_str("a list of one or more of host or host:port"),
            Kind::Properties => f.write_str("texts by name, for example {\"fetch.min.bytes\" = \"1\"}"),
            Kind::Replication { .. } => f.write_str(REPLICATION_RULE),
        }
    }
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name with a dot between; keys outside a section have no dot.
    pub name: &'static str,
    /// Its meaning.
    pub help: &'static str,
    /// Its allowed values.
    pub kind: Kind,
    /// True if its value must not be shown.
    pub secret: bool,
}

impl Key {
    /// The key of a full name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key of [`Kind::Properties`] that is a prefix of a longer name, and what follows it.
    pub fn find_property(name: &str) -> Option<(&'static Key, &str)> {
        let mut keys = KEYS.iter().filter(|key| matches!(key.kind, Kind::Properties));
        keys.find_map(|key| Some((key, name.strip_prefix(key.name)?.strip_prefix('.')?)))
    }

    /// Section (empty for none) and name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// A value of this key for output: secrets are masked, except if they are unset.
    pub fn masked(&self, value: &Value) -> Value {
        match (&self.kind, value) {
            (_, value) if self.secret && *value == self.kind.default() => value.clone(),
            (Kind::Properties, Value::Table(all)) => {
                let masked = |(name, value): (&String, &Value)| {
                    let value = if is_secret(name) { MASK.into() } else { value.clone() };
                    (name.clone(), value)
                };
                all.iter().map(masked).collect::<Table>().into()
            }
            // The value is malformed, so any part of it may be secret.
            (Kind::Properties, _) => MASK.into(),
            _ if self.secret => MASK.into(),
            (_, value) => value.clone(),
        }
    }

    /// A value of this key for output, in TOML.
    pub fn shown(&self, value: &Value) -> String {
        self.masked(value).to_string()
    }
}

/// The mask of a secret.
const MASK: &str = "***";

/// The prefix of every environment variable of this program.
pub const PREFIX: &str = "EXACTLYONCE_";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::{HEALTH, integer, is_topic};

    #[test]
    fn every_default_is_allowed() {
        for key in KEYS {
            let default = key.kind.default();
            assert!(key.kind.allows(&default), "{} = {default}", key.name);
        }
    }

    #[test]
    fn no_two_keys_share_a_name_or_a_variable() {
        let names: std::collections::BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: std::collections::BTreeSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
    }

    #[test]
    fn the_keys_of_a_section_are_contiguous() {
        let mut sections: Vec<&str> = KEYS.iter().map(|key| key.parts().0).collect();
        sections.dedup();
        let distinct: std::collections::BTreeSet<_> = sections.iter().collect();
        assert_eq!(distinct.len(), sections.len());
    }

    #[test]
    fn what_is_shown_of_a_default_can_be_set_again() {
        for key in KEYS {
            let default = key.kind.default();
            let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            assert_eq!(key.kind.read(&text), default, "{}", key.name);
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key = Key { secret: true, ..KEYS[0] };
        assert_eq!(key.shown(&Value::from("hunter2")), "\"***\"");
        assert_eq!(key.shown(&Value::from(7)), "\"***\"");
        assert_eq!(KEYS[0].shown(&Value::from("hunter2")), "\"hunter2\"");
        let properties = Key { kind: Kind::Properties, ..KEYS[0] };
        let text =
            "{a = \"1\", ssl.key.password = \"hunter2\", \"SASL.Oauthbearer.Client.Secret\" = \"hunter2\"}";
        let shown = properties.shown(&properties.kind.read(text));
        assert!(shown.contains("a = \"1\"") && !shown.contains("hunter2"), "{shown}");
        assert!(!properties.shown(&properties.kind.read("ssl.key.password=hunter2")).contains("hunter2"));
    }

    #[test]
    fn every_password_is_secret_and_can_be_read_from_a_file() {
        for key in KEYS.iter().filter(|key| key.name.ends_with("password")) {
            assert!(key.secret, "{}", key.name);
            assert!(Key::find(&format!("{}_file", key.name)).is_some(), "{}", key.name);
        }
        assert_eq!(KEYS.iter().filter(|key| key.secret).count(), 3);
    }

    #[test]
    fn all_notations_of_properties_are_read_as_texts_by_name() {
        let kind = Kind::Properties;
        let texts = kind.read("{\"a.b\" = \"1\", \"c\" = \"true\"}");
        assert!(kind.allows(&texts));
        assert_eq!(kind.read("{a.b = 1, c = true}"), texts);
        for bad in ["", "a", "a=1", "[1]", "{a = [1]}", "{\"\" = \"1\"}", "{a = 1979-05-27}"] {
            assert!(!kind.allows(&kind.read(bad)), "{bad}");
        }
    }

    #[test]
    fn hosts_are_read_in_each_notation_of_a_list() {
        let kind = Kind::Hosts { default: &[] };
        let is = |text: &str, hosts: &[&str]| {
            let read = kind.read(text);
            assert_eq!(read, Value::from(hosts.to_vec()), "{text}");
            assert!(kind.allows(&read), "{text}");
        };
        is("[::1]:9042", &["[::1]:9042"]);
        is("[::1]", &["[::1]"]);
        is("[::1]:9042, a", &["[::1]:9042", "a"]);
        is("a,[::1]", &["a", "[::1]"]);
        is("[\"[::1]:9042\", \"a\"]", &["[::1]:9042", "a"]);
        for bad in ["", "[]", "a,", "a:1;b:1", "[\"a\", 1]", "[a]"] {
            assert!(!kind.allows(&kind.read(bad)), "{bad}");
        }
    }

    #[test]
    fn exactly_the_keys_with_the_name_of_a_secret_are_secret() {
        for key in KEYS {
            assert_eq!(key.secret, is_secret(key.name), "{}", key.name);
        }
    }

    #[test]
    fn ranges_include_both_ends() {
        let kind = integer(5, 1, 10);
        for (value, allowed) in [(0, false), (1, true), (10, true), (11, false)] {
            assert_eq!(kind.allows(&Value::Integer(value)), allowed, "{value}");
        }
        for other in [Value::from(1.0), Value::from("1"), Value::from(true)] {
            assert!(!kind.allows(&other), "{other}");
        }
    }

    #[test]
    fn lists_are_read_with_commas_or_as_in_a_file() {
        let kind = Kind::Choices { default: &["critical"], names: HEALTH };
        let both: Value = vec!["warning", "critical"].into();
        assert_eq!(kind.read("warning, critical"), both);
        assert_eq!(kind.read("[\"warning\", \"critical\"]"), both);
        assert!(!kind.allows(&kind.read("")));
        assert!(!kind.allows(&kind.read("[]")));
        assert!(!kind.allows(&kind.read("[1]")));
        assert!(!kind.allows(&kind.read("bad")));
    }

    #[test]
    fn a_replication_is_a_number_or_a_number_for_each_datacenter() {
        let kind = Kind::Replication { default: 1 };
        for good in ["1", "99", "{paris = 3}", "{paris = 3, oslo = 2}"] {
            assert!(kind.allows(&kind.read(good)), "{good}");
        }
        for bad in ["0", "100", "x", "{}", "{paris = 0}", "{\"a'b\" = 1}", "[1]", "\"1\"", "1.5"] {
            assert!(!kind.allows(&kind.read(bad)), "{bad}");
        }
    }

    #[test]
    fn topics_are_named_by_kafkas_rule() {
        for good in ["a", "exactlyonce.events", "A-1_b", &"t".repeat(249)] {
            assert!(is_topic(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a\n", &"t".repeat(250)] {
            assert!(!is_topic(bad), "{bad}");
        }
    }
}
