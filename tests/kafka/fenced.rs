//! A cluster whose brokers are all fenced for a moment, as those are that start together.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exactlyonce::broker::Broker;
use exactlyonce::broker::kafka::{KafkaBroker, KafkaOptions};
use tokio::time::sleep;

const TOPIC: &str = "topic";

/// Several times as long as a client without a connection waits until it begins again.
const LONGEST: Duration = Duration::from_secs(60);

/// So many requests get responses together, in which all brokers are fenced. While librdkafka handles one, its connections
/// end because of those before.
const TOGETHER: usize = 20;

/// Clients, each with a cluster of its own.
const CLIENTS: usize = 12;

/// How long responses wait for others.
const HELD_FOR: Duration = Duration::from_millis(300);

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;
const LEADER_NOT_AVAILABLE: i16 = 5;

fn text(of: &str) -> Vec<u8> {
    [&(of.len() as i16).to_be_bytes(), of.as_bytes()].concat()
}

/// Version 0, of a broker that has these two requests only, in versions 0 and 1.
fn api_versions(error: i16) -> Vec<u8> {
    let mut response = error.to_be_bytes().to_vec();
    response.extend(2i32.to_be_bytes());
    for (api, newest) in [(METADATA, 1i16), (API_VERSIONS, 0)] {
        response.extend([api.to_be_bytes(), [0, 0], newest.to_be_bytes()].concat());
    }
    response
}

/// Version 1: no broker and a topic without a leader, or the broker with this port as the leader of a partition.
fn metadata(port: Option<u16>) -> Vec<u8> {
    let broker = |port: u16| {
        let rack = [0xff, 0xff].to_vec();
        [1i32.to_be_bytes().to_vec(), text("127.0.0.1"), i32::from(port).to_be_bytes().to_vec(), rack]
            .concat()
    };
    let mut response = i32::from(port.is_some()).to_be_bytes().to_vec();
    response.extend(port.map(broker).unwrap_or_default());
    response.extend(1i32.to_be_bytes()); // The controller.
    response.extend(1i32.to_be_bytes()); // One topic.
    let error = if port.is_some() { 0 } else { LEADER_NOT_AVAILABLE };
    response.extend(error.to_be_bytes());
    response.extend([text(TOPIC), vec![0]].concat());
    response.extend(i32::from(port.is_some()).to_be_bytes());
    if port.is_some() {
        // Partition 0 with leader, replica and in-sync replica 1.
        response.extend([0, 0]);
        [0, 1, 1, 1, 1, 1i32].iter().for_each(|number| response.extend(number.to_be_bytes()));
    }
    response
}

/// Serves a connection until the client closes it.
fn serve(mut stream: TcpStream, port: u16, requests: &AtomicUsize) -> io::Result<()> {
    let mut held = Vec::new();
    stream.set_read_timeout(Some(HELD_FOR))?;
    loop {
        // Nothing is held for long, because requests may have gone to another connection.
        if stream.peek(&mut [0]).is_err() {
            stream.write_all(&std::mem::take(&mut held))?;
        }
        let mut header = [0; 12];
        match stream.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            read => read?,
        }
        let [a, b, c, d, api, key, version, of, correlation @ ..] = header;
        let mut body = vec![0; (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(8)];
        stream.read_exact(&mut body)?;
        let response = match (i16::from_be_bytes([api, key]), i16::from_be_bytes([version, of])) {
            (API_VERSIONS, 0) => api_versions(0),
            (API_VERSIONS, _) => api_versions(UNSUPPORTED_VERSION),
            // A client that connects asks without a topic; the topic's name ends the request of one that has asked for it.
            (METADATA, _) if !body.ends_with(TOPIC.as_bytes()) => metadata(Some(port)),
            (METADATA, _) => match requests.fetch_add(1, Ordering::Relaxed) {
                0..TOGETHER => metadata(None),
                _ => metadata(Some(port)),
            },
            _ => return Ok(()),
        };
        let length = (4 + response.len()) as u32;
        held.extend([&length.to_be_bytes()[..], &correlation, &response].concat());
        if !(1..TOGETHER).contains(&requests.load(Ordering::Relaxed)) {
            stream.write_all(&std::mem::take(&mut held))?;
        }
    }
}

/// How long a client of such a cluster takes until it reads the topic's partitions.
async fn time_to_connect_again() -> Duration {
    let requests = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, requests) = (stream.unwrap(), requests.clone());
            std::thread::spawn(move || serve(stream, port, &requests));
        }
    });
    let mut options = KafkaOptions::new(format!("127.0.0.1:{port}"));
    options.request_timeout = Duration::from_secs(5);
    let broker = KafkaBroker::connect(&options).unwrap();
    let subscriptions: Vec<_> = (0..TOGETHER)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.subscribe("group", TOPIC).await.map(drop) })
        })
        .collect();
    for subscription in subscriptions {
        // Those that are late see the broker.
        let _ = subscription.await.unwrap();
    }
    let began = Instant::now();
    while let Err(error) = broker.subscribe("group", TOPIC).await {
        assert!(error.is_retriable(), "{error:?}");
        assert!(began.elapsed() < LONGEST, "{error:?}");
        sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_client_connects_again_after_responses_without_any_broker() {
    // Of clients that never do, hardly all would be lucky: librdkafka loses its last broker in about a third.
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(time_to_connect_again())).collect();
    let mut times = Vec::new();
    for client in clients {
        times.push(client.await.unwrap());
    }
    println!("clients that were connected again after {times:.1?}");
}
