//! Detects the protocol of a listener, without librdkafka.
//!
//! A client that uses plaintext with a TLS listener, or TLS with a plaintext one, only sees its connections closed. A
//! proxy whose broker is not up yet does the same, but there the client must retry. The probe distinguishes the two:
//! if the listener responds in the other protocol, a retry cannot help.

use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The protocol of a listener's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Kafka's protocol, unencrypted.
    Plain,
    /// The same, and a client has to log in before any other request than the first.
    Login,
    /// TLS.
    Tls,
}

/// Timeout of connecting, and of each read and write.
const WAIT: Duration = Duration::from_secs(1);

/// More than any broker's response to the first request has, in bytes.
const LONGEST_RESPONSE: u64 = 1 << 16;

/// `ApiVersions`, version 0, with correlation id 1 and no client id: 10 bytes after the length. Every broker responds
/// to it before authentication.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// `Metadata`, version 1, of no topic, with correlation id 2. A broker that requires a login closes the connection instead of a
/// response (`SaslServerAuthenticator.handleKafkaRequest`).
const METADATA: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0, 0, 0, 0];

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
        addresses.find_map(|address| match kafka(address) {
            // A broker that was killed after its first response has closed the connection, too.
            Some(Listener::Login) => kafka(address).filter(|again| *again == Listener::Login),
            Some(listener) => Some(listener),
            None => match exchange(&mut connect(address)?, &client_hello()) {
                Ok(([0x15 | 0x16, 0x03, ..], 2..)) => Some(Listener::Tls),
                _ => None,
            },
        })
    })
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, WAIT).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    stream.set_write_timeout(Some(WAIT)).ok()?;
    Some(stream)
}

/// Sends a request, and returns the beginning of the response, and how long that is.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<([u8; 8], usize)> {
    stream.write_all(request)?;
    let mut response = [0; 8];
    let length = stream.read(&mut response)?;
    Ok((response, length))
}

/// The protocol of a listener that responds to Kafka's first request, perhaps to refuse it.
fn kafka(address: SocketAddr) -> Option<Listener> {
    let mut stream = connect(address)?;
    let size = match exchange(&mut stream, &API_VERSIONS) {
        Ok(([a, b, c, d, 0, 0, 0, 1], 8)) => u32::from_be_bytes([a, b, c, d]),
        // An alert: the request was not TLS.
        Ok(([0x15, 0x03, ..], 2..)) => return Some(Listener::Tls),
        _ => return None,
    };
    // The size is that of what follows it, of which the correlation id was read.
    let left = u64::from(size).saturating_sub(4).min(LONGEST_RESPONSE);
    io::copy(&mut (&mut stream).take(left), &mut io::sink()).ok()?;
    match exchange(&mut stream, &METADATA) {
        Ok(([.., 0, 0, 0, 2], 8)) => Some(Listener::Plain),
        Ok((_, 0)) => Some(Listener::Login),
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
            Some(Listener::Login)
        }
        _ => None,
    }
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
        const FIRST: &[u8] = &[0, 0, 0, 6, 0, 0, 0, 1, 0, 35];
        assert_eq!(listener(&server(&[FIRST, FIRST])), Some(Listener::Login));
        assert_eq!(listener(&server(&[FIRST])), None, "it may have been killed");
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
