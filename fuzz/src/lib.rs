//! Fuzz targets for what the project reads: a module for each, with a function that takes any bytes and panics on those that
//! show a defect. `README.md` describes them, and how they are run.

#[path = "../../tests/decoding/allocations.rs"]
mod allocations;
mod configuration;
mod cql;
mod event;
mod frame;
mod kafka;
mod literal;
mod types;

pub use configuration::configuration;
pub use cql::cql;
pub use event::event;
pub use frame::frame;
pub use kafka::{kafka_batch, kafka_request};
pub use literal::literal;

use fuzz_runner::Target;

#[global_allocator]
static ALLOCATOR: allocations::CountingAllocator = allocations::CountingAllocator;

const LIMIT_SECONDS: u64 = 20;

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "configuration", run: configuration, longest: 4 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "cql", run: cql, longest: 4 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "event", run: event, longest: 4 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "frame", run: frame, longest: 4 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "kafka_batch", run: kafka_batch, longest: 4 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "kafka_request", run: kafka_request, longest: 2 << 10, limit_seconds: LIMIT_SECONDS },
    Target { name: "literal", run: literal, longest: 1 << 10, limit_seconds: LIMIT_SECONDS },
];
