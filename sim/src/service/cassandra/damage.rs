//! What an operator does to the tables that no client can survive: a DELETE with a wall-clock timestamp, which shadows
//! every later write of the row.

use exactlyonce::event::Row;
use exactlyonce::store::cql::Keyspace;
use exactlyonce::store::{EventLayout, Layout};
use scylla::client::session_builder::SessionBuilder;

use crate::context::SimContext;
use crate::oracle::cell::{Cell, Seen};
use crate::scenario::fault::DeletedFrom;

/// The statement that deletes a row which exists now, if there is one in the table.
pub(crate) fn statement(
    context: &SimContext,
    keyspace: &Keyspace,
    layout: Layout,
    table: DeletedFrom,
) -> Option<String> {
    let oracles = context.oracles()?;
    let exists = |cell: &Cell| oracles.see(cell).iter().any(|seen| matches!(seen, Seen::Value(_)));
    let (partition, progress) =
        context.all_acknowledged_progress().into_iter().rev().find(|(_, progress)| *progress > 0)?;
    let (offset, window) = {
        let truth = oracles.truth();
        let is_event = |(_, row): &(i64, &Row)| matches!(row, Row::Event(_));
        let (offset, row) = truth.rows(partition, i64::MIN, progress).filter(is_event).last()?;
        (offset, truth.windows(row, 1).into_iter().next())
    };
    let quoted = |text: &str| text.replace('\'', "''");
    Some(match table {
        DeletedFrom::Events => {
            let bucket = match layout.events {
                EventLayout::Bucketed { rows } => format!(" AND bucket = {}", offset / i64::from(rows.get())),
                _ => String::new(),
            };
            format!(
                "DELETE FROM {keyspace}.events WHERE partition = {partition}{bucket} AND offset = {offset}"
            )
        }
        DeletedFrom::WindowCounts => {
            let window = window?;
            let place = layout.counts.place(&window);
            format!(
                "DELETE FROM {keyspace}.window_counts WHERE partition = {partition} AND block = {} AND shard = {} \
                 AND window_end = {} AND source = '{}'",
                place.block,
                place.shard,
                window.end,
                quoted(&window.source)
            )
        }
        DeletedFrom::Alerts => {
            let window = window?;
            if !exists(&Cell::Alert(window.clone())) {
                return None;
            }
            let source = quoted(&window.source);
            format!("DELETE FROM {keyspace}.alerts WHERE source = '{source}' AND ts = {}", window.end)
        }
        DeletedFrom::Progress => format!("DELETE FROM {keyspace}.progress WHERE partition = {partition}"),
        DeletedFrom::Registry => format!("DELETE FROM {keyspace}.registry WHERE name = 'partitions'"),
    })
}

/// Runs a statement, as an operator with `cqlsh` does; false if that fails.
pub(crate) async fn execute(nodes: &[String], statement: String) -> bool {
    let Ok(session) = SessionBuilder::new().known_nodes(nodes).build().await else { return false };
    session.query_unpaged(statement, ()).await.is_ok()
}
