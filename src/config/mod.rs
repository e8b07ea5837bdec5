//! The configuration: what an operator may set, and the source of each value.
//!
//! Four layers, of which later ones override earlier ones: defaults, a TOML file, environment variables
//! `EXACTLYONCE_<SECTION>_<KEY>`, flags. [`keys::KEYS`] lists every key; an unknown one is refused, and the error
//! suggests the most similar known one. The result is [`Settings`], complete and checked.

mod endpoint;
pub mod keys;
pub mod layers;
pub mod nearest;
pub mod services;
mod table;

use std::num::{NonZeroI64, NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::binding::BindingSpec;
use crate::config::layers::{Layers, Problem};
use crate::config::services::{CassandraSettings, KafkaSettings, ServicesSettings};
use crate::pipeline::Options;
use crate::sqlite::Synchronous;
use crate::store::cql::{Keyspace, Replication};
use crate::store::{CountLayout, EventLayout, Layout};
use crate::window::{WindowError, WindowSpec};

/// Every value, typed. The fields are the keys of [`keys::KEYS`]; see there for meaning, unit and range.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `topic`
    pub topic: String,
    /// `[broker]`
    pub broker: BrokerSettings,
    /// `[store]`
    pub store: StoreSettings,
    /// `[embedded]`
    pub embedded: EmbeddedSettings,
    /// `[services]`
    pub services: ServicesSettings,
    /// `[kafka]`
    pub kafka: KafkaSettings,
    /// `[cassandra]`
    pub cassandra: CassandraSettings,
    /// `[window]`
    pub window: WindowSpec,
    /// `[pipeline]`
    pub pipeline: PipelineSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[broker]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// `broker.kind`
    pub kind: BrokerKind,
}

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerKind {
    /// A file in the folder `embedded.data`.
    Embedded,
    /// Kafka.
    Kafka,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// `store.kind`
    pub kind: StoreKind,
    /// `store.keyspace`
    pub keyspace: Keyspace,
    /// `store.replication`
    pub replication: Replication,
    /// `store.layout`
    pub layout: LayoutKind,
    /// `store.bucket_rows`
    pub bucket_rows: NonZeroU32,
    /// `store.count_block_windows`
    pub count_block_windows: NonZeroU32,
    /// `store.count_shards`
    pub count_shards: NonZeroU16,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file in the folder `embedded.data`.
    Embedded,
    /// Cassandra.
    Cassandra,
}

/// Which layout of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// [`EventLayout::Original`].
    Original,
    /// [`EventLayout::Bucketed`], with `store.bucket_rows`.
    Bucketed,
}

/// `[embedded]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// `embedded.data`
    pub data: PathBuf,
    /// `embedded.synchronous`
    pub synchronous: Synchronous,
}

/// `[pipeline]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSettings {
    /// `pipeline.group`
    pub group: String,
    /// `pipeline.batch_records`
    pub batch_records: usize,
    /// `pipeline.batch_delay_ms`
    pub batch_delay_ms: u64,
    /// `pipeline.batch_longest_ms`
    pub batch_longest_ms: u64,
    /// `pipeline.write_records`
    pub write_records: usize,
    /// `pipeline.write_bytes`
    pub write_bytes: usize,
    /// `pipeline.in_flight_batches`
    pub in_flight_batches: usize,
    /// `pipeline.prefetch_bytes`
    pub prefetch_bytes: usize,
    /// `pipeline.counts_cache_bytes`
    pub counts_cache_bytes: usize,
    /// `pipeline.max_mutation_bytes`
    pub max_mutation_bytes: usize,
    /// `pipeline.backoff_min_ms`
    pub backoff_min_ms: u64,
    /// `pipeline.backoff_max_ms`
    pub backoff_max_ms: u64,
    /// `pipeline.retry_deadline_ms`
    pub retry_deadline_ms: u64,
    /// `pipeline.stop_deadline_ms`
    pub stop_deadline_ms: u64,
    /// `pipeline.topic_check_interval_ms`
    pub topic_check_interval_ms: u64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `log.format`
    pub format: LogFormat,
    /// `log.level`: off, error, warn, info, debug or trace.
    pub level: String,
}

/// Format of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// The settings of these layers.
    ///
    /// # Errors
    /// Values that contradict each other, with their sources.
    pub fn new(layers: &Layers) -> Result<Self, Vec<Problem>> {
        let mut document = toml::Table::new();
        for effective in layers.values() {
            let (section, name) = effective.key.parts();
            let value = effective.value.clone();
            if section.is_empty() {
                document.insert(name.to_owned(), value);
            } else {
                let table = document.entry(section).or_insert_with(|| toml::Table::new().into());
                if let Some(table) = table.as_table_mut() {
                    table.insert(name.to_owned(), value);
                }
            }
        }
        // Only a value that does not fit this machine (a 32-bit size) passes the table and fails here.
        let mut settings = Settings::deserialize(document).map_err(|error| {
            let what = error.message().to_owned();
            vec![Problem::Contradiction { what, origins: "all layers".to_owned() }]
        })?;
        if let Some(data) = &layers.exact_data {
            settings.embedded.data = data.clone();
        }
        let mut problems = settings.contradictions(layers);
        problems.extend(services::complete(&mut settings, layers));
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    fn contradictions(&self, layers: &Layers) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut together = |what: String, keys: &[&str]| {
            problems.push(Problem::Contradiction { what, origins: layers.origins(keys) });
        };
        if let Err(error) = self.window.check() {
            let keys: &[&str] = match error {
                WindowError::Size(_) => &["window.size_ms"],
                WindowError::Slide { .. } | WindowError::TooMany { .. } => {
                    &["window.size_ms", "window.slide_ms"]
                }
                WindowError::Threshold(_) => &["window.threshold"],
                WindowError::NoHealth => &["window.health"],
            };
            together(error.to_string(), keys);
        }
        let PipelineSettings { backoff_min_ms: min, backoff_max_ms: max, .. } = self.pipeline;
        if min > max {
            together(
                format!(
                    "pipeline.backoff_max_ms is {max}, it must be at least pipeline.backoff_min_ms, {min}"
                ),
                &["pipeline.backoff_min_ms", "pipeline.backoff_max_ms"],
            );
        }
        problems
    }

    /// The parameters that `init` binds and a worker checks.
    pub fn binding_spec(&self) -> BindingSpec {
        BindingSpec {
            topic: self.topic.clone(),
            window: self.window,
            max_mutation_bytes: self.pipeline.max_mutation_bytes,
        }
    }

    /// The options of the driver for Kafka.
    #[cfg(feature = "kafka")]
    pub fn kafka(&self) -> crate::broker::kafka::KafkaOptions {
        self.kafka.options()
    }

    /// The options of the driver for Cassandra.
    #[cfg(feature = "cassandra")]
    pub fn cassandra(&self) -> crate::store::cassandra::CassandraOptions {
        self.cassandra.options(&self.store.keyspace)
    }

    /// The layout of the tables.
    pub fn layout(&self) -> Layout {
        let events = match self.store.layout {
            LayoutKind::Original => EventLayout::Original,
            LayoutKind::Bucketed => EventLayout::Bucketed { rows: self.store.bucket_rows },
        };
        let block_ms = self.window.slide_ms.saturating_mul(self.store.count_block_windows.get().into());
        let block_ms = NonZeroI64::new(block_ms).unwrap_or(CountLayout::DEFAULT.block_ms);
        Layout { events, counts: CountLayout { block_ms, shards: self.store.count_shards } }
    }

    /// A worker's options.
    pub fn options(&self, until_end: bool) -> Options {
        let pipeline = &self.pipeline;
        let milliseconds = Duration::from_millis;
        Options {
            binding_spec: self.binding_spec(),
            group: pipeline.group.clone(),
            batch_records: pipeline.batch_records,
            batch_delay: milliseconds(pipeline.batch_delay_ms),
            batch_longest: milliseconds(pipeline.batch_longest_ms),
            write_records: match pipeline.write_records {
                0 => None,
                records => Some(records),
            },
            write_bytes: pipeline.write_bytes,
            in_flight_batches: pipeline.in_flight_batches,
            prefetch_bytes: pipeline.prefetch_bytes,
            counts_cache_bytes: pipeline.counts_cache_bytes,
            backoff_min: milliseconds(pipeline.backoff_min_ms),
            backoff_max: milliseconds(pipeline.backoff_max_ms),
            retry_deadline: match pipeline.retry_deadline_ms {
                0 => None,
                deadline => Some(milliseconds(deadline)),
            },
            stop_deadline: milliseconds(pipeline.stop_deadline_ms),
            topic_check_interval: milliseconds(pipeline.topic_check_interval_ms),
            until_end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::layers::Sources;
    use super::*;

    /// The settings with these flags; secrets are set in the environment.
    fn settings(flags: &[&str]) -> Result<Settings, String> {
        let (mut environment, mut set) = (Vec::new(), Vec::new());
        for flag in flags {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match keys::Key::find(name).filter(|key| key.secret) {
                Some(key) => environment.push((key.variable().into(), value.into())),
                None => set.push(("--set", (*flag).to_owned())),
            }
        }
        let layers = Layers::read(&Sources { flags: set, environment, ..Sources::default() });
        let message =
            |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        Settings::new(&layers.map_err(message)?).map_err(message)
    }

    #[test]
    fn every_key_has_a_field_and_every_field_a_key() {
        // All fields are required, and unknown ones are refused.
        assert!(settings(&[]).is_ok());
    }

    #[test]
    fn a_file_with_every_key_may_choose_a_protocol_of_the_group() {
        let choose =
            |timeout| settings(&["broker.kind=kafka", "kafka.group_protocol=consumer", timeout]).map(|_| ());
        assert_eq!(
            choose("kafka.session_timeout_ms=45000"),
            Ok(()),
            "its default, which the protocol ignores"
        );
        assert!(choose("kafka.session_timeout_ms=45001").is_err());
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let defaults = settings(&[]).unwrap();
        assert_eq!(defaults.options(false), Options::new(BindingSpec::new("exactlyonce.events")));
    }

    #[test]
    fn every_option_of_a_worker_can_be_set() {
        let set = settings(&[
            "topic=t",
            "window.size_ms=20",
            "window.slide_ms=4",
            "window.threshold=3",
            "window.health=nominal,warning",
            "pipeline.group=g",
            "pipeline.batch_records=1",
            "pipeline.batch_delay_ms=3",
            "pipeline.batch_longest_ms=31",
            "pipeline.write_records=32",
            "pipeline.write_bytes=33",
            "pipeline.in_flight_batches=5",
            "pipeline.prefetch_bytes=6",
            "pipeline.counts_cache_bytes=4194305",
            "pipeline.max_mutation_bytes=7",
            "pipeline.backoff_min_ms=8",
            "pipeline.backoff_max_ms=9",
            "pipeline.retry_deadline_ms=11",
            "pipeline.stop_deadline_ms=12",
            "pipeline.topic_check_interval_ms=13",
        ]);
        insta::assert_debug_snapshot!(set.unwrap().options(true));
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn the_defaults_of_kafka_are_those_of_its_driver() {
        use crate::broker::kafka::KafkaOptions;
        assert_eq!(settings(&[]).unwrap().kafka(), KafkaOptions::new("127.0.0.1:9092"));
    }

    #[cfg(feature = "cassandra")]
    #[test]
    fn the_defaults_of_cassandra_are_those_of_its_driver() {
        use crate::store::cassandra::CassandraOptions;
        let defaults = settings(&[]).unwrap();
        let points = vec!["127.0.0.1:9042".to_owned()];
        assert_eq!(defaults.cassandra(), CassandraOptions::new(points, defaults.store.keyspace.clone()));
    }

    #[cfg(all(feature = "kafka", feature = "tls"))]
    #[test]
    fn every_option_of_kafka_can_be_set() {
        let set = settings(&[
            "broker.kind=kafka",
            "kafka.bootstrap_servers=a:1,b.c:2",
            "kafka.group_protocol=classic",
            "kafka.session_timeout_ms=1001",
            "kafka.max_poll_interval_ms=1002",
            "kafka.request_timeout_ms=1003",
            "kafka.metadata_interval_ms=1004",
            "kafka.queued_bytes=1025",
            "kafka.commit_offsets=false",
            "kafka.tls=true",
            "kafka.tls_ca_file=ca",
            "kafka.tls_certificate_file=certificate",
            "kafka.tls_key_file=key",
            "kafka.tls_key_password=hunter2",
            "kafka.sasl_mechanism=scram-sha-512",
            "kafka.sasl_username=me",
            "kafka.sasl_password=hunter3",
            "kafka.properties={fetch.min.bytes = 7, \"linger.ms\" = \"5\"}",
            "kafka.properties.socket.keepalive.enable=true",
        ]);
        let set = set.unwrap();
        insta::assert_debug_snapshot!(set.kafka());
        let security = set.kafka().security;
        let passwords = (security.tls.unwrap().key_password.unwrap(), security.sasl.unwrap().password);
        assert_eq!((passwords.0.expose(), passwords.1.expose()), ("hunter2", "hunter3"));
        assert!(!format!("{set:?}").contains("hunter"));
        let consumer = settings(&["kafka.group_protocol=consumer", "broker.kind=kafka"]).unwrap();
        insta::assert_debug_snapshot!(consumer.kafka().group_protocol, @"Consumer");
    }

    #[cfg(all(feature = "kafka", not(feature = "tls")))]
    #[test]
    fn what_this_build_cannot_do_is_refused_with_the_key_that_requests_it() {
        for (flags, key) in [
            (
                &["broker.kind=kafka", "kafka.tls=true"][..],
                "TLS requires a build with the feature `tls` (from kafka.tls: ",
            ),
            (
                &[
                    "broker.kind=kafka",
                    "kafka.sasl_mechanism=scram-sha-256",
                    "kafka.sasl_username=me",
                    "kafka.sasl_password=x",
                ],
                "SCRAM requires a build with the feature `tls` (from kafka.sasl_mechanism: ",
            ),
        ] {
            let message = settings(flags).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
    }

    #[cfg(feature = "cassandra")]
    #[test]
    fn every_option_of_cassandra_can_be_set() {
        let set = settings(&[
            "store.kind=cassandra",
            "store.keyspace=k",
            "cassandra.contact_points=a,b:1",
            "cassandra.datacenter=d",
            "cassandra.consistency=local_quorum",
            "cassandra.compression=lz4",
            "cassandra.tls=true",
            "cassandra.tls_ca_file=ca",
            "cassandra.tls_certificate_file=certificate",
            "cassandra.tls_key_file=key",
            "cassandra.username=me",
            "cassandra.password=hunter2",
            "cassandra.connect_timeout_ms=1",
            "cassandra.request_timeout_ms=2",
            "cassandra.request_bytes=3",
            "cassandra.in_flight_bytes=4",
            "cassandra.in_flight_requests=5",
            "cassandra.warn_rows=6",
        ]);
        let set = set.unwrap();
        insta::assert_debug_snapshot!(set.cassandra());
        assert_eq!(set.cassandra().credentials.unwrap().password.expose(), "hunter2");
        assert!(!format!("{set:?}").contains("hunter"));
    }

    #[test]
    fn settings_of_services_that_contradict_each_other_are_reported() {
        let message = |flags: &[&str]| settings(flags).unwrap_err();
        insta::assert_snapshot!(message(&[
            "broker.kind=kafka",
            "kafka.tls_ca_file=ca",
            "kafka.tls_key_file=key",
            "kafka.sasl_password=hunter2",
            "kafka.session_timeout_ms=400000",
        ]));
        insta::assert_snapshot!(message(&[
            "broker.kind=kafka",
            "kafka.sasl_mechanism=plain",
            "kafka.tls=true",
            "kafka.tls_certificate_file=certificate",
            "kafka.tls_key_password=hunter2",
            "kafka.group_protocol=consumer",
            "kafka.session_timeout_ms=50000",
        ]));
        insta::assert_snapshot!(message(&[
            "store.kind=cassandra",
            "cassandra.consistency=local_quorum",
            "cassandra.tls_ca_file=ca",
            "cassandra.tls_certificate_file=certificate",
            "cassandra.username=me",
            "cassandra.request_bytes=9000000",
        ]));
        insta::assert_snapshot!(message(&["store.kind=cassandra", "cassandra.password=hunter2"]));
        // The same settings are not checked if another kind is used.
        settings(&["cassandra.consistency=local_quorum", "kafka.sasl_mechanism=plain"]).unwrap();
    }

    #[test]
    fn a_secret_may_be_read_from_a_file_whose_last_newline_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let read = |content: &[u8], more: &[&str]| {
            std::fs::write(&path, content).unwrap();
            let file = format!("kafka.sasl_password_file={}", path.display());
            let flags = ["broker.kind=kafka", "kafka.sasl_mechanism=plain", "kafka.sasl_username=me", &file];
            settings(&[&flags, more].concat())
                .map(|settings| settings.kafka.sasl_password.expose().to_owned())
        };
        for (content, password) in
            [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("ä\n", "ä")]
        {
            assert_eq!(read(content.as_bytes(), &[]).as_deref(), Ok(password));
        }
        for bad in [&b""[..], b"\n", b"hunter2\xff", &[b'h'; 65_537]] {
            let message = read(bad, &[]).unwrap_err();
            assert!(message.contains(path.to_str().unwrap()) && !message.contains("hunter2"), "{message}");
        }
        let message = read(b"hunter2", &["kafka.sasl_password=hunter3"]).unwrap_err();
        assert!(message.contains("both set") && !message.contains("hunter"), "{message}");
        std::fs::remove_file(&path).unwrap();
        let file = format!("cassandra.password_file={}", path.display());
        let message = settings(&["store.kind=cassandra", "cassandra.username=me", &file]).unwrap_err();
        assert!(
            message.contains(path.to_str().unwrap()) && message.contains("cassandra.password_file"),
            "{message}"
        );
    }

    #[test]
    fn values_that_contradict_each_other_are_reported_with_their_origins() {
        let message = settings(&["window.size_ms=100", "pipeline.backoff_min_ms=6000"]).unwrap_err();
        insta::assert_snapshot!(message, @r"
        window slide is 5000 ms, it must be 1 to the size of 100 ms (from window.size_ms: flag --set, window.slide_ms: default)
        pipeline.backoff_max_ms is 5000, it must be at least pipeline.backoff_min_ms, 6000 (from pipeline.backoff_min_ms: flag --set, pipeline.backoff_max_ms: default)
        ");
        let message = settings(&["window.slide_ms=4"]).unwrap_err();
        assert!(message.contains("more than 1000 windows"), "{message}");
    }
}
