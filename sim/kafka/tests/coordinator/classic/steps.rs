//! Random steps of members of one classic group.

use crate::draw::Draw;

/// The members of a group that use the classic protocol, by number.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub members: usize,
    /// The first one that is static, and all after it are.
    pub first_static: usize,
    /// How many places each has in the hash tables of Kafka's state machine.
    pub spread: usize,
}

pub const CLASSIC: Shape = Shape { members: 5, first_static: 3, spread: 3 };

/// Names of protocols and the topics of the subscription that is their metadata, in the order of preference.
pub type Protocols = &'static [(&'static str, &'static [&'static str])];

const PROTOCOLS: [Protocols; 7] = [
    &[("range", &["a"])],
    &[("range", &["a", "b"])],
    &[("range", &["a"]), ("cooperative-sticky", &["a"])],
    &[("cooperative-sticky", &["a"]), ("range", &["a"])],
    &[("roundrobin", &["b"]), ("range", &["a"]), ("cooperative-sticky", &["a"])],
    &[("cooperative-sticky", &["b"])],
    &[],
];

#[derive(Clone, Debug)]
pub struct Join {
    pub member: usize,
    /// Whether it joins without its id, as a new process does.
    pub is_new: bool,
    pub version: i16,
    pub protocols: Protocols,
    pub protocol_type: &'static str,
    /// Both in milliseconds.
    pub session: i32,
    pub rebalance: i32,
}

/// Whom a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    Itself,
    /// With this member id.
    Id(&'static str),
    /// With the instance id of another member.
    Instance(usize),
}

#[derive(Clone, Debug)]
pub enum Step {
    Join(Join),
    Sync {
        member: usize,
        from: As,
        /// What is added to the generation that it knows.
        shift: i32,
        protocol: Option<&'static str>,
        /// How many members the leader forgets.
        forgotten: usize,
    },
    Beat {
        member: usize,
        from: As,
        shift: i32,
    },
    /// Members leave, each under its instance id alone or with its member id.
    Leave(Vec<(usize, As, bool)>),
    /// Milliseconds.
    Pass(i64),
}

/// What a member would do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for a response.
    Wait,
    Join,
    Sync,
    Beat,
}

fn join(draw: &mut Draw, member: usize, is_new: bool, shape: Shape) -> Step {
    let is_static = member >= shape.first_static;
    // Most members have the same, or else none of them get along.
    let protocols = if draw.chance(60) { PROTOCOLS[2] } else { draw.pick(&PROTOCOLS) };
    // No two members have the same times, because the order of what is due at once is not determined. With version 0 both times
    // of a member are the same.
    let own = 17 * member as i32;
    Step::Join(Join {
        member,
        is_new,
        version: if is_static { draw.pick(&[5, 9]) } else { draw.pick(&[1, 3, 5, 9, 9]) },
        protocols,
        protocol_type: if draw.chance(4) { draw.pick(&["connect", ""]) } else { "consumer" },
        session: draw.pick(&[6_000, 10_000, 10_000, 45_000]) + own,
        rebalance: draw.pick(&[2_003, 7_003, 30_003, 60_003]) + own,
    })
}

pub fn step(draw: &mut Draw, next: &[Next], shape: Shape) -> Step {
    let member = draw.below(shape.members);
    if draw.chance(72) {
        return match next[member] {
            Next::Wait => Step::Pass(draw.pick(&[1, 200, 1_000, 3_000])),
            Next::Join => join(draw, member, false, shape),
            Next::Sync => Step::Sync {
                member,
                from: As::Itself,
                shift: 0,
                protocol: None,
                forgotten: usize::from(draw.chance(10)),
            },
            Next::Beat => Step::Beat { member, from: As::Itself, shift: 0 },
        };
    }
    let shift = if draw.chance(30) { draw.pick(&[-1, 1, -5]) } else { 0 };
    let from = match draw.below(10) {
        0 => As::Id(draw.pick(&["", "nobody"])),
        1 => As::Instance(draw.below(shape.members)),
        _ => As::Itself,
    };
    match draw.below(100) {
        0..20 => {
            let is_new = draw.chance(40);
            join(draw, member, is_new, shape)
        }
        20..35 => {
            let protocol = draw.chance(20).then(|| draw.pick(&["range", "cooperative-sticky", "none"]));
            Step::Sync { member, from, shift, protocol, forgotten: draw.below(3) }
        }
        35..50 => Step::Beat { member, from, shift },
        50..65 => {
            let mut all = vec![(member, from, draw.chance(30))];
            if draw.chance(30) {
                all.push((draw.below(shape.members), As::Itself, draw.chance(30)));
            }
            Step::Leave(all)
        }
        _ => Step::Pass(draw.pick(&[500, 2_000, 3_000, 6_000, 10_100, 31_000, 46_000])),
    }
}
