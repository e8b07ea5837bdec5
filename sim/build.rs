//! Makes the simulator's `getrandom` replace the system's also for crates that look the function up by name at run
//! time (the crate `getrandom`, under `rand` and `uuid`): `dlsym` finds only what the executable exports.
//!
//! Only on Linux: there the crate `getrandom` uses `dlsym`, and the linkers know the option. On macOS it links to
//! `getentropy` directly.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
}
