//! How much of a processor a process has used, which does not depend on what else the machine does.

use std::time::{Duration, Instant};

/// Clock ticks in a second, as Linux counts them for programs on every architecture.
const TICKS: f64 = 100.0;

/// A process, from its start on.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    process: u32,
    began: Instant,
}

impl Usage {
    /// The usage of a process that has just begun.
    pub fn new(process: u32) -> Self {
        Self { process, began: Instant::now() }
    }

    /// The time that all threads have used, in the program and in the kernel, and all children that have ended; the time since
    /// it began where the system does not have a file with that. A process that has ended has it until its parent takes its
    /// exit code.
    pub fn time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process));
        text.ok().and_then(|text| of_stat(&text)).unwrap_or_else(|| self.began.elapsed())
    }
}

/// The time in a file `stat`: the fields 14 to 17, where the second is a name in brackets that may contain spaces.
fn of_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<u64> = fields.split_whitespace().skip(11).map_while(|field| field.parse().ok()).collect();
    let ticks: u64 = fields.get(..4)?.iter().sum();
    Duration::try_from_secs_f64(ticks as f64 / TICKS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_the_sum_of_four_fields() {
        let text = "17 (a (b) c) R 1 17 17 0 -1 4194304 106 0 0 0 250 50 70 30 39 19 1 0 1000 0 0\n";
        assert_eq!(of_stat(text), Some(Duration::from_secs(4)));
        assert_eq!(of_stat("17 (a) R 1 17"), None);
        assert_eq!(of_stat(""), None);
    }

    #[test]
    fn a_process_that_computes_uses_time() {
        let usage = Usage::new(std::process::id());
        let before = usage.time();
        let began = Instant::now();
        while usage.time() < before + Duration::from_millis(30) {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", usage.time());
        }
    }
}
