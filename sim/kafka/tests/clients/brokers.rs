//! The brokers that clients talk to: three simulated ones, or with `EXACTLYONCE_CLIENTS_ON=real` the three real ones that
//! `docker/local/cluster` runs, so that both have the same tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proto_kafka::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use proto_kafka::messages::elect_leaders_request::TopicPartitions;
use proto_kafka::messages::*;
use proto_kafka::protocol::{Decodable, Encodable, Request, StrBytes};
use simulated_kafka::cluster::{HostFault, Recovery};

use super::clients::Served;
use super::cluster::Cluster;

/// What chooses the brokers.
const ON: &str = "EXACTLYONCE_CLIENTS_ON";

/// How long the real brokers may take to forget topics, or to respond.
const LONGEST: Duration = Duration::from_secs(60);

/// An election that is not needed, because the broker leads already.
const ELECTION_NOT_NEEDED: i16 = 84;

/// Three brokers, whose topics have four partitions and are created when clients ask for them.
pub struct Brokers {
    host: Host,
    /// Of the first one.
    pub address: String,
}

enum Host {
    Simulated(Served),
    Real(Cluster),
}

impl Brokers {
    /// Starts simulated ones with these arguments, or finds the real ones, and deletes their topics.
    pub fn start(arguments: &[&str]) -> Self {
        match std::env::var(ON).as_deref() {
            Ok("real") => Self::real(),
            Ok(other) if other != "simulated" => panic!("{ON} is real or simulated, not {other}"),
            _ => {
                let mut program = Command::new(env!("CARGO_BIN_EXE_simulated-kafka"));
                program.args(["--port", "0", "--set", "num.partitions=4"]).args(arguments);
                let served = Served::start(program.env_remove("SIMULATED_KAFKA_LOG"));
                Self { address: served.address.clone(), host: Host::Simulated(served) }
            }
        }
    }

    fn real() -> Self {
        let cluster = Cluster::running();
        let address = cluster.addresses("KAFKA", 3).expect("three brokers").swap_remove(0);
        let begin = Instant::now();
        loop {
            let known = exchange(&address, &MetadataRequest::default().with_topics(None), 12);
            let names: Vec<TopicName> = known.topics.into_iter().filter_map(|topic| topic.name).collect();
            let ours: Vec<TopicName> = names.into_iter().filter(|name| !name.starts_with("__")).collect();
            if ours.is_empty() {
                return Self { host: Host::Real(cluster), address };
            }
            assert!(begin.elapsed() < LONGEST, "{ours:?} are not deleted");
            exchange(
                &address,
                &DeleteTopicsRequest::default().with_topic_names(ours).with_timeout_ms(10_000),
                5,
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Carries out a command of the program `simulated-kafka` and returns its response. Real brokers know `kill`, `start` and
    /// `move`.
    pub fn ask(&mut self, command: &str) -> String {
        let cluster = match &mut self.host {
            Host::Simulated(served) => return served.ask(command),
            Host::Real(cluster) => cluster,
        };
        let node = |number: &str| format!("kafka-{number}");
        let done = match command.split(' ').collect::<Vec<_>>()[..] {
            ["kill", number] => cluster.apply(HostFault::Kill, &[&node(number)]),
            ["start", number] => cluster.apply(Recovery::Start, &[&node(number)]),
            ["move", topic, partition, to] => {
                let [partition, to] = [partition, to].map(|number| number.parse().expect("a number"));
                lead(&self.address, topic, partition, to)
            }
            _ => Err("no such command for real brokers".to_owned()),
        };
        done.map_or_else(|error| format!("error: {error}"), |()| "ok".to_owned())
    }

    /// Ends simulated brokers.
    pub fn end(self) {
        if let Host::Simulated(served) = self.host {
            served.end();
        }
    }
}

/// Makes a broker the preferred leader of a partition, and elects it.
fn lead(address: &str, topic: &str, partition: i32, to: i32) -> Result<(), String> {
    let replicas = [to, to % 3 + 1, (to + 1) % 3 + 1].map(BrokerId).to_vec();
    let order =
        ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas));
    let order = ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![order]);
    let request =
        AlterPartitionReassignmentsRequest::default().with_topics(vec![order]).with_timeout_ms(10_000);
    let response = exchange(address, &request, 0);
    let errors =
        response.responses.iter().flat_map(|topic| topic.partitions.iter().map(|one| one.error_code));
    let refused: Vec<i16> = errors.chain([response.error_code]).filter(|code| *code != 0).collect();
    if !refused.is_empty() {
        return Err(format!("the order of replicas: {refused:?}"));
    }
    let wanted = TopicPartitions::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request =
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![wanted])).with_timeout_ms(10_000);
    let response = exchange(address, &request, 2);
    let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    let refused: Vec<i16> =
        results.map(|one| one.error_code).filter(|code| ![0, ELECTION_NOT_NEEDED].contains(code)).collect();
    if refused.is_empty() { Ok(()) } else { Err(format!("the election: {refused:?}")) }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn exchange<R: Request>(address: &str, request: &R, version: i16) -> R::Response {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, R::header_version(version)).expect("a header");
    request.encode(&mut frame, version).expect("a request");
    let read = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LONGEST))?;
        stream.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut response)?;
        Ok(response)
    };
    let mut response = Bytes::from(read().unwrap_or_else(|error| panic!("API {}: {error}", R::KEY)));
    ResponseHeader::decode(
        &mut response,
        <R::Response as proto_kafka::protocol::HeaderVersion>::header_version(version),
    )
    .expect("a header");
    R::Response::decode(&mut response, version).expect("a response")
}
