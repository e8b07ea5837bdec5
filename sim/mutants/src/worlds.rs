//! The worlds of the simulation, from its source: a world that is added there is played here, too.

use thiserror::Error;

/// The file that declares them, in the repository.
pub const FILE: &str = "sim/src/scenario/mod.rs";

/// The world that runs several times as fast as the others.
pub const FAST: &str = "simple";

/// Seeds from a start until the search ends, in the fast world and in any other.
const LIMITS: (u64, u64) = (400, 200);

/// The worlds cannot be found.
#[derive(Debug, Error)]
#[error("{FILE} has no enum `World` with simple variants")]
pub struct NoWorlds;

/// The names of the worlds, in their order.
///
/// # Errors
/// If the text of [`FILE`] does not declare them.
pub fn of_source(text: &str) -> Result<Vec<String>, NoWorlds> {
    let file = syn::parse_file(text).map_err(|_| NoWorlds)?;
    let worlds = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == "World" => Some(&item.variants),
        _ => None,
    });
    let names: Vec<String> =
        worlds.into_iter().flatten().map(|variant| snake_case(&variant.ident.to_string())).collect();
    if names.is_empty() { Err(NoWorlds) } else { Ok(names) }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Seeds from a start until the search ends.
pub fn limit(world: &str) -> u64 {
    let (many, few) = LIMITS;
    if world == FAST { many } else { few }
}
