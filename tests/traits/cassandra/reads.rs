//! How many requests a read takes, and reads that are refused.

use exactlyonce::event::Row;
use exactlyonce::store::cassandra::{CassandraStore, RequestKind};
use exactlyonce::store::{Count, Layout, Outcome, Store, WindowKey};

use super::BUCKETED;
use super::simulated::Nodes;
use crate::store::{event, known};

/// The requests of a kind that a store has sent.
fn sent(store: &CassandraStore, kind: RequestKind) -> u64 {
    store.requests().filter(|(of, _)| *of == kind).map(|(_, sent)| sent).sum()
}

/// All are in one partition of the store.
#[tokio::test]
async fn counts_among_as_many_others_are_read_by_one_request_and_counts_among_more_by_two() {
    let nodes = Nodes::start().await;
    let window = |end| WindowKey { source: "a".into(), end };
    for (others, requests) in [(1, 1), (2, 2)] {
        let store = nodes.store(Layout::ORIGINAL).await;
        let all: Vec<_> = (0..100 * (1 + others))
            .map(|end| (window(end), Count { count: end + 1, through_offset: end }))
            .collect();
        known(store.write_counts(0, &all).await);
        let some: Vec<_> = all.iter().step_by(1 + others as usize).cloned().collect();
        let windows: Vec<WindowKey> = some.iter().map(|(window, _)| window.clone()).collect();
        let counts: Vec<_> = some.iter().map(|(_, count)| Some(*count)).collect();
        assert_eq!(known(store.counts(0, &windows).await), counts);
        assert_eq!(sent(&store, RequestKind::ReadCounts), requests, "{others} others for each");
    }
}

#[tokio::test]
async fn events_of_one_bucket_are_read_by_one_request_and_an_empty_range_by_none() {
    let nodes = Nodes::start().await;
    let store = nodes.store(BUCKETED).await;
    let rows: Vec<_> = (0..8).map(|offset| (offset, Row::Event(event(offset, "a")))).collect();
    known(store.write_rows(0, &rows).await);
    for (from, to, limit, events, requests) in
        [(0, 4, 9, 4, 1), (0, 5, 9, 5, 2), (4, 8, 9, 4, 1), (3, 3, 9, 0, 0), (9, 3, 9, 0, 0), (0, 4, 0, 0, 0)]
    {
        let before = sent(&store, RequestKind::Other);
        assert_eq!(known(store.events(0, from, to, limit).await).len(), events, "{from}..{to}");
        assert_eq!(sent(&store, RequestKind::Other) - before, requests, "{from}..{to}, {limit} of them");
    }
    for (from, to, limit) in [(3, 3, 9), (9, 3, 9), (0, 4, 0)] {
        let before = sent(&store, RequestKind::Other);
        assert_eq!(known(store.dead_letters(0, from, to, limit).await), []);
        assert_eq!(sent(&store, RequestKind::Other), before, "{from}..{to}, {limit} of them");
    }
}

#[tokio::test]
async fn a_page_of_no_rows_is_refused() {
    let nodes = Nodes::start().await;
    let store = nodes.store(Layout::ORIGINAL).await;
    let outcome = store.all_counts(None, 0).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    let outcome = store.alerts(None, 0).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}
