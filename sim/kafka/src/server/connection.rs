//! One connection: its authentication, and its requests, one after another.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use super::sasl::{Authenticator, FAILURE_DELAY, MOST_BYTES, Session, Step};
use super::{Client, dispatch};
use crate::cluster::Broker;
use crate::cluster::observe::Event;
use crate::protocol::frame::{self, FrameError, Limits, RawRequest};
use crate::protocol::messages::ApiKey;

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
    let connected = Connected::new(&broker, &address);
    let (input, mut output) = tokio::io::split(connection);
    let mut input = BufReader::new(input);
    let mut client = Client { address, user: None };
    let mut session = None;
    if options.sasl {
        let begun = (Authenticator::new(), None);
        session = authenticate(&broker, begun, &mut input, &mut output).await?;
        let Some(session) = &session else { return Ok(()) };
        client.user = Some(session.user.clone());
    }
    let mut renewed = None;
    while let Some(mut request) = frame::read(&mut input, options.limits).await? {
        if let Some(current) = &session {
            if request.key == ApiKey::SaslHandshake && current.may_be_renewed(renewed) {
                renewed = Some(Instant::now());
                let (authenticator, step) = Authenticator::renew(&broker, current.clone(), &request)?;
                let begun = (authenticator, Some(step));
                session = authenticate(&broker, begun, &mut input, &mut output).await?;
                if session.is_none() {
                    return Ok(());
                }
                continue;
            }
            if current.is_over() {
                tracing::debug!(broker = broker.id.0, client = %client.address, "a session is over");
                return Ok(());
            }
        }
        let (key, version) = (request.key, request.version);
        tracing::trace!(broker = broker.id.0, client = %client.address, ?key, version, "request");
        let begun = Instant::now();
        connected.see_request(&client, &mut request);
        let reply = dispatch(&broker, &client, &request).await?;
        if let Some(response) = reply.response {
            connected.see_response(&request, begun);
            output.write_all(&response).await?;
            output.flush().await?;
        }
        if !reply.muted.is_zero() {
            tokio::time::sleep(reply.muted).await;
        }
    }
    Ok(())
}

/// A connection for an observer, which learns of its end when this is dropped: a broker that dies closes it, too.
struct Connected<'a> {
    broker: &'a Broker,
    number: u64,
}

impl<'a> Connected<'a> {
    fn new(broker: &'a Broker, client: &str) -> Self {
        let number = broker.cluster.next_connection();
        let event = || Event::ConnectionOpened { broker: broker.id, connection: number, client };
        broker.cluster.witness.see(event);
        Self { broker, number }
    }

    fn see_request(&self, client: &Client, request: &mut RawRequest) {
        let witness = &self.broker.cluster.witness;
        if witness.is_on() {
            request.note_error();
        }
        witness.see(|| Event::Request {
            broker: self.broker.id,
            connection: self.number,
            client: &client.address,
            api: request.key,
            version: request.version,
            correlation_id: request.correlation,
            client_id: request.client_id.as_deref(),
        });
    }

    fn see_response(&self, request: &RawRequest, begun: Instant) {
        self.broker.cluster.witness.see(|| Event::Response {
            broker: self.broker.id,
            connection: self.number,
            api: request.key,
            correlation_id: request.correlation,
            error: request.first_error(),
            micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let (broker, connection) = (self.broker.id, self.number);
        self.broker.cluster.witness.see(|| Event::ConnectionClosed { broker, connection });
    }
}

/// The session of a client that authenticates; none if it fails, or disconnects. What was begun may have led to a step
/// already.
async fn authenticate<I, O>(
    broker: &Broker,
    (mut authenticator, mut step): (Authenticator, Option<Step>),
    input: &mut I,
    output: &mut O,
) -> Result<Option<Session>, FrameError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    loop {
        let next = match step.take() {
            Some(step) => step,
            None => match frame::read_bytes(input, MOST_BYTES).await? {
                Some(frame) => authenticator.receive(broker, frame)?,
                None => return Ok(None),
            },
        };
        let (response, session, is_over) = match next {
            Step::Continue(response) => (Some(response), None, false),
            Step::Done(response, session) => (Some(response), Some(session), true),
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
            return Ok(session);
        }
    }
}
