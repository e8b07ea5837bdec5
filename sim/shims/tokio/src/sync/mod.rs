//! Channels and locks: tokio's own, except where it leaves something to chance.

pub mod watch;

pub use real::sync::*;
