//! Properties of keyspaces and tables: what is written after WITH.

use std::collections::BTreeMap;

use super::invalid;
use crate::cql::ast::Property;
use crate::protocol::ServerError;
use crate::schema::{ReadRepair, SpeculativeRetry, TableOptions};

/// Properties by name, each once and each known.
pub(super) fn by_name<'a>(
    properties: &'a [(String, Property)],
    known: &[&str],
) -> Result<BTreeMap<&'a str, &'a Property>, ServerError> {
    let mut found = BTreeMap::new();
    for (name, property) in properties {
        if found.insert(name.as_str(), property).is_some() {
            return Err(ServerError::Syntax(format!("Multiple definitions for property '{name}'")));
        }
    }
    match found.keys().find(|name| !known.contains(name)) {
        Some(name) => Err(ServerError::Syntax(format!("Unknown property '{name}'"))),
        None => Ok(found),
    }
}

pub(super) fn text<'a>(name: &str, property: &'a Property) -> Result<&'a str, ServerError> {
    match property {
        Property::Simple(text) => Ok(text),
        Property::Map(_) => {
            Err(ServerError::Syntax(format!("Invalid value for property '{name}'. It should be a string")))
        }
    }
}

pub(super) fn map<'a>(name: &str, property: &'a Property) -> Result<&'a [(String, String)], ServerError> {
    match property {
        Property::Map(entries) => Ok(entries),
        Property::Simple(_) => {
            Err(ServerError::Syntax(format!("Invalid value for property '{name}'. It should be a map.")))
        }
    }
}

pub(super) fn boolean(name: &str, property: &Property) -> Result<bool, ServerError> {
    match text(name, property)?.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        other => Err(ServerError::Syntax(format!(
            "Invalid boolean value {other} for '{name}'. Positive values can be '1', 'true' or 'yes'. Negative values \
             can be '0', 'false' or 'no'."
        ))),
    }
}

/// Options that are kept as text, and the check that each has to pass.
const TEXTS: [&str; 10] = [
    "additional_write_policy",
    "allow_auto_snapshot",
    "bloom_filter_fp_chance",
    "cdc",
    "crc_check_chance",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
];

/// Options that are maps; kept as `name.key`.
const MAPS: [&str; 4] = ["caching", "compaction", "compression", "extensions"];

/// Options with a meaning here.
const MEANT: [&str; 5] =
    ["comment", "default_time_to_live", "gc_grace_seconds", "read_repair", "speculative_retry"];

pub(super) fn options(
    mut options: TableOptions,
    properties: &[(String, Property)],
) -> Result<TableOptions, ServerError> {
    let mut known: Vec<&str> = vec!["id"];
    known.extend(TEXTS);
    known.extend(MAPS);
    known.extend(MEANT);
    let found = by_name(properties, &known)?;
    let seconds = |name: &str, property: &Property| {
        let text = text(name, property)?;
        let number: i64 = text
            .parse::<i32>()
            .map_err(|_| ServerError::Syntax(format!("Invalid integer value {text} for '{name}'")))?
            .into();
        u32::try_from(number).map_err(|_| {
            ServerError::configuration(format!("{name} must be greater than or equal to 0 (got {number})"))
        })
    };
    for (name, property) in found {
        match name {
            "id" => return Err(invalid("a table's id cannot be chosen in the simulation".to_owned())),
            "comment" => options.comment = text(name, property)?.to_owned(),
            "gc_grace_seconds" => options.gc_grace_seconds = seconds(name, property)?,
            "default_time_to_live" => options.default_time_to_live = seconds(name, property)?,
            "read_repair" => {
                options.read_repair = match text(name, property)?.to_ascii_uppercase().as_str() {
                    "BLOCKING" => ReadRepair::Blocking,
                    "NONE" => ReadRepair::None,
                    other => {
                        return Err(ServerError::configuration(format!(
                            "Invalid value {other} for option 'read_repair'"
                        )));
                    }
                };
            }
            "speculative_retry" => {
                let text = text(name, property)?;
                options.speculative_retry = speculative_retry(text).ok_or_else(|| {
                    ServerError::configuration(format!("Invalid value {text} for option 'speculative_retry'"))
                })?;
            }
            name if MAPS.contains(&name) => {
                let prefix = format!("{name}.");
                options.others.retain(|key, _| !key.starts_with(&prefix));
                for (key, value) in map(name, property)? {
                    options.others.insert(format!("{prefix}{key}"), value.clone());
                }
            }
            name => {
                options.others.insert(name.to_owned(), text(name, property)?.to_owned());
            }
        }
    }
    Ok(options)
}

/// `99p`, `99PERCENTILE`, `50ms`, `ALWAYS`, `NEVER`, `NONE`.
pub(super) fn speculative_retry(text: &str) -> Option<SpeculativeRetry> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "ALWAYS" => return Some(SpeculativeRetry::Always),
        "NEVER" | "NONE" => return Some(SpeculativeRetry::Never),
        _ => {}
    }
    if let Some(millis) = upper.strip_suffix("MS") {
        let millis: f64 = millis.trim().parse().ok().filter(|millis| (0.0..1e9).contains(millis))?;
        return Some(SpeculativeRetry::After((millis * 1000.0) as u64));
    }
    let percentile = upper.strip_suffix("PERCENTILE").or_else(|| upper.strip_suffix('P'))?;
    let percentile: f64 = percentile.trim().parse().ok().filter(|it| (0.0..=100.0).contains(it))?;
    Some(if percentile == 99.0 {
        SpeculativeRetry::Percentile99
    } else {
        SpeculativeRetry::Percentile(percentile)
    })
}
