//! Names that the simulation resolves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    Unknown,
    /// The name servers do not respond.
    Unavailable,
}

#[derive(Default)]
pub(crate) struct Names {
    names: BTreeMap<String, Vec<Ipv4Addr>>,
    unavailable: bool,
}

impl Names {
    pub(crate) fn set(&mut self, name: &str, addresses: Vec<Ipv4Addr>) {
        // Names are not case-sensitive.
        self.names.insert(name.to_ascii_lowercase(), addresses);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.names.remove(&name.to_ascii_lowercase());
    }

    pub(crate) fn set_available(&mut self, available: bool) {
        self.unavailable = !available;
    }

    /// Addresses, and `localhost`, need no name server.
    pub(crate) fn resolve(&self, name: &str) -> Answer {
        if let Ok(address) = name.parse() {
            return Answer::Addresses(vec![address]);
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" {
            return Answer::Addresses(vec![Ipv4Addr::LOCALHOST]);
        }
        match self.names.get(&name) {
            _ if self.unavailable => Answer::Unavailable,
            Some(addresses) if !addresses.is_empty() => Answer::Addresses(addresses.clone()),
            _ => Answer::Unknown,
        }
    }
}
