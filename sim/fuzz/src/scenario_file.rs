//! The target `scenario_file`.

use simulation::scenario::Scenario;

/// Reads an input as a scenario's file. What is read and printed is read as the same; what is refused has a message.
///
/// # Panics
/// If it is not so.
pub fn scenario_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Scenario>() {
        Ok(scenario) => {
            let printed = scenario.to_toml();
            let read: Scenario = printed.parse().unwrap_or_else(|error| panic!("{error}, in\n{printed}"));
            assert_eq!(read, scenario, "printed as\n{printed}");
            assert_eq!(read.to_toml(), printed);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
