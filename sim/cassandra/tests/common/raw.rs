//! A client without a driver, for what drivers do not show: frames, warnings, bytes.

// Each program calls what it needs.
#![allow(dead_code)]

use std::net::SocketAddr;

use bytes::Bytes;
use simulated_cassandra::coordinator::Consistency;
use simulated_cassandra::protocol::{Reader, Writer, consistency_code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct Client(TcpStream);

/// A response.
#[derive(Debug)]
pub struct RawResponse {
    pub stream: i16,
    pub warnings: Vec<String>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Its code and its text.
    Error(i32, String),
    Void,
    /// Names of columns, rows, and where the next page begins.
    Rows(Vec<String>, Vec<Vec<Option<Bytes>>>, Option<Bytes>),
    /// The id, and which markers make up the partition key.
    Prepared(Bytes, Vec<u16>),
    /// The result of a statement that is none of these.
    Done,
    /// Another message, by its opcode.
    Other(u8),
}

/// What goes with a statement.
#[derive(Clone)]
pub struct Parameters {
    pub consistency: Consistency,
    pub values: Vec<Bytes>,
    pub page: Option<i32>,
    pub state: Option<Bytes>,
    pub serial: Option<Consistency>,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            consistency: Consistency::One,
            values: Vec::new(),
            page: None,
            state: None,
            serial: None,
        }
    }
}

impl Parameters {
    fn encode(&self, out: &mut Writer) {
        out.consistency(self.consistency);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.byte(
            flag(!self.values.is_empty(), 0x01)
                | flag(self.page.is_some(), 0x04)
                | flag(self.state.is_some(), 0x08)
                | flag(self.serial.is_some(), 0x10),
        );
        if !self.values.is_empty() {
            out.short(self.values.len() as u16);
            self.values.iter().for_each(|value| out.bytes(Some(value)));
        }
        if let Some(page) = self.page {
            out.int(page);
        }
        if let Some(state) = &self.state {
            out.bytes(Some(state));
        }
        if let Some(serial) = self.serial {
            out.short(consistency_code(serial));
        }
    }
}

impl Client {
    /// A connection with nothing said.
    pub async fn silent(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket");
        Client(stream)
    }

    /// A connection of version 4, opened.
    pub async fn connect(address: SocketAddr) -> Client {
        let mut client = Client::silent(address).await;
        let mut body = Writer::new();
        body.short(1);
        body.string("CQL_VERSION");
        body.string("3.0.0");
        assert_eq!(client.ask(0x01, &body.finish()).await.body, Body::Other(0x02), "READY");
        client
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("it reads");
    }

    /// Reads so many bytes.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.expect("it responds");
        bytes
    }

    /// Sends a message of version 4 on stream 7 and reads the response.
    pub async fn ask(&mut self, opcode: u8, body: &[u8]) -> RawResponse {
        let mut frame = vec![4, 0, 0, 7, opcode];
        frame.extend((body.len() as i32).to_be_bytes());
        frame.extend(body);
        self.send(&frame).await;
        self.response().await
    }

    /// Reads a response of version 4.
    pub async fn response(&mut self) -> RawResponse {
        let head = self.read(9).await;
        assert_eq!(head[0], 0x84, "a response of version 4");
        let length = i32::from_be_bytes(head[5..9].try_into().unwrap()) as usize;
        let mut reader = Reader::new(Bytes::from(self.read(length).await));
        let warnings = if head[1] & 0x08 != 0 { reader.string_list("warnings").unwrap() } else { Vec::new() };
        let body = match head[4] {
            0x00 => Body::Error(reader.int("code").unwrap(), reader.string("text").unwrap()),
            0x08 => result(&mut reader),
            other => Body::Other(other),
        };
        RawResponse { stream: i16::from_be_bytes([head[2], head[3]]), warnings, body }
    }

    /// Executes a statement as text.
    pub async fn query_with(&mut self, text: &str, parameters: &Parameters) -> RawResponse {
        let mut body = Writer::new();
        body.int(text.len() as i32);
        body.raw(text.as_bytes());
        parameters.encode(&mut body);
        self.ask(0x07, &body.finish()).await
    }

    /// Executes a statement as text, at ONE and unpaged.
    pub async fn query(&mut self, text: &str) -> Body {
        self.query_with(text, &Parameters::default()).await.body
    }

    /// Executes a statement that must succeed.
    pub async fn done(&mut self, text: &str) {
        let body = self.query(text).await;
        assert!(!matches!(body, Body::Error(..)), "{text}: {body:?}");
    }

    /// Prepares a statement.
    pub async fn prepare(&mut self, text: &str) -> Body {
        let mut body = Writer::new();
        body.int(text.len() as i32);
        body.raw(text.as_bytes());
        self.ask(0x09, &body.finish()).await.body
    }

    /// Executes a prepared statement.
    pub async fn execute(&mut self, id: &Bytes, parameters: &Parameters) -> Body {
        let mut body = Writer::new();
        body.short_bytes(id);
        parameters.encode(&mut body);
        self.ask(0x0A, &body.finish()).await.body
    }

    /// Executes a batch of statements as text: of a kind, and at levels.
    pub async fn batch(&mut self, kind: u8, texts: &[String], serial: Option<Consistency>) -> RawResponse {
        let mut body = Writer::new();
        body.byte(kind);
        body.short(texts.len() as u16);
        for text in texts {
            body.byte(0);
            body.int(text.len() as i32);
            body.raw(text.as_bytes());
            body.short(0);
        }
        Parameters { serial, ..Parameters::default() }.encode(&mut body);
        self.ask(0x0D, &body.finish()).await
    }
}

fn result(reader: &mut Reader) -> Body {
    match reader.int("kind").unwrap() {
        1 => Body::Void,
        2 => {
            let (columns, state) = metadata(reader);
            let count = reader.int("rows").unwrap();
            let rows = (0..count)
                .map(|_| columns.iter().map(|_| reader.bytes("value").unwrap()).collect())
                .collect();
            Body::Rows(columns, rows, state)
        }
        4 => {
            let id = reader.short_bytes("id").unwrap();
            let flags = reader.int("flags").unwrap();
            let _markers = reader.int("markers").unwrap();
            let count = reader.int("key columns").unwrap();
            assert!(flags & !1 == 0, "{flags}");
            Body::Prepared(id, (0..count).map(|_| reader.short("place").unwrap()).collect())
        }
        _ => Body::Done,
    }
}

fn metadata(reader: &mut Reader) -> (Vec<String>, Option<Bytes>) {
    let flags = reader.int("flags").unwrap();
    let count = reader.int("columns").unwrap();
    let state = if flags & 0x02 != 0 { reader.bytes("state").unwrap() } else { None };
    if flags & 0x04 != 0 {
        // The client said that it knows them.
        return (vec![String::new(); count as usize], state);
    }
    if flags & 0x01 != 0 {
        reader.string("keyspace").unwrap();
        reader.string("table").unwrap();
    }
    let columns = (0..count).map(|_| {
        if flags & 0x01 == 0 {
            reader.string("keyspace").unwrap();
            reader.string("table").unwrap();
        }
        let name = reader.string("name").unwrap();
        skip_type(reader);
        name
    });
    (columns.collect(), state)
}

fn skip_type(reader: &mut Reader) {
    match reader.short("type").unwrap() {
        0x00 => drop(reader.string("class").unwrap()),
        0x20 | 0x22 => skip_type(reader),
        0x21 => {
            skip_type(reader);
            skip_type(reader);
        }
        0x31 => (0..reader.short("components").unwrap()).for_each(|_| skip_type(reader)),
        _ => {}
    }
}
