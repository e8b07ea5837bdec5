//! The settings of groups, named after those of a broker.

/// Settings of a group coordinator, with Kafka's defaults. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: i32,
    /// `group.max.size`: members of a classic group.
    pub max_size: usize,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout: i32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: i32,
    /// `group.consumer.max.size`: members of a group of the `consumer` protocol.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`; the first is the default.
    pub consumer_assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: MigrationPolicy,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: i64,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max: usize,
    /// `offsets.commit.timeout.ms`: how long a request waits until its records are committed.
    pub commit_timeout: i64,
    /// The time for which a member without a request open in a new group is kept
    /// (`CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`, a constant in Kafka).
    pub new_member_join_timeout: i32,
    /// The time between two evaluations of a group's regular expressions, if topics change
    /// (`REGEX_BATCH_REFRESH_MAX_INTERVAL_MS`, a constant in Kafka).
    pub regex_refresh_interval: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout: 6_000,
            max_session_timeout: 1_800_000,
            initial_rebalance_delay: 3_000,
            max_size: i32::MAX as usize,
            consumer_session_timeout: 45_000,
            consumer_heartbeat_interval: 5_000,
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec![Assignor::Uniform, Assignor::Range],
            consumer_migration_policy: MigrationPolicy::Bidirectional,
            offsets_retention: 7 * 24 * 3_600_000,
            offsets_retention_check_interval: 600_000,
            offset_metadata_max: 4_096,
            commit_timeout: 5_000,
            new_member_join_timeout: 300_000,
            regex_refresh_interval: 600_000,
        }
    }
}

/// An assignor of the `consumer` protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// `uniform`: balanced over the members, keeps what it can.
    Uniform,
    /// `range`: for each topic, neighbours go to one member.
    Range,
}

impl Assignor {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// Whether groups may change between the classic protocol and `consumer` while they have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither way.
    Disabled,
    /// From classic to `consumer`, when a member with the new protocol joins.
    Upgrade,
    /// From `consumer` to classic, when the last member with the new protocol leaves.
    Downgrade,
    /// Both ways; Kafka's default.
    Bidirectional,
}

impl MigrationPolicy {
    /// Whether a classic group may become one of the `consumer` protocol.
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether a group of the `consumer` protocol may become a classic one.
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}
