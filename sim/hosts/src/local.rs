//! Nodes on loopback addresses: the first listens on 127.0.0.1, the next on 127.0.0.2, and so on, all on one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// Maximum nodes of a cluster on loopback addresses.
pub const MAX_NODES: u8 = 100;

/// How long a port of a node that ended may stay taken before starting it again fails.
const PORT_WAIT: Duration = Duration::from_secs(10);

/// An address is taken.
#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The error.
    pub source: io::Error,
}

/// The address of a node, numbered from 1.
pub fn address(node: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, node).into()
}

/// Listeners on one port of the addresses of all nodes; with port 0, on one that is free on all. Each address may be used again
/// although connections of a run that has ended linger: `TcpListener::bind` sets the option for that.
///
/// # Errors
/// If an address is taken.
pub async fn listen(nodes: u8, port: u16) -> Result<Vec<TcpListener>, ListenError> {
    const ATTEMPTS: usize = 50;
    let mut found = listen_on(nodes, port).await;
    for _ in 1..ATTEMPTS {
        if port != 0 || found.is_ok() {
            break;
        }
        found = listen_on(nodes, port).await;
    }
    found
}

async fn listen_on(nodes: u8, port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    let mut port = port;
    for node in 1..=nodes {
        let address = SocketAddr::new(address(node), port);
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        // With port 0 the first address determines the port.
        port = listener.local_addr().map_err(failed)?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// A listener on the address of a node that ran before: its previous run closes its listener asynchronously.
///
/// # Errors
/// If the address is still taken after 10 s.
pub async fn listen_again(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let deadline = Instant::now() + PORT_WAIT;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(10)).await,
            Err(source) => return Err(ListenError { address, source }),
        }
    }
}

/// Accepts the connections of clients, without end.
pub async fn accept(listener: &TcpListener, mut serve: impl FnMut(TcpStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((connection, client)) => {
                let _ = connection.set_nodelay(true);
                serve(connection, client);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_nodes_listen_on_one_free_port_and_a_taken_one_is_named() {
        let listeners = listen(2, 0).await.expect("a free port");
        let addresses: Vec<SocketAddr> = listeners.iter().map(|each| each.local_addr().unwrap()).collect();
        assert_eq!(addresses[0].port(), addresses[1].port());
        assert_eq!([addresses[0].ip(), addresses[1].ip()], [address(1), address(2)]);
        let taken = listen(2, addresses[0].port()).await.expect_err("it is taken");
        assert_eq!(taken.to_string(), format!("cannot listen on {}", addresses[0]));
        let closing = tokio::spawn(async move {
            sleep(Duration::from_millis(30)).await;
            drop(listeners);
        });
        listen_again(addresses[0]).await.expect("it is free after a moment");
        closing.await.unwrap();
    }
}
