//! Records in a second: one request after another, each with a batch of 100 records of 100 bytes.
//!
//! The bare loop exchanges frames of the same sizes with a task that does nothing else, on the same kind of stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_kafka::cluster::{AdjustableClock, BrokerOptions, Cluster, Options, RuledLinks};
use simulated_kafka::log::Disk;
use simulated_kafka::serve::connect;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::client::{Client, RECORDS, fetch, produce};
use crate::program::{Program, now};

const DURATION: Duration = Duration::from_secs(2);

/// Responds to each frame with one of a length.
async fn respond<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, length: usize) -> Result<()> {
    let response = [&u32::try_from(length)?.to_be_bytes()[..], &vec![0; length]].concat();
    let mut request = Vec::new();
    loop {
        let size = usize::try_from(stream.read_u32().await?)?;
        request.resize(size, 0);
        stream.read_exact(&mut request).await?;
        stream.write_all(&response).await?;
    }
}

/// Records in a second with these requests.
async fn measure<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    mut request: impl FnMut(i64) -> Result<bytes::Bytes>,
) -> Result<(f64, usize)> {
    let (start, mut done, mut length) = (Instant::now(), 0, 0);
    while start.elapsed() < DURATION {
        let response = client.exchange(&request(done)?).await?;
        (done, length) = (done + 1, response.len());
    }
    Ok((done as f64 * RECORDS as f64 / start.elapsed().as_secs_f64(), length))
}

/// Measures a stream to a broker, and one to the bare loop.
async fn compare<S, B>(
    name: &str,
    client: &mut Client<S>,
    bare: impl AsyncFn(usize) -> Result<Client<B>>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    for acks in [1, -1] {
        let request = produce("figures", acks, now()?)?;
        let (records, length) = measure(client, |_| Ok(request.clone())).await?;
        let (loops, _) = measure(&mut bare(length).await?, |_| Ok(request.clone())).await?;
        println!(
            "{name}, produce with acks={acks}: {records:.0} records/s, {:.2} of a bare loop",
            records / loops
        );
    }
    let size = produce("figures", 1, now()?)?.len();
    // What was produced suffices: a fetch that finds nothing would wait.
    let one = |place: i64| fetch("figures", place % 1_000 * RECORDS as i64, size);
    let (records, length) = measure(client, one).await?;
    let (loops, _) = measure(&mut bare(length).await?, one).await?;
    println!("{name}, fetch: {records:.0} records/s, {:.2} of a bare loop", records / loops);
    Ok(())
}

pub async fn over_sockets() -> Result<()> {
    let program = Program::start(1).await?;
    let mut client = Client(program.connect().await?);
    client.create("figures", &[]).await?;
    let bare = async |length: usize| {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // On a thread of its own, as the program has its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let listener = listener.into_std()?;
            runtime.block_on(async move {
                let (stream, _) = TcpListener::from_std(listener)?.accept().await?;
                stream.set_nodelay(true)?;
                respond(stream, length).await
            })
        });
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    };
    compare("over sockets", &mut client, bare).await?;
    drop(client);
    program.end().await
}

pub async fn in_memory() -> Result<()> {
    for brokers in [1, 3] {
        let broker = |id: i32| BrokerOptions {
            id: NodeId(id),
            host: format!("broker{id}"),
            port: 9092,
            rack: None,
            clock: Arc::new(AdjustableClock::new(now().unwrap_or_default() * 1000)),
            disk: Disk::new(),
        };
        let mut options = Options::new((1..=brokers).map(broker).collect());
        options.controller.replication = brokers as i16;
        let links = RuledLinks::new(Duration::ZERO, Duration::ZERO, ChaCha8Rng::seed_from_u64(1));
        let cluster = Cluster::start(options, Arc::new(links), ChaCha8Rng::seed_from_u64(2));
        cluster.settled().await;
        let broker = |id: NodeId| cluster.broker(id).ok_or("the broker does not run");
        let mut client = Client(connect(&broker(NodeId(1))?, ServerOptions::default()));
        client.create("figures", &[]).await?;
        cluster.settled().await;
        let leader = cluster.metadata().topic("figures").and_then(|topic| topic.partitions.first()?.leader);
        let mut client = Client(connect(&broker(leader.ok_or("no leader")?)?, ServerOptions::default()));
        let bare = async |length: usize| {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(respond(theirs, length));
            Ok(Client(ours))
        };
        compare(&format!("in memory, {brokers} replicas"), &mut client, bare).await?;
    }
    Ok(())
}
