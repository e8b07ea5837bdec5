//! Detects the protocol of a listener, without librdkafka.
//!
//! A client that speaks plain Kafka to a TLS listener, or TLS to a plain one, only sees its connections closed. The same
//! happens at a proxy whose broker is not up yet, where the client must retry. This distinguishes the two: if a listener
//! answers in the other protocol, a retry cannot help.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The protocol of a listener's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Kafka's protocol, unencrypted.
    Plain,
    /// TLS.
    Tls,
}

/// Longest wait for a connection, and for each read and write.
const WAIT: Duration = Duration::from_secs(1);

/// `ApiVersions`, version 0, with correlation id 1 and no client id: 10 bytes after the length. Every broker answers
/// it before any login.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// A `ClientHello` of TLS 1.2 without extensions, with one cipher suite (`TLS_RSA_WITH_AES_128_CBC_SHA`). Any TLS
/// server answers it with a handshake message or with an alert.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 0x03, 0x01, 0, 45, 0x01, 0, 0, 41, 0x03, 0x03];
    hello.extend([7; 32]);
    // No session, two bytes of cipher suites, one compression method: none.
    hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    hello
}

/// Probes the servers (`host:port`, separated by commas) one after the other, until the protocol of one is known. Blocks
/// the thread, for some seconds for each address in the worst case.
pub(super) fn listener(servers: &str) -> Option<Listener> {
    servers.split(',').find_map(|server| {
        let server = server.trim();
        let server = server.rsplit_once("://").map_or(server, |(_, server)| server);
        let mut addresses = server.to_socket_addrs().ok()?;
        addresses.find_map(|address| {
            let exchange = |request: &[u8]| {
                let mut stream = TcpStream::connect_timeout(&address, WAIT).ok()?;
                stream.set_read_timeout(Some(WAIT)).ok()?;
                stream.set_write_timeout(Some(WAIT)).ok()?;
                stream.write_all(request).ok()?;
                let mut response = [0; 8];
                let length = stream.read(&mut response).ok()?;
                Some((response, length))
            };
            match exchange(&API_VERSIONS) {
                Some(([.., 0, 0, 0, 1], 8)) => return Some(Listener::Plain),
                // An alert: the request was not TLS.
                Some(([0x15, 0x03, ..], 2..)) => return Some(Listener::Tls),
                _ => {}
            }
            match exchange(&client_hello()) {
                Some(([0x15 | 0x16, 0x03, ..], 2..)) => Some(Listener::Tls),
                _ => None,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection with the next of these, after it has read something, and closes it.
    fn server(answers: &'static [&'static [u8]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1_000]);
                let _ = stream.write_all(answer);
            }
        });
        address
    }

    #[test]
    fn the_protocol_of_a_listener_is_known_by_its_response() {
        assert_eq!(listener(&server(&[&[0, 0, 1, 0, 0, 0, 0, 1]])), Some(Listener::Plain));
        assert_eq!(listener(&server(&[&[0x15, 3, 3, 0, 2, 2, 40]])), Some(Listener::Tls));
        assert_eq!(listener(&server(&[&[], &[0x15, 3, 3, 0, 2, 2, 40]])), Some(Listener::Tls));
        assert_eq!(listener(&server(&[&[], &[0x16, 3, 3, 0, 80]])), Some(Listener::Tls));
    }

    #[test]
    fn the_protocol_of_one_that_closes_every_connection_or_does_not_exist_is_unknown() {
        assert_eq!(listener(&server(&[&[], &[]])), None);
        assert_eq!(listener("127.0.0.1:1, no such host:1,"), None);
    }

    #[test]
    fn a_mock_broker_speaks_plain_kafka() {
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        assert_eq!(listener(&cluster.bootstrap_servers()), Some(Listener::Plain));
    }

    #[test]
    #[cfg(feature = "tls")]
    fn an_openssl_server_speaks_tls() {
        use openssl::ssl::{Ssl, SslContext, SslMethod};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let context = SslContext::builder(SslMethod::tls_server()).unwrap().build();
            for stream in listener.incoming() {
                let _ = Ssl::new(&context).unwrap().accept(stream.unwrap());
            }
        });
        assert_eq!(super::listener(&address), Some(Listener::Tls));
    }
}
