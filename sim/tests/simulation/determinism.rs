//! A seed has one run, whichever process runs it. Without this, a failure could not be reproduced.

use std::process::Command;

use simulation::Seed;

/// Seeds whose traces are compared.
const SEEDS: [Seed; 6] = [0, 1, 2, 3, 40, 41];

fn trace_of_a_process(seed: Seed) -> String {
    let process =
        Command::new(env!("CARGO_BIN_EXE_simulation")).arg(seed.to_string()).arg("--trace").output();
    let process = process.expect("the simulation's own program starts");
    let text = String::from_utf8(process.stdout).expect("a trace is text");
    assert!(text.contains("trace: "), "seed {seed}: {}", String::from_utf8_lossy(&process.stderr));
    text
}

#[test]
fn a_seed_gives_the_same_trace_in_two_processes() {
    for seed in SEEDS {
        let (first, second) = (trace_of_a_process(seed), trace_of_a_process(seed));
        let mut before = "(the beginning)";
        let mut lines = 0;
        for (one, other) in first.lines().zip(second.lines()) {
            assert_eq!(
                one, other,
                "seed {seed}: the processes differ after {lines} lines, the last was\n{before}"
            );
            before = one;
            lines += 1;
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one trace goes on after\n{before}");
        assert!(lines > 100, "seed {seed}: a trace of {lines} lines compares nothing");
    }
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let (kept, not_kept) = (simulation::run(5, true).trace, simulation::run(5, false).trace);
    assert_eq!((kept.hash, kept.events), (not_kept.hash, not_kept.events));
    assert_eq!(kept.events, kept.lines.len() as u64);
    assert!(not_kept.lines.is_empty());
}

#[test]
fn two_seeds_give_two_traces() {
    assert_ne!(simulation::run(6, false).trace.hash, simulation::run(7, false).trace.hash);
}
