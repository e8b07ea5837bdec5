//! Prints the tables: the statements that create them, with comments or without.

use std::fmt::Write;

use super::table::{Order, Table};
use super::tables::tables;
use super::{Keyspace, Replication};
use crate::store::Layout;

/// Maximum length of a comment's lines.
const WIDTH: usize = 110;

const INTRODUCTION: [&str; 2] = [
    "The tables of exactlyonce. `exactlyonce schema print` prints this file with the configured keyspace and \
     replication in place of those below; `exactlyonce schema apply` creates what is missing and never drops or \
     truncates anything.",
    "Every cell is written with a position of the log as its timestamp, so nobody may write to these tables with \
     wall-clock timestamps, delete from them, or set a time to live on them: such a write would shadow all later \
     ones.",
];

/// A line of a statement, and a comment on it.
struct Line {
    code: String,
    comment: Option<&'static str>,
}

impl Line {
    fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), comment: None }
    }
}

/// The statements that create missing tables and change no existing ones, each on one line.
pub fn statements(keyspace: &Keyspace, replication: &Replication, layout: Layout) -> Vec<String> {
    let on_one_line = |lines: Vec<Line>| {
        let code: Vec<&str> = lines.iter().map(|line| line.code.trim()).collect();
        code.join(" ")
    };
    let tables = tables(layout.events);
    let tables = tables.iter().map(|table| on_one_line(create_table(table, keyspace)));
    [on_one_line(create_keyspace(keyspace, replication))].into_iter().chain(tables).collect()
}

/// The same statements as a file, with comments.
pub fn schema(keyspace: &Keyspace, replication: &Replication, layout: Layout) -> String {
    let mut text = INTRODUCTION.map(comment).join("--\n");
    text.push('\n');
    print(&mut text, &create_keyspace(keyspace, replication));
    for table in tables(layout.events) {
        text.push('\n');
        text.push_str(&comment(&table.comment));
        print(&mut text, &create_table(&table, keyspace));
    }
    text
}

/// A paragraph as comment lines.
fn comment(paragraph: &str) -> String {
    let mut text = String::new();
    let mut line = "--".to_owned();
    for word in paragraph.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "--".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// A statement with aligned comments.
fn print(text: &mut String, lines: &[Line]) {
    let column = lines.iter().filter(|line| line.comment.is_some()).map(|line| line.code.len()).max();
    for (number, Line { code, comment }) in (1..).zip(lines) {
        text.push_str(code);
        if number == lines.len() {
            text.push(';');
        }
        if let Some(comment) = comment {
            let space = column.unwrap_or_default() - code.len() + 2;
            // Writing to a string cannot fail.
            let _ = write!(text, "{:space$}-- {comment}", "");
        }
        text.push('\n');
    }
}

fn create_keyspace(keyspace: &Keyspace, replication: &Replication) -> Vec<Line> {
    vec![
        Line::new(format!("CREATE KEYSPACE IF NOT EXISTS {keyspace}")),
        Line::new(format!("    WITH replication = {replication}")),
    ]
}

fn create_table(table: &Table, keyspace: &Keyspace) -> Vec<Line> {
    let mut lines = vec![Line::new(format!("CREATE TABLE IF NOT EXISTS {keyspace}.{} (", table.name))];
    // A key of one column is part of its definition.
    let only_key = match (table.partition_key, table.clustering_key) {
        ([only], []) => Some(*only),
        _ => None,
    };
    for column in table.columns.iter() {
        let key = if only_key == Some(column.name) { " PRIMARY KEY" } else { "" };
        let comma = if only_key.is_some() && Some(column) == table.columns.last() { "" } else { "," };
        let code = format!("    {} {}{key}{comma}", column.name, column.data);
        lines.push(Line { code, comment: column.comment });
    }
    if only_key.is_none() {
        lines.push(Line::new(format!("    PRIMARY KEY ({})", key(table))));
    }
    lines.push(Line::new(format!("){}", order(table))));
    lines
}

/// The columns of the primary key.
fn key(table: &Table) -> String {
    let partition_key = match table.partition_key {
        [only] => (*only).to_owned(),
        several => format!("({})", several.join(", ")),
    };
    let clustering_key = table.clustering_key.iter().map(|(name, _)| (*name).to_owned());
    [partition_key].into_iter().chain(clustering_key).collect::<Vec<_>>().join(", ")
}

/// The order of the rows, if it is not the default.
fn order(table: &Table) -> String {
    if table.clustering_key.iter().all(|(_, order)| *order == Order::Ascending) {
        return String::new();
    }
    let column = |(name, order): &(&str, Order)| match order {
        Order::Ascending => format!("{name} ASC"),
        Order::Descending => format!("{name} DESC"),
    };
    let columns: Vec<String> = table.clustering_key.iter().map(column).collect();
    format!(" WITH CLUSTERING ORDER BY ({})", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use super::*;

    fn keyspace(name: &str) -> Keyspace {
        Keyspace::try_from(name.to_owned()).unwrap()
    }

    fn original() -> Vec<String> {
        statements(&keyspace("exactlyonce"), &Replication::anywhere(1).unwrap(), Layout::ORIGINAL)
    }

    #[test]
    fn events_and_alerts_are_those_of_the_original() {
        let statements = original();
        for expected in [
            "CREATE TABLE IF NOT EXISTS exactlyonce.events ( id bigint, ts timestamp, partition int, \
             offset bigint, source text, client text, health int, PRIMARY KEY (partition, offset) ) \
             WITH CLUSTERING ORDER BY (offset DESC)",
            "CREATE TABLE IF NOT EXISTS exactlyonce.alerts ( ts timestamp, source text, event_count int, \
             PRIMARY KEY (source, ts) )",
        ] {
            assert!(statements.iter().any(|statement| statement == expected), "{expected}: {statements:#?}");
        }
    }

    #[test]
    fn every_statement_only_creates_what_is_missing() {
        let statements = original();
        assert_eq!(statements.len(), 8);
        for statement in statements {
            let keyspace = statement.starts_with("CREATE KEYSPACE IF NOT EXISTS exactlyonce WITH");
            let table = statement.starts_with("CREATE TABLE IF NOT EXISTS exactlyonce.");
            assert!(keyspace || table, "{statement}");
        }
    }

    #[test]
    fn a_key_of_one_column_and_one_of_several_are_both_written() {
        let statements = original();
        for expected in [
            "progress ( partition int PRIMARY KEY, next_offset bigint, origin bigint )",
            "shard int, window_end timestamp, source text, count bigint, through_offset bigint, \
             PRIMARY KEY ((partition, block, shard), window_end, source) )",
            "health frozen<set<int>>, ",
            "origins frozen<map<int, bigint>> )",
        ] {
            assert!(statements.iter().any(|statement| statement.contains(expected)), "{statements:#?}");
        }
        let rows = NonZeroU32::new(70_000).unwrap();
        let (keyspace, replication) = (keyspace("k"), Replication::anywhere(1).unwrap());
        assert_eq!(
            super::statements(&keyspace, &replication, Layout::bucketed(rows))[1],
            "CREATE TABLE IF NOT EXISTS k.events ( id bigint, ts timestamp, partition int, offset bigint, \
             source text, client text, health int, bucket bigint, PRIMARY KEY ((partition, bucket), offset) ) \
             WITH CLUSTERING ORDER BY (offset DESC)"
        );
    }

    #[test]
    fn keyspace_and_replication_go_into_every_statement() {
        let replicas = BTreeMap::from([("paris".to_owned(), 3), ("oslo-2".to_owned(), 2)]);
        let replication = Replication::datacenters(replicas).unwrap();
        let statements = statements(&keyspace("other"), &replication, Layout::ORIGINAL);
        assert_eq!(
            statements[0],
            "CREATE KEYSPACE IF NOT EXISTS other WITH replication = \
             {'class': 'NetworkTopologyStrategy', 'oslo-2': 2, 'paris': 3}"
        );
        for statement in &statements[1..] {
            assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS other."), "{statement}");
        }
    }

    /// Comments start with `--` and end with their line; nothing else contains `--`.
    #[test]
    fn the_text_without_its_comments_is_the_statements() {
        let (keyspace, replication) = (keyspace("k"), Replication::anywhere(3).unwrap());
        for layout in [Layout::ORIGINAL, Layout::bucketed(NonZeroU32::new(4).unwrap())] {
            let text = schema(&keyspace, &replication, layout);
            let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or("")).collect();
            let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(code, statements(&keyspace, &replication, layout).join("; ") + ";");
        }
    }

    /// The schema is also a file of the repository, for readers.
    #[test]
    fn the_file_in_the_repository_is_the_schema_with_the_defaults() {
        let file = include_str!("../../../schema/exactlyonce.cql");
        let rendered = schema(&keyspace("exactlyonce"), &Replication::anywhere(1).unwrap(), Layout::ORIGINAL);
        assert!(
            file == rendered,
            "the tables have changed; update the file: \
             cargo run -- --set store.replication=1 schema print > schema/exactlyonce.cql"
        );
    }
}
