//! Random steps of members of one group.

use crate::draw::Draw;

pub const MEMBERS: usize = 4;
pub const TOPICS: [&str; 2] = ["a", "b"];

/// A heartbeat.
#[derive(Debug)]
pub struct Beat {
    pub member: usize,
    /// Whether it is of a new process, with another member id.
    pub restarts: bool,
    pub is_static: bool,
    /// To join (0) or to leave (-1, -2); else the epoch that the member knows, shifted.
    pub epoch: Option<i32>,
    pub shift: i32,
    /// The topics that it is subscribed to, as bits; none if the request does not say.
    pub topics: Option<u8>,
    /// Whether it says what it has, and how many partitions of each topic it has given up.
    pub owned: bool,
    pub given_up: usize,
    /// Whether its response gets lost.
    pub is_lost: bool,
}

#[derive(Debug)]
pub enum Step {
    Beat(Beat),
    /// Milliseconds.
    Pass(i64),
    /// A topic gets another partition.
    Grow(usize),
    /// A topic is deleted and created again.
    Recreate(usize),
}

pub fn step(draw: &mut Draw) -> Step {
    let member = draw.below(MEMBERS);
    // The last two members are static.
    let is_static = member >= MEMBERS / 2;
    let mut beat = Beat {
        member,
        restarts: false,
        is_static,
        epoch: None,
        shift: 0,
        topics: None,
        owned: true,
        given_up: 0,
        is_lost: draw.chance(10),
    };
    match draw.below(100) {
        // A member joins.
        0..20 => {
            beat.epoch = Some(0);
            beat.restarts = draw.chance(30);
            beat.topics = Some(1 + draw.below(3) as u8);
        }
        20..70 => {
            beat.owned = draw.chance(80);
            if draw.chance(15) {
                beat.given_up = 1 + draw.below(2);
            }
            if draw.chance(10) {
                beat.shift = draw.pick(&[-1, -1, 1, 5]);
            }
        }
        70..77 => beat.topics = Some(1 + draw.below(3) as u8),
        77..83 => beat.epoch = Some(if is_static && draw.chance(60) { -2 } else { -1 }),
        83..95 => return Step::Pass(draw.pick(&[1_000, 5_000, 20_000, 44_000, 45_000, 61_000])),
        95..98 => return Step::Grow(draw.below(TOPICS.len())),
        _ => return Step::Recreate(draw.below(TOPICS.len())),
    }
    Step::Beat(beat)
}
