//! The CPU-bound parts: records per second of decoding alone, and of decoding and counting.
//!
//! `cargo bench --bench decode_and_fold`. One core, no I/O; the column `item/s` is records per second.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use exactlyonce::broker::NewRecord;
use exactlyonce::decode::Decoder;
use exactlyonce::event::{Record, Row};
use exactlyonce::generate::{Mixed, Original, Share};
use exactlyonce::pipeline::counts::{Counts, Touched};
use exactlyonce::window::WindowSpec;

/// Records per round; a few batches of the pipeline.
const RECORDS: u64 = 20_000;

fn main() {
    divan::main();
}

/// Runs `work` over all records repeatedly.
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
    records(options.records().expect("the options are valid"))
}

fn records(generated: impl Iterator<Item = NewRecord>) -> Vec<Record> {
    let record = |(offset, made): (usize, NewRecord)| Record {
        partition: 0,
        offset: offset as i64,
        timestamp: made.timestamp,
        key: made.key,
        value: made.value,
    };
    generated.enumerate().map(record).collect()
}

mod decode {
    use super::*;

    fn all(records: Vec<Record>) {
        let decoder = Decoder { window: WindowSpec::default(), max_mutation_bytes: 1 << 20 };
        for record in records {
            divan::black_box::<Row>(decoder.row(record));
        }
    }

    /// Valid events, as the original application sends them.
    #[divan::bench]
    fn original(bencher: Bencher) {
        let original = Original { events_per_key: RECORDS / 3, delay: false, seed: 0 };
        measure(bencher, records(original.records(|| 1_464_739_200_000)), all);
    }

    /// Valid events of many sources.
    #[divan::bench]
    fn mixed_without_malformed(bencher: Bencher) {
        measure(bencher, mixed(Share::NONE), all);
    }

    /// One record in a hundred is invalid: it takes the careful pass and becomes a dead letter.
    #[divan::bench]
    fn mixed_with_1_percent_malformed(bencher: Bencher) {
        measure(bencher, mixed(Share::percent(1)), all);
    }
}

mod decode_and_fold {
    use super::*;

    /// Counts into windows as the pipeline does, a batch at a time, with the counts in memory.
    fn all(records: Vec<Record>) {
        let window = WindowSpec::default();
        let decoder = Decoder { window, max_mutation_bytes: 1 << 20 };
        let mut counts = Counts::new(4 << 20, 1);
        let mut records = records.into_iter();
        for batch in 0.. {
            let mut touched = Touched::default();
            let mut rows = Vec::with_capacity(BATCH);
            for record in records.by_ref().take(BATCH) {
                let offset = record.offset;
                let row = decoder.row(record);
                if let Row::Event(event) = &row
                    && window.health.contains(event.health)
                    && let Some(ends) = window.ends(event.ts)
                {
                    counts.touch(batch, &mut touched, &event.source, ends, offset);
                }
                rows.push((offset, row));
            }
            if rows.is_empty() {
                break;
            }
            for place in touched.missing() {
                touched.set(place, None);
            }
            touched.add_all();
            counts.store(&touched);
            divan::black_box(touched.into_counts());
            counts.release(batch);
            divan::black_box(rows);
        }
    }

    /// Records of one batch.
    const BATCH: usize = 5_000;

    /// All Critical, one source.
    #[divan::bench]
    fn original(bencher: Bencher) {
        let original = Original { events_per_key: RECORDS / 3, delay: false, seed: 0 };
        measure(bencher, records(original.records(|| 1_464_739_200_000)), all);
    }

    /// Many sources, all levels of health.
    #[divan::bench]
    fn mixed_without_malformed(bencher: Bencher) {
        measure(bencher, mixed(Share::NONE), all);
    }
}
