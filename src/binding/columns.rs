//! The columns of the table `pipeline` as the stores read them, and the detection of values that this program never
//! writes.

use std::collections::BTreeMap;
use std::num::{NonZeroI64, NonZeroU16};

use super::{BoundConsistency, StoredBinding};
use crate::store::{EventLayout, Flaw, RowKey, Stored};
use crate::window::{HealthSet, WindowError, WindowSpec};

/// A stored column: its value, or what is wrong with it.
pub(crate) type Column<T> = Result<T, Flaw>;

/// The columns of `pipeline` as a store reads them.
#[derive(Debug)]
pub(crate) struct Columns {
    pub topic: Column<String>,
    pub topic_id: Column<String>,
    pub window_size_ms: Column<i64>,
    pub window_slide_ms: Column<i64>,
    pub threshold: Column<i32>,
    pub health: Column<HealthSet>,
    pub max_mutation_bytes: Column<i64>,
    pub decoder_version: Column<i32>,
    pub layout: Column<EventLayout>,
    pub count_block_ms: Column<i64>,
    pub count_shards: Column<i32>,
    pub schema_version: Column<i32>,
    pub consistency: Column<String>,
    pub datacenter: Column<String>,
    pub origins: Column<BTreeMap<i32, i64>>,
}

impl From<Columns> for StoredBinding {
    fn from(columns: Columns) -> Self {
        let (window_size_ms, window_slide_ms) = window(columns.window_size_ms, columns.window_slide_ms);
        let threshold = columns.threshold.and_then(|threshold| match threshold {
            1.. => Ok(threshold),
            _ => Err(Flaw::new("threshold", WindowError::Threshold(threshold).to_string())),
        });
        let health = columns.health.and_then(|health| match health.levels().next() {
            Some(_) => Ok(health),
            None => Err(Flaw::new("health", WindowError::NoHealth.to_string())),
        });
        let max_mutation_bytes = columns.max_mutation_bytes.and_then(|bytes| match bytes {
            0.. => Ok(bytes),
            _ => Err(out_of_range("max_mutation_bytes", bytes)),
        });
        let count_block_ms = columns.count_block_ms.and_then(|ms| {
            let positive = NonZeroI64::new(ms).filter(|ms| ms.get() > 0);
            positive.ok_or_else(|| out_of_range("count_block_ms", ms))
        });
        let count_shards = columns.count_shards.and_then(|shards| {
            let few = u16::try_from(shards).ok().and_then(NonZeroU16::new);
            few.ok_or_else(|| out_of_range("count_shards", shards.into()))
        });
        let consistency = columns.consistency.and_then(|consistency| {
            let datacenter = columns.datacenter?;
            BoundConsistency::from_columns(&consistency, &datacenter)
                .map_err(|error| Flaw::new("consistency", error.to_string()))
        });
        let origins = columns.origins.and_then(|origins| {
            match origins.iter().find(|(partition, origin)| **partition < 0 || **origin < 0) {
                None => Ok(origins),
                Some((partition, origin)) => {
                    Err(Flaw::new("origins", format!("{partition}: {origin} is out of range")))
                }
            }
        });
        Self {
            topic: stored(columns.topic),
            topic_id: stored(columns.topic_id),
            window_size_ms: stored(window_size_ms),
            window_slide_ms: stored(window_slide_ms),
            threshold: stored(threshold),
            health: stored(health),
            max_mutation_bytes: stored(max_mutation_bytes),
            decoder_version: stored(columns.decoder_version),
            layout: stored(columns.layout),
            count_block_ms: stored(count_block_ms),
            count_shards: stored(count_shards),
            schema_version: stored(columns.schema_version),
            consistency: stored(consistency),
            origins: stored(origins),
        }
    }
}

fn stored<T>(column: Column<T>) -> Stored<T> {
    column.map_err(|flaw| flaw.of("pipeline", RowKey::Only {}))
}

fn out_of_range(column: &'static str, value: i64) -> Flaw {
    Flaw::new(column, format!("{value} is out of range"))
}

/// Size and slide of the windows; a slide that is invalid for the size is damaged.
fn window(size: Column<i64>, slide: Column<i64>) -> (Column<i64>, Column<i64>) {
    let size = size.and_then(|size| match size {
        1.. => Ok(size),
        _ => Err(Flaw::new("window_size_ms", WindowError::Size(size).to_string())),
    });
    let slide = slide.and_then(|slide| {
        let size_ms = *size.as_ref().unwrap_or(&i64::MAX);
        let spec = WindowSpec { size_ms, slide_ms: slide, ..WindowSpec::default() };
        match spec.check() {
            Err(WindowError::TooMany { .. }) if size.is_err() => Ok(slide),
            Err(error) => Err(Flaw::new("window_slide_ms", error.to_string())),
            Ok(()) => Ok(slide),
        }
    });
    (size, slide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;

    fn columns() -> Columns {
        Columns {
            topic: Ok("t".to_owned()),
            topic_id: Ok("id".to_owned()),
            window_size_ms: Ok(5_000),
            window_slide_ms: Ok(1_000),
            threshold: Ok(7),
            health: Ok(WindowSpec::default().health),
            max_mutation_bytes: Ok(100),
            decoder_version: Ok(1),
            layout: Ok(EventLayout::Original),
            count_block_ms: Ok(60_000),
            count_shards: Ok(16),
            schema_version: Ok(2),
            consistency: Ok("local_quorum".to_owned()),
            datacenter: Ok("oslo".to_owned()),
            origins: Ok([(0, 5)].into()),
        }
    }

    fn other() -> Binding {
        let binding = StoredBinding::from(columns()).undamaged().unwrap();
        let window = WindowSpec { threshold: 8, ..binding.window };
        Binding { topic_id: "other".to_owned(), window, origins: [(0, 9)].into(), ..binding }
    }

    #[test]
    fn intact_columns_are_the_binding_and_nothing_is_assumed() {
        let stored = StoredBinding::from(columns());
        let binding = stored.clone().undamaged().unwrap();
        assert_eq!((binding.topic_id.as_str(), binding.window.threshold), ("id", 7));
        assert_eq!(binding.consistency.to_string(), "local_quorum:oslo");
        assert_eq!(stored.clone().or(&other()), (binding.clone(), Vec::new()));
        assert_eq!(StoredBinding::from(binding), stored);
    }

    #[test]
    fn a_damaged_column_is_reported_and_the_others_are_kept() {
        let stored = StoredBinding::from(Columns {
            threshold: Err(Flaw::null("threshold")),
            origins: Err(Flaw::null("origins")),
            ..columns()
        });
        let damaged = stored.clone().undamaged().unwrap_err();
        assert_eq!(damaged.to_string(), "pipeline: column threshold: null");
        let (binding, assumed) = stored.or(&other());
        assert_eq!((binding.topic_id.as_str(), binding.window.threshold, binding.origin(0)), ("id", 8, 9));
        let assumed: Vec<_> = assumed.into_iter().map(|one| (one.damaged.column, one.value)).collect();
        assert_eq!(assumed, [("threshold", "8".to_owned()), ("origins", "{0: 9}".to_owned())]);
    }

    #[test]
    fn a_value_that_is_never_written_is_damage() {
        type Change = fn(&mut Columns);
        let cases: [(Change, &str); 15] = [
            (|c| c.threshold = Ok(0), "threshold: alert threshold is 0, it must be at least 1"),
            (|c| c.window_size_ms = Ok(-1), "window_size_ms: window size is -1 ms, it must be at least 1"),
            (
                |c| c.window_slide_ms = Ok(6_000),
                "window_slide_ms: window slide is 6000 ms, it must be 1 to the size of 5000 ms",
            ),
            (
                |c| c.window_slide_ms = Ok(4),
                "window_slide_ms: window size 5000 ms over slide 4 ms puts an event into more than 1000 windows",
            ),
            (|c| c.health = Ok(HealthSet::of(&[])), "health: no health level counts towards an alert"),
            (|c| c.max_mutation_bytes = Ok(-1), "max_mutation_bytes: -1 is out of range"),
            (|c| c.count_block_ms = Ok(0), "count_block_ms: 0 is out of range"),
            (|c| c.count_block_ms = Ok(-5), "count_block_ms: -5 is out of range"),
            (|c| c.count_shards = Ok(0), "count_shards: 0 is out of range"),
            (|c| c.count_shards = Ok(65_536), "count_shards: 65536 is out of range"),
            (|c| c.datacenter = Err(Flaw::null("datacenter")), "datacenter: null"),
            (|c| c.consistency = Err(Flaw::null("consistency")), "consistency: null"),
            (
                |c| c.datacenter = Ok(String::new()),
                "consistency: \"local_quorum:\" is not a consistency: it must be quorum, or local_quorum:DATACENTER",
            ),
            (|c| c.origins = Ok([(0, 5), (1, -1)].into()), "origins: 1: -1 is out of range"),
            (|c| c.origins = Ok([(-1, 0)].into()), "origins: -1: 0 is out of range"),
        ];
        for (change, expected) in cases {
            let mut changed = columns();
            change(&mut changed);
            let damaged = StoredBinding::from(changed).undamaged().unwrap_err();
            assert_eq!(damaged.to_string(), format!("pipeline: column {expected}"));
        }
    }

    #[test]
    fn a_slide_is_not_checked_against_a_size_that_cannot_be_read() {
        let stored =
            StoredBinding::from(Columns { window_size_ms: Err(Flaw::null("window_size_ms")), ..columns() });
        assert_eq!(stored.window_slide_ms, Ok(1_000));
        assert!(stored.window_size_ms.is_err());
    }
}
