//! The command line, as its users have it: the real program in a folder of its own, with an empty
//! environment. What it prints is kept in `snapshots/`.

mod commands;
mod configuration;
mod damage;
mod disks;
mod folders;
mod generate;
mod harness;
mod help;
mod interrupted;
#[path = "../common/program.rs"]
mod program;
mod refusals;
mod streams;
mod verify;
mod worker;
