//! What each error of librdkafka and of the brokers means here.
//!
//! | class | codes | what happens |
//! |---|---|---|
//! | retriable | everything about connections, time, elections, coordinators, membership, quotas, replicas | retried with backoff |
//! | out of range | `OFFSET_OUT_OF_RANGE`, `_AUTO_OFFSET_RESET` (how a consumer reports it with `auto.offset.reset=error`), `_LOG_TRUNCATION` | the partition's delivery stops; the pipeline decides |
//! | unknown topic | `UNKNOWN_TOPIC_OR_PART`, `_UNKNOWN_TOPIC`, `UNKNOWN_TOPIC_ID`, as the response to a request about a topic. A consumer that gets it continues, and the topic is checked | the caller gets the error |
//! | topic exists | `TOPIC_ALREADY_EXISTS` | the caller gets the error |
//! | fatal | no permission, credentials, unsupported or invalid requests and settings, damaged or oversized records, fenced producers and members, librdkafka's internal errors | a retry does not help; if the configuration must be changed ([`refusal`]), the error says how |
//!
//! Some fatal errors of a consumer end only its membership, and a new one is opened: see `member`.
//!
//! A code that is in none of the lists because it is newer than this program is retriable and logged: stopping would
//! turn a transient error into an outage, and repeating a request does no harm.

use std::fmt;

use rdkafka::types::RDKafkaErrorCode::{self, *};
use tracing::warn;

use crate::broker::BrokerError;

/// An error of librdkafka, or of a broker through it: a message, and the code as its source.
#[derive(Clone, Debug)]
pub struct KafkaError {
    code: i32,
    text: String,
    /// Set if the code is known and the text is not the code's own.
    source: Option<RDKafkaErrorCode>,
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match known(self.code) {
            Some(code) if self.text.is_empty() => write!(f, "{code}"),
            Some(_) => f.write_str(&self.text),
            None if self.text.is_empty() => write!(f, "error {}", self.code),
            None => write!(f, "{} (error {})", self.text, self.code),
        }
    }
}

impl std::error::Error for KafkaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|code| code as _)
    }
}

impl KafkaError {
    pub(super) fn new(code: i32, text: impl Into<String>) -> Self {
        let text = text.into().trim().to_owned();
        let source = if text.is_empty() { None } else { known(code) };
        Self { code, text, source }
    }

    /// librdkafka's code, if this program knows it.
    pub fn code(&self) -> Option<RDKafkaErrorCode> {
        known(self.code)
    }

    /// Converts a code of the crate `rdkafka`.
    pub(super) fn of(code: RDKafkaErrorCode) -> Self {
        Self::new(code as i32, "")
    }

    /// The error for an argument or a setting that librdkafka rejects.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new(InvalidArgument as i32, text)
    }

    /// Converts an error of the crate `rdkafka`, without the values of settings.
    pub(super) fn from_safe(error: &rdkafka::error::KafkaError) -> Self {
        use rdkafka::error::KafkaError as Safe;
        match error {
            Safe::ClientConfig(_, _, property, _) => {
                Self::invalid(format!("property {property} was rejected"))
            }
            Safe::ClientCreation(text) => Self::invalid(text.clone()),
            other => match other.rdkafka_error_code() {
                Some(code) => Self::of(code),
                None => Self::new(Fail as i32, other.to_string()),
            },
        }
    }

    pub(super) fn is(&self, code: RDKafkaErrorCode) -> bool {
        self.code == code as i32
    }

    /// True if the user lacks a permission for the request.
    pub(super) fn is_missing_permission(&self) -> bool {
        self.is(TopicAuthorizationFailed) || self.is(ClusterAuthorizationFailed)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn class(&self) -> Class {
        class(self.code)
    }

    /// The error of a request about a topic or one of its partitions. `what` completes "request to the broker
    /// failed".
    pub(super) fn about(self, topic: &str, what: impl Into<String>) -> BrokerError {
        match self.class() {
            Class::UnknownTopic => BrokerError::UnknownTopic(topic.to_owned()),
            Class::TopicExists => BrokerError::TopicExists(topic.to_owned()),
            Class::Retriable => self.retriable(what),
            // Only requests with an offset can be out of range.
            Class::OutOfRange | Class::Fatal => self.fatal(what),
        }
    }

    pub(super) fn retriable(self, what: impl Into<String>) -> BrokerError {
        BrokerError::Retriable { what: what.into(), cause: Some(Box::new(self)) }
    }

    pub(super) fn fatal(self, what: impl Into<String>) -> BrokerError {
        match self.code().and_then(refusal) {
            Some(reason) => self.refused(what, reason),
            None => BrokerError::Fatal { what: what.into(), cause: Some(Box::new(self)) },
        }
    }

    pub(super) fn refused(self, what: impl Into<String>, reason: impl Into<String>) -> BrokerError {
        BrokerError::Refused { what: what.into(), reason: reason.into(), cause: Some(Box::new(self)) }
    }
}

/// The cause and what to do about it, for errors of a client that lacks a permission or is configured wrongly.
fn refusal(code: RDKafkaErrorCode) -> Option<&'static str> {
    const GROUP: &str = "the group has members with a different group protocol or assignor; \
                         choose a different group (pipeline.group)";
    match code {
        Authentication | SaslAuthenticationFailed | UnacceptableCredential => {
            Some("the credentials or the certificate were rejected")
        }
        UnsupportedSASLMechanism => Some("the listener does not support this SASL mechanism"),
        IllegalSASLState => Some("the listener uses a different security protocol"),
        TopicAuthorizationFailed => Some(
            "the user lacks a permission on the topic: required are Describe and DescribeConfigs, Read to read, \
             Write to append, Create to create it",
        ),
        GroupAuthorizationFailed => Some("the user lacks the permission Read on the group (pipeline.group)"),
        ClusterAuthorizationFailed => Some(
            "the user lacks a permission on the cluster: required are Create to create a topic, DescribeConfigs to \
             read the settings of brokers",
        ),
        TransactionalIdAuthorizationFailed => Some("the user lacks a permission on the transactional id"),
        InconsistentGroupProtocol | GroupIdNotFound => Some(GROUP),
        InvalidGroupId => Some("the group's name is invalid; choose a different group (pipeline.group)"),
        UnsupportedAssignor => {
            Some("the broker does not have the assignor that kafka.properties names (group.remote.assignor)")
        }
        _ => None,
    }
}

/// The classes that the module docs describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Retriable,
    OutOfRange,
    UnknownTopic,
    TopicExists,
    Fatal,
}

/// Every known code, by class.
const CLASSES: [(Class, &[RDKafkaErrorCode]); 5] = [
    (Class::Retriable, RETRIABLE),
    (Class::OutOfRange, &[OffsetOutOfRange, AutoOffsetReset, LogTruncation]),
    (Class::UnknownTopic, &[UnknownTopicOrPartition, RDKafkaErrorCode::UnknownTopic, UnknownTopicId]),
    (Class::TopicExists, &[TopicAlreadyExists]),
    (Class::Fatal, FATAL),
];

const RETRIABLE: &[RDKafkaErrorCode] = &[
    // The network, names, and time.
    BrokerTransportFailure,
    Resolve,
    AllBrokersDown,
    OperationTimedOut,
    MessageTimedOut,
    TimedOutQueue,
    RequestTimedOut,
    NetworkException,
    BrokerNotAvailable,
    UnknownBroker,
    DestroyBroker,
    BrokerDestroy,
    RebootstrapRequired,
    ListenerNotFound,
    // librdkafka is busy, or has purged the request.
    QueueFull,
    NodeUpdate,
    WaitingForCoordinator,
    InProgress,
    PreviousInProgress,
    Outdated,
    WaitCache,
    Interrupted,
    Partial,
    Retry,
    PurgeQueue,
    PurgeInflight,
    Noop,
    NoOffset,
    State,
    Conflict,
    // A handshake also fails if a broker shuts down; the caller detects a wrong certificate.
    SSL,
    // Elections and replicas.
    LeaderNotAvailable,
    NotLeaderForPartition,
    ReplicaNotAvailable,
    ISRInsufficient,
    NotEnoughReplicas,
    NotEnoughReplicasAfterAppend,
    FencedLeaderEpoch,
    UnknownLeaderEpoch,
    OffsetNotAvailable,
    PreferredLeaderNotAvailable,
    EligibleLeadersNotAvailable,
    ElectionNotNeeded,
    ReassignmentInProgress,
    NoReassignmentInProgress,
    KafkaStorageError,
    LogDirNotFound,
    StaleControllerEpoch,
    StaleBrokerEpoch,
    NotController,
    OperationNotAttempted,
    FetchSessionIdNotFound,
    InvalidFetchSessionEpoch,
    ThrottlingQuotaExceeded,
    UnknownPartition,
    // Coordinators and membership: the consumer joins again by itself.
    CoordinatorLoadInProgress,
    CoordinatorNotAvailable,
    NotCoordinator,
    IllegalGeneration,
    UnknownMemberId,
    RebalanceInProgress,
    MemberIdRequired,
    PollExceeded,
    AssignmentLost,
    AssignPartitions,
    RevokePartitions,
    UnstableOffsetCommit,
    FencedMemberEpoch,
    StaleMemberEpoch,
    UnreleasedInstanceId,
    GroupMaxSizeReached,
    // Transactions of other producers, and errors from which an idempotent producer recovers.
    ConcurrentTransactions,
    UnknownProducerId,
    PartitionEOF,
    RDKafkaErrorCode::Unknown,
    NoError,
];

const FATAL: &[RDKafkaErrorCode] = &[
    // Permissions and credentials.
    TopicAuthorizationFailed,
    GroupAuthorizationFailed,
    ClusterAuthorizationFailed,
    TransactionalIdAuthorizationFailed,
    DelegationTokenAuthDisabled,
    DelegationTokenNotFound,
    DelegationTokenOwnerMismatch,
    DelegationTokenRequestNotAllowed,
    DelegationTokenAuthorizationFailed,
    DelegationTokenExpired,
    InvalidPrincipalType,
    PrincipalDeserializationFailure,
    UnacceptableCredential,
    SecurityDisabled,
    Authentication,
    SaslAuthenticationFailed,
    UnsupportedSASLMechanism,
    IllegalSASLState,
    // Records that are damaged, too large, or compressed with a codec that this build lacks.
    BadMessage,
    BadCompression,
    InvalidMessage,
    InvalidMessageSize,
    MessageSizeTooLarge,
    MessageBatchTooLarge,
    InvalidRecord,
    InvalidTimestamp,
    UnsupportedCompressionType,
    UnsupportedForMessageFormat,
    Underflow,
    // Requests and settings that will not become valid.
    InvalidArgument,
    InvalidTopic,
    InvalidPartitions,
    InvalidReplicationFactor,
    InvalidReplicaAssignment,
    InvalidConfig,
    InvalidRequest,
    InvalidRequiredAcks,
    InvalidGroupId,
    InvalidSessionTimeout,
    InvalidCommitOffsetSize,
    OffsetMetadataTooLarge,
    InconsistentGroupProtocol,
    UnsupportedVersion,
    UnsupportedFeature,
    UnsupportedAssignor,
    UnknownProtocol,
    PolicyViolation,
    TopicDeletionDisabled,
    NotConfigured,
    NotImplemented,
    ReadOnly,
    NoEnt,
    InvalidType,
    ResourceNotFound,
    DuplicateResource,
    UnknownGroup,
    GroupIdNotFound,
    NonEmptyGroup,
    GroupSubscribedToTopic,
    ExistingSubscription,
    InconsistentVoterSet,
    InvalidUpdateVersion,
    FeatureUpdateFailed,
    UnknownSubscriptionId,
    TelemetryTooLarge,
    // Another member or producer has replaced this one.
    Fenced,
    FencedInstanceId,
    ProducerFenced,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    TransactionCoordinatorFenced,
    // An idempotent producer whose sequence numbers are out of order.
    OutOfOrderSequenceNumber,
    DuplicateSequenceNumber,
    GaplessGuarantee,
    Inconsistent,
    InvalidTransactionalState,
    InvalidTransactionTimeout,
    InvalidDifferentRecord,
    // This machine, or librdkafka itself.
    Fail,
    CriticalSystemResource,
    FileSystem,
    RDKafkaErrorCode::Fatal,
    Application,
    KeySerialization,
    ValueSerialization,
    KeyDeserialization,
    ValueDeserialization,
];

/// The code, if it is known.
fn known(code: i32) -> Option<RDKafkaErrorCode> {
    CLASSES.iter().flat_map(|(_, codes)| codes.iter()).copied().find(|known| *known as i32 == code)
}

fn class(code: i32) -> Class {
    let holds = |codes: &[RDKafkaErrorCode]| codes.iter().any(|known| *known as i32 == code);
    match CLASSES.iter().find(|(_, codes)| holds(codes)) {
        Some((class, _)) => *class,
        None => {
            warn!(code, "unknown Kafka error code; treated as retriable");
            Class::Retriable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of librdkafka's own codes and of the brokers', as far as this version knows them.
    fn numbers() -> impl Iterator<Item = i32> {
        (-199..=-137).chain(-1..=97).chain([100, 110, 111, 112, 113, 117, 118, 129])
    }

    #[test]
    fn every_code_that_librdkafka_knows_has_one_class() {
        for number in numbers() {
            let holds = |codes: &&[RDKafkaErrorCode]| codes.iter().filter(|c| **c as i32 == number).count();
            let classes: usize = CLASSES.iter().map(|(_, codes)| holds(codes)).sum();
            assert_eq!(classes, 1, "code {number}");
        }
        let codes: usize = CLASSES.iter().map(|(_, codes)| codes.len()).sum();
        assert_eq!(codes, numbers().count());
    }

    #[test]
    fn an_unknown_code_is_retriable() {
        for number in [-200, 98, 130, 12_345, i32::MIN] {
            assert_eq!(KafkaError::new(number, "").class(), Class::Retriable);
        }
    }

    #[test]
    fn an_error_of_a_request_about_a_topic_follows_from_its_class() {
        let about = |code| KafkaError::of(code).about("t", "read");
        assert!(about(LeaderNotAvailable).is_retriable());
        assert!(matches!(about(UnknownTopicOrPartition), BrokerError::UnknownTopic(t) if t == "t"));
        assert!(matches!(about(TopicAlreadyExists), BrokerError::TopicExists(t) if t == "t"));
        assert!(matches!(about(BadMessage), BrokerError::Fatal { what, .. } if what == "read"));
    }

    #[test]
    fn an_error_of_a_request_that_is_not_allowed_contains_what_to_change() {
        for (code, expected) in [
            (TopicAuthorizationFailed, "Describe"),
            (GroupAuthorizationFailed, "Read on the group"),
            (InconsistentGroupProtocol, "pipeline.group"),
            (GroupIdNotFound, "pipeline.group"),
            (InvalidGroupId, "pipeline.group"),
            (UnsupportedAssignor, "group.remote.assignor"),
            (Authentication, "credentials"),
        ] {
            match KafkaError::of(code).about("t", "read") {
                BrokerError::Refused { what, reason, cause: Some(_) } => {
                    assert!(what == "read" && reason.contains(expected), "{code:?}: {reason}");
                }
                other => panic!("{code:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_error_shows_its_message_and_has_the_code_as_its_source() {
        let chain = |error: &KafkaError| crate::error::chain(error);
        let error = KafkaError::of(LeaderNotAvailable);
        assert_eq!(chain(&error), "LeaderNotAvailable (Broker: Leader not available)");
        let error = KafkaError::new(LeaderNotAvailable as i32, " no leader yet\n");
        assert_eq!(chain(&error), "no leader yet: LeaderNotAvailable (Broker: Leader not available)");
        let source =
            std::error::Error::source(&error).and_then(|source| source.downcast_ref::<RDKafkaErrorCode>());
        assert_eq!((source, error.code()), (Some(&LeaderNotAvailable), Some(LeaderNotAvailable)));
        assert_eq!(KafkaError::new(12_345, "").to_string(), "error 12345");
    }
}
