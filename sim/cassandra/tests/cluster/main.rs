//! What a cluster does when things go wrong: each test is the shortest scenario that shows one behaviour of the real
//! one. Time is tokio's paused clock, so that hours pass at once and nothing depends on the machine.

mod batches;
mod conditional;
mod harness;
mod hints;
mod lifecycle;
mod reads;
mod repairs;
mod writes;
