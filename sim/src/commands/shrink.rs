//! The command that reduces a scenario.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use simulation::COMMIT;
use simulation::campaign::{Isolation, play};
use simulation::scenario::Scenario;
use simulation::scenario::fault::KindName;
use simulation::shrink::{Shrunk, shrink as reduce};

use super::{code, of_file};

/// Time between two lines of progress without news.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

const NO_REASON: &str = "To be filled in: why this scenario is kept.";

/// Reduces a scenario, and writes the result to a file.
pub fn shrink(
    scenario: Scenario,
    isolation: &Isolation,
    output: &Path,
    reason: Option<&str>,
    time: Duration,
) -> io::Result<u8> {
    eprintln!("{}", size(&scenario));
    let began = Instant::now();
    let (mut printed, mut printed_at) = (size(&scenario), began);
    let shrunk = reduce(scenario, isolation, |shrunk| {
        let size = size(&shrunk.scenario);
        if size != printed || printed_at.elapsed() > PROGRESS_INTERVAL {
            eprintln!("{size} after {} runs, {} s", shrunk.runs, began.elapsed().as_secs());
            (printed, printed_at) = (size, Instant::now());
        }
        began.elapsed() < time
    });
    let Some(mut shrunk) = shrunk else {
        println!("the scenario has no violation");
        return Ok(0);
    };
    if is_sabotage(&shrunk.scenario) {
        shrunk.scenario.expected = Some(shrunk.violation.to_owned());
    }
    // Again, for the evidence.
    let report = play(shrunk.scenario.clone(), isolation);
    let found = report.violations.iter().find(|violation| violation.name() == shrunk.violation);
    let evidence = found.map(|violation| format!("{violation:?}"));
    let text = text(&shrunk, reason, &evidence.unwrap_or_default());
    std::fs::write(output, text).map_err(|error| of_file(output, &error))?;
    println!(
        "{}: {}, after {} runs in {} s, in {}",
        shrunk.violation,
        size(&shrunk.scenario),
        shrunk.runs,
        began.elapsed().as_secs(),
        output.display()
    );
    Ok(code(&report))
}

fn size(scenario: &Scenario) -> String {
    let options = &scenario.options;
    format!(
        "{} faults, {} records, {} workers, {} partitions, {} ms",
        scenario.faults.len(),
        scenario.records.len(),
        options.workers,
        options.partitions,
        options.chaos_ms
    )
}

/// True if a service does what it must not, so that the run must fail for ever.
fn is_sabotage(scenario: &Scenario) -> bool {
    let kinds = [KindName::AcknowledgedWritesDropped, KindName::Sabotaged];
    scenario.faults.iter().any(|fault| kinds.contains(&fault.name()))
}

/// The file: comments with the reason, the violation, the kinds of its faults and the commit, and the scenario.
fn text(shrunk: &Shrunk, reason: Option<&str>, evidence: &str) -> String {
    let mut text = String::new();
    let reason = reason.filter(|reason| !reason.trim().is_empty()).unwrap_or(NO_REASON);
    let violation = format!("violation: {}: {evidence}", shrunk.violation);
    let kinds: BTreeSet<&str> = shrunk.scenario.faults.iter().map(|fault| fault.name().into()).collect();
    let faults = format!("faults: {}", kinds.into_iter().collect::<Vec<_>>().join(", "));
    let commit = format!("commit: {COMMIT}");
    for line in reason.lines().chain(violation.lines()).chain([faults.as_str(), commit.as_str()]) {
        text += &format!("# {line}\n");
    }
    text + &shrunk.scenario.to_toml()
}
