//! Detects the protocol of a listener, without librdkafka.
//!
//! A client that uses plaintext with a TLS listener, or TLS with a plaintext one, only sees its connections closed. A
//! proxy whose broker is not up yet does the same, but there the client must retry. The probe distinguishes the two:
//! if the listener responds in the other protocol, a retry cannot help.

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

/// Timeout of connecting, and of each read and write.
const WAIT: Duration = Duration::from_secs(1);

/// `ApiVersions`, version 0, with correlation id 1 and no client id: 10 bytes after the length. Every broker responds
/// to it before authentication.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// A `ClientHello` of TLS 1.2 without extensions, with one cipher suite (`TLS_RSA_WITH_AES_128_CBC_SHA`). Any TLS
/// server responds with a handshake message or an alert.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 0x03, 0x01, 0, 45, 0x01, 0, 0, 41, 0x03, 0x03];
    hello.extend([7; 32]);
    // No session, two bytes of cipher suites, one compression method: none.
    hello.extend([0, 0, 2, 0x00, 0x2f, 1, 0]);
    hello
}

/// Probes the servers (`host:port`, separated by commas) one by one, until the protocol of one is known. Blocks the
/// thread; in the worst case, for some seconds per address.
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

    /// A server that reads something from each connection, sends the next of these responses and closes it.
    fn server(responses: &'static [&'static [u8]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1_000]);
                let _ = stream.write_all(response);
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
    fn the_protocol_of_a_listener_that_closes_every_connection_or_does_not_exist_is_unknown() {
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
