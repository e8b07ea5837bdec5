//! The command line: the real program in a temporary folder, with an empty environment. Its expected output is in
//! `snapshots/`.

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
