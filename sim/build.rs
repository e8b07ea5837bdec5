//! Lets the simulator's `getrandom` stand for the system's, also for crates that look it up by name while they run
//! (the crate `getrandom`, under `rand` and `uuid`): they find only what the program exports.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
}
