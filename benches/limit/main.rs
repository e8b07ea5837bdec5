//! The whole pipeline on real Kafka and Cassandra, measured against a bare loop without any guarantee.
//!
//! Start the services first, for example with `docker/local/cluster up`; `docker/local/cluster env` provides their
//! addresses. Each measured run is a separate process.
//!
//! - `cargo bench --bench limit -- ratio`: the bare loop and the pipeline alternately on the same topic: records per
//!   second, CPU seconds of the process per million records, peak memory, requests by kind, and the ratios.
//! - `cargo bench --bench limit -- sources`: the same with 1, 50, 2,000 and 100,000 sources, and with windows of 60 s
//!   that start every second.
//! - `cargo bench --bench limit -- scale`: the pipeline on 1, 3, 12 and 48 partitions with 1 and 3 workers, and on 48
//!   partitions of which 3 have records: records per second and requests by kind.
//! - `cargo bench --bench limit -- sweep`: the bare loop with several batch sizes and numbers of requests in flight, to
//!   find its best.
//! - `cargo bench --bench limit -- restart`: the run time of a worker with nothing to do, with few and with many stored
//!   rows.
//!
//! Arguments `name=value` change what is measured: `records`, `sources`, `partitions`, `active` (partitions that have
//! records), `size` and `slide` (of the windows, in milliseconds), `block` (windows) and `shards` (of the counts),
//! `rounds`, and of the pipeline's options `write` (records), `cache`, `prefetch` and `queue` (bytes). See [`Load`].

mod bare;
#[path = "../../tests/common/cluster.rs"]
mod cluster;
mod load;
mod run;
mod services;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use load::Load;
use serde::{Deserialize, Serialize};
use services::Services;

/// The program's allocator, for the bare loop, too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 30] = b"narenas:4,dirty_decay_ms:1000\0";

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The bare loop's best, found with `sweep`.
const BATCH_ROWS: usize = 400;
const IN_FLIGHT: usize = 32;

/// What a measured process reports.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    records: u64,
    /// When the first record was delivered and the last write acknowledged, in seconds since the epoch.
    first: f64,
    last: f64,
    /// User and system time of the whole process.
    cpu_seconds: f64,
    /// Peak resident memory, in KiB.
    memory_kib: u64,
    /// Requests to Cassandra, by kind.
    requests: BTreeMap<String, u64>,
}

impl Measured {
    fn of_this_process(records: u64, first: Option<SystemTime>, last: Option<SystemTime>) -> Outcome<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let memory_kib = memory.and_then(|m| m.split_whitespace().next()).ok_or("no VmHWM")?.parse()?;
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may contain spaces. Ticks are hundredths of a second on Linux.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks =
            |index: usize| fields.get(index).ok_or("short stat")?.parse::<f64>().map_err(|e| e.to_string());
        let seconds = |time: Option<SystemTime>| -> Outcome<f64> {
            Ok(time.unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH)?.as_secs_f64())
        };
        Ok(Self {
            records,
            first: seconds(first)?,
            last: seconds(last)?,
            cpu_seconds: (ticks(11)? + ticks(12)?) / 100.0,
            memory_kib,
            requests: BTreeMap::new(),
        })
    }

    /// The total of workers that shared the work.
    fn together(workers: Vec<Self>) -> Self {
        let busy = || workers.iter().filter(|worker| worker.records > 0);
        let mut requests = BTreeMap::new();
        for (kind, number) in workers.iter().flat_map(|worker| &worker.requests) {
            *requests.entry(kind.clone()).or_default() += number;
        }
        Self {
            records: workers.iter().map(|worker| worker.records).sum(),
            first: busy().map(|worker| worker.first).fold(f64::INFINITY, f64::min),
            last: busy().map(|worker| worker.last).fold(0.0, f64::max),
            cpu_seconds: workers.iter().map(|worker| worker.cpu_seconds).sum(),
            memory_kib: workers.iter().map(|worker| worker.memory_kib).max().unwrap_or(0),
            requests,
        }
    }

    fn per_second(&self) -> f64 {
        self.records as f64 / (self.last - self.first)
    }

    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<28} {:>9.0} records/s  {:>6.2} CPU s per million  {:>4} MiB",
            self.per_second(),
            self.cpu_per_million(),
            self.memory_kib / 1024
        );
    }

    /// Requests per million records.
    fn print_requests(&self) {
        let million = |number: u64| number as f64 * 1e6 / self.records as f64;
        let requests = self.requests.iter().filter(|(_, number)| **number > 0);
        let requests: Vec<String> =
            requests.map(|(kind, number)| format!("{kind} {:.0}", million(*number))).collect();
        println!("    requests per million records: {}", requests.join(", "));
    }
}

fn main() -> Outcome {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let (what, rest) = match arguments.split_first() {
        Some((what, rest)) => (what.as_str(), rest),
        None => ("ratio", &arguments[..]),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let services = Services::find()?;
    match what {
        "ratio" => runtime.block_on(async { ratio(&services, &Load::parse(rest)?).await.map(drop) }),
        "sources" => runtime.block_on(sources(&services, &Load::parse(rest)?)),
        "scale" => runtime.block_on(scale(&services, &Load::parse(rest)?)),
        "sweep" => runtime.block_on(sweep(&services, &Load::parse(rest)?)),
        "restart" => runtime.block_on(restart(&services, &Load::parse(rest)?)),
        // The processes that the measurements start.
        "bare" => {
            let (numbers, load) = rest.split_at_checked(3).ok_or("an argument is missing")?;
            let measured = async {
                let (rows, in_flight) = (numbers[1].parse()?, numbers[2].parse()?);
                bare::measure(&services, &Load::parse(load)?, &numbers[0], rows, in_flight).await
            };
            report(runtime.block_on(measured)?)
        }
        "pipeline" => {
            let (keyspace, load) = rest.split_first().ok_or("an argument is missing")?;
            let measured = async { run::measure(&services, &Load::parse(load)?, keyspace).await };
            report(runtime.block_on(measured)?)
        }
        other => Err(format!("no such measurement: {other}").into()),
    }
}

fn report(measured: Measured) -> Outcome {
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Runs `workers` processes of this program concurrently, with these arguments and those of the load.
fn children(workers: usize, arguments: &[&str], load: &Load) -> Outcome<Measured> {
    let mut children = Vec::new();
    for _ in 0..workers {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).args(load.to_string().split(' '));
        children.push(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?);
    }
    let mut measured = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        match stdout.lines().last() {
            Some(line) if output.status.success() => measured.push(serde_json::from_str(line)?),
            _ => return Err(format!("{arguments:?} ended with {}: {stdout}", output.status).into()),
        }
    }
    Ok(Measured::together(measured))
}

fn bare(keyspace: &str, rows: usize, in_flight: usize, load: &Load) -> Outcome<Measured> {
    children(1, &["bare", keyspace, &rows.to_string(), &in_flight.to_string()], load)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The ratios of records per second and of CPU seconds, and the pipeline's peak memory in MiB.
async fn ratio(services: &Services, load: &Load) -> Outcome<(f64, f64, u64)> {
    services.topic(load).await?;
    let (mut speed, mut cpu, mut memory) = (Vec::new(), Vec::new(), 0);
    println!("{load}; the bare loop writes {BATCH_ROWS} rows a batch, {IN_FLIGHT} batches in flight");
    // The first round warms up the services and is not counted.
    for round in 0..=load.rounds {
        let bare = {
            let keyspace = services.keyspace(&format!("limit_bare_{round}"), load.layout()).await?;
            let measured = bare(&keyspace, BATCH_ROWS, IN_FLIGHT, load)?;
            services.drop_keyspace(&keyspace).await?;
            measured
        };
        let pipeline = {
            let keyspace = services.bound(&format!("limit_run_{round}"), load).await?;
            let measured = children(1, &["pipeline", &keyspace], load)?;
            services.drop_keyspace(&keyspace).await?;
            measured
        };
        bare.print(&format!("round {round}: bare loop"));
        pipeline.print(&format!("round {round}: pipeline"));
        pipeline.print_requests();
        for measured in [&bare, &pipeline] {
            if measured.records != load.records {
                return Err(format!("{} of {} records", measured.records, load.records).into());
            }
        }
        if round > 0 {
            speed.push(pipeline.per_second() / bare.per_second());
            cpu.push(pipeline.cpu_per_million() / bare.cpu_per_million());
            memory = memory.max(pipeline.memory_kib / 1024);
        }
    }
    let (speed, cpu) = (median(speed), median(cpu));
    println!("median ratio of records/s {speed:.2}, of CPU seconds {cpu:.2}; peak memory {memory} MiB");
    Ok((speed, cpu, memory))
}

async fn sources(services: &Services, load: &Load) -> Outcome {
    let of = |sources| Load { sources, ..load.clone() };
    let hopping = Load { records: load.records / 10, size_ms: 60_000, slide_ms: 1_000, ..load.clone() };
    let mut lines = Vec::new();
    for load in [of(1), of(50), of(2_000), of(100_000), hopping] {
        let (speed, cpu, memory) = ratio(services, &load).await?;
        let Load { sources, size_ms, slide_ms, .. } = load;
        lines.push(format!("| {sources} | {size_ms} / {slide_ms} | {speed:.2} | {cpu:.2} | {memory} |"));
    }
    println!(
        "| sources | windows, ms | records/s | CPU | MiB |\n|---|---|---|---|---|\n{}",
        lines.join("\n")
    );
    Ok(())
}

async fn scale(services: &Services, load: &Load) -> Outcome {
    for (partitions, active) in [(1, 1), (3, 3), (12, 12), (48, 48), (48, 3)] {
        let load = Load { partitions, active, ..load.clone() };
        services.topic(&load).await?;
        for workers in [1, 3] {
            let mut rounds = Vec::new();
            for _ in 0..load.rounds {
                let keyspace = services.bound("limit_scale", &load).await?;
                rounds.push(children(workers, &["pipeline", &keyspace], &load)?);
                services.drop_keyspace(&keyspace).await?;
            }
            rounds.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
            let measured = rounds.swap_remove(rounds.len() / 2);
            measured.print(&format!("{active} of {partitions} partitions, {workers} workers"));
            measured.print_requests();
        }
    }
    Ok(())
}

async fn sweep(services: &Services, load: &Load) -> Outcome {
    services.topic(load).await?;
    for rows in [50, 100, 200, 400, 1_000] {
        for in_flight in [4, 8, 16, 32] {
            let keyspace = services.keyspace("limit_sweep", load.layout()).await?;
            let measured = bare(&keyspace, rows, in_flight, load)?;
            services.drop_keyspace(&keyspace).await?;
            measured.print(&format!("{rows} rows, {in_flight} in flight"));
        }
    }
    Ok(())
}

async fn restart(services: &Services, load: &Load) -> Outcome {
    let mut medians = Vec::new();
    for records in [1_000, load.records] {
        let load = Load { records, ..load.clone() };
        services.topic(&load).await?;
        let keyspace = services.bound("limit_restart", &load).await?;
        children(1, &["pipeline", &keyspace], &load)?;
        let mut times = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            children(1, &["pipeline", &keyspace], &load)?;
            times.push(start.elapsed().as_secs_f64());
        }
        services.drop_keyspace(&keyspace).await?;
        medians.push(median(times));
        println!("{records:>9} stored rows: median {:.3} s", medians[medians.len() - 1]);
    }
    println!("ratio {:.2}", medians[1] / medians[0]);
    Ok(())
}
