//! Scenarios that failed once, or that the checker must find: the files in `sim/regressions`, each with its reason on top.

use std::path::{Path, PathBuf};

use simulation::run;
use simulation::scenario::Scenario;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(&folder).expect("the folder exists");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn every_regression_ends_as_its_file_says() {
    let files = files();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        assert!(text.starts_with("# "), "{}: the reason is missing", file.display());
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        let expected = scenario.expected.clone();
        let report = run(scenario, false);
        match expected {
            Some(expected) => assert!(report.has(&expected), "{}\n{report}", file.display()),
            None => assert_eq!(report.violation, None, "{}\n{report}", file.display()),
        }
    }
}
