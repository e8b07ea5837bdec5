//! One connection: its frames, its state, its requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, broadcast, mpsc};

use super::Inner;
use super::statement::Reply;
use crate::coordinator::Coordinator;
use crate::protocol::frame::{self, Incoming};
use crate::protocol::{Compression, EventKind, Notice, Request, Response, ServerError};
use crate::system::CQL_VERSION;

/// The state of a client that its statements depend on.
#[derive(Debug, Default)]
pub(super) struct Session {
    keyspace: Mutex<Option<String>>,
    /// Whether it was warned of USE with prepared statements.
    warned_of_use: AtomicBool,
}

impl Session {
    /// The keyspace of names without one.
    pub fn keyspace(&self) -> Option<String> {
        self.keyspace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The warning, once, for a client that prepares a statement whose names depend on USE
    /// (`ClientState.warnAboutUseWithPreparedStatements`).
    pub fn warning_of_use(&self, keyspace: &str, id: &[u8]) -> Option<String> {
        if self.warned_of_use.swap(true, Ordering::Relaxed) {
            return None;
        }
        let id = hex::encode(id);
        Some(format!(
            "`USE <keyspace>` with prepared statements is considered to be an anti-pattern due to ambiguity in \
             non-qualified table names. Please consider removing instances of `Session#setKeyspace(<keyspace>)`, \
             `Session#execute(\"USE <keyspace>\")` and `cluster.newSession(<keyspace>)` from your code, and always use \
             fully qualified table names (e.g. <keyspace>.<table>). Keyspace used: {keyspace}, statement keyspace: \
             {keyspace}, statement id: {id}"
        ))
    }

    /// USE
    pub fn set_keyspace(&self, keyspace: &str) {
        *self.keyspace.lock().unwrap_or_else(PoisonError::into_inner) = Some(keyspace.to_owned());
    }
}

/// An item to be written.
enum Outgoing {
    Frame(Bytes),
    /// Send the client events of these kinds from now on.
    Events(Vec<EventKind>, Option<Compression>),
    /// Nothing more.
    Close,
}

/// How many responses may wait to be written.
const MAX_QUEUED_RESPONSES: usize = 64;

/// How long a client may take to disconnect after the last response.
const LINGER: Duration = Duration::from_secs(1);

/// The state of the handshake of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Authenticating,
    Open,
}

pub(super) async fn serve<C, S>(server: Arc<Inner<C>>, connection: S) -> std::io::Result<()>
where
    C: Coordinator,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (input, mut output) = tokio::io::split(connection);
    let mut input = BufReader::new(input);
    let mut sink = tokio::io::sink();
    let (send, mut receive) = mpsc::channel(MAX_QUEUED_RESPONSES);
    let events = server.coordinator.events();
    let reading = read(Arc::clone(&server), &mut input, send);
    let writing = write(&mut output, &mut receive, events);
    let (lingers, result) = tokio::select! {
        biased;
        () = server.stopped() => (false, Ok(())),
        result = writing => (result.is_ok(), result),
        result = async {
            match reading.await {
                // The writer ends the connection when it has written what there is.
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            }
        } => (false, result),
    };
    let _ = output.shutdown().await;
    if lingers {
        // A socket that is closed with bytes unread resets the connection, and the client may lose the last response.
        let rest = tokio::io::copy(&mut input, &mut sink);
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
    result
}

async fn write<W: AsyncWrite + Unpin>(
    output: &mut W,
    receive: &mut mpsc::Receiver<Outgoing>,
    mut events: broadcast::Receiver<crate::coordinator::Event>,
) -> std::io::Result<()> {
    let mut kinds: Vec<EventKind> = Vec::new();
    let mut compression = None;
    let mut has_events = true;
    loop {
        let frame = tokio::select! {
            biased;
            outgoing = receive.recv() => match outgoing {
                Some(Outgoing::Frame(frame)) => frame,
                Some(Outgoing::Events(more, of_events)) => {
                    kinds.extend(more);
                    compression = of_events;
                    continue;
                }
                Some(Outgoing::Close) | None => return output.flush().await,
            },
            event = events.recv(), if has_events => match event {
                Ok(event) => {
                    let notice = Notice::of(&event);
                    if !kinds.contains(&notice.kind()) {
                        continue;
                    }
                    frame::encode(-1, &Response::Event(notice), &[], compression)
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a client is slower than events");
                    continue;
                }
                Err(broadcast::error::RecvError::Closed) => {
                    has_events = false;
                    continue;
                }
            },
        };
        output.write_all(&frame).await?;
        output.flush().await?;
    }
}

/// Reads requests and begins them, until the client disconnects.
async fn read<C: Coordinator, R: AsyncRead + Unpin>(
    server: Arc<Inner<C>>,
    input: &mut R,
    send: mpsc::Sender<Outgoing>,
) -> std::io::Result<()> {
    let session = Arc::new(Session::default());
    let slots = Arc::new(Semaphore::new(server.options.requests_per_connection.max(1)));
    let mut phase = Phase::New;
    let mut compression = None;
    loop {
        let (stream, tracing, request) = match frame::read(input, compression, server.options.limits).await? {
            Incoming::End => {
                let _ = send.send(Outgoing::Close).await;
                return Ok(());
            }
            Incoming::WrongVersion(version) => {
                tracing::debug!(version, "a client requests an unsupported version of the protocol");
                let _ = send.send(Outgoing::Frame(frame::encode_version_error(version))).await;
                let _ = send.send(Outgoing::Close).await;
                return Ok(());
            }
            Incoming::Refused { stream, error, is_fatal } => {
                let frame = frame::encode(stream, &Response::Error(error), &[], None);
                if send.send(Outgoing::Frame(frame)).await.is_err() {
                    return Ok(());
                }
                if is_fatal {
                    let _ = send.send(Outgoing::Close).await;
                    return Ok(());
                }
                continue;
            }
            Incoming::Request { stream, tracing, request } => (stream, tracing, request),
        };
        let of_response = compression;
        // Cassandra responds to premature requests on stream 0.
        let stream = match (phase, &request) {
            (Phase::Open | Phase::Authenticating, _) | (_, Request::Startup(_) | Request::Options) => stream,
            (Phase::New, _) => 0,
        };
        let is_statement = matches!(
            request,
            Request::Query(..) | Request::Prepare(_) | Request::Execute(..) | Request::Batch(_)
        );
        let at_once = if tracing && is_statement && phase == Phase::Open {
            Some(Err(ServerError::invalid("tracing is not simulated")))
        } else {
            opening(&server, &request, &mut phase, &mut compression)
        };
        if let Some(result) = at_once {
            if let (Request::Register(kinds), Ok(_)) = (&request, &result) {
                // Events go through the same channel, so none comes before READY.
                let frame = frame::encode(stream, &Response::Ready, &[], of_response);
                let events = Outgoing::Events(kinds.clone(), of_response);
                if send.send(Outgoing::Frame(frame)).await.is_err() || send.send(events).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            let response = result.unwrap_or_else(Response::Error);
            if send.send(Outgoing::Frame(frame::encode(stream, &response, &[], of_response))).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        let (begun, session, send) = (Arc::clone(&server), Arc::clone(&session), send.clone());
        server.coordinator.spawn(async move {
            let _slot = slot;
            let (response, warnings) = match begun.handle(&session, request).await {
                Ok(Reply { response, warnings }) => (response, warnings),
                Err(error) => (Response::Error(error), Vec::new()),
            };
            // A client that has disconnected misses the response; the effect remains.
            let _ =
                send.send(Outgoing::Frame(frame::encode(stream, &response, &warnings, of_response))).await;
        });
    }
}

/// Responds to requests about the connection itself; `None` for all others.
fn opening<C: Coordinator>(
    server: &Inner<C>,
    request: &Request,
    phase: &mut Phase,
    compression: &mut Option<Compression>,
) -> Option<Result<Response, ServerError>> {
    match (request, *phase) {
        (Request::Options, _) => {
            let supported = |name: &str, values: &[&str]| {
                (name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
            };
            Some(Ok(Response::Supported(vec![
                supported("COMPRESSION", &["snappy", "lz4"]),
                supported("CQL_VERSION", &[CQL_VERSION]),
                supported("PROTOCOL_VERSIONS", &["4/v4"]),
            ])))
        }
        (Request::Startup(options), Phase::New) => Some(startup(server, options, phase, compression)),
        (Request::AuthResponse(token), Phase::Authenticating) => {
            let accepted =
                server.options.credentials.as_ref().is_none_or(|credentials| {
                    token.as_deref().is_some_and(|token| is_login(token, credentials))
                });
            if accepted {
                *phase = Phase::Open;
                return Some(Ok(Response::AuthSuccess(None)));
            }
            Some(Err(ServerError::BadCredentials(
                "Provided username and/or password are incorrect".to_owned(),
            )))
        }
        (Request::Startup(_), _) | (Request::AuthResponse(_), Phase::Open) => {
            Some(Err(unexpected(request, "the connection is already initialized")))
        }
        (_, Phase::New) => Some(Err(unexpected(request, "expecting STARTUP or OPTIONS"))),
        (_, Phase::Authenticating) => Some(Err(unexpected(request, "expecting SASL_RESPONSE"))),
        (Request::Register(_), Phase::Open) => Some(Ok(Response::Ready)),
        (
            Request::Query(..) | Request::Prepare(_) | Request::Execute(..) | Request::Batch(_),
            Phase::Open,
        ) => None,
    }
}

fn unexpected(request: &Request, why: &str) -> ServerError {
    ServerError::Protocol(format!("Unexpected message {}, {why}", request.name()))
}

fn startup<C: Coordinator>(
    server: &Inner<C>,
    options: &[(String, String)],
    phase: &mut Phase,
    compression: &mut Option<Compression>,
) -> Result<Response, ServerError> {
    let option = |name: &str| {
        options.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let Some(version) = option("CQL_VERSION") else {
        return Err(ServerError::Protocol("Missing value CQL_VERSION in STARTUP message".to_owned()));
    };
    let mut parts =
        version.splitn(2, '.').map(|part| part.split('.').next().and_then(|it| it.parse::<u32>().ok()));
    let (Some(Some(major)), Some(Some(_))) = (parts.next(), parts.next()) else {
        return Err(ServerError::Protocol(format!("Invalid version value: {version}")));
    };
    if major < 3 {
        return Err(ServerError::Protocol(format!(
            "CQL version {version} is not supported by the binary protocol (supported version are >= 3.0.0)"
        )));
    }
    if let Some(name) = option("COMPRESSION") {
        let Some(known) = Compression::from_name(name) else {
            return Err(ServerError::Protocol(format!("Unknown compression algorithm: {name}")));
        };
        *compression = Some(known);
    }
    if server.options.credentials.is_some() {
        *phase = Phase::Authenticating;
        return Ok(Response::Authenticate("org.apache.cassandra.auth.PasswordAuthenticator".to_owned()));
    }
    *phase = Phase::Open;
    Ok(Response::Ready)
}

/// Whether a SASL PLAIN token contains this name and password.
fn is_login(token: &[u8], credentials: &super::Credentials) -> bool {
    let mut parts = token.split(|byte| *byte == 0);
    parts.next().is_some()
        && parts.next() == Some(credentials.username.as_bytes())
        && parts.next() == Some(credentials.password.as_bytes())
        && parts.next().is_none()
}
