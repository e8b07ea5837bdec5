//! What failures of connections and logins mean.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::broker::kafka::error::KafkaError;

/// The reason if client or server rejects credentials or a certificate.
pub(super) const CREDENTIALS: &str = "the credentials or the certificate were rejected";

/// The reason if the listener closes the connection of a client that has not logged in.
pub(super) const LOGIN: &str =
    "the listener requires authentication (SASL), but this client has no credentials";

/// An encrypted listener that has closed the connection at a request, and nothing else was logged for this time, requires a
/// login.
pub(super) const LOGIN_HINT_AFTER: Duration = Duration::from_millis(4_000);

/// True if the server responded to the request that precedes a login, and closed the connection at the next request.
pub(super) fn may_require_login(text: &str) -> bool {
    text.contains("might require SASL") || (text.contains("Disconnected") && text.contains("in state UP"))
}

/// True if a retry cannot succeed.
pub(super) fn is_final(error: &KafkaError) -> bool {
    error.is(Code::Authentication) || is_certificate(error)
}

/// Adds a hint to the error of a login if the listener has no SASL.
pub(super) fn login(error: KafkaError) -> KafkaError {
    if error.is(Code::Authentication) && error.text().contains("not valid in current SASL state") {
        let text = format!("{}: is it a listener without SASL?", error.text());
        return KafkaError::new(Code::Authentication as i32, text);
    }
    error
}

/// Why a connection failed: librdkafka's message and the likely cause.
pub(super) fn connection(text: String) -> KafkaError {
    let broken = text.contains("Disconnected") || text.contains("reset by peer");
    // librdkafka often adds such a hint itself.
    let likely = if text.contains("listener?") {
        ""
    } else if broken && text.contains("in state SSL_HANDSHAKE") {
        ": is it a listener without TLS?"
    } else if broken && text.contains("in state APIVERSION_QUERY") || text.contains("Invalid response size") {
        ": is it a listener with TLS?"
    } else if broken && text.contains("in state UP") {
        ": is it a listener with SASL?"
    } else {
        ""
    };
    KafkaError::new(Code::BrokerTransportFailure as i32, format!("{text}{likely}"))
}

/// True if the server's or the client's certificate was rejected.
pub(super) fn is_certificate(error: &KafkaError) -> bool {
    error.is(Code::SSL) && error.text().contains("certificate")
}
