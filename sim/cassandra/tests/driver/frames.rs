//! What drivers do not show: frames, levels, warnings, places of keys, pages. The expectations were seen of Cassandra
//! 5.0.5.

use simulated_cassandra::coordinator::Consistency;

use crate::nodes::Nodes;
use crate::raw::{Body, Client, Parameters, RawResponse};

const INVALID: i32 = 0x2200;
const PROTOCOL: i32 = 0x000A;

async fn one() -> (Nodes, Client) {
    let nodes = Nodes::start(1).await;
    let mut client = Client::connect(nodes.address()).await;
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "USE k",
        "CREATE TABLE t (a int, b int, d int, PRIMARY KEY (a, b))",
    ] {
        client.done(text).await;
    }
    (nodes, client)
}

fn unsupported(version: u8) -> String {
    format!("Invalid or unsupported protocol version ({version}); supported versions are (4/v4)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsupported_version_gets_an_error_on_stream_0_that_names_the_supported_one() {
    let nodes = Nodes::start(1).await;
    for version in [3, 5, 6, 0x7f] {
        let mut client = Client::silent(nodes.address()).await;
        // STARTUP on stream 9, and no body: what is wrong is known before.
        client.send(&[version, 0, 0, 9, 0x01, 0, 0, 0, 0]).await;
        let response = client.response().await;
        assert_eq!((response.stream, response.body), (0, Body::Error(PROTOCOL, unsupported(version))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_1_and_2_get_an_error_at_once_with_their_own_header_of_eight_bytes() {
    let nodes = Nodes::start(1).await;
    for version in [1, 2] {
        let mut client = Client::silent(nodes.address()).await;
        // Nothing but the first byte: the header that it begins has no ninth.
        client.send(&[version]).await;
        let head = client.read(8).await;
        assert_eq!(head[..4], [version | 0x80, 0, 0, 0], "version, flags, stream, ERROR");
        let length = i32::from_be_bytes(head[4..].try_into().unwrap()) as usize;
        let body = client.read(length).await;
        assert_eq!(body[..4], PROTOCOL.to_be_bytes());
        assert_eq!(String::from_utf8_lossy(&body[6..]), unsupported(version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_get_the_errors_of_cassandra_and_the_connection_stays_open() {
    let (_nodes, mut client) = one().await;
    let select = b"\0\0\0\x20SELECT a FROM k.t WHERE a = 1   ";
    let with = |tail: &[u8]| [&select[..], tail].concat();
    for (opcode, body, code, text) in [
        (0x07, with(&[0, 1, 0x04, 0, 0, 0, 0]), PROTOCOL, "The page size cannot be 0"),
        (0x07, with(&[0, 99, 0]), PROTOCOL, "Unknown code 99 for a consistency level"),
        (0x07, with(&[0, 1, 0x01, 0, 1, 0xff, 0xff, 0xff, 0xfd]), PROTOCOL, "Invalid ByteBuf length -3"),
        (0x07, with(&[0, 1, 0x08, 0, 0, 0, 1, 9]), PROTOCOL, "Invalid value for the paging state"),
        (
            0x09,
            vec![0],
            PROTOCOL,
            "Not enough bytes to read an UTF8 serialized string preceded by its 4 bytes length",
        ),
        (0x0B, b"\0\x01\0\x04NOPE".to_vec(), PROTOCOL, "Invalid value 'NOPE' for Type"),
        (0x0D, vec![3, 0, 0], PROTOCOL, "Invalid BATCH message type 3"),
        (
            0x02,
            vec![],
            PROTOCOL,
            "Wrong protocol direction (expected RESPONSE, got REQUEST) for opcode 2 (READY)",
        ),
        (0x04, vec![], PROTOCOL, "Unsupported message"),
        (0x11, vec![], PROTOCOL, "Unknown opcode 17"),
        (
            0x01,
            b"\0\0".to_vec(),
            PROTOCOL,
            "Unexpected message STARTUP, the connection is already initialized",
        ),
    ] {
        let response = client.ask(opcode, &body).await;
        assert_eq!(response.body, Body::Error(code, text.to_owned()), "opcode {opcode}");
    }
    // Where numbers are cut off Cassandra's buffer throws, and what follows a whole message is not looked at.
    let cut = client.ask(0x07, &with(&[0, 1, 0x20, 0])).await.body;
    assert!(
        matches!(&cut, Body::Error(0, text) if text.starts_with("java.lang.IndexOutOfBoundsException")),
        "{cut:?}"
    );
    let more = client.ask(0x07, &with(&[0, 1, 0, 1, 2, 3])).await.body;
    assert!(matches!(more, Body::Rows(..)), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_consistency_matters_to_conditional_statements_only() {
    let (_nodes, mut client) = one().await;
    let at = |serial| Parameters { serial: Some(serial), ..Parameters::default() };
    let refused = "Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL";
    for serial in [Consistency::One, Consistency::Quorum, Consistency::Any] {
        let read = client.query_with("SELECT * FROM t WHERE a = 1", &at(serial)).await.body;
        assert!(matches!(read, Body::Rows(..)), "{serial}: {read:?}");
        let write = client.query_with("INSERT INTO t (a, b) VALUES (1, 1)", &at(serial)).await.body;
        assert_eq!(write, Body::Void, "{serial}");
        let insert = "INSERT INTO t (a, b) VALUES (1, 1) IF NOT EXISTS";
        let conditional = client.query_with(insert, &at(serial)).await.body;
        assert_eq!(conditional, Body::Error(INVALID, refused.to_owned()), "{serial}");
        let batch = client.batch(0, &[insert.to_owned()], Some(serial)).await.body;
        assert_eq!(batch, Body::Error(INVALID, refused.to_owned()), "{serial}");
    }
    let insert = "INSERT INTO t (a, b) VALUES (2, 2) IF NOT EXISTS";
    let done = client.query_with(insert, &at(Consistency::LocalSerial)).await.body;
    assert!(matches!(done, Body::Rows(..)), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conditional_write_at_each_quorum_needs_network_topology() {
    let (_nodes, mut client) = one().await;
    let at = Parameters { consistency: Consistency::EachQuorum, ..Parameters::default() };
    let refused = "consistency level EACH_QUORUM not compatible with replication strategy \
                   (org.apache.cassandra.locator.SimpleStrategy)";
    let insert = "INSERT INTO t (a, b) VALUES (1, 1)";
    assert_eq!(client.query_with(insert, &at).await.body, Body::Void);
    let found = client.query_with(&format!("{insert} IF NOT EXISTS"), &at).await.body;
    assert_eq!(found, Body::Error(INVALID, refused.to_owned()));
    client
        .done("CREATE KEYSPACE n WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}")
        .await;
    client.done("CREATE TABLE n.t (a int PRIMARY KEY)").await;
    let found = client.query_with("INSERT INTO n.t (a) VALUES (1) IF NOT EXISTS", &at).await.body;
    assert!(matches!(found, Body::Rows(..)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_of_many_partitions_carry_a_warning() {
    let (_nodes, mut client) = one().await;
    let without = "Aggregation query used without partition key";
    let several = "Aggregation query used on multiple partition keys (IN restriction)";
    for (text, expected) in [
        ("SELECT count(*) FROM t", Some(without)),
        ("SELECT max(d) FROM t WHERE d = 1 ALLOW FILTERING", Some(without)),
        ("SELECT count(*) FROM t WHERE a IN (1, 2)", Some(several)),
        ("SELECT count(*) FROM t WHERE a IN (1)", None),
        ("SELECT count(*) FROM t WHERE a = 1", None),
        ("SELECT count(*) FROM t WHERE token(a) > 0", None),
        ("SELECT * FROM t", None),
    ] {
        let RawResponse { warnings, .. } = client.query_with(text, &Parameters::default()).await;
        assert_eq!(warnings, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_batch_names_the_places_of_the_partition_key() {
    let (_nodes, mut client) = one().await;
    client.done("CREATE TABLE u (a int, b int, c int, PRIMARY KEY ((a, b), c))").await;
    for (text, expected) in [
        ("BEGIN BATCH INSERT INTO t (a, b, d) VALUES (?, ?, ?) APPLY BATCH", vec![0]),
        (
            "BEGIN BATCH INSERT INTO t (a, b) VALUES (?, ?); UPDATE t SET d = ? WHERE a = ? AND b = ? APPLY BATCH",
            vec![3],
        ),
        (
            "BEGIN BATCH INSERT INTO t (a, b) VALUES (1, ?); UPDATE t SET d = ? WHERE a IN (?, ?) AND b = 1 APPLY BATCH",
            vec![3],
        ),
        (
            "BEGIN BATCH INSERT INTO t (a, b) VALUES (?, ?); INSERT INTO u (a, b, c) VALUES (?, ?, ?) APPLY BATCH",
            vec![],
        ),
        ("BEGIN BATCH INSERT INTO u (c, b, a) VALUES (?, ?, ?) APPLY BATCH", vec![2, 1]),
        ("BEGIN BATCH INSERT INTO u (c, b, a) VALUES (?, 1, ?) APPLY BATCH", vec![]),
        ("BEGIN BATCH APPLY BATCH", vec![]),
        ("SELECT * FROM t WHERE a IN (?)", vec![0]),
        ("SELECT * FROM t WHERE a IN ?", vec![]),
        ("UPDATE t SET d = ? WHERE a = ? AND b = ? IF d = ?", vec![1]),
    ] {
        let Body::Prepared(_, found) = client.prepare(text).await else { panic!("{text}") };
        assert_eq!(found, expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_of_a_batch_is_counted_as_by_cassandra() {
    let (_nodes, mut client) = one().await;
    client.done("CREATE TABLE s (a int, b int, x bigint, v blob, PRIMARY KEY (a, b))").await;
    let many =
        |count: usize, statement: &dyn Fn(usize) -> String| (0..count).map(statement).collect::<Vec<_>>();
    let threshold = 5120;
    for (statements, size) in [
        (many(75, &|i| format!("INSERT INTO s (a, b, x) VALUES ({i}, {i}, {i})")), 75 * 82),
        (many(75, &|i| format!("UPDATE s SET x = {i} WHERE a = {i} AND b = {i}")), 75 * 82),
        (many(75, &|i| format!("INSERT INTO s (a, b, x) VALUES ({i}, {i}, {i}) USING TTL 9")), 75 * 94),
        (many(75, &|i| format!("INSERT INTO t (a, b, d) VALUES ({i}, {i}, 1)")), 75 * 78),
    ] {
        let warnings = client.batch(1, &statements, None).await.warnings;
        let table = if statements[0].contains("INTO t") { "k.t" } else { "k.s" };
        let over = size - threshold;
        let expected = format!(
            "Batch for [{table}] is of size {size}, exceeding specified threshold of {threshold} by {over}."
        );
        assert_eq!(warnings.first(), Some(&expected), "{}", statements[0]);
        assert!(warnings[1].starts_with("Unlogged batch covering 75 partitions"), "{warnings:?}");
    }
    let values = |length: usize| {
        let blob = "ab".repeat(length);
        many(2, &|i| format!("INSERT INTO s (a, b, v) VALUES ({i}, 1, 0x{blob})"))
    };
    // Each has 74 bytes besides its value; 50 KiB are allowed.
    assert_eq!(client.batch(0, &values(25_526), None).await.body, Body::Void);
    let refused = client.batch(0, &values(25_527), None).await.body;
    assert_eq!(refused, Body::Error(INVALID, "Batch too large".to_owned()));
}

/// The values of a column of ints in all pages.
async fn pages(client: &mut Client, text: &str, page: Option<i32>) -> Vec<i32> {
    let mut found = Vec::new();
    let mut parameters = Parameters { page, ..Parameters::default() };
    loop {
        match client.query_with(text, &parameters).await.body {
            Body::Rows(_, rows, state) => {
                let value = |row: &Vec<Option<bytes::Bytes>>| row[0].as_deref().unwrap().try_into().unwrap();
                found.extend(rows.iter().map(|row| i32::from_be_bytes(value(row))));
                if state.is_none() {
                    return found;
                }
                parameters.state = state;
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_filter_drops_count_for_no_limit_however_they_are_paged() {
    let (_nodes, mut client) = one().await;
    for (a, b, d) in [(1, 1, 1), (1, 2, 0), (1, 3, 1), (1, 4, 0), (1, 5, 1), (2, 1, 0), (2, 2, 1), (2, 3, 1)]
    {
        client.done(&format!("INSERT INTO t (a, b, d) VALUES ({a}, {b}, {d})")).await;
    }
    let filtered = "WHERE d = 1 PER PARTITION LIMIT 2";
    for page in [None, Some(1), Some(2), Some(3), Some(5)] {
        for (clauses, expected) in [
            (filtered.to_owned(), vec![1, 3, 2, 3]),
            (format!("{filtered} LIMIT 3"), vec![1, 3, 2]),
            ("WHERE d = 1 LIMIT 4".to_owned(), vec![1, 3, 5, 2]),
            ("WHERE a = 1 AND d = 1 PER PARTITION LIMIT 2".to_owned(), vec![1, 3]),
            ("WHERE a IN (1, 2) AND d = 1 PER PARTITION LIMIT 1".to_owned(), vec![1, 2]),
            ("WHERE a = 1 AND d = 1 ORDER BY b DESC PER PARTITION LIMIT 2".to_owned(), vec![5, 3]),
        ] {
            let text = format!("SELECT b FROM t {clauses} ALLOW FILTERING");
            assert_eq!(pages(&mut client, &text, page).await, expected, "{text} in pages of {page:?}");
        }
    }
    for (limits, expected) in [
        ("PER PARTITION LIMIT 1", vec![5, 3]),
        ("PER PARTITION LIMIT 2", vec![5, 3, 3, 2]),
        ("PER PARTITION LIMIT 2 LIMIT 3", vec![5, 3, 3]),
        ("LIMIT 2", vec![5, 3]),
    ] {
        let text =
            format!("SELECT b FROM t WHERE a IN (1, 2) AND d = 1 ORDER BY b DESC {limits} ALLOW FILTERING");
        assert_eq!(pages(&mut client, &text, None).await, expected, "{text}");
    }
}
