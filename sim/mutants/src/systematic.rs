//! What becomes of mutants that nobody had an idea for: whether a simulation finds them, or a test without simulation, and
//! whether the page says why none does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::listed::Listed;
use crate::program::{Program, ProgramError};

/// A campaign that is played until its first failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its world.
    pub world: &'static str,
    /// The profile that scenarios are drawn with.
    pub profile: &'static str,
    /// Number of seeds, from 0.
    pub seeds: u64,
}

/// Where the simple world runs the code.
const SIMPLE: [Round; 2] = [
    Round { world: "simple", profile: "standard", seeds: 100 },
    Round { world: "simple", profile: "damaged", seeds: 30 },
];

/// The store, which the simple world replaces by a simple one.
const CASSANDRA: [Round; 1] = [Round { world: "cassandra", profile: "standard", seeds: 25 }];

/// The folder of that store.
const CASSANDRA_SOURCES: &str = "src/store/cassandra/";

/// A run that uses this much of a processor and finishes no seed is endless. Many of these mutants are, so it is less than for
/// the others; a seed of these rounds takes a tenth of a second.
const BUSY: Duration = Duration::from_secs(5);

/// The rounds that are played for a mutant of this file.
pub fn rounds(file: &str) -> &'static [Round] {
    if file.starts_with(CASSANDRA_SOURCES) { &CASSANDRA } else { &SIMPLE }
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does not compile, or cannot be chosen in a program, for this reason.
    Unviable(String),
    /// A simulation found it.
    Simulation {
        /// The world.
        world: String,
        /// The profile.
        profile: String,
        /// The failing seed.
        seed: u64,
        /// The name of the violation.
        violation: String,
    },
    /// A test without simulation fails with it, or does not end.
    PlainTest(String),
    /// Nothing found it.
    Survived,
}

/// A mutant with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The short name, that chooses it in a program.
    pub short: String,
    /// The name.
    pub name: String,
    /// The line.
    pub line: usize,
    /// The verdict.
    pub verdict: Verdict,
}

impl Judged {
    /// A mutant of the list with its verdict.
    pub fn new(listed: &Listed, verdict: Verdict) -> Self {
        Self { short: listed.patch.name.clone(), name: listed.name.clone(), line: listed.line, verdict }
    }
}

/// How many mutants have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub all: usize,
    /// See [`Verdict`].
    pub unviable: usize,
    /// See [`Verdict`].
    pub simulation: usize,
    /// See [`Verdict`].
    pub plain_tests: usize,
    /// See [`Verdict`].
    pub survived: usize,
}

impl Counts {
    /// Counts verdicts.
    pub fn of(judged: &[Judged]) -> Self {
        let mut counts = Self { all: judged.len(), ..Self::default() };
        for each in judged {
            *match each.verdict {
                Verdict::Unviable(_) => &mut counts.unviable,
                Verdict::Simulation { .. } => &mut counts.simulation,
                Verdict::PlainTest(_) => &mut counts.plain_tests,
                Verdict::Survived => &mut counts.survived,
            } += 1;
        }
        counts
    }
}

/// Plays the rounds of a mutant; the verdict if one of them finds it.
///
/// # Errors
/// If the program does something else than campaigns.
pub fn play(listed: &Listed, program: &PathBuf, failures: &PathBuf) -> Result<Option<Verdict>, ProgramError> {
    let file = listed.name.split(':').next().unwrap_or_default();
    for round in rounds(file) {
        let mutant = Some(listed.patch.name.as_str());
        let program = Program { path: program, mutant, profile: round.profile, failures, busy: BUSY };
        if let Some(found) = program.search(round.world, 0, round.seeds, 1)?.found {
            return Ok(Some(Verdict::Simulation {
                world: round.world.to_owned(),
                profile: round.profile.to_owned(),
                seed: found.seed,
                violation: found.violation,
            }));
        }
    }
    Ok(None)
}

/// The names of such mutants in a text, each between two backticks.
pub fn names_in(page: &str) -> BTreeSet<&str> {
    let quoted = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|text| text.starts_with("src/") && text.contains(".rs: ")).collect()
}

/// What is wrong: a mutant that survived and that the page does not explain.
pub fn unexplained<'a>(judged: &'a [Judged], page: &str) -> Vec<&'a Judged> {
    let names = names_in(page);
    let survived = judged.iter().filter(|each| each.verdict == Verdict::Survived);
    survived.filter(|each| !names.contains(each.name.as_str())).collect()
}

/// Names on the page that are not needed any more: those of mutants that are found, or are not in the list.
pub fn needless<'a>(judged: &[Judged], page: &'a str) -> Vec<&'a str> {
    let survived =
        |name: &&str| !judged.iter().any(|each| each.name == **name && each.verdict == Verdict::Survived);
    names_in(page).into_iter().filter(survived).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, verdict: Verdict) -> Judged {
        Judged { short: "m1".to_owned(), name: name.to_owned(), line: 1, verdict }
    }

    #[test]
    fn a_mutant_that_survives_needs_a_reason_on_the_page() {
        let page = "# Page\n\n`src/other.rs` is a file.\n\n- `src/a.rs: replace + with - in f`,\n  `src/a.rs: delete ! in g (#2)`: why.\n";
        let all = [
            judged("src/a.rs: replace + with - in f", Verdict::Survived),
            judged("src/a.rs: delete ! in g", Verdict::Survived),
            judged("src/a.rs: delete ! in g (#2)", Verdict::PlainTest("lib: g".to_owned())),
            judged("src/a.rs: replace + with * in f", Verdict::Unviable("type".to_owned())),
        ];
        let unexplained: Vec<&str> = unexplained(&all, page).iter().map(|each| each.name.as_str()).collect();
        assert_eq!(unexplained, ["src/a.rs: delete ! in g"]);
        assert_eq!(needless(&all, page), ["src/a.rs: delete ! in g (#2)"]);
        let counts = Counts { all: 4, unviable: 1, simulation: 0, plain_tests: 1, survived: 2 };
        assert_eq!(Counts::of(&all), counts);
    }

    #[test]
    fn only_the_store_on_cassandra_is_played_on_cassandra() {
        assert_eq!(rounds("src/store/cassandra/write.rs")[0].world, "cassandra");
        assert_eq!(rounds("src/pipeline/write.rs")[0].world, "simple");
        assert_eq!(rounds("src/pipeline/write.rs")[0].seeds, 100);
    }
}
