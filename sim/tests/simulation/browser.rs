//! The page of a timeline in a real browser: opens, filters, finds, zooms. Needs Node.js 20, npm, and Chromium or Chrome:
//!
//! ```text
//! cargo sim browser:: --ignored --nocapture
//! ```
//!
//! `CHROMIUM` is the browser's program, if it is not one of [`BROWSERS`]. The pages, and pictures of them, are then in
//! `target/sim/tmp/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;

use simulation::campaign::Isolation;
use simulation::explain::record;
use simulation::scenario::profile::Profile;
use simulation::scenario::workload::Bytes;
use simulation::scenario::{Scenario, World};
use simulation::timeline::{Timeline, page};

/// What the browser may be called.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// What a record must not do to a page.
const ATTACK: &str = r#"{"id":1,"ts":5,"source":"<script>alert(1)</script><img src=x onerror=alert(2)>","client":"</script>","health":2}"#;

/// The browser's program.
fn browser() -> PathBuf {
    if let Some(program) = std::env::var_os("CHROMIUM") {
        return program.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    programs
        .into_iter()
        .find(|program| program.is_file())
        .expect("Chromium is installed, or CHROMIUM says where")
}

fn named(mut timeline: Timeline, title: &str) -> Timeline {
    timeline.run.title = title.to_owned();
    timeline.run.command = "cargo sim replay test.toml --trace".to_owned();
    timeline
}

fn write(folder: &Path, name: &str, timeline: &Timeline, beside: Option<&Timeline>) {
    let html = page::page(timeline, beside).expect("a page");
    std::fs::write(folder.join(name), html).expect("a page is written");
}

#[test]
#[ignore = "needs Node.js and Chromium: cargo sim browser:: --ignored"]
fn the_page_works_in_a_browser() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    std::fs::create_dir_all(&folder).expect("a folder is created");
    for name in ["package.json", "package-lock.json", ".npmrc", "timeline.test.mjs"] {
        std::fs::copy(sources.join(name), folder.join(name)).expect("a file is copied");
    }
    let sabotaged = Scenario::draw(3, World::Simple, Profile::Sabotaged);
    let mut unchanged = sabotaged.clone();
    unchanged.faults.retain(|fault| fault.id != 999);
    let mut attack = sabotaged.clone();
    attack.records.iter_mut().for_each(|item| item.value = Some(Bytes(ATTACK.into())));
    let timeline = named(record(sabotaged, &[], &Isolation::Threads).1, "a store that drops writes");
    let cells: Vec<_> = timeline.cells.iter().map(|(key, _)| key.clone()).collect();
    write(&folder, "sabotaged.html", &timeline, None);
    write(
        &folder,
        "two.html",
        &timeline,
        Some(&named(record(unchanged, &cells, &Isolation::Threads).1, "one that does not")),
    );
    write(
        &folder,
        "attack.html",
        &named(record(attack, &[], &Isolation::Threads).1, "<script>alert(3)</script>"),
        None,
    );
    let cassandra =
        record(Scenario::draw(3, World::Cassandra, Profile::Standard), &[], &Isolation::Threads).1;
    write(&folder, "cassandra.html", &named(cassandra, "a standard run"), None);
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder).env("PAGES", &folder).env("CHROMIUM", browser());
        let status = command.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} {arguments:?}: {status}");
    };
    run("npm", &["ci", "--silent"]);
    run("node", &["--test", "timeline.test.mjs"]);
}
