//! Events that a node sends to clients that registered for them.

use std::net::SocketAddr;

use super::Writer;
use crate::coordinator::{ChangeKind, Event};
use crate::schema::SchemaChange;

/// What a client may register for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Nodes that join and leave.
    TopologyChange,
    /// Nodes that come up and go down.
    StatusChange,
    /// The schema.
    SchemaChange,
}

impl EventKind {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::TopologyChange => "TOPOLOGY_CHANGE",
            EventKind::StatusChange => "STATUS_CHANGE",
            EventKind::SchemaChange => "SCHEMA_CHANGE",
        }
    }

    /// The kind with this name, in any case.
    pub fn from_name(name: &str) -> Option<EventKind> {
        [EventKind::TopologyChange, EventKind::StatusChange, EventKind::SchemaChange]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// One change of the schema: the event for clients, and the result of the statement that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaNotice {
    /// What happened.
    pub kind: ChangeKind,
    /// In which keyspace.
    pub keyspace: String,
    /// To which of its tables; `None` for the keyspace itself.
    pub table: Option<String>,
}

impl SchemaNotice {
    /// Writes the fields, which RESULT and EVENT have in common.
    pub fn encode(&self, out: &mut Writer) {
        out.string(match self.kind {
            ChangeKind::Created => "CREATED",
            ChangeKind::Updated => "UPDATED",
            ChangeKind::Dropped => "DROPPED",
        });
        match &self.table {
            None => {
                out.string("KEYSPACE");
                out.string(&self.keyspace);
            }
            Some(name) => {
                out.string("TABLE");
                out.string(&self.keyspace);
                out.string(name);
            }
        }
    }

    /// The event of a change.
    pub fn of(kind: ChangeKind, change: &SchemaChange) -> SchemaNotice {
        let (keyspace, table) = match change {
            SchemaChange::PutKeyspace { name, .. } | SchemaChange::DropKeyspace { name } => (name, None),
            SchemaChange::PutTable(table) => (&table.keyspace, Some(table.name.to_string())),
            SchemaChange::DropTable { keyspace, name } => (keyspace, Some(name.to_string())),
        };
        SchemaNotice { kind, keyspace: keyspace.to_string(), table }
    }
}

/// An EVENT message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A node joined (or left, if not).
    Topology {
        /// Whether it joined.
        joined: bool,
        /// Where clients find it.
        address: SocketAddr,
    },
    /// A node came up (or went down, if not).
    Status {
        /// Whether it is up.
        up: bool,
        /// Where clients find it.
        address: SocketAddr,
    },
    /// The schema changed.
    Schema(SchemaNotice),
}

impl Notice {
    /// The message of an event.
    pub fn of(event: &Event) -> Notice {
        match event {
            Event::Up(address, port) => Notice::Status { up: true, address: (*address, *port).into() },
            Event::Down(address, port) => Notice::Status { up: false, address: (*address, *port).into() },
            Event::NewNode(address, port) => {
                Notice::Topology { joined: true, address: (*address, *port).into() }
            }
            Event::RemovedNode(address, port) => {
                Notice::Topology { joined: false, address: (*address, *port).into() }
            }
            Event::Schema(kind, change) => Notice::Schema(SchemaNotice::of(*kind, change)),
        }
    }

    /// The clients that get it.
    pub fn kind(&self) -> EventKind {
        match self {
            Notice::Topology { .. } => EventKind::TopologyChange,
            Notice::Status { .. } => EventKind::StatusChange,
            Notice::Schema(_) => EventKind::SchemaChange,
        }
    }

    /// Writes the body of the message.
    pub fn encode(&self, out: &mut Writer) {
        out.string(self.kind().name());
        match self {
            Notice::Topology { joined, address } => {
                out.string(if *joined { "NEW_NODE" } else { "REMOVED_NODE" });
                out.inet(*address);
            }
            Notice::Status { up, address } => {
                out.string(if *up { "UP" } else { "DOWN" });
                out.inet(*address);
            }
            Notice::Schema(notice) => notice.encode(out),
        }
    }
}
