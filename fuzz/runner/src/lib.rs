//! Runs fuzz targets as plain programs: over the files of their corpora, and over random mutations of these.
//!
//! A target is a function that panics on an input that shows a defect. The mutations are blind, so this finds what is near
//! to the corpus; libFuzzer, on the same targets, finds what is further from it. What it runs depends on the seed alone; the time
//! only decides how much of it.

mod draw;
mod mutate;
mod run;
mod watch;

use std::path::PathBuf;

use clap::Parser;

pub use draw::Draw;
pub use mutate::mutated;
pub use run::main;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics on an input that shows a defect.
    pub run: fn(&[u8]),
    /// The longest input that is made, in bytes.
    pub longest: usize,
    /// How long an input may take, in seconds.
    pub limit_seconds: u64,
}

/// What is run.
#[derive(Clone, Debug, Parser)]
#[command(about = "Runs fuzz targets over their corpora, and over random mutations of them")]
pub struct Arguments {
    /// The targets; all of them if none is named
    pub targets: Vec<String>,
    /// After the corpora, run mutations for so many seconds in all
    #[arg(long, default_value_t = 0)]
    pub seconds: u64,
    /// Determines the mutations
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Run these files instead of the corpora; with one target
    #[arg(long = "file", value_name = "FILE", conflicts_with = "seconds")]
    pub files: Vec<PathBuf>,
    /// Write each input to a file before it is run, for a crash that ends the process
    #[arg(long)]
    pub record: bool,
    /// The folder with a folder of inputs for each target
    #[arg(long, value_name = "DIR")]
    pub corpus: Option<PathBuf>,
    /// Where failing inputs are written
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
}
