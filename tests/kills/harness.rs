//! A folder with the embedded services, and workers that are killed.

use std::ops::Deref;
use std::time::Duration;

use exactlyonce::broker::Broker;
use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::sqlite::Options;
use exactlyonce::store::embedded::EmbeddedStore;
use exactlyonce::store::{Layout, Store};
use tokio::runtime::Runtime;

use crate::program::{Process, WorkFolder};
use crate::random::Random;

/// The exit code of a killed process.
pub const KILLED: i32 = 128 + 9;

const TOPIC: &str = "exactlyonce.events";
const PARTITIONS: i32 = 3;

/// Interval between two reads of progress.
const READ_INTERVAL: Duration = Duration::from_millis(2);

/// When a worker is killed.
#[derive(Clone, Copy, Debug)]
pub enum KillTime {
    /// This long after its start.
    AfterStart(Duration),
    /// This long after it has stored this many records.
    AfterRecords(u64, Duration),
    /// It gets SIGTERM after it has stored this many records, and is killed this long after that.
    WhileStopping(u64, Duration),
}

/// A temporary folder with a topic and tables bound to it.
pub struct Folder {
    folder: WorkFolder,
    runtime: Runtime,
}

impl Folder {
    pub fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = Self { folder: WorkFolder::new(), runtime };
        folder.succeed("topic create");
        folder.succeed("init");
        folder
    }

    /// Appends mixed records whose windows lie on both sides of the threshold.
    pub fn generate(&self, records: u64, random: &mut Random) {
        let seed = random.below(u64::MAX);
        self.succeed(&format!(
            "generate --preset mixed --events {records} --sources 40 --rate 300 --malformed 5 --late 5 \
             --late-by-ms 30000 --start-ms 0 --seed {seed}"
        ));
    }

    /// Starts a worker with random options and kills it. Returns its exit code, which is 0 if it ended before.
    pub fn run_and_kill(&self, when: KillTime, random: &mut Random) -> i32 {
        let arguments = format!(
            "run --until-end --set log.level=error --set pipeline.batch_records={} --set \
             pipeline.in_flight_batches={} --set pipeline.batch_delay_ms=5",
            1 + random.below(60),
            1 + random.below(6),
        );
        let before = self.stored();
        let mut worker = self.start("worker", arguments.split(' '));
        match when {
            KillTime::AfterStart(delay) => std::thread::sleep(delay),
            KillTime::AfterRecords(records, delay) | KillTime::WhileStopping(records, delay) => {
                if !self.wait_until_stored(before + records, &mut worker) {
                    return worker.wait();
                }
                if let KillTime::WhileStopping(..) = when {
                    assert!(worker.signal("TERM") || worker.exit_code().is_some());
                }
                std::thread::sleep(delay);
            }
        }
        worker.kill()
    }

    /// Waits until this many records are stored; false if the worker ended before. The files are closed afterwards, so
    /// that the killed worker is the last process that had them open.
    fn wait_until_stored(&self, records: u64, worker: &mut Process) -> bool {
        let store = self.store();
        while self.stored_in(&store) < records {
            if worker.exit_code().is_some() {
                return false;
            }
            std::thread::sleep(READ_INTERVAL);
        }
        true
    }

    fn store(&self) -> EmbeddedStore {
        EmbeddedStore::open(self.data(), &Options::default(), Layout::ORIGINAL).expect("the store opens")
    }

    fn stored_in(&self, store: &EmbeddedStore) -> u64 {
        let progress =
            self.runtime.block_on(store.progress_of_all()).into_result().expect("progress is there");
        progress.values().map(|progress| progress.next_offset as u64).sum()
    }

    fn stored(&self) -> u64 {
        self.stored_in(&self.store())
    }

    /// Records of the log that are not durable yet.
    pub fn lag(&self) -> u64 {
        let broker = EmbeddedBroker::open(self.data(), &Options::default()).expect("the log opens");
        let end = |partition| self.runtime.block_on(broker.offsets(TOPIC, partition)).expect("an end").end;
        (0..PARTITIONS).map(end).sum::<i64>() as u64 - self.stored()
    }

    /// Rows that the next worker will write again.
    pub fn rows_past_progress(&self) -> u64 {
        let store = self.store();
        let mut rows = 0;
        let progress =
            self.runtime.block_on(store.progress_of_all()).into_result().expect("progress is there");
        for (partition, progress) in progress {
            let (from, all) = (progress.next_offset, usize::MAX >> 1);
            let events = self.runtime.block_on(store.events(partition, from, i64::MAX, all));
            let letters = self.runtime.block_on(store.dead_letters(partition, from, i64::MAX, all));
            rows +=
                events.into_result().expect("events").len() + letters.into_result().expect("letters").len();
        }
        rows as u64
    }

    /// Runs a worker to the end of the log, and checks that the lag is 0 and the tables are exact.
    pub fn finish_and_verify(&self) {
        self.succeed("run --until-end --set log.level=error");
        assert_eq!(self.lag(), 0);
        let output = self.succeed("verify");
        let events = self.succeed("show events --json").lines().count();
        let letters = self.succeed("show dead-letters --json").lines().count();
        assert_eq!((events + letters) as u64, self.stored(), "rows and records of the log");
        assert!(letters > 0 && self.succeed("show alerts --json").lines().count() > 0, "{output}");
    }
}

impl Deref for Folder {
    type Target = WorkFolder;

    fn deref(&self) -> &WorkFolder {
        &self.folder
    }
}
