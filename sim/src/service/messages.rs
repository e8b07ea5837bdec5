//! What faults of links do to a message between two hosts of a cluster.

use std::time::Duration;

use simulated_hosts::LinkFault;

use crate::random::Random;
use crate::scenario::fault::Kind;

/// Applies a fault that affects some messages at random to the delays of a message's copies. Returns whether it affects this
/// one.
pub(crate) fn apply(
    link: LinkFault,
    random: &mut Random,
    copies: &mut Vec<Duration>,
    is_lost: &mut bool,
) -> bool {
    let is_affected = Kind::Link(link).rate().is_some_and(|per_mille| random.chance(per_mille));
    match link {
        _ if !is_affected => {}
        LinkFault::Lose { .. } => *is_lost = true,
        LinkFault::Delay { up_to_ms, .. } => {
            let by = Duration::from_millis(random.within(1..=up_to_ms));
            copies.iter_mut().for_each(|delay| *delay += by);
        }
        LinkFault::Duplicate { up_to_ms, .. } => {
            let by = Duration::from_millis(random.within(1..=up_to_ms));
            let again: Vec<_> = copies.iter().map(|delay| *delay + by).collect();
            copies.extend(again);
        }
        LinkFault::Cut | LinkFault::LoseResponses { .. } | LinkFault::Reset => {}
    }
    is_affected
}
