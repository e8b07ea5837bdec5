//! What no client should send: it is refused as Kafka refuses it, nothing panics, and it takes little memory.

mod batches;
mod connections;
mod frames;
#[path = "../cluster/harness.rs"]
#[allow(dead_code)] // What others use.
mod harness;
mod memory;
#[allow(dead_code)] // What other tests use.
mod requests;

use harness::Testbed;
use tokio::runtime::Runtime;

/// A cluster in paused time, all of it in this thread, so that its memory can be measured.
struct Target {
    runtime: Runtime,
    bed: Testbed,
}

impl Target {
    /// A cluster with a topic `t` on all brokers.
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let bed = runtime.block_on(async {
            let bed = Testbed::start().await;
            bed.topic("t", &[1, 2, 3], &[]).await;
            bed
        });
        Self { runtime, bed }
    }

    /// Sends bytes to broker 1, and returns what it responds with until the connection ends, and the peak memory
    /// of that; none if nothing comes for a minute.
    fn send(&self, bytes: &[u8]) -> (Option<Vec<u8>>, usize) {
        memory::most_of(|| self.runtime.block_on(self.bed.send_bytes(1, bytes)))
    }

    /// Checks that the cluster still serves.
    fn still_serves(&self) {
        let produced = self.runtime.block_on(self.bed.produce("t", &["still there"], -1));
        assert!(produced.is_ok(), "{produced:?}");
    }
}
