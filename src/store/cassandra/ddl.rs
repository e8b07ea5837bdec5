//! What the statements that make the tables say: one text for those who run them and for those who compare.

use std::collections::BTreeMap;

use crate::schema::Keyspace;

/// The statements of a text, without comments and with single spaces.
pub(super) fn statements(cql: &str) -> Vec<String> {
    let code: Vec<&str> = cql.lines().map(|line| line.split("--").next().unwrap_or("")).collect();
    let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    code.join(" ").split(';').map(words).filter(|statement| !statement.is_empty()).collect()
}

/// A column: what it holds and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) kind: &'static str,
    /// In the key, from 0; -1 outside.
    pub(super) position: i32,
    /// `asc`, `desc` or `none`.
    pub(super) order: String,
    pub(super) data: String,
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Column { kind, position, order, data } = self;
        match *kind {
            "partition_key" => write!(f, "{data}, number {} of the partition key", position + 1),
            "clustering" => write!(f, "{data}, number {} of the clustering key, {order}", position + 1),
            "static" => write!(f, "{data}, static"),
            _ => write!(f, "{data}, not in the key"),
        }
    }
}

pub(super) type Columns = BTreeMap<String, Column>;

/// The tables that statements make, in their order.
pub(super) fn tables(cql: &str, keyspace: &Keyspace) -> Vec<(String, Columns)> {
    let prefix = format!("CREATE TABLE IF NOT EXISTS {keyspace}.");
    statements(cql).iter().filter_map(|statement| table(statement.strip_prefix(&prefix)?)).collect()
}

/// Splits at commas that stand in no brackets.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0i32, 0, Vec::new());
    for (place, c) in list.char_indices() {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                items.push(list[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    items.push(list[start..].trim());
    items
}

/// A table, from behind the keyspace's name on: `name ( column type, .. PRIMARY KEY (..) ) WITH ..`.
fn table(definition: &str) -> Option<(String, Columns)> {
    let (name, rest) = definition.split_once('(')?;
    let (body, options) = match rest.split_once(") WITH ") {
        Some((body, options)) => (body, options),
        None => (rest.strip_suffix(')')?, ""),
    };
    let mut columns = Columns::new();
    let (mut partition_key, mut clustering_key) = (Vec::new(), Vec::new());
    for item in items(body) {
        if let Some(key) = item.strip_prefix("PRIMARY KEY") {
            let key = key.trim().strip_prefix('(')?.strip_suffix(')')?;
            let mut parts = items(key).into_iter();
            let first = parts.next()?;
            let first = first.strip_prefix('(').and_then(|first| first.strip_suffix(')')).unwrap_or(first);
            partition_key = items(first);
            clustering_key = parts.collect();
            continue;
        }
        let (column, data) = item.split_once(' ')?;
        let data = match data.strip_suffix(" PRIMARY KEY") {
            Some(data) => {
                partition_key = vec![column];
                data
            }
            None => data,
        };
        let column_of =
            Column { kind: "regular", position: -1, order: "none".to_owned(), data: data.to_owned() };
        columns.insert(column.to_owned(), column_of);
    }
    for (position, column) in (0..).zip(partition_key) {
        let column = columns.get_mut(column)?;
        (column.kind, column.position) = ("partition_key", position);
    }
    for (position, name) in (0..).zip(clustering_key) {
        let descending = options.contains(&format!("CLUSTERING ORDER BY ({name} DESC)"));
        let column = columns.get_mut(name)?;
        (column.kind, column.position) = ("clustering", position);
        column.order = if descending { "desc" } else { "asc" }.to_owned();
    }
    Some((name.trim().to_owned(), columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, Replication};
    use crate::store::Layout;

    const BUCKETED: Layout = Layout::bucketed(std::num::NonZeroU32::new(4).unwrap());

    fn keyspace() -> Keyspace {
        Keyspace::try_from("k".to_owned()).unwrap()
    }

    fn cql(layout: Layout) -> String {
        schema::cql(&keyspace(), &Replication::anywhere(1).unwrap(), layout)
    }

    #[test]
    fn a_text_is_split_into_statements_without_comments() {
        let text = "-- first; not a statement\nCREATE a (\n  b int, -- c; d\n);\n\n;  CREATE   e;\n";
        assert_eq!(statements(text), ["CREATE a ( b int, )", "CREATE e"]);
        for layout in [Layout::ORIGINAL, BUCKETED] {
            let all = statements(&cql(layout));
            assert_eq!(all.len(), 8, "{all:#?}");
            assert!(all.iter().all(|statement| statement.starts_with("CREATE ")), "{all:#?}");
        }
    }

    #[test]
    fn tables_are_read_from_their_statements() {
        let described = |layout| -> Vec<(String, String)> {
            let all = tables(&cql(layout), &keyspace());
            all.into_iter()
                .flat_map(|(table, columns)| {
                    columns
                        .into_iter()
                        .map(move |(name, column)| (format!("{table}.{name}"), column.to_string()))
                })
                .collect()
        };
        let original = described(Layout::ORIGINAL);
        for (name, expected) in [
            ("events.partition", "int, number 1 of the partition key"),
            ("events.offset", "bigint, number 1 of the clustering key, desc"),
            ("events.ts", "timestamp, not in the key"),
            ("alerts.ts", "timestamp, number 1 of the clustering key, asc"),
            ("window_counts.shard", "int, number 3 of the partition key"),
            ("window_counts.window_end", "timestamp, number 1 of the clustering key, asc"),
            ("window_counts.source", "text, number 2 of the clustering key, asc"),
            ("progress.partition", "int, number 1 of the partition key"),
            ("pipeline.health", "frozen<set<int>>, not in the key"),
            ("pipeline.origins", "frozen<map<int, bigint>>, not in the key"),
        ] {
            assert!(original.contains(&(name.to_owned(), expected.to_owned())), "{name}: {original:#?}");
        }
        assert_eq!(original.len(), 7 + 3 + 7 + 2 + 3 + 9 + 16);
        let bucketed = described(BUCKETED);
        let bucket = ("events.bucket".to_owned(), "bigint, number 2 of the partition key".to_owned());
        assert!(bucketed.contains(&bucket), "{bucketed:#?}");
        assert_eq!(bucketed.len(), original.len() + 1);
    }
}
