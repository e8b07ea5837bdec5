//! What happens to some cells while a run goes on, line by line: who writes them and learns what, which replicas are sent
//! them, who reads them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use madsim::time::TimeHandle;

use crate::oracle::cell::Cell;

/// The cells that are watched, and what happened to them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    cells: Vec<Cell>,
    lines: Mutex<Vec<Line>>,
}

/// A line, and whether it is of a watched cell, or of a fault or a worker.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub text: String,
    pub is_of_cell: bool,
}

impl Watch {
    /// Watches these cells.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, lines: Mutex::default() }
    }

    /// The watched cells.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// True if nothing is watched, so no line need be formatted.
    pub fn is_off(&self) -> bool {
        self.cells.is_empty()
    }

    /// The place of a cell among those that are watched.
    pub fn place(&self, cell: &Cell) -> Option<usize> {
        self.cells.iter().position(|watched| watched == cell)
    }

    /// True if a cell is watched.
    pub fn has(&self, cell: &Cell) -> bool {
        self.cells.contains(cell)
    }

    /// Adds a line with the current simulated time.
    pub fn add(&self, event: fmt::Arguments<'_>, is_of_cell: bool) {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_micros());
        let text = format!("{:>7}.{:03} ms  {event}", now / 1_000, now % 1_000);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(Line { text, is_of_cell });
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
