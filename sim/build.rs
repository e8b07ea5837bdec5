//! Passes the commit on to the program, and makes the simulator's `getrandom` replace the system's also for crates that
//! look the function up by name at run time (the crate `getrandom`, under `rand` and `uuid`): `dlsym` finds only what the
//! executable exports.
//!
//! The latter only on Linux: there the crate `getrandom` uses `dlsym`, and the linkers know the option. On macOS it links
//! to `getentropy` directly.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
    // The linker leads calls of the C library to `simulated-threads`.
    if std::env::var_os("CARGO_FEATURE_FULL").is_some() {
        match std::env::var("DEP_SIMULATED_THREADS_LINK_ARGUMENTS") {
            Ok(arguments) => {
                for argument in arguments.split(' ') {
                    println!("cargo::rustc-link-arg={argument}");
                }
            }
            Err(error) => {
                println!("cargo::error=simulated-threads names no arguments for the linker: {error}")
            }
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    println!("cargo::rustc-env=SIMULATION_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    // Each commit, and each checkout, changes the log of HEAD. Cargo would run this each time for a file that is missing.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git prints, or nothing if there is no git or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
