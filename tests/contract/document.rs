//! `docs/contract.md`: a generated table for each service, with a column for each backend, between two marks. Everything
//! else in the document is written by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The columns before those of the backends.
const FIRST: [&str; 2] = ["case", "what the documentation says"];

/// The path of the document: in this package, or in one that contains it.
pub fn path() -> PathBuf {
    const NAME: &str = "docs/contract.md";
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let existing = package.ancestors().map(|folder| folder.join(NAME)).find(|path| path.exists());
    existing.unwrap_or_else(|| package.join(NAME))
}

/// How the text begins that is written for a case that a backend cannot run.
pub const NOT_APPLICABLE: &str = "*not applicable: ";

fn marks(service: &str) -> (String, String) {
    (format!("<!-- cases of {service}, written by tests/contract -->"), format!("<!-- end of {service} -->"))
}

/// The table of a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The backends' columns.
    pub backends: Vec<String>,
    /// For each case: its name, what is documented, and what each backend did.
    pub rows: Vec<(String, String, Vec<String>)>,
}

impl Table {
    /// Reads the table of a service from the document.
    pub fn parse(document: &str, service: &str) -> Result<Self, String> {
        let (begin, end) = marks(service);
        let (_, rest) = document.split_once(&begin).ok_or(format!("the document lacks the line {begin}"))?;
        let (table, _) = rest.split_once(&end).ok_or(format!("the document lacks the line {end}"))?;
        let mut lines = table.lines().filter(|line| line.starts_with('|'));
        let Some(head) = lines.next() else { return Ok(Self::default()) };
        let backends = cells(head).into_iter().skip(FIRST.len()).collect::<Vec<_>>();
        let mut rows = Vec::new();
        for line in lines.skip(1) {
            let mut row = cells(line).into_iter();
            let name = row.next().unwrap_or_default().trim_matches('`').to_owned();
            let documented = row.next().unwrap_or_default();
            let mut observed: Vec<_> = row.collect();
            observed.resize(backends.len(), String::new());
            rows.push((name, documented, observed));
        }
        Ok(Self { backends, rows })
    }

    /// The observation of a backend in a case, as written; empty if there is none.
    pub fn observed(&self, case: &str, backend: &str) -> &str {
        let column = self.backends.iter().position(|column| column == backend);
        let row = self.rows.iter().find(|row| row.0 == case);
        row.zip(column).map_or("", |(row, column)| &row.2[column])
    }

    /// The cases in which two backends differ. What is written for a case that a backend cannot run, or has not run, is no
    /// difference.
    pub fn differences(&self) -> Vec<&str> {
        let is_observed = |cell: &&String| !cell.is_empty() && !cell.starts_with(NOT_APPLICABLE);
        let differs = |row: &&(String, String, Vec<String>)| {
            let mut observed = row.2.iter().filter(is_observed);
            let first = observed.next();
            observed.any(|other| Some(other) != first)
        };
        self.rows.iter().filter(differs).map(|row| row.0.as_str()).collect()
    }

    /// The table with exactly these cases, and with these observations of a backend.
    pub fn with(&self, cases: &[(&str, &str)], backend: &str, observed: &BTreeMap<&str, String>) -> Self {
        let mut backends = self.backends.clone();
        if !backends.iter().any(|column| column == backend) {
            backends.push(backend.to_owned());
        }
        let row = |&(name, documented): &(&str, &str)| {
            let cell = |column: &String| match observed.get(name) {
                Some(text) if column == backend => text.clone(),
                _ => self.observed(name, column).to_owned(),
            };
            (name.to_owned(), documented.to_owned(), backends.iter().map(cell).collect())
        };
        Self { rows: cases.iter().map(row).collect(), backends }
    }

    /// The document with its table replaced by this one.
    pub fn replace_in(&self, document: &str, service: &str) -> Result<String, String> {
        let (begin, end) = marks(service);
        let (before, rest) =
            document.split_once(&begin).ok_or(format!("the document lacks the line {begin}"))?;
        let (_, after) = rest.split_once(&end).ok_or(format!("the document lacks the line {end}"))?;
        let line = |cells: Vec<String>| {
            let cells: Vec<_> =
                cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut table =
            line(FIRST.iter().map(|name| name.to_string()).chain(self.backends.clone()).collect());
        table.push_str(&format!("|{}\n", "---|".repeat(FIRST.len() + self.backends.len())));
        for (name, documented, observed) in &self.rows {
            table.push_str(&line(
                [format!("`{name}`"), documented.clone()].into_iter().chain(observed.clone()).collect(),
            ));
        }
        Ok(format!("{before}{begin}\n\n{table}\n{end}{after}"))
    }
}

/// The cells of a line, which may contain `\|`.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Tests of this file.
pub fn tests() -> Vec<(&'static str, fn())> {
    const EMPTY: &str = "head\n<!-- cases of x, written by tests/contract -->\n<!-- end of x -->\ntail\n";
    fn table() -> Table {
        let seen = BTreeMap::from([("a", "one | two".to_owned())]);
        Table::parse(EMPTY, "x").unwrap().with(&[("a", "says"), ("b", "says, too")], "real", &seen)
    }
    macro_rules! tests {
        ($($name:ident $body:block)*) => { vec![$((stringify!($name), || $body)),*] };
    }
    tests! {
        a_table_is_read_as_written {
            let written = table().replace_in(EMPTY, "x").unwrap();
            assert!(written.starts_with("head\n") && written.ends_with("-->\ntail\n"), "{written}");
            let read = Table::parse(&written, "x").unwrap();
            assert_eq!(read, table());
            assert_eq!((read.observed("a", "real"), read.observed("b", "real")), ("one | two", ""));
            assert_eq!(read.replace_in(&written, "x").unwrap(), written);
        }
        a_second_backend_does_not_change_the_first_one {
            let both = table().with(&[("a", "says")], "simulated", &BTreeMap::from([("a", "three".to_owned())]));
            assert_eq!((both.observed("a", "real"), both.observed("a", "simulated")), ("one | two", "three"));
            assert_eq!(both.rows.len(), 1);
        }
        observations_that_differ_are_found {
            let other = |text: &str| {
                table().with(&[("a", "says")], "simulated", &BTreeMap::from([("a", text.to_owned())]))
            };
            assert_eq!(other("three").differences(), ["a"]);
            assert!(other("one | two").differences().is_empty());
            assert!(other("*not applicable: why*").differences().is_empty());
            assert!(table().differences().is_empty());
        }
        a_document_without_the_marks_is_refused {
            assert!(Table::parse("", "x").unwrap_err().contains("cases of x"));
        }
    }
}
