//! Brokers on Kafka, real and simulated, for the cases of `broker.rs`.

use std::sync::LazyLock;
use std::time::SystemTime;

pub(crate) use exactlyonce::broker::kafka::GroupProtocol;
use exactlyonce::broker::kafka::KafkaOptions;

#[path = "../common/kafka.rs"]
mod services;

use crate::broker::returned_byte_for_byte;
use crate::simulated_kafka::SimulatedBrokers;
use services::TestBroker;

/// A broker whose members use this group protocol.
pub(crate) fn broker(protocol: GroupProtocol) -> TestBroker {
    with_protocol(services::options(), protocol)
}

/// As [`broker`], on simulated brokers, which all tests of a process share.
pub(crate) fn simulated(protocol: GroupProtocol) -> TestBroker {
    static BROKERS: LazyLock<SimulatedBrokers> = LazyLock::new(SimulatedBrokers::start_in_test);
    with_protocol(KafkaOptions::new(BROKERS.bootstrap_servers()), protocol)
}

fn with_protocol(mut options: KafkaOptions, protocol: GroupProtocol) -> TestBroker {
    options.group_protocol = protocol;
    TestBroker::new(&options)
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn records_are_returned_byte_for_byte() {
    byte_for_byte(broker(GroupProtocol::Classic)).await;
}

#[tokio::test]
async fn records_are_returned_byte_for_byte_by_simulated_brokers() {
    byte_for_byte(simulated(GroupProtocol::Classic)).await;
}

async fn byte_for_byte(broker: TestBroker) {
    // The brokers delete old records, and refuse timestamps that are far in the future.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    returned_byte_for_byte(broker, [now, now - 86_400_000, now - 1, now + 1]).await;
}
