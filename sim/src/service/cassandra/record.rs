//! Records what the nodes do in the timeline: the requests of clients, the messages between nodes, and their processes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use exactlyonce::store::cql::tables;
use simulated_cassandra::cluster::{Envelope, NodeId, Verb};
use simulated_cassandra::protocol::consistency_of;
use simulated_cassandra::storage::Mutation;

use super::cells::ClusterReplicas;
use crate::context::SimContext;
use crate::parties::worker_ip;
use crate::scenario::cassandra::{ClusterOptions, DATA_CENTERS, NODES};
use crate::scenario::fault::Host;
use crate::timeline::{ItemId, Kind, Outcome, Party};

/// Rows of a mutation that are shown.
const ROWS: usize = 6;

/// Characters of a value that are shown.
const VALUE: usize = 24;

/// The lane of a node.
pub(crate) fn lane_of(node: NodeId) -> Party {
    Party::Host(Host::Node(node.0 as u8))
}

/// Adds the lanes of the nodes.
pub(crate) fn add_lanes(context: &SimContext, cluster: &ClusterOptions) {
    context.record(|recording| {
        for node in 0..cluster.nodes() {
            let group = match cluster.data_centers {
                1 => "cassandra",
                _ => DATA_CENTERS[usize::from(node / NODES)],
            };
            recording.add_lane(Party::Host(Host::Node(node)), format!("cassandra {}", node + 1), group);
        }
    });
}

/// The kind of a message between nodes, if it is shown.
fn kind_of(verb: Verb) -> Option<Kind> {
    Some(match verb {
        Verb::Write => Kind::ReplicaWrite,
        Verb::Read | Verb::ReadDigest => Kind::ReplicaRead,
        Verb::Hint => Kind::Hint,
        Verb::ReadRepair => Kind::ReadRepair,
        Verb::Prepare | Verb::Propose | Verb::Commit => Kind::ConditionalWrite,
        _ => return None,
    })
}

fn text_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Write => "write",
        Verb::Read => "read",
        Verb::ReadDigest => "read a digest",
        Verb::Hint => "hint",
        Verb::ReadRepair => "read repair",
        Verb::Prepare => "prepare",
        Verb::Propose => "propose",
        Verb::Commit => "commit",
        _ => "message",
    }
}

/// A write, a hint or a read repair is sent to a replica; the item of the message, unless it is to the node itself.
pub(crate) fn mutation_sent(
    context: &SimContext,
    replicas: &ClusterReplicas,
    envelope: &Envelope,
    mutation: &Mutation,
) -> Option<ItemId> {
    let kind = kind_of(envelope.verb).filter(|_| envelope.from != envelope.to)?;
    if !context.timeline.is_on() {
        return None;
    }
    let Shown { table, partition, lines } = shown(replicas, mutation)?;
    context.record(|recording| {
        let text = format!("{} {table}", text_of(envelope.verb));
        let id = recording.replica_message(
            kind,
            (lane_of(envelope.from), lane_of(envelope.to)),
            envelope.request,
            text,
        );
        recording.get(id).partitions.extend(partition);
        recording.detail(id, "rows", lines.join("\n"));
        id
    })
}

/// A message between nodes is under way: its copies arrive after these delays.
pub(crate) fn message_sent(context: &SimContext, envelope: &Envelope, copies: &[Duration]) {
    let Envelope { from, to, verb, response_to, request } = *envelope;
    let Some(kind) = kind_of(response_to.unwrap_or(verb)) else { return };
    context.record(|recording| {
        let parties = (lane_of(from), lane_of(to));
        let known = recording.open_replica_message(parties, request);
        let id = match (known, response_to) {
            (Some(id), None) => id,
            (_, Some(of)) => {
                recording.replica_response(kind, parties, request, format!("response to {}", text_of(of)))
            }
            (None, None) => recording.replica_message(kind, parties, request, text_of(verb).to_owned()),
        };
        let after = copies.iter().min().map(|delay| delay.as_micros() as u64);
        recording.arrives_after(id, after, copies.len());
    });
}

/// A mutation, for a reader.
struct Shown {
    table: &'static str,
    partition: Option<i32>,
    lines: Vec<String>,
}

fn shown(replicas: &ClusterReplicas, mutation: &Mutation) -> Option<Shown> {
    let (table, update) = tables(replicas.layout().events).into_iter().find_map(|table| {
        let update = mutation.updates.get(&replicas.table(table.name)?.id)?;
        Some((table, update))
    })?;
    let key = mutation.key.components(table.partition_key.len()).unwrap_or_default();
    let int = |value: &Bytes| Some(i32::from_be_bytes(value.as_ref().try_into().ok()?));
    let partition = (table.partition_key.first() == Some(&"partition")).then(|| int(key.first()?)).flatten();
    let value = |column: &str, value: &Bytes| {
        let is_text = matches!(column, "source" | "client" | "name" | "reason" | "topic");
        match (is_text, value.len()) {
            (false, 4) => int(value).unwrap_or_default().to_string(),
            (false, 8) => i64::from_be_bytes(value.as_ref().try_into().unwrap_or_default()).to_string(),
            _ => String::from_utf8_lossy(value).chars().take(VALUE).collect(),
        }
    };
    let named = |names: &[&str], values: &[Bytes]| -> Vec<String> {
        names.iter().zip(values).map(|(name, bytes)| format!("{name} {}", value(name, bytes))).collect()
    };
    let mut lines = vec![named(table.partition_key, &key).join(", ")];
    let clustering: Vec<&str> = table.clustering_key.iter().map(|(name, _)| *name).collect();
    for (position, row) in update.rows.iter().take(ROWS) {
        let mut parts = named(&clustering, position.values());
        let timestamp = row.cells.values().map(|cell| cell.timestamp).max();
        for (column, cell) in &row.cells {
            let bytes = cell.value.as_ref();
            parts.push(format!(
                "{column} = {}",
                bytes.map_or("null".to_owned(), |bytes| value(column, bytes))
            ));
        }
        parts.extend(timestamp.map(|timestamp| format!("at timestamp {timestamp}")));
        lines.push(parts.join(", "));
    }
    if update.rows.len() > ROWS {
        lines.push(format!("... {} more rows", update.rows.len() - ROWS));
    }
    Some(Shown { table: table.name, partition, lines })
}

/// A frame of a client's connection.
pub struct Frame<'a> {
    /// The node that serves the connection.
    pub node: u8,
    /// The other end.
    pub client: IpAddr,
    /// The connection's number at the node.
    pub connection: u64,
    /// Which request of the connection it belongs to.
    pub stream: u16,
    /// The message's code.
    pub opcode: u8,
    /// The beginning of its body, not compressed.
    pub body: &'a [u8],
}

/// The requests of clients that have no response yet, and the prepared statements.
#[derive(Default)]
pub(crate) struct Clients(Mutex<ClientState>);

#[derive(Default)]
struct ClientState {
    /// By node, connection and stream.
    requests: BTreeMap<(u8, u64, u16), Request>,
    prepared: BTreeMap<Vec<u8>, String>,
}

enum Request {
    /// Of this statement.
    Prepare(String),
    Shown(ItemId),
}

/// Codes of protocol v4.
mod opcode {
    pub const ERROR: u8 = 0x00;
    pub const QUERY: u8 = 0x07;
    pub const RESULT: u8 = 0x08;
    pub const PREPARE: u8 = 0x09;
    pub const EXECUTE: u8 = 0x0a;
    pub const BATCH: u8 = 0x0d;
}

/// Takes values from the beginning of bytes.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn int(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.bytes(length.into())
    }

    /// A long string, or as much of it as there is.
    fn long_string(&mut self) -> Option<String> {
        let length = self.int()? as usize;
        let taken = self.bytes(length.min(self.0.len()))?;
        Some(String::from_utf8_lossy(taken).into_owned())
    }
}

impl ClientState {
    /// The statement of a request, how many there are, and the consistency level, as far as the beginning says.
    fn statement(&self, opcode: u8, body: &[u8]) -> Option<(String, u16, Option<u16>)> {
        let mut values = Values(body);
        let known =
            |id: &[u8]| self.prepared.get(id).cloned().unwrap_or_else(|| "a prepared statement".to_owned());
        Some(match opcode {
            opcode::QUERY => (values.long_string()?, 1, values.short()),
            opcode::EXECUTE => (known(values.short_bytes()?), 1, values.short()),
            opcode::BATCH => {
                let (_kind, count, is_prepared) = (values.byte()?, values.short()?, values.byte()? == 1);
                let first = if is_prepared { known(values.short_bytes()?) } else { values.long_string()? };
                (first, count, None)
            }
            _ => return None,
        })
    }
}

/// A statement without its columns: what it does, and to which table. None for the driver's own.
fn label(statement: &str) -> Option<String> {
    let mut tokens = statement.split_whitespace();
    let verb = tokens.next()?.to_lowercase();
    let is_before_table = |token: &&str| matches!(token.to_uppercase().as_str(), "INTO" | "FROM" | "UPDATE");
    let table = match verb.as_str() {
        "update" => tokens.next(),
        _ => tokens.skip_while(|token| !is_before_table(token)).nth(1),
    };
    let Some(table) = table else {
        return Some(statement.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_lowercase());
    };
    if table.starts_with("system") {
        return None;
    }
    let table = table.rsplit('.').next().unwrap_or_default();
    let is_of_name = |character: &char| character.is_alphanumeric() || *character == '_';
    let table: String = table.chars().take_while(is_of_name).collect();
    Some(format!("{verb} {table}"))
}

impl Clients {
    /// A node receives a request.
    pub fn request(&self, context: &SimContext, frame: &Frame<'_>) {
        let Frame { node, client, connection, stream, opcode, body } = *frame;
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (node, connection, stream);
        // Of a process that was killed before it responded: the next one counts its connections from 1 again.
        state.requests.remove(&key);
        if opcode == opcode::PREPARE {
            let statement = Values(body).long_string().unwrap_or_default();
            state.requests.insert(key, Request::Prepare(statement));
            return;
        }
        let Some((statement, count, level)) = state.statement(opcode, body) else { return };
        let Some(label) = label(&statement) else { return };
        let level = level.and_then(consistency_of).map(|level| format!("{level:?}"));
        let id = context.record(|recording| {
            let text = match (count, &level) {
                (1, Some(level)) => format!("{label} at {level}"),
                (1, None) => label,
                (count, _) => format!("batch of {count}: {label}"),
            };
            let id =
                recording.message(Kind::TableRequest, client_of(client), lane_of(NodeId(node.into())), text);
            recording.detail(id, "statement", statement);
            recording.detail(id, "time", "when it arrives at the node");
            recording.arrives_after(id, Some(0), 1);
            id
        });
        if let Some(id) = id {
            state.requests.insert(key, Request::Shown(id));
        }
    }

    /// A node responds.
    pub fn response(&self, context: &SimContext, frame: &Frame<'_>) {
        let Frame { node, client, connection, stream, opcode, body } = *frame;
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = Values(body);
        let (text, outcome) = match opcode {
            opcode::RESULT => match values.int() {
                Some(2) => ("rows", Outcome::Acknowledged),
                _ => ("done", Outcome::Acknowledged),
            },
            opcode::ERROR => match values.int() {
                Some(0x1000) => ("unavailable", Outcome::Failed),
                Some(0x1100) => ("write timeout", Outcome::Unknown),
                Some(0x1200) => ("read timeout", Outcome::Failed),
                _ => ("an error", Outcome::Failed),
            },
            _ => return,
        };
        match state.requests.remove(&(node, connection, stream)) {
            Some(Request::Prepare(statement)) => {
                if let (opcode::RESULT, Some(id)) = (opcode, values.short_bytes()) {
                    state.prepared.insert(id.to_vec(), statement);
                }
            }
            Some(Request::Shown(request)) => {
                context.record(|recording| {
                    let from = lane_of(NodeId(node.into()));
                    let of = recording.get(request).text.clone();
                    let text = format!("{text}: {of}");
                    let id = recording.message(Kind::TableRequest, from, client_of(client), text);
                    if let (opcode::ERROR, Some(message)) = (opcode, body.get(6..)) {
                        recording.detail(id, "error", String::from_utf8_lossy(message));
                    }
                    recording.detail(id, "time", "when the node sends it");
                    recording.arrives_after(id, Some(0), 1);
                    recording.get(id).outcome = outcome;
                    recording.answers(id, request);
                });
            }
            None => {}
        }
    }
}

/// The worker at an address, or else the operator.
fn client_of(client: IpAddr) -> Party {
    let worker = (0..u8::MAX).find(|worker| worker_ip(*worker) == client);
    worker.map_or(Party::Outside, |worker| Party::Host(Host::Worker(worker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_labelled_by_what_they_do_and_the_table() {
        let of = |statement| label(statement);
        assert_eq!(
            of("INSERT INTO k.window_counts(a, b) VALUES (?, ?)").as_deref(),
            Some("insert window_counts")
        );
        assert_eq!(of("SELECT a, b FROM k.progress WHERE a = ?").as_deref(), Some("select progress"));
        assert_eq!(of("UPDATE k.alerts USING TIMESTAMP ? SET a = ?").as_deref(), Some("update alerts"));
        assert_eq!(of("CREATE TABLE k.t (a int PRIMARY KEY)").as_deref(), Some("create table"));
        assert_eq!(of("SELECT * FROM system.local"), None);
    }
}
