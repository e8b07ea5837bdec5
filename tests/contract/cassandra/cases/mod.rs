//! The cases, by subject.

mod repair;

use super::world::World;
use crate::suite::Case;

/// All cases.
pub fn all<W: World>() -> Vec<Case<W>> {
    [repair::cases()].into_iter().flatten().collect()
}
