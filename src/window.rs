//! Event-time windows: tumbling where slide equals size, hopping where it is smaller.
//!
//! An event at `ts` belongs to every window `[end - size, end)` whose `end` is a multiple of `slide`.
//! Arithmetic floors, so negative times have windows like all others.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::Health;

/// Maximum number of windows that contain one event (`size / slide`).
pub const MAX_WINDOWS_PER_EVENT: i64 = 1_000;

/// The health levels that count towards an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSet(u8);

impl HealthSet {
    /// The set of these levels.
    pub fn of(levels: &[Health]) -> Self {
        Self(levels.iter().fold(0, |set, level| set | 1 << level.code()))
    }

    /// True if the level counts.
    pub fn contains(self, level: Health) -> bool {
        self.0 & (1 << level.code()) != 0
    }

    /// The levels, ordered by code.
    pub fn levels(self) -> impl Iterator<Item = Health> {
        Health::ALL.into_iter().filter(move |level| self.contains(*level))
    }
}

impl Serialize for HealthSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.levels())
    }
}

impl<'de> Deserialize<'de> for HealthSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Health>::deserialize(deserializer).map(|levels| Self::of(&levels))
    }
}

/// The windows, and the threshold of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// Length of a window in milliseconds, at least 1.
    pub size_ms: i64,
    /// Distance between the ends of two windows in milliseconds, 1 to `size_ms`.
    pub slide_ms: i64,
    /// Minimum number of counted events that raises an alert, at least 1.
    pub threshold: i32,
    /// The levels that are counted.
    pub health: HealthSet,
}

impl Default for WindowSpec {
    /// Tumbling windows of 5 s, an alert at 10 or more Critical events.
    fn default() -> Self {
        Self { size_ms: 5_000, slide_ms: 5_000, threshold: 10, health: HealthSet::of(&[Health::Critical]) }
    }
}

/// What is wrong with a [`WindowSpec`].
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowError {
    /// The size is not positive.
    #[error("window size is {0} ms, it must be at least 1")]
    Size(i64),
    /// The slide is not positive, or some events would belong to no window.
    #[error("window slide is {slide} ms, it must be 1 to the size of {size} ms")]
    Slide {
        /// As given.
        slide: i64,
        /// As given.
        size: i64,
    },
    /// One event would belong to too many windows.
    #[error(
        "window size {size} ms over slide {slide} ms puts an event into more than {MAX_WINDOWS_PER_EVENT} windows"
    )]
    TooMany {
        /// As given.
        size: i64,
        /// As given.
        slide: i64,
    },
    /// The threshold is not positive. (It is also the smallest write timestamp of an alert.)
    #[error("alert threshold is {0}, it must be at least 1")]
    Threshold(i32),
    /// Nothing would ever be counted.
    #[error("no health level counts towards an alert")]
    NoHealth,
}

impl WindowSpec {
    /// Checks the documented ranges of the fields.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), WindowError> {
        let (size, slide) = (self.size_ms, self.slide_ms);
        if size < 1 {
            return Err(WindowError::Size(size));
        }
        if !(1..=size).contains(&slide) {
            return Err(WindowError::Slide { slide, size });
        }
        if size / slide > MAX_WINDOWS_PER_EVENT || size / slide == MAX_WINDOWS_PER_EVENT && size % slide != 0
        {
            return Err(WindowError::TooMany { size, slide });
        }
        if self.threshold < 1 {
            return Err(WindowError::Threshold(self.threshold));
        }
        if self.health.levels().next().is_none() {
            return Err(WindowError::NoHealth);
        }
        Ok(())
    }

    /// The ends of the windows that contain `ts`, ascending; `None` if one of them lies outside i64.
    pub fn ends(&self, ts: i64) -> Option<impl Iterator<Item = i64> + use<>> {
        let slide = self.slide_ms;
        let first = ts.div_euclid(slide).checked_add(1)?.checked_mul(slide)?;
        let last = ts.checked_add(self.size_ms);
        let last = match last {
            Some(last) => last,
            // The last end is a multiple of slide at or below ts + size, which may itself fit.
            None => {
                let sum = i128::from(ts) + i128::from(self.size_ms);
                i64::try_from(sum - sum.rem_euclid(i128::from(slide))).ok()?
            }
        };
        let count = (last - first) / slide + 1;
        Some((0..count).map(move |i| first + i * slide))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(size_ms: i64, slide_ms: i64, ts: i64) -> Option<Vec<i64>> {
        WindowSpec { size_ms, slide_ms, ..WindowSpec::default() }.ends(ts).map(Iterator::collect)
    }

    #[test]
    fn a_tumbling_window_holds_its_start_and_not_its_end() {
        assert_eq!(ends(5_000, 5_000, 0), Some(vec![5_000]));
        assert_eq!(ends(5_000, 5_000, 4_999), Some(vec![5_000]));
        assert_eq!(ends(5_000, 5_000, 5_000), Some(vec![10_000]));
    }

    #[test]
    fn negative_times_floor() {
        assert_eq!(ends(5_000, 5_000, -1), Some(vec![0]));
        assert_eq!(ends(5_000, 5_000, -5_000), Some(vec![0]));
        assert_eq!(ends(5_000, 5_000, -5_001), Some(vec![-5_000]));
    }

    #[test]
    fn a_hopping_event_belongs_to_size_over_slide_windows() {
        assert_eq!(ends(10, 2, 7), Some(vec![8, 10, 12, 14, 16]));
        assert_eq!(ends(10, 2, 8), Some(vec![10, 12, 14, 16, 18]));
        assert_eq!(ends(5, 2, 7), Some(vec![8, 10, 12]));
        assert_eq!(ends(5, 2, 8), Some(vec![10, 12]));
    }

    #[test]
    fn an_end_outside_i64_is_detected() {
        assert_eq!(ends(5_000, 5_000, i64::MAX), None);
        assert_eq!(ends(1, 1, i64::MAX), None);
        assert_eq!(ends(1, 1, i64::MAX - 1), Some(vec![i64::MAX]));
        assert_eq!(ends(5_000, 5_000, i64::MIN).map(|e| e.len()), Some(1));
        assert_eq!(ends(i64::MAX, i64::MAX, 0), Some(vec![i64::MAX]));
        // ts + size overflows, but no multiple of the slide lies past i64's end.
        assert_eq!(ends(10, 10, i64::MAX - 8), Some(vec![i64::MAX / 10 * 10]));
    }

    #[test]
    fn an_event_is_in_a_window_exactly_if_the_definition_says_so() {
        for (size, slide) in [(5, 5), (10, 2), (7, 3), (1, 1)] {
            for ts in -30..30 {
                let expected: Vec<i64> =
                    (-60..60).filter(|end| end % slide == 0 && end - size <= ts && ts < *end).collect();
                assert_eq!(ends(size, slide, ts), Some(expected), "size {size} slide {slide} ts {ts}");
            }
        }
    }

    #[test]
    fn invalid_specs_are_refused() {
        let good = WindowSpec::default();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(WindowSpec { size_ms: 0, ..good }.check(), Err(WindowError::Size(0)));
        assert!(matches!(WindowSpec { slide_ms: 0, ..good }.check(), Err(WindowError::Slide { .. })));
        assert!(matches!(WindowSpec { slide_ms: 5_001, ..good }.check(), Err(WindowError::Slide { .. })));
        assert_eq!(WindowSpec { slide_ms: 5, ..good }.check(), Ok(()));
        assert!(matches!(WindowSpec { slide_ms: 4, ..good }.check(), Err(WindowError::TooMany { .. })));
        assert_eq!(WindowSpec { threshold: 0, ..good }.check(), Err(WindowError::Threshold(0)));
        assert_eq!(WindowSpec { health: HealthSet::of(&[]), ..good }.check(), Err(WindowError::NoHealth));
    }

    #[test]
    fn each_limit_of_a_spec_is_allowed_and_the_next_value_is_not() {
        let check = |size_ms, slide_ms, threshold| {
            WindowSpec { size_ms, slide_ms, threshold, ..WindowSpec::default() }.check()
        };
        assert_eq!(check(1, 1, 1), Ok(()));
        assert_eq!(check(i64::MAX, i64::MAX, i32::MAX), Ok(()));
        assert_eq!(check(-1, 1, 1), Err(WindowError::Size(-1)));
        assert_eq!(check(1, 1, -1), Err(WindowError::Threshold(-1)));
        // 1,000 windows for each event; one of 3,001 ms in steps of 3 ms puts some events into 1,001.
        for (size, slide, is_allowed) in [
            (1_000, 1, true),
            (1_001, 1, false),
            (3_000, 3, true),
            (3_001, 3, false),
            (2_999, 3, true),
            (2_000_000, 1, false),
        ] {
            let expected = if is_allowed { Ok(()) } else { Err(WindowError::TooMany { size, slide }) };
            assert_eq!(check(size, slide, 1), expected, "{size} over {slide}");
        }
    }

    #[test]
    fn a_set_has_the_levels_that_it_was_made_of() {
        for levels in [
            &[][..],
            &[Health::Nominal],
            &[Health::Warning, Health::Critical],
            &Health::ALL,
            // A level that is named twice.
            &[Health::Critical, Health::Critical],
        ] {
            let set = HealthSet::of(levels);
            for level in Health::ALL {
                assert_eq!(set.contains(level), levels.contains(&level), "{level:?} in {levels:?}");
                assert_eq!(set.levels().any(|other| other == level), levels.contains(&level));
            }
        }
    }
}
