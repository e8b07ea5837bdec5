//! Nodes on sockets: [`serve`] puts one on a listener, [`LocalNodes`] a whole cluster on loopback addresses.

mod nodes;

pub use nodes::{LocalError, LocalNodes, LocalOptions};

use simulated_hosts::local;
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
        local::accept(&listener, |connection, client| {
            let server = server.clone();
            // A paused process responds to no client, but its kernel still accepts connections.
            node.begin(async move {
                if let Err(error) = server.serve(connection).await {
                    tracing::debug!(%client, %error, "a connection broke");
                }
            });
        })
        .await;
    };
    tokio::select! {
        biased;
        () = node.died() => {}
        () = accepting => {}
    }
    server.stop();
}
