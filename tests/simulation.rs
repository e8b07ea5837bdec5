//! Builds and runs the tests of `sim/`, so that plain `cargo test` runs the simulations, too.
//!
//! `sim/` is a separate workspace, because it builds the pipeline with a different tokio and `--cfg madsim`. So this test
//! runs cargo there, with its own arguments, for example
//! `cargo test --test simulation a_seed_gives_the_same_trace_in_two_processes`.

use std::env;
use std::ffi::OsString;
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

/// A folder in the target directory of this build.
fn target_directory() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary).join("sim")
}

fn main() -> ExitCode {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        // Cargo searches for its configuration from here.
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sim"))
        // Without --tests, cargo would also build doctests, which do not get the flags.
        .args(["test", "--quiet", "--tests", "--profile", "sim", "--target-dir"])
        .arg(target_directory())
        .arg("--")
        .args(env::args_os().skip(1));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_package)) {
        cargo.env_remove(name);
    }
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", rust_flags());
    match cargo.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the simulation's tests failed: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cargo could not be started in sim/: {error}");
            ExitCode::FAILURE
        }
    }
}
