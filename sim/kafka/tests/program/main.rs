//! The program and its commands, with a client that speaks the bare protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use proto_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use proto_kafka::messages::metadata_request::MetadataRequestTopic;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    BrokerId, CreateTopicsRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use simulated_kafka::protocol::builder::BatchBuilder;

/// The longest that anything may take.
const LONGEST: Duration = Duration::from_secs(60);

struct Program {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
    port: u16,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Program {
    fn start() -> Program {
        Program::start_with(&[])
    }

    /// With these settings.
    fn start_with(settings: &[&str]) -> Program {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let mut process = Command::new(env!("CARGO_BIN_EXE_simulated-kafka"))
            .args(["--port", "0", "--log", "off"])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let commands = process.stdin.take().expect("a pipe");
        let mut responses = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut first = String::new();
        responses.read_line(&mut first).expect("a line");
        let port = first.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Program { process, commands, responses, port }
    }

    fn command(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").and_then(|()| self.commands.flush()).expect("it reads");
        let mut response = String::new();
        self.responses.read_line(&mut response).expect("it responds");
        response.trim().to_owned()
    }

    fn done(&mut self, command: &str) {
        assert_eq!(self.command(command), "ok", "{command}");
    }

    /// Sends a request to a broker; none if it does not respond within a second.
    fn ask<R: Request>(&self, broker: i32, request: &R, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        let mut stream = TcpStream::connect((format!("127.0.0.{broker}"), self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(text("test")));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        stream.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat()).ok()?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut response).ok()?;
        let mut response = Bytes::from(response);
        ResponseHeader::decode(&mut response, R::Response::header_version(version)).unwrap();
        Some(R::Response::decode(&mut response, version).unwrap())
    }

    /// Creates a topic with one partition on these brokers.
    fn create(&self, name: &str, replicas: &[i32], configs: &[(&str, &str)]) {
        let assignment = CreatableReplicaAssignment::default()
            .with_broker_ids(replicas.iter().map(|id| BrokerId(*id)).collect());
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        assert_eq!(self.ask(1, &request, 7).unwrap().topics[0].error_code, 0);
        until("the topic", || self.leader(1, name) == replicas[0]);
    }

    /// The leader as a broker knows it; -1 without one.
    fn leader(&self, broker: i32, topic: &str) -> i32 {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response = self.ask(broker, &request, 12);
        let topic = response.and_then(|response| response.topics.into_iter().next());
        topic.and_then(|topic| Some(topic.partitions.first()?.leader_id.0)).unwrap_or(-1)
    }

    /// The in-sync set as a broker knows it, in ascending order.
    fn in_sync(&self, broker: i32, topic: &str) -> Vec<i32> {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response = self.ask(broker, &request, 12).unwrap();
        let mut ids: Vec<_> = response.topics[0].partitions[0].isr_nodes.iter().map(|node| node.0).collect();
        ids.sort();
        ids
    }

    /// Produces a record with a key; its offset.
    fn produce(&self, broker: i32, topic: &str, batch: BatchBuilder) -> Option<i64> {
        let batch = batch.record(now(), Some(b"key"), Some(b"value")).build();
        let data = PartitionProduceData::default().with_records(Some(batch.bytes().clone()));
        let topic =
            TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(800).with_topic_data(vec![topic]);
        let response = self.ask(broker, &request, 9)?;
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code == 0).then_some(partition.base_offset)
    }

    /// The first offset (-2) or the end (-1).
    fn offset(&self, broker: i32, topic: &str, which: i64) -> Option<i64> {
        let partition = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(which);
        let topic =
            ListOffsetsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response = self.ask(broker, &request, 7)?;
        let partition = &response.topics[0].partitions[0];
        (partition.error_code == 0).then_some(partition.offset)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, if all succeeded.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn now() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONGEST, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn batch() -> BatchBuilder {
    BatchBuilder::new(now())
}

#[test]
fn brokers_are_killed_stopped_started_and_lose_what_was_not_synced() {
    let mut program = Program::start();
    program.create("t", &[1], &[]);
    assert_eq!(program.produce(1, "t", batch()), Some(0));
    program.done("kill 1");
    assert_eq!(program.command("status"), "ok: running 2 3");
    assert_eq!(program.offset(1, "t", -1), None);
    program.done("start 1");
    assert_eq!(program.command("status"), "ok: running 1 2 3");
    until("its records", || program.offset(1, "t", -1) == Some(1));
    program.done("power-loss 1");
    program.done("start 1");
    until("its loss", || program.offset(1, "t", -1) == Some(0));
    program.produce(1, "t", batch());
    program.done("stop 1");
    program.done("start 1");
    until("its records", || program.offset(1, "t", -1) == Some(1));
    program.done("kill 1");
    program.done("wipe 1");
    program.done("start 1");
    until("an empty disk", || program.offset(1, "t", -1) == Some(0));
}

#[test]
fn a_paused_broker_does_not_respond_until_it_is_resumed() {
    let mut program = Program::start();
    program.create("t", &[1], &[]);
    program.done("pause 1");
    assert_eq!(program.offset(1, "t", -1), None);
    program.done("resume 1");
    until("its response", || program.offset(1, "t", -1) == Some(0));
}

#[test]
fn a_cut_link_holds_the_high_watermark_until_links_are_restored() {
    let mut program = Program::start();
    program.create("t", &[1, 2], &[]);
    assert_eq!(program.produce(1, "t", batch()), Some(0));
    program.done("cut 1 2");
    assert_eq!(program.produce(1, "t", batch()), None);
    program.done("restore-links");
    until("the record", || program.offset(1, "t", -1) == Some(2));
}

#[test]
fn a_leader_is_moved_and_a_broker_whose_metadata_lag_does_not_know() {
    let mut program = Program::start();
    program.create("t", &[1, 2, 3], &[]);
    program.done("lag 3 4000");
    program.done("fail-reads 3 on");
    program.done("fail-reads 3 off");
    program.done("move t 0 2");
    until("the new leader", || program.leader(1, "t") == 2);
    assert_eq!(program.leader(3, "t"), 1);
    until("the new leader on the third broker", || program.leader(3, "t") == 2);
    let refused = program.command("move t 0 9");
    assert_eq!(refused, "error: broker 9 cannot lead partition 0 of t: it must be in sync and alive");
}

#[test]
fn retention_and_compaction_are_applied_when_asked_for() {
    // Neither comes by itself during the test.
    let settings = ["log.retention.check.interval.ms=3600000", "log.cleaner.backoff.ms=3600000"];
    let mut program = Program::start_with(&settings);
    // Of two segments the first is one too many, and of one none is.
    program.create("old", &[1], &[("retention.bytes", "1")]);
    program.create("keys", &[1], &[("cleanup.policy", "compact")]);
    for topic in ["old", "keys"] {
        assert_eq!(program.produce(1, topic, batch()), Some(0));
        program.done(&format!("roll {topic}"));
        assert_eq!(program.produce(1, topic, batch()), Some(1));
    }
    program.done("retain");
    until("retention", || program.offset(1, "old", -2) == Some(1));
    // The first record by its time.
    assert_eq!(program.offset(1, "keys", 0), Some(0));
    program.done("compact keys");
    assert_eq!(program.offset(1, "keys", 0), Some(1));
}

#[test]
fn a_follower_that_is_dropped_from_the_in_sync_set_returns_when_it_fetches() {
    let mut program = Program::start();
    program.create("t", &[1, 2], &[]);
    assert_eq!(program.in_sync(1, "t"), [1, 2]);
    // Its fetches do not arrive, so that it does not return.
    program.done("cut 2 1");
    program.done("shrink t 0 2");
    until("the shrink", || program.in_sync(1, "t") == [1]);
    let refused = "cannot be dropped from the in-sync set of partition 0 of t: it must be in it, and another broker lead";
    for broker in [1, 2, 3] {
        let refused = format!("error: broker {broker} {refused}");
        assert_eq!(program.command(&format!("shrink t 0 {broker}")), refused);
    }
    program.done("restore-links");
    until("its return", || program.in_sync(1, "t") == [1, 2]);
}

#[test]
fn an_expired_producer_may_send_the_same_again() {
    let mut program = Program::start();
    program.create("t", &[1], &[]);
    let sent = || batch().producer(7, 0, 0);
    assert_eq!((program.produce(1, "t", sent()), program.produce(1, "t", sent())), (Some(0), Some(0)));
    program.done("expire t 7");
    assert_eq!(program.produce(1, "t", sent()), Some(1));
}

#[test]
fn a_command_that_cannot_be_carried_out_is_an_error_and_the_next_one_is_read() {
    let mut program = Program::start();
    for (command, expected) in [
        ("kill 9", "error: no broker 9"),
        ("kill one", "error: 'one' is not a number that is allowed here"),
        ("kill", "error: kill requires: BROKER"),
        ("status 1", "error: status has no arguments"),
        ("start 1", "error: broker 1 runs already"),
        ("wipe 1", "error: broker 1 runs already"),
        ("cut 1", "error: cut requires: FROM TO"),
        ("cut 1 4", "error: no broker 4"),
        ("lag 0 5", "error: no broker 0"),
        ("fail-reads 4 on", "error: no broker 4"),
        ("fail-reads 1 yes", "error: 'yes' is neither 'on' nor 'off'"),
        ("roll none", "error: there is no topic 'none'"),
        ("compact none", "error: there is no topic 'none'"),
        ("expire none 1", "error: there is no topic 'none'"),
    ] {
        assert_eq!(program.command(command), expected, "{command}");
    }
    assert!(program.command("reboot 1").starts_with("error: unknown command 'reboot'"));
    program.done("exit");
    assert!(program.process.wait().unwrap().success());
}
