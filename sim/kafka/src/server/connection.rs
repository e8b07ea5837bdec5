//! One connection: its authentication, and its requests, one after another.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::sasl::{Authenticator, FAILURE_DELAY, MOST_BYTES, Step};
use super::{Client, dispatch};
use crate::cluster::Broker;
use crate::protocol::frame::{self, FrameError, Limits};

/// How a broker serves the clients of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// Bounds of requests.
    pub limits: Limits,
    /// Whether clients must authenticate (a listener with `SASL_PLAINTEXT`), as one of the users of
    /// [`Options::sasl`](crate::cluster::Options::sasl).
    pub sasl: bool,
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
    let mut client = Client { address, user: None };
    if options.sasl {
        client.user = authenticate(&broker, &mut input, &mut output).await?;
        if client.user.is_none() {
            return Ok(());
        }
    }
    while let Some(request) = frame::read(&mut input, options.limits).await? {
        let (key, version) = (request.key, request.version);
        tracing::trace!(broker = broker.id.0, client = %client.address, ?key, version, "request");
        let reply = dispatch(&broker, &client, request).await?;
        if let Some(response) = reply.response {
            output.write_all(&response).await?;
            output.flush().await?;
        }
        if !reply.muted.is_zero() {
            tokio::time::sleep(reply.muted).await;
        }
    }
    Ok(())
}

/// The user that a client authenticates as; none if it fails, or disconnects.
async fn authenticate<I, O>(
    broker: &Broker,
    input: &mut I,
    output: &mut O,
) -> Result<Option<String>, FrameError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let mut authenticator = Authenticator::new();
    while let Some(frame) = frame::read_bytes(input, MOST_BYTES).await? {
        let (response, user, is_over) = match authenticator.receive(broker, frame)? {
            Step::Continue(response) => (Some(response), None, false),
            Step::Done(response, user) => (Some(response), Some(user), true),
            Step::Fail(response) => {
                tokio::time::sleep(FAILURE_DELAY).await;
                (response, None, true)
            }
        };
        if let Some(response) = response {
            output.write_all(&response).await?;
            output.flush().await?;
        }
        if is_over {
            return Ok(user);
        }
    }
    Ok(None)
}
