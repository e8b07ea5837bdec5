//! TLS and passwords, on a real Cassandra that requires both.

#[path = "common/cluster.rs"]
mod cluster;
// Its own session speaks no TLS.
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

fn named(all: &BTreeMap<String, String>, name: &str) -> String {
    let hint = "no secure services run: docker/local/cluster up --kafka 1 --cassandra 1 --secure starts them";
    all.get(name).unwrap_or_else(|| panic!("{name}: {hint}")).clone()
}

/// Options that are right, of the user who may do everything or of the one who may do nothing.
fn options(user: &str) -> CassandraOptions {
    let all = Cluster::running().env;
    let password = std::fs::read_to_string(named(&all, &format!("{user}_PASSWORD_FILE"))).unwrap();
    CassandraOptions {
        tls: Some(Tls { ca_file: Some(named(&all, "CA_PEM").into()), ..Tls::default() }),
        credentials: Some(Credentials {
            username: named(&all, &format!("{user}_USER")),
            password: Secret::new(password),
        }),
        ..services::options()
    }
}

fn with_tls(tls: Tls) -> CassandraOptions {
    CassandraOptions { tls: Some(tls), ..options("CASSANDRA") }
}

/// What the refusal says, all of it; without the password, whatever happened.
async fn refused(options: &CassandraOptions) -> String {
    let error = check_schema(options, LAYOUT).await.expect_err("it must not be let in");
    let text = chain(&error);
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    if let Some(credentials) = &options.credentials {
        assert!(!text.contains(credentials.password.expose()), "{text}");
        assert!(!format!("{error:?}{options:?}").contains(credentials.password.expose()), "{error:?}");
    }
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn with_the_right_certificate_and_password_everything_works() {
    let options = options("CASSANDRA");
    apply_schema(&options, &services::replication(&options), LAYOUT).await.unwrap();
    // A certificate of the client's own does no harm where none is asked for.
    let pem = PathBuf::from(named(&Cluster::running().env, "DIR")).join("security/server.pem");
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
async fn a_node_whose_authority_is_not_trusted_is_refused() {
    let ca_file = Some(named(&Cluster::running().env, "WRONG_CA_PEM").into());
    let text = refused(&with_tls(Tls { ca_file, ..Tls::default() })).await;
    assert_says(&text, &["TLS verification failed", "certificate verify failed"]);
    // Nor does the system trust it.
    let text = refused(&with_tls(Tls::default())).await;
    assert_says(&text, &["TLS verification failed", "certificate verify failed"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_node_at_an_address_that_its_certificate_does_not_name_is_refused() {
    let mut options = options("CASSANDRA");
    let node = options.contact_points[0].clone();
    // Only bytes are passed on; what is wrong is the address alone.
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
    assert_says(&text, &["TLS verification failed", "certificate verify failed"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_wrong_password_is_refused_and_not_shown() {
    let mut options = options("CASSANDRA");
    if let Some(credentials) = &mut options.credentials {
        credentials.password = Secret::new("a password that is wrong");
    }
    assert_says(&refused(&options).await, &["authentication failed", "password are incorrect"]);
    options.credentials = None;
    assert_says(&refused(&options).await, &["the server requires authentication"]);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn a_user_who_may_do_nothing_is_refused() {
    let options = options("CASSANDRA_UNAUTHORIZED");
    let applied = apply_schema(&options, &services::replication(&options), LAYOUT).await;
    let Err(error @ ConnectError::Refused { .. }) = applied else { panic!("{applied:?}") };
    assert_says(&chain(&error), &["CREATE KEYSPACE", "permission"]);
    // The schema may be read by all; what is in the tables may not.
    let allowed = self::options("CASSANDRA");
    apply_schema(&allowed, &services::replication(&allowed), LAYOUT).await.unwrap();
    let options = CassandraOptions { keyspace: allowed.keyspace.clone(), ..options };
    match CassandraStore::connect(&options, LAYOUT).await {
        Err(error @ ConnectError::Refused { .. }) => assert_says(&chain(&error), &["permission"]),
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
async fn without_tls_there_is_no_connection() {
    let options = CassandraOptions { tls: None, ..options("CASSANDRA") };
    let error = check_schema(&options, LAYOUT).await.expect_err("it must not be let in");
    println!("{}", chain(&error));
    assert!(error.is_transient(), "a node that cuts connections may be one that stops: {error:?}");
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn files_that_cannot_be_used_are_named() {
    let security = PathBuf::from(named(&Cluster::running().env, "DIR")).join("security");
    let (missing, pem, ca_key) =
        (security.join("missing.pem"), security.join("server.pem"), security.join("ca.key"));
    let missing_name = missing.display().to_string();
    let text = refused(&with_tls(Tls { ca_file: Some(missing.clone()), ..Tls::default() })).await;
    assert_says(&text, &["CA file", &missing_name]);
    let text = refused(&with_tls(Tls { certificate_file: Some(missing.clone()), ..Tls::default() })).await;
    assert_says(&text, &["certificate file", &missing_name]);
    let text = refused(&with_tls(Tls { key_file: Some(missing), ..Tls::default() })).await;
    assert_says(&text, &["key file", &missing_name]);
    let tls = Tls { certificate_file: Some(pem.clone()), key_file: Some(ca_key), ..Tls::default() };
    assert_says(&refused(&with_tls(tls)).await, &["key file"]);
    let tls = Tls { certificate_file: Some(pem), ..Tls::default() };
    assert_says(&refused(&with_tls(tls)).await, &["the key does not match the certificate"]);
}
