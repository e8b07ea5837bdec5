//! Benchmark of the whole pipeline on real Kafka and Cassandra, relative to a bare loop without any guarantee.
//!
//! The services must be running, for example by `docker/local/cluster up`; their addresses are those of
//! `docker/local/cluster env`. Each measured run is a separate process.
//!
//! - `cargo bench --bench limit -- ratio [RECORDS] [ROUNDS]`: the bare loop and the pipeline alternately on the same
//!   topic (3 partitions, 50 sources, 30 % Critical): records per second, CPU seconds of the process per
//!   million records, peak RSS, and the ratios.
//! - `cargo bench --bench limit -- sweep [RECORDS]`: the bare loop with several batch sizes and numbers of
//!   requests in flight, to find its best.
//! - `cargo bench --bench limit -- restart [RECORDS]`: the run time of a worker with nothing to do, with few
//!   and with many stored rows.

mod bare;
#[path = "../../tests/common/cluster.rs"]
mod cluster;
mod run;
mod services;

use std::error::Error;
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use services::Services;

/// The program's allocator, for the bare loop, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The bare loop's best, found with `sweep`.
const BATCH_ROWS: usize = 400;
const IN_FLIGHT: usize = 32;

/// The measurements that a measured process prints.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    records: u64,
    /// From the first delivered record to the last acknowledged write.
    seconds: f64,
    /// User and system time of the whole process.
    cpu_seconds: f64,
    /// Peak RSS in KiB.
    memory_kib: u64,
}

impl Measured {
    fn of_this_process(records: u64, seconds: f64) -> Outcome<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let memory_kib = memory.and_then(|m| m.split_whitespace().next()).ok_or("no VmHWM")?.parse()?;
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may hold blanks. Ticks are hundredths of a second on Linux.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks =
            |place: usize| fields.get(place).ok_or("short stat")?.parse::<f64>().map_err(|e| e.to_string());
        Ok(Self { records, seconds, cpu_seconds: (ticks(11)? + ticks(12)?) / 100.0, memory_kib })
    }

    fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<24} {:>9.0} records/s  {:>6.2} CPU s per million  {:>4} MiB",
            self.per_second(),
            self.cpu_per_million(),
            self.memory_kib / 1024
        );
    }
}

fn main() -> Outcome {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |place: usize, default: u64| {
        arguments.get(place).map_or(Ok(default), |text| text.replace('_', "").parse())
    };
    let text = |place: usize| arguments.get(place).cloned().ok_or("an argument is missing");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let services = Services::find()?;
    match arguments.first().map_or("ratio", String::as_str) {
        "ratio" => runtime.block_on(ratio(&services, number(1, 1_000_000)?, number(2, 5)?)),
        "sweep" => runtime.block_on(sweep(&services, number(1, 1_000_000)?)),
        "restart" => runtime.block_on(restart(&services, number(1, 1_000_000)?)),
        // What the measurements start.
        "bare" => {
            let (topic, keyspace) = (text(1)?, text(2)?);
            let (rows, in_flight) = (number(3, BATCH_ROWS as u64)?, number(4, IN_FLIGHT as u64)?);
            report(runtime.block_on(bare::measure(
                &services,
                &topic,
                &keyspace,
                rows as usize,
                in_flight as usize,
            ))?)
        }
        "pipeline" => report(runtime.block_on(run::measure(&services, &text(1)?, &text(2)?))?),
        other => Err(format!("no such measurement: {other}").into()),
    }
}

fn report(measured: Measured) -> Outcome {
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Runs this program again with these arguments.
fn child(arguments: &[&str]) -> Outcome<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().last() {
        Some(line) if output.status.success() => Ok(serde_json::from_str(line)?),
        _ => Err(format!("{arguments:?} ended with {}: {said}", output.status).into()),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn ratio(services: &Services, records: u64, rounds: u64) -> Outcome {
    let topic = services.topic(records).await?;
    let (mut speed, mut cpu) = (Vec::new(), Vec::new());
    println!(
        "{records} records; the bare loop writes {BATCH_ROWS} rows a batch, {IN_FLIGHT} batches in flight"
    );
    // The first round warms up the services and is not counted.
    for round in 0..=rounds {
        let bare = {
            let keyspace = services.keyspace(&format!("limit_bare_{round}")).await?;
            let measured = child(&["bare", &topic, &keyspace])?;
            services.drop_keyspace(&keyspace).await?;
            measured
        };
        let pipeline = {
            let keyspace = services.bound(&format!("limit_run_{round}"), &topic).await?;
            let measured = child(&["pipeline", &topic, &keyspace])?;
            services.drop_keyspace(&keyspace).await?;
            measured
        };
        bare.print(&format!("round {round}: bare loop"));
        pipeline.print(&format!("round {round}: pipeline"));
        for measured in [&bare, &pipeline] {
            if measured.records != records {
                return Err(format!("{} of {records} records", measured.records).into());
            }
        }
        if round > 0 {
            speed.push(pipeline.per_second() / bare.per_second());
            cpu.push(pipeline.cpu_per_million() / bare.cpu_per_million());
        }
    }
    println!("median ratio of records/s {:.2}, of CPU seconds {:.2}", median(speed), median(cpu));
    Ok(())
}

async fn sweep(services: &Services, records: u64) -> Outcome {
    let topic = services.topic(records).await?;
    for rows in [50, 100, 200, 400, 1_000] {
        for in_flight in [4, 8, 16, 32] {
            let keyspace = services.keyspace("limit_sweep").await?;
            let (rows, in_flight) = (rows.to_string(), in_flight.to_string());
            let measured = child(&["bare", &topic, &keyspace, &rows, &in_flight])?;
            services.drop_keyspace(&keyspace).await?;
            measured.print(&format!("{rows} rows, {in_flight} in flight"));
        }
    }
    Ok(())
}

async fn restart(services: &Services, many: u64) -> Outcome {
    let mut medians = Vec::new();
    for records in [1_000, many] {
        let topic = services.topic(records).await?;
        let keyspace = services.bound("limit_restart", &topic).await?;
        child(&["pipeline", &topic, &keyspace])?;
        let mut times = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            child(&["pipeline", &topic, &keyspace])?;
            times.push(start.elapsed().as_secs_f64());
        }
        services.drop_keyspace(&keyspace).await?;
        medians.push(median(times));
        println!("{records:>9} stored rows: median {:.3} s", medians[medians.len() - 1]);
    }
    println!("ratio {:.2}", medians[1] / medians[0]);
    Ok(())
}
