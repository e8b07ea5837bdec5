//! How long one request after another takes over sockets: `cargo run --example latency`, in a development build as in
//! tests.
//!
//! The nodes run on a thread of their own, as in the program. The client of the first figures writes and reads bare
//! frames, so they are the time of the nodes. The figures of the driver contain its own work as well.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::coordinator::Consistency;
use simulated_cassandra::protocol::{Reader, Writer};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many requests of each kind are measured.
const MEASURED: usize = 3_000;
/// How many requests of each kind come first and are not counted.
const WARM_UP: usize = 200;

const STATEMENTS: [(&str, &str); 2] = [
    ("INSERT", "INSERT INTO k.t (a, b, c) VALUES (?, ?, ?)"),
    ("SELECT of a row", "SELECT c FROM k.t WHERE a = ? AND b = ?"),
];

/// A client that writes and reads bare frames.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Self(stream);
        let mut body = Writer::new();
        body.short(1);
        body.string("CQL_VERSION");
        body.string("3.0.0");
        client.request(0x01, &body.finish())?;
        Ok(client)
    }

    /// Sends a message and reads the body of the response.
    fn request(&mut self, opcode: u8, body: &[u8]) -> Result<Bytes> {
        let mut frame = vec![4, 0, 0, 0, opcode];
        frame.extend(u32::try_from(body.len())?.to_be_bytes());
        frame.extend(body);
        self.0.write_all(&frame)?;
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let mut body = vec![0; u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize];
        self.0.read_exact(&mut body)?;
        if head[4] == 0 { Err(String::from_utf8_lossy(&body).into()) } else { Ok(body.into()) }
    }

    /// Prepares a statement; returns its id.
    fn prepare(&mut self, text: &str) -> Result<Bytes> {
        let mut body = Writer::new();
        body.int(i32::try_from(text.len())?);
        body.raw(text.as_bytes());
        let mut response = Reader::new(self.request(0x09, &body.finish())?);
        response.int("kind")?;
        Ok(response.short_bytes("id")?)
    }

    /// Executes a prepared statement with this number as each of its values.
    fn execute(&mut self, id: &Bytes, columns: u16, number: i32) -> Result<()> {
        let mut body = Writer::new();
        body.short_bytes(id);
        body.consistency(Consistency::Quorum);
        body.byte(0x01);
        body.short(columns);
        (0..columns).for_each(|_| body.bytes(Some(&number.to_be_bytes())));
        self.request(0x0A, &body.finish()).map(drop)
    }
}

fn print(name: &str, mut took: Vec<Duration>) {
    let mut took = took.split_off(WARM_UP);
    took.sort_unstable();
    let us = |place: usize| took[place].as_micros();
    println!("  {name}: median {} us, 99 % within {} us", us(took.len() / 2), us(took.len() * 99 / 100));
}

async fn by_driver(session: &Session, name: &str, text: &str) -> Result<()> {
    let statement = session.prepare(text).await?;
    let columns = statement.get_variable_col_specs().len();
    let mut took = Vec::new();
    for number in 0..WARM_UP + MEASURED {
        let start = Instant::now();
        session.execute_unpaged(&statement, vec![number as i32; columns]).await?;
        took.push(start.elapsed());
    }
    print(name, took);
    Ok(())
}

/// Starts nodes on a thread of their own; returns the address of the first.
fn start(nodes: u8) -> Result<SocketAddr> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("nodes".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let options = LocalOptions { nodes, port: 0, ..LocalOptions::new(1_767_225_600_000_000) };
            match LocalNodes::start(options, |_| {}).await {
                Ok(nodes) => {
                    let _ = send.send(Ok(nodes.address(1)));
                    std::future::pending().await
                }
                Err(error) => drop(send.send(Err(error))),
            }
        });
        Ok::<_, std::io::Error>(())
    })?;
    Ok(receive.recv()??)
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for nodes in [1, 3] {
        let address = start(nodes)?;
        let session = runtime.block_on(SessionBuilder::new().known_node_addr(address).build())?;
        let keyspace = format!(
            "CREATE KEYSPACE k WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {nodes}}}"
        );
        for statement in [&*keyspace, "CREATE TABLE k.t (a int, b int, c int, PRIMARY KEY (a, b))"] {
            runtime.block_on(session.query_unpaged(statement, &[]))?;
        }
        println!("{nodes} nodes, {nodes} replicas, bare frames");
        let mut client = Client::connect(address)?;
        for (name, text) in STATEMENTS {
            let id = client.prepare(text)?;
            let columns = u16::try_from(text.matches('?').count())?;
            let mut took = Vec::new();
            for number in 0..WARM_UP + MEASURED {
                let start = Instant::now();
                client.execute(&id, columns, number as i32)?;
                took.push(start.elapsed());
            }
            print(name, took);
        }
        println!("{nodes} nodes, {nodes} replicas, driver");
        for (name, text) in STATEMENTS {
            runtime.block_on(by_driver(&session, name, text))?;
        }
    }
    Ok(())
}
