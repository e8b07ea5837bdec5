#![doc = include_str!("../README.md")]

#[cfg(feature = "clock")]
pub mod clock;
pub mod fault;
pub mod links;

pub use fault::{
    ClockFault, ClockFaultName, DiskFault, HostCommand, HostFault, LinkFault, LinkFaultName, Recovery,
};
