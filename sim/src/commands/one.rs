//! Commands on one scenario.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use simulation::Report;
use simulation::scenario::Scenario;

use super::{Repeat, code, read, write};

/// Runs a drawn scenario. If it fails, its file is written before its report is printed.
pub fn run(scenario: Scenario, trace: bool, failures: &Path) -> io::Result<u8> {
    let repeat = Repeat(&scenario).to_string();
    let report = simulation::run(scenario, trace);
    let file = match report.violation {
        Some(_) => Some(write(&report.scenario, failures)?),
        None => None,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    report_on(&mut out, &report)?;
    if let Some(file) = file {
        writeln!(out, "its scenario is in {}", file.display())?;
    }
    writeln!(out, "to repeat it with its trace: {repeat}")?;
    out.flush()?;
    Ok(code(&report))
}

/// Runs the scenario of a file.
pub fn replay(file: &Path, trace: bool) -> io::Result<u8> {
    let report = simulation::run(read(file)?, trace);
    let mut out = BufWriter::new(io::stdout().lock());
    report_on(&mut out, &report)?;
    writeln!(out, "to repeat it with its trace: cargo sim replay {} --trace", file.display())?;
    out.flush()?;
    Ok(code(&report))
}

/// Prints a scenario.
pub fn print(scenario: &Scenario) -> io::Result<u8> {
    io::stdout().lock().write_all(scenario.to_toml().as_bytes())?;
    Ok(0)
}

fn report_on(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for line in &report.trace.lines {
        writeln!(out, "{line}")?;
    }
    write!(out, "{report}")
}
