//! The copy of a small repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mutants::switch::Switched;
use mutants::tree::Tree;

const MANIFEST: &str = r#"
[package]
name = "small"

[dependencies]
serde = "1"

[dev-dependencies]
helper = { path = "sim/helper", features = ["all"] }

[workspace]
members = [".", "sim/helper"]

[profile.dev]
debug = false
"#;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder is created");
    fs::write(path, text).expect("a file is written");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn age(path: &Path) -> Duration {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("it exists");
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

fn make_older(path: &Path) {
    let file = fs::File::options().write(true).open(path).expect("it exists");
    file.set_modified(SystemTime::now() - Duration::from_secs(1_000)).expect("a time is set");
}

#[test]
fn the_copy_is_the_repository_with_other_texts_and_is_written_only_where_it_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = Tree { root: folder.path().join("root"), target: folder.path().join("root/target") };
    for (file, text) in [
        ("Cargo.toml", MANIFEST),
        ("Cargo.lock", "version = 4\n"),
        ("src/lib.rs", "mod a;\n"),
        ("src/inner/a.rs", "fn a() {}\n"),
        ("tests/sim/b.rs", "fn b() {}\n"),
        ("sim/helper/src/lib.rs", "fn helper() {}\n"),
        ("target/debug/x", "x"),
        (".git/config", "x"),
    ] {
        write(&tree.root.join(file), text);
    }
    let switched = Switched { text: "fn a() { b() }\n".to_owned(), lines: Vec::new() };
    let changed = BTreeMap::from([("src/inner/a.rs".to_owned(), switched)]);
    tree.update(&changed).expect("the copy is made");
    let copy = tree.copy();
    assert_eq!(read(&copy.join("src/inner/a.rs")), "fn a() { b() }\n");
    assert_eq!(read(&copy.join("tests/sim/b.rs")), "fn b() {}\n");
    for absent in ["sim", "target", ".git"] {
        assert!(!copy.join(absent).exists(), "{absent}");
    }
    let manifest: toml::Table = read(&copy.join("Cargo.toml")).parse().expect("a manifest");
    assert!(!manifest.contains_key("workspace") && !manifest.contains_key("profile"), "{manifest}");
    let helper = manifest["dev-dependencies"]["helper"].as_table().expect("a table");
    assert_eq!(helper["path"].as_str(), tree.root.join("sim/helper").to_str());
    assert_eq!(helper["features"].as_array().map(Vec::len), Some(1));

    // Once more: nothing is written.
    for file in ["src/lib.rs", "src/inner/a.rs", "Cargo.toml"] {
        make_older(&copy.join(file));
    }
    write(&copy.join("src/gone.rs"), "");
    tree.update(&changed).expect("the copy is made");
    for file in ["src/lib.rs", "src/inner/a.rs", "Cargo.toml"] {
        assert!(age(&copy.join(file)) > Duration::from_secs(900), "{file}");
    }
    assert!(!copy.join("src/gone.rs").exists());

    // Without the change, the file is written with the present as its time: cargo must compile it.
    make_older(&tree.root.join("src/inner/a.rs"));
    tree.update(&BTreeMap::new()).expect("the copy is made");
    assert_eq!(read(&copy.join("src/inner/a.rs")), "fn a() {}\n");
    assert!(age(&copy.join("src/inner/a.rs")) < Duration::from_secs(900));

    tree.write_workspace().expect("it is written");
    let workspace: toml::Table = read(&tree.folder().join("Cargo.toml")).parse().expect("a manifest");
    assert_eq!(workspace["workspace"]["members"][0].as_str(), Some("copy"));
    assert_eq!(workspace["profile"]["dev"]["debug"].as_bool(), Some(false));
    assert_eq!(read(&tree.folder().join("Cargo.lock")), "version = 4\n");
}
