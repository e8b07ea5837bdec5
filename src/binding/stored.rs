//! The row of the table `pipeline` as it is stored: each parameter, or what is wrong with its column. So a damaged
//! column does not hide the others.
//!
//! A value is damaged if no version of this program writes it (`columns.rs`). A value that a different configuration or
//! version would write is not damaged; comparing bindings finds it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::{NonZeroI64, NonZeroU16};

use super::{Binding, BoundConsistency};
use crate::store::{CountLayout, Damaged, EventLayout, Layout, Stored};
use crate::window::{HealthSet, WindowSpec};

/// The row of `pipeline`: each parameter, or why its column has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// See [`Binding::topic`].
    pub topic: Stored<String>,
    /// See [`Binding::topic_id`].
    pub topic_id: Stored<String>,
    /// See [`WindowSpec::size_ms`].
    pub window_size_ms: Stored<i64>,
    /// See [`WindowSpec::slide_ms`].
    pub window_slide_ms: Stored<i64>,
    /// See [`WindowSpec::threshold`].
    pub threshold: Stored<i32>,
    /// See [`WindowSpec::health`].
    pub health: Stored<HealthSet>,
    /// See [`Binding::max_mutation_bytes`].
    pub max_mutation_bytes: Stored<i64>,
    /// See [`Binding::decoder_version`].
    pub decoder_version: Stored<i32>,
    /// See [`Layout::events`].
    pub layout: Stored<EventLayout>,
    /// See [`CountLayout::block_ms`].
    pub count_block_ms: Stored<NonZeroI64>,
    /// See [`CountLayout::shards`].
    pub count_shards: Stored<NonZeroU16>,
    /// See [`Binding::schema_version`].
    pub schema_version: Stored<i32>,
    /// Of the columns `consistency` and `datacenter`; see [`Binding::consistency`].
    pub consistency: Stored<BoundConsistency>,
    /// See [`Binding::origins`].
    pub origins: Stored<BTreeMap<i32, i64>>,
}

/// A damaged column of `pipeline`, and the value that replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// The column.
    pub damaged: Damaged,
    /// The value, as text.
    pub value: String,
}

impl StoredBinding {
    /// The binding, if every column can be read.
    ///
    /// # Errors
    /// The first column that cannot.
    pub fn undamaged(self) -> Stored<Binding> {
        Ok(Binding {
            topic: self.topic?,
            topic_id: self.topic_id?,
            window: WindowSpec {
                size_ms: self.window_size_ms?,
                slide_ms: self.window_slide_ms?,
                threshold: self.threshold?,
                health: self.health?,
            },
            max_mutation_bytes: self.max_mutation_bytes?,
            decoder_version: self.decoder_version?,
            layout: Layout {
                events: self.layout?,
                counts: CountLayout { block_ms: self.count_block_ms?, shards: self.count_shards? },
            },
            schema_version: self.schema_version?,
            consistency: self.consistency?,
            origins: self.origins?,
        })
    }

    /// The binding, with the values of another one in place of damaged columns, and the list of these.
    pub fn or(self, other: &Binding) -> (Binding, Vec<Assumed>) {
        let mut assumed = Vec::new();
        let WindowSpec { size_ms, slide_ms, threshold, health } = other.window;
        let CountLayout { block_ms, shards } = other.layout.counts;
        let mut fill = Fill { assumed: &mut assumed };
        let topic = fill.or(self.topic, other.topic.clone(), |topic| format!("{topic:?}"));
        let topic_id = fill.or(self.topic_id, other.topic_id.clone(), |id| format!("{id:?}"));
        let window = WindowSpec {
            size_ms: fill.shown(self.window_size_ms, size_ms),
            slide_ms: fill.shown(self.window_slide_ms, slide_ms),
            threshold: fill.shown(self.threshold, threshold),
            health: fill
                .or(self.health, health, |health| format!("{:?}", health.levels().collect::<Vec<_>>())),
        };
        let binding = Binding {
            topic,
            topic_id,
            window,
            max_mutation_bytes: fill.shown(self.max_mutation_bytes, other.max_mutation_bytes),
            decoder_version: fill.shown(self.decoder_version, other.decoder_version),
            layout: Layout {
                events: fill.or(self.layout, other.layout.events, EventLayout::to_string),
                counts: CountLayout {
                    block_ms: fill.shown(self.count_block_ms, block_ms),
                    shards: fill.shown(self.count_shards, shards),
                },
            },
            schema_version: fill.shown(self.schema_version, other.schema_version),
            consistency: fill.or(self.consistency, other.consistency.clone(), BoundConsistency::to_string),
            origins: fill.shown(self.origins, other.origins.clone()),
        };
        (binding, assumed)
    }
}

/// Replaces damaged columns, and records which.
struct Fill<'a> {
    assumed: &'a mut Vec<Assumed>,
}

impl Fill<'_> {
    fn or<T>(&mut self, stored: Stored<T>, other: T, show: impl FnOnce(&T) -> String) -> T {
        stored.unwrap_or_else(|damaged| {
            self.assumed.push(Assumed { damaged, value: show(&other) });
            other
        })
    }

    fn shown<T: Debug>(&mut self, stored: Stored<T>, other: T) -> T {
        self.or(stored, other, |value| format!("{value:?}"))
    }
}

impl From<Binding> for StoredBinding {
    fn from(binding: Binding) -> Self {
        let Binding { topic, topic_id, window, max_mutation_bytes, decoder_version, .. } = binding;
        let Binding { layout, schema_version, consistency, origins, .. } = binding;
        Self {
            topic: Ok(topic),
            topic_id: Ok(topic_id),
            window_size_ms: Ok(window.size_ms),
            window_slide_ms: Ok(window.slide_ms),
            threshold: Ok(window.threshold),
            health: Ok(window.health),
            max_mutation_bytes: Ok(max_mutation_bytes),
            decoder_version: Ok(decoder_version),
            layout: Ok(layout.events),
            count_block_ms: Ok(layout.counts.block_ms),
            count_shards: Ok(layout.counts.shards),
            schema_version: Ok(schema_version),
            consistency: Ok(consistency),
            origins: Ok(origins),
        }
    }
}
