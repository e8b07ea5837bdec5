//! Three nodes on 127.0.0.1, 127.0.0.2 and 127.0.0.3, for any client: `cargo run --example serve -- 9042`, then
//! `cqlsh 127.0.0.1 9042`.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use simulated_cassandra::cluster::{AdjustableClock, Cluster, NodeOptions, Options, RuledLinks};
use simulated_cassandra::serve::serve;
use simulated_cassandra::server::ServerOptions;
use simulated_cassandra::storage::{Disk, Token};
use tokio::net::TcpListener;

const NODES: u8 = 3;
/// Places on the ring that each node has.
const TOKENS: u64 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(9042), |port| port.parse())?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = i64::try_from(now.as_micros())?;
    let address = |node: u8| -> IpAddr { Ipv4Addr::new(127, 0, 0, node + 1).into() };
    let tokens = |node: u8| {
        let step = u64::MAX / (TOKENS * u64::from(NODES));
        let places = (0..TOKENS).map(|place| place * u64::from(NODES) + u64::from(node));
        places.map(|place| Token((i64::MIN + 1).wrapping_add_unsigned(place * step))).collect()
    };
    let nodes = (0..NODES).map(|node| NodeOptions {
        address: address(node),
        port,
        data_center: "dc1".to_owned(),
        rack: format!("r{}", node + 1),
        tokens: tokens(node),
        clock: Arc::new(AdjustableClock::new(now)),
        disk: Disk::new(),
    });
    let mut options = Options::new(nodes.collect());
    options.gossip_interval = Duration::from_millis(100);
    let random = |stream: u64| {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        random.set_stream(stream);
        random
    };
    let links = RuledLinks::new(Duration::from_micros(50), Duration::from_micros(500), random(0));
    let cluster = Cluster::start(options, Arc::new(links), random(1));
    let mut serving = Vec::new();
    for (node, id) in (0..NODES).zip(cluster.nodes()) {
        let listener = TcpListener::bind(SocketAddr::new(address(node), port)).await?;
        let node = cluster.node(id).ok_or("the node has just been started")?;
        serving.push(tokio::spawn(serve(node, listener, ServerOptions::default())));
    }
    cluster.settled().await;
    println!("{NODES} nodes answer on port {port}");
    for node in serving {
        node.await?;
    }
    Ok(())
}
