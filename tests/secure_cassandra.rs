//! TLS and passwords, on a real Cassandra that requires both.

#[path = "common/cluster.rs"]
mod cluster;
// Its `session` does not support TLS, so it is not used here.
#[allow(dead_code)]
#[path = "common/cassandra.rs"]
mod services;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cluster::Cluster;
use exactlyonce::error::chain;
use exactlyonce::secret::Secret;
use exactlyonce::store::cassandra::{
    CassandraOptions, CassandraStore, ConnectError, Credentials, Tls, apply_schema, check_schema,
};
use exactlyonce::store::{Layout, Outcome, Progress, Store};
use tokio::net::{TcpListener, TcpStream};

const LAYOUT: Layout = Layout::ORIGINAL;

fn variable(all: &BTreeMap<String, String>, name: &str) -> String {
    let hint = "no secure services run: docker/local/cluster up --kafka 1 --cassandra 1 --secure starts them";
    all.get(name).unwrap_or_else(|| panic!("{name}: {hint}")).clone()
}

/// Valid options, of the user with all permissions or of the one without any.
fn options(user: &str) -> CassandraOptions {
    let all = Cluster::running().env;
    let password = std::fs::read_to_string(variable(&all, &format!("{user}_PASSWORD_FILE"))).unwrap();
    CassandraOptions {
        tls: Some(Tls { ca_file: Some(variable(&all, "CA_PEM").into()), ..Tls::default() }),
        credentials: Some(Credentials {
            username: variable(&all, &format!("{user}_USER")),
            password: Secret::new(password),
        }),
        ..services::options()
    }
}

fn with_tls(tls: Tls) -> CassandraOptions {
    CassandraOptions { tls: Some(tls), ..options("CASSANDRA") }
}

/// The message of a refusal with its causes. Checks that it does not contain the password.
async fn refused(options: &CassandraOptions) -> String {
    let error = check_schema(options, LAYOUT).await.expect_err("a refusal");
    let text = chain(&error);
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    if let Some(credentials) = &options.credentials {
        assert!(!text.contains(credentials.password.expose()), "{text}");
        assert!(!format!("{error:?}{options:?}").contains(credentials.password.expose()), "{error:?}");
    }
    text
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn with_the_right_certificate_and_password_everything_works() {
    let options = options("CASSANDRA");
    apply_schema(&options, &services::replication(&options), LAYOUT).await.unwrap();
    // A client certificate is accepted even if the server does not request one.
    let pem = PathBuf::from(variable(&Cluster::running().env, "DIR")).join("security/server.pem");
    let mut with_certificate = options.clone();
    if let Some(tls) = &mut with_certificate.tls {
        (tls.certificate_file, tls.key_file) = (Some(pem.clone()), Some(pem));
    }
    for options in [&options, &with_certificate] {
        let store = CassandraStore::connect(options, LAYOUT).await.unwrap();
        let progress = Progress { origin: 0, next_offset: 7 };
        assert!(matches!(store.write_progress(0, progress).await, Outcome::Acknowledged(())));
        assert_eq!(store.progress(0).await.into_result().unwrap(), Some(progress));
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_node_whose_ca_is_not_trusted_is_refused() {
    let ca_file = Some(variable(&Cluster::running().env, "WRONG_CA_PEM").into());
    let text = refused(&with_tls(Tls { ca_file, ..Tls::default() })).await;
    assert_contains(&text, &["TLS verification failed", "certificate verify failed"]);
    // The system does not trust it either.
    let text = refused(&with_tls(Tls::default())).await;
    assert_contains(&text, &["TLS verification failed", "certificate verify failed"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_node_whose_certificate_is_for_a_different_address_is_refused() {
    let mut options = options("CASSANDRA");
    let node = options.contact_points[0].clone();
    // A listener that forwards all bytes to the node, at a different address.
    let listener = TcpListener::bind("127.0.0.77:0").await.unwrap();
    options.contact_points = vec![listener.local_addr().unwrap().to_string()];
    let forward = async {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&node).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    };
    let text = tokio::select! {
        text = refused(&options) => text,
        () = forward => unreachable!("it never ends"),
    };
    assert_contains(&text, &["TLS verification failed", "certificate verify failed"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_wrong_password_is_refused_and_not_shown() {
    let mut options = options("CASSANDRA");
    if let Some(credentials) = &mut options.credentials {
        credentials.password = Secret::new("a password that is wrong");
    }
    assert_contains(&refused(&options).await, &["authentication failed", "password are incorrect"]);
    options.credentials = None;
    assert_contains(&refused(&options).await, &["the server requires authentication"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_user_without_permissions_is_refused() {
    let options = options("CASSANDRA_UNAUTHORIZED");
    let applied = apply_schema(&options, &services::replication(&options), LAYOUT).await;
    let Err(error @ ConnectError::Refused { .. }) = applied else { panic!("{applied:?}") };
    assert_contains(&chain(&error), &["CREATE KEYSPACE", "permission"]);
    // All users may read the schema, but not the tables.
    let allowed = self::options("CASSANDRA");
    apply_schema(&allowed, &services::replication(&allowed), LAYOUT).await.unwrap();
    let options = CassandraOptions { keyspace: allowed.keyspace.clone(), ..options };
    match CassandraStore::connect(&options, LAYOUT).await {
        Err(error @ ConnectError::Refused { .. }) => assert_contains(&chain(&error), &["permission"]),
        Err(other) => panic!("{other:?}"),
        Ok(store) => {
            let outcome = store.binding().await;
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
            let outcome = store.write_progress(0, Progress { origin: 0, next_offset: 7 }).await;
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_client_without_tls_cannot_connect() {
    let options = CassandraOptions { tls: None, ..options("CASSANDRA") };
    let error = check_schema(&options, LAYOUT).await.expect_err("a refusal");
    println!("{}", chain(&error));
    assert!(error.is_transient(), "a node that closes connections may be restarting: {error:?}");
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn files_that_cannot_be_used_are_reported_by_name() {
    let security = PathBuf::from(variable(&Cluster::running().env, "DIR")).join("security");
    let (missing, pem, ca_key) =
        (security.join("missing.pem"), security.join("server.pem"), security.join("ca.key"));
    let missing_name = missing.display().to_string();
    let text = refused(&with_tls(Tls { ca_file: Some(missing.clone()), ..Tls::default() })).await;
    assert_contains(&text, &["CA file", &missing_name]);
    let text = refused(&with_tls(Tls { certificate_file: Some(missing.clone()), ..Tls::default() })).await;
    assert_contains(&text, &["certificate file", &missing_name]);
    let text = refused(&with_tls(Tls { key_file: Some(missing), ..Tls::default() })).await;
    assert_contains(&text, &["key file", &missing_name]);
    let tls = Tls { certificate_file: Some(pem.clone()), key_file: Some(ca_key), ..Tls::default() };
    assert_contains(&refused(&with_tls(tls)).await, &["key file"]);
    let tls = Tls { certificate_file: Some(pem), ..Tls::default() };
    assert_contains(&refused(&with_tls(tls)).await, &["the key does not match the certificate"]);
}
