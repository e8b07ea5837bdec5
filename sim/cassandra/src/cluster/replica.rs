//! The replica's side of all requests between nodes.

use std::sync::Arc;

use tokio::time::sleep;

use super::NodeId;
use super::message::{Partitions, Request, Response};
use super::node::Node;
use super::options::CommitLogSync;
use crate::coordinator::FailureReason;
use crate::schema::{ColumnName, Table, TableId};
use crate::storage::{Ballot, DecoratedKey, Mutation, PaxosState, ReadCommand, Record, Token};

impl Table {
    /// Whether a column is known or was: a message with another one cannot be read, and the response is a failure
    /// (`Columns.Serializer.deserialize`).
    fn remembers(&self, column: &ColumnName) -> bool {
        self.columns.contains_key(column) || self.dropped.contains_key(column)
    }
}

impl Node {
    /// Serves the request of another node (or of this one), and responds.
    pub(crate) fn handle(self: &Arc<Self>, from: NodeId, request: u64, requested: Request) {
        let verb = requested.verb();
        let (response, safe_at) = match requested {
            Request::Write(mutation) | Request::ReadRepair(mutation) => self.apply(mutation),
            Request::Hint(mutation, written_at) => {
                let left = self.lock().engine.not_truncated(&mutation, written_at);
                self.apply(left)
            }
            Request::Read { command, digest, table } => (self.read_locally(&command, digest, &table), None),
            Request::StoreBatch(id, batch) => self.log(Record::StoreBatch(id, batch)),
            Request::RemoveBatch(id) => self.log(Record::RemoveBatch(id)),
            Request::Prepare { table, key, ballot } => self.promise(table, key, ballot),
            Request::Propose { table, key, ballot, mutation } => self.accept(table, key, ballot, mutation),
            Request::Commit { table, key, ballot, mutation } => self.commit(table, key, ballot, mutation),
            Request::Truncate(table) => {
                let now = self.member().clock.micros();
                self.lock().engine.truncate(table, now);
                (Response::Done, None)
            }
            Request::Gossip(heartbeats) => {
                for (of, heartbeat) in heartbeats {
                    self.heard(of, heartbeat);
                }
                return;
            }
            Request::Echo => (Response::Done, None),
            Request::Schema(entries) => {
                self.learn_schema(&entries);
                return;
            }
            Request::SchemaPull => {
                let entries = self.lock().engine.disk().schema();
                self.notify(from, Request::Schema(entries));
                return;
            }
            Request::RepairRead { table, after, up_to } => {
                (Response::Rows(self.rows(table, after, up_to)), None)
            }
            Request::RepairWrite { table, rows } => {
                self.stream_in(table, rows);
                (Response::Done, None)
            }
        };
        match safe_at {
            None => self.respond(from, request, verb, response),
            Some(end) => self.begin(|node| async move {
                node.synced.watch().wait_for(|synced| *synced >= end).await;
                node.respond(from, request, verb, response);
            }),
        }
    }

    /// Logs a record. The second value is what must be synced before it is acknowledged, if that is waited for.
    fn log(&self, record: Record) -> (Response, Option<u64>) {
        (Response::Done, self.record(record, true))
    }

    fn record(&self, record: Record, durable: bool) -> Option<u64> {
        let end = self.lock().engine.apply(record, durable);
        self.logged.notify_one();
        match self.cluster.settings.get().commit_log_sync {
            CommitLogSync::Periodic(_) => None,
            CommitLogSync::Batch(_) | CommitLogSync::Group(_) => durable.then_some(end),
        }
    }

    fn apply(&self, mutation: Arc<Mutation>) -> (Response, Option<u64>) {
        let durable = {
            let state = self.lock();
            if state.misbehaviour.refuse_writes {
                return (Response::Failed(FailureReason::Unknown), None);
            }
            for (id, update) in &mutation.updates {
                let Some(table) = state.schema.tables.get(id) else {
                    return (Response::Failed(FailureReason::IncompatibleSchema), None);
                };
                if !update.columns().all(|column| table.remembers(column)) {
                    return (Response::Failed(FailureReason::Unknown), None);
                }
            }
            state.schema.keyspaces.get(&mutation.keyspace).is_none_or(|keyspace| keyspace.durable_writes)
        };
        (Response::Done, self.record(Record::Write(mutation), durable))
    }

    fn read_locally(&self, command: &ReadCommand, digest: bool, requested: &Table) -> Response {
        let state = self.lock();
        if state.misbehaviour.refuse_reads {
            return Response::Failed(FailureReason::Unknown);
        }
        let Ok(table) = state.schema.table_by_id(command.table) else {
            return Response::Failed(FailureReason::IncompatibleSchema);
        };
        // A read names every column that its coordinator knows.
        if !requested.columns.keys().all(|column| table.remembers(column)) {
            return Response::Failed(FailureReason::Unknown);
        }
        let mut found = state.engine.read(table, command, self.options().tombstone_failure_threshold);
        if let Ok(response) = &mut found
            && table.columns.keys().any(|column| !requested.columns.contains_key(column))
        {
            // Columns that the coordinator does not know are not requested.
            for partition in response.partitions.values_mut() {
                partition.retain_cells(|column, _| requested.columns.contains_key(column));
            }
            response.partitions.retain(|_, partition| !partition.is_empty());
        }
        match found {
            Ok(response) if digest => Response::Digest(response.digest()),
            Ok(response) => Response::Data(response),
            Err(_) => Response::Failed(FailureReason::ReadTooManyTombstones),
        }
    }

    fn promise(&self, table: TableId, key: DecoratedKey, ballot: Ballot) -> (Response, Option<u64>) {
        let mut paxos = self.lock().engine.paxos(table, &key);
        let promised = ballot > paxos.promised;
        let safe_at = promised.then(|| {
            paxos.promised = ballot;
            self.record(Record::Paxos(table, key, paxos.clone()), true)
        });
        let PaxosState { promised: highest, accepted, committed } = paxos;
        (Response::Promise { promised, highest, accepted, committed }, safe_at.flatten())
    }

    fn accept(
        &self,
        table: TableId,
        key: DecoratedKey,
        ballot: Ballot,
        mutation: Option<Arc<Mutation>>,
    ) -> (Response, Option<u64>) {
        let mut paxos = self.lock().engine.paxos(table, &key);
        let accepted = ballot >= paxos.promised;
        let highest = paxos.promised.max(ballot);
        let safe_at = accepted.then(|| {
            paxos.promised = ballot;
            paxos.accepted = Some((ballot, mutation));
            self.record(Record::Paxos(table, key, paxos), true)
        });
        (Response::Accepted { accepted, highest }, safe_at.flatten())
    }

    fn commit(
        &self,
        table: TableId,
        key: DecoratedKey,
        ballot: Ballot,
        mutation: Arc<Mutation>,
    ) -> (Response, Option<u64>) {
        let (response, safe_at) = self.apply(mutation.clone());
        if !matches!(response, Response::Done) {
            return (response, safe_at);
        }
        let mut paxos = self.lock().engine.paxos(table, &key);
        if paxos.committed.as_ref().is_none_or(|(newest, _)| *newest < ballot) {
            paxos.committed = Some((ballot, Some(mutation)));
        }
        if paxos.accepted.as_ref().is_some_and(|(accepted, _)| *accepted <= ballot) {
            paxos.accepted = None;
        }
        let later = self.record(Record::Paxos(table, key, paxos), true);
        (response, later.or(safe_at))
    }

    /// Everything this node has of a range of a table, tombstones and all.
    pub(crate) fn rows(&self, table: TableId, after: Token, up_to: Token) -> Partitions {
        let state = self.lock();
        let rows = state.engine.table(table).into_iter().flatten();
        rows.skip_while(|(key, _)| key.token() <= after)
            .take_while(|(key, _)| key.token() <= up_to)
            .map(|(key, partition)| (key.clone(), partition.clone()))
            .collect()
    }

    /// Adds rows as streamed tables: they are on the disk immediately.
    pub(crate) fn stream_in(&self, table: TableId, rows: Partitions) {
        let mut state = self.lock();
        let Ok(keyspace) = state.schema.table_by_id(table).map(|table| table.keyspace.clone()) else {
            return;
        };
        for (key, partition) in rows {
            let mutation = Mutation::new(keyspace.clone(), key, table, Arc::unwrap_or_clone(partition));
            state.engine.apply(Record::Write(Arc::new(mutation)), true);
        }
        state.engine.flush();
    }

    /// Periodically syncs the commit log.
    pub(crate) async fn sync_commit_log(self: Arc<Self>) {
        let disk = self.member().disk.clone();
        let mut settings = self.cluster.settings.watch();
        loop {
            let sync = settings.see().commit_log_sync;
            let round = async {
                match sync {
                    CommitLogSync::Periodic(every) | CommitLogSync::Group(every) => {
                        sleep(every).await;
                        self.synced.set(disk.sync());
                    }
                    CommitLogSync::Batch(takes) => {
                        self.logged.notified().await;
                        let end = disk.log_end();
                        sleep(takes).await;
                        disk.sync_up_to(end);
                        self.synced.set(end);
                    }
                }
            };
            tokio::select! {
                biased;
                // What was logged meanwhile is not forgotten.
                () = settings.changed() => self.logged.notify_one(),
                () = round => {}
            }
        }
    }
}
