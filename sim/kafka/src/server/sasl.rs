//! The authentication of a connection, before its first other request (`SaslServerAuthenticator`).
//!
//! A client may ask for the versions of requests once, names a mechanism with SaslHandshake, and then sends tokens: in
//! SaslAuthenticate requests after version 1 of SaslHandshake, as plain frames after version 0. Sessions have no end, so
//! that nobody authenticates again (`connections.max.reauth.ms` is 0).

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

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

/// What follows from a frame.
#[derive(Debug)]
pub(super) enum Step {
    /// The client gets this, and the next frame is awaited.
    Continue(Bytes),
    /// The client gets this, and is this user.
    Done(Bytes, String),
    /// The client may get this, after a while, and the connection is closed.
    Fail(Option<Bytes>),
}

#[derive(Debug)]
enum State {
    /// SaslHandshake or ApiVersions is next.
    HandshakeOrVersions,
    /// SaslHandshake is next.
    Handshake,
    /// A token is next, in a request or as it is.
    Authenticate { exchange: Exchange, in_requests: bool },
}

/// The authentication of one connection.
#[derive(Debug)]
pub(super) struct Authenticator(State);

impl Authenticator {
    pub(super) fn new() -> Self {
        Self(State::HandshakeOrVersions)
    }

    /// Evaluates a frame of the client.
    ///
    /// # Errors
    /// If the connection must be closed at once.
    pub(super) fn receive(&mut self, broker: &Broker, frame: Bytes) -> Result<Step, FrameError> {
        match &mut self.0 {
            State::Authenticate { exchange, in_requests: false } => {
                let known = Known { broker, image: broker.image() };
                Ok(match exchange.evaluate(&frame, &known) {
                    Ok(challenge) => finish(unwrapped(&challenge.token), challenge.user),
                    Err(refusal) => {
                        tracing::debug!(broker = broker.id.0, %refusal, "authentication failed");
                        Step::Fail(None)
                    }
                })
            }
            State::Authenticate { exchange, in_requests: true } => {
                authenticate(broker, exchange, &frame::parse(frame)?)
            }
            State::HandshakeOrVersions | State::Handshake => self.handshake(broker, &frame::parse(frame)?),
        }
    }

    fn handshake(&mut self, broker: &Broker, raw: &RawRequest) -> Result<Step, FrameError> {
        match (raw.key, &self.0) {
            (ApiKey::ApiVersions, State::HandshakeOrVersions) => {
                let (response, accepted) = cluster::api_versions(broker, raw)?;
                if accepted {
                    self.0 = State::Handshake;
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
                        let exchange = Exchange::new(mechanism);
                        self.0 = State::Authenticate { exchange, in_requests: raw.version >= 1 };
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
fn authenticate(broker: &Broker, exchange: &mut Exchange, raw: &RawRequest) -> Result<Step, FrameError> {
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
    match exchange.evaluate(&request.auth_bytes, &known) {
        Ok(challenge) => {
            let response = SaslAuthenticateResponse::default().with_auth_bytes(challenge.token);
            Ok(finish(raw.respond(&response)?, challenge.user))
        }
        Err(refusal) => {
            let mechanism = exchange.mechanism();
            tracing::debug!(broker = broker.id.0, %mechanism, %refusal, "authentication failed");
            let message = match refusal {
                Refusal::Shown(message) => message,
                Refusal::Hidden(_) => format!(
                    "Authentication failed during authentication due to invalid credentials with SASL mechanism \
                     {mechanism}"
                ),
            };
            let response = SaslAuthenticateResponse::default()
                .with_error_code(ErrorCode::SaslAuthenticationFailed.code())
                .with_error_message(Some(text(&message)));
            raw.respond(&response).map(failed)
        }
    }
}

fn finish(response: Bytes, user: Option<String>) -> Step {
    match user {
        Some(user) => Step::Done(response, user),
        None => Step::Continue(response),
    }
}

/// A frame with a token and nothing else.
fn unwrapped(token: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + token.len());
    frame.put_u32(u32::try_from(token.len()).unwrap_or(u32::MAX));
    frame.put_slice(token);
    frame.freeze()
}

/// SaslHandshake at a listener without SASL, or of a client that has authenticated
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
