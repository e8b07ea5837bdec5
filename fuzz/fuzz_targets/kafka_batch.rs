//! The target `kafka_batch` for libFuzzer; without it, a program that runs the target on files.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| exactlyonce_fuzz::kafka_batch(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        exactlyonce_fuzz::kafka_batch(&std::fs::read(path)?);
    }
    Ok(())
}
