//! The targets `kafka_batch` and `kafka_request`: what the simulated Kafka reads from its clients.

mod batch;
mod request;
#[path = "../../../sim/kafka/tests/hostile/requests.rs"]
#[allow(dead_code)] // What other tests use.
mod requests;

pub use batch::kafka_batch;
pub use request::kafka_request;
