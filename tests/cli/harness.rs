//! A folder, the program in it, and what it printed.

use std::ops::Deref;

use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::broker::{NewRecord, Producer};
use exactlyonce::sqlite::Options;

use crate::program::Workplace;
pub use crate::program::{Said, signal};

/// The topic that everything has by default.
pub const TOPIC: &str = "exactlyonce.events";

/// A working directory of its own, removed at the end.
pub struct Folder(Workplace);

/// What a record is made of.
pub type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl Folder {
    pub fn new() -> Self {
        Self(Workplace::new())
    }

    /// One whose topic exists, has no records, and is bound.
    pub fn bound() -> Self {
        let folder = Self::new();
        folder.fine("topic create");
        folder.fine("init");
        folder
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).expect("a file is written");
    }

    /// Runs the program with environment variables, and with arguments that have no spaces in them.
    pub fn run_with(&self, arguments: &str, environment: &[(&str, &str)]) -> Said {
        let output = self.command(arguments.split(' ')).envs(environment.iter().copied()).output();
        output.expect("the program starts").into()
    }

    /// Puts records into a partition, each with a timestamp that is its place in the list.
    pub fn append(&self, partition: i32, records: &[KeyAndValue<'_>]) {
        let record = |(timestamp, (key, value)): (usize, &KeyAndValue<'_>)| NewRecord {
            key: key.map(Into::into),
            value: value.map(Into::into),
            timestamp: timestamp as i64,
            partition: Some(partition),
        };
        let records = records.iter().enumerate().map(record).collect();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let broker = EmbeddedBroker::open(self.data(), &Options::default()).expect("the log opens");
        runtime.block_on(broker.append(TOPIC, records)).expect("the log takes the records");
    }

    /// Puts good events into a partition.
    pub fn append_events(&self, partition: i32, events: &[&str]) {
        let records: Vec<_> =
            events.iter().map(|event| (Some(b"key".as_slice()), Some(event.as_bytes()))).collect();
        self.append(partition, &records);
    }
}

impl Deref for Folder {
    type Target = Workplace;

    fn deref(&self) -> &Workplace {
        &self.0
    }
}

/// Ten critical events of one source in one window: just enough for an alert.
pub fn ten_critical() -> Vec<String> {
    let event = |id| {
        format!(r#"{{"id":{id},"ts":{},"source":"My Router","client":"Dr. Evil","health":2}}"#, 1_000 + id)
    };
    (0..10).map(event).collect()
}

/// What differs from run to run.
pub fn filters(folder: &Folder) -> Vec<(String, &'static str)> {
    vec![
        (regex_literal(&folder.path().display().to_string()), "[folder]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".to_owned(), "[uuid]"),
        (r"process \d+".to_owned(), "process [pid]"),
    ]
}

fn regex_literal(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect()
}

/// Holds text against its snapshot, which has the name of the test and `name`.
macro_rules! said {
    ($folder:expr, $name:expr, $said:expr) => {{
        let filters = $crate::harness::filters($folder);
        let filters: Vec<(&str, &str)> = filters.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        insta::with_settings!({ filters => filters, prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $said.to_string());
        });
    }};
}

pub(crate) use said;
