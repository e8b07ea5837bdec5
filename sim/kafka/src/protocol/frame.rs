//! Frames: a length and a request, a length and a response.

use std::io;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::RequestHeader;
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::errors::FirstError;
use super::messages::{ApiKey, ResponseHeader};
use super::produce;
use super::versions::by_number;
use crate::error::ErrorCode;

/// Bounds of what a broker reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a Produce request (`socket.request.max.bytes`).
    pub produce: usize,
    /// Bytes of any other request, and of a Produce request beside its records. A decoded message takes more memory than
    /// its bytes, so this is far less than Kafka allows.
    pub other: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { produce: 100 << 20, other: 4 << 20 }
    }
}

/// Why a connection cannot continue. Kafka closes it without a response.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length is negative or above the limit (`InvalidReceiveException`).
    #[error("a frame of {0} bytes")]
    Length(i32),
    /// The frame is too short for a header.
    #[error("a frame of {0} bytes, without a whole header")]
    Header(usize),
    /// The request is none that a broker offers.
    #[error("request {key} in version {version} is not supported")]
    Unsupported {
        /// Its number.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// The client must authenticate before it sends this request (`InvalidRequestException`).
    #[error("request {0} before the client has authenticated")]
    Unauthenticated(i16),
    /// Kafka never responds to the request, and closes the connection when it has been idle for long.
    #[error("request {0} has no response, as in Kafka")]
    NeverAnswered(i16),
    /// The bytes are no such request.
    #[error("request {key} in version {version} is malformed: {reason}")]
    Malformed {
        /// Its number.
        key: i16,
        /// Its version.
        version: i16,
        /// What is wrong.
        reason: String,
    },
}

/// A request whose body is not decoded yet.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Which request.
    pub key: ApiKey,
    /// In which version; a version of ApiVersions may be unsupported.
    pub version: i16,
    /// What the response repeats.
    pub correlation: i32,
    /// The client's name for itself (`client.id`).
    pub client_id: Option<String>,
    /// The body.
    pub body: Bytes,
    /// How many bytes its frame has, without those of its length.
    pub size: usize,
    /// The first error of its response, if there is an observer; 0 without an error.
    error: Option<OnceLock<i16>>,
}

impl RawRequest {
    /// Has the first error of its response noted.
    pub(crate) fn note_error(&mut self) {
        self.error = Some(OnceLock::new());
    }

    /// The first error of its response, if it was noted and there is one.
    pub(crate) fn first_error(&self) -> Option<ErrorCode> {
        let code = self.error.as_ref()?.get()?;
        ErrorCode::try_from_code(*code)
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// If it is malformed. As in Kafka, bytes may be left over.
    pub fn decode<M: Decodable>(&self) -> Result<M, FrameError> {
        let mut body = self.body.clone();
        let malformed =
            |reason: String| FrameError::Malformed { key: self.key as i16, version: self.version, reason };
        M::decode(&mut body, self.version).map_err(|error| malformed(error.to_string()))
    }

    /// A response to it, as a frame.
    ///
    /// # Errors
    /// If the response has a value that its version cannot have.
    pub fn respond<M: Encodable + HeaderVersion + FirstError>(
        &self,
        response: &M,
    ) -> Result<Bytes, FrameError> {
        self.respond_in(response, self.version)
    }

    /// A response to it in another version, as a frame.
    ///
    /// # Errors
    /// If the response has a value that its version cannot have.
    pub fn respond_in<M: Encodable + HeaderVersion + FirstError>(
        &self,
        response: &M,
        version: i16,
    ) -> Result<Bytes, FrameError> {
        if let Some(error) = &self.error {
            // There is one response.
            let _ = error.set(response.first_error());
        }
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&[0; 4]);
        let malformed = |error: proto_kafka::error::ProtoError| FrameError::Malformed {
            key: self.key as i16,
            version,
            reason: format!("its response: {error}"),
        };
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut frame, M::header_version(version)).map_err(malformed)?;
        response.encode(&mut frame, version).map_err(malformed)?;
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        if let Some(start) = frame.get_mut(..4) {
            start.copy_from_slice(&length.to_be_bytes());
        }
        Ok(frame.freeze())
    }
}

/// Reads the next request; none at the end of the connection. Memory grows with what arrives, not with what a length
/// claims.
///
/// # Errors
/// If the connection broke or must be closed.
pub async fn read<R: AsyncRead + Unpin>(
    input: &mut R,
    limits: Limits,
) -> Result<Option<RawRequest>, FrameError> {
    let Some((claimed, length)) = read_length(input, limits.produce.max(limits.other)).await? else {
        return Ok(None);
    };
    if length < 4 {
        return Err(FrameError::Header(length));
    }
    let mut start = [0; 4];
    input.read_exact(&mut start).await?;
    let key = i16::from_be_bytes([start[0], start[1]]);
    let limit = if key == ApiKey::Produce as i16 { limits.produce } else { limits.other };
    if length > limit {
        return Err(FrameError::Length(claimed));
    }
    let mut frame = Vec::with_capacity(length.min(1 << 16));
    frame.extend_from_slice(&start);
    read_body(input, &mut frame, length - 4).await?;
    let request = parse(Bytes::from(frame))?;
    if request.key == ApiKey::Produce {
        produce::check(&request.body, request.version, limits.other)?;
    }
    Ok(Some(request))
}

/// Reads the next frame, whatever it has; none at the end of the connection.
///
/// # Errors
/// If the connection broke or the frame has more bytes than `most`.
pub(crate) async fn read_bytes<R: AsyncRead + Unpin>(
    input: &mut R,
    most: usize,
) -> Result<Option<Bytes>, FrameError> {
    let Some((_, length)) = read_length(input, most).await? else { return Ok(None) };
    let mut frame = Vec::with_capacity(length.min(1 << 16));
    read_body(input, &mut frame, length).await?;
    Ok(Some(Bytes::from(frame)))
}

/// The length of a frame, as it is claimed and as a number of bytes; none at the end of the connection.
async fn read_length<R: AsyncRead + Unpin>(
    input: &mut R,
    most: usize,
) -> Result<Option<(i32, usize)>, FrameError> {
    let mut length = [0; 4];
    match input.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let claimed = i32::from_be_bytes(length);
    let length = usize::try_from(claimed).ok().filter(|length| *length <= most);
    length.map(|length| Some((claimed, length))).ok_or(FrameError::Length(claimed))
}

async fn read_body<R: AsyncRead + Unpin>(
    input: &mut R,
    frame: &mut Vec<u8>,
    length: usize,
) -> Result<(), FrameError> {
    if input.take(length as u64).read_to_end(frame).await? != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// Reads the header of a request.
///
/// # Errors
/// If it is malformed, or the request is none that a broker offers.
pub(crate) fn parse(mut frame: Bytes) -> Result<RawRequest, FrameError> {
    let size = frame.len();
    let Some(&[a, b, c, d]) = frame.first_chunk() else { return Err(FrameError::Header(frame.len())) };
    let (number, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let unsupported = FrameError::Unsupported { key: number, version };
    let Some(offered) = by_number(number) else { return Err(unsupported) };
    let served = (offered.oldest..=offered.newest).contains(&version);
    // A client asks for the versions in a version that the broker may not know (KIP-511).
    if !served && offered.key != ApiKey::ApiVersions {
        return Err(unsupported);
    }
    // Unknown versions have headers, too (`ApiMessageType.requestHeaderVersion`).
    let nearest = version.clamp(offered.oldest, offered.newest);
    let header_version = offered.key.request_header_version(nearest);
    let header = RequestHeader::decode(&mut frame, header_version).map_err(|error| {
        FrameError::Malformed { key: number, version, reason: format!("its header: {error}") }
    })?;
    Ok(RawRequest {
        key: offered.key,
        version,
        correlation: header.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()),
        body: frame,
        size,
        error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::{ApiVersionsResponse, MetadataRequest};

    fn framed(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&(body.len() as i32).to_be_bytes()[..], &body].concat()
    }

    async fn read_all(mut bytes: &[u8]) -> Result<Option<RawRequest>, FrameError> {
        read(&mut bytes, Limits::default()).await
    }

    #[tokio::test]
    async fn a_length_is_refused_before_anything_is_allocated_for_it() {
        for claimed in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
            let refused = read_all(&claimed.to_be_bytes()).await;
            assert!(matches!(refused, Err(FrameError::Length(length)) if length == claimed));
        }
        // Allowed for Produce, and not for Metadata.
        let large = [&(5i32 << 20).to_be_bytes()[..], &[0, 3, 0, 4]].concat();
        assert!(matches!(read_all(&large).await, Err(FrameError::Length(_))));
        assert!(matches!(read_all(&framed(&[&[0, 3]])).await, Err(FrameError::Header(2))));
        assert!(read_all(&[]).await.is_ok_and(|end| end.is_none()));
    }

    #[tokio::test]
    async fn an_array_that_claims_more_elements_than_there_are_bytes_is_malformed() {
        // Metadata 4 with 2^31 - 1 topics.
        let request = framed(&[&[0, 3, 0, 4, 0, 0, 0, 7, 0, 1, b'x'], &i32::MAX.to_be_bytes()]);
        let request = read_all(&request).await.unwrap().unwrap();
        assert_eq!((request.key, request.version, request.correlation), (ApiKey::Metadata, 4, 7));
        assert_eq!(request.client_id.as_deref(), Some("x"));
        assert!(matches!(request.decode::<MetadataRequest>(), Err(FrameError::Malformed { key: 3, .. })));
    }

    #[tokio::test]
    async fn only_offered_versions_are_read_but_for_api_versions() {
        let metadata = framed(&[&[0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]]);
        assert!(matches!(read_all(&metadata).await, Err(FrameError::Unsupported { key: 3, version: 99 })));
        let versions = framed(&[&[0, 18, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0]]);
        let request = read_all(&versions).await.unwrap().unwrap();
        assert_eq!((request.version, request.correlation), (99, 1));
        let response = request.respond_in(&ApiVersionsResponse::default().with_error_code(35), 0).unwrap();
        assert_eq!(&response[..], [0, 0, 0, 10, 0, 0, 0, 1, 0, 35, 0, 0, 0, 0]);
    }
}
