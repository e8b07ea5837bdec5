//! Random literals of every native type, random bytes for markers, and cut frames: a real node and the simulation take
//! and refuse the same, and store the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use simulated_cassandra::protocol::Writer;

use crate::cluster::Cluster;
use crate::draw::Draw;
use crate::nodes::Nodes;
use crate::raw::{Body, Client, Parameters};
use crate::setting;

const NATIVE: [&str; 19] = [
    "ascii",
    "bigint",
    "blob",
    "boolean",
    "date",
    "decimal",
    "double",
    "duration",
    "float",
    "inet",
    "int",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timeuuid",
    "tinyint",
    "uuid",
    "varint",
];

/// Types that bytes are bound to, besides the native ones.
const COLLECTIONS: [&str; 7] = [
    "frozen<list<int>>",
    "frozen<list<text>>",
    "frozen<set<int>>",
    "frozen<set<decimal>>",
    "frozen<map<int,text>>",
    "frozen<map<text,duration>>",
    "frozen<list<frozen<list<tinyint>>>>",
];

const KEYSPACE: &str = "differential_values";

/// The input of both clusters.
#[derive(Debug)]
enum Given {
    Literal(&'static str, String),
    Bound(&'static str, Bytes),
    /// The opcode and the body of a message.
    Frame(u8, Bytes),
}

fn digits(draw: &mut Draw) -> String {
    let longest = *draw.pick(&[1, 2, 4, 10, 19, 25]);
    let count = 1 + draw.below(longest);
    (0..count).map(|_| char::from(b'0' + draw.below(10) as u8)).collect()
}

fn pick(draw: &mut Draw, all: &[&str]) -> String {
    (*draw.pick(all)).to_owned()
}

fn number(draw: &mut Draw) -> String {
    let sign = pick(draw, &["", "", "-", "+", "--"]);
    let whole = if draw.chance(30) {
        pick(
            draw,
            &[
                "127",
                "128",
                "32767",
                "32768",
                "2147483647",
                "2147483648",
                "9223372036854775807",
                "9223372036854775808",
            ],
        )
    } else {
        digits(draw)
    };
    let fraction = if draw.chance(30) { format!(".{}", digits(draw)) } else { pick(draw, &["", "", "."]) };
    let exponent = if draw.chance(30) {
        format!(
            "{}{}{}",
            pick(draw, &["e", "E"]),
            pick(draw, &["", "+", "-"]),
            pick(draw, &["0", "3", "39", "46", "308", "324", "400", "2147483648"])
        )
    } else {
        String::new()
    };
    format!("{sign}{whole}{fraction}{exponent}")
}

fn date(draw: &mut Draw) -> String {
    format!(
        "{}{}-{}-{}",
        pick(draw, &["", "", "", "-", "+"]),
        pick(draw, &["2016", "1970", "0001", "0000", "16", "9999", "10000", "12345", "5881580"]),
        pick(draw, &["1", "02", "2", "11", "12", "13", "00", "006"]),
        pick(draw, &["1", "07", "28", "29", "30", "31", "32", "00"]),
    )
}

fn clock(draw: &mut Draw) -> String {
    format!(
        "{}:{}{}",
        pick(draw, &["0", "7", "07", "23", "24", "25", "007", "+1", "-1"]),
        pick(draw, &["0", "00", "5", "59", "60"]),
        pick(
            draw,
            &[
                "",
                ":",
                ":00",
                ":5",
                ":59",
                ":60",
                ":1.5",
                ":1.000",
                ":1.999999999",
                ":1.9999999999",
                ":1.",
                ".5"
            ]
        )
    )
}

fn zone(draw: &mut Draw) -> String {
    pick(
        draw,
        &[
            "",
            "",
            "",
            "Z",
            " Z",
            "z",
            "+01",
            "+0130",
            "+01:30",
            " +01",
            " +0130",
            " +01:30",
            " -18:00",
            "+18:01",
            "+1",
            " UTC",
            " GMT",
            " UT",
            " UTC+01:00",
            " GMT+1",
            " GMT0",
            "  UTC",
        ],
    )
}

fn duration(draw: &mut Draw) -> String {
    let sign = pick(draw, &["", "", "-"]);
    if draw.chance(40) {
        let mut text = format!("{sign}P");
        let all = ["1Y", "2M", "3D", "T", "4H", "5M", "6S", "7W", "0001-02-03T04:05:06", "1"];
        for part in all {
            if draw.chance(25) {
                text.push_str(part);
            }
        }
        return text;
    }
    let mut text = sign;
    for _ in 0..=draw.below(4) {
        text.push_str(&pick(draw, &["0", "1", "12", "999", "2147483648", "99999999999999999999"]));
        text.push_str(&pick(
            draw,
            &["y", "mo", "w", "d", "h", "m", "s", "ms", "us", "µs", "ns", "M", "Y", "x"],
        ));
    }
    text
}

fn address(draw: &mut Draw) -> String {
    if draw.chance(50) {
        let parts = 1 + draw.below(5);
        let part =
            |draw: &mut Draw| pick(draw, &["0", "1", "01", "127", "255", "256", "65535", "16777216", ""]);
        return (0..parts).map(|_| part(draw)).collect::<Vec<_>>().join(".");
    }
    let parts = 1 + draw.below(9);
    let part = |draw: &mut Draw| pick(draw, &["0", "1", "ffff", "abcd", "12345", "", "1.2.3.4"]);
    (0..parts).map(|_| part(draw)).collect::<Vec<_>>().join(":")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A literal that may be one of this type.
fn meant_for(draw: &mut Draw, data_type: &str) -> String {
    match data_type {
        "date" => {
            let text = if draw.chance(20) { number(draw) } else { date(draw) };
            quoted(&text)
        }
        "time" => {
            let text = if draw.chance(20) { number(draw) } else { clock(draw) };
            quoted(&text)
        }
        "timestamp" => {
            let clock = if draw.chance(70) {
                format!("{}{}", pick(draw, &["T", " ", " ", "  "]), clock(draw))
            } else {
                String::new()
            };
            let text = format!("{}{clock}{}", date(draw), zone(draw));
            quoted(&text)
        }
        "inet" => quoted(&address(draw)),
        "duration" => duration(draw),
        "uuid" | "timeuuid" => {
            let version = pick(draw, &["1", "4", "1", "7"]);
            format!("d2177dd0-eaa2-{version}1de-a572-001b779c76e{}", pick(draw, &["3", "F", "", "g"]))
        }
        "blob" => {
            format!("{}{}", pick(draw, &["0x", "0X", "-0x"]), pick(draw, &["", "00", "CAFE", "abc", "0g"]))
        }
        "boolean" => pick(draw, &["true", "FALSE", "tru", "'true'", "1"]),
        "text" | "ascii" => quoted(&pick(draw, &["", "abc", "é", "\u{20ac}", "it's", "1"])),
        _ => number(draw),
    }
}

/// Something that is near to a value of a type.
fn literal(draw: &mut Draw, data_type: &'static str) -> String {
    let of = if draw.chance(85) { data_type } else { *draw.pick(&NATIVE) };
    let text = meant_for(draw, of);
    if !draw.chance(8) {
        return text;
    }
    let mut letters: Vec<char> = text.chars().collect();
    let at = draw.below(letters.len().max(1)).min(letters.len().saturating_sub(1));
    match draw.below(3) {
        0 if !letters.is_empty() => drop(letters.remove(at)),
        1 if !letters.is_empty() => letters.insert(at, letters[at]),
        _ => letters.insert(at, *draw.pick(&['0', '9', '-', '.', ':', ' ', 'T'])),
    }
    letters.into_iter().collect()
}

fn some_bytes(draw: &mut Draw) -> Vec<u8> {
    let length = *draw.pick(&[0, 1, 2, 3, 4, 4, 5, 8, 8, 9, 12, 16, 16, 17]);
    let byte = |draw: &mut Draw| *draw.pick(&[0u8, 1, 2, 3, 0x10, 0x61, 0x7f, 0x80, 0xc3, 0xa9, 0xff]);
    (0..length).map(|_| byte(draw)).collect()
}

fn bound(draw: &mut Draw, data_type: &str) -> Bytes {
    if !data_type.starts_with("frozen") || draw.chance(10) {
        return Bytes::from(some_bytes(draw));
    }
    let count = draw.below(4);
    let mut bytes = ((count as i32) + *draw.pick(&[0, 0, 0, 0, 0, 1, -1])).to_be_bytes().to_vec();
    let parts = if data_type.contains("map") { 2 * count } else { count };
    for _ in 0..parts {
        if draw.chance(5) {
            bytes.extend((-1i32).to_be_bytes());
            continue;
        }
        let element = if draw.chance(60) { vec![0, 0, 0, draw.below(3) as u8] } else { some_bytes(draw) };
        bytes.extend((element.len() as i32).to_be_bytes());
        bytes.extend(element);
    }
    Bytes::from(bytes)
}

/// A message that is cut somewhere, or has something after it.
fn frame(draw: &mut Draw) -> Given {
    let select = format!("SELECT v FROM {KEYSPACE}.t_int WHERE k = 5");
    let insert = format!("INSERT INTO {KEYSPACE}.t_int (k, v) VALUES (5, 5)");
    let mut body = Writer::new();
    let long = |body: &mut Writer, text: &str| {
        body.int(text.len() as i32);
        body.raw(text.as_bytes());
    };
    let opcode = *draw.pick(&[0x07, 0x07, 0x09, 0x0A, 0x0B, 0x0D]);
    match opcode {
        0x07 => long(&mut body, &select),
        0x09 => long(&mut body, &select),
        0x0A => body.short_bytes(b"0123456789abcdef"),
        0x0B => body.string_list(["STATUS_CHANGE", "SCHEMA_CHANGE"].into_iter()),
        _ => {
            body.byte(draw.below(2) as u8);
            body.short(1);
            body.byte(0);
            long(&mut body, &insert);
            body.short(0);
        }
    }
    if matches!(opcode, 0x07 | 0x0A | 0x0D) {
        body.short(*draw.pick(&[0, 1, 1, 1, 4, 99]));
        let flags = *draw.pick(&[0u8, 0, 0x02, 0x04, 0x10, 0x20, 0x24, 0x34]);
        body.byte(flags);
        if flags & 0x04 != 0 {
            body.int(*draw.pick(&[0, 1, -1, 100]));
        }
        if flags & 0x10 != 0 {
            body.short(*draw.pick(&[0, 1, 4, 8, 9, 99]));
        }
        if flags & 0x20 != 0 {
            body.long(*draw.pick(&[0, 5, -5, i64::MIN]));
        }
    }
    let mut body = body.finish().to_vec();
    match draw.below(3) {
        0 => body.truncate(draw.below(body.len() + 1)),
        1 => body.extend([1, 2, 3]),
        _ => {}
    }
    Given::Frame(opcode, Bytes::from(body))
}

fn given(draw: &mut Draw) -> Given {
    match draw.below(10) {
        0..6 => {
            let data_type = *draw.pick(&NATIVE);
            Given::Literal(data_type, literal(draw, data_type))
        }
        6..9 => {
            let collection = draw.chance(40);
            let data_type = if collection { *draw.pick(&COLLECTIONS) } else { *draw.pick(&NATIVE) };
            Given::Bound(data_type, bound(draw, data_type))
        }
        _ => frame(draw),
    }
}

fn table(data_type: &str) -> String {
    let name: String = data_type.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{KEYSPACE}.t_{name}")
}

/// A client of one of the two clusters, with its prepared statements.
struct ValueClient {
    client: Client,
    inserts: BTreeMap<&'static str, Bytes>,
}

impl ValueClient {
    async fn prepare(address: std::net::SocketAddr) -> ValueClient {
        let mut client = Client::connect(address).await;
        client.done(&format!("DROP KEYSPACE IF EXISTS {KEYSPACE}")).await;
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
        client.done(&format!("CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}")).await;
        let mut inserts = BTreeMap::new();
        for data_type in NATIVE.into_iter().chain(COLLECTIONS) {
            let table = table(data_type);
            client.done(&format!("CREATE TABLE {table} (k int PRIMARY KEY, v {data_type})")).await;
            let insert = format!("INSERT INTO {table} (k, v) VALUES (1, ?)");
            let Body::Prepared(id, _) = client.prepare(&insert).await else { panic!("{insert}") };
            inserts.insert(data_type, id);
        }
        ValueClient { client, inserts }
    }

    /// The response, or what is stored then.
    async fn run(&mut self, given: &Given) -> Body {
        let (data_type, body) = match given {
            Given::Literal(data_type, text) => {
                let insert = format!("INSERT INTO {} (k, v) VALUES (1, {text})", table(data_type));
                (data_type, self.client.query(&insert).await)
            }
            Given::Bound(data_type, bytes) => {
                let parameters = Parameters { values: vec![bytes.clone()], ..Parameters::default() };
                (data_type, self.client.execute(&self.inserts[data_type], &parameters).await)
            }
            Given::Frame(opcode, body) => return self.client.ask(*opcode, body).await.body,
        };
        match body {
            Body::Void => self.client.query(&format!("SELECT v FROM {} WHERE k = 1", table(data_type))).await,
            refused => refused,
        }
    }
}

/// As they are compared: of errors the code.
fn compared(body: &Body) -> Body {
    match body {
        Body::Error(code, _) => Body::Error(*code, String::new()),
        // Ids of prepared statements are hashes of their texts.
        other => other.clone(),
    }
}

/// `EXACTLYONCE_DIFFERENTIAL_SEED` and `EXACTLYONCE_DIFFERENTIAL_STATEMENTS` set what their names say.
#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 0 --cassandra 1"]
fn random_values_and_frames_are_taken_and_refused_alike_by_cassandra_and_the_simulation() {
    let seed = setting("EXACTLYONCE_DIFFERENTIAL_SEED", std::process::id().into());
    let statements = setting("EXACTLYONCE_DIFFERENTIAL_STATEMENTS", 5000) as usize;
    println!("EXACTLYONCE_DIFFERENTIAL_SEED={seed} EXACTLYONCE_DIFFERENTIAL_STATEMENTS={statements}");
    // Half as many, so that this takes no longer than the statements beside it.
    let planned = statements / 2;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let address = Cluster::running().addresses("CASSANDRA", 1).expect("a node of Cassandra").remove(0);
    let (mut stored, mut refused, mut left_out, mut frames) = (0, 0, 0, 0);
    let mut different = Vec::new();
    runtime.block_on(async {
        let mut real = ValueClient::prepare(address.parse().expect("an address")).await;
        let nodes = Nodes::start(1).await;
        let mut simulated = ValueClient::prepare(nodes.address()).await;
        for at in 0..planned {
            let given = given(&mut Draw::new(seed.wrapping_mul(1_000_003).wrapping_add(at as u64)));
            let (expected, found) = tokio::join!(real.run(&given), simulated.run(&given));
            match &found {
                Body::Error(_, text) if text.contains("not simulated") => {
                    left_out += 1;
                    continue;
                }
                Body::Error(..) => refused += 1,
                _ => stored += 1,
            }
            frames += usize::from(matches!(given, Given::Frame(..)));
            if compared(&expected) != compared(&found) {
                different.push(format!("{given:?}\n  Cassandra:  {expected:?}\n  simulation: {found:?}"));
            }
        }
    });
    println!(
        "{planned} values: {stored} stored, {refused} refused, {left_out} not simulated, {frames} of all are frames"
    );
    assert!(different.is_empty(), "seed {seed}: {} differ:\n{}", different.len(), different.join("\n"));
    // A test that compares nothing but refusals compares nothing.
    assert!(stored * 4 > planned && refused * 4 > planned, "too few are stored, or refused");
    assert!(left_out * 20 < planned, "too much is not simulated");
}
