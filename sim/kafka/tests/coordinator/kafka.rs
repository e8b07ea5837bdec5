//! The process of Kafka's own state machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::{
    ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use proto_kafka::protocol::{Decodable, Encodable};

use crate::clients::{folder, run};

const LONGEST: Duration = Duration::from_secs(300);

/// The version of both requests.
const VERSION: i16 = 1;

pub struct Kafka {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
}

impl Kafka {
    /// Starts it, after it has been fetched and compiled.
    pub fn start() -> Self {
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
        let mut process = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp", "lib/*:classes"])
            .arg("org.apache.kafka.coordinator.group.Groups")
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("errors")).expect("a file"))
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
            let response = response.trim();
            // The JVM may warn on the same stream.
            if response == "ok"
                || (!response.is_empty() && response.bytes().all(|byte| byte.is_ascii_hexdigit()))
            {
                return response.to_owned();
            }
        }
    }

    /// Begins with no groups, at time 0.
    pub fn begin(&mut self) {
        assert_eq!(self.ask("new"), "ok");
    }

    pub fn pass(&mut self, milliseconds: i64) {
        assert_eq!(self.ask(&format!("pass {milliseconds}")), "ok");
    }

    /// The topics that there are from now on: their names, ids and numbers of partitions.
    pub fn topics(&mut self, topics: &[(&str, u128, i32)]) {
        let described = topics.iter().map(|(name, id, count)| format!(" {name}:{id}:{count}"));
        let command = format!("topics{}", described.collect::<String>());
        assert_eq!(self.ask(&command), "ok");
    }

    pub fn heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, VERSION).expect("a request");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let response = self.ask(&format!("heartbeat {hex}"));
        ConsumerGroupHeartbeatResponse::decode(&mut unhex(&response), VERSION).expect("a response")
    }

    pub fn describe(&mut self, group: &str) -> ConsumerGroupDescribeResponse {
        let response = self.ask(&format!("describe {group}"));
        ConsumerGroupDescribeResponse::decode(&mut unhex(&response), VERSION).expect("a response")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.bytes().map(|digit| (digit as char).to_digit(16).expect("a digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
