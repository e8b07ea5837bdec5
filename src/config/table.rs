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

/// The path of a file, or empty.
const FILE: Kind = text("", is_optional_path, "the path of a file, or empty for none");

/// A name, or empty.
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
        "The topic that the pipeline reads and that generate writes.",
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
        "The keyspace of the tables. A recreated topic, or different windows, require a different one. The \
         embedded store keeps a keyspace other than exactlyonce in a subfolder of that name.",
    ),
    key(
        "store.replication",
        Kind::Replication { default: 1 },
        "Replication factor of a new keyspace of Cassandra: a number (SimpleStrategy), or a number for each \
         datacenter (NetworkTopologyStrategy).",
    ),
    key(
        "store.layout",
        Kind::Choice { default: "original", names: &["original", "bucketed"] },
        "The key of the table events: original (all rows of a partition of the log in one partition of the \
         store, as in 2016; it grows without bound, and Cassandra recommends at most about 100 MB) or bucketed \
         (a new partition every store.bucket_rows offsets). Chosen when the schema is applied, and bound by init.",
    ),
    key(
        "store.bucket_rows",
        integer(500_000, 1, u32::MAX as i64),
        "With store.layout = bucketed: offsets per partition of the store. With rows of 100 to 200 bytes, the \
         default makes partitions of 50 to 100 MB. Bound by init.",
    ),
    key(
        "store.count_block_windows",
        integer(CountLayout::BLOCK_WINDOWS as i64, 1, u32::MAX as i64),
        "Windows per block: their counts share a partition of Cassandra, for each shard and partition of the log. \
         Larger blocks make fewer and larger requests if events belong to many windows. A partition of Cassandra \
         has up to count_block_windows times sources / count_shards rows: keep this below about 100,000. Bound by \
         init.",
    ),
    key(
        "store.count_shards",
        integer(CountLayout::SHARDS as i64, 1, u16::MAX as i64),
        "Partitions of Cassandra over which the sources of a block of windows are distributed. More shards make \
         smaller partitions, and more requests per batch: reading the sums takes one for each partition of the \
         log, block and shard of the batch. Bound by init.",
    ),
    key(
        "embedded.data",
        Kind::Text { default: "exactlyonce-data", valid: is_path, rule: "the path of a folder" },
        "The folder of the embedded broker and store, relative to the working directory.",
    ),
    key(
        "embedded.synchronous",
        Kind::Choice { default: "full", names: &["full", "normal", "off"] },
        "When the files are synced: full (before each acknowledgement: a power loss loses nothing), normal (at \
         checkpoints of the WAL: a power loss may lose the last acknowledged writes, and if the tables are then \
         ahead of the log, the worker refuses to continue), off (never: a power loss may damage the files). A \
         killed process loses nothing with any of them.",
    ),
    key(
        "services.start_deadline_ms",
        integer(60_000, 0, DAY_MS),
        "How long a command that starts retries while Kafka or Cassandra is unavailable, in milliseconds; then it \
         exits with code 4. 0 tries once. Errors that a retry cannot fix (a wrong password, a certificate that is \
         not trusted, different tables) end it immediately. For a service that becomes unavailable later, see \
         pipeline.retry_deadline_ms.",
    ),
    key(
        "kafka.bootstrap_servers",
        Kind::Servers { default: "127.0.0.1:9092" },
        "Some of the cluster's brokers; the client discovers the others. The section kafka is used with \
         broker.kind = kafka.",
    ),
    key(
        "kafka.group_protocol",
        Kind::Choice { default: "classic", names: &["classic", "consumer"] },
        "How the group assigns partitions: classic (its leader assigns them, cooperatively) or consumer (the \
         broker assigns them: KIP-848, requires Kafka 4.0). All members must use the same protocol.",
    ),
    key(
        "kafka.session_timeout_ms",
        integer(45_000, 1_000, DAY_MS),
        "A member that sends no heartbeat for this long is removed from the group, in milliseconds. With \
         kafka.group_protocol = consumer the broker sets the timeout, and this must not be set.",
    ),
    key(
        "kafka.max_poll_interval_ms",
        integer(300_000, 1_000, DAY_MS),
        "A member that does not poll for this long loses its partitions, in milliseconds, at least \
         kafka.session_timeout_ms. The worker also polls during an outage of the store.",
    ),
    key(
        "kafka.request_timeout_ms",
        integer(10_000, 100, 10 * MINUTE_MS),
        "Timeout of a request to a broker, in milliseconds.",
    ),
    key(
        "kafka.metadata_interval_ms",
        integer(30_000, 100, DAY_MS),
        "Interval of the check for new partitions of the topic, in milliseconds.",
    ),
    key(
        "kafka.queued_bytes",
        integer(4 << 20, 1 << 10, 1 << 31),
        "Maximum bytes of fetched records in the client's queues, over all partitions.",
    ),
    key(
        "kafka.commit_offsets",
        boolean(true),
        "Whether durable positions are also committed to the group, for lag monitoring. They are never read.",
    ),
    key(
        "kafka.tls",
        boolean(false),
        "Whether connections are encrypted. The brokers' certificates are checked.",
    ),
    key("kafka.tls_ca_file", FILE, "The trusted CA certificates, in PEM; the system's own if empty."),
    key("kafka.tls_certificate_file", FILE, "This client's certificate and its chain, in PEM."),
    key("kafka.tls_key_file", FILE, "The private key of this client's certificate, in PEM."),
    secret(
        "kafka.tls_key_password",
        "The password of that key. It cannot be set with a flag: command lines are visible to other users.",
    ),
    key("kafka.tls_key_password_file", FILE, "A file with that password. A newline at its end is ignored."),
    key(
        "kafka.sasl_mechanism",
        Kind::Choice { default: "none", names: &["none", "plain", "scram-sha-256", "scram-sha-512"] },
        "How this client authenticates. plain sends the password in clear text: use it with kafka.tls.",
    ),
    key("kafka.sasl_username", NAME, "The user name."),
    secret(
        "kafka.sasl_password",
        "The password. It cannot be set with a flag: command lines are visible to other users.",
    ),
    key("kafka.sasl_password_file", FILE, "A file with the password. A newline at its end is ignored."),
    key(
        "kafka.properties",
        Kind::Properties,
        "Other properties of librdkafka, passed unchanged. Those that this program sets, or that would break its \
         guarantees, are refused. A flag may also set a single one: --set kafka.properties.fetch.min.bytes=1. \
         Secrets cannot be set with a flag.",
    ),
    key(
        "cassandra.contact_points",
        Kind::Hosts { default: &["127.0.0.1:9042"] },
        "Some of the cluster's nodes; the driver discovers the others. The section cassandra is used with \
         store.kind = cassandra.",
    ),
    key(
        "cassandra.datacenter",
        NAME,
        "The datacenter whose nodes coordinate requests; nodes of all datacenters if empty. Required for \
         local_quorum. All workers of a keyspace must use the same.",
    ),
    key(
        "cassandra.consistency",
        Kind::Choice { default: "quorum", names: &["quorum", "local_quorum"] },
        "The consistency level of reads and writes: quorum (more than half of all replicas) or local_quorum (more \
         than half of the replicas in cassandra.datacenter).",
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
    key("cassandra.tls_ca_file", FILE, "The trusted CA certificates, in PEM; the system's own if empty."),
    key("cassandra.tls_certificate_file", FILE, "This client's certificate and its chain, in PEM."),
    key("cassandra.tls_key_file", FILE, "The private key of this client's certificate, in PEM."),
    key("cassandra.username", NAME, "The user name."),
    secret(
        "cassandra.password",
        "The password. It cannot be set with a flag: command lines are visible to other users.",
    ),
    key("cassandra.password_file", FILE, "A file with the password. A newline at its end is ignored."),
    key(
        "cassandra.connect_timeout_ms",
        integer(5_000, 1, 10 * MINUTE_MS),
        "Timeout of connecting to one node, in milliseconds.",
    ),
    key(
        "cassandra.request_timeout_ms",
        integer(12_000, 1, 10 * MINUTE_MS),
        "Timeout of a request, in milliseconds; the nodes may still apply it later. It should be longer than the \
         nodes' own timeouts, so that the nodes can report those.",
    ),
    key(
        "cassandra.request_bytes",
        integer(64 << 10, 1, 1 << 26),
        "Bytes of rows in one request; a larger row is sent alone.",
    ),
    key(
        "cassandra.in_flight_bytes",
        integer(3 << 19, 1, 1 << 31),
        "Bytes of rows that may be in flight, at least cassandra.request_bytes.",
    ),
    key("cassandra.in_flight_requests", integer(64, 1, 32_768), "Maximum number of requests in flight."),
    key(
        "cassandra.warn_rows",
        integer(1_000_000, 1, i64::MAX),
        "With store.layout = original: a warning is logged if a partition has more than this many rows.",
    ),
    key("window.size_ms", integer(5_000, 1, i64::MAX), "Length of a window of event time, in milliseconds."),
    key(
        "window.slide_ms",
        integer(5_000, 1, i64::MAX),
        "Distance from one window to the next, in milliseconds, at most window.size_ms: if equal, windows are \
         tumbling; if smaller, they overlap (an event may belong to at most 1000).",
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
        "Maximum records of a batch. Larger batches make fewer requests for counts and alerts.",
    ),
    key(
        "pipeline.batch_delay_ms",
        integer(50, 0, 10 * MINUTE_MS),
        "A batch closes this long after its first record arrived, in milliseconds, if no record is waiting and \
         fewer than pipeline.in_flight_batches are in flight.",
    ),
    key(
        "pipeline.batch_longest_ms",
        integer(2_000, 0, 10 * MINUTE_MS),
        "A batch closes at the first flush of rows that is at least this long after its first record arrived, in \
         milliseconds, even if records are waiting.",
    ),
    key(
        "pipeline.write_records",
        integer(0, 0, 1_000_000),
        "The rows of a batch are flushed to the store when there are this many; 0 for what the store prefers, 2,500 with \
         the embedded store and 800 otherwise.",
    ),
    key(
        "pipeline.write_bytes",
        integer(1 << 19, 1, 1 << 29),
        "The rows of a batch are also flushed when their records have this many bytes of keys and values.",
    ),
    key(
        "pipeline.in_flight_batches",
        integer(2, 1, 1_000),
        "Maximum number of batches in flight, per partition.",
    ),
    key(
        "pipeline.prefetch_bytes",
        integer(1 << 20, 1, 1 << 30),
        "Maximum bytes of records that wait to be added to a batch, per partition.",
    ),
    key(
        "pipeline.counts_cache_bytes",
        integer(2 << 20, Options::MIN_COUNTS_CACHE_BYTES as i64, 1 << 36),
        "Maximum bytes of window counts in memory, per partition; evicted counts are read again when needed.",
    ),
    key(
        "pipeline.max_mutation_bytes",
        integer(1 << 20, 1, 1 << 29),
        "A record with more bytes of key and value becomes a dead letter with their lengths and a hash instead of \
         the bytes. Bound by init.",
    ),
    key(
        "pipeline.backoff_min_ms",
        integer(10, 1, 10 * MINUTE_MS),
        "Backoff before the first retry of a request, in milliseconds; it doubles with each retry.",
    ),
    key(
        "pipeline.backoff_max_ms",
        integer(5_000, 1, 10 * MINUTE_MS),
        "Maximum backoff, in milliseconds, at least pipeline.backoff_min_ms.",
    ),
    key(
        "pipeline.retry_deadline_ms",
        integer(0, 0, DAY_MS),
        "How long a request is retried before the worker gives up, in milliseconds; 0 retries forever.",
    ),
    key(
        "pipeline.stop_deadline_ms",
        integer(10_000, 0, 60 * MINUTE_MS),
        "How long a worker that stops, or whose partition is revoked, waits for batches in flight, in \
         milliseconds. The next worker processes unfinished ones again.",
    ),
    key(
        "pipeline.topic_check_interval_ms",
        integer(10_000, 1, 60 * MINUTE_MS),
        "Interval of the check that the topic was not recreated, in milliseconds.",
    ),
    key(
        "log.format",
        Kind::Choice { default: "text", names: &["text", "json"] },
        "Format of the log on stderr.",
    ),
    key(
        "log.level",
        Kind::Choice { default: "info", names: &["off", "error", "warn", "info", "debug", "trace"] },
        "Minimum level of the messages in the log.",
    ),
];
