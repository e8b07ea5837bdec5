//! Translates the options into librdkafka properties. [`properties`] checks those that an operator sets.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::broker::kafka::options::{GroupProtocol, KafkaOptions, OptionsError, Sasl, SaslMechanism, Tls};
use crate::broker::kafka::properties::{self, Properties, without_secret};
use crate::broker::kafka::raw;

impl KafkaOptions {
    /// Checks everything that can be checked without a broker.
    ///
    /// # Errors
    /// The first problem, with the name of the property or option. Never contains a secret.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.bootstrap_servers.trim().is_empty() {
            return Err(OptionsError::NoServers);
        }
        self.check_security()?;
        for (property, value) in &self.properties {
            properties::check(property, value)?;
            if let Err(message) = raw::try_property(property, value) {
                let reason = without_secret(property, message);
                return Err(OptionsError::Invalid { property: property.clone(), reason });
            }
            if properties::rule(property).is_none() {
                let property = property.clone();
                let reason = "its effect is unknown to this program";
                return Err(OptionsError::Refused { property, reason });
            }
        }
        // The properties that the options set have ranges, too.
        for (property, value) in self.member("group", 1) {
            if let Err(message) = raw::try_property(&property, &value) {
                let reason = without_secret(&property, message);
                return Err(OptionsError::Invalid { property, reason });
            }
        }
        if self.group_protocol == GroupProtocol::Classic && self.max_poll_interval < self.session_timeout {
            let property = "max.poll.interval.ms".to_owned();
            let reason = "it must not be shorter than the session timeout";
            return Err(OptionsError::Refused { property, reason });
        }
        let heartbeat = self.properties.get("heartbeat.interval.ms").and_then(|ms| ms.trim().parse().ok());
        if heartbeat.is_some_and(|ms: i64| ms >= in_millis(self.session_timeout)) {
            let property = "heartbeat.interval.ms".to_owned();
            let reason = "it must be shorter than the session timeout, or every member is evicted";
            return Err(OptionsError::Refused { property, reason });
        }
        Ok(())
    }

    fn check_security(&self) -> Result<(), OptionsError> {
        let scram = |sasl: &Sasl| !matches!(sasl.mechanism, SaslMechanism::Plain);
        if let Some(tls) = &self.security.tls {
            match (&tls.certificate_file, &tls.key_file) {
                (Some(_), None) => return Err(OptionsError::HalfCertificate("the certificate")),
                (None, Some(_)) => return Err(OptionsError::HalfCertificate("the key")),
                _ => {}
            }
        }
        if cfg!(not(feature = "tls")) {
            if self.security.tls.is_some() {
                return Err(OptionsError::WithoutTls("TLS"));
            }
            if self.security.sasl.as_ref().is_some_and(scram) {
                return Err(OptionsError::WithoutTls("SCRAM"));
            }
        }
        Ok(())
    }

    /// The properties of every client. Later ones override earlier ones: defaults that an operator may change, the
    /// operator's properties, properties that the protocol requires.
    fn common(&self) -> Properties {
        let mut all = Properties::new();
        // Reconnect to a recovered broker within 2 seconds; the default is 10.
        set(&mut all, "reconnect.backoff.max.ms", 2_000);
        set(&mut all, "client.id", "exactlyonce");
        all.extend(self.properties.clone());
        set(&mut all, "bootstrap.servers", &self.bootstrap_servers);
        set(&mut all, "socket.timeout.ms", in_millis(self.request_timeout));
        let metadata = in_millis(self.metadata_interval);
        set(&mut all, "topic.metadata.refresh.interval.ms", metadata);
        // It must exceed the refresh interval, or topics expire from the cache between two refreshes.
        set(&mut all, "metadata.max.age.ms", metadata.saturating_mul(3).min(86_400_000));
        set(&mut all, "allow.auto.create.topics", false);
        // `rd_kafka_connect_any` of librdkafka 2.12 gives a timer the address of the text that it logs, which may be in the
        // stack of a thread that has ended by then. It is never called if all brokers are connected.
        set(&mut all, "enable.sparse.connections", false);
        self.secure(&mut all);
        all
    }

    fn secure(&self, all: &mut Properties) {
        let (tls, sasl) = (&self.security.tls, &self.security.sasl);
        let protocol = match (tls, sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        set(all, "security.protocol", protocol);
        if let Some(Tls { ca_file, certificate_file, key_file, key_password }) = tls {
            // Without a file, librdkafka tries the usual paths of the system's CA certificates.
            let ca = ca_file.as_ref().map_or("probe".into(), |file| file.to_string_lossy().into_owned());
            set(all, "ssl.ca.location", ca);
            set(all, "enable.ssl.certificate.verification", true);
            set(all, "ssl.endpoint.identification.algorithm", "https");
            if let (Some(certificate), Some(key)) = (certificate_file, key_file) {
                set(all, "ssl.certificate.location", certificate.to_string_lossy());
                set(all, "ssl.key.location", key.to_string_lossy());
            }
            if let Some(password) = key_password {
                set(all, "ssl.key.password", password.expose());
            }
        }
        if let Some(Sasl { mechanism, username, password }) = sasl {
            let mechanism = match mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            set(all, "sasl.mechanism", mechanism);
            set(all, "sasl.username", username);
            set(all, "sasl.password", password.expose());
        }
    }

    /// The properties of every consumer. `bytes` is the limit of each partition's queue.
    fn consumer(&self, bytes: usize) -> Properties {
        let mut all = self.common();
        let tuning = |all: &mut Properties, property: &str, value: String| {
            all.entry(property.to_owned()).or_insert(value);
        };
        // A fetch may exceed the limit of its partition's queue by one response, so responses are limited, too.
        let response = bytes.clamp(64 << 10, 256 << 10);
        tuning(&mut all, "fetch.message.max.bytes", response.to_string());
        tuning(&mut all, "fetch.max.bytes", self.queued_bytes.clamp(1 << 20, 50 << 20).to_string());
        set(&mut all, "queued.max.messages.kbytes", (bytes >> 10).clamp(1, 2_097_151));
        // That limit counts keys and values only; librdkafka's overhead per message exceeds the size of a small record.
        tuning(
            &mut all,
            "queued.min.messages",
            (bytes / MESSAGE_BYTES).clamp(LEAST_MESSAGES, 10_000_000).to_string(),
        );
        set(&mut all, "auto.offset.reset", "error");
        set(&mut all, "isolation.level", "read_committed");
        set(&mut all, "enable.auto.commit", false);
        set(&mut all, "enable.auto.offset.store", false);
        set(&mut all, "enable.partition.eof", true);
        set(&mut all, "check.crcs", true);
        all
    }

    /// The properties of a member of a group. The queued bytes are divided among the topic's partitions, because
    /// each has a queue and one member may be assigned all of them.
    pub(super) fn member(&self, group: &str, partitions: usize) -> Properties {
        let bytes = (self.queued_bytes / partitions.max(1)).max(LEAST_QUEUE);
        let mut all = self.consumer(bytes);
        // How soon a full queue is checked again. With the default of 1 second, a fast consumer would mostly wait
        // for the next fetch.
        all.entry("fetch.queue.backoff.ms".to_owned()).or_insert("1".to_owned());
        // librdkafka has one fetch in flight per broker, and leaves out partitions with enough messages in their queue. A
        // fetch of idle partitions only, which waits for this time (500 ms by default), delays all others.
        all.entry("fetch.wait.max.ms".to_owned()).or_insert("20".to_owned());
        set(&mut all, "group.id", group);
        set(&mut all, "max.poll.interval.ms", in_millis(self.max_poll_interval));
        match self.group_protocol {
            GroupProtocol::Classic => {
                set(&mut all, "group.protocol", "classic");
                set(&mut all, "partition.assignment.strategy", "cooperative-sticky");
                set(&mut all, "session.timeout.ms", in_millis(self.session_timeout));
                let heartbeat = (in_millis(self.session_timeout) / 10).clamp(1, 3_000);
                all.entry("heartbeat.interval.ms".to_owned()).or_insert(heartbeat.to_string());
            }
            // Session timeout, heartbeat and assignor are set on the broker; librdkafka rejects these properties.
            GroupProtocol::Consumer => set(&mut all, "group.protocol", "consumer"),
        }
        log_lines(&mut all, MEMBER_LINES);
        all
    }

    /// The properties of a reader outside any group.
    pub(super) fn reader(&self) -> Properties {
        let mut all = self.consumer(READER_QUEUE);
        // The queue of an idle reader is full and is checked again at this interval.
        all.entry("fetch.queue.backoff.ms".to_owned()).or_insert("10".to_owned());
        // A reader only reads records that exist already, so long fetch waits are of no use.
        all.entry("fetch.wait.max.ms".to_owned()).or_insert("100".to_owned());
        log_lines(&mut all, READER_LINES);
        all
    }

    /// The properties of the producer.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut all = self.common();
        set(&mut all, "enable.idempotence", true);
        set(&mut all, "acks", "all");
        set(&mut all, "partitioner", "consistent");
        all.into_iter().collect()
    }
}

/// The kinds of debug log lines that a member reads.
const MEMBER_LINES: &str = "broker,cgrp,consumer";
/// The kinds of debug log lines that a reader reads.
const READER_LINES: &str = "broker";
/// Approximate memory of a queued message in addition to key and value (`rd_kafka_op_t` contains the message).
const MESSAGE_BYTES: usize = 512;
/// Minimum size of a partition's queue, in bytes.
const LEAST_QUEUE: usize = 64 << 10;
/// Least messages of a partition's queue below which more are fetched: what a fast consumer takes during one fetch.
const LEAST_MESSAGES: usize = 1_000;
/// Size of a reader's queue, in bytes.
const READER_QUEUE: usize = 2 << 20;

fn set(all: &mut Properties, property: &str, value: impl ToString) {
    all.insert(property.to_owned(), value.to_string());
}

/// Has these debug log lines logged, too: librdkafka reports some of what happens there only ([`raw::Client`] lists what).
fn log_lines(all: &mut Properties, lines: &str) {
    let debug = all.get("debug").map_or(lines.to_owned(), |debug| format!("{debug},{lines}"));
    set(all, "debug", debug);
}

fn in_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::kafka::Security;
    use crate::secret::Secret;

    fn with(property: &str, value: &str) -> KafkaOptions {
        let mut options = KafkaOptions::new("localhost:9092");
        options.properties.insert(property.to_owned(), value.to_owned());
        options
    }

    #[test]
    fn a_property_that_would_break_the_protocol_or_wait_forever_is_refused_with_the_reason() {
        let refused = [
            "auto.offset.reset",
            "isolation.level",
            "enable.auto.commit",
            "auto.commit.enable",
            "enable.auto.offset.store",
            "enable.partition.eof",
            "check.crcs",
            "partition.assignment.strategy",
            "group.instance.id",
            "allow.auto.create.topics",
            "enable.idempotence",
            "acks",
            "request.required.acks",
            "transactional.id",
            "partitioner",
            "enable.ssl.certificate.verification",
            "ssl.endpoint.identification.algorithm",
            "plugin.library.paths",
            "test.mock.num.brokers",
            "bootstrap.servers",
            "metadata.broker.list",
            "group.id",
            "group.protocol",
            "security.protocol",
            "ssl.ca.location",
            "sasl.mechanism",
            "sasl.mechanisms",
            "sasl.username",
            "sasl.password",
            "topic.blacklist",
            "rebalance_cb",
            "log_cb",
            "enabled_events",
            "api.version.request",
            "broker.version.fallback",
            "metadata.recovery.strategy",
            "internal.termination.signal",
            "sasl.kerberos.kinit.cmd",
            "ssl.engine.location",
            "queuing.strategy",
            "log.connection.close",
        ];
        for property in refused {
            for property in [property.to_owned(), format!(" {property} ")] {
                match with(&property, "1").check() {
                    Err(OptionsError::Refused { .. } | OptionsError::HasOption { .. }) => {}
                    other => panic!("{property:?}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_refusal_contains_the_option_to_use_or_the_reason() {
        let refused = |property, value| with(property, value).check().unwrap_err().to_string();
        assert_eq!(refused("group.id", "g"), "property group.id is set by the option group");
        let blacklist = refused("topic.blacklist", ".*");
        assert!(
            blacklist.ends_with("a topic that is hidden from the client would be retried forever"),
            "{blacklist}"
        );
        let fails = refused("socket.max.fails", "0");
        assert!(fails.starts_with("property socket.max.fails must be from 1 to 1000: "), "{fails}");
        let unknown = refused("ut_something", "1");
        assert!(unknown.starts_with("librdkafka rejected property ut_something: "), "{unknown}");
    }

    #[test]
    fn the_heartbeat_interval_must_be_shorter_than_the_session_timeout() {
        let mut options = with("heartbeat.interval.ms", "3000");
        assert_eq!(options.check(), Ok(()));
        options.session_timeout = Duration::from_secs(3);
        assert!(matches!(options.check(), Err(OptionsError::Refused { .. })));
    }

    #[test]
    fn every_property_that_this_module_sets_is_known_and_cannot_be_overridden() {
        let mut options = KafkaOptions::new("localhost:9092");
        options.security.sasl =
            Some(Sasl { mechanism: SaslMechanism::Plain, username: "me".into(), password: Secret::new("x") });
        let plain = [options.member("group", 3), options.reader()];
        let tunable = [
            "reconnect.backoff.max.ms",
            "client.id",
            "fetch.message.max.bytes",
            "fetch.max.bytes",
            "queued.min.messages",
            "fetch.queue.backoff.ms",
            "fetch.wait.max.ms",
            "heartbeat.interval.ms",
            // An operator's lines are logged in addition.
            "debug",
        ];
        for (property, value) in plain.into_iter().flatten() {
            assert_eq!(raw::try_property(&property, &value), Ok(()), "{property}");
            let checked = with(&property, &value).check();
            assert_eq!(checked.is_ok(), tunable.contains(&property.as_str()), "{property}: {checked:?}");
        }
    }

    #[test]
    fn every_client_connects_to_all_brokers() {
        let options = KafkaOptions::new("localhost:9092");
        let property = "enable.sparse.connections";
        for properties in [options.member("group", 1), options.reader()] {
            assert_eq!(properties[property], "false");
        }
        assert_eq!(options.producer().get(property), Some("false"));
    }

    #[test]
    fn the_operators_properties_override_defaults_but_not_required_values() {
        let options = with("fetch.queue.backoff.ms", "77");
        assert_eq!(options.member("group", 1)["fetch.queue.backoff.ms"], "77");
        assert_eq!(options.reader()["fetch.queue.backoff.ms"], "77");
        let options = with("isolation.level", "read_uncommitted");
        assert_eq!(options.member("group", 1)["isolation.level"], "read_committed");
    }

    #[test]
    fn the_group_protocol_consumer_gets_no_property_that_librdkafka_rejects_with_it() {
        let mut options = KafkaOptions::new("localhost:9092");
        options.group_protocol = GroupProtocol::Consumer;
        let member = options.member("group", 1);
        assert_eq!(member["group.protocol"], "consumer");
        for property in [
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
            "group.protocol.type",
        ] {
            assert!(!member.contains_key(property), "{property}");
        }
        // librdkafka accepts all of them together: a client can be created.
        assert!(raw::Client::consumer(&member).is_ok());
        options.group_protocol = GroupProtocol::Classic;
        assert!(raw::Client::consumer(&options.member("group", 1)).is_ok());
        assert!(raw::Client::consumer(&options.reader()).is_ok());
    }

    #[test]
    fn the_queued_bytes_are_divided_among_the_partitions() {
        let mut options = KafkaOptions::new("localhost:9092");
        options.queued_bytes = 8 << 20;
        let queue = |partitions| options.member("group", partitions)["queued.max.messages.kbytes"].clone();
        assert_eq!([queue(0), queue(1), queue(8), queue(1_000_000)], ["8192", "8192", "1024", "64"]);
        let messages = |partitions| options.member("group", partitions)["queued.min.messages"].clone();
        assert_eq!([messages(1), messages(8), messages(1_000_000)], ["16384", "2048", "1000"]);
    }

    #[test]
    fn unknown_properties_and_values_are_refused_with_librdkafkas_message() {
        for (property, value) in [("no.such.property", "1"), ("fetch.min.bytes", "lots"), ("debug", "no")] {
            match with(property, value).check() {
                Err(OptionsError::Invalid { property: named, reason }) => {
                    assert_eq!(named, property);
                    assert!(!reason.is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(KafkaOptions::new(" ").check(), Err(OptionsError::NoServers));
        let mut options = KafkaOptions::new("localhost:9092");
        options.max_poll_interval = Duration::ZERO;
        assert!(
            matches!(options.check(), Err(OptionsError::Invalid { property, .. }) if property == "max.poll.interval.ms")
        );
        assert_eq!(KafkaOptions::new("localhost:9092").check(), Ok(()));
    }

    #[test]
    fn secrets_are_shown_neither_by_debug_nor_by_errors() {
        let mut options = with("ssl.keystore.password", "hunter2");
        options.properties.insert("sasl.oauthbearer.client.secret".into(), "hunter2".into());
        options.properties.insert("ssl.key.pem".into(), "hunter2".into());
        options.security.sasl = Some(Sasl {
            mechanism: SaslMechanism::ScramSha512,
            username: "me".into(),
            password: Secret::new("hunter2"),
        });
        options.security.tls = Some(Tls { key_password: Some(Secret::new("hunter2")), ..Tls::default() });
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2") && shown.contains("ssl.keystore.password"), "{shown}");
        let error = raw::Client::consumer(&Properties::from([
            ("ssl.key.password".to_owned(), "hunter2".to_owned()),
            ("sasl.password".to_owned(), "hunter2".to_owned()),
            ("security.protocol".to_owned(), "hunter3".to_owned()),
        ]))
        .unwrap_err()
        .to_string();
        assert!(!error.contains("hunter2") && error.contains("security.protocol"), "{error}");
        assert_eq!(without_secret("sasl.password", "no hunter2".into()), "its value was refused");
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let mut options = KafkaOptions::new("localhost:9092");
        options.security =
            Security { tls: Some(Tls { key_file: Some("k".into()), ..Tls::default() }), sasl: None };
        assert_eq!(options.check(), Err(OptionsError::HalfCertificate("the key")));
        options.security.tls = Some(Tls { certificate_file: Some("c".into()), ..Tls::default() });
        assert_eq!(options.check(), Err(OptionsError::HalfCertificate("the certificate")));
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn without_the_feature_tls_and_scram_are_clear_errors() {
        let mut options = KafkaOptions::new("localhost:9092");
        options.security.tls = Some(Tls::default());
        assert_eq!(options.check(), Err(OptionsError::WithoutTls("TLS")));
        let (username, password) = (String::new(), Secret::default());
        let sasl = Sasl { mechanism: SaslMechanism::ScramSha256, username, password };
        options.security = Security { tls: None, sasl: Some(sasl) };
        assert_eq!(options.check(), Err(OptionsError::WithoutTls("SCRAM")));
    }
}
