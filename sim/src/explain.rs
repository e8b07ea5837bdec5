//! Explains a run that fails: what happened to the cells of its first violation, in the order in which it happened.
//!
//! The scenario is run twice: once to find the violation, once to watch the cells that it is about. Both runs are the same,
//! because a scenario determines everything. The second can also be recorded, as a [`Timeline`]. A run that crashes in a
//! process of its own is not run again: it would end this process.

use std::fmt;

use exactlyonce::store::WindowKey;

use crate::campaign::{Isolation, play};
use crate::oracle::cell::Cell;
use crate::oracle::{Position, Violation, Window};
use crate::run::{Report, Watched, run_watching};
use crate::scenario::Scenario;
use crate::scenario::fault::Kind;
use crate::timeline::{About, CellKey, Recording, Timeline};
use crate::watch::Line;

/// Lines of an explanation, at most: a page.
const PAGE: usize = 70;

/// Characters of a line, at most.
const WIDTH: usize = 180;

/// Of these, how many are from the beginning if there are more.
const FIRST: usize = 20;

/// Why a run fails.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The run.
    pub report: Report,
    /// The cells that the first violation is about.
    pub cells: Vec<Cell>,
    /// What happened to them, to the workers and through faults: at most a page.
    pub lines: Vec<String>,
}

/// Explains a scenario; `None` if it has no violation.
pub fn explain(scenario: Scenario, isolation: &Isolation) -> Option<Explanation> {
    let report = play(scenario.clone(), isolation);
    report.violation.as_ref()?;
    let cells = cells_of_first(&report.violations, &scenario);
    if cells.is_empty() {
        return Some(Explanation { report, cells, lines: Vec::new() });
    }
    let Watched { report, lines, .. } = run_watching(scenario, cells.clone(), false);
    Some(Explanation { report, cells, lines: page(lines) })
}

/// The same with the timeline of the run, which there is also if it has no violation. Then these cells are watched: those
/// of another run, beside which it is shown.
pub fn record(
    scenario: Scenario,
    others: &[CellKey],
    isolation: &Isolation,
) -> (Option<Explanation>, Timeline) {
    let first = play(scenario.clone(), isolation);
    let violations = first.violations.clone();
    let cells = match violations.is_empty() {
        false => cells_of_first(&violations, &scenario),
        true => others.iter().map(Cell::from).collect(),
    };
    let Watched { report, lines, timeline } = match violations.first() {
        Some(crash @ Violation::Crashed { .. }) => {
            let mut recording = Recording::default();
            recording.violation(crash);
            Watched { report: first, lines: Vec::new(), timeline: Some(recording.timeline()) }
        }
        _ => run_watching(scenario, cells.clone(), true),
    };
    let mut timeline = timeline.unwrap_or_default();
    timeline.cells = cells.iter().map(|cell| (CellKey::from(cell), format!("{cell:?}"))).collect();
    timeline.run = About {
        seed: report.scenario.seed.to_string(),
        world: report.scenario.world().to_string(),
        profile: report.scenario.profile.to_string(),
        commit: crate::COMMIT.to_owned(),
        events: report.trace.events,
        hash: format!("{:016x}", report.trace.hash),
        ..About::default()
    };
    let explanation = (!violations.is_empty()).then(|| Explanation { report, cells, lines: page(lines) });
    (explanation, timeline)
}

/// The cells that the first violation is about. That progress is ahead may be because of a count: which one says another.
fn cells_of_first(violations: &[Violation], scenario: &Scenario) -> Vec<Cell> {
    let Some(first) = violations.first() else { return Vec::new() };
    let mut cells = cells_of(first, scenario);
    if let Violation::ProgressAheadOfData { position, .. } = first {
        let is_count =
            |other: &&Violation| matches!(other, Violation::WrongCount(of, ..) if *of == position.partition);
        let count = violations.iter().find(is_count);
        cells.extend(count.into_iter().flat_map(|count| cells_of(count, scenario)));
    }
    cells
}

/// The cells that a violation is about; none if it is about no cell.
fn cells_of(violation: &Violation, scenario: &Scenario) -> Vec<Cell> {
    let partitions = || {
        let added = scenario.faults.iter().filter(|fault| fault.kind == Kind::PartitionAdded);
        0..i32::from(scenario.options.partitions) + added.count() as i32
    };
    let row = |position: &Position| {
        let Position { partition, offset } = *position;
        [false, true].map(|is_dead_letter| Cell::Row { partition, offset, is_dead_letter })
    };
    let key = |window: &Window| WindowKey { source: window.source.as_str().into(), end: window.end };
    let counts = |window: &Window| {
        partitions().map(|partition| Cell::Count(partition, key(window))).collect::<Vec<_>>()
    };
    match violation {
        Violation::LostEvent(position)
        | Violation::ForeignEvent(position)
        | Violation::AlteredEvent(position, _)
        | Violation::LostDeadLetter(position)
        | Violation::ForeignDeadLetter(position)
        | Violation::AlteredDeadLetter(position, _)
        | Violation::DuplicateRow(position)
        | Violation::StaleRecordApplied { position, .. }
        | Violation::ProgressAheadOfData { position, .. } => {
            row(position).into_iter().chain([Cell::Progress(position.partition)]).collect()
        }
        Violation::MissingAlert(window)
        | Violation::PhantomAlert(window)
        | Violation::WrongAlertCount(window, _)
        | Violation::AlertAheadOfTruth(window, _) => {
            counts(window).into_iter().chain([Cell::Alert(key(window)), Cell::Registry]).collect()
        }
        Violation::AlertBehindProgress { window, .. } => {
            let others = [Cell::Alert(key(window)), Cell::Registry];
            counts(window).into_iter().chain(others).chain(partitions().map(Cell::Progress)).collect()
        }
        Violation::WrongCount(partition, window, _) => vec![Cell::Count(*partition, key(window))],
        Violation::NotDurable { cell, .. } => vec![cell.clone()],
        Violation::Unregistered { partition, .. } | Violation::RegistryNotRead { partition, .. } => {
            vec![Cell::Registry, Cell::Progress(*partition)]
        }
        Violation::ProgressBack { partition, .. }
        | Violation::ReportedAhead { partition, .. }
        | Violation::CommittedAhead { partition, .. }
        | Violation::CommittedBehind { partition, .. }
        | Violation::StartedElsewhere { partition, .. }
        | Violation::WrongProgress { partition, .. } => vec![Cell::Progress(*partition)],
        Violation::WrongRegistry { .. } => vec![Cell::Registry],
        Violation::Stuck { partitions } => {
            let behind = partitions.iter().filter(|(_, (progress, end))| progress.unwrap_or(0) < *end);
            behind.map(|(partition, _)| Cell::Progress(*partition)).collect()
        }
        _ => Vec::new(),
    }
}

/// The lines from the first to the last one of a cell, at most a page of them: those of cells first, then the others as far
/// as there is space.
fn page(lines: Vec<Line>) -> Vec<String> {
    let of_cell = |line: &Line| line.is_of_cell;
    let Some(first) = lines.iter().position(of_cell) else { return Vec::new() };
    let last = lines.iter().rposition(of_cell).unwrap_or(first);
    // What happens just before and after belongs to it.
    let mut lines = lines[first.saturating_sub(2)..(last + 3).min(lines.len())].to_vec();
    if lines.len() > PAGE {
        lines.retain(of_cell);
    }
    let mut page: Vec<String> = lines.into_iter().map(|line| short(line.text)).collect();
    if page.len() > PAGE {
        let left_out = page.len() - PAGE + 1;
        page.splice(FIRST..FIRST + left_out, [format!("      ...  {left_out} lines are left out")]);
    }
    page
}

/// A line without the end of a long error.
fn short(line: String) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, cells, lines } = self;
        if let Some(violation) = &report.violation {
            writeln!(f, "{}: {violation:?}", violation.name())?;
        }
        for violation in report.violations.iter().skip(1) {
            writeln!(f, "{}", short(format!("also {}: {violation:?}", violation.name())))?;
        }
        if cells.is_empty() {
            return writeln!(f, "it is about no cell; run it with --trace to see what happened");
        }
        for cell in cells {
            writeln!(f, "watched: {cell:?}")?;
        }
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, is_of_cell: bool) -> Line {
        Line { text: number.to_string(), is_of_cell }
    }

    #[test]
    fn a_page_begins_and_ends_with_the_cells_and_what_is_next_to_them() {
        let lines: Vec<Line> = (0..20).map(|number| line(number, (5..9).contains(&number))).collect();
        assert_eq!(page(lines), ["3", "4", "5", "6", "7", "8", "9", "10"]);
        assert!(page(vec![line(0, false)]).is_empty());
    }

    #[test]
    fn a_page_leaves_out_the_middle() {
        let page = page((0..200).map(|number| line(number, true)).collect());
        assert_eq!(page.len(), PAGE);
        assert_eq!((page[0].as_str(), page[PAGE - 1].as_str()), ("0", "199"));
        assert!(page[FIRST].contains("131 lines are left out"), "{}", page[FIRST]);
    }
}
