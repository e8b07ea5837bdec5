//! The command line, as its users have it: the real program in a folder of its own, with an empty
//! environment. What it prints is kept in `snapshots/`.

mod commands;
mod configuration;
mod generate;
mod harness;
mod help;
mod refusals;
mod verify;
mod worker;
