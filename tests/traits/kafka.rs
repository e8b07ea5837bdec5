//! Brokers on a real Kafka, for the cases of `broker.rs`.

pub(crate) use exactlyonce::broker::kafka::GroupProtocol;

#[path = "../common/kafka.rs"]
mod services;

use crate::broker::returned_byte_for_byte;
use services::TestBroker;

/// A broker whose members use this group protocol.
pub(crate) fn broker(protocol: GroupProtocol) -> TestBroker {
    let mut options = services::options();
    options.group_protocol = protocol;
    TestBroker::new(&options)
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn records_are_returned_byte_for_byte() {
    // The brokers delete old records, and refuse timestamps that are far in the future.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let timestamps = [now, now - 86_400_000, now - 1, now + 1];
    returned_byte_for_byte(broker(GroupProtocol::Classic), timestamps).await;
}
