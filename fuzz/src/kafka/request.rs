//! The target `kafka_request`: what clients send to a broker of a simulated cluster, in paused time.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::{Bytes, BytesMut};
use proto_kafka::messages::create_topics_request::CreatableTopic;
use proto_kafka::messages::{ApiKey, CreateTopicsRequest};
use proto_kafka::protocol::{Encodable, StrBytes};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_kafka::cluster::{AdjustableClock, BrokerOptions, Cluster, Options, RuledLinks};
use simulated_kafka::log::Disk;
use simulated_kafka::protocol::versions::OFFERED;
use simulated_kafka::serve::exchange;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;

use super::requests::{check_response, edited, frame};
use crate::allocations::peak;

/// What the clocks show at the start, in microseconds.
const START_US: i64 = 1_767_225_600_000_000;
/// Requests of an input, at most.
const MOST: usize = 8;
/// Places of a body that may differ from the default's.
const EDITED: usize = 60;

/// Sends requests to brokers, one after another, each on a connection of its own: of any kind and version, with the default
/// body in which some bytes are others, or with any body. Each has a whole response, or ends the connection, and takes memory in
/// proportion to its size; and the cluster still creates a topic after all of them.
///
/// # Panics
/// If it is not so.
pub fn kafka_request(data: &[u8]) {
    let mut source = Unstructured::new(data);
    let mut sent = Vec::new();
    while !source.is_empty() && sent.len() < MOST {
        let Ok(request) = Sent::arbitrary(&mut source) else { break };
        sent.push(request);
    }
    if sent.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let cluster = runtime.block_on(async {
        let cluster = start();
        cluster.settled().await;
        create(&cluster, "t").await;
        cluster
    });
    for Sent { node, key, version, bytes } in &sent {
        let (received, taken) = peak(|| runtime.block_on(send(&cluster, *node, bytes)));
        let size = bytes.len() + received.as_ref().map_or(0, Vec::len);
        let about = || format!("{key:?} {version}, {}", hex::encode(bytes));
        // A decoded element is larger than on the wire; and other work of the cluster happens meanwhile.
        assert!(taken <= (4 << 20) + 400 * size, "{taken} bytes: {}", about());
        let Some((length, response)) = received.as_deref().and_then(<[u8]>::split_first_chunk::<4>) else {
            continue;
        };
        assert_eq!(u32::from_be_bytes(*length) as usize, response.len(), "{}", about());
        if let Err(error) = check_response(*key, *version, Bytes::copy_from_slice(response)) {
            panic!("a malformed response, {error}: {}", about());
        }
    }
    runtime.block_on(create(&cluster, "another"));
}

/// A request that is sent to a broker.
struct Sent {
    node: i32,
    key: ApiKey,
    version: i16,
    bytes: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Sent {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        let node = source.int_in_range(1..=3)?;
        let offered = source.choose(OFFERED)?;
        let version = source.int_in_range(offered.oldest..=offered.newest)?;
        let body = match source.int_in_range(0..=3)? {
            0 => {
                let length = usize::from(u8::arbitrary(source)?);
                Bytes::copy_from_slice(source.bytes(length.min(source.len()))?)
            }
            filler => {
                let edits: Vec<(usize, u8)> = (0..source.int_in_range(0..=12)?)
                    .map(|_| Ok((source.choose_index(EDITED)?, u8::arbitrary(source)?)))
                    .collect::<Result<_>>()?;
                edited(offered.key, version, filler / 2, &edits).unwrap_or_default()
            }
        };
        let bytes = frame(offered.key as i16, version, offered.key.request_header_version(version), &body);
        Ok(Self { node, key: offered.key, version, bytes })
    }
}

fn start() -> Cluster {
    let brokers = (1..=3).map(|id| BrokerOptions {
        id: NodeId(id),
        host: format!("broker{id}"),
        port: 9092,
        rack: None,
        clock: Arc::new(AdjustableClock::new(START_US)),
        disk: Disk::new(),
    });
    let (short, long) = (Duration::from_micros(500), Duration::from_millis(2));
    let links = Arc::new(RuledLinks::new(short, long, ChaCha8Rng::seed_from_u64(1)));
    Cluster::start(Options::new(brokers.collect()), links, ChaCha8Rng::seed_from_u64(2))
}

/// Creates a topic, whichever brokers know it by then.
async fn create(cluster: &Cluster, name: &str) {
    let topic = CreatableTopic::default()
        .with_name(StrBytes::from_string(name.to_owned()).into())
        .with_num_partitions(2)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let mut body = BytesMut::new();
    request.encode(&mut body, 7).expect("a request");
    let bytes = frame(ApiKey::CreateTopics as i16, 7, 2, &body);
    let response = send(cluster, 1, &bytes).await;
    assert!(response.is_some_and(|response| response.len() > 8), "topic {name} cannot be created");
    cluster.settled().await;
}

/// [`exchange`] with a broker; none if it does not end the connection within a minute.
async fn send(cluster: &Cluster, node: i32, bytes: &[u8]) -> Option<Vec<u8>> {
    let broker = cluster.broker(NodeId(node)).expect("no broker is killed");
    let received = exchange(&broker, ServerOptions::default(), bytes);
    tokio::time::timeout(Duration::from_secs(60), received).await.ok()?.ok()
}
