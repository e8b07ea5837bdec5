//! Reads the tables of a store, to compare them with [`super::tables`].

use super::Tables;
use crate::store::{Alert, Store, StoreError, WindowKey};

/// Rows per request.
const PAGE: usize = 1_000;

/// Reads the whole store into memory: for tests and small data. The tables must not be written meanwhile.
///
/// # Errors
/// The first request that is refused or has an unknown outcome; nothing is retried.
pub async fn stored<S: Store>(store: &S) -> Result<Tables, StoreError> {
    let mut tables = Tables::default();
    for partition in store.partitions().await.into_result()? {
        let mut from = i64::MIN;
        loop {
            let rows = store.events(partition, from, i64::MAX, PAGE).await.into_result()?;
            let Some(last) = rows.last().map(|row| row.0) else { break };
            tables.events.extend(rows.into_iter().map(|(offset, event)| ((partition, offset), event)));
            from = last.saturating_add(1);
        }
        let mut from = i64::MIN;
        loop {
            let rows = store.dead_letters(partition, from, i64::MAX, PAGE).await.into_result()?;
            let Some(last) = rows.last().map(|row| row.0) else { break };
            let rows = rows.into_iter().map(|(offset, letter)| ((partition, offset), letter));
            tables.dead_letters.extend(rows);
            from = last.saturating_add(1);
        }
    }
    let mut cursor = None;
    loop {
        let page = store.alerts(cursor, PAGE).await.into_result()?;
        let rows = page.rows.into_iter();
        let window = |alert: &Alert| WindowKey { source: alert.source.clone(), end: alert.ts };
        tables.alerts.extend(rows.map(|alert| (window(&alert), i64::from(alert.event_count))));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let (mut cursor, mut counts) = (None, Vec::new());
    loop {
        let page = store.all_counts(cursor, PAGE).await.into_result()?;
        for row in page.rows {
            let count = row.count.map_err(|damaged| StoreError::new("read counts", damaged))?;
            counts.push(((row.partition, row.window), (count.count, count.through_offset)));
        }
        cursor = page.next;
        if cursor.is_none() {
            tables.counts = counts.into_iter().collect();
            return Ok(tables);
        }
    }
}
