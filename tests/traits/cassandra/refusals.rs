//! Nodes that refuse a client: with credentials that are missing or wrong, and with errors while a connection is opened.

use std::net::SocketAddr;

use exactlyonce::secret::Secret;
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{
    CassandraOptions, CassandraStore, ConnectError, Credentials, check_schema,
};
use exactlyonce::store::cql::Keyspace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::services::TestKeyspace;
use super::simulated::Nodes;

fn credentials(password: &str) -> Option<Credentials> {
    Some(Credentials { username: "user".to_owned(), password: Secret::new(password) })
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong_are_refused_and_the_right_ones_are_not() {
    let nodes = Nodes::start_secured("user", "right").await;
    let with = |credentials| CassandraOptions { credentials, ..nodes.options() };
    for (credentials, expected) in
        [(None, "the server requires authentication"), (credentials("wrong"), "authentication failed")]
    {
        match check_schema(&with(credentials), Layout::ORIGINAL).await {
            Err(ConnectError::Refused { what, .. }) => assert_eq!(what, expected),
            other => panic!("{other:?}"),
        }
    }
    TestKeyspace::with(with(credentials("right")), Layout::ORIGINAL).await;
}

/// A node that offers authentication, and responds to the credentials with an error.
struct RefusingNode(TcpListener);

/// Opcodes of the protocol.
const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const AUTHENTICATE: u8 = 0x03;
const SUPPORTED: u8 = 0x06;
const AUTH_RESPONSE: u8 = 0x0f;

/// Codes of errors.
const BAD_CREDENTIALS: u32 = 0x0100;
const OVERLOADED: u32 = 0x1001;
const UNAUTHORIZED: u32 = 0x2100;

impl RefusingNode {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    /// Serves connections for ever.
    async fn serve(&self, code: u32, message: &str) {
        while let Ok((connection, _)) = self.0.accept().await {
            // The driver closes it.
            let _ = Self::refuse(connection, code, message).await;
        }
    }

    async fn refuse(mut connection: TcpStream, code: u32, message: &str) -> std::io::Result<()> {
        let string = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        loop {
            // Version, flags, two bytes of the stream, opcode, and four of the body's length.
            let mut header = [0; 9];
            connection.read_exact(&mut header).await?;
            let [_, _, stream @ .., opcode, a, b, c, d] = header;
            let mut body = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
            connection.read_exact(&mut body).await?;
            let (opcode, body) = match opcode {
                STARTUP => (AUTHENTICATE, string("org.apache.cassandra.auth.PasswordAuthenticator")),
                AUTH_RESPONSE => (ERROR, [&code.to_be_bytes()[..], &string(message)].concat()),
                // No options.
                _ => (SUPPORTED, vec![0, 0]),
            };
            let header = [&[0x84, 0], &stream[..], &[opcode], &(body.len() as u32).to_be_bytes()].concat();
            connection.write_all(&[header, body].concat()).await?;
        }
    }
}

#[tokio::test]
async fn credentials_that_could_not_be_checked_are_worth_another_attempt() {
    let failed = Some("authentication failed");
    // The messages are those of Cassandra.
    for (code, message, expected) in [
        (BAD_CREDENTIALS, "Provided username user and/or password are incorrect", failed),
        (BAD_CREDENTIALS, "Unable to perform authentication: Cannot achieve consistency level QUORUM", None),
        (UNAUTHORIZED, "You do not have access to this datacenter (dc1)", failed),
        (OVERLOADED, "Too many requests", None),
    ] {
        let node = RefusingNode::bind().await;
        let keyspace = Keyspace::try_from("test".to_owned()).expect("a valid name");
        let options = CassandraOptions {
            credentials: credentials("right"),
            ..CassandraOptions::new(vec![node.address().to_string()], keyspace)
        };
        let connected = tokio::select! {
            connected = CassandraStore::connect(&options, Layout::ORIGINAL) => connected,
            () = node.serve(code, message) => unreachable!("it never ends"),
        };
        match (connected, expected) {
            (Err(ConnectError::Refused { what, .. }), Some(expected)) => {
                assert_eq!(what, expected, "{message}")
            }
            (Err(error), None) => assert!(error.is_transient(), "{message}: {error:?}"),
            (other, _) => panic!("{message}: {:?}", other.map(drop)),
        }
    }
}
