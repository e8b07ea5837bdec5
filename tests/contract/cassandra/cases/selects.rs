//! Rows in order, limits, ranges, aggregates, tokens.

use super::{EVENTS, ROWS, batch, events};
use crate::cassandra::backend::Backend;
use crate::cassandra::client::{Client, Keyspace};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            rows_of_a_partition_are_returned_in_clustering_order_or_in_reverse,
            [],
            "Rows are returned in the table's clustering order; ORDER BY may only be that order or its reverse (CQL: SELECT)",
        ),
        case!(
            a_range_has_the_bounds_it_names,
            [],
            "Clustering columns take =, <, <=, >, >= and IN (CQL: SELECT)",
        ),
        case!(
            limit_counts_rows_and_per_partition_limit_those_of_each_partition,
            [],
            "LIMIT is the maximum of the rows of the result, PER PARTITION LIMIT that of a partition; both are at least 1 (CQL: SELECT)",
        ),
        case!(
            in_returns_each_key_once_whatever_the_order_of_the_list,
            [],
            "IN on a partition key reads each partition once, sorted by key; on a clustering column rows stay in clustering order (SelectStatement)",
        ),
        case!(
            order_by_over_several_partitions_requires_an_unpaged_query,
            [],
            "ORDER BY with IN on the partition key is sorted in memory and cannot be paged (CQL: SELECT; SelectStatement.checkNeedsOrdering)",
        ),
        case!(
            aggregates_of_no_rows_are_zero_or_null,
            [],
            "count of nothing is 0, min and max are null, sum is 0 (CQL: Functions)",
        ),
        case!(
            aggregates_ignore_nulls_and_overflow,
            [],
            "count(column), min, max and sum skip nulls; sum has its column's type and overflows silently (CQL: Functions)",
        ),
        case!(
            partitions_are_returned_in_the_order_of_murmur3_tokens,
            [],
            "A scan goes by token: Murmur3 of the partition key's bytes (architecture/dynamo: token ring)",
        ),
        case!(
            a_token_of_two_columns_is_that_of_both_with_their_lengths,
            [],
            "A key of several columns is, for each, two bytes of length, the bytes, and a zero (CompositeType)",
        ),
        case!(
            token_ranges_split_a_table_without_gap_or_overlap,
            [],
            "token() compares with a bigint; ranges over it read the table in parts (CQL: SELECT, token)",
        ),
        case!(
            a_restriction_that_no_key_supports_requires_allow_filtering,
            [],
            "What needs reading more than is returned is refused without ALLOW FILTERING (CQL: SELECT)",
        ),
        case!(
            distinct_partitions_are_those_with_live_rows,
            [],
            "SELECT DISTINCT gives the partition keys, of partitions with a live row (CQL: SELECT)",
        ),
    ]
}

async fn rows_of_a_partition_are_returned_in_clustering_order_or_in_reverse<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS, ROWS]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..4)).await;
    a.ok("INSERT INTO KS.events (partition, offset, source) VALUES (0, -1, 's')").await;
    for c in [3, -1, 2] {
        a.ok(&format!("INSERT INTO KS.t (p, c, v) VALUES (0, {c}, 1)")).await;
    }
    const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";
    a.expect(seen, "DESC", READ, "(3) (2) (1) (0) (-1)").await;
    a.expect(seen, "ORDER BY ASC", &format!("{READ} ORDER BY offset ASC"), "(-1) (0) (1) (2) (3)").await;
    a.expect(seen, "ORDER BY DESC", &format!("{READ} ORDER BY offset DESC"), "(3) (2) (1) (0) (-1)").await;
    a.expect(seen, "ASC by default", "SELECT c FROM KS.t WHERE p = 0", "(-1) (2) (3)").await;
    a.expect(seen, "ORDER BY another column", "SELECT c FROM KS.t WHERE p = 0 ORDER BY v", "Invalid").await;
    a.expect(seen, "ORDER BY without a partition", "SELECT c FROM KS.t ORDER BY c", "Invalid").await;
}

async fn a_range_has_the_bounds_it_names<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace =
        Keyspace::with(backend, seen, &[EVENTS, "k (p int, c int, d int, PRIMARY KEY (p, c, d))"]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..6)).await;
    for (range, expected) in [
        ("offset > 3", "(5) (4)"),
        ("offset >= 3", "(5) (4) (3)"),
        ("offset < 2", "(1) (0)"),
        ("offset <= 2", "(2) (1) (0)"),
        ("offset >= 2 AND offset < 4", "(3) (2)"),
        ("offset >= 2 AND offset < 4 ORDER BY offset ASC", "(2) (3)"),
        ("offset > 4 AND offset < 2", "no rows"),
        ("offset >= 2 AND offset <= 2", "(2)"),
        ("offset = 7", "no rows"),
        ("offset > 1 AND offset > 3", "Invalid"),
        ("offset = 1 AND offset > 0", "Invalid"),
        ("offset > null", "no rows"),
        ("offset != 1", "Invalid"),
    ] {
        a.expect(
            seen,
            range,
            &format!("SELECT offset FROM KS.events WHERE partition = 0 AND {range}"),
            expected,
        )
        .await;
    }
    for (c, d) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        a.ok(&format!("INSERT INTO KS.k (p, c, d) VALUES (0, {c}, {d})")).await;
    }
    for (range, expected) in [
        ("(c, d) > (1, 1) AND (c, d) < (2, 2)", "(1, 2) (2, 1)"),
        ("c > 1", "(2, 1) (2, 2)"),
        ("c = 1 AND d >= 2", "(1, 2)"),
        ("d = 1", "Invalid"),
        ("c > 1 AND d = 1", "Invalid"),
    ] {
        a.expect(seen, range, &format!("SELECT c, d FROM KS.k WHERE p = 0 AND {range}"), expected).await;
    }
}

async fn limit_counts_rows_and_per_partition_limit_those_of_each_partition<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    for partition in 0..3 {
        a.ok(&events(partition, 0..3)).await;
    }
    for (rest, expected) in [
        ("WHERE partition = 1 LIMIT 2", "(1, 2) (1, 1)"),
        ("WHERE partition = 1 ORDER BY offset ASC LIMIT 2", "(1, 0) (1, 1)"),
        ("WHERE partition = 1 LIMIT 9", "(1, 2) (1, 1) (1, 0)"),
        ("WHERE partition IN (0, 1, 2) LIMIT 4", "(0, 2) (0, 1) (0, 0) (1, 2)"),
        ("WHERE partition IN (0, 1, 2) PER PARTITION LIMIT 1", "(0, 2) (1, 2) (2, 2)"),
        ("WHERE partition IN (0, 1, 2) PER PARTITION LIMIT 1 LIMIT 2", "(0, 2) (1, 2)"),
        ("WHERE partition = 1 AND offset < 2 PER PARTITION LIMIT 1", "(1, 1)"),
        ("WHERE partition = 1 LIMIT 0", "Invalid"),
        ("WHERE partition = 1 LIMIT -1", "Invalid"),
        ("WHERE partition = 1 PER PARTITION LIMIT 0", "Invalid"),
    ] {
        a.expect(seen, rest, &format!("SELECT partition, offset FROM KS.events {rest}"), expected).await;
    }
    a.expect(
        seen,
        "PER PARTITION LIMIT 1 of the table",
        "SELECT partition, offset FROM KS.events PER PARTITION LIMIT 1",
        "(1, 2) (0, 2) (2, 2)",
    )
    .await;
}

async fn in_returns_each_key_once_whatever_the_order_of_the_list<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    for partition in [-1, 0, 1, 2] {
        a.ok(&events(partition, 0..2)).await;
    }
    for (rest, expected) in [
        ("partition IN (2, 0, 2, 7, -1) PER PARTITION LIMIT 1", "(-1, 1) (0, 1) (2, 1)"),
        ("partition = 0 AND offset IN (0, 1, 0, 9)", "(0, 1) (0, 0)"),
        ("partition IN (1, 0) AND offset IN (0, 1)", "(0, 1) (0, 0) (1, 1) (1, 0)"),
        ("partition IN ()", "no rows"),
        ("partition IN (0, null)", "Invalid"),
    ] {
        a.expect(seen, rest, &format!("SELECT partition, offset FROM KS.events WHERE {rest}"), expected)
            .await;
    }
    let bound = a.prepare("SELECT partition FROM KS.events WHERE partition IN ? AND offset = 0").await;
    let read = crate::cassandra::client::rows(a.execute(&bound, (vec![2, 1],)).await);
    seen.check("a bound list", &read, "(1) (2)");
}

async fn order_by_over_several_partitions_requires_an_unpaged_query<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    a.ok(&events(0, 0..2)).await;
    a.ok(&events(1, 1..3)).await;
    const READ: &str =
        "SELECT partition, offset FROM KS.events WHERE partition IN (0, 1) ORDER BY offset ASC";
    a.expect(seen, "not paged", READ, "(0, 0) (0, 1) (1, 1) (1, 2)").await;
    let paged =
        a.session.query_single_page(a.statement(READ).with_page_size(2), (), Default::default()).await;
    let paged = crate::cassandra::client::ending(paged.map(|(result, _)| result));
    seen.check("paged", &paged, "Invalid");
}

async fn aggregates_of_no_rows_are_zero_or_null<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    const ALL: &str = "count(*), count(v), min(v), max(v), sum(v)";
    a.expect(seen, "of a table", &format!("SELECT {ALL} FROM KS.t"), "(0, 0, null, null, 0)").await;
    a.expect(seen, "of a partition", &format!("SELECT {ALL} FROM KS.t WHERE p = 1"), "(0, 0, null, null, 0)")
        .await;
}

async fn aggregates_ignore_nulls_and_overflow<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 5)").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 2, -7)").await;
    a.ok("INSERT INTO KS.t (p, c) VALUES (1, 3)").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (2, 1, 2147483647)").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (2, 2, 1)").await;
    const ALL: &str = "count(*), count(v), min(v), max(v), sum(v)";
    a.expect(seen, "5, -7 and null", &format!("SELECT {ALL} FROM KS.t WHERE p = 1"), "(3, 2, -7, 5, -2)")
        .await;
    a.expect(seen, "2^31 - 1 and 1", "SELECT sum(v) FROM KS.t WHERE p = 2", "(-2147483648)").await;
    a.expect(seen, "of the table", "SELECT count(*), max(c) FROM KS.t", "(5, 3)").await;
    a.expect(seen, "LIMIT 1 of an aggregate", "SELECT count(*) FROM KS.t WHERE p = 1 LIMIT 1", "(3)").await;
    let paged = a
        .session
        .query_single_page(a.statement("SELECT count(*) FROM KS.t").with_page_size(1), (), Default::default())
        .await;
    let paged = crate::cassandra::client::ending(paged.map(|(result, _)| result));
    seen.check("counted with pages of one row", &paged, "(5)");
}

async fn partitions_are_returned_in_the_order_of_murmur3_tokens<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace =
        Keyspace::with(backend, seen, &[ROWS, "s (k text PRIMARY KEY)", "b (k bigint PRIMARY KEY)"]).await;
    let [a, ..] = keyspace.clients();
    for p in [-1, 0, 1, 2, 3] {
        a.ok(&format!("INSERT INTO KS.t (p, c, v) VALUES ({p}, 1, 1)")).await;
    }
    let ints = "(1, -4069959284402364209) (0, -3485513579396041028) (2, -3248873570005575792) (-1, 7297452126230313552) (3, 9010454139840013625)";
    a.expect(seen, "int", "SELECT p, token(p) FROM KS.t", ints).await;
    for k in ["'a'", "'source-1'", "'a text of more than sixteen bytes, with a tail: é'"] {
        a.ok(&format!("INSERT INTO KS.s (k) VALUES ({k})")).await;
    }
    seen.note(format!("text: {}", a.rows("SELECT k, token(k) FROM KS.s").await));
    a.ok("INSERT INTO KS.b (k) VALUES (-9223372036854775808)").await;
    seen.note(format!("bigint: {}", a.rows("SELECT k, token(k) FROM KS.b").await));
}

async fn a_token_of_two_columns_is_that_of_both_with_their_lengths<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let tables = [
        "w (source text, window_end timestamp, partition int, PRIMARY KEY ((source, window_end), partition))",
    ];
    let keyspace = Keyspace::with(backend, seen, &tables).await;
    let [a, b, _] = keyspace.clients();
    for (source, end) in [("a", 0), ("b", 1000)] {
        a.ok(&format!("INSERT INTO KS.w (source, window_end, partition) VALUES ('{source}', {end}, 0)"))
            .await;
    }
    seen.note(format!(
        "rows: {}",
        b.rows("SELECT source, window_end, token(source, window_end) FROM KS.w").await
    ));
    b.expect(seen, "one of two columns", "SELECT token(source) FROM KS.w", "Invalid").await;
    let computed = b.prepare("SELECT partition FROM KS.w WHERE source = ? AND window_end = ?").await;
    let token = computed
        .calculate_token(&("a", scylla::value::CqlTimestamp(0)))
        .expect("a key")
        .expect("a token")
        .value();
    let stored =
        b.rows("SELECT token(source, window_end) FROM KS.w WHERE source = 'a' AND window_end = 0").await;
    assert_eq!(stored, format!("({token})"));
    seen.note("the driver computes the same");
}

async fn token_ranges_split_a_table_without_gap_or_overlap<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let rows: Vec<_> = (0..50).map(|p| format!("INSERT INTO KS.t (p, c, v) VALUES ({p}, 1, 1);")).collect();
    a.ok(&batch("UNLOGGED", &rows.join(" "))).await;
    let count = async |range: &str, client: &Client| {
        let result = client
            .ok(&format!("SELECT count(*) FROM KS.t WHERE {range}"))
            .await
            .into_rows_result()
            .expect("rows");
        result.single_row::<(i64,)>().expect("a count").0
    };
    let mut sum = 0;
    for (from, to) in [
        (i64::MIN, -4_000_000_000_000_000_000),
        (-4_000_000_000_000_000_000, 0),
        (0, 5_000_000_000_000_000_000),
        (5_000_000_000_000_000_000, i64::MAX),
    ] {
        sum += count(&format!("token(p) > {from} AND token(p) <= {to}"), a).await;
    }
    assert_eq!(sum, 50);
    seen.note("50 partitions in four ranges (from, to]: 50 in all");
    a.expect(
        seen,
        "from a partition on",
        "SELECT p FROM KS.t WHERE token(p) >= token(1) LIMIT 2",
        "(1) (19)",
    )
    .await;
    a.expect(seen, "token of another type", "SELECT p FROM KS.t WHERE token(p) > 'x'", "Invalid").await;
}

async fn a_restriction_that_no_key_supports_requires_allow_filtering<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    for c in 0..3 {
        a.ok(&format!("INSERT INTO KS.t (p, c, v) VALUES (1, {c}, {})", c * 10)).await;
    }
    for (rest, expected) in [
        ("v = 10", "Invalid"),
        ("p = 1 AND v = 10", "Invalid"),
        ("c = 1", "Invalid"),
        ("p > 0", "Invalid"),
        ("p = 1 AND v > 0 ALLOW FILTERING", "(1, 1, 10) (1, 2, 20)"),
        ("c = 1 ALLOW FILTERING", "(1, 1, 10)"),
    ] {
        a.expect(seen, rest, &format!("SELECT p, c, v FROM KS.t WHERE {rest}"), expected).await;
    }
}

async fn distinct_partitions_are_those_with_live_rows<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    for (p, c) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
        a.ok(&format!("INSERT INTO KS.t (p, c, v) VALUES ({p}, {c}, 1) USING TIMESTAMP 1")).await;
    }
    a.ok("DELETE FROM KS.t USING TIMESTAMP 1 WHERE p = 2").await;
    a.ok("DELETE FROM KS.t USING TIMESTAMP 1 WHERE p = 3 AND c = 1").await;
    a.expect(seen, "two rows; a partition deleted; a row deleted", "SELECT DISTINCT p FROM KS.t", "(1)")
        .await;
    a.expect(seen, "of a column that is no key", "SELECT DISTINCT v FROM KS.t", "Invalid").await;
}
