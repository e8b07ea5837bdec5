//! The program; see [`exactlyonce::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    exactlyonce::cli::main()
}
