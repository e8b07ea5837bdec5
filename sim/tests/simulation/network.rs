//! The shim's TCP: how cut links, killed processes and machines without power affect clients.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::network::Network;
use tokio::time::{Instant, sleep, timeout};

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

struct Echo {
    network: Arc<Network>,
    server: NodeId,
}

/// Runs a client's side against a server that sends back what it gets.
fn with_echo<F: Future<Output = ()> + Send + 'static>(client: impl FnOnce(Echo) -> F + Send + 'static) {
    let run = async || {
        let handle = Handle::current();
        let network = Network::current();
        let server = handle.create_node().ip(SERVER).init(|| async {
            let Ok(listener) = TcpListener::bind("10.0.0.1:7").await else { return };
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1_000];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let server = server.build().id();
        network.plug_in(server, SERVER);
        let machine = handle.create_node().ip(CLIENT).build();
        network.plug_in(machine.id(), CLIENT);
        sleep(Duration::from_millis(10)).await;
        machine.spawn(client(Echo { network, server })).await.expect("the client does not panic");
    };
    simulation::simulate(7, run).expect("nothing panics");
}

async fn connect() -> TcpStream {
    TcpStream::connect(SocketAddr::new(SERVER, 7)).await.expect("the server listens")
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.expect("the connection stands");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.expect("the connection stands");
    assert_eq!(back, text);
}

const SHORT: Duration = Duration::from_secs(10);

#[test]
fn bytes_come_back_in_order_however_they_are_cut() {
    with_echo(async |_| {
        let stream = connect().await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move { writer.write_all(&sent).await.expect("the connection stands") });
        let mut back = vec![0; expected.len()];
        reader.read_exact(&mut back).await.expect("the connection stands");
        assert!(back == expected);
    });
}

#[test]
fn where_nobody_listens_a_connection_is_refused_and_an_unreachable_machine_does_not_respond() {
    with_echo(async |echo_server| {
        let closed = TcpStream::connect(SocketAddr::new(SERVER, 8)).await.expect_err("nobody listens");
        assert_eq!(closed.kind(), ErrorKind::ConnectionRefused);
        for way in [(SERVER, CLIENT), (CLIENT, SERVER)] {
            echo_server.network.cut(way.0, way.1);
            let connecting = timeout(SHORT, TcpStream::connect(SocketAddr::new(SERVER, 7))).await;
            assert!(connecting.is_err(), "{connecting:?}");
            echo_server.network.restore(way.0, way.1);
        }
        let began = Instant::now();
        let nowhere = TcpStream::connect("10.0.0.9:7").await.expect_err("no such machine");
        assert_eq!(nowhere.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() > Duration::from_secs(120), "{:?}", began.elapsed());
        assert!(echo_server.network.effects().unanswered >= 7);
    });
}

#[test]
fn data_written_through_a_cut_link_arrives_when_it_is_restored() {
    with_echo(async |echo_server| {
        let mut stream = connect().await;
        echo(&mut stream, b"before").await;
        echo_server.network.cut(SERVER, CLIENT);
        stream.write_all(b"held").await.expect("the buffer has space");
        let mut back = [0; 4];
        let reading = timeout(SHORT, stream.read_exact(&mut back)).await;
        assert!(reading.is_err(), "{reading:?}");
        assert!(echo_server.network.effects().held > 0);
        echo_server.network.restore(SERVER, CLIENT);
        stream.read_exact(&mut back).await.expect("the connection stands");
        assert_eq!(&back, b"held");
    });
}

#[test]
fn a_killed_process_closes_its_connections_though_not_through_a_cut_link() {
    with_echo(async |echo_server| {
        let (mut near, mut far) = (connect().await, connect().await);
        echo(&mut near, b"near").await;
        echo(&mut far, b"far").await;
        Handle::current().kill(echo_server.server);
        assert_eq!(near.read(&mut [0]).await.expect("an orderly end"), 0);
        // Data for a closed connection is answered with a reset.
        near.write_all(b"x").await.expect("not known yet");
        sleep(Duration::from_millis(50)).await;
        assert_eq!(near.write_all(b"x").await.expect_err("known now").kind(), ErrorKind::ConnectionReset);
        let refused = TcpStream::connect(SocketAddr::new(SERVER, 7)).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        Handle::current().restart(echo_server.server);
        sleep(Duration::from_millis(50)).await;
        let mut cut_off = connect().await;
        echo_server.network.cut(SERVER, CLIENT);
        Handle::current().kill(echo_server.server);
        let reading = timeout(SHORT, cut_off.read(&mut [0])).await;
        assert!(reading.is_err(), "{reading:?}");
        echo_server.network.restore(SERVER, CLIENT);
        assert_eq!(cut_off.read(&mut [0]).await.expect("an orderly end"), 0);
    });
}

#[test]
fn a_machine_without_power_is_silent_and_resets_connections_when_it_is_back() {
    with_echo(async |echo_server| {
        let mut stream = connect().await;
        echo(&mut stream, b"before").await;
        echo_server.network.power_off(SERVER);
        Handle::current().kill(echo_server.server);
        stream.write_all(b"lost").await.expect("the buffer has space");
        let reading = timeout(SHORT, stream.read(&mut [0])).await;
        assert!(reading.is_err(), "{reading:?}");
        echo_server.network.power_on(SERVER);
        Handle::current().restart(echo_server.server);
        let reading = timeout(SHORT, stream.read(&mut [0])).await.expect("a response");
        assert_eq!(reading.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        assert_eq!(echo_server.network.effects().resets, 1);
        echo(&mut connect().await, b"again").await;
    });
}

#[test]
fn connections_between_two_machines_can_be_reset_on_the_way() {
    with_echo(async |echo_server| {
        let mut stream = connect().await;
        echo(&mut stream, b"before").await;
        assert_eq!(echo_server.network.reset_connections(CLIENT, SERVER), 1);
        let read = stream.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(read.kind(), ErrorKind::ConnectionReset);
        echo(&mut connect().await, b"after").await;
    });
}
