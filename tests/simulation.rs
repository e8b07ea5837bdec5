//! Builds and runs the tests of `sim/`, so that plain `cargo test` runs the simulations, too.
//!
//! `sim/` is a separate workspace, because it builds the pipeline with a different tokio and `--cfg madsim`. So this test
//! runs cargo there, with its own arguments, for example
//! `cargo test --test simulation a_seed_gives_the_same_trace_in_two_processes`. If the first argument is a command of the
//! simulation's program, as in `cargo sim run --seed 17`, it runs that program instead; `cargo sim mutants` runs that of
//! `sim/mutants`, and `cargo sim nightly` runs `.ci/nightly`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// True for a variable that cargo sets for this test, and that would be wrong for another package.
fn is_of_this_package(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_FEATURE_"];
    const NAMES: [&str; 4] = ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "OUT_DIR"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// The flags for rustc: those of the caller's environment, and `--cfg madsim`.
///
/// They are set by a variable, which overrides every configuration file: flags in the caller's own file would replace
/// those of `sim/.cargo/config.toml`.
fn rust_flags() -> OsString {
    const SEPARATOR: &str = "\x1f";
    let plain = || {
        let flags = env::var("RUSTFLAGS").ok()?;
        Some(flags.split_whitespace().collect::<Vec<_>>().join(SEPARATOR))
    };
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").ok().or_else(plain).unwrap_or_default();
    let flags = flags.split(SEPARATOR).filter(|flag| !flag.is_empty());
    flags.chain(["--cfg", "madsim"]).collect::<Vec<_>>().join(SEPARATOR).into()
}

/// The target directory of this build.
fn own_target_directory() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary)
}

/// A folder in the target directory of this build.
fn target_directory() -> PathBuf {
    own_target_directory().join("sim")
}

/// The commands of the simulation's program.
const COMMANDS: [&str; 9] =
    ["run", "replay", "scenario", "shrink", "explain", "campaign", "results", "help", "--help"];

/// A program with the variables of the caller, except for those of this package.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_package)) {
        command.env_remove(name);
    }
    command
}

/// Cargo in a folder, from which it searches for its configuration.
fn cargo(folder: &str) -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    cargo
}

/// Cargo in `sim/`, with this subcommand.
fn cargo_in_sim(subcommand: &[&str]) -> Command {
    let mut cargo = cargo("sim");
    cargo.args(subcommand).args(["--quiet", "--profile", "sim", "--target-dir"]).arg(target_directory());
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", rust_flags());
    cargo
}

/// Builds and runs the program that plays mutants, which builds the simulation itself.
fn mutants(arguments: &[OsString]) -> u8 {
    let target = own_target_directory();
    let mut cargo = cargo(".");
    cargo.args(["build", "--quiet", "--package", "mutants", "--target-dir"]).arg(target);
    let built = code(cargo);
    if built != 0 {
        return built;
    }
    let mut program = command(target.join("debug").join("mutants"));
    program.arg("--target-dir").arg(target).args(arguments);
    program.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", rust_flags());
    code(program)
}

/// Runs a command; its exit code, or 1 if it has none.
fn code(mut command: Command) -> u8 {
    match command.status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        Err(error) => {
            eprintln!("{} could not be started: {error}", command.get_program().display());
            1
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let first = arguments.first().and_then(|argument| argument.to_str());
    if first == Some("nightly") {
        let mut nightly = Command::new("bash");
        nightly.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/nightly")).args(&arguments[1..]);
        return ExitCode::from(code(nightly));
    }
    if first.is_some_and(|first| COMMANDS.contains(&first)) {
        let built = code(cargo_in_sim(&["build", "--bin", "simulation"]));
        if built != 0 {
            return ExitCode::from(built);
        }
        let mut program = Command::new(target_directory().join("sim").join("simulation"));
        program.args(arguments);
        return ExitCode::from(code(program));
    }
    if first == Some("mutants") {
        return ExitCode::from(mutants(&arguments[1..]));
    }
    // Without --tests, cargo would also build doctests, which do not get the flags.
    let mut tests = cargo_in_sim(&["test", "--tests"]);
    tests.arg("--").args(arguments);
    ExitCode::from(code(tests))
}
