//! Which kinds of faults a scenario has, how many of each, and for how long.

use std::collections::BTreeMap;

use crate::random::Random;
use crate::scenario::fault::{FAULTS_OF_A_KIND, KindName};

/// Which kinds of faults are drawn, how many of each, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// How many scenarios per mille have a kind of fault.
    pub per_mille: u64,
    /// The same of single kinds, instead.
    pub of_kind: BTreeMap<KindName, u64>,
    /// The number of faults of a kind, in percent of the standard number.
    pub number_percent: u64,
    /// The durations of faults, in percent of the standard durations.
    pub duration_percent: u64,
}

impl Default for FaultMix {
    /// Each kind with probability 1/2.
    fn default() -> Self {
        Self { per_mille: 500, of_kind: BTreeMap::new(), number_percent: 100, duration_percent: 100 }
    }
}

impl FaultMix {
    /// Only these kinds, each with this probability per mille.
    pub(crate) fn of(kinds: &[(KindName, u64)]) -> Self {
        Self { per_mille: 0, of_kind: kinds.iter().copied().collect(), ..Self::default() }
    }

    /// Draws whether a kind is enabled: one draw, whatever the probability.
    pub(crate) fn enables(&self, kind: KindName, random: &mut Random) -> bool {
        match self.of_kind.get(&kind).copied().unwrap_or(self.per_mille) {
            500 => random.coin(),
            per_mille => random.chance(per_mille),
        }
    }

    /// The number of faults of a kind, from the standard number.
    pub(crate) fn number(&self, standard: u64) -> u64 {
        (standard * self.number_percent).div_ceil(100).clamp(1, FAULTS_OF_A_KIND)
    }
}
