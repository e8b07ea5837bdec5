//! Every key of the configuration, in one table: its name, what it means, what it may be, and its default.
//!
//! Files, environment and flags are checked against this table, and what the command line prints about keys
//! comes from it. [`crate::config::Settings`] has a field for each; a test holds the two together.

use std::fmt;

use serde::Deserialize;
use toml::Value;

use crate::pipeline::Options;
use crate::schema::{KEYSPACE_RULE, Keyspace, REPLICATION_RULE, Replication};

/// What a key may be set to, and its default.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An integer.
    Integer {
        /// Default.
        default: i64,
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A text that a rule holds for.
    Text {
        /// Default.
        default: &'static str,
        /// The rule.
        valid: fn(&str) -> bool,
        /// The rule in words, after "must be".
        rule: &'static str,
    },
    /// One of some words.
    Choice {
        /// Default.
        default: &'static str,
        /// All of them.
        words: &'static [&'static str],
    },
    /// Some of some words.
    Choices {
        /// Default.
        default: &'static [&'static str],
        /// All of them.
        words: &'static [&'static str],
    },
    /// See [`Replication`].
    Replication {
        /// Default.
        default: i64,
    },
}

impl Kind {
    /// The value where nobody set one.
    pub fn default(&self) -> Value {
        match *self {
            Kind::Integer { default, .. } | Kind::Replication { default } => default.into(),
            Kind::Text { default, .. } | Kind::Choice { default, .. } => default.into(),
            Kind::Choices { default, .. } => default.to_vec().into(),
        }
    }

    /// True if a key may be set to this.
    pub fn allows(&self, value: &Value) -> bool {
        match *self {
            Kind::Integer { min, max, .. } => value.as_integer().is_some_and(|i| (min..=max).contains(&i)),
            Kind::Text { valid, .. } => value.as_str().is_some_and(valid),
            Kind::Choice { words, .. } => value.as_str().is_some_and(|word| words.contains(&word)),
            Kind::Choices { words, .. } => value.as_array().is_some_and(|all| {
                !all.is_empty() && all.iter().all(|one| one.as_str().is_some_and(|w| words.contains(&w)))
            }),
            Kind::Replication { .. } => Replication::deserialize(value.clone()).is_ok(),
        }
    }

    /// Reads what the environment or a flag says. Lists and tables are written as in a file, a list also as
    /// words with commas between them. What makes no sense stays text, for [`Kind::allows`] to refuse.
    pub fn read(&self, text: &str) -> Value {
        let toml = || toml::de::ValueDeserializer::parse(text).and_then(Value::deserialize).ok();
        let read = match self {
            Kind::Text { .. } | Kind::Choice { .. } => None,
            Kind::Integer { .. } => text.parse().ok().map(Value::Integer),
            Kind::Replication { .. } => toml(),
            Kind::Choices { .. } if text.starts_with('[') => toml(),
            Kind::Choices { .. } => Some(text.split(',').map(str::trim).collect::<Vec<_>>().into()),
        };
        read.unwrap_or_else(|| Value::String(text.to_owned()))
    }
}

impl fmt::Display for Kind {
    /// What is allowed, as it follows on "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Integer { min, max: i64::MAX, .. } => write!(f, "an integer, at least {min}"),
            Kind::Integer { min, max, .. } => write!(f, "an integer from {min} to {max}"),
            Kind::Text { rule, .. } => f.write_str(rule),
            Kind::Choice { words, .. } => write!(f, "one of {}", words.join(", ")),
            Kind::Choices { words, .. } => write!(f, "a list of one or more of {}", words.join(", ")),
            Kind::Replication { .. } => f.write_str(REPLICATION_RULE),
        }
    }
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name with a dot between; keys outside a section have no dot.
    pub name: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// True if its value must not be shown to anybody.
    pub secret: bool,
}

impl Key {
    /// The key of a full name.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Section (empty for none) and name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// A value of this key as it may be shown: in TOML, masked if the key is secret.
    pub fn shown(&self, value: &Value) -> String {
        match self.secret {
            true => "\"***\"".to_owned(),
            false => value.to_string(),
        }
    }
}

/// What every environment variable of this program begins with.
pub const PREFIX: &str = "EXACTLYONCE_";

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const HEALTH: &[&str] = &["nominal", "warning", "critical"];
const TOPIC_RULE: &str =
    "1 to 249 characters A-Z, a-z, 0-9, _, - and dot, other than \".\" and \"..\" (Kafka's rule)";

fn is_topic(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=249).contains(&name.len()) && name.bytes().all(valid) && name != "." && name != ".."
}

fn is_group(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.contains('\0')
}

const fn key(name: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { name, help, kind, secret: false }
}

const fn integer(default: i64, min: i64, max: i64) -> Kind {
    Kind::Integer { default, min, max }
}

/// All keys, by section, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key(
        "topic",
        Kind::Text { default: "exactlyonce.events", valid: is_topic, rule: TOPIC_RULE },
        "The topic that is read, and that generate writes.",
    ),
    key(
        "broker.kind",
        Kind::Choice { default: "embedded", words: &["embedded", "kafka"] },
        "Where the log is: embedded (a file in the folder embedded.data) or kafka.",
    ),
    key(
        "store.kind",
        Kind::Choice { default: "embedded", words: &["embedded", "cassandra"] },
        "Where the tables are: embedded (a file in the folder embedded.data) or cassandra.",
    ),
    key(
        "store.keyspace",
        Kind::Text {
            default: "exactlyonce",
            valid: |name| Keyspace::try_from(name.to_owned()).is_ok(),
            rule: KEYSPACE_RULE,
        },
        "The keyspace of the tables. A topic that was recreated, or other windows, need another one. The \
         embedded store keeps a keyspace other than exactlyonce in a subfolder of that name.",
    ),
    key(
        "store.replication",
        Kind::Replication { default: 1 },
        "Copies of each row that a new keyspace of Cassandra gets: a number (SimpleStrategy), or a number for \
         each datacenter (NetworkTopologyStrategy).",
    ),
    key(
        "store.layout",
        Kind::Choice { default: "original", words: &["original", "bucketed"] },
        "How the rows of events are keyed: original (all of a partition of the log in one partition of the \
         store, as in 2016; it grows without bound, where Cassandra advises some 100 MB at most) or bucketed \
         (a new one every store.bucket_rows offsets). Chosen when the schema is applied, and bound by init.",
    ),
    key(
        "store.bucket_rows",
        integer(500_000, 1, u32::MAX as i64),
        "Offsets that share a partition of the store, where store.layout is bucketed. The default makes some \
         50 to 100 MB of rows with 100 to 200 bytes. Bound by init.",
    ),
    key(
        "embedded.data",
        Kind::Text { default: "exactlyonce-data", valid: is_path, rule: "the path of a folder" },
        "The folder of the embedded broker and store, seen from the working directory.",
    ),
    key(
        "embedded.synchronous",
        Kind::Choice { default: "full", words: &["full", "normal", "off"] },
        "When the files are synced: full (before each answer: loss of power loses nothing), normal (now and then: \
         loss of power may take back what was answered last; if the tables are then ahead of the log, the \
         worker refuses to go on), off (never: loss of power may damage the files). A killed process loses \
         nothing with any of them.",
    ),
    key("window.size_ms", integer(5_000, 1, i64::MAX), "Length of a window of event time, in milliseconds."),
    key(
        "window.slide_ms",
        integer(5_000, 1, i64::MAX),
        "Distance from one window to the next, in milliseconds, at most window.size_ms: equal to it, windows \
         tumble; smaller, they overlap (an event may belong to 1000 at most).",
    ),
    key(
        "window.threshold",
        integer(10, 1, i32::MAX as i64),
        "Least number of counted events of a source in a window that makes an alert.",
    ),
    key(
        "window.health",
        Kind::Choices { default: &["critical"], words: HEALTH },
        "The levels of health that count.",
    ),
    key(
        "pipeline.group",
        Kind::Text {
            default: "exactlyonce",
            valid: is_group,
            rule: "1 to 255 bytes of text without control characters",
        },
        "The group whose members share the topic's partitions.",
    ),
    key("pipeline.batch_records", integer(5_000, 1, 1_000_000), "A batch closes with this many records."),
    key(
        "pipeline.batch_bytes",
        integer(1 << 20, 1, 1 << 29),
        "A batch closes with this many bytes of keys and values.",
    ),
    key(
        "pipeline.batch_delay_ms",
        integer(50, 0, 10 * MINUTE_MS),
        "A batch closes this long after its first record came, in milliseconds.",
    ),
    key(
        "pipeline.in_flight_batches",
        integer(4, 1, 1_000),
        "Batches of one partition that may be in flight at once.",
    ),
    key(
        "pipeline.prefetch_bytes",
        integer(2 << 20, 1, 1 << 30),
        "Bytes of records of one partition that may wait to be taken into a batch.",
    ),
    key(
        "pipeline.counts_cache_bytes",
        integer(4 << 20, Options::MIN_COUNTS_CACHE_BYTES as i64, 1 << 36),
        "Bytes of window counts that one partition may keep in memory; the rest is read again when needed.",
    ),
    key(
        "pipeline.max_mutation_bytes",
        integer(1 << 20, 1, 1 << 29),
        "A record with more bytes of key and value is a dead letter without its bytes. Bound by init.",
    ),
    key(
        "pipeline.backoff_min_ms",
        integer(10, 1, 10 * MINUTE_MS),
        "First wait before an unanswered request is repeated, in milliseconds; it doubles each time.",
    ),
    key(
        "pipeline.backoff_max_ms",
        integer(5_000, 1, 10 * MINUTE_MS),
        "Longest such wait, in milliseconds, at least pipeline.backoff_min_ms.",
    ),
    key(
        "pipeline.retry_deadline_ms",
        integer(0, 0, DAY_MS),
        "Gives up when a request was not answered for so long, in milliseconds; 0 repeats it for ever.",
    ),
    key(
        "pipeline.stop_deadline_ms",
        integer(10_000, 0, 60 * MINUTE_MS),
        "How long what is in flight may take to finish when the worker stops or gives a partition back, in \
         milliseconds. What does not is done again by the next worker.",
    ),
    key(
        "pipeline.topic_check_interval_ms",
        integer(10_000, 1, 60 * MINUTE_MS),
        "How often it is checked that the topic was not recreated, in milliseconds.",
    ),
    key(
        "log.format",
        Kind::Choice { default: "text", words: &["text", "json"] },
        "How messages are written to stderr.",
    ),
    key(
        "log.level",
        Kind::Choice { default: "info", words: &["off", "error", "warn", "info", "debug", "trace"] },
        "The least weight of a message that is written.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

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
    fn keys_of_a_section_stand_together() {
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
        assert_eq!(KEYS[0].shown(&Value::from("hunter2")), "\"hunter2\"");
    }

    #[test]
    fn ranges_hold_at_both_ends() {
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
        let kind = Kind::Choices { default: &["critical"], words: HEALTH };
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
