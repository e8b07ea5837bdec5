//! Decoding of records, by both decoders: the pipeline's and the ground truth's.

mod allocations;
mod cases;
mod cost;
mod equal;

use std::collections::BTreeMap;

use exactlyonce::decode::{DECODER_VERSION, Decoder};
use exactlyonce::event::{Record, Row};
use exactlyonce::store::{Binding, BoundConsistency, Layout, SCHEMA_VERSION};
use exactlyonce::truth;
use exactlyonce::window::WindowSpec;

#[global_allocator]
static ALLOCATOR: allocations::CountingAllocator = allocations::CountingAllocator;

fn binding(window: WindowSpec, max_mutation_bytes: usize) -> Binding {
    Binding {
        topic: "t".to_owned(),
        topic_id: "id".to_owned(),
        window,
        max_mutation_bytes: max_mutation_bytes as i64,
        decoder_version: DECODER_VERSION,
        layout: Layout::ORIGINAL,
        schema_version: SCHEMA_VERSION,
        consistency: BoundConsistency::Single,
        origins: BTreeMap::new(),
    }
}

fn default_binding() -> Binding {
    binding(WindowSpec::default(), 1 << 20)
}

fn record(value: impl Into<Vec<u8>>) -> Record {
    Record { partition: 1, offset: 2, timestamp: 3, key: Some(b"key".to_vec()), value: Some(value.into()) }
}

/// The row of the pipeline and that of the ground truth.
fn rows(record: &Record, binding: &Binding) -> (Row, Row) {
    let decoder = Decoder { window: binding.window, max_mutation_bytes: binding.max_mutation_bytes as usize };
    (decoder.row(record.clone()), truth::row(record, binding))
}

/// The row on which both decoders agree.
fn row(record: &Record, binding: &Binding) -> Row {
    let (row, truth) = rows(record, binding);
    assert_eq!(row, truth, "pipeline (left) and truth (right) of {record:?}");
    row
}
