//! The process of Kafka's own state machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::*;
use proto_kafka::protocol::{Decodable, Encodable};

use simulated_kafka::group::Assignor;

use crate::clients::{folder, run};

const LONGEST: Duration = Duration::from_secs(300);

/// The version of ConsumerGroupHeartbeat and ConsumerGroupDescribe.
const VERSION: i16 = 1;

/// The version of DescribeGroups.
const DESCRIBE: i16 = 6;

pub struct Kafka {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
}

/// The folder of the compiled program and the jars it needs. They are fetched and compiled by the first who asks.
fn program() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = folder("kafka-coordinator-4.1.1");
        fs::write(folder.join("pom.xml"), include_str!("java/pom.xml")).expect("a file");
        let mark = folder.join("fetched");
        if !mark.exists() {
            let mut fetch = Command::new("mvn");
            fetch.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
            run(fetch.arg("-DoutputDirectory=lib").current_dir(&folder), LONGEST);
            fs::write(mark, "").expect("a file");
        }
        let source = folder.join("Groups.java");
        fs::write(&source, include_str!("java/Groups.java")).expect("a file");
        let mut compile = Command::new("javac");
        compile.args(["-d", "classes", "-cp", "lib/*"]).arg(&source);
        run(compile.current_dir(&folder), LONGEST);
        folder
    })
}

impl Kafka {
    /// Starts it. What it reports as errors goes to a file of this name, beside the program.
    pub fn start(errors: &str) -> Self {
        let folder = program();
        let mut process = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp", "lib/*:classes"])
            .arg("org.apache.kafka.coordinator.group.Groups")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join(errors)).expect("a file"))
            .spawn()
            .expect("Java starts");
        let commands = process.stdin.take().expect("a pipe");
        let responses = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, commands, responses }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").and_then(|()| self.commands.flush()).expect("it reads");
        loop {
            let mut response = String::new();
            let length = self.responses.read_line(&mut response).expect("it responds");
            assert!(length > 0, "it has ended after {command}; its errors are in the folder of its classes");
            // The JVM may warn on the same stream.
            if let Some(response) = response.strip_prefix("> ") {
                return response.trim().to_owned();
            }
        }
    }

    /// Begins with no groups, at time 0. A classic group has at most this many members, and this assignor is the default of
    /// the others.
    pub fn begin(&mut self, max_size: usize, assignor: Assignor) {
        assert_eq!(self.ask(&format!("new {max_size} {}", assignor.name())), "ok");
    }

    /// Lets time pass; whether nothing was due at the same time as something else, of which this is not determined.
    pub fn pass(&mut self, milliseconds: i64) -> bool {
        match self.ask(&format!("pass {milliseconds}")).as_str() {
            "ok" => true,
            "at once" => false,
            other => panic!("{other}"),
        }
    }

    /// The topics that there are from now on: their names, ids and numbers of partitions.
    pub fn topics(&mut self, topics: &[(&str, u128, i32)]) {
        let described = topics.iter().map(|(name, id, count)| format!(" {name}:{id}:{count}"));
        let command = format!("topics{}", described.collect::<String>());
        assert_eq!(self.ask(&command), "ok");
    }

    pub fn heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let response = self.ask(&format!("heartbeat {}", hex(request, VERSION)));
        read(&response, VERSION)
    }

    pub fn describe(&mut self, group: &str) -> ConsumerGroupDescribeResponse {
        let response = self.ask(&format!("describe {group}"));
        read(&response, VERSION)
    }

    /// Sends a JoinGroup request, which [`Kafka::answers`] answers.
    pub fn join(&mut self, token: u64, version: i16, client_id: &str, request: &JoinGroupRequest) {
        let command = format!("join {token} {version} {client_id} {}", hex(request, version));
        assert_eq!(self.ask(&command), "ok");
    }

    /// The number in the id that was drawn last.
    pub fn last_id(&mut self) -> u64 {
        self.ask("last-id").parse().expect("a number")
    }

    /// Sends a SyncGroup request, which [`Kafka::answers`] answers.
    pub fn sync(&mut self, token: u64, version: i16, request: &SyncGroupRequest) {
        assert_eq!(self.ask(&format!("sync {token} {version} {}", hex(request, version))), "ok");
    }

    /// The responses to JoinGroup and SyncGroup since the last call, by their tokens.
    pub fn answers(&mut self) -> BTreeMap<u64, Bytes> {
        let answers = self.ask("answers");
        let answer = |answer: &str| {
            let (token, response) = answer.split_once(':').expect("a token and a response");
            (token.parse().expect("a token"), unhex(response))
        };
        answers.split_whitespace().map(answer).collect()
    }

    pub fn classic_heartbeat(&mut self, version: i16, request: &HeartbeatRequest) -> HeartbeatResponse {
        let response = self.ask(&format!("beat {version} {}", hex(request, version)));
        read(&response, version)
    }

    pub fn leave(&mut self, version: i16, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let response = self.ask(&format!("leave {version} {}", hex(request, version)));
        read(&response, version)
    }

    pub fn describe_classic(&mut self, group: &str) -> DescribeGroupsResponse {
        let response = self.ask(&format!("describe-classic {group}"));
        read(&response, DESCRIBE)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hex(message: &impl Encodable, version: i16) -> String {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).expect("a request");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read<T: Decodable>(text: &str, version: i16) -> T {
    T::decode(&mut unhex(text), version).expect("a response")
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.bytes().map(|digit| (digit as char).to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
