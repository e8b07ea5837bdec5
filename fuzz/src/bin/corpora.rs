//! Runs the targets over their corpora and random mutations of them, without libFuzzer.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use fuzz_runner::Arguments;

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    fuzz_runner::main(&exactlyonce_fuzz::TARGETS, folder, &Arguments::parse())
}
