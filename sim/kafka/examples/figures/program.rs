//! The program: how long it takes to start, and its memory.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use proto_kafka::messages::ApiVersionsRequest;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Result;
use crate::client::{Client, RECORDS, produce, text};

/// The time of the program's clocks, in milliseconds.
pub fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?)
}

pub struct Program {
    process: Child,
    address: String,
}

impl Program {
    /// Starts it with a number of brokers.
    pub async fn start(brokers: u8) -> Result<Program> {
        let examples = std::env::current_exe()?;
        let folder = examples.parent().and_then(|folder| folder.parent()).ok_or("no folder")?;
        let program: PathBuf = folder.join("simulated-kafka");
        let mut process = Command::new(&program)
            .args(["--port", "0", "--log", "off", "--brokers", &brokers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}; build it first", program.display()))?;
        let output = process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Program { process, address })
    }

    pub async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The resident memory, in bytes.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().ok_or("ended")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    pub async fn end(mut self) -> Result<()> {
        if let Some(mut input) = self.process.stdin.take() {
            input.write_all(b"exit\n").await?;
        }
        self.process.wait().await?;
        Ok(())
    }
}

/// From the start of the process to the first response.
pub async fn start() -> Result<()> {
    for brokers in [1, 3] {
        let mut took = Vec::new();
        for _ in 0..7 {
            let start = Instant::now();
            let program = Program::start(brokers).await?;
            let versions = ApiVersionsRequest::default()
                .with_client_software_name(text("figures"))
                .with_client_software_version(text("1"));
            Client(program.connect().await?).ask(&versions, 3).await?;
            took.push(start.elapsed().as_millis());
            program.end().await?;
        }
        took.sort_unstable();
        println!(
            "{brokers} brokers, from start to first response: median {} ms of {took:?}",
            took[took.len() / 2]
        );
    }
    Ok(())
}

const MIB: f64 = (1 << 20) as f64;

/// The memory without records, and with them.
pub async fn memory() -> Result<()> {
    for brokers in [1, 3] {
        let program = Program::start(brokers).await?;
        println!("{brokers} brokers without topics: {:.1} MiB", program.resident()? as f64 / MIB);
        program.end().await?;
    }
    let program = Program::start(1).await?;
    let mut client = Client(program.connect().await?);
    client.create("kept", &[]).await?;
    let bounded = [("retention.bytes", "10485760"), ("segment.bytes", "1048576")];
    client.create("bounded", &bounded).await?;
    for topic in ["kept", "bounded"] {
        let mut last = program.resident()?;
        for _ in 0..3 {
            let request = produce(topic, 1, now()?)?;
            for _ in 0..5_000 {
                client.exchange(&request).await?;
            }
            // Retention is looked at every second.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let resident = program.resident()?;
            let each = (resident as f64 - last as f64) / (5_000 * RECORDS) as f64;
            println!(
                "topic {topic}, 500,000 records more: {:.1} MiB, {each:.1} bytes a record more",
                resident as f64 / MIB
            );
            last = resident;
        }
    }
    program.end().await
}
