//! An observer that keeps the events that a test needs.

use std::sync::{Arc, Mutex};

use simulated_kafka::cluster::observe::{Event, Observer};

/// What a test keeps of an event.
type Note = fn(&Event<'_>) -> Option<String>;

pub struct Recorder {
    note: Note,
    notes: Mutex<Vec<String>>,
}

impl Recorder {
    pub fn new(note: Note) -> Arc<Self> {
        Arc::new(Self { note, notes: Mutex::default() })
    }

    /// What was kept since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        if let Some(note) = (self.note)(event) {
            self.notes.lock().unwrap().push(note);
        }
    }
}
