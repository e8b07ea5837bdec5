//! Brokers for clients: [`serve`] puts one on a listener, [`LocalBrokers`] a whole cluster on loopback addresses, and
//! [`connect`] and [`exchange`] need no sockets.

mod brokers;

pub use brokers::{LocalBrokers, LocalError, LocalOptions};

use simulated_hosts::local;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;

use crate::cluster::RunningBroker;
use crate::server::{self, ServerOptions};

/// Serves one run of a broker to the clients that connect to `listener`, until the broker's process ends: then every
/// connection breaks. A broker that was started again is a new run, on a new listener.
pub async fn serve(broker: RunningBroker, listener: TcpListener, options: ServerOptions) {
    let accepting = async {
        broker.ready().await;
        local::accept(&listener, |connection, client| {
            let (running, options) = (broker.0.clone(), options.clone());
            // A paused process responds to no client, but its kernel still accepts connections.
            broker.begin(async move {
                let address = client.ip().to_string();
                if let Err(error) = server::serve(running, options, connection, address).await {
                    tracing::debug!(%client, %error, "a connection broke");
                }
            });
        })
        .await;
    };
    tokio::select! {
        biased;
        () = broker.died() => {}
        () = accepting => {}
    }
}

/// Connects a client to a run of a broker without a socket: what is written to the stream are requests, what is read from
/// it responses. It ends with the broker.
pub fn connect(broker: &RunningBroker, options: ServerOptions) -> DuplexStream {
    let (client, connection) = io::duplex(1 << 16);
    let running = broker.0.clone();
    broker.begin(async move {
        if let Err(error) = server::serve(running, options, connection, "127.0.0.1".to_owned()).await {
            tracing::debug!(%error, "a connection broke");
        }
    });
    client
}

/// Sends bytes to a run of a broker on a connection of its own, whether they are requests or not, and ends the sending side. The
/// bytes of the responses, until the broker ends the connection, which is never while it is paused.
///
/// # Errors
/// If the connection breaks.
pub async fn exchange(broker: &RunningBroker, options: ServerOptions, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(broker, options);
    // A broker that ends the connection early does not read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await?;
    Ok(received)
}
