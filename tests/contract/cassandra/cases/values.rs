//! Types, nulls, and when a row exists.

use scylla::value::{CqlValue, MaybeUnset, Unset};

use super::ROWS;
use crate::cassandra::backend::Backend;
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            every_type_of_the_tables_is_read_as_written,
            [],
            "int and bigint are signed, of 32 and 64 bits; a timestamp is a signed 64-bit count of milliseconds; text is UTF-8; \
             a blob is any bytes (CQL: Data Types)",
        ),
        case!(
            a_number_out_of_range_is_refused,
            [],
            "A constant must be valid for its column's type (CQL: Constants; AbstractType.fromString)",
        ),
        case!(
            a_null_deletes_a_cell_and_an_unset_value_leaves_it,
            [],
            "A bound null is a tombstone; from protocol v4 on, an unset value changes nothing (native_protocol_v4, 2.2 and 4.1.4)",
        ),
        case!(
            an_empty_value_is_not_null,
            [],
            "A value of length 0 is a value; null has the length -1 (native_protocol_v4, [bytes])",
        ),
        case!(
            a_frozen_set_or_map_is_one_value_sorted_by_key,
            [],
            "A frozen collection is serialized as one value; sets and maps are ordered by their elements, once each (CQL: Collections)",
        ),
        case!(
            an_inserted_row_exists_without_values_and_an_updated_one_does_not,
            [],
            "INSERT writes a row marker, UPDATE only cells: a row without marker and without live cells is none (CQL: INSERT, UPDATE)",
        ),
        case!(
            a_key_column_is_never_null_and_a_text_partition_key_never_empty,
            [],
            "Key columns must have a value; a partition key of one column may not be empty, for its bytes are the key (CQL: Primary key; QueryProcessor.validateKey)",
        ),
        case!(
            a_key_is_at_most_65535_bytes_long,
            [],
            "The length of a partition key and of a clustering value are unsigned 16-bit numbers (FBUtilities.MAX_UNSIGNED_SHORT)",
        ),
        case!(
            a_value_of_a_megabyte_is_read_completely,
            [],
            "A blob may have up to 2 GB, in theory; a mutation half a segment of the commit log (CQL: Data Types; cassandra.yaml)",
        ),
    ]
}

const ALL: &str = "a (id int PRIMARY KEY, whole int, big bigint, body text, at timestamp, bytes blob, yes boolean, \
                   levels frozen<set<int>>, origins frozen<map<int, bigint>>)";

async fn every_type_of_the_tables_is_read_as_written<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ALL]).await;
    let [a, b, _] = keyspace.clients();
    let insert = a
        .prepare("INSERT INTO KS.a (id, whole, big, body, at, bytes, yes) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .await;
    for (id, whole, big, body, yes) in [
        (1, i32::MIN, i64::MIN, "", false),
        (2, i32::MAX, i64::MAX, "\u{0}\n'\"é\u{10ffff}", true),
        (3, -1, 0, " ", true),
    ] {
        let at = scylla::value::CqlTimestamp(big);
        let bytes: &[u8] = if id == 2 { &[0, 0x7f, 0x80, 0xff] } else { &[] };
        a.execute(&insert, (id, whole, big, body, at, bytes, yes)).await;
    }
    const SELECT: &str = "SELECT whole, big, at, bytes, yes FROM KS.a WHERE id = ";
    b.expect(
        seen,
        "least",
        &format!("{SELECT}1"),
        "(-2147483648, -9223372036854775808, -9223372036854775808, 0x, false)",
    )
    .await;
    b.expect(
        seen,
        "greatest",
        &format!("{SELECT}2"),
        "(2147483647, 9223372036854775807, 9223372036854775807, 0x007f80ff, true)",
    )
    .await;
    b.expect(seen, "between", &format!("{SELECT}3"), "(-1, 0, 0, 0x, true)").await;
    let body = b.ok("SELECT body FROM KS.a WHERE id = 2").await.into_rows_result().expect("rows");
    assert_eq!(body.single_row::<(String,)>().expect("one text").0, "\u{0}\n'\"é\u{10ffff}");
    seen.note("text with a zero, quotes and the last character: the same");
}

async fn a_number_out_of_range_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ALL]).await;
    let [a, ..] = keyspace.clients();
    for (what, column, value) in [
        ("2^31 in an int", "whole", "2147483648"),
        ("2^63 in a bigint", "big", "9223372036854775808"),
        ("text in an int", "whole", "'1'"),
        ("a number in text", "body", "1"),
        ("a number in a blob", "bytes", "1"),
        ("a number in a boolean", "yes", "1"),
        ("no date in a timestamp", "at", "'yesterday'"),
    ] {
        a.expect(seen, what, &format!("INSERT INTO KS.a (id, {column}) VALUES (1, {value})"), "Invalid")
            .await;
    }
    a.expect(
        seen,
        "a date in a timestamp",
        "INSERT INTO KS.a (id, at) VALUES (1, '1970-01-01T00:00:01.002Z')",
        "ok",
    )
    .await;
    a.expect(seen, "read back", "SELECT at FROM KS.a WHERE id = 1", "(1002)").await;
}

async fn a_null_deletes_a_cell_and_an_unset_value_leaves_it<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &["t (id int PRIMARY KEY, v int, w text)"]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.t (id, v, w) VALUES (?, ?, ?) USING TIMESTAMP ?").await;
    const READ: &str = "SELECT v, w, writetime(v) FROM KS.t WHERE id = 1";
    a.execute(&insert, (1, 10, "a", 10_i64)).await;
    a.execute(&insert, (1, Unset, Unset, 20_i64)).await;
    a.expect(seen, "unset over a value", READ, "(10, 'a', 10)").await;
    a.execute(&insert, (1, None::<i32>, MaybeUnset::<&str>::Unset, 30_i64)).await;
    a.expect(seen, "null over a value", READ, "(null, 'a', null)").await;
    a.execute(&insert, (1, 11, "b", 25_i64)).await;
    a.expect(seen, "an older value over a null", READ, "(null, 'b', null)").await;
    let absent = a.prepare("INSERT INTO KS.t (id, v) VALUES (?, ?)").await;
    seen.check("unset in a key", &ending(a.session.execute_unpaged(&absent, (Unset, 1)).await), "Invalid");
}

async fn an_empty_value_is_not_null<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ALL]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.a (id, body, bytes) VALUES (1, '', 0x)").await;
    a.expect(seen, "empty text, empty blob", "SELECT body, bytes FROM KS.a WHERE id = 1", "('', 0x)").await;
    a.ok("INSERT INTO KS.a (id) VALUES (2)").await;
    a.expect(seen, "not written", "SELECT body, bytes FROM KS.a WHERE id = 2", "(null, null)").await;
    let insert = a.prepare("INSERT INTO KS.a (id, big) VALUES (3, ?)").await;
    a.execute(&insert, (CqlValue::Empty,)).await;
    a.expect(seen, "a bigint of no bytes", "SELECT big FROM KS.a WHERE id = 3", "(empty)").await;
}

async fn a_frozen_set_or_map_is_one_value_sorted_by_key<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ALL]).await;
    let [a, ..] = keyspace.clients();
    const READ: &str = "SELECT levels, origins, writetime(levels) FROM KS.a WHERE id = 1";
    a.ok(
        "INSERT INTO KS.a (id, levels, origins) VALUES (1, {2, -1, 2, 0}, {7: 70, -3: 30}) USING TIMESTAMP 5",
    )
    .await;
    a.expect(seen, "out of order, one twice", READ, "({-1, 0, 2}, {-3: 30, 7: 70}, 5)").await;
    a.ok("INSERT INTO KS.a (id, levels) VALUES (1, {9}) USING TIMESTAMP 6").await;
    a.expect(seen, "another set", READ, "({9}, {-3: 30, 7: 70}, 6)").await;
    a.expect(seen, "an element added", "UPDATE KS.a SET levels = levels + {1} WHERE id = 1", "Invalid").await;
    a.ok("INSERT INTO KS.a (id, levels, origins) VALUES (1, {}, {}) USING TIMESTAMP 7").await;
    a.expect(seen, "empty ones", READ, "({}, {}, 7)").await;
}

async fn an_inserted_row_exists_without_values_and_an_updated_one_does_not<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.t (p, c) VALUES (1, 1) USING TIMESTAMP 1").await;
    a.ok("UPDATE KS.t USING TIMESTAMP 1 SET v = 2 WHERE p = 1 AND c = 2").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 3, 3) USING TIMESTAMP 1").await;
    const READ: &str = "SELECT c, v FROM KS.t WHERE p = 1";
    a.expect(seen, "inserted without a value, updated, inserted", READ, "(1, null) (2, 2) (3, 3)").await;
    a.ok("UPDATE KS.t USING TIMESTAMP 2 SET v = null WHERE p = 1 AND c = 2").await;
    a.ok("UPDATE KS.t USING TIMESTAMP 2 SET v = null WHERE p = 1 AND c = 3").await;
    a.expect(seen, "the values of 2 and 3 deleted", READ, "(1, null) (3, null)").await;
}

async fn a_key_column_is_never_null_and_a_text_partition_key_never_empty<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let tables =
        ["one (k text, c text, PRIMARY KEY (k, c))", "two (k text, l timestamp, PRIMARY KEY ((k, l)))"];
    let keyspace = Keyspace::with(backend, seen, &tables).await;
    let [a, ..] = keyspace.clients();
    for (what, cql, expected) in [
        ("a null partition key", "INSERT INTO KS.one (k, c) VALUES (null, 'c')", "Invalid"),
        ("a null clustering value", "INSERT INTO KS.one (k, c) VALUES ('k', null)", "Invalid"),
        ("no clustering value", "INSERT INTO KS.one (k) VALUES ('k')", "Invalid"),
        ("an empty partition key", "INSERT INTO KS.one (k, c) VALUES ('', 'c')", "Invalid"),
        ("reading it", "SELECT * FROM KS.one WHERE k = ''", "Invalid"),
        ("an empty clustering value", "INSERT INTO KS.one (k, c) VALUES ('k', '')", "ok"),
        ("reading it", "SELECT * FROM KS.one WHERE k = 'k'", "('k', '')"),
        ("an empty part of a partition key", "INSERT INTO KS.two (k, l) VALUES ('', 0)", "ok"),
        ("reading it", "SELECT * FROM KS.two WHERE k = '' AND l = 0", "('', 0)"),
    ] {
        a.expect(seen, what, cql, expected).await;
    }
}

async fn a_key_is_at_most_65535_bytes_long<W: Backend>(backend: &W, seen: &Observations) {
    let tables =
        ["one (k text, c text, PRIMARY KEY (k, c))", "two (k text, l timestamp, PRIMARY KEY ((k, l)))"];
    let keyspace = Keyspace::with(backend, seen, &tables).await;
    let [a, ..] = keyspace.clients();
    let text = |length: usize| "x".repeat(length);
    for (what, cql, expected) in [
        (
            "a partition key of 65535",
            format!("INSERT INTO KS.one (k, c) VALUES ('{}', 'c')", text(65535)),
            "ok",
        ),
        ("of 65536", format!("INSERT INTO KS.one (k, c) VALUES ('{}', 'c')", text(65536)), "Invalid"),
        ("reading that", format!("SELECT c FROM KS.one WHERE k = '{}'", text(65536)), "Invalid"),
        (
            "a clustering value of 65535",
            format!("INSERT INTO KS.one (k, c) VALUES ('k', '{}')", text(65535)),
            "ok",
        ),
        ("of 65536", format!("INSERT INTO KS.one (k, c) VALUES ('k', '{}')", text(65536)), "Invalid"),
        // Each component has two bytes of length before it and one end byte after it; the timestamp has eight bytes.
        (
            "a text of 65521 beside a timestamp",
            format!("INSERT INTO KS.two (k, l) VALUES ('{}', 0)", text(65521)),
            "ok",
        ),
        ("of 65522", format!("INSERT INTO KS.two (k, l) VALUES ('{}', 0)", text(65522)), "Invalid"),
    ] {
        a.expect(seen, what, &cql, expected).await;
    }
}

async fn a_value_of_a_megabyte_is_read_completely<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &["t (id int PRIMARY KEY, bytes blob)"]).await;
    let [a, b, _] = keyspace.clients();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let insert = a.prepare("INSERT INTO KS.t (id, bytes) VALUES (1, ?)").await;
    a.execute(&insert, (&bytes,)).await;
    let result = b.ok("SELECT bytes FROM KS.t WHERE id = 1").await.into_rows_result().expect("rows");
    let (read,) = result.single_row::<(Vec<u8>,)>().expect("one blob");
    assert!(read == bytes, "{} bytes were read", read.len());
    seen.note("1,000,000 bytes: the same");
}
