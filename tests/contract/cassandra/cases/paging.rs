//! Paging.

use std::ops::ControlFlow;

use scylla::response::PagingState;

use super::{EVENTS, ROWS, batch, events};
use crate::cassandra::backend::Backend;
use crate::cassandra::client::{Client, Keyspace, rows};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            many_pages_return_each_row_once_in_order,
            [],
            "A response has at most as many rows as the request's page size, and a paging state if more may follow (native_protocol_v4, 4.2.5.2)",
        ),
        case!(
            a_page_that_ends_with_the_last_row_may_have_a_paging_state,
            [],
            "A paging state does not promise that rows follow (native_protocol_v4, 8)",
        ),
        case!(pages_end_at_the_limit, [], "LIMIT bounds the rows of all pages together (CQL: SELECT)",),
        case!(pages_are_not_a_snapshot, [], "Each page is a read of its own (native_protocol_v4, 8)",),
        case!(
            a_paging_state_may_be_used_again_and_at_another_node,
            [],
            "A paging state is a position, not a cursor: the server keeps nothing (native_protocol_v4, 8; PagingState)",
        ),
        case!(
            an_invalid_paging_state_is_refused,
            [],
            "A paging state that cannot be read is a protocol error (PagingState.deserialize)",
        ),
        case!(
            pages_of_in_and_of_deleted_rows_skip_nothing,
            [],
            "Pages count live rows; tombstones between them do not end a page (ReadQuery, DataLimits)",
        ),
    ]
}

/// A page, and where the next one starts.
async fn page(client: &Client, cql: &str, size: i32, from: PagingState) -> (String, Option<PagingState>) {
    let statement = client.statement(cql).with_page_size(size);
    let result = client.session.query_single_page(statement, (), from).await;
    let (result, state) = result.unwrap_or_else(|error| panic!("{cql}: {error}"));
    match state.into_paging_control_flow() {
        ControlFlow::Continue(next) => (rows(result), Some(next)),
        ControlFlow::Break(()) => (rows(result), None),
    }
}

/// All pages.
async fn pages(client: &Client, cql: &str, size: i32) -> Vec<String> {
    let (first, mut next) = page(client, cql, size, PagingState::start()).await;
    let mut all = vec![first];
    while let Some(from) = next {
        let (rows, after) = page(client, cql, size, from).await;
        all.push(rows);
        next = after;
    }
    all
}

async fn many_pages_return_each_row_once_in_order<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS, ROWS]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..100)).await;
    for (order, expected) in [("DESC", (0..100).rev().collect::<Vec<_>>()), ("ASC", (0..100).collect())] {
        let all =
            pages(a, &format!("SELECT offset FROM KS.events WHERE partition = 0 ORDER BY offset {order}"), 7)
                .await;
        let expected: Vec<_> = expected.iter().map(|offset| format!("({offset})")).collect();
        let read: Vec<_> = all.iter().flat_map(|page| page.split(' ')).collect();
        assert_eq!(read, expected);
        seen.note(format!("100 rows in pages of 7, {order}: {} pages", all.len()));
    }
    let rows: Vec<_> =
        (0..90).map(|i| format!("INSERT INTO KS.t (p, c, v) VALUES ({}, {i}, 1);", i % 30)).collect();
    a.ok(&batch("UNLOGGED", &rows.join(" "))).await;
    let whole = a.rows("SELECT p, c FROM KS.t").await;
    let all = pages(a, "SELECT p, c FROM KS.t", 7).await;
    assert_eq!(all.join(" "), whole);
    seen.note(format!("30 partitions of 3 rows in pages of 7: {} pages, as without", all.len()));
    let whole = a.rows("SELECT p, c FROM KS.t PER PARTITION LIMIT 2").await;
    assert_eq!(pages(a, "SELECT p, c FROM KS.t PER PARTITION LIMIT 2", 7).await.join(" "), whole);
    seen.note("PER PARTITION LIMIT 2: as without");
}

async fn a_page_that_ends_with_the_last_row_may_have_a_paging_state<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..6)).await;
    for size in [2, 3, 6, 7] {
        let all = pages(a, "SELECT offset FROM KS.events WHERE partition = 0", size).await;
        seen.note(format!("6 rows in pages of {size}: {}", all.join(" / ")));
        let read: Vec<_> = all.iter().filter(|page| *page != "no rows").map(String::as_str).collect();
        assert_eq!(read.join(" "), "(5) (4) (3) (2) (1) (0)");
    }
    let none = pages(a, "SELECT offset FROM KS.events WHERE partition = 9", 2).await;
    assert_eq!(none, ["no rows"]);
    seen.note("of no rows: one empty page");
}

async fn pages_end_at_the_limit<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..9)).await;
    for limit in [5, 4] {
        let all =
            pages(a, &format!("SELECT offset FROM KS.events WHERE partition = 0 LIMIT {limit}"), 2).await;
        seen.note(format!("LIMIT {limit} in pages of 2: {}", all.join(" / ")));
        let rows: Vec<_> =
            all.iter().flat_map(|page| page.split(' ')).filter(|row| row.starts_with('(')).collect();
        assert_eq!(rows.len(), limit);
    }
}

async fn pages_are_not_a_snapshot<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok(&events(0, 10..16)).await;
    const READ: &str = "SELECT offset, source FROM KS.events WHERE partition = 0";
    let (first, next) = page(a, READ, 2, PagingState::start()).await;
    b.ok(&events(0, 16..17)).await;
    b.ok("DELETE FROM KS.events WHERE partition = 0 AND offset = 13").await;
    b.ok("DELETE FROM KS.events WHERE partition = 0 AND offset = 14").await;
    b.ok("UPDATE KS.events SET source = 'new' WHERE partition = 0 AND offset = 12").await;
    b.ok(&events(0, 9..10)).await;
    let (second, _) = page(a, READ, 9, next.expect("more rows")).await;
    seen.note(format!("a page: {first}; then 16 and 9 are written, 13 and 14 deleted, 12 changed"));
    seen.note(format!("the remaining rows: {second}"));
    assert_eq!(first, "(15, 's') (14, 's')");
    assert_eq!(second, "(12, 'new') (11, 's') (10, 's') (9, 's')");
}

async fn a_paging_state_may_be_used_again_and_at_another_node<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, c] = keyspace.clients();
    a.ok(&events(0, 0..6)).await;
    const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";
    let (_, next) = page(a, READ, 2, PagingState::start()).await;
    let next = next.expect("more rows");
    for (what, client) in [("again", a), ("again", a), ("at another node", b), ("at the third", c)] {
        let (rows, _) = page(client, READ, 2, next.clone()).await;
        seen.note(format!("the second page {what}: {rows}"));
        assert_eq!(rows, "(3) (2)");
    }
    let bytes = next.as_bytes_slice().expect("a state").to_vec();
    let (rows, _) = page(b, READ, 3, PagingState::new_from_raw_bytes(bytes)).await;
    seen.check("from its bytes, and with another page size", &rows, "(3) (2) (1)");
}

async fn an_invalid_paging_state_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    let statement = a.statement("SELECT offset FROM KS.events WHERE partition = 0").with_page_size(2);
    let state = PagingState::new_from_raw_bytes(&b"no such position"[..]);
    let ended = a.session.query_single_page(statement, (), state).await;
    let ended = crate::cassandra::client::ending(ended.map(|(result, _)| result));
    seen.check("16 bytes of text", &ended, "ProtocolError");
}

async fn pages_of_in_and_of_deleted_rows_skip_nothing<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    for partition in 0..3 {
        a.ok(&events(partition, 0..20)).await;
    }
    a.ok("DELETE FROM KS.events USING TIMESTAMP 100 WHERE partition = 1 AND offset >= 2 AND offset < 19")
        .await;
    let read = "SELECT partition, offset FROM KS.events WHERE partition IN (2, 1) AND offset < 20 PER PARTITION LIMIT 4";
    let all = pages(a, read, 3).await;
    seen.note(format!("a partition with a hole, and another, in pages of 3: {}", all.join(" / ")));
    let joined: Vec<_> = all.iter().filter(|page| *page != "no rows").map(String::as_str).collect();
    assert_eq!(joined.join(" "), "(1, 19) (1, 1) (1, 0) (2, 19) (2, 18) (2, 17) (2, 16)");
}
