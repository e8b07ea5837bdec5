//! The cases.

use super::world::World;
use crate::suite::Case;

/// All cases.
pub fn all<W: World>() -> Vec<Case<W>> {
    Vec::new()
}
