//! What must have happened to Cassandra over many seeds, in addition to every kind of fault.

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
        /// All of them.
        pub const EXPECTED: &[&str] = &[$($name),*];
    };
}

names! {
    /// A hint was delivered to a replica that had missed a write.
    HINT = "hint sent";
    /// A read found that replicas differ, and wrote to one.
    READ_REPAIR = "read repair sent";
    /// A host lost power while its commit log held records that were not synced.
    UNSYNCED_LOST = "unsynced records lost";
    /// A write timed out at its coordinator.
    WRITE_TIMEOUT = "write timed out at its coordinator";
    /// A read timed out at its coordinator.
    READ_TIMEOUT = "read timed out at its coordinator";
    /// A coordinator saw too few live replicas.
    UNAVAILABLE = "too few replicas known to be alive";
    /// A worker could not open its tables, or gave up on them.
    GAVE_UP = "worker gave up on a service";
}
