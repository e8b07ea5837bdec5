//! The pipeline on an in-memory store that fails, and workers that crash, at every point there is.

mod faulty;
mod generated;
mod harness;
mod refusals;
mod registry;
mod stopping;
mod sweep;
