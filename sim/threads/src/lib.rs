#![doc = include_str!("../README.md")]

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "simulated-threads runs on Linux with glibc, on x86-64 and AArch64: it takes the place of functions of that C library"
);

#[cfg(not(madsim))]
compile_error!("simulated-threads needs madsim's simulator: build with RUSTFLAGS=\"--cfg madsim\"");

mod descriptors;
mod heap;
mod locks;
mod names;
mod options;
mod report;
mod schedule;
mod simulation;
mod streams;
mod turns;
mod worker;
mod world;
mod wrap;

pub use options::{Busiest, CallCost, Event, Figures, Observer, Options, Strategy};
pub use simulation::{Threads, play};
