//! As `../build.rs`: the simulator's `getrandom` replaces the system's in the programs of this package, too. Without it a
//! run would depend on the random numbers of the operating system.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
}
