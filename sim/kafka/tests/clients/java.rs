//! Apache's own tools for topics, verified producing and consuming, copying in transactions, and Trogdor's round trip.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::brokers;
use super::clients::{folder, run};
use super::faults::disturbed;

const LONGEST: Duration = Duration::from_secs(300);

/// The folder of the jars, fetched first if they are not there.
fn jars() -> &'static PathBuf {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let folder = folder("kafka-clients-java-4.1.1");
        let (jars, mark) = (folder.join("lib"), folder.join("fetched"));
        let wanted = include_str!("java/pom.xml");
        if fs::read_to_string(&mark).ok().as_deref() != Some(wanted) {
            fs::write(folder.join("pom.xml"), wanted).expect("a file");
            let mut fetch = Command::new("mvn");
            fetch.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
            run(fetch.arg("-DoutputDirectory=lib").current_dir(&folder), LONGEST);
            fs::write(mark, wanted).expect("a file");
        }
        jars
    })
}

fn java(class: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("java");
    command.arg("-XX:TieredStopAtLevel=1").arg("-cp").arg(jars().join("*"));
    run(command.arg(format!("org.apache.kafka.{class}")).args(arguments), LONGEST)
}

/// A tool, on the brokers of this address.
fn tool(address: &str, name: &str, arguments: &[&str]) -> String {
    let option = if name == "TransactionalMessageCopier" { "--broker-list" } else { "--bootstrap-server" };
    java(&format!("tools.{name}"), &[&[option, address], arguments].concat())
}

fn create(address: &str, topics: &[&str]) {
    for topic in topics {
        let options = ["--create", "--topic", topic, "--partitions", "1", "--replication-factor", "3"];
        let said = tool(address, "TopicCommand", &options);
        assert!(said.contains(&format!("Created topic {topic}.")), "{said}");
    }
}

/// The options of a copier of this many records from the topic `in` to `out`, which aborts transactions now and then.
fn copier(records: &str) -> Vec<&str> {
    let all = "--input-topic in --input-partition 0 --output-topic out --consumer-group copier --transaction-size 10 \
               --transactional-id copier --enable-random-aborts --max-messages";
    all.split_whitespace().chain([records]).collect()
}

/// The numbers that a reader of committed records gets of the topic `out`.
fn copied(address: &str) -> Vec<u32> {
    let options = "--topic out --from-beginning --isolation-level read_committed --timeout-ms 10000";
    let options: Vec<&str> = options.split_whitespace().collect();
    let said = tool(address, "consumer.ConsoleConsumer", &options);
    let mut numbers: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    numbers.sort();
    numbers
}

/// A file with settings.
fn settings(name: &str, lines: &str) -> String {
    let file = folder("clients-output").join(format!("{}-{name}", std::process::id()));
    fs::write(&file, lines).expect("a file");
    file.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn apaches_tools_make_topics_produce_consume_in_both_protocols_and_copy_in_transactions() {
    let brokers = brokers(&[]);
    let address = &brokers.address;
    create(address, &["in", "out"]);
    let said = tool(address, "TopicCommand", &["--describe", "--topic", "in"]);
    assert!(said.contains("PartitionCount: 1") && said.contains("ReplicationFactor: 3"), "{said}");
    let said =
        tool(address, "VerifiableProducer", &["--topic", "in", "--max-messages", "300", "--acks", "-1"]);
    assert!(said.contains("\"acked\":300"), "{said}");
    for protocol in ["classic", "consumer"] {
        let group = format!("verified-{protocol}");
        let options =
            ["--topic", "in", "--group-id", &group, "--max-messages", "300", "--reset-policy", "earliest"];
        let said =
            tool(address, "VerifiableConsumer", &[&options[..], &["--group-protocol", protocol]].concat());
        assert!(said.contains("\"maxOffset\":299") && said.contains("\"offset\":300"), "{said}");
        assert!(said.contains("shutdown_complete"), "{said}");
    }
    let said = tool(address, "TransactionalMessageCopier", &copier("300"));
    assert!(said.contains("\"totalProcessed\":300") && said.contains("\"remaining\":0"), "{said}");
    assert_eq!(copied(address), (0..300).collect::<Vec<_>>());
    let said = tool(address, "GetOffsetShell", &["--topic", "in"]);
    assert!(said.lines().any(|line| line == "in:0:300"), "{said}");
    brokers.end();
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn apaches_tools_produce_consume_and_copy_exactly_once_while_brokers_die_and_leaders_move() {
    let mut brokers = brokers(&[]);
    let address = brokers.address.clone();
    create(&address, &["in", "out"]);
    // Without its own, each error of a broker is final for the producer.
    let retries = settings("retries", "retries=2147483647\n");
    disturbed(&mut brokers, Some("in"), || {
        thread::scope(|scope| {
            for protocol in ["classic", "consumer"] {
                let address = &address;
                scope.spawn(move || {
                    let options = "--topic in --max-messages 3000 --reset-policy earliest --group-id";
                    let group = format!("disturbed-{protocol}");
                    let options: Vec<&str> = options
                        .split_whitespace()
                        .chain([group.as_str(), "--group-protocol", protocol])
                        .collect();
                    let said = tool(address, "VerifiableConsumer", &options);
                    assert!(said.contains("shutdown_complete"), "{said}");
                });
            }
            let options = "--topic in --max-messages 3000 --throughput 150 --acks -1 --producer.config";
            let options: Vec<&str> = options.split_whitespace().chain([retries.as_str()]).collect();
            let said = tool(&address, "VerifiableProducer", &options);
            assert!(said.contains("\"acked\":3000"), "{said}");
        });
    });
    let said = tool(&address, "GetOffsetShell", &["--topic", "in"]);
    assert!(said.lines().any(|line| line == "in:0:3000"), "{said}");
    disturbed(&mut brokers, Some("out"), || {
        let said = tool(&address, "TransactionalMessageCopier", &copier("1500"));
        assert!(said.contains("\"remaining\":0"), "{said}");
    });
    assert_eq!(copied(&address), (0..1500).collect::<Vec<_>>());
    brokers.end();
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn trogdor_reads_each_record_that_it_sent_while_brokers_die() {
    let mut brokers = brokers(&[]);
    let platform = "\"platform\": \"org.apache.kafka.trogdor.basic.BasicPlatform\"";
    let node = "\"nodes\": {\"n0\": {\"hostname\": \"localhost\", \"trogdor.agent.port\": 0}}";
    let agent = settings("agent", &format!("{{{platform}, {node}}}"));
    let task = format!(
        "{{\"class\": \"org.apache.kafka.trogdor.workload.RoundTripWorkloadSpec\", \"durationMs\": 240000, \
         \"clientNode\": \"n0\", \"bootstrapServers\": \"{}\", \"targetMessagesPerSec\": 200, \"maxMessages\": 3000, \
         \"activeTopics\": {{\"round_trip[0-1]\": {{\"numPartitions\": 2, \"replicationFactor\": 3}}}}}}",
        brokers.address
    );
    let task = settings("task", &task);
    let said = disturbed(&mut brokers, None, || {
        java("trogdor.agent.Agent", &["-n", "n0", "-c", &agent, "--exec", &task])
    });
    assert!(
        said.contains("\"totalUniqueSent\" : 3000") && said.contains("\"totalReceived\" : 3000"),
        "{said}"
    );
    brokers.end();
}
