//! The authentication of a connection, before its first other request (`SaslServerAuthenticator`).
//!
//! A client may ask for the versions of requests once, names a mechanism with SaslHandshake, and then sends tokens: in
//! SaslAuthenticate requests after version 1 of SaslHandshake, as plain frames after version 0. If sessions have an end
//! (`connections.max.reauth.ms`), the client authenticates again before it (KIP-368), with SaslHandshake and the same
//! mechanism, as the same user.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::cluster;
use crate::cluster::Broker;
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::frame::{self, FrameError, RawRequest};
use crate::protocol::messages::{
    ApiKey, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use crate::protocol::text;
use crate::sasl::{Credential, Exchange, Hash, Mechanism, Refusal, Users};

/// The most bytes of a frame before the client is known (`sasl.server.max.receive.size`).
pub(super) const MOST_BYTES: usize = 512 << 10;

/// How long a client that failed waits for the response (`connection.failed.authentication.delay.ms`).
pub(super) const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// How long a client waits at least before it authenticates again
/// (`KafkaChannel.MIN_REAUTH_INTERVAL_ONE_SECOND_NANOS`).
const LEAST_REAUTH_INTERVAL: Duration = Duration::from_secs(1);

/// What follows from a frame.
#[derive(Debug)]
pub(super) enum Step {
    /// The client gets this, and the next frame is awaited.
    Continue(Bytes),
    /// The client gets this, and has this session.
    Done(Bytes, Session),
    /// The client may get this, after a while, and the connection is closed.
    Fail(Option<Bytes>),
}

/// Who has authenticated, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: String,
    mechanism: Mechanism,
    /// None if it has no end.
    expires: Option<Instant>,
}

impl Session {
    /// Whether no other request of it is served.
    pub(super) fn is_over(&self) -> bool {
        self.expires.is_some_and(|expires| Instant::now() > expires)
    }

    /// Whether a client may authenticate again that did so, for the last time, at this time
    /// (`KafkaChannel.maybeBeginServerReauthentication`).
    pub(super) fn may_be_renewed(&self, last: Option<Instant>) -> bool {
        self.expires.is_some() && last.is_none_or(|last| last.elapsed() >= LEAST_REAUTH_INTERVAL)
    }
}

#[derive(Debug)]
enum State {
    /// SaslHandshake or ApiVersions is next.
    HandshakeOrVersions,
    /// SaslHandshake is next.
    Handshake,
    /// A token is next, in a request or as it is.
    Authenticate { exchange: Exchange, in_requests: bool },
    /// The client has named another mechanism than in its session before, and learns of that with its next frame.
    OtherMechanism,
}

/// The authentication of one connection.
#[derive(Debug)]
pub(super) struct Authenticator {
    state: State,
    /// The session that it renews.
    before: Option<Session>,
}

impl Authenticator {
    pub(super) fn new() -> Self {
        Self { state: State::HandshakeOrVersions, before: None }
    }

    /// Begins to authenticate again, with a SaslHandshake request.
    ///
    /// # Errors
    /// If the connection must be closed at once.
    pub(super) fn renew(
        broker: &Broker,
        session: Session,
        raw: &RawRequest,
    ) -> Result<(Self, Step), FrameError> {
        let mut authenticator = Self { state: State::Handshake, before: Some(session) };
        let step = authenticator.handshake(broker, raw)?;
        Ok((authenticator, step))
    }

    /// Evaluates a frame of the client.
    ///
    /// # Errors
    /// If the connection must be closed at once.
    pub(super) fn receive(&mut self, broker: &Broker, frame: Bytes) -> Result<Step, FrameError> {
        let before = self.before.as_ref();
        match &mut self.state {
            State::Authenticate { exchange, in_requests: false } => {
                let known = Known { broker, image: broker.image() };
                let evaluated = exchange.evaluate(&frame, &known).and_then(|challenge| {
                    let session = session(broker, exchange.mechanism(), challenge.user, before)?;
                    Ok((challenge.token, session))
                });
                Ok(match evaluated {
                    Ok((token, session)) => finish(unwrapped(&token), session),
                    Err(refusal) => {
                        tracing::debug!(broker = broker.id.0, %refusal, "authentication failed");
                        Step::Fail(None)
                    }
                })
            }
            State::Authenticate { exchange, in_requests: true } => {
                authenticate(broker, exchange, before, &frame::parse(frame)?)
            }
            State::OtherMechanism => {
                tracing::debug!(broker = broker.id.0, "a client authenticates again by another mechanism");
                Ok(Step::Fail(None))
            }
            State::HandshakeOrVersions | State::Handshake => self.handshake(broker, &frame::parse(frame)?),
        }
    }

    fn handshake(&mut self, broker: &Broker, raw: &RawRequest) -> Result<Step, FrameError> {
        match (raw.key, &self.state) {
            (ApiKey::ApiVersions, State::HandshakeOrVersions) => {
                let (response, accepted) = cluster::api_versions(broker, raw)?;
                if accepted {
                    self.state = State::Handshake;
                }
                Ok(Step::Continue(response))
            }
            (ApiKey::SaslHandshake, _) => {
                let request: SaslHandshakeRequest = raw.decode()?;
                let enabled = &broker.options().sasl.mechanisms;
                let names = enabled.iter().map(|mechanism| text(mechanism.name()));
                let response = SaslHandshakeResponse::default().with_mechanisms(names.collect());
                let mechanism = request.mechanism.parse::<Mechanism>().ok();
                match mechanism.filter(|mechanism| enabled.contains(mechanism)) {
                    Some(mechanism) => {
                        let before = self.before.as_ref().map(|session| session.mechanism);
                        self.state = if before.is_some_and(|before| before != mechanism) {
                            State::OtherMechanism
                        } else {
                            let exchange = Exchange::new(mechanism);
                            State::Authenticate { exchange, in_requests: raw.version >= 1 }
                        };
                        raw.respond(&response).map(Step::Continue)
                    }
                    None => {
                        let error = ErrorCode::UnsupportedSaslMechanism.code();
                        raw.respond(&response.with_error_code(error))
                            .map(|response| Step::Fail(Some(response)))
                    }
                }
            }
            _ => Err(FrameError::Unauthenticated(raw.key as i16)),
        }
    }
}

/// SaslAuthenticate, or any other request in its place.
fn authenticate(
    broker: &Broker,
    exchange: &mut Exchange,
    before: Option<&Session>,
    raw: &RawRequest,
) -> Result<Step, FrameError> {
    let illegal = ErrorCode::IllegalSaslState.code();
    let failed = |response: Bytes| Step::Fail(Some(response));
    match raw.key {
        ApiKey::SaslAuthenticate => {}
        ApiKey::SaslHandshake => {
            return raw.respond(&SaslHandshakeResponse::default().with_error_code(illegal)).map(failed);
        }
        ApiKey::ApiVersions => {
            let response = ApiVersionsResponse::default().with_error_code(illegal);
            return raw.respond_in(&response, 0).map(failed);
        }
        // Kafka also sends a response with the error, in the form of each request.
        _ => return Ok(Step::Fail(None)),
    }
    let request: SaslAuthenticateRequest = raw.decode()?;
    let known = Known { broker, image: broker.image() };
    let evaluated = exchange.evaluate(&request.auth_bytes, &known).and_then(|challenge| {
        let session = session(broker, exchange.mechanism(), challenge.user, before)?;
        Ok((challenge.token, session))
    });
    match evaluated {
        Ok((token, session)) => {
            let lifetime = if session.is_some() { broker.options().sasl.max_reauth } else { None };
            let lifetime = lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64);
            let response =
                SaslAuthenticateResponse::default().with_auth_bytes(token).with_session_lifetime_ms(lifetime);
            Ok(finish(raw.respond(&response)?, session))
        }
        Err(refusal) => {
            let mechanism = exchange.mechanism();
            tracing::debug!(broker = broker.id.0, %mechanism, %refusal, "authentication failed");
            let message = match refusal {
                Refusal::Shown(message) => message,
                Refusal::Hidden(_) => {
                    let again = if before.is_some() { "re-" } else { "" };
                    format!(
                        "Authentication failed during {again}authentication due to invalid credentials with SASL \
                         mechanism {mechanism}"
                    )
                }
            };
            let response = SaslAuthenticateResponse::default()
                .with_error_code(ErrorCode::SaslAuthenticationFailed.code())
                .with_error_message(Some(text(&message)));
            raw.respond(&response).map(failed)
        }
    }
}

fn finish(response: Bytes, session: Option<Session>) -> Step {
    match session {
        Some(session) => Step::Done(response, session),
        None => Step::Continue(response),
    }
}

/// The session of who has authenticated, who must be who renews it (`ReauthInfo.ensurePrincipalUnchanged`).
fn session(
    broker: &Broker,
    mechanism: Mechanism,
    user: Option<String>,
    before: Option<&Session>,
) -> Result<Option<Session>, Refusal> {
    let Some(user) = user else { return Ok(None) };
    if let Some(before) = before.filter(|before| before.user != user) {
        return Err(Refusal::Shown(format!(
            "Cannot change principals during re-authentication from User.{}: User.{user}",
            before.user
        )));
    }
    let expires = broker.options().sasl.max_reauth.map(|lifetime| Instant::now() + lifetime);
    Ok(Some(Session { user, mechanism, expires }))
}

/// A frame with a token and nothing else.
fn unwrapped(token: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + token.len());
    frame.put_u32(u32::try_from(token.len()).unwrap_or(u32::MAX));
    frame.put_slice(token);
    frame.freeze()
}

/// SaslHandshake at a listener without SASL, or of a client that has authenticated and may not do so again
/// (`KafkaApis.handleSaslHandshakeRequest`).
pub(super) fn handshake_again(raw: &RawRequest) -> Result<Bytes, FrameError> {
    let _: SaslHandshakeRequest = raw.decode()?;
    let error = ErrorCode::IllegalSaslState.code();
    raw.respond(&SaslHandshakeResponse::default().with_error_code(error))
}

/// SaslAuthenticate in the same place (`KafkaApis.handleSaslAuthenticateRequest`).
pub(super) fn authenticate_again(raw: &RawRequest) -> Result<Bytes, FrameError> {
    let _: SaslAuthenticateRequest = raw.decode()?;
    let response = SaslAuthenticateResponse::default()
        .with_error_code(ErrorCode::IllegalSaslState.code())
        .with_error_message(Some(text("SaslAuthenticate request received after successful authentication")));
    raw.respond(&response)
}

/// What a broker knows of users.
struct Known<'a> {
    broker: &'a Broker,
    image: Arc<Image>,
}

impl Users for Known<'_> {
    fn password(&self, name: &str) -> Option<&str> {
        self.broker.options().sasl.users.get(name).map(String::as_str)
    }

    fn credential(&self, hash: Hash, name: &str) -> Option<Credential> {
        self.image.credentials.get(&(name.to_owned(), hash)).cloned()
    }

    fn nonce(&self) -> String {
        format!("{:032x}", self.broker.cluster.unique())
    }
}
