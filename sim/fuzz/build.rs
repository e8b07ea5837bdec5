//! Passes the arguments on with which the linker leads calls of the C library to `simulated-threads`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
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
