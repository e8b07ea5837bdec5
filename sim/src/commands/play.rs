//! The hidden command that runs one scenario for a campaign, in a process of its own: see [`simulation::campaign::play`].

use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::thread;
use std::time::Duration;

use simulation::scenario::Scenario;

use super::of_file;

/// Time between two looks whether the campaign still runs.
const PARENT_INTERVAL: Duration = Duration::from_secs(1);

/// The exit code when the campaign does not run any more. Nobody sees it.
const ABANDONED: i32 = 1;

/// Runs the scenario that is on standard input as JSON, and writes its report as JSON to standard output. The exit code is
/// 0, whatever the result is.
pub fn play() -> io::Result<u8> {
    end_with_parent();
    let mut json = Vec::new();
    io::stdin().lock().read_to_end(&mut json)?;
    let scenario = Scenario::from_json(&json).map_err(|error| of_file("standard input".as_ref(), &error))?;
    let report = simulation::run(scenario, false);
    let mut out = io::stdout().lock();
    out.write_all(&serde_json::to_vec(&report)?)?;
    out.flush()?;
    Ok(0)
}

/// Ends this process soon after its parent. A campaign that is killed cannot end its runs, and one of them may not end by
/// itself.
fn end_with_parent() {
    let parent = parent_id();
    thread::spawn(move || {
        while parent_id() == parent {
            thread::sleep(PARENT_INTERVAL);
        }
        std::process::exit(ABANDONED);
    });
}
