//! The states of the protocol as counters that libFuzzer adds to its coverage of code.

use crate::states::States;

/// What libFuzzer reads after each run, and clears before the next one. It finds the section by its name.
#[cfg(all(fuzzing, target_os = "linux"))]
#[allow(unsafe_code)]
// SAFETY: the section holds nothing but bytes, which is what libFuzzer takes it for.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: [std::sync::atomic::AtomicU8; States::NUMBER] =
    [const { std::sync::atomic::AtomicU8::new(0) }; States::NUMBER];

/// Sets the counters of the states of a run. libFuzzer puts them into eight classes by size, as it does with those of code.
#[cfg(all(fuzzing, target_os = "linux"))]
pub fn set(states: &States) {
    for (state, count) in states.counts() {
        let count = u8::try_from(count).unwrap_or(u8::MAX);
        COUNTERS[state].store(count, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Without libFuzzer they are not counted.
#[cfg(not(all(fuzzing, target_os = "linux")))]
pub fn set(_: &States) {}
