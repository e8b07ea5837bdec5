//! As `../build.rs`: the simulator's `getrandom` replaces the system's in the programs of this package, too. Without it a
//! run would depend on the random numbers of the operating system. And the linker leads calls of the C library to
//! `simulated-threads`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
    if std::env::var_os("CARGO_FEATURE_FULL").is_none() {
        return;
    }
    match std::env::var("DEP_SIMULATED_THREADS_LINK_ARGUMENTS") {
        Ok(arguments) => {
            for argument in arguments.split(' ') {
                println!("cargo::rustc-link-arg={argument}");
            }
        }
        Err(error) => println!("cargo::error=simulated-threads names no arguments for the linker: {error}"),
    }
}
