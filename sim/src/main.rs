//! Runs scenarios. `cargo sim run`, `cargo sim replay` and so on, in the folder above, run this program.

mod commands;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use commands::Arguments;

fn main() -> ExitCode {
    match commands::execute(Arguments::parse()) {
        Ok(code) => code.into(),
        // The reader may close the pipe early.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(commands::WRONG_USAGE)
        }
    }
}
