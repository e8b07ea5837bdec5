//! Binding a keyspace to a topic: what `init` writes once and every worker checks.
//!
//! The content of the tables is a pure function of the log and of the [`Binding`]. So the binding is written once,
//! conditionally, and a worker never writes it: a worker that finds no binding, or one that differs from its
//! configuration, refuses to start. The origins are part of the binding, so that it is written atomically; the rows of
//! `progress` follow it. If `init` was interrupted between the two, running it again or the first worker completes it.

#[cfg(any(feature = "cassandra", feature = "embedded", test))]
mod columns;
mod row;
mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::broker::{Broker, BrokerError, Topic};
use crate::decode::DECODER_VERSION;
use crate::store::{Outcome, Progress, Store, StoreError};
use crate::window::{WindowError, WindowSpec};
#[cfg(any(feature = "cassandra", feature = "embedded"))]
pub(crate) use columns::{Column, Columns};
pub use row::{Binding, Bound, BoundConsistency, ConsistencyError, SCHEMA_VERSION};
pub use stored::{Assumed, StoredBinding};

/// The parameters of the result that the operator sets. With the topic's id and the origins they make a [`Binding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingSpec {
    /// Name of the topic.
    pub topic: String,
    /// Windows and alerts.
    pub window: WindowSpec,
    /// A record larger than this, key and value together, is a dead letter without its bytes.
    pub max_mutation_bytes: usize,
}

impl BindingSpec {
    /// Default of [`BindingSpec::max_mutation_bytes`]: 1 MiB, well below the largest mutation that Cassandra's
    /// own defaults allow (half of a commit log segment, 16 MiB).
    pub const MAX_MUTATION_BYTES: usize = 1 << 20;

    /// The defaults, for this topic.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            window: WindowSpec::default(),
            max_mutation_bytes: Self::MAX_MUTATION_BYTES,
        }
    }

    /// The binding to a topic, with these parameters and those of a store.
    pub(crate) fn bound_to<S: Store>(
        &self,
        topic: &Topic,
        store: &S,
        origins: BTreeMap<i32, i64>,
    ) -> Binding {
        Binding {
            topic: topic.name.clone(),
            topic_id: topic.id.clone(),
            window: self.window,
            max_mutation_bytes: i64::try_from(self.max_mutation_bytes).unwrap_or(i64::MAX),
            decoder_version: DECODER_VERSION,
            layout: store.layout(),
            schema_version: SCHEMA_VERSION,
            consistency: store.consistency(),
            origins,
        }
    }
}

/// Where a new pipeline starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// At the log's start.
    #[default]
    Start,
    /// At the log's end: only new records.
    End,
    /// At these offsets; partitions not named start at the log's start.
    Offsets(BTreeMap<i32, i64>),
}

/// Why a keyspace is not bound, or bound with other parameters.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindingError {
    /// `init` has not run.
    #[error("the keyspace is not bound to topic {topic}: run `exactlyonce init` first")]
    Unbound {
        /// Topic name.
        topic: String,
    },
    /// Rows without a binding: another program wrote them, perhaps with wall-clock timestamps, which would hide this
    /// program's writes forever.
    #[error(
        "the tables contain rows but no binding: another program wrote them, or the row of `pipeline` was deleted. \
         restore it, or use a different keyspace"
    )]
    ForeignRows,
    /// The keyspace is bound to another pipeline, or with other parameters.
    #[error(
        "the keyspace is bound with {parameter} = {bound}, not {found}: use the bound value, or a different keyspace"
    )]
    Differs {
        /// Name of the parameter.
        parameter: &'static str,
        /// The bound value.
        bound: String,
        /// The value of the configuration or of this program.
        found: String,
    },
    /// The store is opened with a different consistency or datacenter than the keyspace is bound to.
    #[error(
        "the keyspace is bound to consistency {bound}, but this store is opened with {found}: workers that do not all \
         use the same one miss each other's counts. use the bound one, or change the binding (`exactlyonce \
         change-consistency --help`)"
    )]
    OtherConsistency {
        /// The bound value.
        bound: BoundConsistency,
        /// The configured value.
        found: BoundConsistency,
    },
    /// `--from` is not the consistency that the keyspace is bound to.
    #[error("the keyspace is bound to consistency {bound}, and not to {from} (--from): nothing was changed")]
    NotFrom {
        /// The bound value.
        bound: BoundConsistency,
        /// The value of `--from`.
        from: BoundConsistency,
    },
    /// The topic was deleted and created again.
    #[error(
        "topic {topic} was recreated: the keyspace is bound to id {bound}, the broker has id {found}. a recreated \
         topic needs a different keyspace"
    )]
    Recreated {
        /// Topic name.
        topic: String,
        /// The bound value.
        bound: String,
        /// The id that the broker reports.
        found: String,
    },
    /// Records of the topic may be deleted between two reads.
    #[error("topic {topic} is compacted (cleanup.policy): its records change, so nothing could be verified")]
    Compacted {
        /// Topic name.
        topic: String,
    },
    /// An origin that the log does not have.
    #[error(
        "topic {topic} partition {partition} has no offset {offset}: its log has offsets {start} to {end}"
    )]
    OriginOutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// As requested.
        offset: i64,
        /// The log's start.
        start: i64,
        /// The log's end.
        end: i64,
    },
    /// An origin for a partition that does not exist.
    #[error("topic {topic} has {partitions} partitions and no partition {partition}")]
    NoPartition {
        /// Topic name.
        topic: String,
        /// As requested.
        partition: i32,
        /// Number of partitions.
        partitions: i32,
    },
    /// The windows are invalid.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// The store refused.
    #[error("the store refused to {request}")]
    StoreRefused {
        /// The request.
        request: &'static str,
        /// The cause.
        source: StoreError,
    },
    /// The request to the store failed.
    #[error("could not {request}")]
    StoreUnavailable {
        /// The request.
        request: &'static str,
        /// The cause.
        source: StoreError,
    },
    /// The request to the broker failed.
    #[error("could not describe topic {topic}")]
    Broker {
        /// Topic name.
        topic: String,
        /// The cause.
        source: BrokerError,
    },
}

impl BindingError {
    /// True if log and tables contradict each other.
    pub fn is_refusal(&self) -> bool {
        match self {
            BindingError::ForeignRows
            | BindingError::Differs { .. }
            | BindingError::OtherConsistency { .. }
            | BindingError::NotFrom { .. }
            | BindingError::Recreated { .. }
            | BindingError::Compacted { .. } => true,
            BindingError::Unbound { .. }
            | BindingError::OriginOutOfRange { .. }
            | BindingError::NoPartition { .. }
            | BindingError::Window(_)
            | BindingError::StoreUnavailable { .. }
            | BindingError::Broker { .. } => false,
            BindingError::StoreRefused { source, .. } => source.damaged().is_some(),
        }
    }

    /// True if the same request may succeed later: a service is unavailable.
    pub fn is_transient(&self) -> bool {
        match self {
            BindingError::StoreUnavailable { .. } => true,
            BindingError::Broker { source, .. } => source.is_retriable(),
            _ => false,
        }
    }
}

/// The result of `request`.
fn result<T>(request: &'static str, outcome: Outcome<T>) -> Result<T, BindingError> {
    match outcome {
        Outcome::Acknowledged(answer) => Ok(answer),
        Outcome::Refused(source) => Err(BindingError::StoreRefused { request, source }),
        Outcome::Unknown(source) => Err(BindingError::StoreUnavailable { request, source }),
    }
}

/// The result of `init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialized {
    /// The binding of the keyspace.
    pub binding: Binding,
    /// False if it existed before, with the same parameters.
    pub new: bool,
}

/// Binds the keyspace to the topic and writes each partition's origin. Idempotent: with the same parameters it may run
/// again, and then completes an interrupted earlier run.
///
/// # Errors
/// See [`BindingError`].
pub async fn init<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    binding_spec: &BindingSpec,
    origin: &Origin,
) -> Result<Initialized, BindingError> {
    binding_spec.window.check()?;
    let topic = describe(broker, &binding_spec.topic).await?;
    let mut existing = result("read the binding", store.binding().await)?;
    if existing.is_none() && result("check for rows", store.holds_rows().await)? {
        // Rows are written after a binding: if another process bound the keyspace between the two reads, its binding is
        // there now and the rows are not foreign.
        existing = result("read the binding", store.binding().await)?;
        if existing.is_none() {
            return Err(BindingError::ForeignRows);
        }
    }
    let new = existing.is_none();
    let binding = match existing {
        Some(binding) => binding,
        None => binding_spec.bound_to(&topic, store, origins(broker, &topic, origin).await?),
    };
    // Also if it exists: an interrupted run may have left it where only some later reads find it.
    let initialized = match result("write the binding", store.bind(&binding).await)? {
        Bound::Now => Initialized { binding, new },
        Bound::Before(binding) => Initialized { binding, new: false },
    };
    compare(&initialized.binding, &binding_spec.bound_to(&topic, store, BTreeMap::new()))?;
    for (&partition, &origin) in &initialized.binding.origins {
        if result("read progress", store.progress(partition).await)?.is_none() {
            let progress = Progress { origin, next_offset: origin };
            result("write progress", store.write_progress(partition, progress).await)?;
        }
    }
    Ok(initialized)
}

/// The binding, if it matches these parameters and the current topic.
///
/// # Errors
/// See [`BindingError`].
pub async fn check<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    binding_spec: &BindingSpec,
) -> Result<Binding, BindingError> {
    let mut binding = result("read the binding", store.binding().await)?;
    if binding.is_none() {
        if !result("check for rows", store.holds_rows().await)? {
            return Err(BindingError::Unbound { topic: binding_spec.topic.clone() });
        }
        // For the same reason as in `init`.
        binding = result("read the binding", store.binding().await)?;
    }
    let Some(binding) = binding else { return Err(BindingError::ForeignRows) };
    let topic = describe(broker, &binding_spec.topic).await?;
    compare(&binding, &binding_spec.bound_to(&topic, store, BTreeMap::new()))?;
    Ok(binding)
}

/// Checks that a store is opened with the layout and the consistency of its binding: with a different layout its rows
/// would not be found, with a different consistency not all of them. Succeeds if there is no binding. ([`init`] and
/// [`check`] compare both, too.)
///
/// # Errors
/// [`BindingError::Differs`], or the error of the request to the store.
pub async fn check_store<S: Store>(store: &S) -> Result<(), BindingError> {
    match result("read the binding", store.binding().await)? {
        Some(bound) => compare(
            &bound,
            &Binding { layout: store.layout(), consistency: store.consistency(), ..bound.clone() },
        ),
        None => Ok(()),
    }
}

/// Checks what can change while a worker runs: that the topic is still the one that the keyspace is bound to, and still
/// not compacted.
///
/// # Errors
/// [`BindingError::Recreated`], [`BindingError::Compacted`], [`BindingError::Broker`].
pub async fn check_topic<B: Broker>(broker: &B, binding: &Binding) -> Result<Topic, BindingError> {
    let topic = describe(broker, &binding.topic).await?;
    match topic.id == binding.topic_id {
        true => Ok(topic),
        false => Err(BindingError::Recreated {
            topic: topic.name,
            bound: binding.topic_id.clone(),
            found: topic.id,
        }),
    }
}

/// The current topic, if a pipeline can read it.
async fn describe<B: Broker>(broker: &B, topic: &str) -> Result<Topic, BindingError> {
    let described = broker.topic(topic).await;
    let described = described.map_err(|source| BindingError::Broker { topic: topic.to_owned(), source })?;
    match described.compacted {
        true => Err(BindingError::Compacted { topic: described.name }),
        false => Ok(described),
    }
}

async fn origins<B: Broker>(
    broker: &B,
    topic: &Topic,
    origin: &Origin,
) -> Result<BTreeMap<i32, i64>, BindingError> {
    if let Origin::Offsets(offsets) = origin
        && let Some(&partition) = offsets.keys().find(|p| !(0..topic.partitions).contains(*p))
    {
        let (topic, partitions) = (topic.name.clone(), topic.partitions);
        return Err(BindingError::NoPartition { topic, partition, partitions });
    }
    let mut origins = BTreeMap::new();
    for partition in 0..topic.partitions {
        let log = broker.offsets(&topic.name, partition).await;
        let log = log.map_err(|source| BindingError::Broker { topic: topic.name.clone(), source })?;
        let offset = match origin {
            Origin::Start => log.start,
            Origin::End => log.end,
            Origin::Offsets(offsets) => offsets.get(&partition).copied().unwrap_or(log.start),
        };
        if !(log.start..=log.end).contains(&offset) {
            let (topic, start, end) = (topic.name.clone(), log.start, log.end);
            return Err(BindingError::OriginOutOfRange { topic, partition, offset, start, end });
        }
        origins.insert(partition, offset);
    }
    Ok(origins)
}

/// Compares all parameters except the origins, which are only in the binding.
pub(crate) fn compare(bound: &Binding, found: &Binding) -> Result<(), BindingError> {
    let Binding {
        topic,
        topic_id,
        window,
        max_mutation_bytes,
        decoder_version,
        layout,
        schema_version,
        consistency,
        origins: _,
    } = bound;
    fn same<T: PartialEq + std::fmt::Debug>(
        parameter: &'static str,
        bound: &T,
        found: &T,
    ) -> Result<(), BindingError> {
        if bound == found {
            return Ok(());
        }
        Err(BindingError::Differs { parameter, bound: format!("{bound:?}"), found: format!("{found:?}") })
    }
    let levels = |window: &WindowSpec| window.health.levels().collect::<Vec<_>>();
    same("topic", topic, &found.topic)?;
    same("schema_version", schema_version, &found.schema_version)?;
    same("decoder_version", decoder_version, &found.decoder_version)?;
    same("layout", &layout.events.to_string(), &found.layout.events.to_string())?;
    same("count_block_ms", &layout.counts.block_ms, &found.layout.counts.block_ms)?;
    same("count_shards", &layout.counts.shards, &found.layout.counts.shards)?;
    if *consistency != found.consistency {
        let (bound, found) = (consistency.clone(), found.consistency.clone());
        return Err(BindingError::OtherConsistency { bound, found });
    }
    same("window.size_ms", &window.size_ms, &found.window.size_ms)?;
    same("window.slide_ms", &window.slide_ms, &found.window.slide_ms)?;
    same("window.threshold", &window.threshold, &found.window.threshold)?;
    same("window.health", &levels(window), &levels(&found.window))?;
    same("max_mutation_bytes", max_mutation_bytes, &found.max_mutation_bytes)?;
    if *topic_id != found.topic_id {
        let (bound, found) = (topic_id.clone(), found.topic_id.clone());
        return Err(BindingError::Recreated { topic: topic.clone(), bound, found });
    }
    Ok(())
}
