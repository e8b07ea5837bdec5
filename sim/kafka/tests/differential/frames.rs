//! Requests of every kind and version that are damaged or cut: both clusters answer, or both close the connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use simulated_kafka::protocol::messages::ApiKey;
use simulated_kafka::protocol::versions::OFFERED;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::requests::{self, Draw, frame, framed};

/// How long a response is waited for. Some requests say that they may wait, and some want no response.
const SHORT: Duration = Duration::from_millis(700);
/// How long it is waited for if the other side has responded or closed the connection.
const LONG: Duration = Duration::from_secs(10);

/// What follows from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Response,
    Closed,
    Nothing,
}

/// A client of one broker.
pub struct Peer {
    address: SocketAddr,
    connection: Option<TcpStream>,
}

impl Peer {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends a frame. The connection stays open only after a response.
    async fn send(&mut self, frame: &[u8]) -> Outcome {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.address).await.expect("the broker listens"),
        };
        let _ = connection.set_nodelay(true);
        if connection.write_all(frame).await.is_err() {
            return Outcome::Closed;
        }
        self.connection = Some(connection);
        self.receive(SHORT).await
    }

    /// Waits for what follows; a connection on which nothing does may be waited for again.
    async fn receive(&mut self, limit: Duration) -> Outcome {
        let Some(mut connection) = self.connection.take() else { return Outcome::Closed };
        let deadline = Instant::now() + limit;
        let length = match timeout_at(deadline, connection.read_u32()).await {
            Ok(Ok(length)) => length,
            Ok(Err(_)) => return Outcome::Closed,
            Err(_) => {
                self.connection = Some(connection);
                return Outcome::Nothing;
            }
        };
        let mut response = vec![0; length as usize];
        if connection.read_exact(&mut response).await.is_err() {
            return Outcome::Closed;
        }
        self.connection = Some(connection);
        Outcome::Response
    }
}

/// Whether how long a request waits depends on what other requests do.
fn may_wait(key: ApiKey) -> bool {
    matches!(key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::Produce)
}

/// What both do with the same frame.
pub async fn outcomes(real: &mut Peer, simulated: &mut Peer, frame: &[u8]) -> (Outcome, Outcome) {
    let (mut expected, mut found) = tokio::join!(real.send(frame), simulated.send(frame));
    if expected != found {
        // Perhaps one is slow.
        if expected == Outcome::Nothing {
            expected = real.receive(LONG).await;
        }
        if found == Outcome::Nothing {
            found = simulated.receive(LONG).await;
        }
    }
    if expected == Outcome::Nothing || found == Outcome::Nothing {
        // The response may come later.
        (real.connection, simulated.connection) = (None, None);
    }
    (expected, found)
}

/// The frames of a request: whole, cut and damaged ones.
fn frames(key: ApiKey, version: i16, draw: &mut Draw) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for _ in 0..2 {
        let body = requests::body(key, version, draw);
        let whole = frame(key as i16, version, key.request_header_version(version), &body);
        for _ in 0..3 {
            frames.push(framed(&whole[4..4 + draw.below(whole.len() - 4)]));
        }
        for _ in 0..6 {
            let mut damaged = whole[4..].to_vec();
            // The key, the version and the correlation id stay.
            let mut rest = damaged.split_off(8);
            requests::damage(&mut rest, draw);
            damaged.extend(rest);
            frames.push(framed(&damaged));
        }
        frames.push(whole);
    }
    frames
}

/// Sends damaged requests of every kind and version to both, for so many rounds; what differs.
pub async fn compare(real: SocketAddr, simulated: SocketAddr, seed: u64, rounds: u64) -> Vec<String> {
    let (mut real, mut simulated) = (Peer::new(real), Peer::new(simulated));
    let mut draw = Draw::new(seed);
    let mut different = Vec::new();
    let (mut responses, mut closed) = (0, 0);
    for _ in 0..rounds {
        for offered in OFFERED {
            let key = offered.key;
            for version in offered.oldest..=offered.newest {
                for frame in frames(key, version, &mut draw) {
                    let (expected, found) = outcomes(&mut real, &mut simulated, &frame).await;
                    responses += usize::from(expected == Outcome::Response);
                    closed += usize::from(expected == Outcome::Closed);
                    let is_late = [expected, found].contains(&Outcome::Nothing)
                        && ![expected, found].contains(&Outcome::Closed)
                        && may_wait(key);
                    // Kafka replaces what is not UTF-8 in a text, and any negative length of what may be null means that.
                    let refusal = requests::refusal(key, version, Bytes::copy_from_slice(&frame[4..]));
                    let is_lenient = refusal
                        .is_some_and(|refusal| refusal.contains("utf-8") || refusal.contains("length"));
                    let is_known = is_lenient && found == Outcome::Closed;
                    if expected != found && !is_late && !is_known {
                        different.push(format!(
                            "{key:?} {version}: Kafka {expected:?}, simulation {found:?}: {:02x?}",
                            &frame[12..]
                        ));
                    }
                }
            }
        }
        for length in [-1, i32::MIN, i32::MAX] {
            let (expected, found) = outcomes(&mut real, &mut simulated, &length.to_be_bytes()).await;
            if expected != found {
                different.push(format!("a length of {length}: Kafka {expected:?}, simulation {found:?}"));
            }
        }
    }
    println!("{responses} responses, {closed} closed connections");
    assert!(responses > 100 && closed > 100, "one of them hardly happens");
    different
}
