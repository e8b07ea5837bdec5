//! Tests of the parser.

use super::*;
use crate::cql::ast::*;

fn syntax_error(query: &str) -> String {
    match parse(query) {
        Err(ServerError::Syntax(message)) => message,
        other => panic!("{query}: {other:?}"),
    }
}

/// The messages are those of Cassandra 5.0.5.
#[test]
fn a_text_that_is_no_cql_is_refused_in_the_words_of_cassandra() {
    for (query, message) in [
        ("SELECT FORM x", "line 1:12 no viable alternative at input 'x' (SELECT [FORM] x)"),
        ("SELECT * FROM", "line 0:-1 no viable alternative at input '<EOF>'"),
        ("SELECT a b FROM x", "line 1:9 no viable alternative at input 'b' (SELECT [a] b...)"),
        ("INSERT INTO x (a,b) VALUES (1,2", "line 0:-1 mismatched input '<EOF>' expecting ')'"),
        ("CREATE TABLE a.b (c int PRIMARY KEY", "line 0:-1 mismatched input '<EOF>' expecting ')'"),
        (
            "CREATE TABLE a.b c int PRIMARY KEY",
            "line 1:17 mismatched input 'c' expecting '(' (CREATE TABLE a.b [c]...)",
        ),
        ("SELEC", "line 1:0 no viable alternative at input 'SELEC' ([SELEC])"),
        (
            "SELECT * FROM system.local; x",
            "line 1:28 mismatched input 'x' expecting EOF (... * FROM system.local; [x])",
        ),
        ("SELECT * FROM a.b WHERE c = @", "line 1:28 no viable alternative at character '@'"),
        (
            "SELECT * FROM a.b WHERE c == 1",
            "line 1:27 no viable alternative at input '=' (... a.b WHERE c =[=]...)",
        ),
        (
            "SELECT * FROM a.b LIMIT x",
            "line 1:24 no viable alternative at input 'x' (...* FROM a.b LIMIT [x])",
        ),
    ] {
        assert_eq!(syntax_error(query), message, "{query}");
    }
}

#[test]
fn a_list_is_of_tuples_only() {
    assert!(parse("DELETE FROM t WHERE (a, b) IN ((1, 2), (3, 4))").is_ok());
    for other in ["(1, 2), c (3, 4)", "(1, 2), 3", "1, 2", "(1, 2), (int) 3", "(1, 2), ?"] {
        let message = syntax_error(&format!("DELETE FROM t WHERE (a, b) IN ({other})"));
        assert!(message.ends_with("expecting '('"), "{message}");
    }
}

#[test]
fn names_are_lower_case_unless_they_are_quoted() {
    let Statement::Select(select) = parse("select A, \"B\", \"c\"\"d\" FROM Ks.\"T\"").unwrap().statement
    else {
        panic!()
    };
    let names: Vec<_> = select.selectors.into_iter().map(|(selector, _)| selector).collect();
    let column = |name: &str| Selector::Column(name.to_owned());
    assert_eq!(names, [column("a"), column("B"), column("c\"d")]);
    assert_eq!(select.table, TableName { keyspace: Some("ks".into()), name: "T".into() });
}

#[test]
fn markers_are_numbered_in_the_order_of_the_text() {
    let parsed = parse("UPDATE t USING TIMESTAMP ? SET a = :b, c = ? WHERE d IN ? AND e IN (?, :f)").unwrap();
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(parsed.markers, [None, name("b"), None, None, None, name("f")]);
    let Statement::Modification(Modification::Update(update)) = parsed.statement else { panic!() };
    assert_eq!(update.attributes.timestamp, Some(Term::Marker(0)));
    assert_eq!(update.relations[0], Relation::In("d".into(), InValues::Marker(3)));
    assert_eq!(
        update.relations[1],
        Relation::In("e".into(), InValues::Terms(vec![Term::Marker(4), Term::Marker(5)]))
    );
}

#[test]
fn a_select_with_all_its_clauses_is_understood() {
    let query = "SELECT a, writetime(b) AS w, ttl(b), count(*), min(c), token(a) FROM t \
                 WHERE a = 1 AND (b, c) > (1, 'x') AND token(a) <= 5 AND d IN (1, 2) \
                 ORDER BY b DESC, c ASC PER PARTITION LIMIT 3 LIMIT ? ALLOW FILTERING;";
    let Statement::Select(select) = parse(query).unwrap().statement else { panic!() };
    assert_eq!(select.selectors.len(), 6);
    assert_eq!(select.selectors[1], (Selector::WriteTime("b".into()), Some("w".into())));
    assert_eq!(select.selectors[3].0, Selector::CountRows);
    assert_eq!(select.relations.len(), 4);
    assert_eq!(select.order_by, [("b".to_owned(), true), ("c".to_owned(), false)]);
    assert_eq!(select.limit, Some(Term::Marker(0)));
    assert!(select.allow_filtering && !select.distinct && !select.json);
}

#[test]
fn words_that_are_not_reserved_may_be_names() {
    let query = "SELECT partition, offset, timestamp, key, json, distinct, count, ttl, values FROM type.list";
    let Statement::Select(select) = parse(query).unwrap().statement else { panic!() };
    assert_eq!(select.selectors.len(), 9);
    assert!(!select.json && !select.distinct);
    assert!(syntax_error("SELECT order FROM t").contains("'order'"));
    assert!(syntax_error("CREATE TABLE t (table int PRIMARY KEY)").contains("'table'"));
}

#[test]
fn a_negative_constant_is_not_a_name() {
    for constant in ["-NaN", "-infinity"] {
        let parsed = parse(&format!("SELECT * FROM t WHERE (a) = ({constant})"));
        assert!(parsed.is_ok(), "{constant} in parentheses is not the type of a cast: {parsed:?}");
        assert!(syntax_error(&format!("USE {constant}")).contains("no viable alternative"));
    }
}

#[test]
fn a_batch_keeps_its_kind_its_timestamp_and_its_statements() {
    let query = "BEGIN UNLOGGED BATCH USING TIMESTAMP 5 INSERT INTO t (a) VALUES (1); \
                 UPDATE t SET b = 2 WHERE a = 1 DELETE b FROM t USING TIMESTAMP 3 WHERE a = 1; APPLY BATCH";
    let Statement::Batch(batch) = parse(query).unwrap().statement else { panic!() };
    assert_eq!(batch.kind, crate::protocol::BatchKind::Unlogged);
    assert_eq!(batch.statements.len(), 3);
    assert_eq!(batch.attributes.timestamp, Some(Term::Literal(LiteralKind::Integer, "5".into())));
}

#[test]
fn a_table_is_defined_with_types_key_order_and_properties() {
    let query = "CREATE TABLE IF NOT EXISTS k.t (a int, b text STATIC, c frozen<map<int, list<text>>>, d set<int>, \
                 PRIMARY KEY ((a, e), f, g), e uuid, f int, g varchar,) WITH CLUSTERING ORDER BY (f DESC, g ASC) \
                 AND gc_grace_seconds = 5 AND compaction = {'class': 'X', 'min_threshold': 4} AND comment = 'it'";
    let Statement::CreateTable(create) = parse(query).unwrap().statement else { panic!() };
    assert!(create.if_not_exists && create.columns[1].is_static);
    assert_eq!(create.primary_keys, [(vec!["a".into(), "e".into()], vec!["f".into(), "g".into()])]);
    assert_eq!(create.clustering_order, [("f".to_owned(), true), ("g".to_owned(), false)]);
    assert_eq!(create.properties.len(), 3);
    assert_eq!(create.columns[7 - 1].type_name, TypeName::Native(crate::types::DataType::Text));
}

#[test]
fn conditions_and_casts_and_collections_are_understood() {
    for query in [
        "UPDATE t SET a = 1 WHERE b = 2 IF EXISTS",
        "UPDATE t SET a = 1 WHERE b = 2 IF exists = 3",
        "UPDATE t SET a = 1 WHERE b = 2 IF a = 3 AND c IN (1, 2) AND d != null",
        "INSERT INTO t (a, b, c) VALUES ({}, {1: [2, 3]}, (int) 5) IF NOT EXISTS USING TTL 5",
        "INSERT INTO t (a) VALUES (now())",
        "INSERT INTO t (a) VALUES (system.now())",
        "SELECT * FROM t WHERE token(a, b) > token(1, 2)",
        "SELECT cast(a AS text) FROM t",
        "SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))",
        "DELETE a, b FROM t WHERE c = 1 IF EXISTS",
    ] {
        if let Err(error) = parse(query) {
            panic!("{query}: {error}");
        }
    }
}

#[test]
fn what_is_not_simulated_is_named() {
    for (query, what) in [
        ("SELECT a + 1 FROM t", "operator +"),
        ("INSERT INTO t JSON '{}'", "INSERT JSON"),
        ("GRANT SELECT ON t TO me", "GRANT"),
        ("CREATE TABLE a LIKE b", "LIKE"),
        ("CREATE INDEX ON t (a)", "CREATE INDEX"),
    ] {
        let error = parse(query).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("is not simulated"), "{query}: {error}");
    }
}

#[test]
fn deep_nesting_and_endless_texts_are_refused() {
    let deep = format!("INSERT INTO t (a) VALUES ({}", "[".repeat(100_000));
    assert!(syntax_error(&deep).contains("deep"));
    let deep = format!("CREATE TABLE t (a {}", "frozen<".repeat(100_000));
    assert!(syntax_error(&deep).contains("deep"));
    let deep = format!("SELECT * FROM t WHERE {}", "(".repeat(100_000));
    assert!(syntax_error(&deep).contains("deep"));
    assert!(syntax_error(&"( ".repeat(300_000)).contains("tokens"));
}

mod arbitrary {
    use proptest::prelude::*;

    use super::parse;

    /// Texts of tokens that statements consist of, so that the parser accepts long prefixes.
    fn statement() -> impl Strategy<Value = String> {
        let tokens: &'static [&str] = &[
            "SELECT",
            "FROM",
            "WHERE",
            "INSERT",
            "INTO",
            "VALUES",
            "UPDATE",
            "SET",
            "DELETE",
            "BEGIN",
            "BATCH",
            "APPLY",
            "CREATE",
            "TABLE",
            "KEYSPACE",
            "PRIMARY",
            "KEY",
            "WITH",
            "AND",
            "IN",
            "IF",
            "NOT",
            "EXISTS",
            "USING",
            "TIMESTAMP",
            "TTL",
            "ORDER",
            "BY",
            "LIMIT",
            "ALTER",
            "DROP",
            "ADD",
            "token",
            "count",
            "writetime",
            "list",
            "set",
            "map",
            "frozen",
            "a",
            "b",
            "int",
            "text",
            "null",
            "true",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "<",
            ">",
            "=",
            ",",
            ".",
            ":",
            ";",
            "?",
            "*",
            "-",
            "+",
            "'x'",
            "\"q\"",
            "12",
            "-3",
            "1.5",
            "0xff",
            "1h",
            "$$t$$",
            "--c\n",
            "/*c*/",
            "'",
            "@",
            "µ",
            "P1Y",
        ];
        proptest::collection::vec(proptest::sample::select(tokens), 0..40).prop_map(|tokens| tokens.join(" "))
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_mixture_of_tokens_makes_the_parser_panic(text in statement()) {
            let _ = parse(&text);
        }
    }
}
