#![doc = include_str!("../README.md")]

#[cfg(feature = "clock")]
pub mod clock;
pub mod fault;
#[cfg(feature = "hub")]
pub mod hub;
pub mod links;

pub use fault::{
    ClockFault, ClockFaultName, DiskFault, HostCommand, HostFault, LinkFault, LinkFaultName, Recovery,
};
