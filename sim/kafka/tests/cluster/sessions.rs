//! Fetch sessions, as clients observe them.

use proto_kafka::messages::fetch_request::FetchTopic;
use proto_kafka::messages::{FetchRequest, FetchResponse};
use simulated_kafka::error::ErrorCode;

use crate::harness::{BY_NAME, Testbed, topic_name, wanted};

/// The version of Fetch that has ids of topics.
const BY_ID: i16 = 13;

async fn fetch(bed: &Testbed, session: (i32, i32), topics: Vec<FetchTopic>, version: i16) -> FetchResponse {
    let request = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(topics);
    bed.send(1, request, version).await.expect("a response")
}

#[tokio::test(start_paused = true)]
async fn a_client_that_changes_from_names_to_ids_must_begin_another_session_and_the_reverse() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.expect("produced");
    let id = bed.cluster.metadata().topic("t").expect("it exists").id.0;
    let named = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![wanted(0)]);
    let identified = FetchTopic::default().with_topic_id(id).with_partitions(vec![wanted(0)]);
    for (first, second) in [(BY_NAME, BY_ID), (BY_ID, BY_NAME)] {
        let topic = |version: i16| vec![if version == BY_ID { &identified } else { &named }.clone()];
        let begun = fetch(&bed, (0, 0), topic(first), first).await;
        assert_eq!((begun.error_code, begun.responses.len()), (0, 1));
        assert_ne!(begun.session_id, 0);
        let changed = fetch(&bed, (begun.session_id, 1), topic(second), second).await;
        let expected = ErrorCode::FetchSessionTopicIdError.code();
        assert_eq!((changed.error_code, changed.session_id), (expected, 0), "{first} {second}");
        assert_eq!(changed.responses, Vec::new());
        // The session itself goes on.
        let next = fetch(&bed, (begun.session_id, 1), Vec::new(), first).await;
        assert_eq!((next.error_code, next.session_id), (0, begun.session_id));
        // Another one takes its place.
        let other = fetch(&bed, (begun.session_id, 0), topic(second), second).await;
        assert_eq!((other.error_code, other.responses.len()), (0, 1));
        let gone = fetch(&bed, (begun.session_id, 2), Vec::new(), first).await;
        assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
    }
}
