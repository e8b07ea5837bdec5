//! The program: `cargo sim mutants`.

mod arguments;
mod list;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(&arguments::Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", run::chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}
