#![doc = include_str!("../README.md")]

pub mod fault;

pub use fault::{
    ClockFault, ClockFaultName, DiskFault, HostCommand, HostFault, LinkFault, LinkFaultName, Recovery,
};
