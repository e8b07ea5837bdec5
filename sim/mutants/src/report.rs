//! What is printed: progress on stderr, and a table on stdout.

use std::io::{self, Write};

use mutants::play::Played;
use mutants::results::Results;

/// A line about a mutant in a world.
pub fn progress(played: &Played, count: usize, of: usize) {
    let name = format!("{}, {}, {}", played.pair.mutant, played.pair.world, played.profile);
    let text = match played.figures() {
        None => "not played, the time is over".to_owned(),
        Some(figures) if !figures.is_found() => {
            format!("not found from {} starting seeds, {:.0} s", figures.starts, figures.seconds)
        }
        Some(figures) => format!(
            "median {}, 95th percentile {}, most {}, {:.0} s",
            figures.median_text(),
            figures.percentile_95_text(),
            figures.most_text(),
            figures.seconds
        ),
    };
    eprintln!("{count} of {of}: {name}: {text}");
}

/// The table of all results.
pub fn table(results: &Results) -> io::Result<()> {
    let mut rows = vec![
        ["mutant", "world", "profile", "median", "95%", "most", "s", "smallest", "plain tests", "violations"]
            .map(str::to_owned),
    ];
    for (name, mutant) in &results.mutants {
        let best = mutant.best().map(|(world, _)| world);
        for (world, figures) in &mutant.worlds {
            let smallest = mutant.smallest.as_ref().filter(|smallest| smallest.world == *world);
            let smallest = smallest.map(|each| format!("{} records, {} faults", each.records, each.faults));
            let plain = mutant.plain_tests.as_ref().filter(|_| best.is_none_or(|best| best == *world));
            let plain = plain.map(|plain| match plain.find_it() {
                true => format!("{} fail", plain.failed + plain.endless.len()),
                false => "none".to_owned(),
            });
            let found = |text: String| if figures.is_found() { text } else { "not found".to_owned() };
            let violations = figures.violations.iter().map(|(name, count)| format!("{name} {count}"));
            rows.push([
                name.clone(),
                world.clone(),
                figures.profile.clone(),
                found(figures.median_text()),
                figures.percentile_95_text(),
                figures.most_text(),
                format!("{:.0}", figures.seconds),
                smallest.unwrap_or_default(),
                plain.unwrap_or_default(),
                violations.collect::<Vec<_>>().join(", "),
            ]);
        }
    }
    let mut widths = [0; 10];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut out = io::stdout().lock();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    for (world, unchanged) in &results.unchanged {
        writeln!(out, "unchanged, {world}: {} seeds, {:.0} s", unchanged.seeds, unchanged.seconds)?;
    }
    for (goal, is_reached) in results.goals() {
        writeln!(out, "{}: {goal}", if is_reached { "reached" } else { "NOT reached" })?;
    }
    Ok(())
}
