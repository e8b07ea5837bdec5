//! Which librdkafka properties an operator may set: one table of all of them.
//!
//! A property is refused if a value of it could break what the pipeline guarantees, make a request wait forever, have
//! no effect in this program, or load external code. A property that is not in the table (newer than this program, or
//! meant for librdkafka's own tests) is refused, too, because its effect was not reviewed.
//!
//! The table follows `CONFIGURATION.md` of librdkafka 2.12; a test compares it with the linked library's defaults.

use std::collections::BTreeMap;

use super::options::OptionsError;
use crate::secret::is_secret;

/// Properties by name.
pub(super) type Properties = BTreeMap<String, String>;

/// librdkafka's message about a property, which may contain its value.
pub(super) fn without_secret(property: &str, message: String) -> String {
    if is_secret(property) { "its value was refused".to_owned() } else { message }
}

/// What is done with a property that an operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Passed to librdkafka, which checks the value.
    Allowed,
    /// Likewise, for numbers in this range, inclusive.
    Within(i64, i64, &'static str),
    /// Refused, because this option of the program sets it.
    HasOption(&'static str),
    /// Refused, for this reason.
    Refused(&'static str),
}

use Rule::{Allowed, HasOption, Refused, Within};

const START: &str = "the start position of a partition comes only from the tables";
const CERTIFICATE: &str = "the server's certificate and its name are always checked";
const API: &str = "it has an effect only in programs that call librdkafka themselves";
const VERSION: &str =
    "a broker must say what it supports: with an assumed version, read_committed may not be requested";
const MOCK: &str = "it replaces the real cluster by a simulated one";
const LOGIN: &str = "this program logs in with PLAIN or SCRAM only (the option SASL)";
const CODE: &str = "it loads code that could change any of this";
const ACKS: &str = "an acknowledged record must be on every in-sync replica";
const LOG_LINES: &str = "the reason of a failed connection is read from librdkafka's log lines";
const SPARSE: &str = "with it, librdkafka 2.12 may log the memory of a thread that has ended, and crash";
const TRANSACTIONS: &str = "the producer does not use transactions";
const IDLE: &str = "records could be delayed by that long";
const BACKOFF: &str = "after an outage the client would stay idle that long";

/// A minute, in milliseconds.
const MINUTE: i64 = 60_000;

/// Every property of librdkafka 2.12, aliases included, in the order of its documentation.
const PROPERTIES: &[(&str, Rule)] = &[
    // All clients: brokers, sizes, metadata.
    ("builtin.features", Refused("it says how librdkafka was built")),
    ("client.id", Allowed),
    ("client.software.name", Refused(API)),
    ("client.software.version", Refused(API)),
    ("metadata.broker.list", HasOption("bootstrap servers")),
    ("bootstrap.servers", HasOption("bootstrap servers")),
    ("message.max.bytes", Allowed),
    ("message.copy.max.bytes", Allowed),
    (
        "receive.message.max.bytes",
        Within(100_000_000, i32::MAX as i64, "a larger response would be requested again forever"),
    ),
    ("max.in.flight.requests.per.connection", Allowed),
    ("max.in.flight", Allowed),
    (
        "metadata.recovery.strategy",
        Refused("without `rebootstrap`, brokers that all have new addresses are never found again"),
    ),
    ("metadata.recovery.rebootstrap.trigger.ms", Within(0, 10 * MINUTE, BACKOFF)),
    ("metadata.request.timeout.ms", Refused("librdkafka does not use it")),
    ("topic.metadata.refresh.interval.ms", HasOption("metadata interval")),
    ("metadata.max.age.ms", HasOption("metadata interval")),
    ("topic.metadata.refresh.fast.interval.ms", Allowed),
    ("topic.metadata.refresh.fast.cnt", Allowed),
    ("topic.metadata.refresh.sparse", Allowed),
    (
        "topic.metadata.propagation.max.ms",
        Within(0, 5 * MINUTE, "the client would keep waiting for a topic that does not exist"),
    ),
    ("topic.blacklist", Refused("a topic that is hidden from the client would be retried forever")),
    ("debug", Allowed),
    // All clients: sockets and connections.
    ("socket.timeout.ms", HasOption("request timeout")),
    ("socket.blocking.max.ms", Allowed),
    ("socket.send.buffer.bytes", Allowed),
    ("socket.receive.buffer.bytes", Allowed),
    ("socket.keepalive.enable", Allowed),
    ("socket.nagle.disable", Allowed),
    ("socket.max.fails", Within(1, 1_000, "a connection on which requests time out must be closed")),
    ("broker.address.ttl", Allowed),
    ("broker.address.family", Allowed),
    (
        "socket.connection.setup.timeout.ms",
        Within(1_000, 5 * MINUTE, "a connection that cannot be set up must time out"),
    ),
    ("connections.max.idle.ms", Allowed),
    ("enable.sparse.connections", Refused(SPARSE)),
    ("reconnect.backoff.jitter.ms", Allowed),
    ("reconnect.backoff.ms", Within(0, MINUTE, BACKOFF)),
    ("reconnect.backoff.max.ms", Within(0, MINUTE, BACKOFF)),
    ("statistics.interval.ms", Refused("this program does not read librdkafka's statistics")),
    ("client.dns.lookup", Allowed),
    ("client.rack", Allowed),
    ("enable.metrics.push", Allowed),
    ("retry.backoff.ms", Within(1, MINUTE, BACKOFF)),
    ("retry.backoff.max.ms", Within(1, MINUTE, BACKOFF)),
    ("allow.auto.create.topics", Refused("a topic that does not exist is an error")),
    ("api.version.request", Refused(VERSION)),
    (
        "api.version.request.timeout.ms",
        Within(1_000, 5 * MINUTE, "every connection begins with this request"),
    ),
    ("api.version.fallback.ms", Refused(VERSION)),
    ("broker.version.fallback", Refused(VERSION)),
    // All clients: callbacks, logs, and what only a program can use.
    ("enabled_events", Refused(API)),
    ("log_level", Within(6, 7, LOG_LINES)),
    ("log.queue", Refused(API)),
    ("log.thread.name", Allowed),
    ("log.connection.close", Refused(LOG_LINES)),
    ("enable.random.seed", Allowed),
    ("internal.termination.signal", Refused("its threads would get a signal that ends this process")),
    ("opaque", Refused(API)),
    ("default_topic_conf", Refused(API)),
    ("plugin.library.paths", Refused(CODE)),
    ("interceptors", Refused(API)),
    ("test.mock.num.brokers", Refused(MOCK)),
    ("test.mock.broker.rtt", Refused(MOCK)),
    ("ut_handle_ProduceResponse", Refused(API)),
    // All clients: TLS.
    ("security.protocol", HasOption("security")),
    ("ssl.cipher.suites", Allowed),
    ("ssl.curves.list", Allowed),
    ("ssl.sigalgs.list", Allowed),
    ("ssl.key.location", HasOption("TLS")),
    ("ssl.key.password", HasOption("TLS")),
    ("ssl.key.pem", Allowed),
    ("ssl_key", Refused(API)),
    ("ssl.certificate.location", HasOption("TLS")),
    ("ssl.certificate.pem", Allowed),
    ("ssl_certificate", Refused(API)),
    ("ssl.ca.location", HasOption("TLS")),
    ("ssl.ca.pem", Allowed),
    ("ssl_ca", Refused(API)),
    ("ssl.ca.certificate.stores", Allowed),
    ("ssl.crl.location", Allowed),
    ("ssl.keystore.location", Allowed),
    ("ssl.keystore.password", Allowed),
    ("ssl.providers", Refused(CODE)),
    ("ssl.engine.location", Refused(CODE)),
    ("ssl.engine.id", Refused(CODE)),
    ("ssl_engine_callback_data", Refused(API)),
    ("enable.ssl.certificate.verification", Refused(CERTIFICATE)),
    ("ssl.endpoint.identification.algorithm", Refused(CERTIFICATE)),
    ("https.ca.location", Refused(LOGIN)),
    ("https.ca.pem", Refused(LOGIN)),
    // All clients: SASL.
    ("sasl.mechanisms", HasOption("SASL")),
    ("sasl.mechanism", HasOption("SASL")),
    ("sasl.username", HasOption("SASL")),
    ("sasl.password", HasOption("SASL")),
    ("sasl.kerberos.service.name", Refused(LOGIN)),
    ("sasl.kerberos.principal", Refused(LOGIN)),
    ("sasl.kerberos.kinit.cmd", Refused("it is run as a shell command")),
    ("sasl.kerberos.keytab", Refused(LOGIN)),
    ("sasl.kerberos.min.time.before.relogin", Refused(LOGIN)),
    ("sasl.oauthbearer.config", Refused(LOGIN)),
    ("enable.sasl.oauthbearer.unsecure.jwt", Refused("such a login can be forged")),
    ("enable_sasl_queue", Refused(API)),
    ("sasl.oauthbearer.method", Refused(LOGIN)),
    ("sasl.oauthbearer.client.id", Refused(LOGIN)),
    ("sasl.oauthbearer.client.credentials.client.id", Refused(LOGIN)),
    ("sasl.oauthbearer.client.credentials.client.secret", Refused(LOGIN)),
    ("sasl.oauthbearer.client.secret", Refused(LOGIN)),
    ("sasl.oauthbearer.scope", Refused(LOGIN)),
    ("sasl.oauthbearer.extensions", Refused(LOGIN)),
    ("sasl.oauthbearer.token.endpoint.url", Refused(LOGIN)),
    ("sasl.oauthbearer.grant.type", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.algorithm", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.private.key.file", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.private.key.passphrase", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.private.key.pem", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.file", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.aud", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.iss", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.jti.include", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.claim.sub", Refused(LOGIN)),
    ("sasl.oauthbearer.assertion.jwt.template.file", Refused(LOGIN)),
    ("sasl.oauthbearer.metadata.authentication.type", Refused(LOGIN)),
    // The consumer: membership.
    ("group.id", HasOption("group")),
    (
        "group.instance.id",
        Refused(
            "a static member keeps its partitions when it leaves, and two workers with the same id evict each other",
        ),
    ),
    (
        "partition.assignment.strategy",
        Refused("partitions are revoked one by one, which requires `cooperative-sticky` in every member"),
    ),
    ("session.timeout.ms", HasOption("session timeout")),
    ("heartbeat.interval.ms", Within(1, MINUTE, "a member without heartbeats is evicted")),
    ("group.protocol.type", Refused("consumer groups have the protocol type `consumer`")),
    ("group.protocol", HasOption("group protocol")),
    ("group.remote.assignor", Allowed),
    ("coordinator.query.interval.ms", Within(1, 10 * MINUTE, BACKOFF)),
    ("max.poll.interval.ms", HasOption("longest time between polls")),
    // The consumer: positions.
    ("enable.auto.commit", Refused(START)),
    ("auto.commit.enable", Refused(START)),
    ("auto.commit.interval.ms", Refused(START)),
    ("enable.auto.offset.store", Refused(START)),
    ("offset.store.method", Refused(START)),
    ("offset.store.path", Refused(START)),
    ("offset.store.sync.interval.ms", Refused(START)),
    ("auto.offset.reset", Refused("an offset out of range must stop the partition, not reset its position")),
    ("enable.partition.eof", Refused("without the end of a partition, gaps before it could not be skipped")),
    // The consumer: fetching.
    ("queued.min.messages", Allowed),
    ("queued.max.messages.kbytes", HasOption("queued bytes")),
    ("fetch.wait.max.ms", Within(0, 10_000, IDLE)),
    ("fetch.queue.backoff.ms", Within(0, 10_000, IDLE)),
    ("fetch.message.max.bytes", Allowed),
    ("max.partition.fetch.bytes", Allowed),
    ("fetch.max.bytes", Allowed),
    ("fetch.min.bytes", Allowed),
    ("fetch.error.backoff.ms", Within(0, MINUTE, BACKOFF)),
    ("isolation.level", Refused("records of open and aborted transactions would become rows")),
    ("check.crcs", Refused("a damaged record could become a row")),
    ("consume.callback.max.messages", Refused(API)),
    // The producer.
    ("transactional.id", Refused(TRANSACTIONS)),
    ("transaction.timeout.ms", Refused(TRANSACTIONS)),
    ("enable.idempotence", Refused("a retry could append a record twice or in another order")),
    ("enable.gapless.guarantee", Allowed),
    ("queue.buffering.max.messages", Allowed),
    (
        "queue.buffering.max.kbytes",
        Within(1_000_000, i32::MAX as i64, "a record larger than the queue would wait forever"),
    ),
    ("queue.buffering.max.ms", Within(0, 10_000, IDLE)),
    ("linger.ms", Within(0, 10_000, IDLE)),
    ("message.send.max.retries", Allowed),
    ("retries", Allowed),
    ("queue.buffering.backpressure.threshold", Allowed),
    ("compression.codec", Allowed),
    ("compression.type", Allowed),
    ("compression.level", Allowed),
    ("batch.num.messages", Allowed),
    ("batch.size", Allowed),
    ("sticky.partitioning.linger.ms", Allowed),
    ("delivery.report.only.error", Refused(API)),
    ("request.required.acks", Refused(ACKS)),
    ("acks", Refused(ACKS)),
    ("request.timeout.ms", Allowed),
    ("message.timeout.ms", Within(1, 60 * MINUTE, "a record that cannot be appended must be reported")),
    ("delivery.timeout.ms", Within(1, 60 * MINUTE, "a record that cannot be appended must be reported")),
    ("queuing.strategy", Refused("records must be appended in order")),
    ("produce.offset.report", Allowed),
    ("partitioner", Refused("a key must go to the same partition in every kind of log (CRC-32)")),
    ("msg_order_cmp", Refused(API)),
];

/// The rule of a property. Spaces around the name are ignored.
pub(super) fn rule(property: &str) -> Option<Rule> {
    let property = property.trim();
    if property.ends_with("_cb") {
        return Some(Refused(API));
    }
    PROPERTIES.iter().find(|(name, _)| *name == property).map(|(_, rule)| *rule)
}

/// Checks a property that an operator sets against its rule. Whether librdkafka accepts the value is not checked here.
pub(super) fn check(property: &str, value: &str) -> Result<(), OptionsError> {
    let name = property.to_owned();
    match rule(property) {
        Some(Allowed) | None => Ok(()),
        Some(HasOption(option)) => Err(OptionsError::HasOption { property: name, option }),
        Some(Refused(reason)) => Err(OptionsError::Refused { property: name, reason }),
        Some(Within(least, most, reason)) => match value.trim().parse::<i64>() {
            Ok(number) if !(least..=most).contains(&number) => {
                Err(OptionsError::OutOfBounds { property: name, least, most, reason })
            }
            // librdkafka itself reports a value that is not a number.
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::kafka::raw;

    #[test]
    fn every_property_that_has_a_value_in_the_linked_librdkafka_has_one_rule() {
        let known = raw::property_names();
        assert!(known.len() > 90, "{known:?}");
        let missing: Vec<&String> = known.iter().filter(|name| rule(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for (name, _) in PROPERTIES {
            assert_eq!(PROPERTIES.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn every_property_of_the_table_is_one_of_librdkafka() {
        for (name, rule) in PROPERTIES {
            let known =
                raw::try_property(name, "1").err().is_none_or(|text| !text.contains("No such configuration"));
            assert!(known, "{name}: {rule:?}");
        }
    }

    #[test]
    fn bounds_hold_at_their_ends_and_lie_within_those_of_librdkafka() {
        for (name, rule) in PROPERTIES {
            let Within(least, most, reason) = *rule else { continue };
            for value in [least, most] {
                assert_eq!(check(name, &value.to_string()), Ok(()), "{name}");
                assert_eq!(raw::try_property(name, &value.to_string()), Ok(()), "{name}");
            }
            for value in [least - 1, most + 1] {
                let property = (*name).to_owned();
                let refused = OptionsError::OutOfBounds { property, least, most, reason };
                assert_eq!(check(name, &format!(" {value}")), Err(refused));
            }
        }
    }
}
