//! Nodes on sockets: [`serve`] puts one on a listener, [`LocalNodes`] a whole cluster on loopback addresses.

mod local;

pub use local::{LocalError, LocalNodes, LocalOptions};

use tokio::net::TcpListener;

use crate::cluster::RunningNode;
use crate::server::{Server, ServerOptions};

/// Serves one run of a node to the clients that connect to `listener`, until the node's process ends: then every
/// connection breaks, and prepared statements are forgotten. A node that was started again is a new run, on a new
/// listener.
pub async fn serve(node: RunningNode, listener: TcpListener, options: ServerOptions) {
    let server = Server::new(node.clone(), options);
    let accepting = async {
        node.ready().await;
        loop {
            match listener.accept().await {
                Ok((connection, client)) => {
                    let _ = connection.set_nodelay(true);
                    let server = server.clone();
                    // A paused process responds to no client, but its kernel still accepts connections.
                    node.begin(async move {
                        if let Err(error) = server.serve(connection).await {
                            tracing::debug!(%client, %error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = node.died() => {}
        () = accepting => {}
    }
    server.stop();
}
