//! What is checked while a run goes on, beside [`crate::checker`]: one file for each anomaly. An oracle only reads, and
//! draws no random numbers.

pub mod durability;
