//! One connection: its requests, one after another.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Client, dispatch};
use crate::cluster::Broker;
use crate::protocol::frame::{self, FrameError, Limits};

/// How a broker serves its clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// Bounds of requests.
    pub limits: Limits,
}

/// Serves a connection until the client disconnects or sends what is no request.
pub(crate) async fn serve<S>(
    broker: Arc<Broker>,
    options: ServerOptions,
    connection: S,
    address: String,
) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (input, mut output) = tokio::io::split(connection);
    let mut input = BufReader::new(input);
    let client = Client { address };
    while let Some(request) = frame::read(&mut input, options.limits).await? {
        let (key, version) = (request.key, request.version);
        tracing::trace!(broker = broker.id.0, client = %client.address, ?key, version, "request");
        if let Some(response) = dispatch(&broker, &client, request).await? {
            output.write_all(&response).await?;
            output.flush().await?;
        }
    }
    Ok(())
}
