//! Coordinators of transactions, driven without a broker: each rule of the protocol as the shortest scenario.

mod bump;
mod ending;
mod harness;
mod producers;
mod verification;
