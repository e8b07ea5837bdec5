//! Options of tables, with Cassandra's defaults.

use std::collections::BTreeMap;

use crate::schema::{ReadRepair, SpeculativeRetry, TableOptions};

/// The options of a table as text, by name; maps are flattened into [`maps`].
pub(super) fn texts(options: &TableOptions) -> BTreeMap<&str, String> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for (name, default) in [
        ("additional_write_policy", "99p"),
        ("bloom_filter_fp_chance", "0.01"),
        ("crc_check_chance", "1.0"),
        ("max_index_interval", "2048"),
        ("memtable", "default"),
        ("memtable_flush_period_in_ms", "0"),
        ("min_index_interval", "128"),
    ] {
        all.insert(name, default.to_owned());
    }
    if is_leveled(options) {
        all.insert("bloom_filter_fp_chance", "0.1".to_owned());
    }
    for (name, text) in options.others.iter().filter(|(name, _)| !name.contains('.')) {
        all.insert(name, text.clone());
    }
    all.insert("comment", options.comment.clone());
    all.insert("default_time_to_live", options.default_time_to_live.to_string());
    all.insert("gc_grace_seconds", options.gc_grace_seconds.to_string());
    let read_repair = match options.read_repair {
        ReadRepair::Blocking => "BLOCKING",
        ReadRepair::None => "NONE",
    };
    all.insert("read_repair", read_repair.to_owned());
    all.insert("speculative_retry", speculative_retry(options.speculative_retry));
    all
}

fn is_leveled(options: &TableOptions) -> bool {
    options.others.get("compaction.class").is_some_and(|class| class.ends_with("LeveledCompactionStrategy"))
}

fn speculative_retry(retry: SpeculativeRetry) -> String {
    match retry {
        SpeculativeRetry::Never => "NEVER".to_owned(),
        SpeculativeRetry::Always => "ALWAYS".to_owned(),
        SpeculativeRetry::After(micros) => format!("{}ms", micros as f64 / 1000.0),
        SpeculativeRetry::Percentile99 => "99p".to_owned(),
        SpeculativeRetry::Percentile(percentile) => format!("{percentile}p"),
    }
}

/// An option that is a map.
pub(super) fn map(options: &TableOptions, name: &str) -> BTreeMap<String, String> {
    let prefix = format!("{name}.");
    let mut found: BTreeMap<String, String> = options
        .others
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())))
        .collect();
    let is_compressed = found.get("enabled").is_none_or(|enabled| enabled != "false");
    let mut default = |key: &str, value: &str| {
        found.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    };
    match name {
        "caching" => {
            default("keys", "ALL");
            default("rows_per_partition", "NONE");
        }
        "compaction" => {
            default("class", "SizeTieredCompactionStrategy");
            default("max_threshold", "32");
            default("min_threshold", "4");
            qualify(&mut found, "org.apache.cassandra.db.compaction.");
        }
        "compression" if is_compressed => {
            default("chunk_length_in_kb", "16");
            default("class", "LZ4Compressor");
            qualify(&mut found, "org.apache.cassandra.io.compress.");
        }
        _ => {}
    }
    found
}

/// Puts the package before the name of a class that has none.
fn qualify(found: &mut BTreeMap<String, String>, package: &str) {
    if let Some(class) = found.get_mut("class")
        && !class.contains('.')
    {
        class.insert_str(0, package);
    }
}
