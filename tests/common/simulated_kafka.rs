//! Simulated Kafka: brokers of `sim/kafka` in this process, on loopback addresses, with the configuration of the real
//! ones of `docker/local/cluster`.

// Not every program uses all of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use simulated_kafka::cluster::{Options, PropertyError};
use simulated_kafka::serve::{LocalBrokers, LocalError, LocalOptions};
use tokio::runtime::Runtime;

/// The configuration of a real broker.
const PROPERTIES: &str = include_str!("../../docker/local/kafka/server.properties");

/// How long the start may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Three brokers, which end with this value.
pub struct SimulatedBrokers {
    brokers: Arc<LocalBrokers>,
    /// Where they run, so that a test may block its own threads.
    runtime: Runtime,
}

impl SimulatedBrokers {
    /// Starts them. Blocks the thread, which must not be one of a runtime.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// The same for a test, whose thread is one of a runtime.
    pub fn start_in_test() -> Self {
        let started = std::thread::spawn(Self::start).join().expect("the start ends");
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Their addresses, as the property `bootstrap.servers` has them.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    /// Starts them with some settings that differ from the real brokers'.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for brokers: {error}"))?;
        let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros());
        let options = LocalOptions { port: 0, ..LocalOptions::new(i64::try_from(clock).unwrap_or(i64::MAX)) };
        let mut configured = Ok(());
        let starting = LocalBrokers::start(options, |options| configured = configure(options, settings));
        let started = runtime.block_on(async { tokio::time::timeout(START_TIMEOUT, starting).await });
        let brokers = started.map_err(|_| format!("the brokers did not start within {START_TIMEOUT:?}"))?;
        let brokers = Arc::new(brokers.map_err(|error| error.to_string())?);
        configured?;
        Ok(Self { brokers, runtime })
    }

    /// Does something with the brokers where they run.
    pub async fn command<F>(&self, command: impl FnOnce(Arc<LocalBrokers>) -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), LocalError>> + Send + 'static,
    {
        let done = self.runtime.spawn(command(self.brokers.clone())).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Does something with the brokers where they run, within this time. Blocks the thread, which must not be one of a
    /// runtime.
    pub fn wait<F>(
        &self,
        longest: Duration,
        command: impl FnOnce(Arc<LocalBrokers>) -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), LocalError>> + Send + 'static,
    {
        let done = async { tokio::time::timeout(longest, self.command(command)).await };
        self.runtime.block_on(done).map_err(|_| format!("not done after {longest:?}"))?
    }

    /// The brokers, for what needs no runtime.
    pub fn brokers(&self) -> &LocalBrokers {
        &self.brokers
    }

    /// Where each broker listens, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (1..=self.brokers.count()).map(|broker| self.brokers.address(broker)).collect()
    }
}

/// Sets what a real broker is configured with, as far as there is such a setting: the others are its addresses, folders and
/// threads, and of what is not simulated. Then sets `others`.
fn configure(options: &mut Options, others: &[(&str, &str)]) -> Result<(), String> {
    let settings = PROPERTIES.lines().filter(|line| !line.starts_with('#'));
    for (name, value) in settings.filter_map(|line| line.split_once('=')) {
        // As `docker/local/cluster up --kafka 3` fills the template.
        let value = match value {
            "@replicas@" => "3",
            "@min_isr@" => "2",
            value => value,
        };
        if name == "broker.rack" {
            for broker in &mut options.brokers {
                broker.rack = Some(value.replace("@id@", &broker.id.to_string()));
            }
            continue;
        }
        match options.set(name, value) {
            Ok(()) | Err(PropertyError::Unknown(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    others.iter().try_for_each(|(name, value)| options.set(name, value)).map_err(|error| error.to_string())
}
