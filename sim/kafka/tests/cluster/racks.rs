//! Consumers that fetch from the replica in their rack.

use proto_kafka::messages::FetchRequest;
use proto_kafka::messages::fetch_request::FetchTopic;
use simulated_kafka::cluster::HostFault::Pause;
use simulated_kafka::cluster::Verb;
use simulated_kafka::types::NodeId;

use crate::harness::{BY_NAME, Testbed, read, seconds, topic_name, wanted};

/// Fetches as a client in a rack: the replica that it is sent to, or -1, and the records that it got instead.
pub async fn fetch(bed: &Testbed, node: i32, rack: &str, offset: i64, version: i16) -> (i32, Vec<String>) {
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![wanted(offset)]);
    let mut request =
        FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![topic]);
    if version >= 11 {
        request = request.with_rack_id(crate::harness::text(rack));
    }
    let response = bed.send(node, request, version).await.unwrap();
    let data = response.responses[0].partitions[0].clone();
    let preferred = data.preferred_read_replica.0;
    let read = read(data, offset).unwrap();
    (preferred, read.values.into_iter().map(|(_, value)| value).collect())
}

async fn start() -> Testbed {
    let bed = Testbed::start_with(1, |options| options.rack_aware = true).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    tokio::time::sleep(seconds(2)).await;
    bed
}

#[tokio::test(start_paused = true)]
async fn a_leader_sends_a_consumer_to_the_follower_in_its_rack_which_serves_it() {
    let bed = start().await;
    assert_eq!(fetch(&bed, 1, "rack3", 0, BY_NAME).await, (3, vec![]));
    assert_eq!(fetch(&bed, 3, "rack3", 0, BY_NAME).await, (-1, vec!["a".to_owned(), "b".to_owned()]));
    // The leader serves those in its rack, in an unknown one, or in none, and clients that do not know of it.
    for (rack, version) in [("rack1", BY_NAME), ("elsewhere", BY_NAME), ("", BY_NAME), ("rack3", 10)] {
        let served = fetch(&bed, 1, rack, 0, version).await;
        assert_eq!(served, (-1, vec!["a".to_owned(), "b".to_owned()]), "{rack} {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_not_sent_to_a_follower_that_does_not_have_its_offset_or_is_not_in_sync() {
    let bed = start().await;
    bed.links.rule(|envelope| {
        (envelope.response_to == Some(Verb::Replicate) && envelope.to == NodeId(3)).then(Vec::new)
    });
    bed.produce("t", &["c", "d"], 1).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(fetch(&bed, 1, "rack3", 2, BY_NAME).await.0, 3);
    assert_eq!(fetch(&bed, 1, "rack3", 3, BY_NAME).await.0, -1);
    assert_eq!(fetch(&bed, 1, "rack2", 3, BY_NAME).await.0, 2);
    bed.fault(3, Pause);
    bed.until("the shrink", async || bed.in_sync("t") == [1, 2]).await;
    bed.cluster.settled().await;
    assert_eq!(fetch(&bed, 1, "rack3", 0, BY_NAME).await.0, -1);
}

#[tokio::test(start_paused = true)]
async fn without_a_replica_selector_every_consumer_stays_at_the_leader() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    assert_eq!(fetch(&bed, 1, "rack3", 0, BY_NAME).await, (-1, vec!["a".to_owned()]));
}
