//! The command that runs many seeds.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use simulation::COMMIT;
use simulation::campaign::{Campaign, Limits};
use simulation::observed::{FaultCounts, Sometimes};
use simulation::scenario::World;
use simulation::scenario::fault::KindName;
use simulation::scenario::profile::Profile;
use strum::IntoEnumIterator;

use super::summary::{Failure, First, Summary};
use super::{code, isolation};

/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A campaign of fewer seeds need not reach everything.
const SEEDS_THAT_REACH_ALL: u64 = 150;

impl super::Campaign {
    /// Runs the campaigns, one after the other. The exit code is the greatest one.
    pub fn run(&self) -> io::Result<u8> {
        let (worlds, profiles) = (self.world.values(), self.profile.values());
        let parts: Vec<(World, Profile)> =
            worlds.iter().flat_map(|world| profiles.iter().map(|profile| (*world, *profile))).collect();
        let mut limits = Limits::seeds(self.seeds.clone());
        limits.jobs = self.jobs.map_or(limits.jobs, usize::from);
        limits.until_first = self.first;
        limits.time = self.minutes.map(|time| time / parts.len() as u32);
        let mut results = Vec::new();
        for (world, profile) in parts {
            limits.isolation = isolation(world, self.processes)?;
            let result = self.part(world, profile, &limits)?;
            if !self.json {
                result.print(&mut io::stdout().lock())?;
            }
            results.push(result);
        }
        if self.json {
            let text = match results.as_slice() {
                [one] => serde_json::to_string_pretty(&one.summary),
                several => {
                    let summaries: Vec<&Summary> = several.iter().map(|result| &result.summary).collect();
                    serde_json::to_string_pretty(&summaries)
                }
            };
            writeln!(io::stdout().lock(), "{}", text?)?;
        }
        Ok(results.iter().map(Results::code).max().unwrap_or(0))
    }

    fn part(&self, world: World, profile: Profile, limits: &Limits) -> io::Result<Results> {
        let began = Instant::now();
        let progress = &Progress::new(world, profile, limits);
        let failures = Mutex::new(Vec::new());
        let (ended, waits) = mpsc::channel::<()>();
        let campaign = std::thread::scope(|scope| {
            scope.spawn(move || {
                // Until the sender is dropped.
                while waits.recv_timeout(PROGRESS_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                    eprintln!("{progress}");
                }
            });
            let campaign = Campaign::run(world, profile, limits, |_, report| {
                progress.runs.fetch_add(1, Ordering::Relaxed);
                if let Some(failure) = Failure::of(report, &self.failures) {
                    progress.failed.fetch_add(1, Ordering::Relaxed);
                    eprintln!("failed: {failure}");
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            });
            drop(ended);
            campaign
        });
        eprintln!("{progress}");
        let seconds = began.elapsed().as_secs_f64();
        let is_full = limits.time.is_none()
            && !self.first
            && campaign.runs >= SEEDS_THAT_REACH_ALL
            && profile == Profile::Standard;
        let missed = if is_full || self.require_all { campaign.missed(world) } else { Vec::new() };
        let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.sort_by_key(|failure| failure.seed);
        // Threads may have gone past the first failure; it is the only one that does not depend on their number.
        if self.first {
            failures.truncate(1);
        }
        if let Some(error) = failures.iter_mut().find_map(|failure| failure.error.take()) {
            return Err(error);
        }
        let first = failures.first().filter(|_| self.first).map(|failure| First {
            seed: failure.seed,
            violation: failure.violation.clone(),
            seeds: failure.seed - limits.seeds.start + 1,
        });
        let Campaign { observed, runs, simulated_ms, .. } = &campaign;
        let faults = KindName::iter().map(|kind| (kind.to_string(), observed.faults(kind)));
        let situations =
            Sometimes::iter().map(|situation| (situation.to_string(), observed.count(situation)));
        let summary = Summary {
            world: world.to_string(),
            profile: profile.to_string(),
            commit: COMMIT.to_owned(),
            seeds: format!("{}..{}", limits.seeds.start, limits.seeds.end),
            runs: *runs,
            seconds,
            seeds_per_second: *runs as f64 / seconds,
            simulated_seconds: simulated_ms / 1_000,
            faults: faults.filter(|(_, FaultCounts { planned, .. })| *planned > 0).collect(),
            situations: situations.collect(),
            missed,
            first,
            failures,
        };
        Ok(Results { campaign, summary })
    }
}

/// What a campaign has done so far; `{}` is a line of it.
struct Progress {
    name: String,
    began: Instant,
    seeds: u64,
    time: Option<Duration>,
    runs: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    fn new(world: World, profile: Profile, limits: &Limits) -> Self {
        let seeds = limits.seeds.end - limits.seeds.start;
        let (runs, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            name: format!("{world}, {profile}"),
            began: Instant::now(),
            seeds,
            time: limits.time,
            runs,
            failed,
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (runs, failed) = (self.runs.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        let passed = self.began.elapsed();
        let per_second = runs as f64 / passed.as_secs_f64();
        write!(f, "{}: {runs} of {} seeds, {per_second:.1} seeds/s, {failed} failed", self.name, self.seeds)?;
        let for_seeds = (runs > 0).then(|| (self.seeds - runs) as f64 / per_second);
        let for_time = self.time.map(|time| time.saturating_sub(passed).as_secs_f64());
        match for_seeds.into_iter().chain(for_time).reduce(f64::min) {
            Some(left) => write!(f, ", {left:.0} s left"),
            None => Ok(()),
        }
    }
}

/// The results of a campaign.
struct Results {
    campaign: Campaign,
    summary: Summary,
}

impl Results {
    fn code(&self) -> u8 {
        let failed = self.campaign.failures.iter().map(code).max();
        failed.unwrap_or(if self.summary.missed.is_empty() { 0 } else { 4 })
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Campaign { observed, events, simulated_ms, .. } = &self.campaign;
        writeln!(out, "{observed}")?;
        let Summary { world, profile, runs, seconds, seeds_per_second, missed, first, failures, .. } =
            &self.summary;
        writeln!(
            out,
            "{runs} seeds ({world}, {profile}) in {seconds:.0} s, {seeds_per_second:.1} per second; {events} \
             events, {} s of simulated time; {} failed",
            simulated_ms / 1_000,
            failures.len()
        )?;
        if let Some(First { seed, seeds, .. }) = first {
            writeln!(out, "stopped at seed {seed}, the first that failed of {seeds}")?;
        }
        for failure in failures {
            let Failure { seed, violation, evidence, simulated_ms, file, repeat, .. } = failure;
            writeln!(
                out,
                "FAILED seed {seed} ({world}, {profile}) of commit {COMMIT} after {simulated_ms} ms"
            )?;
            writeln!(out, "  {violation}: {evidence}")?;
            writeln!(out, "  its scenario is in {}", file.display())?;
            writeln!(out, "  to repeat it with its trace: {repeat}")?;
        }
        if !missed.is_empty() {
            writeln!(out, "never reached: {}", missed.join(", "))?;
        }
        Ok(())
    }
}
