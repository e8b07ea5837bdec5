//! Tables, and the few values that each type has here, so that statements meet in the same rows.

use scylla::value::{
    CqlDate, CqlDecimal, CqlDuration, CqlTime, CqlTimestamp, CqlTimeuuid, CqlValue, CqlVarint,
};
use uuid::Uuid;

use crate::draw::Draw;

/// A type of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Native(&'static str),
    List(&'static str),
    Set(&'static str),
    Map(&'static str, &'static str),
}

/// Types that a key may have.
const OF_KEYS: [&str; 18] = [
    "int",
    "text",
    "bigint",
    "timestamp",
    "uuid",
    "timeuuid",
    "boolean",
    "blob",
    "ascii",
    "date",
    "time",
    "smallint",
    "tinyint",
    "varint",
    "decimal",
    "double",
    "float",
    "inet",
];

/// One of the values of a type, as it is written and as it is bound.
pub type Value = (String, CqlValue);

impl Type {
    pub fn written(&self) -> String {
        match self {
            Type::Native(name) => (*name).to_owned(),
            Type::List(element) => format!("frozen<list<{element}>>"),
            Type::Set(element) => format!("frozen<set<{element}>>"),
            Type::Map(key, value) => format!("frozen<map<{key}, {value}>>"),
        }
    }

    /// Its values.
    pub fn values(&self) -> Vec<Value> {
        match self {
            Type::Native(name) => native(name),
            Type::List(element) => several(element, "[", "]", CqlValue::List),
            Type::Set(element) => several(element, "{", "}", CqlValue::Set),
            Type::Map(key, value) => {
                let (keys, values) = (native(key), native(value));
                let entry = |at: usize| {
                    let (key, value) = (&keys[at % keys.len()], &values[(at + 1) % values.len()]);
                    (format!("{}: {}", key.0, value.0), (key.1.clone(), value.1.clone()))
                };
                let map = |all: &[usize]| {
                    let (texts, bound): (Vec<_>, Vec<_>) = all.iter().map(|at| entry(*at)).unzip();
                    (format!("{{{}}}", texts.join(", ")), CqlValue::Map(bound))
                };
                vec![map(&[]), map(&[0]), map(&[0, 1])]
            }
        }
    }
}

/// The empty collection, one with an element, one with two.
fn several(element: &str, open: &str, close: &str, bound: fn(Vec<CqlValue>) -> CqlValue) -> Vec<Value> {
    let values = native(element);
    let some = |count: usize| {
        let (texts, all): (Vec<_>, Vec<_>) = values.iter().take(count).cloned().unzip();
        (format!("{open}{}{close}", texts.join(", ")), bound(all))
    };
    vec![some(0), some(1), some(2)]
}

fn native(name: &str) -> Vec<Value> {
    fn all<T: Copy>(values: &[T], written: fn(T) -> String, bound: fn(T) -> CqlValue) -> Vec<Value> {
        values.iter().map(|value| (written(*value), bound(*value))).collect()
    }
    let quoted = |value: &str| format!("'{value}'");
    match name {
        "int" => all(&[0, 1, 2, 3, -1], |it| it.to_string(), CqlValue::Int),
        "bigint" => all(&[0, 1, i64::MIN, i64::MAX, 7], |it| it.to_string(), CqlValue::BigInt),
        "smallint" => all(&[0, 1, i16::MIN, 300], |it| it.to_string(), CqlValue::SmallInt),
        "tinyint" => all(&[0, 1, -1, 127], |it| it.to_string(), CqlValue::TinyInt),
        "boolean" => all(&[true, false], |it| it.to_string(), CqlValue::Boolean),
        "double" => all(&[0.0, -0.0, 1.5, -2.25, 1e300], |it| format!("{it:?}"), CqlValue::Double),
        "float" => all(&[0.0, -0.0, 1.5, -2.25], |it| format!("{it:?}"), CqlValue::Float),
        "text" => ["", "x", "y", "zz", "ü"]
            .iter()
            .map(|it| (quoted(it), CqlValue::Text((*it).to_owned())))
            .collect(),
        "ascii" => {
            ["", "x", "Y", "zz"].iter().map(|it| (quoted(it), CqlValue::Ascii((*it).to_owned()))).collect()
        }
        "blob" => [("0x", vec![]), ("0x00", vec![0]), ("0xff01", vec![255, 1]), ("0x7f", vec![127])]
            .map(|(text, bytes)| (text.to_owned(), CqlValue::Blob(bytes)))
            .to_vec(),
        "timestamp" => all(
            &[0, -1, 1_700_000_000_123, 1_700_000_000_124],
            |it| it.to_string(),
            |it| CqlValue::Timestamp(CqlTimestamp(it)),
        ),
        "date" => {
            [("1970-01-01", 1 << 31), ("1969-12-31", (1 << 31) - 1), ("2024-02-29", (1 << 31) + 19_782)]
                .map(|(text, days)| (quoted(text), CqlValue::Date(CqlDate(days))))
                .to_vec()
        }
        "time" => {
            [("00:00:00", 0), ("08:12:54.123456789", 29_574_123_456_789), ("23:59:59", 86_399_000_000_000)]
                .map(|(text, nanos)| (quoted(text), CqlValue::Time(CqlTime(nanos))))
                .to_vec()
        }
        "uuid" => [
            "00000000-0000-0000-0000-000000000000",
            "8e14096c-e6ad-11f1-9e14-6913cbf8cd1d",
            "12345678-1234-4678-9234-567812345678",
            "f2345678-1234-4678-9234-567812345678",
        ]
        .map(|text| (text.to_owned(), CqlValue::Uuid(Uuid::parse_str(text).expect("a uuid"))))
        .to_vec(),
        // One moment with two nodes, and an earlier moment with larger first bytes.
        "timeuuid" => [
            "8e14096c-e6ad-11f1-9e14-6913cbf8cd1d",
            "8e14096c-e6ad-11f1-8e14-6913cbf8cd1d",
            "fe14096c-e6ad-11f0-9e14-6913cbf8cd1d",
        ]
        .map(|text| {
            let bytes = *Uuid::parse_str(text).expect("a uuid").as_bytes();
            (text.to_owned(), CqlValue::Timeuuid(CqlTimeuuid::from_bytes(bytes)))
        })
        .to_vec(),
        "varint" => [
            ("0", vec![0]),
            ("-1", vec![0xff]),
            ("128", vec![0, 0x80]),
            ("-36893488147419103232", vec![0xfe, 0, 0, 0, 0, 0, 0, 0, 0]),
        ]
        .map(|(text, bytes)| (text.to_owned(), CqlValue::Varint(CqlVarint::from_signed_bytes_be(bytes))))
        .to_vec(),
        // 1.5 and 1.50 are equal and not the same.
        "decimal" => {
            [("0", vec![0], 0), ("1.5", vec![15], 1), ("1.50", vec![0, 150], 2), ("-3e10", vec![0xfd], -10)]
                .map(|(text, bytes, scale)| {
                    let decimal = CqlDecimal::from_signed_be_bytes_and_exponent(bytes, scale);
                    (text.to_owned(), CqlValue::Decimal(decimal))
                })
                .to_vec()
        }
        "inet" => ["127.0.0.1", "10.0.0.200", "::1", "2001:db8::1"]
            .map(|text| (quoted(text), CqlValue::Inet(text.parse().expect("an address"))))
            .to_vec(),
        "duration" => [("1mo2d3s", 1, 2, 3_000_000_000), ("-1h", 0, 0, -3_600_000_000_000)]
            .map(|(text, months, days, nanoseconds)| {
                (text.to_owned(), CqlValue::Duration(CqlDuration { months, days, nanoseconds }))
            })
            .to_vec(),
        other => panic!("no values of type {other}"),
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub of: Type,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub partition: Vec<Column>,
    /// With whether the order is descending.
    pub clustering: Vec<(Column, bool)>,
    pub statics: Vec<Column>,
    pub regulars: Vec<Column>,
}

fn columns(letter: char, types: &[Type]) -> Vec<Column> {
    types
        .iter()
        .enumerate()
        .map(|(at, of)| Column { name: format!("{letter}{at}"), of: of.clone() })
        .collect()
}

impl Table {
    fn new(
        name: &str,
        partition: &[Type],
        clustering: &[(Type, bool)],
        statics: &[Type],
        regulars: &[Type],
    ) -> Table {
        let types: Vec<Type> = clustering.iter().map(|(of, _)| of.clone()).collect();
        let clustering =
            columns('c', &types).into_iter().zip(clustering.iter().map(|(_, down)| *down)).collect();
        Table {
            name: name.to_owned(),
            partition: columns('p', partition),
            clustering,
            statics: columns('s', statics),
            regulars: columns('r', regulars),
        }
    }

    /// CREATE TABLE
    pub fn definition(&self, keyspace: &str) -> String {
        let of = |columns: &[Column], tail: &str| -> String {
            columns.iter().map(|it| format!("{} {}{tail}, ", it.name, it.of.written())).collect()
        };
        let clustering: Vec<Column> = self.clustering.iter().map(|(column, _)| column.clone()).collect();
        let names =
            |columns: &[Column]| columns.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(", ");
        let mut key = format!("({})", names(&self.partition));
        let mut order = String::new();
        if !clustering.is_empty() {
            key = format!("{key}, {}", names(&clustering));
            let orders = self
                .clustering
                .iter()
                .map(|(column, down)| format!("{} {}", column.name, if *down { "DESC" } else { "ASC" }));
            order = format!(" WITH CLUSTERING ORDER BY ({})", orders.collect::<Vec<_>>().join(", "));
        }
        format!(
            "CREATE TABLE {keyspace}.{} ({}{}{}{}PRIMARY KEY ({key})){order}",
            self.name,
            of(&self.partition, ""),
            of(&clustering, ""),
            of(&self.statics, " static"),
            of(&self.regulars, ""),
        )
    }

    /// All columns.
    pub fn columns(&self) -> Vec<&Column> {
        let clustering = self.clustering.iter().map(|(column, _)| column);
        self.partition.iter().chain(clustering).chain(&self.statics).chain(&self.regulars).collect()
    }
}

fn of_keys(draw: &mut Draw) -> &'static str {
    OF_KEYS[draw.below(OF_KEYS.len())]
}

/// A few tables that are always there, and `count` that are drawn.
pub fn tables(draw: &mut Draw, count: usize) -> Vec<Table> {
    let n = Type::Native;
    let mut all = vec![
        Table::new(
            "mixed",
            &[n("int")],
            &[(n("int"), true), (n("text"), false)],
            &[n("int")],
            &[n("text"), n("int"), Type::Map("int", "text")],
        ),
        Table::new("flat", &[n("int"), n("text")], &[], &[], &[n("int"), n("blob"), Type::Set("int")]),
        Table::new(
            "deep",
            &[n("int")],
            &[(n("int"), false), (n("int"), true), (n("int"), false)],
            &[],
            &[n("int"), n("text")],
        ),
    ];
    for at in 0..count {
        let key = |draw: &mut Draw| n(of_keys(draw));
        let value = |draw: &mut Draw| match draw.below(8) {
            0 => Type::List(of_keys(draw)),
            1 => Type::Set(of_keys(draw)),
            2 => Type::Map(of_keys(draw), of_keys(draw)),
            3 => n("duration"),
            _ => n(of_keys(draw)),
        };
        let partition: Vec<_> = (0..=draw.below(2)).map(|_| key(draw)).collect();
        let clustering: Vec<_> = (0..=draw.below(3)).map(|_| (key(draw), draw.chance(50))).collect();
        let statics: Vec<_> = (0..draw.below(2)).map(|_| value(draw)).collect();
        let regulars: Vec<_> = (0..=draw.below(4)).map(|_| value(draw)).collect();
        all.push(Table::new(&format!("drawn{at}"), &partition, &clustering, &statics, &regulars));
    }
    all
}
