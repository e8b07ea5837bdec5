//! A scenario as bytes, such that a small change of the bytes is a small change of the scenario.
//!
//! One byte is the profile and eight are the seed, of which the scenario is drawn; each six bytes after them are an
//! [`Edit`] of it. All bytes are a scenario, and one that a correct pipeline survives.

use fuzz_runner::Draw;
use simulation::scenario::fault::{Fault, Host, Kind, Target, Trigger};
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use strum::IntoEnumIterator;

use crate::edit::Edit;

/// Bytes before the edits.
const HEAD: usize = 9;

/// More edits are ignored.
pub const MOST_EDITS: usize = 32;

/// The length of the longest genome, in bytes.
pub const LONGEST: usize = HEAD + MOST_EDITS * Edit::LENGTH;

/// What a scenario is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genome {
    /// The profile that it is drawn with.
    pub profile: Profile,
    /// The seed that it is drawn from.
    pub seed: u64,
    /// The changes of it.
    pub(crate) edits: Vec<Edit>,
}

/// The profiles of scenarios that a correct pipeline drains, and without damage.
fn profiles() -> Vec<Profile> {
    Profile::iter().filter(|profile| !matches!(profile, Profile::Damaged | Profile::Sabotaged)).collect()
}

impl Genome {
    /// A scenario as it is drawn.
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self { profile, seed, edits: Vec::new() }
    }

    /// The genome that bytes are. What is missing is 0.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut head = [0; HEAD];
        let (start, edits) = bytes.split_at(bytes.len().min(HEAD));
        head[..start.len()].copy_from_slice(start);
        let [profile, seed @ ..] = head;
        let all = profiles();
        Self {
            profile: all[usize::from(profile) % all.len()],
            seed: u64::from_le_bytes(seed),
            edits: edits.chunks(Edit::LENGTH).map(Edit::decode).take(MOST_EDITS).collect(),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let profile = profiles().iter().position(|profile| *profile == self.profile).unwrap_or_default();
        let mut bytes = vec![profile as u8];
        bytes.extend(self.seed.to_le_bytes());
        bytes.extend(self.edits.iter().flat_map(|edit| edit.0));
        bytes
    }

    /// Its scenario, in the fast world.
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::draw(self.seed, World::Simple, self.profile);
        for (nth, edit) in (1..).zip(&self.edits) {
            edit.apply(nth, &mut scenario);
        }
        make_consistent(&mut scenario);
        scenario
    }

    /// One without any edit: half of them of the standard profile.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let profile = if draw.one_in(2) { Profile::Standard } else { *draw.pick(&profiles()) };
        // As many as anyone plays.
        Self::new(profile, draw.any() >> 16)
    }

    /// A similar one; `other` is one to take edits from.
    pub(crate) fn mutated(&self, draw: &mut Draw, other: &Genome) -> Self {
        let mut genome = self.clone();
        for _ in 0..=draw.below(3) {
            genome.change(draw, other);
        }
        genome.edits.truncate(MOST_EDITS);
        genome
    }

    fn change(&mut self, draw: &mut Draw, other: &Genome) {
        let at = draw.below(self.edits.len());
        match draw.below(16) {
            0 | 1 if !self.edits.is_empty() => drop(self.edits.remove(at)),
            2..=4 if !self.edits.is_empty() => {
                *draw.pick_mut(&mut self.edits[at].0) = draw.byte();
            }
            5 | 6 => {
                let from = draw.below(other.edits.len());
                self.edits.extend_from_slice(&other.edits[from..]);
            }
            7 => self.profile = *draw.pick(&profiles()),
            8 => self.seed = draw.any() >> 16,
            _ => self.edits.insert(at, Edit::draw(draw)),
        }
    }
}

/// Makes what edits have changed fit together: workers that exist, and times within those of the run.
fn make_consistent(scenario: &mut Scenario) {
    let (workers, chaos_ms) = (scenario.options.workers, scenario.options.chaos_ms);
    for Fault { trigger, target, kind, duration_ms, .. } in &mut scenario.faults {
        if let Target::Host(Host::Worker(worker)) | Target::Link { from: Host::Worker(worker), .. } = target {
            *worker %= workers;
        }
        match trigger {
            Trigger::At { at_ms } => *at_ms = (*at_ms).min(chaos_ms * 7 / 10),
            Trigger::When { latest_ms, .. } => *latest_ms = (*latest_ms).min(chaos_ms * 9 / 10),
        }
        *duration_ms = (*duration_ms).clamp(1, chaos_ms);
        debug_assert!(!matches!(kind, Kind::Sabotaged { .. } | Kind::AcknowledgedWritesDropped { .. }));
    }
    for record in &mut scenario.records {
        record.at_ms = record.at_ms.map(|at_ms| at_ms.min(chaos_ms - 1));
    }
}

#[cfg(test)]
mod tests {
    use simulation::run;

    use super::*;

    #[test]
    fn a_genome_is_what_its_bytes_are_and_any_bytes_are_one() {
        let draw = &mut Draw::new(1, "genome");
        let mut genome = Genome::draw(draw);
        for _ in 0..200 {
            let other = Genome::draw(draw);
            genome = genome.mutated(draw, &other);
            assert_eq!(Genome::decode(&genome.encode()), genome);
        }
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|_| draw.byte()).collect();
            let genome = Genome::decode(&bytes);
            assert_eq!(Genome::decode(&genome.encode()), genome);
        }
    }

    #[test]
    fn a_genome_without_edits_is_the_scenario_of_its_seed() {
        for profile in profiles() {
            let drawn = Scenario::draw(17, World::Simple, profile);
            assert_eq!(Genome::new(profile, 17).scenario(), drawn, "{profile}");
        }
    }

    #[test]
    fn a_small_change_of_bytes_is_a_small_change_of_the_scenario() {
        let draw = &mut Draw::new(2, "genome");
        let mut unchanged = 0;
        for _ in 0..100 {
            let before = Genome { edits: (0..4).map(|_| Edit::draw(draw)).collect(), ..Genome::draw(draw) };
            let mut after = before.clone();
            after.edits.push(Edit::draw(draw));
            let (before, after) = (before.scenario(), after.scenario());
            let parts = [
                before.options == after.options,
                before.faults == after.faults,
                before.records == after.records,
                before.seed == after.seed,
            ];
            unchanged += parts.iter().filter(|is_equal| **is_equal).count();
        }
        assert!(unchanged > 250, "{unchanged} of 400 parts are unchanged");
    }

    #[test]
    fn the_pipeline_survives_what_any_bytes_are() {
        let draw = &mut Draw::new(3, "genome");
        for _ in 0..60 {
            let length = draw.below(LONGEST);
            let bytes: Vec<u8> = (0..length).map(|_| draw.byte()).collect();
            let report = run(Genome::decode(&bytes).scenario(), false);
            assert!(report.violation.is_none(), "{report}");
        }
    }
}
