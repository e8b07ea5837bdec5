//! Requests of every kind and version, made without knowing their fields: what the codec decodes from a random prefix,
//! cut to what it read.

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::*;
use proto_kafka::protocol::{Decodable, HeaderVersion, Request};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What every response repeats.
pub const CORRELATION: i32 = 7;

/// Bytes that a body is decoded from, at most.
const LONGEST: usize = 1 << 10;

/// Choices from a seed.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What the codec does with requests of one kind.
struct Kind {
    length: fn(&Bytes, i16) -> Option<usize>,
    default: fn(i16) -> BytesMut,
    check: fn(Bytes, i16) -> Result<(), String>,
    refusal: fn(Bytes, i16) -> Option<String>,
}

impl Kind {
    fn of<R: Request + Default>() -> Self
    where
        R::Response: HeaderVersion,
    {
        Self {
            length: decoded::<R>,
            default: default_body::<R>,
            check: is_response::<R>,
            refusal: refusal_of_body::<R>,
        }
    }
}

fn kind(key: ApiKey) -> Kind {
    match key {
        ApiKey::Produce => Kind::of::<ProduceRequest>(),
        ApiKey::Fetch => Kind::of::<FetchRequest>(),
        ApiKey::ListOffsets => Kind::of::<ListOffsetsRequest>(),
        ApiKey::Metadata => Kind::of::<MetadataRequest>(),
        ApiKey::OffsetCommit => Kind::of::<OffsetCommitRequest>(),
        ApiKey::OffsetFetch => Kind::of::<OffsetFetchRequest>(),
        ApiKey::FindCoordinator => Kind::of::<FindCoordinatorRequest>(),
        ApiKey::JoinGroup => Kind::of::<JoinGroupRequest>(),
        ApiKey::Heartbeat => Kind::of::<HeartbeatRequest>(),
        ApiKey::LeaveGroup => Kind::of::<LeaveGroupRequest>(),
        ApiKey::SyncGroup => Kind::of::<SyncGroupRequest>(),
        ApiKey::DescribeGroups => Kind::of::<DescribeGroupsRequest>(),
        ApiKey::ListGroups => Kind::of::<ListGroupsRequest>(),
        ApiKey::ApiVersions => Kind::of::<ApiVersionsRequest>(),
        ApiKey::CreateTopics => Kind::of::<CreateTopicsRequest>(),
        ApiKey::DeleteTopics => Kind::of::<DeleteTopicsRequest>(),
        ApiKey::DeleteRecords => Kind::of::<DeleteRecordsRequest>(),
        ApiKey::InitProducerId => Kind::of::<InitProducerIdRequest>(),
        ApiKey::OffsetForLeaderEpoch => Kind::of::<OffsetForLeaderEpochRequest>(),
        ApiKey::AddPartitionsToTxn => Kind::of::<AddPartitionsToTxnRequest>(),
        ApiKey::AddOffsetsToTxn => Kind::of::<AddOffsetsToTxnRequest>(),
        ApiKey::EndTxn => Kind::of::<EndTxnRequest>(),
        ApiKey::WriteTxnMarkers => Kind::of::<WriteTxnMarkersRequest>(),
        ApiKey::TxnOffsetCommit => Kind::of::<TxnOffsetCommitRequest>(),
        ApiKey::DescribeConfigs => Kind::of::<DescribeConfigsRequest>(),
        ApiKey::AlterConfigs => Kind::of::<AlterConfigsRequest>(),
        ApiKey::CreatePartitions => Kind::of::<CreatePartitionsRequest>(),
        ApiKey::DeleteGroups => Kind::of::<DeleteGroupsRequest>(),
        ApiKey::ElectLeaders => Kind::of::<ElectLeadersRequest>(),
        ApiKey::IncrementalAlterConfigs => Kind::of::<IncrementalAlterConfigsRequest>(),
        ApiKey::OffsetDelete => Kind::of::<OffsetDeleteRequest>(),
        ApiKey::DescribeCluster => Kind::of::<DescribeClusterRequest>(),
        ApiKey::DescribeProducers => Kind::of::<DescribeProducersRequest>(),
        ApiKey::DescribeTransactions => Kind::of::<DescribeTransactionsRequest>(),
        ApiKey::ListTransactions => Kind::of::<ListTransactionsRequest>(),
        ApiKey::ConsumerGroupHeartbeat => Kind::of::<ConsumerGroupHeartbeatRequest>(),
        ApiKey::ConsumerGroupDescribe => Kind::of::<ConsumerGroupDescribeRequest>(),
        ApiKey::DescribeTopicPartitions => Kind::of::<DescribeTopicPartitionsRequest>(),
        ApiKey::DescribeUserScramCredentials => Kind::of::<DescribeUserScramCredentialsRequest>(),
        ApiKey::AlterUserScramCredentials => Kind::of::<AlterUserScramCredentialsRequest>(),
        ApiKey::DescribeClientQuotas => Kind::of::<DescribeClientQuotasRequest>(),
        ApiKey::AlterClientQuotas => Kind::of::<AlterClientQuotasRequest>(),
        ApiKey::SaslHandshake => Kind::of::<SaslHandshakeRequest>(),
        ApiKey::SaslAuthenticate => Kind::of::<SaslAuthenticateRequest>(),
        other => panic!("{other:?} is offered and not listed here"),
    }
}

/// How many of these bytes are a body, if they begin with one.
fn decoded<R: Request>(bytes: &Bytes, version: i16) -> Option<usize> {
    let mut rest = bytes.clone();
    R::decode(&mut rest, version).ok()?;
    Some(bytes.len() - rest.len())
}

fn default_body<R: Request + Default>(version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    R::default().encode(&mut body, version).expect("the default can be encoded in every version");
    body
}

fn is_response<R: Request>(mut response: Bytes, version: i16) -> Result<(), String>
where
    R::Response: HeaderVersion,
{
    let header = ResponseHeader::decode(&mut response, R::Response::header_version(version))
        .map_err(|error| format!("its header: {error}"))?;
    if header.correlation_id != CORRELATION {
        return Err(format!("it responds to request {}", header.correlation_id));
    }
    R::Response::decode(&mut response, version).map_err(|error| error.to_string())?;
    if response.is_empty() { Ok(()) } else { Err(format!("{} bytes after it", response.len())) }
}

fn refusal_of_body<R: Request>(mut request: Bytes, version: i16) -> Option<String> {
    let header = RequestHeader::decode(&mut request, R::header_version(version)).map(|_| ());
    header.and_then(|()| R::decode(&mut request, version).map(|_| ())).err().map(|error| error.to_string())
}

/// Why the codec does not decode a request, without its length; none if it does.
pub fn refusal(key: ApiKey, version: i16, request: Bytes) -> Option<String> {
    (kind(key).refusal)(request, version)
}

/// How many of these bytes are the body of this request, if they begin with one.
pub fn length_of_body(key: ApiKey, version: i16, bytes: &Bytes) -> Option<usize> {
    (kind(key).length)(bytes, version)
}

/// Checks that this is one whole response to a request, without its length.
///
/// # Errors
/// If it is not.
pub fn check_response(key: ApiKey, version: i16, response: Bytes) -> Result<(), String> {
    (kind(key).check)(response, version)
}

/// Bytes that a body may be decoded from: the default's, and then zeros or ones, which are the counts of empty arrays
/// in one encoding or the other.
fn material(key: ApiKey, version: i16, filler: u8) -> BytesMut {
    let mut bytes = (kind(key).default)(version);
    bytes.resize(LONGEST, filler);
    bytes
}

/// The default body of this request with other bytes at some places, cut to what is a body; none if it is none any more.
pub fn edited(key: ApiKey, version: i16, filler: u8, edits: &[(usize, u8)]) -> Option<Bytes> {
    let mut bytes = material(key, version, filler);
    for (place, byte) in edits {
        bytes[*place] = *byte;
    }
    let bytes = bytes.freeze();
    length_of_body(key, version, &bytes).map(|length| bytes.slice(..length))
}

/// A body of this request with random content. Most counts and lengths in it are small.
pub fn body(key: ApiKey, version: i16, draw: &mut Draw) -> Bytes {
    const SOME: [u8; 10] = [0, 1, 1, 2, 2, 3, b't', b't', 0x7f, 0xff];
    let mut best = Bytes::new();
    let mut found = 0;
    for attempt in 0..400 {
        let filler = draw.pick(&[0, 0, 1]);
        let edit = |draw: &mut Draw| {
            let within = draw.pick(&[8, 24, 60]);
            (draw.below(within), draw.pick(&SOME))
        };
        let edits: Vec<_> = (0..attempt % 8).map(|_| edit(draw)).collect();
        if let Some(made) = edited(key, version, filler, &edits) {
            found += 1;
            if made.len() >= best.len() {
                best = made;
            }
        }
        if found == 6 {
            break;
        }
    }
    assert!(found > 0, "no body of {key:?} in version {version}");
    best
}

/// Bodies in which one array has this many elements, which are as small as they can be; one for each array that an
/// otherwise empty request has.
pub fn with_long_arrays(key: ApiKey, version: i16, count: u16) -> Vec<Bytes> {
    let mut bodies: Vec<Bytes> = Vec::new();
    let wide = i32::from(count).to_be_bytes();
    // A varint of three bytes, of the count plus one.
    let packed = u32::from(count) + 1;
    let compact = [packed as u8 | 0x80, (packed >> 7) as u8 | 0x80, (packed >> 14) as u8];
    for filler in [0, 1] {
        let empty = material(key, version, filler);
        for place in 0..60 {
            for claim in [&wide[..], &compact[..]] {
                let mut bytes = BytesMut::from(&empty[..]);
                bytes[place..place + claim.len()].copy_from_slice(claim);
                bytes.resize(usize::from(count) * 80, filler);
                let bytes = bytes.freeze();
                let length = length_of_body(key, version, &bytes).unwrap_or(0);
                if length > usize::from(count) && !bodies.iter().any(|body| body.len() == length) {
                    bodies.push(bytes.slice(..length));
                }
            }
        }
    }
    bodies
}

/// A frame of this request, with its length.
pub fn frame(key: i16, version: i16, header_version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&key.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&CORRELATION.to_be_bytes());
    request.extend_from_slice(&1i16.to_be_bytes());
    request.extend_from_slice(b"c");
    if header_version >= 2 {
        request.push(0);
    }
    request.extend_from_slice(body);
    framed(&request)
}

/// These bytes behind their length.
pub fn framed(request: &[u8]) -> Vec<u8> {
    [&(request.len() as u32).to_be_bytes()[..], request].concat()
}

/// Changes bytes as a broken client or network might: single ones, lengths, a part that is missing or twice there.
pub fn damage(bytes: &mut Vec<u8>, draw: &mut Draw) {
    const LENGTHS: [i32; 8] = [-1, -2, i32::MIN, i32::MAX, 1 << 20, 1 << 28, 0x7fff, 255];
    for _ in 0..1 + draw.below(3) {
        let place = draw.below(bytes.len());
        match draw.below(6) {
            0 => bytes[place] ^= 1 << draw.below(8),
            1 => bytes[place] = draw.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]),
            2 => {
                let length = draw.pick(&LENGTHS).to_be_bytes();
                let width = draw.pick(&[2, 4]);
                for (byte, new) in bytes[place..].iter_mut().zip(&length[4 - width..]) {
                    *byte = *new;
                }
            }
            // A varint of 2^32 - 1, or one that is too long.
            3 => {
                let ones = 4 + draw.below(3);
                bytes[place..].iter_mut().take(ones).for_each(|byte| *byte = 0xff);
            }
            4 => {
                let end = (place + 1 + draw.below(6)).min(bytes.len());
                bytes.drain(place..end);
            }
            _ => {
                let part = bytes[place..].iter().copied().take(6).collect::<Vec<u8>>();
                bytes.splice(place..place, part);
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}
