//! TLS and passwords on a real Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use exactlyonce::broker::kafka::{KafkaOptions, Sasl, SaslMechanism, Security, Tls};
use exactlyonce::broker::{Broker, BrokerError, Consumer, Delivery, NewRecord, Producer};
use exactlyonce::secret::Secret;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::services::TestBroker;

/// The variables of `docker/local/cluster up --secure`.
struct Secure(BTreeMap<String, String>);

impl Secure {
    fn new() -> Self {
        let environment = Cluster::running().env;
        assert!(environment.contains_key("CA_PEM"), "not secure: docker/local/cluster up --kafka 1 --secure");
        Self(environment)
    }

    fn tls(&self, ca: &str) -> Option<Tls> {
        Some(Tls { ca_file: Some(PathBuf::from(&self.0[ca])), ..Tls::default() })
    }

    fn sasl(&self, mechanism: SaslMechanism, user: &str) -> Sasl {
        let file = &self.0[&format!("KAFKA_{user}_PASSWORD_FILE")];
        let password = Secret::new(std::fs::read_to_string(file).unwrap().trim());
        Sasl { mechanism, username: self.0[&format!("KAFKA_{user}_USER")].clone(), password }
    }

    fn options(&self, listener: &str, security: Security) -> KafkaOptions {
        let mut options = KafkaOptions::new(self.0[listener].clone());
        options.request_timeout = Duration::from_secs(5);
        options.security = security;
        options
    }
}

/// Creates, writes and reads a topic.
async fn assert_works(options: &KafkaOptions) {
    let broker = TestBroker::new(options);
    broker.create_topic("t", 1, 1).await.unwrap();
    let record = NewRecord { value: Some(b"v".to_vec()), ..NewRecord::default() };
    broker.append("t", vec![record]).await.unwrap();
    let mut consumer = broker.subscribe("g", "t").await.unwrap();
    let delivery = timeout(Duration::from_secs(30), consumer.poll()).await.unwrap().unwrap();
    assert!(matches!(delivery, Delivery::Assigned(all) if all == [0]));
    assert_eq!(broker.fetch("t", 0, 0, 10, 1000).await.unwrap().records.len(), 1);
    consumer.leave().await;
}

/// The error of the first request, with its causes. It is returned long before the request timeout.
async fn refused(options: &KafkaOptions) -> String {
    let options = KafkaOptions { request_timeout: Duration::from_secs(60), ..options.clone() };
    let request = async { TestBroker::new(&options).topic("t").await.unwrap_err() };
    let error = timeout(Duration::from_secs(6), request).await.expect("an immediate error");
    assert!(matches!(error, BrokerError::Refused { .. }), "{error:?}");
    exactlyonce::error::chain(&error)
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn tls_plain_and_scram_work_with_the_right_ca_and_password() {
    let secure = Secure::new();
    let tls = || secure.tls("CA_PEM");
    assert_works(&secure.options("KAFKA_SSL", Security { tls: tls(), sasl: None })).await;
    let plain = Some(secure.sasl(SaslMechanism::Plain, "PLAIN"));
    assert_works(&secure.options("KAFKA_SASL_SSL", Security { tls: tls(), sasl: plain })).await;
    for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let scram = Some(secure.sasl(mechanism, "SCRAM"));
        assert_works(&secure.options("KAFKA_SASL_SSL", Security { tls: tls(), sasl: scram })).await;
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn a_server_whose_ca_is_not_trusted_is_refused() {
    let secure = Secure::new();
    let error =
        refused(&secure.options("KAFKA_SSL", Security { tls: secure.tls("WRONG_CA_PEM"), sasl: None })).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn a_wrong_password_is_refused_and_not_shown() {
    let secure = Secure::new();
    for (mechanism, user) in [(SaslMechanism::Plain, "PLAIN"), (SaslMechanism::ScramSha512, "SCRAM")] {
        let mut sasl = secure.sasl(mechanism, user);
        sasl.password = Secret::new("hunter2");
        let security = Security { tls: secure.tls("CA_PEM"), sasl: Some(sasl) };
        let error = refused(&secure.options("KAFKA_SASL_SSL", security)).await;
        assert!(error.contains("uthentication") && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn a_listener_with_a_different_security_protocol_is_refused_immediately() {
    let secure = Secure::new();
    let tls = || secure.tls("CA_PEM");
    let none = || Security { tls: None, sasl: None };
    let plain = || Some(secure.sasl(SaslMechanism::Plain, "PLAIN"));
    for (listener, security, message) in [
        ("KAFKA_SSL", none(), "the listener uses TLS"),
        ("KAFKA_SASL_SSL", none(), "the listener uses TLS"),
        ("KAFKA_SSL", Security { tls: None, sasl: plain() }, "the listener uses TLS"),
        ("KAFKA", Security { tls: tls(), sasl: None }, "the listener does not use TLS"),
        ("KAFKA", Security { tls: tls(), sasl: plain() }, "the listener does not use TLS"),
        ("KAFKA", Security { tls: None, sasl: plain() }, "is it a listener without SASL?"),
        ("KAFKA_SSL", Security { tls: tls(), sasl: plain() }, "is it a listener without SASL?"),
        ("KAFKA_SASL_SSL", Security { tls: tls(), sasl: None }, "requires authentication (SASL)"),
    ] {
        let error = refused(&secure.options(listener, security)).await;
        assert!(error.contains(message), "{listener}: {error}");
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn a_server_whose_certificate_is_for_a_different_name_is_refused() {
    let secure = Secure::new();
    let mut options = secure.options("KAFKA_SSL", Security { tls: secure.tls("CA_PEM"), sasl: None });
    // The same address, written as a number that is in no certificate.
    options.bootstrap_servers = options.bootstrap_servers.replace("127.0.0.1", "2130706433");
    let error = refused(&options).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
async fn a_user_without_permissions_is_refused_with_the_missing_one() {
    let secure = Secure::new();
    let sasl = Some(secure.sasl(SaslMechanism::Plain, "UNAUTHORIZED"));
    let options = secure.options("KAFKA_SASL_SSL", Security { tls: secure.tls("CA_PEM"), sasl });
    let broker = TestBroker::new(&options);
    let error = broker.topic("t").await.unwrap_err();
    // Kafka does not show a user topics that it has no permission for.
    assert!(!error.is_retriable(), "{error:?}");
    let error = broker.create_topic("t", 1, 1).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Refused { reason, .. } if reason.contains("Create")), "{error:?}");
}

#[tokio::test]
async fn a_missing_certificate_file_is_reported_immediately() {
    let mut options = KafkaOptions::new("localhost:1");
    options.security.tls = Some(Tls { ca_file: Some("/no/such/ca.pem".into()), ..Tls::default() });
    let error = exactlyonce::broker::kafka::KafkaBroker::connect(&options).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("ca.pem") || cause.contains("ssl.ca.location"), "{cause}");
}
