//! Benchmark of the whole pipeline on the embedded services, as ratios.
//!
//! - `cargo bench --bench embedded -- ratio [RECORDS] [ROUNDS] [SOURCES]`: alternately a bare loop, which inserts the
//!   rows that the pipeline writes (decoded and counted beforehand) into the same SQLite tables with the same
//!   durability, and the pipeline, which reads the log, decodes, counts and inserts. The bare loop commits 5,000 rows
//!   per transaction, and in a second run 20,000, because the store commits concurrent requests together. Prints
//!   records per second and both ratios of each round.
//! - `cargo bench --bench embedded -- sources [RECORDS] [ROUNDS]`: the same with 1, 50, 2,000 and 100,000 sources.
//! - `cargo bench --bench embedded -- memory [RECORDS]`: the RSS of the worker's process, sampled while it
//!   processes a log.
//! - `cargo bench --bench embedded -- restart [RECORDS]`: the run time of a worker with nothing to do, with few
//!   and with many stored rows.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exactlyonce::binding::{self, BindingSpec, Origin};
use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::event::{Record, Row};
use exactlyonce::generate::Mixed;
use exactlyonce::pipeline::{self, Options};
use exactlyonce::sqlite;
use exactlyonce::store::cell::DeadLetterCells;
use exactlyonce::store::embedded::EmbeddedStore;
use exactlyonce::store::{Binding, Layout, Store};
use exactlyonce::truth::{self, Tables};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rusqlite::{Connection, params};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const TOPIC: &str = "exactlyonce.events";

/// Sources, where they are not what is measured.
const SOURCES: usize = 1_000;

/// Rows per transaction of the bare loop.
const ROWS_PER_TRANSACTION: [usize; 2] = [5_000, 20_000];

fn main() -> Outcome {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |place: usize, default: usize| {
        arguments.get(place).map_or(Ok(default), |text| text.replace('_', "").parse())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.first().map_or("ratio", String::as_str) {
        "ratio" => runtime.block_on(ratio(number(1, 500_000)?, number(2, 5)?, number(3, SOURCES)?)).map(drop),
        "sources" => runtime.block_on(sources(number(1, 500_000)?, number(2, 3)?)),
        "memory" => runtime.block_on(memory(number(1, 5_000_000)?)),
        "restart" => runtime.block_on(restart(number(1, 5_000_000)?)),
        other => Err(format!("no such measurement: {other}").into()),
    }
}

fn options() -> Options {
    Options { until_end: true, ..Options::new(BindingSpec::new(TOPIC)) }
}

/// A folder whose log has this many records of this many sources.
async fn log(folder: &Path, records: usize, sources: usize) -> Outcome<EmbeddedBroker> {
    let opened = sqlite::Options::default();
    EmbeddedBroker::create(folder, &opened)?;
    let broker = EmbeddedBroker::open(folder, &opened)?;
    broker.create_topic(TOPIC, 3, 1).await?;
    let sources = u32::try_from(sources)?;
    let mut made = Mixed { records: records as u64, sources, ..Mixed::default() }.records()?;
    loop {
        let chunk: Vec<NewRecord> = made.by_ref().take(20_000).collect();
        if chunk.is_empty() {
            return Ok(broker);
        }
        broker.append(TOPIC, chunk).await?;
    }
}

async fn records(broker: &EmbeddedBroker) -> Outcome<Vec<Record>> {
    let mut records = Vec::new();
    for partition in 0..3 {
        let mut offset = 0;
        loop {
            let fetched = broker.fetch(TOPIC, partition, offset, 10_000, 8 << 20).await?;
            if fetched.next_offset == offset {
                break;
            }
            offset = fetched.next_offset;
            records.extend(fetched.records);
        }
    }
    Ok(records)
}

async fn sources(count: usize, rounds: usize) -> Outcome {
    let mut lines = Vec::new();
    for sources in [1, 50, 2_000, 100_000] {
        let [small, large] = ratio(count, rounds, sources).await?;
        lines.push(format!("| {sources} | {small:.2} | {large:.2} |"));
    }
    let [small, large] = ROWS_PER_TRANSACTION;
    println!("| sources | {small} rows | {large} rows |\n|---|---|---|\n{}", lines.join("\n"));
    Ok(())
}

/// The median ratios to a bare loop with each of [`ROWS_PER_TRANSACTION`].
async fn ratio(count: usize, rounds: usize, sources: usize) -> Outcome<[f64; 2]> {
    let folder = tempfile::tempdir()?;
    let broker = log(folder.path(), count, sources).await?;
    let rows = {
        let records = records(&broker).await?;
        let binding = bind(&broker, folder.path(), "truth").await?.1;
        let decoder = exactlyonce::decode::Decoder {
            window: binding.window,
            max_mutation_bytes: binding.max_mutation_bytes as usize,
        };
        let tables = truth::tables(&records, &binding);
        let rows = records.into_iter().map(|record| {
            let (partition, offset) = (record.partition, record.offset);
            (partition, offset, decoder.row(record))
        });
        let rows: Vec<_> = rows.collect();
        let counts = counts(&rows, &binding);
        FinalRows { rows, counts, tables }
    };
    let [small, large] = ROWS_PER_TRANSACTION;
    println!(
        "{count} records of {sources} sources; transactions of {small} and {large} rows in the bare loop"
    );
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let bare = |of: usize| bare_loop(folder.path(), &format!("bare{of}_{round}"), of, &rows);
        let bare = [bare(small)?, bare(large)?];
        let (store, _) = bind(&broker, folder.path(), &format!("pipeline{round}")).await?;
        let start = Instant::now();
        let rng = ChaCha8Rng::seed_from_u64(round as u64);
        let summary = pipeline::run(&broker, &store, &options(), rng, std::future::pending()).await?;
        let pipeline = start.elapsed();
        assert_eq!(summary.records, count as u64);
        let per_second = |took: Duration| count as f64 / took.as_secs_f64();
        println!(
            "bare loop {:>9.0} and {:>9.0} records/s, pipeline {:>9.0} records/s, ratios {:.2} and {:.2}",
            per_second(bare[0]),
            per_second(bare[1]),
            per_second(pipeline),
            per_second(pipeline) / per_second(bare[0]),
            per_second(pipeline) / per_second(bare[1]),
        );
        for (ratios, bare) in ratios.iter_mut().zip(bare) {
            ratios.push(per_second(pipeline) / per_second(bare));
        }
    }
    let medians = ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    });
    println!("median ratios {:.2} and {:.2}", medians[0], medians[1]);
    Ok(medians)
}

async fn bind(broker: &EmbeddedBroker, folder: &Path, name: &str) -> Outcome<(EmbeddedStore, Binding)> {
    let (folder, opened) = (folder.join(name), sqlite::Options::default());
    EmbeddedStore::apply_schema(&folder, &opened, Layout::ORIGINAL)?;
    let store = EmbeddedStore::open(&folder, &opened, Layout::ORIGINAL)?;
    let bound = binding::init(broker, &store, &BindingSpec::new(TOPIC), &Origin::Start).await?;
    Ok((store, bound.binding))
}

/// The final rows that the pipeline writes.
struct FinalRows {
    rows: Vec<(i32, i64, Row)>,
    counts: Counts,
    tables: Tables,
}

/// By partition and offset of their last event: source, window end and count of the windows that end there.
type Counts = BTreeMap<(i32, i64), Vec<(String, i64, i64)>>;

/// The counts of each partition's windows.
fn counts(rows: &[(i32, i64, Row)], binding: &Binding) -> Counts {
    let mut windows: BTreeMap<(i32, String, i64), (i64, i64)> = BTreeMap::new();
    for (partition, offset, row) in rows {
        let Row::Event(event) = row else { continue };
        if binding.window.health.contains(event.health) {
            for end in truth::window_ends(event.ts, &binding.window).unwrap_or_default() {
                let (count, through) = windows.entry((*partition, event.source.clone(), end)).or_default();
                *count += 1;
                *through = *offset;
            }
        }
    }
    let mut counts = Counts::new();
    for ((partition, source, end), (count, through)) in windows {
        counts.entry((partition, through)).or_default().push((source, end, count));
    }
    counts
}

/// Only inserts rows, counts and alerts.
fn bare_loop(folder: &Path, name: &str, rows_per_transaction: usize, all: &FinalRows) -> Outcome<Duration> {
    let folder = folder.join(name);
    EmbeddedStore::apply_schema(&folder, &sqlite::Options::default(), Layout::ORIGINAL)?;
    let mut file = Connection::open(folder.join("store.sqlite"))?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    let start = Instant::now();
    for rows in all.rows.chunks(rows_per_transaction) {
        let transaction = file.transaction()?;
        {
            let mut event =
                transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            let mut letter = transaction
                .prepare_cached("INSERT INTO dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
            let mut counted =
                transaction.prepare_cached("INSERT INTO window_counts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for (partition, offset, row) in rows {
                for (source, end, count) in all.counts.get(&(*partition, *offset)).into_iter().flatten() {
                    counted.execute(params![partition, end, source, count, offset, offset + 1])?;
                }
                match row {
                    Row::Event(e) => event.execute(params![
                        partition,
                        offset,
                        e.id,
                        e.ts,
                        e.source,
                        e.client,
                        e.health.code()
                    ])?,
                    Row::DeadLetter(dead) => {
                        let cells = DeadLetterCells::from(dead.clone());
                        letter.execute(params![
                            partition,
                            offset,
                            cells.reason,
                            cells.timestamp,
                            cells.key,
                            cells.value,
                            cells.key_length,
                            cells.value_length,
                            cells.sha256
                        ])?
                    }
                };
            }
        }
        transaction.commit()?;
    }
    let transaction = file.transaction()?;
    {
        let mut alert = transaction.prepare_cached("INSERT INTO alerts VALUES (?1, ?2, ?3, ?3)")?;
        for (window, count) in &all.tables.alerts {
            alert.execute(params![&*window.source, window.end, count])?;
        }
    }
    transaction.commit()?;
    Ok(start.elapsed())
}

/// The worker in a separate process.
fn worker(folder: &Path) -> Outcome<Child> {
    let child = Command::new(env!("CARGO_BIN_EXE_exactlyonce"))
        .args(["run", "--until-end", "--set", "log.level=warn", "--data"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// RSS of a process in KiB; `None` when it has ended.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

async fn memory(count: usize) -> Outcome {
    let folder = tempfile::tempdir()?;
    let broker = log(folder.path(), count, SOURCES).await?;
    let (store, _) = bind(&broker, folder.path(), ".").await?;
    let start = Instant::now();
    let mut child = worker(folder.path())?;
    let (mut reported, mut most) = (0, 0);
    while child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(50));
        most = most.max(resident(child.id()).unwrap_or(0));
        let all = store.progress_of_all().await.into_result()?;
        let done: i64 = all.values().map(|progress| progress.next_offset).sum();
        let tenth = done as usize * 10 / count.max(1);
        if tenth > reported {
            reported = tenth;
            let now = resident(child.id()).unwrap_or(0) / 1024;
            println!("{:>3} %  {done:>9} records  {now:>4} MiB", tenth * 10);
        }
    }
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    println!("peak: {} MiB; {per_second:.0} records/s, start-up included", most / 1024);
    Ok(())
}

async fn restart(many: usize) -> Outcome {
    let few = 5_000;
    let mut medians = Vec::new();
    for count in [few, many] {
        let folder = tempfile::tempdir()?;
        let broker = log(folder.path(), count, SOURCES).await?;
        drop(bind(&broker, folder.path(), ".").await?);
        worker(folder.path())?.wait()?;
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..11 {
            let start = Instant::now();
            worker(folder.path())?.wait()?;
            times.push(start.elapsed());
        }
        times.sort();
        println!("{count:>9} stored rows: median {:?}, maximum {:?}", times[5], times[10]);
        medians.push(times[5]);
    }
    println!("ratio {:.2}", medians[1].as_secs_f64() / medians[0].as_secs_f64());
    Ok(())
}
