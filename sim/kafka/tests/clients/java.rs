//! Apache's own tools for topics, verified producing and consuming, and copying in transactions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::brokers;
use super::clients::{Served, folder, run};

const LONGEST: Duration = Duration::from_secs(300);

/// The folder of the jars, fetched first if there are none.
fn jars() -> PathBuf {
    let folder = folder("kafka-clients-java-4.1.1");
    let (jars, mark) = (folder.join("lib"), folder.join("fetched"));
    if !mark.exists() {
        fs::write(folder.join("pom.xml"), include_str!("java/pom.xml")).expect("a file");
        let mut fetch = Command::new("mvn");
        fetch.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        run(fetch.arg("-DoutputDirectory=lib").current_dir(&folder), LONGEST);
        fs::write(mark, "").expect("a file");
    }
    jars
}

fn tool(brokers: &Served, name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("java");
    command.arg("-XX:TieredStopAtLevel=1").arg("-cp").arg(jars().join("*"));
    command.arg(format!("org.apache.kafka.tools.{name}"));
    let option = if name == "TransactionalMessageCopier" { "--broker-list" } else { "--bootstrap-server" };
    run(command.args([option, &brokers.address]).args(arguments), LONGEST)
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn apaches_tools_make_topics_produce_consume_in_both_protocols_and_copy_in_transactions() {
    let brokers = brokers(&[]);
    for topic in ["in", "out"] {
        let options = ["--create", "--topic", topic, "--partitions", "1", "--replication-factor", "3"];
        let said = tool(&brokers, "TopicCommand", &options);
        assert!(said.contains(&format!("Created topic {topic}.")), "{said}");
    }
    let said = tool(&brokers, "TopicCommand", &["--describe", "--topic", "in"]);
    assert!(said.contains("PartitionCount: 1") && said.contains("ReplicationFactor: 3"), "{said}");
    let said =
        tool(&brokers, "VerifiableProducer", &["--topic", "in", "--max-messages", "300", "--acks", "-1"]);
    assert!(said.contains("\"acked\":300"), "{said}");
    for protocol in ["classic", "consumer"] {
        let group = format!("verified-{protocol}");
        let options =
            ["--topic", "in", "--group-id", &group, "--max-messages", "300", "--reset-policy", "earliest"];
        let said =
            tool(&brokers, "VerifiableConsumer", &[&options[..], &["--group-protocol", protocol]].concat());
        assert!(said.contains("\"maxOffset\":299") && said.contains("\"offset\":300"), "{said}");
        assert!(said.contains("shutdown_complete"), "{said}");
    }
    let copier = [
        "--input-topic",
        "in",
        "--input-partition",
        "0",
        "--output-topic",
        "out",
        "--max-messages",
        "300",
        "--consumer-group",
        "copier",
        "--transaction-size",
        "10",
        "--transactional-id",
        "copier",
        "--enable-random-aborts",
    ];
    let said = tool(&brokers, "TransactionalMessageCopier", &copier);
    assert!(said.contains("\"totalProcessed\":300") && said.contains("\"remaining\":0"), "{said}");
    let options =
        ["--topic", "out", "--group-id", "copied", "--max-messages", "300", "--reset-policy", "earliest"];
    let said = tool(&brokers, "VerifiableConsumer", &options);
    assert!(said.contains("shutdown_complete"), "{said}");
    let said = tool(&brokers, "GetOffsetShell", &["--topic", "in"]);
    assert!(said.lines().any(|line| line == "in:0:300"), "{said}");
    brokers.end();
}
