//! A folder, the program on it, and its death.

use std::ops::Deref;
use std::time::Duration;

use exactlyonce::broker::Broker;
use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::sqlite::Options;
use exactlyonce::store::embedded::EmbeddedStore;
use exactlyonce::store::{Layout, Store};
use tokio::runtime::Runtime;

use crate::program::{Process, Workplace};
use crate::random::Random;

/// The exit code of a killed process.
pub const KILLED: i32 = 128 + 9;

const TOPIC: &str = "exactlyonce.events";
const PARTITIONS: i32 = 3;

/// Interval between two readings of progress.
const READ_INTERVAL: Duration = Duration::from_millis(2);

/// When a worker is killed.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// So long after its start.
    After(Duration),
    /// So long after it was seen to have stored so many records.
    Stored(u64, Duration),
    /// Likewise, but it gets SIGTERM first, and killed so long after that.
    Stopping(u64, Duration),
}

/// A folder with a topic and tables bound to it, removed at the end.
pub struct Folder {
    workplace: Workplace,
    runtime: Runtime,
}

impl Folder {
    pub fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = Self { workplace: Workplace::new(), runtime };
        folder.fine("topic create");
        folder.fine("init");
        folder
    }

    /// Appends records of many kinds, whose windows lie on both sides of the threshold.
    pub fn generate(&self, records: u64, random: &mut Random) {
        let seed = random.below(u64::MAX);
        self.fine(&format!(
            "generate --preset mixed --events {records} --sources 40 --rate 300 --malformed 5 --late 5 \
             --late-by-ms 30000 --start-ms 0 --seed {seed}"
        ));
    }

    /// Starts a worker with options of its own and kills it. Answers its exit code, which is 0 if it ended before.
    pub fn run_and_kill(&self, how: How, random: &mut Random) -> i32 {
        let arguments = format!(
            "run --until-end --set log.level=error --set pipeline.batch_records={} --set \
             pipeline.in_flight_batches={} --set pipeline.batch_delay_ms=5",
            1 + random.below(60),
            1 + random.below(6),
        );
        let before = self.stored();
        let mut worker = self.start("worker", arguments.split(' '));
        match how {
            How::After(delay) => std::thread::sleep(delay),
            How::Stored(records, delay) | How::Stopping(records, delay) => {
                if !self.wait_until_stored(before + records, &mut worker) {
                    return worker.wait();
                }
                if let How::Stopping(..) = how {
                    assert!(worker.signal("TERM") || worker.ended().is_some());
                }
                std::thread::sleep(delay);
            }
        }
        worker.kill()
    }

    /// Looks at progress until it is so far; false if the worker ended before. No file stays open, so that
    /// the worker dies as the last that had them.
    fn wait_until_stored(&self, records: u64, worker: &mut Process) -> bool {
        let store = self.store();
        while self.stored_in(&store) < records {
            if worker.ended().is_some() {
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

    /// Records of the log that are not yet done.
    pub fn left(&self) -> u64 {
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

    /// Lets a worker finish; then nothing may be left, and the tables must be exact.
    pub fn finish_and_verify(&self) {
        self.fine("run --until-end --set log.level=error");
        assert_eq!(self.left(), 0);
        let said = self.fine("verify");
        let events = self.fine("show events --json").lines().count();
        let letters = self.fine("show dead-letters --json").lines().count();
        assert_eq!((events + letters) as u64, self.stored(), "rows, and records of the log");
        assert!(letters > 0 && self.fine("show alerts --json").lines().count() > 0, "{said}");
    }
}

impl Deref for Folder {
    type Target = Workplace;

    fn deref(&self) -> &Workplace {
        &self.workplace
    }
}
