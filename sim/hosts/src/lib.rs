#![doc = include_str!("../README.md")]

#[cfg(feature = "nodes")]
pub mod calls;
#[cfg(feature = "clock")]
pub mod clock;
pub mod fault;
#[cfg(feature = "nodes")]
pub mod hub;
pub mod links;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "nodes")]
pub mod process;
#[cfg(feature = "program")]
pub mod program;
#[cfg(feature = "nodes")]
pub mod watch;

pub use fault::{
    ClockFault, ClockFaultName, DiskFault, HostCommand, HostFault, LinkFault, LinkFaultName, Recovery,
};
