//! The command that explains a scenario that fails.

use std::io::{self, Write};
use std::path::Path;

use simulation::campaign::Isolation;
use simulation::explain::{explain, record};
use simulation::scenario::Scenario;
use simulation::timeline::{CellKey, FORMAT, Timeline, page};

use super::{Repeat, WRONG_USAGE, code, file_name, isolation, of_file, read, read_or_draw};

impl super::Explain {
    /// Explains the scenario, and writes its timeline as the options say.
    pub fn run(&self) -> io::Result<u8> {
        let Some(scenario) = read_or_draw(self.file.as_deref(), self.seed, self.world, self.profile)? else {
            return Ok(WRONG_USAGE);
        };
        let is_recorded = self.out.is_some() || self.data.is_some();
        let isolation = isolation(scenario.world(), self.processes)?;
        let explanation = match is_recorded {
            true => self.record(scenario, &isolation)?,
            false => explain(scenario, &isolation),
        };
        let Some(explanation) = explanation else {
            println!("the scenario has no violation");
            return Ok(0);
        };
        write!(io::stdout().lock(), "{explanation}")?;
        Ok(code(&explanation.report))
    }

    fn record(
        &self,
        scenario: Scenario,
        isolation: &Isolation,
    ) -> io::Result<Option<simulation::explain::Explanation>> {
        let name = self.file.clone().unwrap_or_else(|| file_name(&scenario));
        let beside = self.beside_data.as_deref().map(read_timeline).transpose()?;
        let (explanation, timeline) = recorded(&name, scenario, &cells(beside.as_ref()), isolation);
        let timeline = named(timeline, self.title.as_deref(), self.text.as_deref());
        let beside = match &self.beside {
            Some(file) => {
                let scenario = read(file)?;
                let isolation = super::isolation(scenario.world(), self.processes)?;
                Some(recorded(file, scenario, &cells(Some(&timeline)), &isolation).1)
            }
            None => beside,
        };
        if let Some(file) = &self.data {
            let json = serde_json::to_vec(&timeline)?;
            std::fs::write(file, json).map_err(|error| of_file(file, &error))?;
        }
        if let Some(folder) = &self.out {
            // The run that fails is the first.
            let runs = match beside {
                Some(beside) if timeline.violations.is_empty() && !beside.violations.is_empty() => {
                    (beside, Some(timeline))
                }
                beside => (timeline, beside),
            };
            let html = page::page(&runs.0, runs.1.as_ref())?;
            std::fs::create_dir_all(folder).map_err(|error| of_file(folder, &error))?;
            let file =
                folder.join(name.with_extension("html").file_name().unwrap_or("timeline.html".as_ref()));
            std::fs::write(&file, html).map_err(|error| of_file(&file, &error))?;
            println!("its timeline is in {}", file.display());
        }
        Ok(explanation)
    }
}

/// Runs and records a scenario of a file.
fn recorded(
    file: &Path,
    scenario: Scenario,
    others: &[CellKey],
    isolation: &Isolation,
) -> (Option<simulation::explain::Explanation>, Timeline) {
    let name = Path::new(file.file_name().unwrap_or(file.as_os_str()));
    let command = match name == file_name(&scenario) {
        true => Repeat(&scenario).to_string(),
        false => format!("cargo sim replay {} --trace", name.display()),
    };
    let (explanation, mut timeline) = record(scenario, others, isolation);
    timeline.run.command = command;
    timeline.run.title = name.with_extension("").display().to_string();
    (explanation, timeline)
}

fn named(mut timeline: Timeline, title: Option<&str>, text: Option<&str>) -> Timeline {
    if let Some(title) = title {
        timeline.run.title = title.to_owned();
    }
    timeline.run.text = text.unwrap_or_default().to_owned();
    timeline
}

fn cells(timeline: Option<&Timeline>) -> Vec<CellKey> {
    timeline.map_or(Vec::new(), |timeline| timeline.cells.iter().map(|(key, _)| key.clone()).collect())
}

/// Reads a timeline that `--data` wrote.
fn read_timeline(file: &Path) -> io::Result<Timeline> {
    let text = std::fs::read(file).map_err(|error| of_file(file, &error))?;
    let timeline: Timeline = serde_json::from_slice(&text).map_err(|error| of_file(file, &error))?;
    match timeline.format {
        FORMAT => Ok(timeline),
        other => {
            let text =
                format!("{}: format {other} of a timeline, but this program reads {FORMAT}", file.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}
