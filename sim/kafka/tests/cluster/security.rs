//! Listeners that require SASL, and the users.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use proto_kafka::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use proto_kafka::messages::describe_user_scram_credentials_request::UserName;
use proto_kafka::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, DescribeUserScramCredentialsRequest,
    MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use sha2::{Digest, Sha256, Sha512};
use simulated_kafka::cluster::Options;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::sasl::Mechanism;
use simulated_kafka::server::ServerOptions;
use tokio::time::Instant;

use crate::harness::{Connection, Testbed, checked, seconds, text};

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
const INVALID: &str =
    "Authentication failed during authentication due to invalid credentials with SASL mechanism ";

async fn start() -> Testbed {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut Options)) -> Testbed {
    Testbed::start_with(1, |options| {
        options.sasl.users.insert("anna".to_owned(), "pencil".to_owned());
        change(options);
    })
    .await
}

/// A connection to a listener that requires SASL.
fn connect(bed: &Testbed) -> Connection {
    let options = ServerOptions { sasl: true, ..ServerOptions::default() };
    bed.connect(1, options).expect("it runs")
}

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1"))
}

fn token(token: impl Into<Bytes>) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(token.into())
}

/// The error of SaslHandshake, and the mechanisms.
async fn handshake(connection: &mut Connection, mechanism: &str, version: i16) -> (i16, Vec<String>) {
    let request = SaslHandshakeRequest::default().with_mechanism(text(mechanism));
    let response = connection.send(request, version).await.expect("a response");
    (response.error_code, response.mechanisms.iter().map(|name| name.to_string()).collect())
}

/// Sends a token, in a request or as it is, and returns the challenge.
async fn exchange(
    connection: &mut Connection,
    bytes: String,
    in_requests: bool,
) -> Option<Result<String, (ErrorCode, String)>> {
    let challenge = if in_requests {
        let response = connection.send(token(bytes), 2).await?;
        if let Err(error) = checked(response.error_code, ()) {
            return Some(Err((error, response.error_message.unwrap_or_default().to_string())));
        }
        response.auth_bytes
    } else {
        connection.send_frame(bytes.as_bytes()).await?
    };
    Some(Ok(String::from_utf8(challenge.to_vec()).expect("text")))
}

/// Authenticates as a client does; none if the connection ends.
async fn authenticate(
    connection: &mut Connection,
    mechanism: &str,
    (user, password): (&str, &str),
    in_requests: bool,
) -> Option<Result<(), (ErrorCode, String)>> {
    let (error, _) = handshake(connection, mechanism, i16::from(in_requests)).await;
    assert_eq!(error, 0);
    if mechanism == "PLAIN" {
        let plain = format!("\0{user}\0{password}");
        return exchange(connection, plain, in_requests).await.map(|result| result.map(|_| ()));
    }
    let bare = format!("n={user},r={NONCE}");
    let first = match exchange(connection, format!("n,,{bare}"), in_requests).await? {
        Ok(first) => first,
        Err(refused) => return Some(Err(refused)),
    };
    let part = |name: &str| first.split(',').find_map(|part| part.strip_prefix(name)).expect("a part");
    let salt = BASE64_STANDARD.decode(part("s=")).expect("base 64");
    let (nonce, iterations) = (part("r="), part("i=").parse().expect("a number"));
    assert!(nonce.starts_with(NONCE) && nonce.len() > NONCE.len(), "{nonce}");
    let last = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{first},{last}");
    let (proof, verifier) = if mechanism == "SCRAM-SHA-256" {
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations);
        prove::<Sha256, Hmac<Sha256>>(&salted, &signed)
    } else {
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), &salt, iterations);
        prove::<Sha512, Hmac<Sha512>>(&salted, &signed)
    };
    let result = exchange(connection, format!("{last},p={proof}"), in_requests).await?;
    Some(result.map(|received| assert_eq!(received, format!("v={verifier}"))))
}

/// The client's proof and the signature of the broker (RFC 5802, section 3).
fn prove<D: Digest, M: Mac + KeyInit>(salted: &[u8], signed: &str) -> (String, String) {
    let mac = |key: &[u8], data: &[u8]| {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key");
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    };
    let client_key = mac(salted, b"Client Key");
    let signature = mac(&D::digest(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
    let verifier = mac(&mac(salted, b"Server Key"), signed.as_bytes());
    (BASE64_STANDARD.encode(proof), BASE64_STANDARD.encode(verifier))
}

async fn serves(connection: &mut Connection) -> bool {
    let response = connection.send(MetadataRequest::default(), 9).await;
    response.is_some_and(|response| response.brokers.len() == 3)
}

#[tokio::test(start_paused = true)]
async fn users_authenticate_with_every_mechanism_and_then_send_requests() {
    let bed = start().await;
    for mechanism in Mechanism::ALL {
        for in_requests in [true, false] {
            let mut connection = connect(&bed);
            // Once, and in a version that the broker knows.
            assert_eq!(connection.send(versions(), 3).await.expect("a response").error_code, 0);
            let done = authenticate(&mut connection, mechanism.name(), ("anna", "pencil"), in_requests).await;
            assert_eq!(done, Some(Ok(())), "{mechanism} {in_requests}");
            assert!(serves(&mut connection).await, "{mechanism} {in_requests}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_or_user_is_refused_after_a_while_and_ends_the_connection() {
    let bed = start().await;
    for (mechanism, message) in [
        ("PLAIN", "Authentication failed: Invalid username or password".to_owned()),
        ("SCRAM-SHA-256", format!("{INVALID}SCRAM-SHA-256")),
        ("SCRAM-SHA-512", format!("{INVALID}SCRAM-SHA-512")),
    ] {
        for user in [("anna", "pen"), ("otto", "pencil")] {
            let mut connection = connect(&bed);
            let begin = Instant::now();
            let refused = authenticate(&mut connection, mechanism, user, true).await;
            assert_eq!(refused, Some(Err((ErrorCode::SaslAuthenticationFailed, message.clone()))));
            assert!(begin.elapsed().as_millis() >= 100, "{:?}", begin.elapsed());
            assert!(connection.is_closed().await);
            // Clients before SaslAuthenticate get no response.
            let mut connection = connect(&bed);
            assert_eq!(authenticate(&mut connection, mechanism, user, false).await, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_is_not_enabled_is_refused_with_those_that_are() {
    let bed =
        start_with(|options| options.set("sasl.enabled.mechanisms", "SCRAM-SHA-512").expect("allowed")).await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "GSSAPI", ""] {
        for version in [0, 1] {
            let mut connection = connect(&bed);
            let refused = handshake(&mut connection, mechanism, version).await;
            let expected = ErrorCode::UnsupportedSaslMechanism.code();
            assert_eq!(refused, (expected, vec!["SCRAM-SHA-512".to_owned()]), "{mechanism}");
            assert!(connection.is_closed().await);
        }
    }
    let mut connection = connect(&bed);
    let done = authenticate(&mut connection, "SCRAM-SHA-512", ("anna", "pencil"), true).await;
    assert_eq!(done, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn other_requests_before_the_authentication_end_the_connection() {
    let bed = start().await;
    let mut connection = connect(&bed);
    assert!(!serves(&mut connection).await);
    assert!(connection.is_closed().await);
    let mut connection = connect(&bed);
    assert!(connection.send(token("\0anna\0pencil"), 2).await.is_none());
    // Versions are sent once. Until they are, they may be asked for again.
    let mut connection = connect(&bed);
    let unnamed = ApiVersionsRequest::default();
    let refused = connection.send(unnamed, 3).await.expect("a response");
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(connection.send(versions(), 3).await.expect("a response").error_code, 0);
    assert!(connection.send(versions(), 3).await.is_none());
    // No frame is larger than 512 KiB, and no request.
    let mut connection = connect(&bed);
    assert!(connection.send_frame(&[0; (512 << 10) + 1]).await.is_none());
    assert!(connect(&bed).send_frame(b"GET / HTTP/1.1").await.is_none());
    assert!(connect(&bed).send_frame(b"").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn another_request_in_place_of_a_token_fails_the_authentication() {
    let bed = start().await;
    let illegal = ErrorCode::IllegalSaslState.code();
    let connection = async || {
        let mut connection = connect(&bed);
        assert_eq!(handshake(&mut connection, "PLAIN", 1).await.0, 0);
        connection
    };
    let mut again = connection().await;
    assert_eq!(handshake(&mut again, "PLAIN", 1).await, (illegal, Vec::new()));
    assert!(again.is_closed().await);
    let mut asks = connection().await;
    assert_eq!(asks.send(versions(), 0).await.expect("a response").error_code, illegal);
    assert!(asks.is_closed().await);
    let mut other = connection().await;
    assert!(!serves(&mut other).await);
    assert!(other.is_closed().await);
}

async fn assert_nobody_authenticates_again(connection: &mut Connection) {
    let illegal = ErrorCode::IllegalSaslState.code();
    assert_eq!(handshake(connection, "PLAIN", 1).await, (illegal, Vec::new()));
    let response: SaslAuthenticateResponse =
        connection.send(token("\0anna\0pencil"), 2).await.expect("a response");
    assert_eq!(response.error_code, illegal);
    let message = "SaslAuthenticate request received after successful authentication";
    assert_eq!(response.error_message.as_deref(), Some(message));
    assert!(serves(connection).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_authenticates_twice_or_where_it_is_not_required() {
    let bed = start().await;
    let mut connection = connect(&bed);
    authenticate(&mut connection, "PLAIN", ("anna", "pencil"), true).await.expect("open").expect("right");
    assert_nobody_authenticates_again(&mut connection).await;
    let mut connection = bed.connect(1, ServerOptions::default()).expect("it runs");
    assert_nobody_authenticates_again(&mut connection).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_has_the_same_nonces_and_salts() {
    let challenge = async || {
        let bed = start().await;
        let mut connection = connect(&bed);
        assert_eq!(handshake(&mut connection, "SCRAM-SHA-256", 1).await.0, 0);
        let first = format!("n,,n=anna,r={NONCE}");
        exchange(&mut connection, first, true).await.expect("open").expect("a challenge")
    };
    assert_eq!(challenge().await, challenge().await);
}

fn upsertion(name: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"brush", b"salt", iterations.unsigned_abs());
    ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(Bytes::from_static(b"salt"))
        .with_salted_password(Bytes::copy_from_slice(&salted))
}

fn deletion(name: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(text(name)).with_mechanism(mechanism)
}

/// The users and their errors.
async fn alter(
    bed: &Testbed,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) -> Vec<(String, Option<ErrorCode>)> {
    let request =
        AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
    let response = bed.send(2, request, 0).await.expect("a response");
    bed.cluster.settled().await;
    let results = response.results.iter();
    results.map(|result| (result.user.to_string(), ErrorCode::try_from_code(result.error_code))).collect()
}

/// The mechanisms of a user and their iterations.
type Credentials = Result<Vec<(i8, i32)>, ErrorCode>;

/// The users with their credentials, or their errors.
async fn describe(bed: &Testbed, users: Option<&[&str]>) -> Vec<(String, Credentials)> {
    let users =
        users.map(|users| users.iter().map(|user| UserName::default().with_name(text(user))).collect());
    let request = DescribeUserScramCredentialsRequest::default().with_users(users);
    let response = bed.send(3, request, 0).await.expect("a response");
    let results = response.results.iter().map(|result| {
        let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
        (result.user.to_string(), checked(result.error_code, infos))
    });
    results.collect()
}

#[tokio::test(start_paused = true)]
async fn administrators_add_users_of_scram_and_delete_them() {
    let bed = start().await;
    assert_eq!(alter(&bed, vec![], vec![upsertion("otto", 1, 8192)]).await, [("otto".to_owned(), None)]);
    let all = describe(&bed, None).await;
    let expected =
        [("anna".to_owned(), Ok(vec![(1, 4096), (2, 4096)])), ("otto".to_owned(), Ok(vec![(1, 8192)]))];
    assert_eq!(all, expected);
    let user = ("otto", "brush");
    assert_eq!(authenticate(&mut connect(&bed), "SCRAM-SHA-256", user, true).await, Some(Ok(())));
    let refused = authenticate(&mut connect(&bed), "SCRAM-SHA-512", user, true).await;
    assert!(matches!(refused, Some(Err(_))), "{refused:?}");
    assert_eq!(alter(&bed, vec![deletion("otto", 1)], vec![]).await, [("otto".to_owned(), None)]);
    let refused = authenticate(&mut connect(&bed), "SCRAM-SHA-256", user, true).await;
    assert!(matches!(refused, Some(Err(_))), "{refused:?}");
    let asked = describe(&bed, Some(&["otto", "anna", "anna"])).await;
    let expected = [
        ("anna".to_owned(), Err(ErrorCode::DuplicateResource)),
        ("otto".to_owned(), Err(ErrorCode::ResourceNotFound)),
    ];
    assert_eq!(asked, expected);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_user_that_is_not_allowed_is_refused() {
    let bed = start().await;
    for (upserted, error) in [
        (upsertion("", 1, 4096), ErrorCode::UnacceptableCredential),
        (upsertion("otto", 1, 4095), ErrorCode::UnacceptableCredential),
        (upsertion("otto", 1, 16_385), ErrorCode::UnacceptableCredential),
        (upsertion("otto", 0, 4096), ErrorCode::UnsupportedSaslMechanism),
    ] {
        let name = upserted.name.to_string();
        assert_eq!(alter(&bed, vec![], vec![upserted]).await, [(name, Some(error))]);
    }
    let twice = alter(&bed, vec![deletion("anna", 1)], vec![upsertion("anna", 2, 4096)]).await;
    assert_eq!(twice, [("anna".to_owned(), Some(ErrorCode::DuplicateResource))]);
    let unknown = alter(&bed, vec![deletion("otto", 1)], vec![]).await;
    assert_eq!(unknown, [("otto".to_owned(), Some(ErrorCode::ResourceNotFound))]);
    assert_eq!(describe(&bed, None).await.len(), 1, "nothing has changed");
}

/// A cluster in which a session has an end, after ten seconds.
async fn start_with_short_sessions() -> Testbed {
    start_with(|options| {
        options.sasl.users.insert("otto".to_owned(), "pen".to_owned());
        options.set("connections.max.reauth.ms", "10000").expect("allowed");
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_authenticates_again_in_time_is_served_and_another_is_disconnected() {
    let bed = start_with_short_sessions().await;
    for mechanism in Mechanism::ALL {
        for in_requests in [true, false] {
            let (mut again, mut other) = (connect(&bed), connect(&bed));
            for connection in [&mut again, &mut other] {
                let done = authenticate(connection, mechanism.name(), ("anna", "pencil"), in_requests).await;
                assert_eq!(done, Some(Ok(())));
            }
            tokio::time::sleep(seconds(9)).await;
            assert!(serves(&mut other).await);
            for _ in 0..3 {
                let done = authenticate(&mut again, mechanism.name(), ("anna", "pencil"), in_requests).await;
                assert_eq!(done, Some(Ok(())), "{mechanism} {in_requests}");
                tokio::time::sleep(seconds(9)).await;
                assert!(serves(&mut again).await, "{mechanism} {in_requests}");
            }
            assert!(!serves(&mut other).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_learns_how_long_its_session_is() {
    let bed = start_with_short_sessions().await;
    let mut connection = connect(&bed);
    assert_eq!(handshake(&mut connection, "PLAIN", 1).await.0, 0);
    let response = connection.send(token("\0anna\0pencil"), 1).await.expect("a response");
    assert_eq!((response.error_code, response.session_lifetime_ms), (0, 10_000));
    let endless = start().await;
    let mut connection = connect(&endless);
    assert_eq!(handshake(&mut connection, "PLAIN", 1).await.0, 0);
    let response = connection.send(token("\0anna\0pencil"), 1).await.expect("a response");
    assert_eq!((response.error_code, response.session_lifetime_ms), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_authenticates_again_as_the_same_user_by_the_same_mechanism_and_at_most_once_a_second() {
    let bed = start_with_short_sessions().await;
    let connection = async || {
        let mut connection = connect(&bed);
        let done = authenticate(&mut connection, "PLAIN", ("anna", "pencil"), true).await;
        assert_eq!(done, Some(Ok(())));
        connection
    };
    let mut other_user = connection().await;
    let refused = authenticate(&mut other_user, "PLAIN", ("otto", "pen"), true).await;
    let message = "Cannot change principals during re-authentication from User.anna: User.otto".to_owned();
    assert_eq!(refused, Some(Err((ErrorCode::SaslAuthenticationFailed, message))));
    assert!(other_user.is_closed().await);
    // The client learns of another mechanism when it sends a token.
    let mut other_mechanism = connection().await;
    assert_eq!(handshake(&mut other_mechanism, "SCRAM-SHA-256", 1).await.0, 0);
    assert_eq!(exchange(&mut other_mechanism, format!("n,,n=anna,r={NONCE}"), true).await, None);
    let mut wrong = connect(&bed);
    let scram = "SCRAM-SHA-512";
    assert_eq!(authenticate(&mut wrong, scram, ("anna", "pencil"), true).await, Some(Ok(())));
    let refused = authenticate(&mut wrong, scram, ("anna", "pen"), true).await;
    let message = INVALID.replace("during authentication", "during re-authentication") + scram;
    assert_eq!(refused, Some(Err((ErrorCode::SaslAuthenticationFailed, message))));
    let mut eager = connection().await;
    assert_eq!(authenticate(&mut eager, "PLAIN", ("anna", "pencil"), true).await, Some(Ok(())));
    assert_eq!(handshake(&mut eager, "PLAIN", 1).await.0, ErrorCode::IllegalSaslState.code());
    assert!(serves(&mut eager).await);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(authenticate(&mut eager, "PLAIN", ("anna", "pencil"), true).await, Some(Ok(())));
}
