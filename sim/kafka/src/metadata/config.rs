//! The configuration of topics: what there is, what is allowed, what it means.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::log::LogConfig;
use crate::protocol::compression;

/// The type of a configuration value (`ConfigDef.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// true or false
    Boolean,
    /// A 32-bit number within bounds.
    Int(i64, i64),
    /// A 64-bit number within bounds.
    Long(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, separated by commas.
    ListOf(&'static [&'static str]),
    /// Any text.
    Text,
}

impl Kind {
    /// Whether elements can be appended to a value and removed from it.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::ListOf(_))
    }

    /// The type's number in DescribeConfigs.
    pub fn number(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::OneOf(_) | Kind::Text => 2,
            Kind::Int(..) => 3,
            Kind::Long(..) => 5,
            Kind::Ratio => 6,
            Kind::ListOf(_) => 7,
        }
    }
}

/// A configuration of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// The broker's configuration that is its default.
    pub broker_name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default in Kafka 4.1.
    pub default: &'static str,
}

const fn key(name: &'static str, broker_name: &'static str, kind: Kind, default: &'static str) -> ConfigKey {
    ConfigKey { name, broker_name, kind, default }
}

const ANY_LONG: Kind = Kind::Long(0, i64::MAX);
const MAX_LONG: &str = "9223372036854775807";

/// All configurations of topics (`LogConfig` of Kafka 4.1), by name.
pub const KEYS: &[ConfigKey] = &[
    key("cleanup.policy", "log.cleanup.policy", Kind::ListOf(&["compact", "delete"]), "delete"),
    key("compression.gzip.level", "compression.gzip.level", Kind::Int(-1, 9), "-1"),
    key("compression.lz4.level", "compression.lz4.level", Kind::Int(1, 17), "9"),
    key(
        "compression.type",
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
    ),
    key("compression.zstd.level", "compression.zstd.level", Kind::Int(-131_072, 22), "3"),
    key("delete.retention.ms", "log.cleaner.delete.retention.ms", ANY_LONG, "86400000"),
    key("file.delete.delay.ms", "log.segment.delete.delay.ms", ANY_LONG, "60000"),
    key("flush.messages", "log.flush.interval.messages", Kind::Long(1, i64::MAX), MAX_LONG),
    key("flush.ms", "log.flush.interval.ms", ANY_LONG, MAX_LONG),
    key("follower.replication.throttled.replicas", "", Kind::Text, ""),
    key("index.interval.bytes", "log.index.interval.bytes", Kind::Int(0, i32::MAX as i64), "4096"),
    key("leader.replication.throttled.replicas", "", Kind::Text, ""),
    key("local.retention.bytes", "log.local.retention.bytes", Kind::Long(-2, i64::MAX), "-2"),
    key("local.retention.ms", "log.local.retention.ms", Kind::Long(-2, i64::MAX), "-2"),
    key("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", Kind::Long(1, i64::MAX), MAX_LONG),
    key("max.message.bytes", "message.max.bytes", Kind::Int(0, i32::MAX as i64), "1048588"),
    key("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", ANY_LONG, "3600000"),
    key("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", ANY_LONG, MAX_LONG),
    key(
        "message.timestamp.type",
        "log.message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
    ),
    key("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", Kind::Ratio, "0.5"),
    key("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", ANY_LONG, "0"),
    key("min.insync.replicas", "min.insync.replicas", Kind::Int(1, i32::MAX as i64), "1"),
    key("preallocate", "log.preallocate", Kind::Boolean, "false"),
    key("remote.log.copy.disable", "", Kind::Boolean, "false"),
    key("remote.log.delete.on.disable", "", Kind::Boolean, "false"),
    key("remote.storage.enable", "", Kind::Boolean, "false"),
    key("retention.bytes", "log.retention.bytes", Kind::Long(i64::MIN, i64::MAX), "-1"),
    key("retention.ms", "log.retention.ms", Kind::Long(-1, i64::MAX), "604800000"),
    key("segment.bytes", "log.segment.bytes", Kind::Int(1_048_576, i32::MAX as i64), "1073741824"),
    key("segment.index.bytes", "log.index.size.max.bytes", Kind::Int(4, i32::MAX as i64), "10485760"),
    key("segment.jitter.ms", "log.roll.jitter.ms", ANY_LONG, "0"),
    key("segment.ms", "log.roll.ms", Kind::Long(1, i64::MAX), "604800000"),
    key("unclean.leader.election.enable", "unclean.leader.election.enable", Kind::Boolean, "false"),
];

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// There is no such configuration.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// The value is of another type, or out of bounds.
    #[error("Invalid value {value} for configuration {name}{reason}")]
    Invalid {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What is wrong, after a colon.
        reason: String,
    },
    /// The service does not exist here.
    #[error(
        "Invalid value true for configuration remote.storage.enable: Tiered Storage functionality is disabled in the broker"
    )]
    Tiered,
}

/// A configuration by its name.
pub fn by_name(name: &str) -> Option<&'static ConfigKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// A configuration by the name of its default among those of brokers.
pub fn by_broker_name(name: &str) -> Option<&'static ConfigKey> {
    KEYS.iter().find(|key| !name.is_empty() && key.broker_name == name)
}

/// Checks a configuration and its value.
///
/// # Errors
/// If there is none of this name, or the value is not allowed.
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    let key = by_name(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
    check_value(name, key.kind, value)
}

/// Checks the value of a configuration of this type.
pub(crate) fn check_value(name: &str, kind: Kind, value: &str) -> Result<(), ConfigError> {
    let invalid = |reason: &str| {
        let (name, value) = (name.to_owned(), value.to_owned());
        ConfigError::Invalid { name, value, reason: reason.to_owned() }
    };
    let trimmed = value.trim();
    match kind {
        Kind::Boolean => {
            let is_true = trimmed.eq_ignore_ascii_case("true");
            if is_true && name == "remote.storage.enable" {
                return Err(ConfigError::Tiered);
            }
            if is_true || trimmed.eq_ignore_ascii_case("false") {
                Ok(())
            } else {
                Err(invalid(": Expected value to be either true or false"))
            }
        }
        Kind::Int(low, high) => {
            let number = trimmed.parse::<i32>();
            let number = number.map_err(|_| invalid(": Not a number of type INT"))?;
            in_bounds(i64::from(number), low, high).map_err(|reason| invalid(&reason))
        }
        Kind::Long(low, high) => {
            let number = trimmed.parse::<i64>();
            let number = number.map_err(|_| invalid(": Not a number of type LONG"))?;
            in_bounds(number, low, high).map_err(|reason| invalid(&reason))
        }
        Kind::Ratio => {
            let number = trimmed.parse::<f64>();
            let number = number.map_err(|_| invalid(": Not a number of type DOUBLE"))?;
            if (0.0..=1.0).contains(&number) {
                Ok(())
            } else {
                Err(invalid(": Value must be between 0 and 1"))
            }
        }
        Kind::OneOf(allowed) => {
            if allowed.contains(&trimmed) {
                Ok(())
            } else {
                Err(invalid(&format!(": String must be one of: {}", allowed.join(", "))))
            }
        }
        Kind::ListOf(allowed) => {
            // An empty list is one.
            let all = trimmed.is_empty()
                || trimmed.split(',').map(str::trim).all(|element| allowed.contains(&element));
            if all {
                Ok(())
            } else {
                Err(invalid(&format!(": String must be one of: {}", allowed.join(", "))))
            }
        }
        Kind::Text => Ok(()),
    }
}

fn in_bounds(number: i64, low: i64, high: i64) -> Result<(), String> {
    if number < low {
        Err(format!(": Value must be at least {low}"))
    } else if number > high {
        Err(format!(": Value must be no more than {high}"))
    } else {
        Ok(())
    }
}

/// What a topic's configuration means to its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Its logs.
    pub log: Arc<LogConfig>,
    /// `min.insync.replicas`
    pub min_in_sync: usize,
    /// `unclean.leader.election.enable`
    pub unclean: bool,
}

impl TopicSettings {
    /// The settings of a topic: its own, else those of all topics, else Kafka's defaults.
    pub fn of(own: &BTreeMap<String, String>, defaults: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| effective(name, own, defaults).trim();
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(0);
        let limit = |name: &str| Some(number(name)).filter(|limit| *limit >= 0);
        let finite = |name: &str| Some(number(name)).filter(|limit| *limit < i64::MAX);
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(0);
        let policies: Vec<&str> = text("cleanup.policy").split(',').map(str::trim).collect();
        let log = LogConfig {
            segment_bytes: size("segment.bytes"),
            segment_ms: number("segment.ms"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes").and_then(|limit| usize::try_from(limit).ok()),
            delete: policies.contains(&"delete"),
            compact: policies.contains(&"compact"),
            delete_retention_ms: number("delete.retention.ms"),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            min_dirty_per_mille: (text("min.cleanable.dirty.ratio").parse::<f64>().unwrap_or(0.5) * 1000.0)
                .round() as u64,
            max_message_bytes: size("max.message.bytes"),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            compression: compression::by_name(text("compression.type")),
            flush_messages: finite("flush.messages"),
            flush_ms: finite("flush.ms"),
        };
        Self {
            log: Arc::new(log),
            min_in_sync: size("min.insync.replicas").max(1),
            unclean: text("unclean.leader.election.enable").eq_ignore_ascii_case("true"),
        }
    }
}

/// The value of a configuration that holds for a topic.
pub fn effective<'a>(
    name: &str,
    own: &'a BTreeMap<String, String>,
    defaults: &'a BTreeMap<String, String>,
) -> &'a str {
    let default = || by_name(name).map_or("", |key| key.default);
    own.get(name).or_else(|| defaults.get(name)).map_or_else(default, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_a_log() {
        let settings = TopicSettings::of(&BTreeMap::new(), &BTreeMap::new());
        assert_eq!(*settings.log, LogConfig::default());
        assert_eq!((settings.min_in_sync, settings.unclean), (1, false));
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for key in KEYS {
            assert_eq!(check(key.name, key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn a_value_of_another_type_or_out_of_bounds_is_refused() {
        for (name, value) in [
            ("no.such.config", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("segment.bytes", "1048575"),
            ("max.message.bytes", "2147483648"),
            ("cleanup.policy", "compact,forget"),
            ("compression.type", "lzma"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("remote.storage.enable", "true"),
            ("preallocate", "yes"),
        ] {
            assert!(check(name, value).is_err(), "{name}={value}");
        }
        assert_eq!(check("cleanup.policy", "delete, compact"), Ok(()));
    }

    #[test]
    fn a_topics_own_value_comes_before_the_default_of_all() {
        let map = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
        assert_eq!(TopicSettings::of(&map("5"), &map("7")).log.retention_ms, Some(5));
        assert_eq!(TopicSettings::of(&BTreeMap::new(), &map("-1")).log.retention_ms, None);
    }
}
