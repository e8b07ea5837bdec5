//! What statements do, as the driver sees it.

use std::net::IpAddr;

use scylla::client::session::Session;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::unprepared::Statement;
use scylla::value::{
    CqlDate, CqlDecimal, CqlDuration, CqlTime, CqlTimestamp, CqlTimeuuid, CqlValue, CqlVarint, MaybeUnset,
};

use crate::nodes::Nodes;

async fn run(session: &Session, query: &str) {
    if let Err(error) = session.query_unpaged(query, &[]).await {
        panic!("{query}: {error}");
    }
}

/// The rows of a query, each as text.
async fn rows(session: &Session, query: impl Into<Statement>) -> Vec<String> {
    let query = query.into();
    let text = query.contents.clone();
    let result = session.query_unpaged(query, &[]).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    let rows = result.into_rows_result().unwrap_or_else(|error| panic!("{text}: {error}"));
    rows.rows::<scylla::value::Row>()
        .unwrap()
        .map(|row| {
            let values = row.unwrap().columns.into_iter();
            values
                .map(|value| value.map_or("null".to_owned(), |value| value.to_string()))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_come_back_as_they_were_bound() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(
        &session,
        "CREATE TABLE k.v (k int PRIMARY KEY, a ascii, b bigint, c blob, d boolean, e date, f decimal, g double, \
         h duration, i float, j inet, l smallint, m time, n timestamp, o timeuuid, p tinyint, q uuid, r varint, \
         s frozen<set<int>>, t text, u frozen<list<text>>, v frozen<map<int, frozen<list<bigint>>>>)",
    )
    .await;
    let names: Vec<char> = "abcdefghijlmnopqrstuv".chars().collect();
    let values = vec![
        CqlValue::Ascii("plain".into()),
        CqlValue::BigInt(i64::MIN),
        CqlValue::Blob(vec![0, 255, 7]),
        CqlValue::Boolean(true),
        CqlValue::Date(CqlDate(2_147_500_000)),
        CqlValue::Decimal(CqlDecimal::from_signed_be_bytes_and_exponent(vec![0xff, 0x01], 3)),
        CqlValue::Double(-0.25),
        CqlValue::Duration(CqlDuration { months: -1, days: -2, nanoseconds: -3_000_000_000 }),
        CqlValue::Float(1.5),
        CqlValue::Inet("2001:db8::1".parse::<IpAddr>().unwrap()),
        CqlValue::SmallInt(-3),
        CqlValue::Time(CqlTime(86_399_999_999_999)),
        CqlValue::Timestamp(CqlTimestamp(-1)),
        CqlValue::Timeuuid(CqlTimeuuid::from_bytes(
            0x8e14_096c_e6ad_11f1_9e14_6913_cbf8_cd1d_u128.to_be_bytes(),
        )),
        CqlValue::TinyInt(i8::MIN),
        CqlValue::Uuid(uuid::Uuid::from_u128(0x1234_5678_1234_4678_9234_5678_1234_5678)),
        CqlValue::Varint(CqlVarint::from_signed_bytes_be(vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        CqlValue::Set(vec![CqlValue::Int(-1), CqlValue::Int(2)]),
        CqlValue::Text("größer".into()),
        CqlValue::List(vec![CqlValue::Text("b".into()), CqlValue::Text(String::new())]),
        CqlValue::Map(vec![(CqlValue::Int(1), CqlValue::List(vec![CqlValue::BigInt(9)]))]),
    ];
    for (name, value) in names.into_iter().zip(values) {
        let insert = format!("INSERT INTO k.v (k, {name}) VALUES (?, ?)");
        let insert = session.prepare(insert).await.unwrap();
        session.execute_unpaged(&insert, (1, &value)).await.unwrap();
        let read = session.query_unpaged(format!("SELECT {name} FROM k.v WHERE k = 1"), &[]).await.unwrap();
        let (found,) = read.into_rows_result().unwrap().single_row::<(CqlValue,)>().unwrap();
        assert_eq!(found, value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_was_run_before_means_what_it_says_in_the_schema_of_now() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    let columns =
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'k' AND table_name = 'c'";
    run(&session, "CREATE TABLE k.c (a int PRIMARY KEY, b int)").await;
    run(&session, "INSERT INTO k.c (a, b) VALUES (1, 2)").await;
    assert_eq!(rows(&session, "SELECT * FROM k.c").await, ["1 2"]);
    assert_eq!(rows(&session, columns).await, ["'a'", "'b'"]);
    run(&session, "ALTER TABLE k.c ADD c int").await;
    assert_eq!(rows(&session, "SELECT * FROM k.c").await, ["1 2 null"]);
    assert_eq!(rows(&session, columns).await, ["'a'", "'b'", "'c'"]);
    run(&session, "DROP TABLE k.c").await;
    session.query_unpaged("SELECT * FROM k.c", &[]).await.expect_err("the table is gone");
    assert!(rows(&session, columns).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_written_with_the_timestamp_of_the_client_and_the_later_one_wins() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, c text, PRIMARY KEY (a, b))").await;
    let insert = session.prepare("INSERT INTO k.t (a, b, c) VALUES (?, ?, ?)").await.unwrap();
    for kind in [BatchType::Logged, BatchType::Unlogged] {
        for (timestamp, text) in [(100, "new"), (50, "old")] {
            let mut batch = Batch::new(kind);
            batch.append_statement(insert.clone());
            batch.append_statement(insert.clone());
            batch.append_statement("UPDATE k.t SET c = 'literal' WHERE a = 2 AND b = 1");
            batch.set_timestamp(Some(timestamp));
            session.batch(&batch, ((1, 1, text), (2, 2, text), ())).await.unwrap();
        }
        assert_eq!(
            rows(&session, "SELECT a, b, c, writetime(c) FROM k.t WHERE a IN (1, 2)").await,
            ["1 1 'new' 100", "2 1 'literal' 100", "2 2 'new' 100"]
        );
        run(&session, "TRUNCATE k.t").await;
    }
    run(&session, "INSERT INTO k.t (a, b, c) VALUES (3, 1, 'x') USING TIMESTAMP 7").await;
    run(&session, "DELETE FROM k.t USING TIMESTAMP 6 WHERE a = 3").await;
    assert_eq!(rows(&session, "SELECT c FROM k.t WHERE a = 3").await, ["'x'"]);
    run(&session, "DELETE FROM k.t USING TIMESTAMP 7 WHERE a = 3").await;
    assert_eq!(rows(&session, "SELECT c FROM k.t WHERE a = 3").await, [""; 0]);
}

/// All pages of a query of single numbers.
async fn pages(session: &Session, query: &str, page_size: i32) -> (Vec<i32>, usize) {
    let mut statement = Statement::new(query);
    statement.set_page_size(page_size);
    let mut all = Vec::new();
    let mut pages = 0;
    let mut state = PagingState::start();
    loop {
        let (result, next) = session.query_single_page(statement.clone(), &[], state).await.unwrap();
        let rows = result.into_rows_result().unwrap();
        assert!(rows.rows_num() <= page_size as usize, "{query}: a page of {} rows", rows.rows_num());
        all.extend(rows.rows::<(i32,)>().unwrap().map(|row| row.unwrap().0));
        pages += 1;
        match next {
            PagingStateResponse::HasMorePages { state: next } => state = next,
            PagingStateResponse::NoMorePages => return (all, pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_together_are_what_one_read_without_pages_finds() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, v int, s int STATIC, PRIMARY KEY (a, b))").await;
    let insert = session.prepare("INSERT INTO k.t (a, b, v, s) VALUES (?, ?, ?, ?)").await.unwrap();
    for a in 0..7 {
        for b in 0..a * 5 {
            session.execute_unpaged(&insert, (a, b, a * 1000 + b, a)).await.unwrap();
        }
        run(&session, &format!("INSERT INTO k.t (a, s) VALUES ({}, 1)", 100 + a)).await;
    }
    for query in [
        "SELECT v FROM k.t WHERE a = 6",
        "SELECT v FROM k.t WHERE a = 6 ORDER BY b DESC",
        "SELECT v FROM k.t WHERE a = 6 AND b > 3 AND b <= 22",
        "SELECT v FROM k.t WHERE a = 6 AND b > 3 ORDER BY b DESC LIMIT 11",
        "SELECT v FROM k.t WHERE a = 6 AND b IN (1, 5, 29, 30)",
        "SELECT v FROM k.t WHERE a IN (6, 1, 3)",
        "SELECT a FROM k.t",
        "SELECT a FROM k.t LIMIT 40",
        "SELECT a FROM k.t PER PARTITION LIMIT 3",
        "SELECT a FROM k.t PER PARTITION LIMIT 3 LIMIT 10",
        "SELECT DISTINCT a FROM k.t",
        "SELECT DISTINCT a FROM k.t LIMIT 5",
        "SELECT v FROM k.t WHERE v > 3000 ALLOW FILTERING",
        "SELECT v FROM k.t WHERE v > 3000 LIMIT 20 ALLOW FILTERING",
        "SELECT a FROM k.t WHERE s = 1 ALLOW FILTERING",
        "SELECT a FROM k.t WHERE token(a) > 0",
    ] {
        let whole = session.query_unpaged(query, &[]).await.unwrap().into_rows_result().unwrap();
        let whole: Vec<i32> = whole.rows::<(i32,)>().unwrap().map(|row| row.unwrap().0).collect();
        for page_size in [1, 3, 50, 1000] {
            let (found, pages) = pages(&session, query, page_size).await;
            assert_eq!(found, whole, "{query} in pages of {page_size}");
            assert!(pages >= whole.len().div_ceil(page_size as usize), "{query} in pages of {page_size}");
        }
    }
    // What the whole is, for a few of them.
    assert_eq!(rows(&session, "SELECT count(*) FROM k.t").await, ["112"]);
    assert_eq!(
        rows(&session, "SELECT count(v), min(v), max(v), sum(b), avg(b) FROM k.t WHERE a = 2").await,
        ["10 2000 2009 45 4"]
    );
    let (distinct, _) = pages(&session, "SELECT DISTINCT a FROM k.t", 4).await;
    assert_eq!(distinct.len(), 13);
    let (some, _) =
        pages(&session, "SELECT v FROM k.t WHERE a = 6 AND b > 3 ORDER BY b DESC LIMIT 4", 3).await;
    assert_eq!(some, [6029, 6028, 6027, 6026]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_mixed_orders_are_found_between_bounds_of_several_columns() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, c int, d int, PRIMARY KEY (a, b, c, d)) WITH CLUSTERING ORDER BY (b DESC, c ASC, d DESC)").await;
    for place in 0..64 {
        run(
            &session,
            &format!(
                "INSERT INTO k.t (a, b, c, d) VALUES (1, {}, {}, {})",
                place / 16,
                place / 4 % 4,
                place % 4
            ),
        )
        .await;
    }
    let tuple = |place: i32| (place / 16, place / 4 % 4, place % 4);
    for (from, from_sign) in [(17, ">"), (22, ">="), (0, ">")] {
        for (to, to_sign) in [(22, "<"), (17, "<="), (63, "<"), (50, "<=")] {
            let ((b, c, d), (e, f, g)) = (tuple(from), tuple(to));
            let query = format!(
                "SELECT b, c, d FROM k.t WHERE a = 1 AND (b, c, d) {from_sign} ({b}, {c}, {d}) AND (b, c, d) {to_sign} ({e}, {f}, {g})"
            );
            let mut expected: Vec<(i32, i32, i32)> = (0..64)
                .filter(|place| if from_sign == ">" { *place > from } else { *place >= from })
                .filter(|place| if to_sign == "<" { *place < to } else { *place <= to })
                .map(tuple)
                .collect();
            expected.sort_by_key(|(b, c, d)| (-b, *c, -d));
            let expected: Vec<String> =
                expected.into_iter().map(|(b, c, d)| format!("{b} {c} {d}")).collect();
            assert_eq!(rows(&session, query.as_str()).await, expected, "{query}");
        }
    }
    let query = "SELECT b, c, d FROM k.t WHERE a = 1 AND (b, c) >= (1, 2) AND (b, c, d) <= (1, 3, 1)";
    assert_eq!(rows(&session, query).await.len(), 6);
    let query = "SELECT b, c, d FROM k.t WHERE a = 1 AND (b, c) >= (1, 2) AND (b) < (2)";
    assert_eq!(rows(&session, query).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_condition_shows_what_it_found() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, c text, s text STATIC, PRIMARY KEY (a, b))").await;
    let insert = "INSERT INTO k.t (a, b, c) VALUES (1, 1, 'x') IF NOT EXISTS";
    assert_eq!(rows(&session, insert).await, ["true"]);
    assert_eq!(rows(&session, insert).await, ["false 1 1 null 'x'"]);
    assert_eq!(
        rows(&session, "UPDATE k.t SET c = 'y' WHERE a = 1 AND b = 1 IF c = 'z'").await,
        ["false 'x'"]
    );
    assert_eq!(
        rows(&session, "UPDATE k.t SET c = 'y' WHERE a = 1 AND b = 1 IF c IN ('z', 'x') AND s = null").await,
        ["true"]
    );
    assert_eq!(rows(&session, "UPDATE k.t SET c = 'y' WHERE a = 1 AND b = 9 IF EXISTS").await, ["false"]);
    assert_eq!(rows(&session, "UPDATE k.t SET s = 'z' WHERE a = 1 IF s = null").await, ["true"]);
    assert_eq!(rows(&session, "DELETE FROM k.t WHERE a = 1 AND b = 1 IF c = 'y'").await, ["true"]);
    assert_eq!(rows(&session, "SELECT a, b, c, s FROM k.t").await, ["1 null null 'z'"]);
    let batch = "BEGIN BATCH INSERT INTO k.t (a, b, c) VALUES (1, 5, 'v') IF NOT EXISTS; \
                 UPDATE k.t SET c = 'w' WHERE a = 1 AND b = 6; APPLY BATCH";
    assert_eq!(rows(&session, batch).await, ["true"]);
    assert_eq!(rows(&session, batch).await, ["false 1 5 null 'v'"]);
    assert_eq!(rows(&session, "SELECT b, c FROM k.t WHERE a = 1").await, ["5 'v'", "6 'w'"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unset_value_leaves_the_column_alone_and_null_deletes_it() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int PRIMARY KEY, b text, c text)").await;
    let insert = session.prepare("INSERT INTO k.t (a, b, c) VALUES (?, ?, ?)").await.unwrap();
    session.execute_unpaged(&insert, (1, "b", "c")).await.unwrap();
    session.execute_unpaged(&insert, (1, MaybeUnset::<&str>::Unset, None::<&str>)).await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM k.t").await, ["1 'b' null"]);
    let error = session.execute_unpaged(&insert, (MaybeUnset::<i32>::Unset, "x", "x")).await.unwrap_err();
    assert!(error.to_string().contains("unset value"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_alone_makes_no_row_that_outlives_its_cells_and_an_insert_does() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int PRIMARY KEY, b text)").await;
    run(&session, "UPDATE k.t SET b = 'x' WHERE a = 1").await;
    run(&session, "INSERT INTO k.t (a, b) VALUES (2, 'x')").await;
    run(&session, "UPDATE k.t SET b = null WHERE a IN (1, 2)").await;
    assert_eq!(rows(&session, "SELECT a, b FROM k.t").await, ["2 null"]);
    run(&session, "INSERT INTO k.t (a, b) VALUES (3, 'x') USING TTL 100").await;
    let found = rows(&session, "SELECT ttl(b) FROM k.t WHERE a = 3").await;
    assert!(["100", "99", "98"].contains(&found[0].as_str()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_choose_among_the_partitions_that_are_named() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, PRIMARY KEY (a, b))").await;
    run(&session, "CREATE TABLE k.u (a text PRIMARY KEY)").await;
    // In the order of their tokens.
    for a in 1..=3 {
        run(&session, &format!("INSERT INTO k.t (a, b) VALUES ({a}, 1)")).await;
        run(&session, &format!("INSERT INTO k.u (a) VALUES ('{a}')")).await;
    }
    for (relations, expected) in [
        ("token(a) > token(1)", &["2", "3"][..]),
        ("token(a) >= token(1)", &["1", "2", "3"]),
        ("token(a) > token(1) AND token(a) < token(3)", &["2"]),
        ("token(a) = token(2)", &["2"]),
        ("token(a) >= token(3) AND token(a) <= token(3)", &["3"]),
        ("token(a) >= token(3) AND token(a) < token(3)", &[]),
        // Around the ring.
        ("token(a) >= token(3) AND token(a) <= token(1)", &["1", "3"]),
        ("token(a) > token(3) AND token(a) < token(1)", &[]),
        ("token(a) <= -9223372036854775808", &[]),
        ("token(a) >= -9223372036854775808", &["1", "2", "3"]),
    ] {
        let query = format!("SELECT a FROM k.t WHERE a IN (1, 2, 3) AND {relations}");
        assert_eq!(rows(&session, query).await, expected, "{relations}");
    }
    run(&session, "DELETE FROM k.t WHERE token(a) > token(1) AND a IN (1, 2)").await;
    assert_eq!(rows(&session, "SELECT a FROM k.t").await, ["1", "3"]);
    // The token of no bytes is where the ring begins.
    assert_eq!(rows(&session, "SELECT a FROM k.u WHERE token(a) = token('')").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_of_static_columns_shows_the_first_row_that_it_sees() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, c int, s int static, v int, PRIMARY KEY (a, b, c))").await;
    run(&session, "INSERT INTO k.t (a, b, c) VALUES (1, 1, 5)").await;
    // A row without a marker, of which no column is read, is not there.
    run(&session, "UPDATE k.t SET v = 1 WHERE a = 4 AND b = 0 AND c = 0").await;
    run(&session, "INSERT INTO k.t (a, b, c) VALUES (4, 1, 1)").await;
    for (statement, expected) in [
        ("UPDATE k.t SET s = 1 WHERE a = 4 IF EXISTS", "false 4 1 1 null null"),
        ("UPDATE k.t SET s = 1 WHERE a = 5 IF EXISTS", "false"),
        ("UPDATE k.t SET s = 1 WHERE a = 4 IF s = 4", "false null"),
        ("UPDATE k.t SET v = 2 WHERE a = 1 AND b = 9 AND c = 9 IF s = 4", "false null"),
        ("UPDATE k.t SET v = 2 WHERE a = 9 AND b = 9 AND c = 9 IF s = 4", "false"),
    ] {
        assert_eq!(rows(&session, statement).await, [expected], "{statement}");
    }
}

/// What Cassandra 5.0.5 returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_columns_are_looked_at_where_a_condition_or_its_statement_is_about_them() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    let create = "CREATE TABLE k.t (a int, b int, s int static, z int static, v int, PRIMARY KEY (a, b))";
    run(&session, create).await;
    run(&session, "INSERT INTO k.t (a, s) VALUES (1, 7)").await;
    run(&session, "INSERT INTO k.t (a, z) VALUES (2, 7)").await;
    for (statement, expected) in [
        ("UPDATE k.t SET v = 1 WHERE a = 2 AND b = 1 IF s = 5", "false"),
        ("UPDATE k.t SET v = 1 WHERE a = 1 AND b = 1 IF s = 5", "false 7"),
        ("UPDATE k.t SET v = 1 WHERE a = 1 AND b = 1 IF v = 5", "false"),
        ("UPDATE k.t SET v = 1 WHERE a = 1 AND b = 1 IF EXISTS", "false"),
        ("UPDATE k.t SET z = 1 WHERE a = 1 IF z = 5", "false null"),
        ("UPDATE k.t SET s = 1, v = 1 WHERE a = 1 AND b = 1 IF EXISTS", "false 1 null 7 null null"),
        (
            "BEGIN BATCH UPDATE k.t SET v = 1 WHERE a = 1 AND b = 1 IF v = 5; UPDATE k.t SET s = 7 WHERE a = 1; \
             APPLY BATCH",
            "false",
        ),
        (
            "BEGIN BATCH UPDATE k.t SET v = 1, z = 2 WHERE a = 1 AND b = 1 IF v = 5; \
             UPDATE k.t SET s = 7 WHERE a = 1; APPLY BATCH",
            "false 1 null null",
        ),
        (
            "BEGIN BATCH DELETE FROM k.t WHERE a = 1; UPDATE k.t SET z = 1 WHERE a = 1 IF z = 5; APPLY BATCH",
            "false 1 null null",
        ),
    ] {
        assert_eq!(rows(&session, statement).await, [expected], "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_several_partitions_are_ordered_by_what_is_said_and_static_columns_come_first() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.t (a int, b int, c int, s int static, PRIMARY KEY (a, b, c))").await;
    for values in ["(1, 1, 5)", "(2, 1, 3)", "(2, 0, 3)"] {
        run(&session, &format!("INSERT INTO k.t (a, b, c) VALUES {values}")).await;
    }
    run(&session, "INSERT INTO k.t (a, s) VALUES (3, 7)").await;
    for (order, expected) in [
        ("b", ["3 null null 7", "2 0 3 null", "1 1 5 null", "2 1 3 null"]),
        ("b DESC", ["1 1 5 null", "2 1 3 null", "2 0 3 null", "3 null null 7"]),
        ("b, c", ["3 null null 7", "2 0 3 null", "2 1 3 null", "1 1 5 null"]),
    ] {
        let query = format!("SELECT a, b, c, s FROM k.t WHERE a IN (1, 2, 3) ORDER BY {order}");
        assert_eq!(rows(&session, query).await, expected, "{order}");
    }
}

/// What Cassandra 5.0.5 returns, page by page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_page_is_the_last_only_where_nothing_can_follow_it() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.f (a int, b int, v int, PRIMARY KEY ((a, b)))").await;
    run(&session, "CREATE TABLE k.g (a int, b int, v int, s int static, PRIMARY KEY (a, b))").await;
    for values in ["(1, 1, 1)", "(1, 2, 1)"] {
        run(&session, &format!("INSERT INTO k.f (a, b, v) VALUES {values}")).await;
        run(&session, &format!("INSERT INTO k.g (a, b, v) VALUES {values}")).await;
    }
    run(&session, "INSERT INTO k.g (a, b, v) VALUES (2, 2, 1)").await;
    run(&session, "INSERT INTO k.g (a, s) VALUES (3, 1)").await;
    for (query, size, expected) in [
        ("a FROM k.f WHERE a = 1 AND b = 1", 1, 1),
        ("a FROM k.f WHERE a = 1 AND b IN (1, 2)", 1, 2),
        ("a FROM k.f WHERE a = 1 AND b IN (1, 2)", 2, 1),
        ("a FROM k.f", 2, 2),
        ("a FROM k.f WHERE a = 1 AND b = 1 AND v = 1 ALLOW FILTERING", 1, 1),
        ("a FROM k.f WHERE b = 1 ALLOW FILTERING", 1, 2),
        ("a FROM k.g WHERE a = 1 AND b = 1", 1, 2),
        ("a FROM k.g WHERE a = 1 AND b IN (1, 2)", 2, 2),
        ("a FROM k.g WHERE a IN (1, 2) AND b = 2", 2, 2),
        ("a FROM k.g WHERE a = 3", 1, 1),
        ("a FROM k.g WHERE a IN (2, 3)", 2, 1),
        ("a FROM k.g PER PARTITION LIMIT 1", 3, 2),
        ("a FROM k.g WHERE a = 1 PER PARTITION LIMIT 1", 1, 1),
        ("a FROM k.g WHERE a = 1 PER PARTITION LIMIT 2", 1, 2),
        ("a FROM k.g WHERE a = 1 LIMIT 2", 1, 2),
        ("DISTINCT a FROM k.g WHERE a IN (1, 2)", 1, 2),
        ("DISTINCT a FROM k.g", 3, 2),
    ] {
        let (_, found) = pages(&session, &format!("SELECT {query}"), size).await;
        assert_eq!(found, expected, "{query} in pages of {size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_in_a_conditional_batch_are_older_than_the_rows_that_are_written_with_them() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    run(&session, "CREATE TABLE k.z (a int, b int, c int, PRIMARY KEY (a, b))").await;
    for (a, deletion) in [(1, "DELETE FROM k.z WHERE a = 1"), (2, "DELETE FROM k.z WHERE a = 2 AND b > 0")] {
        run(&session, &format!("INSERT INTO k.z (a, b, c) VALUES ({a}, 1, 1)")).await;
        let insert = format!("INSERT INTO k.z (a, b, c) VALUES ({a}, 2, 2) IF NOT EXISTS");
        run(&session, &format!("BEGIN BATCH {deletion}; {insert}; APPLY BATCH")).await;
        assert_eq!(
            rows(&session, format!("SELECT b, c FROM k.z WHERE a = {a}")).await,
            ["2 2"],
            "{deletion}"
        );
    }
}
