//! Who sends requests in a run, who receives them, and their addresses. Nothing here depends on another module.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// A simple service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The tables.
    Store,
    /// The part of the broker that stores records.
    Log,
    /// The part of the broker that coordinates the group: a worker may be partitioned from it and still read the log.
    Coordinator,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Store, Service::Log, Service::Coordinator];

    pub(crate) fn ip(self) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, 1 + self as u8).into()
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The worker; `None` for the operator who runs `init`.
    pub worker: Option<u8>,
    /// How many times it was started before.
    pub life: u32,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(f, "worker {worker} (life {})", self.life),
            None => f.write_str("operator"),
        }
    }
}

/// The worker at an address.
#[cfg(feature = "full")]
pub(crate) fn worker_of(ip: IpAddr) -> Option<u8> {
    (0..=u8::MAX - 1).find(|index| worker_ip(*index) == ip)
}

/// A worker's address.
pub(crate) fn worker_ip(index: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, index + 1).into()
}
