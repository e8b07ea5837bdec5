//! A working folder, the program in it, and snapshots of its output.

use std::ops::Deref;

use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::broker::{NewRecord, Producer};
use exactlyonce::sqlite::Options;

use crate::program::WorkFolder;
pub use crate::program::{ProgramOutput, signal};

/// The default topic.
pub const TOPIC: &str = "exactlyonce.events";

/// A temporary working folder with the embedded services.
pub struct Folder(WorkFolder);

/// Key and value of a record.
pub type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl Folder {
    pub fn new() -> Self {
        Self(WorkFolder::new())
    }

    /// A folder with an empty topic and tables bound to it.
    pub fn bound() -> Self {
        let folder = Self::new();
        folder.succeed("topic create");
        folder.succeed("init");
        folder
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).expect("a file is written");
    }

    /// Runs the program with environment variables and with these arguments, separated by spaces.
    pub fn run_with(&self, arguments: &str, environment: &[(&str, &str)]) -> ProgramOutput {
        let output = self.command(arguments.split(' ')).envs(environment.iter().copied()).output();
        output.expect("the program starts").into()
    }

    /// Appends records to a partition. The timestamp of each is its index in the list.
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
        runtime.block_on(broker.append(TOPIC, records)).expect("the records are appended");
    }

    /// Appends events to a partition.
    pub fn append_events(&self, partition: i32, events: &[&str]) {
        let records: Vec<_> =
            events.iter().map(|event| (Some(b"key".as_slice()), Some(event.as_bytes()))).collect();
        self.append(partition, &records);
    }
}

impl Deref for Folder {
    type Target = WorkFolder;

    fn deref(&self) -> &WorkFolder {
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

/// Filters for what differs from run to run.
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

/// Compares a text with the snapshot of this name.
macro_rules! assert_output {
    ($folder:expr, $name:expr, $output:expr) => {{
        let filters = $crate::harness::filters($folder);
        let filters: Vec<(&str, &str)> = filters.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        insta::with_settings!({ filters => filters, prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $output.to_string());
        });
    }};
}

pub(crate) use assert_output;
