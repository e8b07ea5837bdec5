//! Every key of the configuration, in one table.

use crate::config::keys::{Key, Kind};
use crate::pipeline::Options;
use crate::store::CountLayout;
use crate::store::cql::{KEYSPACE_RULE, Keyspace};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
pub(super) const HEALTH: &[&str] = &["nominal", "warning", "critical"];
const TOPIC_RULE: &str =
    "1 to 249 characters A-Z, a-z, 0-9, _, - and dot, other than \".\" and \"..\" (Kafka's rule)";

pub(super) fn is_topic(name: &str) -> bool {
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

pub(super) const fn integer(default: i64, min: i64, max: i64) -> Kind {
    Kind::Integer { default, min, max }
}

fn is_name(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_optional_path(path: &str) -> bool {
    path.is_empty() || is_path(path)
}

const fn text(default: &'static str, valid: fn(&str) -> bool, rule: &'static str) -> Kind {
    Kind::Text { default, valid, rule }
}

const fn boolean(default: bool) -> Kind {
    Kind::Boolean { default }
}

/// The path of a file, or nothing.
const FILE: Kind = text("", is_optional_path, "the path of a file, or empty for none");

/// A name, or nothing.
const NAME: Kind = text("", is_name, "a text without control characters, or empty for none");

/// A password, which may be any text.
const fn secret(name: &'static str, help: &'static str) -> Key {
    Key { name, help, kind: text("", |_| true, "a text, or empty for none"), secret: true }
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
        Kind::Choice { default: "embedded", names: &["embedded", "kafka"] },
        "Where the log is: embedded (a file in the folder embedded.data) or kafka.",
    ),
    key(
        "store.kind",
        Kind::Choice { default: "embedded", names: &["embedded", "cassandra"] },
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
        Kind::Choice { default: "original", names: &["original", "bucketed"] },
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
        "store.count_block_windows",
        integer(CountLayout::BLOCK_WINDOWS as i64, 1, u32::MAX as i64),
        "Windows whose counts share a partition of Cassandra, for each shard and partition of the log. More make \
         fewer and larger requests where an event belongs to many windows. A partition of Cassandra holds up to \
         count_block_windows times sources / count_shards rows; keep that below some 100,000. Bound by init.",
    ),
    key(
        "store.count_shards",
        integer(CountLayout::SHARDS as i64, 1, u16::MAX as i64),
        "Into how many partitions of Cassandra the sources of a block of windows are spread. More make smaller \
         partitions, and more requests for each batch: reading the sums takes one for each partition of the log, \
         block and shard that the batch touched. Bound by init.",
    ),
    key(
        "embedded.data",
        Kind::Text { default: "exactlyonce-data", valid: is_path, rule: "the path of a folder" },
        "The folder of the embedded broker and store, relative to the working directory.",
    ),
    key(
        "embedded.synchronous",
        Kind::Choice { default: "full", names: &["full", "normal", "off"] },
        "When the files are synced: full (before each acknowledgement: loss of power loses nothing), normal (now and \
         then: loss of power may lose what was acknowledged last; if the tables are then ahead of the log, the \
         worker refuses to go on), off (never: loss of power may damage the files). A killed process loses \
         nothing with any of them.",
    ),
    key(
        "services.start_deadline_ms",
        integer(60_000, 0, DAY_MS),
        "How long a command waits for Kafka and Cassandra to respond when it starts, in milliseconds; then it \
         ends with exit code 4. 0 tries once. Errors that waiting does not fix (a wrong password, a certificate \
         that is not trusted, other tables) end it at once. For a service that is lost later see \
         pipeline.retry_deadline_ms.",
    ),
    key(
        "kafka.bootstrap_servers",
        Kind::Servers { default: "127.0.0.1:9092" },
        "Some of the cluster's brokers; the client discovers the others. The section kafka is for broker.kind \
         = kafka.",
    ),
    key(
        "kafka.group_protocol",
        Kind::Choice { default: "classic", names: &["classic", "consumer"] },
        "How the group's members share the partitions: classic (one of them assigns, in small steps) or \
         consumer (the broker assigns, KIP-848; needs Kafka 4.0). All members must use the same.",
    ),
    key(
        "kafka.session_timeout_ms",
        integer(45_000, 1_000, DAY_MS),
        "A member without a heartbeat for so long is removed from the group, in milliseconds. With \
         kafka.group_protocol = consumer the broker decides, and this must not be set.",
    ),
    key(
        "kafka.max_poll_interval_ms",
        integer(300_000, 1_000, DAY_MS),
        "A member that does not poll for so long loses its partitions, in milliseconds, at least \
         kafka.session_timeout_ms. A long outage of the store does not count.",
    ),
    key(
        "kafka.request_timeout_ms",
        integer(10_000, 100, 10 * MINUTE_MS),
        "How long a request to a broker may take, in milliseconds.",
    ),
    key(
        "kafka.metadata_interval_ms",
        integer(30_000, 100, DAY_MS),
        "Interval for checking whether the topic has more partitions, in milliseconds.",
    ),
    key(
        "kafka.queued_bytes",
        integer(4 << 20, 1 << 10, 1 << 31),
        "Bytes that may wait in the client's queues, over all partitions.",
    ),
    key(
        "kafka.commit_offsets",
        boolean(true),
        "Whether durable positions are also committed to the group, for lag dashboards. They are never read.",
    ),
    key(
        "kafka.tls",
        boolean(false),
        "Whether connections are encrypted. The brokers' certificates are checked.",
    ),
    key(
        "kafka.tls_ca_file",
        FILE,
        "Certificates of the authorities that are trusted, in PEM; the system's own if empty.",
    ),
    key("kafka.tls_certificate_file", FILE, "This client's certificate and its chain, in PEM."),
    key("kafka.tls_key_file", FILE, "The key of this client's certificate, in PEM."),
    secret(
        "kafka.tls_key_password",
        "The password of that key. Not by a flag: command lines are visible to other users.",
    ),
    key("kafka.tls_key_password_file", FILE, "A file that contains it. A newline at its end is ignored."),
    key(
        "kafka.sasl_mechanism",
        Kind::Choice { default: "none", names: &["none", "plain", "scram-sha-256", "scram-sha-512"] },
        "How this client authenticates. plain sends the password in clear text, so use it with kafka.tls.",
    ),
    key("kafka.sasl_username", NAME, "The user name."),
    secret("kafka.sasl_password", "The password. Not by a flag: command lines are visible to other users."),
    key("kafka.sasl_password_file", FILE, "A file that contains it. A newline at its end is ignored."),
    key(
        "kafka.properties",
        Kind::Properties,
        "Other properties of librdkafka, passed as they are. Those that this program sets, or that would break its \
         guarantees, are refused. As a flag also one by one: --set kafka.properties.fetch.min.bytes=1; secrets \
         not by a flag.",
    ),
    key(
        "cassandra.contact_points",
        Kind::Hosts { default: &["127.0.0.1:9042"] },
        "Some of the cluster's nodes; the driver discovers the others. The section cassandra is for store.kind \
         = cassandra.",
    ),
    key(
        "cassandra.datacenter",
        NAME,
        "The datacenter whose nodes coordinate requests; all if empty. Needed for local_quorum. All workers of a keyspace \
         must use the same.",
    ),
    key(
        "cassandra.consistency",
        Kind::Choice { default: "quorum", names: &["quorum", "local_quorum"] },
        "The replicas that take part in each read and write: quorum (more than half of all) or local_quorum \
         (more than half of those in cassandra.datacenter).",
    ),
    key(
        "cassandra.compression",
        Kind::Choice { default: "none", names: &["none", "lz4", "snappy"] },
        "Compression of requests and responses.",
    ),
    key(
        "cassandra.tls",
        boolean(false),
        "Whether connections are encrypted. The nodes' certificates are checked.",
    ),
    key(
        "cassandra.tls_ca_file",
        FILE,
        "Certificates of the authorities that are trusted, in PEM; the system's own if empty.",
    ),
    key("cassandra.tls_certificate_file", FILE, "This client's certificate and its chain, in PEM."),
    key("cassandra.tls_key_file", FILE, "The key of this client's certificate, in PEM."),
    key("cassandra.username", NAME, "The user name."),
    secret("cassandra.password", "The password. Not by a flag: command lines are visible to other users."),
    key("cassandra.password_file", FILE, "A file that contains it. A newline at its end is ignored."),
    key(
        "cassandra.connect_timeout_ms",
        integer(5_000, 1, 10 * MINUTE_MS),
        "How long connecting to one node may take, in milliseconds.",
    ),
    key(
        "cassandra.request_timeout_ms",
        integer(12_000, 1, 10 * MINUTE_MS),
        "How long to wait for a response, in milliseconds; the request may still be carried out later. Longer \
         than the nodes' own timeouts, so that these are reported.",
    ),
    key("cassandra.request_bytes", integer(64 << 10, 1, 1 << 26), "Bytes of rows in one request."),
    key(
        "cassandra.in_flight_bytes",
        integer(3 << 19, 1, 1 << 31),
        "Bytes of rows that may be in flight at once, at least cassandra.request_bytes.",
    ),
    key("cassandra.in_flight_requests", integer(64, 1, 32_768), "Requests that may be in flight at once."),
    key(
        "cassandra.warn_rows",
        integer(1_000_000, 1, i64::MAX),
        "With store.layout = original: a warning is logged when a partition exceeds this many rows.",
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
        "Minimum number of counted events of a source in a window that raises an alert.",
    ),
    key(
        "window.health",
        Kind::Choices { default: &["critical"], names: HEALTH },
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
    key(
        "pipeline.batch_records",
        integer(100_000, 1, 1_000_000),
        "A batch closes with this many records. The larger, the fewer requests for counts and alerts.",
    ),
    key(
        "pipeline.batch_delay_ms",
        integer(50, 0, 10 * MINUTE_MS),
        "A batch closes this long after its first record came, in milliseconds, when no record waits and fewer than \
         pipeline.in_flight_batches are in flight.",
    ),
    key(
        "pipeline.batch_longest_ms",
        integer(2_000, 0, 10 * MINUTE_MS),
        "A batch closes, however much waits, with rows that are flushed so long after its first record came, in \
         milliseconds.",
    ),
    key(
        "pipeline.write_records",
        integer(800, 1, 1_000_000),
        "Rows of a batch are flushed to the store when there are this many.",
    ),
    key(
        "pipeline.write_bytes",
        integer(1 << 19, 1, 1 << 29),
        "Rows of a batch are also flushed when their records have this many bytes of keys and values.",
    ),
    key(
        "pipeline.in_flight_batches",
        integer(2, 1, 1_000),
        "Batches of one partition that may be in flight at once.",
    ),
    key(
        "pipeline.prefetch_bytes",
        integer(1 << 20, 1, 1 << 30),
        "Bytes of records of one partition that may wait to be taken into a batch.",
    ),
    key(
        "pipeline.counts_cache_bytes",
        integer(2 << 20, Options::MIN_COUNTS_CACHE_BYTES as i64, 1 << 36),
        "Bytes of window counts that one partition may keep in memory; the others are read again when needed.",
    ),
    key(
        "pipeline.max_mutation_bytes",
        integer(1 << 20, 1, 1 << 29),
        "A record with more bytes of key and value is a dead letter without its bytes. Bound by init.",
    ),
    key(
        "pipeline.backoff_min_ms",
        integer(10, 1, 10 * MINUTE_MS),
        "First backoff before a request is retried, in milliseconds; it doubles each time.",
    ),
    key(
        "pipeline.backoff_max_ms",
        integer(5_000, 1, 10 * MINUTE_MS),
        "Longest backoff, in milliseconds, at least pipeline.backoff_min_ms.",
    ),
    key(
        "pipeline.retry_deadline_ms",
        integer(0, 0, DAY_MS),
        "How long a request is retried before the worker gives up, in milliseconds; 0 retries forever.",
    ),
    key(
        "pipeline.stop_deadline_ms",
        integer(10_000, 0, 60 * MINUTE_MS),
        "How long what is in flight may take to finish when the worker stops or gives a partition back, in \
         milliseconds. What does not is repeated by the next worker.",
    ),
    key(
        "pipeline.topic_check_interval_ms",
        integer(10_000, 1, 60 * MINUTE_MS),
        "Interval for checking that the topic was not recreated, in milliseconds.",
    ),
    key(
        "log.format",
        Kind::Choice { default: "text", names: &["text", "json"] },
        "Format of the messages on stderr.",
    ),
    key(
        "log.level",
        Kind::Choice { default: "info", names: &["off", "error", "warn", "info", "debug", "trace"] },
        "Minimum level of messages that are written.",
    ),
];
