//! The parts that work on a core: records per second of decoding alone, and of decoding with folding.
//!
//! `cargo bench --bench decode_and_fold`. One core, no I/O; the column `item/s` is records per second.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use exactlyonce::broker::NewRecord;
use exactlyonce::decode::Decoder;
use exactlyonce::event::{Record, Row};
use exactlyonce::generate::{Mixed, Original, Share};
use exactlyonce::window::WindowSpec;

/// Records of one round; a few batches of the pipeline.
const RECORDS: u64 = 20_000;

fn main() {
    divan::main();
}

/// Runs `work` over all records, again and again.
fn measure(bencher: Bencher<'_, '_>, records: Vec<Record>, work: impl Fn(Vec<Record>) + Sync) {
    let bytes: usize = records.iter().map(Record::len).sum();
    bencher
        .counter(ItemsCount::new(records.len()))
        .counter(BytesCount::new(bytes))
        .with_inputs(|| records.clone())
        .bench_local_values(work);
}

fn mixed(malformed: Share) -> Vec<Record> {
    let options = Mixed { records: RECORDS, malformed, ..Mixed::default() };
    records(options.records().expect("the options are good"))
}

fn records(made: impl Iterator<Item = NewRecord>) -> Vec<Record> {
    let record = |(offset, made): (usize, NewRecord)| Record {
        partition: 0,
        offset: offset as i64,
        timestamp: made.timestamp,
        key: made.key,
        value: made.value,
    };
    made.enumerate().map(record).collect()
}

mod decode {
    use super::*;

    fn all(records: Vec<Record>) {
        let decoder = Decoder { window: WindowSpec::default(), max_mutation_bytes: 1 << 20 };
        for record in records {
            divan::black_box::<Row>(decoder.row(record));
        }
    }

    /// Good events, as the original sends them.
    #[divan::bench]
    fn original(bencher: Bencher) {
        let original = Original { events_per_key: RECORDS / 3, delay: false, seed: 0 };
        measure(bencher, records(original.records(|| 1_464_739_200_000)), all);
    }

    /// Good events of many sources.
    #[divan::bench]
    fn mixed_without_malformed(bencher: Bencher) {
        measure(bencher, mixed(Share::NONE), all);
    }

    /// One record in a hundred takes the careful way and becomes a dead letter.
    #[divan::bench]
    fn mixed_with_1_percent_malformed(bencher: Bencher) {
        measure(bencher, mixed(Share::percent(1)), all);
    }
}

// The fold over the counts joins here, as `mod decode_and_fold`, on the same records.
