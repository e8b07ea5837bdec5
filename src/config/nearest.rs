//! Suggestions for misspelt names.

/// Minimum similarity of a suggestion, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.5;

/// The known name that is most similar to `name`, if any is similar enough. A name without a section is also compared
/// with the last parts of the known ones, so that `batch_records` finds `pipeline.batch_records`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        match candidate.rsplit_once('.') {
            Some((_, last)) if !name.contains('.') => {
                whole.max(strsim::normalized_damerau_levenshtein(name, last))
            }
            _ => whole,
        }
    };
    let scored = known.into_iter().map(|candidate| (similarity(candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= MIN_SIMILARITY).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_most_similar_known_one() {
        let known = ["topic", "broker.kind", "pipeline.batch_records", "pipeline.write_bytes"];
        for (name, expected) in [
            ("topc", Some("topic")),
            ("broker.knid", Some("broker.kind")),
            ("pipelin.batch_records", Some("pipeline.batch_records")),
            ("broker.batch_records", Some("pipeline.batch_records")),
            ("batch_record", Some("pipeline.batch_records")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
