//! A timeline as the page has it: items as rows, and each text once. That takes a third of the bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::timeline::{About, CellKey, Description, Item, Judged, Lane, Timeline, Touch};

/// What a row of an item has. Kind, outcome and texts are places in the list of texts; what is at the end and absent is left
/// out.
const COLUMNS: [&str; 14] = [
    "kind",
    "lane",
    "to",
    "start",
    "event",
    "end",
    "end_event",
    "outcome",
    "text",
    "details",
    "partitions",
    "sources",
    "peer",
    "affects",
];

/// A timeline with its items as rows.
#[derive(Serialize)]
pub(super) struct Packed<'a> {
    run: &'a About,
    violations: &'a [Judged],
    lanes: &'a [Lane],
    kinds: &'a [Description],
    sources: &'a [String],
    cells: &'a [(CellKey, String)],
    history: &'a [Touch],
    end: u64,
    columns: [&'static str; 14],
    items: Vec<Vec<Value>>,
    texts: Vec<String>,
}

/// The texts so far, and their places.
#[derive(Default)]
struct Texts(BTreeMap<String, usize>);

impl Texts {
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.0.get(text) {
            return *place;
        }
        let place = self.0.len();
        self.0.insert(text.to_owned(), place);
        place
    }

    /// In the order of their places.
    fn into_list(self) -> Vec<String> {
        let mut texts: Vec<(usize, String)> = self.0.into_iter().map(|(text, place)| (place, text)).collect();
        texts.sort_unstable();
        texts.into_iter().map(|(_, text)| text).collect()
    }
}

fn row(item: &Item, texts: &mut Texts) -> serde_json::Result<Vec<Value>> {
    let Value::Object(mut fields) = serde_json::to_value(item)? else { return Ok(Vec::new()) };
    for column in ["kind", "outcome", "text"] {
        if let Some(Value::String(text)) = fields.get(column) {
            let place = texts.place(text);
            fields.insert(column.to_owned(), json!(place));
        }
    }
    if !item.details.is_empty() {
        let pairs = item.details.iter().map(|(name, text)| [texts.place(name), texts.place(text)]);
        let pairs: Vec<[usize; 2]> = pairs.collect();
        fields.insert("details".to_owned(), json!(pairs));
    }
    let mut row: Vec<Value> =
        COLUMNS.iter().map(|column| fields.remove(*column).unwrap_or(Value::Null)).collect();
    debug_assert!(fields.is_empty(), "a field without a column: {fields:?}");
    while row.last().is_some_and(Value::is_null) {
        row.pop();
    }
    Ok(row)
}

/// Packs a timeline.
///
/// # Errors
/// If an item cannot be written as JSON.
pub(super) fn packed(timeline: &Timeline) -> serde_json::Result<Packed<'_>> {
    let mut texts = Texts::default();
    let items = timeline.items.iter().map(|item| row(item, &mut texts)).collect::<Result<_, _>>()?;
    Ok(Packed {
        run: &timeline.run,
        violations: &timeline.violations,
        lanes: &timeline.lanes,
        kinds: &timeline.kinds,
        sources: &timeline.sources,
        cells: &timeline.cells,
        history: &timeline.history,
        end: timeline.end,
        columns: COLUMNS,
        items,
        texts: texts.into_list(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Kind, Outcome};

    #[test]
    fn an_item_is_a_row_and_a_text_is_there_once() {
        let item = Item {
            kind: Kind::Write,
            lane: Some(2),
            to: None,
            start: 5,
            event: 1,
            end: Some(9),
            end_event: None,
            outcome: Outcome::Unknown,
            text: "row 3".to_owned(),
            details: vec![("error".to_owned(), "row 3".to_owned())],
            partitions: Vec::new(),
            sources: Vec::new(),
            peer: None,
            affects: Vec::new(),
        };
        let timeline = Timeline { items: vec![item.clone(), item], ..Timeline::default() };
        let packed = packed(&timeline).expect("it is packed");
        assert_eq!(packed.texts, ["write", "unknown", "row 3", "error"]);
        let expected = json!([0, 2, null, 5, 1, 9, null, 1, 2, [[3, 2]]]);
        assert_eq!(json!(packed.items), json!([expected, expected]));
    }
}
