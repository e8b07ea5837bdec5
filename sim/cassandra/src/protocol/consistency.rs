//! Consistency levels by their numbers.

use crate::coordinator::Consistency;

/// Every level, at the place of its number.
const LEVELS: [Consistency; 11] = [
    Consistency::Any,
    Consistency::One,
    Consistency::Two,
    Consistency::Three,
    Consistency::Quorum,
    Consistency::All,
    Consistency::LocalQuorum,
    Consistency::EachQuorum,
    Consistency::Serial,
    Consistency::LocalSerial,
    Consistency::LocalOne,
];

/// The number of a level.
pub fn consistency_code(level: Consistency) -> u16 {
    match level {
        Consistency::Any => 0,
        Consistency::One => 1,
        Consistency::Two => 2,
        Consistency::Three => 3,
        Consistency::Quorum => 4,
        Consistency::All => 5,
        Consistency::LocalQuorum => 6,
        Consistency::EachQuorum => 7,
        Consistency::Serial => 8,
        Consistency::LocalSerial => 9,
        Consistency::LocalOne => 10,
    }
}

/// The level with this number, if there is one.
pub fn consistency_of(code: u16) -> Option<Consistency> {
    LEVELS.get(usize::from(code)).copied()
}

/// Whether it is one of the two levels of conditional statements.
pub fn is_serial(level: Consistency) -> bool {
    matches!(level, Consistency::Serial | Consistency::LocalSerial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_found_by_the_number_that_is_written_for_it() {
        for level in LEVELS {
            assert_eq!(consistency_of(consistency_code(level)), Some(level));
        }
        assert_eq!(consistency_of(11), None);
    }
}
