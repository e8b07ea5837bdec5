//! Runs one seed and prints the report: `simulation SEED [--trace]`.
//!
//! Exit codes: 0 the tables equal the ground truth, 1 a violation was found, 2 usage.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().and_then(|seed| seed.parse().ok());
    let flags: Vec<String> = arguments.collect();
    let trace = flags == ["--trace"];
    let (Some(seed), true) = (seed, trace || flags.is_empty()) else {
        eprintln!("usage: simulation SEED [--trace]");
        return ExitCode::from(2);
    };
    let report = simulation::run(seed, trace);
    match print(&report) {
        // The reader may close the pipe early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("the report was not written: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::from(u8::from(report.violation.is_some())),
    }
}

fn print(report: &simulation::Report) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in &report.trace.lines {
        writeln!(out, "{line}")?;
    }
    write!(out, "{report}")?;
    out.flush()
}
