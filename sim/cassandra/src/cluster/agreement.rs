//! Schema agreement: all nodes eventually get the same schema.
//!
//! A change is applied on the coordinating node and sent to the others, which may not receive it; nodes that see
//! another version in gossip request what they lack. All apply the same changes in the same order, by timestamp, so
//! that concurrent ones end the same everywhere.

use std::sync::Arc;

use super::message::Request;
use super::node::Node;
use crate::coordinator::{ChangeKind, Event, RequestError};
use crate::schema::{Schema, SchemaChange};
use crate::storage::{SchemaEntry, fingerprint};

impl Node {
    /// Computes the schema from the changes on the disk.
    pub(crate) fn load_schema(&self) {
        let now = self.member().clock.micros();
        let mut state = self.lock();
        let entries = state.engine.disk().schema();
        let mut schema = Schema::default();
        let mut identities = Vec::new();
        for entry in &entries {
            schema = schema.after(&entry.change);
            identities.extend(entry.timestamp.to_be_bytes());
            identities.extend(entry.unique.to_be_bytes());
        }
        schema.version = fingerprint(&[&identities]);
        let gone: Vec<_> =
            state.schema.tables.keys().filter(|table| !schema.tables.contains_key(table)).copied().collect();
        for table in gone {
            state.engine.truncate(table, now);
        }
        state.schema = Arc::new(schema);
    }

    /// Adds changes of another node.
    pub(crate) fn learn_schema(&self, entries: &[SchemaEntry]) {
        let known = self.member().disk.schema();
        let before = self.schema();
        if !self.member().disk.add_schema(entries) {
            return;
        }
        self.load_schema();
        for entry in entries.iter().filter(|entry| !known.contains(entry)) {
            let kind = match &*entry.change {
                SchemaChange::DropKeyspace { .. } | SchemaChange::DropTable { .. } => ChangeKind::Dropped,
                SchemaChange::PutKeyspace { name, .. } if before.keyspaces.contains_key(name) => {
                    ChangeKind::Updated
                }
                SchemaChange::PutTable(table) if before.tables.contains_key(&table.id) => ChangeKind::Updated,
                SchemaChange::PutKeyspace { .. } | SchemaChange::PutTable(_) => ChangeKind::Created,
            };
            let _ = self.events.send(Event::Schema(kind, entry.change.clone()));
        }
    }

    /// Changes the schema of this node and sends it to the others.
    pub(crate) fn change_schema(self: &Arc<Self>, change: SchemaChange) -> Result<(), RequestError> {
        let entry = SchemaEntry {
            timestamp: self.timestamp(),
            unique: self.cluster.unique(),
            change: Arc::new(change),
        };
        self.learn_schema(std::slice::from_ref(&entry));
        for peer in self.cluster.ids().filter(|peer| *peer != self.id) {
            self.notify(peer, Request::Schema(vec![entry.clone()]));
        }
        Ok(())
    }
}
