//! tokio for the simulation: tasks, time and network from madsim, everything else from tokio itself.
//!
//! madsim-tokio provides nearly all of it. This shim adds what it lacks, and what it does not make deterministic.

pub mod net;
pub mod network;
pub mod sync;
pub mod task;
pub mod time;

pub use madsim_tokio::*;

#[doc(hidden)]
pub use real as __real;

/// The first branch that an unbiased `select!` polls, from the simulation's seed.
#[doc(hidden)]
pub fn __start_branch(branches: u32) -> u32 {
    use madsim::rand::Rng;
    madsim::rand::thread_rng().gen_range(0..branches)
}

/// tokio's `select!`. An unbiased one first polls a branch drawn from the simulation's seed; tokio's own draws it from a
/// generator that does not depend on the seed.
#[macro_export]
macro_rules! select {
    (biased; $($branches:tt)*) => { $crate::__real::select!(biased; $($branches)*) };
    (else => $($branches:tt)*) => { $crate::__real::select!(else => $($branches)*) };
    ($pattern:pat = $($branches:tt)*) => {
        $crate::__real::select!(@{ start = { $crate::__start_branch(BRANCHES) }; () } $pattern = $($branches)*)
    };
}
