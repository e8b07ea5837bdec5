//! The patches of the repository, without a build: that they apply, and change what can be chosen.

use std::path::Path;

use mutants::{combine, worlds};

#[test]
fn every_patch_applies_and_can_be_chosen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| std::fs::read_to_string(root.join(file));
    let worlds =
        worlds::of_source(&read(worlds::FILE).expect("the simulation's source")).expect("its worlds");
    assert!(worlds.contains(&"simple".to_owned()) && worlds.contains(&"cassandra".to_owned()), "{worlds:?}");
    let (patches, mut refused) =
        combine::read_patches(&root.join("tests/mutants"), &worlds).expect("the patches can be read");
    refused.extend(combine::combine(&patches, read).expect("the sources can be read").refused);
    let refused: Vec<String> = refused.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert!(refused.is_empty() && !patches.is_empty(), "{}", refused.join("\n"));
}
