//! Plays campaigns: of each mutant in each world from several starting seeds, and of the unchanged pipeline on the same seeds.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::program::{BUSY, Program, ProgramError};
use crate::statistics::{Figures, Search};

/// Distance between two starting seeds.
const APART: u64 = 10_000;

/// A mutant that is found from none of the first starting seeds is not found.
const STARTS_UNTIL_GIVEN_UP: usize = 3;

/// How campaigns are played.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program with all mutants.
    pub program: PathBuf,
    /// Where scenarios of failures are left, in a folder for each mutant.
    pub failures: PathBuf,
    /// Number of starting seeds.
    pub starts: u64,
    /// Number of threads.
    pub jobs: usize,
    /// No search begins after it.
    pub deadline: Option<Instant>,
}

/// A mutant in a world.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The mutant's name.
    pub mutant: String,
    /// The world's name.
    pub world: String,
    /// Seeds from a start until a search ends.
    pub limit: u64,
    /// The profiles to draw scenarios with: each after the first only if those before do not find the mutant.
    pub profiles: Vec<String>,
}

/// The searches for a mutant in a world.
#[derive(Clone, Debug)]
pub struct Played {
    /// The mutant and the world.
    pub pair: Pair,
    /// The profile that found it; the first one if none did.
    pub profile: String,
    /// The searches, by starting seed.
    pub searches: Vec<Search>,
    /// False if the time was over before the last search.
    pub is_complete: bool,
}

impl Played {
    /// The figures; `None` if the time was over before the first search.
    pub fn figures(&self) -> Option<Figures> {
        let figures = || Figures::of(&self.searches, self.pair.limit, &self.profile);
        (!self.searches.is_empty()).then(figures)
    }
}

/// What happened to the unchanged pipeline.
#[derive(Clone, Debug, Default)]
pub struct Unchanged {
    /// Number of seeds.
    pub seeds: u64,
    /// Seconds of a processor.
    pub seconds: f64,
    /// Its violations: seeds and names.
    pub violations: Vec<(u64, String)>,
    /// False if the time was over before the last seed.
    pub is_complete: bool,
}

impl Settings {
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The searches of a mutant with a profile, and whether the time was enough.
    fn search(
        &self,
        pair: &Pair,
        profile: &str,
        threads: usize,
    ) -> Result<(Vec<Search>, bool), ProgramError> {
        let failures = self.failures.join(&pair.mutant);
        let program = Program {
            path: &self.program,
            mutant: Some(&pair.mutant),
            profile,
            failures: &failures,
            busy: BUSY,
        };
        let mut searches = Vec::new();
        for start in (0..self.starts).map(|start| start * APART) {
            let is_given_up = searches.len() >= STARTS_UNTIL_GIVEN_UP
                && searches.iter().all(|search: &Search| search.found.is_none());
            if is_given_up {
                break;
            }
            if self.is_over() {
                return Ok((searches, false));
            }
            searches.push(program.search(&pair.world, start, pair.limit, threads)?);
        }
        Ok((searches, true))
    }

    /// Searches for mutants. `after` is called with each result and the number of results so far.
    ///
    /// # Errors
    /// If the program does something else than campaigns.
    pub fn play(
        &self,
        pairs: Vec<Pair>,
        after: impl Fn(&Played, usize) + Sync,
    ) -> Result<Vec<Played>, ProgramError> {
        // With few pairs, each search gets several threads.
        let threads = (self.jobs / pairs.len().max(1)).max(1);
        let count = Mutex::new(0);
        let played = self.on_all_threads(pairs, |pair| {
            let mut best: Option<Played> = None;
            for profile in &pair.profiles {
                let (searches, is_complete) = self.search(&pair, profile, threads)?;
                let is_found = searches.iter().any(|search| search.found.is_some());
                if is_found || best.is_none() {
                    let (pair, profile) = (pair.clone(), profile.clone());
                    best = Some(Played { pair, profile, searches, is_complete });
                }
                if is_found || !is_complete {
                    break;
                }
            }
            let Some(played) = best else { return Ok(None) };
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            after(&played, *count);
            Ok(Some(played))
        })?;
        let mut played: Vec<Played> = played.into_iter().flatten().collect();
        played.sort_by(|one, other| {
            (&one.pair.mutant, &one.pair.world).cmp(&(&other.pair.mutant, &other.pair.world))
        });
        Ok(played)
    }

    /// Plays the seeds that were needed with the unchanged pipeline; by world. Of each world and profile at most `most` seeds.
    ///
    /// # Errors
    /// If the program does something else than campaigns.
    pub fn play_unchanged(
        &self,
        played: &[Played],
        most: u64,
    ) -> Result<BTreeMap<String, Unchanged>, ProgramError> {
        let mut parts = Vec::new();
        for ((world, profile), mut needed) in needed(played) {
            let mut left = most;
            for (start, seeds) in &mut needed {
                *seeds = left.min(*seeds);
                left -= *seeds;
                if *seeds > 0 {
                    parts.push((world.clone(), profile.clone(), *start..*start + *seeds));
                }
            }
        }
        let threads = (self.jobs / parts.len().max(1)).max(1);
        let failures = self.failures.join("unchanged");
        let results = self.on_all_threads(parts, |(world, profile, seeds)| {
            if self.is_over() {
                return Ok((world, Unchanged::default()));
            }
            let program = Program {
                path: &self.program,
                mutant: None,
                profile: &profile,
                failures: &failures,
                busy: BUSY,
            };
            let ran = program.campaign(&world, seeds.clone(), threads, false)?;
            let unchanged = match ran.result {
                Ok(campaign) => Unchanged {
                    seeds: campaign.runs,
                    seconds: ran.seconds,
                    violations: campaign
                        .failures
                        .into_iter()
                        .map(|failure| (failure.seed, failure.violation))
                        .collect(),
                    is_complete: true,
                },
                Err(broken) => Unchanged {
                    seeds: broken.runs,
                    seconds: ran.seconds,
                    violations: vec![(seeds.start + broken.runs, broken.violation.to_owned())],
                    is_complete: true,
                },
            };
            Ok((world, unchanged))
        })?;
        let mut worlds = BTreeMap::<String, Unchanged>::new();
        for (world, part) in results {
            let sum = worlds.entry(world).or_insert(Unchanged { is_complete: true, ..Unchanged::default() });
            sum.seeds += part.seeds;
            sum.seconds += part.seconds;
            sum.violations.extend(part.violations);
            sum.is_complete &= part.is_complete;
        }
        worlds.values_mut().for_each(|unchanged| unchanged.violations.sort());
        Ok(worlds)
    }

    /// Does something with each item, on all threads; the results in no order. After an error no item is begun.
    ///
    /// # Errors
    /// The first error.
    pub fn on_all_threads<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        each: impl Fn(T) -> Result<R, ProgramError> + Sync,
    ) -> Result<Vec<R>, ProgramError> {
        let queue = Mutex::new(VecDeque::from(items));
        let results = Mutex::new(Ok(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(item) = next else { return };
                        let result = each(item);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        match (&mut *results, result) {
                            (Ok(results), Ok(result)) => results.push(result),
                            (Err(_), Ok(_)) => return,
                            (_, Err(error)) => {
                                *results = Err(error);
                                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                            }
                        }
                    }
                });
            }
        });
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For each world, profile and starting seed, the greatest number of seeds after which a mutant was found.
fn needed(played: &[Played]) -> BTreeMap<(String, String), BTreeMap<u64, u64>> {
    let mut worlds = BTreeMap::<(String, String), BTreeMap<u64, u64>>::new();
    for each in played {
        for search in &each.searches {
            let Some(found) = &search.found else { continue };
            let starts = worlds.entry((each.pair.world.clone(), each.profile.clone())).or_default();
            let seeds = starts.entry(search.start).or_default();
            *seeds = found.seeds.max(*seeds);
        }
    }
    worlds
}
