//! Faults of brokers while a client works.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::brokers::Brokers;

/// How long a broker is down, and how long all run after that.
const DOWN: Duration = Duration::from_secs(2);
const TOGETHER: Duration = Duration::from_secs(2);

/// How long a broker may take to be in sync after it has started.
const LONGEST: Duration = Duration::from_secs(60);

/// Does the work while the second and the third broker are killed and started in turn, and the first partition of a topic is
/// moved to each broker, until the work is done. The first broker is the one that clients know.
pub fn disturbed<T: Send>(brokers: &mut Brokers, topic: Option<&str>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut faults = 0;
        for (broker, leader) in [(2, 3), (3, 1), (2, 1), (3, 2)].into_iter().cycle() {
            wait(&work, TOGETHER);
            if work.is_finished() {
                break;
            }
            faults += 1;
            assert_eq!(brokers.ask(&format!("kill {broker}")), "ok");
            wait(&work, DOWN);
            assert_eq!(brokers.ask(&format!("start {broker}")), "ok");
            if let Some(topic) = topic {
                lead(brokers, topic, leader);
            }
        }
        assert!(faults > 0, "the work was done before the first fault");
        println!("{faults} times a broker was killed and started");
        work.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn wait<T>(work: &ScopedJoinHandle<'_, T>, longest: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < longest && !work.is_finished() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lets a broker lead a partition as soon as it is in sync.
fn lead(brokers: &mut Brokers, topic: &str, leader: i32) {
    let begin = Instant::now();
    loop {
        let said = brokers.ask(&format!("move {topic} 0 {leader}"));
        if said.starts_with("ok") {
            return;
        }
        assert!(begin.elapsed() < LONGEST, "{leader} does not lead {topic}: {said}");
        thread::sleep(Duration::from_millis(100));
    }
}
