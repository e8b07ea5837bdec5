//! Client quotas: who must wait, for how long, and what administrators see of them.

use std::time::Duration;

use proto_kafka::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use proto_kafka::messages::create_partitions_request::CreatePartitionsTopic;
use proto_kafka::messages::create_topics_request::CreatableTopic;
use proto_kafka::messages::describe_client_quotas_request::ComponentData;
use proto_kafka::messages::fetch_request::FetchTopic;
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    AlterClientQuotasRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClientQuotasRequest, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use proto_kafka::protocol::StrBytes;
use simulated_kafka::cluster::HostFault::Kill;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::server::ServerOptions;
use tokio::time::Instant;

use crate::harness::{
    BY_NAME, Connection, Testbed, batch_of, checked, read, seconds, text, topic_name, wanted,
};

const PRODUCE: &str = "producer_byte_rate";
const CONSUME: &str = "consumer_byte_rate";

type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
/// A key and its value; without one it is removed.
type Change<'a> = (&'a str, Option<f64>);
type Outcome = Result<(), (ErrorCode, String)>;

/// Changes quotas of entities. The outcome of each.
async fn alter_all(
    bed: &Testbed,
    entries: &[(Entity<'_>, &[Change<'_>])],
    validate_only: bool,
) -> Vec<Outcome> {
    let entries = entries.iter().map(|(entity, ops)| {
        let entity = entity.iter().map(|(kind, name)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
        });
        let ops = ops.iter().map(|(key, value)| {
            OpData::default()
                .with_key(text(key))
                .with_value(value.unwrap_or_default())
                .with_remove(value.is_none())
        });
        EntryData::default().with_entity(entity.collect()).with_ops(ops.collect())
    });
    let request =
        AlterClientQuotasRequest::default().with_entries(entries.collect()).with_validate_only(validate_only);
    let response = bed.send(2, request, 1).await.expect("a response");
    bed.cluster.settled().await;
    let outcomes = response.entries.into_iter().map(|entry| {
        checked(entry.error_code, ())
            .map_err(|error| (error, entry.error_message.unwrap_or_default().to_string()))
    });
    outcomes.collect()
}

async fn alter(bed: &Testbed, entity: Entity<'_>, key: &str, value: Option<f64>) -> Outcome {
    alter_all(bed, &[(entity, &[(key, value)])], false).await.pop().expect("an outcome")
}

/// The quotas that a filter of types, match types and names finds, as text.
async fn described(
    bed: &Testbed,
    filter: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> Result<Vec<String>, ErrorCode> {
    let components = filter.iter().map(|(kind, match_type, name)| {
        ComponentData::default()
            .with_entity_type(text(kind))
            .with_match_type(*match_type)
            .with_match(name.map(text))
    });
    let request =
        DescribeClientQuotasRequest::default().with_components(components.collect()).with_strict(strict);
    let response = bed.send(3, request, 1).await.expect("a response");
    checked(response.error_code, ())?;
    let name = |name: Option<StrBytes>| name.map_or("<default>".to_owned(), |name| name.to_string());
    let entries = response.entries.expect("entries").into_iter().map(|entry| {
        let entity =
            entry.entity.into_iter().map(|data| format!("{} {}", data.entity_type, name(data.entity_name)));
        let values = entry.values.iter().map(|value| format!("{}={}", value.key, value.value));
        entity.chain(values).collect::<Vec<_>>().join(", ")
    });
    Ok(entries.collect())
}

/// A cluster with a topic that broker 1 leads.
async fn start() -> Testbed {
    let bed = Testbed::start_with(1, |options| {
        options.sasl.users.extend([("anna".to_owned(), "pencil".to_owned())]);
    })
    .await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed
}

fn connect(bed: &Testbed) -> Connection {
    bed.connect(1, ServerOptions::default()).expect("it runs")
}

/// How many bytes a request has beside the value, for a value of a few thousand bytes.
const AROUND_VALUE: i32 = 120;

fn produce_request(value: usize, acks: i16) -> ProduceRequest {
    let batch = batch_of(&[&"x".repeat(value)]);
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.bytes().clone()));
    let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Produces a value of so many bytes: the milliseconds that the client should wait.
async fn produce(connection: &mut Connection, value: usize) -> i32 {
    let response = connection.send(produce_request(value, 1), 9).await.expect("a response");
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    response.throttle_time_ms
}

/// How long the response to another request takes.
async fn pause(connection: &mut Connection) -> Duration {
    let begin = Instant::now();
    connection.send(MetadataRequest::default(), 9).await.expect("a response");
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_producer_above_its_quota_gets_its_response_at_once_and_is_not_read_for_the_time_in_it() {
    let bed = start().await;
    alter(&bed, &[("client-id", Some("test"))], PRODUCE, Some(1000.0)).await.expect("changed");
    let (mut connection, mut other) = (connect(&bed), connect(&bed));
    assert_eq!(produce(&mut connection, 5000).await, 0);
    let begin = Instant::now();
    let throttle = produce(&mut connection, 15_000).await;
    assert!(begin.elapsed() < seconds(1), "{:?}", begin.elapsed());
    // 20,000 bytes in ten seconds are twice as much as allowed.
    assert!((10_000..10_000 + 2 * AROUND_VALUE).contains(&throttle), "{throttle}");
    // Only the connection of the request is muted.
    assert_eq!(pause(&mut other).await, Duration::ZERO);
    let paused = pause(&mut connection).await;
    assert_eq!(paused.as_millis() as i32, throttle);
    assert_eq!(pause(&mut connection).await, Duration::ZERO);
    // Other connections of the client count, too.
    assert!(produce(&mut other, 10_000).await > 9_000);
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_the_connection_is_muted_all_the_same() {
    let bed = start().await;
    alter(&bed, &[("client-id", None)], PRODUCE, Some(1000.0)).await.expect("changed");
    let mut connection = connect(&bed);
    let begin = Instant::now();
    // There is no response, so nothing is read until the next request has one.
    let sent = connection.send(produce_request(20_000, 0), 9);
    assert!(tokio::time::timeout(seconds(1), sent).await.is_err());
    pause(&mut connection).await;
    let waited = begin.elapsed().as_millis() as i32;
    assert!((10_000..10_000 + AROUND_VALUE).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_quota_and_one_whose_quota_was_removed_do_not_wait() {
    let bed = start().await;
    alter(&bed, &[("client-id", Some("other"))], PRODUCE, Some(1.0)).await.expect("changed");
    let mut connection = connect(&bed);
    assert_eq!(produce(&mut connection, 20_000).await, 0);
    alter(&bed, &[("client-id", Some("test"))], PRODUCE, Some(1.0)).await.expect("changed");
    assert!(produce(&mut connection, 10).await > 0);
    let mut connection = connect(&bed);
    alter(&bed, &[("client-id", Some("test"))], PRODUCE, None).await.expect("changed");
    assert_eq!(produce(&mut connection, 20_000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_has_authenticated_has_the_quota_of_that_user() {
    let bed = start().await;
    alter(&bed, &[("user", Some("anna"))], PRODUCE, Some(1000.0)).await.expect("changed");
    assert_eq!(produce(&mut connect(&bed), 20_000).await, 0);
    let options = ServerOptions { sasl: true, ..ServerOptions::default() };
    let mut connection = bed.connect(1, options).expect("it runs");
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    connection.send(handshake, 1).await.expect("a response");
    let token = SaslAuthenticateRequest::default().with_auth_bytes("\0anna\0pencil".into());
    assert_eq!(connection.send(token, 2).await.expect("a response").error_code, 0);
    assert!(produce(&mut connection, 20_000).await > 10_000);
    // Who has not authenticated is a user, too.
    alter(&bed, &[("user", None)], PRODUCE, Some(1000.0)).await.expect("changed");
    assert!(produce(&mut connect(&bed), 20_000).await > 10_000);
}

fn fetch_request(offset: i64) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![wanted(offset)]);
    FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1 << 20)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Thirty records of a thousand bytes each, each in a batch.
async fn fill(bed: &Testbed) {
    for _ in 0..30 {
        bed.produce("t", &["x".repeat(1000).as_str()], -1).await.expect("produced");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_above_its_quota_gets_nothing_until_it_has_waited_and_then_everything() {
    let bed = start().await;
    fill(&bed).await;
    alter(&bed, &[("client-id", Some("test"))], CONSUME, Some(1000.0)).await.expect("changed");
    let mut connection = connect(&bed);
    let (mut next, mut throttled) = (0, 0);
    let begin = Instant::now();
    while next < 30 {
        let asked = Instant::now();
        let response = connection.send(fetch_request(next), BY_NAME).await.expect("a response");
        if response.throttle_time_ms > 0 {
            assert_eq!((response.error_code, response.responses.len()), (0, 0));
            assert!(response.throttle_time_ms < 11_000, "{}", response.throttle_time_ms);
            assert!(asked.elapsed() <= Duration::from_millis(100), "{:?}", asked.elapsed());
            let pause = pause(&mut connection).await;
            assert_eq!(pause.as_millis() as i32, response.throttle_time_ms);
            throttled += 1;
            continue;
        }
        let data = response.responses[0].partitions[0].clone();
        let bytes = data.records.as_ref().map_or(0, |records| records.len());
        assert!(bytes <= 10_000, "{bytes} bytes are more than the window has");
        let read = read(whole(data), next).expect("read");
        next = read.values.last().map_or(next, |(offset, _)| offset + 1);
    }
    assert!(throttled >= 2, "{throttled}");
    // 30,000 bytes at 1,000 a second, the first 10,000 of them at once. Parts of batches are sent again.
    let took = begin.elapsed();
    assert!((seconds(20)..seconds(60)).contains(&took), "{took:?}");
}

/// Without the batch at the end that is not whole.
fn whole(
    data: proto_kafka::messages::fetch_response::PartitionData,
) -> proto_kafka::messages::fetch_response::PartitionData {
    let mut records = data.records.clone().unwrap_or_default();
    let mut end = 0;
    while let Ok(batch) = simulated_kafka::protocol::batch::Batch::split_from(&mut records) {
        end += batch.bytes().len();
    }
    let records = data.records.as_ref().map(|records| records.slice(..end));
    data.with_records(records)
}

async fn fetch(connection: &mut Connection, session: (i32, i32), topics: Vec<FetchTopic>) -> FetchResponse {
    let request =
        fetch_request(0).with_session_id(session.0).with_session_epoch(session.1).with_topics(topics);
    connection.send(request, BY_NAME).await.expect("a response")
}

#[tokio::test(start_paused = true)]
async fn a_throttled_response_neither_begins_a_session_nor_changes_one() {
    let bed = start().await;
    let mut connection = connect(&bed);
    let topics = || fetch_request(0).topics;
    let begun = fetch(&mut connection, (0, 0), topics()).await;
    assert_ne!(begun.session_id, 0);
    fill(&bed).await;
    alter(&bed, &[("client-id", Some("test"))], CONSUME, Some(1.0)).await.expect("changed");
    let throttled = fetch(&mut connection, (0, 0), topics()).await;
    assert!(throttled.throttle_time_ms > 0);
    assert_eq!((throttled.session_id, throttled.responses.len()), (0, 0));
    let mut connection = connect(&bed);
    let throttled = fetch(&mut connection, (begun.session_id, 1), Vec::new()).await;
    assert!(throttled.throttle_time_ms > 0);
    assert_eq!((throttled.session_id, throttled.responses.len()), (begun.session_id, 0));
    alter(&bed, &[("client-id", Some("test"))], CONSUME, None).await.expect("changed");
    let mut connection = connect(&bed);
    let next = fetch(&mut connection, (begun.session_id, 2), Vec::new()).await;
    assert_eq!(next.responses[0].partitions[0].high_watermark, 30, "it is news still");
}

#[tokio::test(start_paused = true)]
async fn quotas_are_described_by_any_broker() {
    let bed = start().await;
    let both: Entity<'_> = &[("user", Some("anna")), ("client-id", None)];
    let outcomes = alter_all(
        &bed,
        &[
            (both, &[(PRODUCE, Some(10.0)), ("controller_mutation_rate", Some(12.5))]),
            (&[("client-id", Some("app"))], &[(CONSUME, Some(20.0))]),
        ],
        false,
    )
    .await;
    assert_eq!(outcomes, vec![Ok(()); 2]);
    let of_both =
        "client-id <default>, user anna, controller_mutation_rate=12.5, producer_byte_rate=10".to_owned();
    let of_app = "client-id app, consumer_byte_rate=20".to_owned();
    let all = described(&bed, &[], false).await;
    assert_eq!(all.map(|all| all.len()), Ok(2));
    let any = ("client-id", 2, None);
    assert_eq!(described(&bed, &[any], false).await, Ok(vec![of_both.clone(), of_app.clone()]));
    assert_eq!(described(&bed, &[any], true).await, Ok(vec![of_app.clone()]));
    assert_eq!(described(&bed, &[("client-id", 1, None)], false).await, Ok(vec![of_both.clone()]));
    assert_eq!(described(&bed, &[("client-id", 0, Some("app"))], false).await, Ok(vec![of_app]));
    assert_eq!(described(&bed, &[("ip", 2, None)], true).await, Ok(Vec::new()));
    assert_eq!(described(&bed, &[any, ("user", 0, Some("anna"))], true).await, Ok(vec![of_both]));
    for (filter, error) in [
        (&[("", 2, None)][..], ErrorCode::InvalidRequest),
        (&[("host", 2, None)], ErrorCode::UnsupportedVersion),
        (&[any, any], ErrorCode::InvalidRequest),
        (&[("user", 0, None)], ErrorCode::InvalidRequest),
        (&[("user", 1, Some("anna"))], ErrorCode::InvalidRequest),
        (&[("user", 2, Some("anna"))], ErrorCode::InvalidRequest),
        (&[("user", 3, None)], ErrorCode::InvalidRequest),
        (&[("user", 2, None), ("ip", 2, None)], ErrorCode::InvalidRequest),
    ] {
        assert_eq!(described(&bed, filter, false).await, Err(error), "{filter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_quota_that_is_not_allowed_is_refused() {
    let bed = start().await;
    let user: Entity<'_> = &[("user", Some("anna"))];
    let ip: Entity<'_> = &[("ip", Some("127.0.0.1"))];
    for (entity, ops, message) in [
        (&[][..], &[(PRODUCE, Some(1.0))][..], "empty client quota entity"),
        (&[("host", Some("a"))], &[(PRODUCE, Some(1.0))], "Unhandled client quota entity type: host"),
        (&[("user", Some(""))], &[(PRODUCE, Some(1.0))], "Empty user not supported"),
        (&[user[0], ip[0]], &[(PRODUCE, Some(1.0))], "should not be combined"),
        (&[("ip", Some("nowhere"))], &[("connection_creation_rate", Some(1.0))], "not a valid IP"),
        (user, &[("bytes", Some(1.0))], "Invalid configuration key bytes"),
        (user, &[("connection_creation_rate", Some(1.0))], "Invalid configuration key"),
        (ip, &[(PRODUCE, Some(1.0))], "Invalid configuration key"),
        (user, &[(PRODUCE, Some(0.0))], "must be greater than 0"),
        (user, &[(PRODUCE, Some(-1.0))], "must be greater than 0"),
        (user, &[(PRODUCE, Some(1.5))], "cannot be a fractional value"),
        (user, &[(PRODUCE, Some(1e30))], "too large for a LONG"),
        (ip, &[("connection_creation_rate", Some(1e10))], "too large for an INT"),
        (ip, &[("connection_creation_rate", Some(3.0))], "connection_creation_rate is not simulated"),
        (user, &[("request_percentage", Some(-1.0))], "must be greater than 0"),
        (user, &[("request_percentage", Some(12.5))], "request_percentage is not simulated"),
        (user, &[(PRODUCE, Some(1.0)), ("request_percentage", Some(5.0))], "is not simulated"),
        (user, &[(PRODUCE, Some(1.0)), (PRODUCE, None)], "Duplicate quota key"),
    ] {
        let outcome = alter_all(&bed, &[(entity, ops)], false).await.pop().expect("an outcome");
        let (error, said) = outcome.expect_err(message);
        assert!(error == ErrorCode::InvalidRequest && said.contains(message), "{error:?} {said}");
    }
    let valid = alter_all(&bed, &[(user, &[(PRODUCE, Some(1.0))])], true).await;
    assert_eq!(valid, [Ok(())]);
    assert_eq!(described(&bed, &[], false).await, Ok(Vec::new()), "nothing has changed");
}

/// Creates a topic with this many partitions on a connection; the error, and how long the client must wait.
async fn create(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    version: i16,
) -> (Result<(), ErrorCode>, Duration) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = connection.send(request, version).await.expect("a response");
    let wait = Duration::from_millis(response.throttle_time_ms as u64);
    (checked(response.topics[0].error_code, ()), wait)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_creates_partitions_beyond_its_quota_is_refused_and_must_wait() {
    let bed = Testbed::start().await;
    let of_client: Entity<'_> = &[("client-id", Some("test"))];
    assert_eq!(alter(&bed, of_client, "controller_mutation_rate", Some(1.0)).await, Ok(()));
    let mut connection = bed.connect(2, ServerOptions::default()).expect("it runs");
    // As many at once as in eleven seconds, and as many beyond that as one request needs.
    assert_eq!(create(&mut connection, "a", 14, 7).await, (Ok(()), Duration::ZERO));
    let (refused, wait) = create(&mut connection, "b", 1, 7).await;
    assert_eq!(refused, Err(ErrorCode::ThrottlingQuotaExceeded));
    assert!(wait > seconds(2) && wait <= seconds(3), "{wait:?}");
    // The broker does not read from the connection for that time.
    let before = Instant::now();
    let again = create(&mut connection, "b", 1, 7).await;
    assert_eq!((again.0, before.elapsed() >= wait), (Ok(()), true));
    // A version that does not know the error is served, and waits.
    let (served, wait) = create(&mut connection, "c", 5, 5).await;
    assert_eq!((served, wait > seconds(5)), (Ok(()), true), "{wait:?}");
    let names = ["a", "b", "c"].map(topic_name).to_vec();
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(10_000);
    let mut other = bed.connect(3, ServerOptions::default()).expect("it runs");
    let response = other.send(request, 5).await.expect("a response");
    let errors: Vec<i16> = response.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(
        errors,
        [ErrorCode::ThrottlingQuotaExceeded.code(); 3],
        "deletions count, too, at the controller"
    );
    assert!(response.throttle_time_ms > 4_000);
    let more =
        CreatePartitionsTopic::default().with_name(topic_name("b")).with_count(2).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(10_000);
    let response = bed.send(1, request, 3).await.expect("a response");
    assert_eq!(response.results[0].error_code, ErrorCode::ThrottlingQuotaExceeded.code());
    tokio::time::sleep(seconds(20)).await;
    bed.delete("a").await;
    // Another controller knows nothing of it.
    let mut connection = bed.connect(3, ServerOptions::default()).expect("it runs");
    assert_eq!(create(&mut connection, "d", 14, 7).await.0, Err(ErrorCode::ThrottlingQuotaExceeded));
    let controller = bed.cluster.active_controller().expect("a controller");
    bed.fault(controller.0, Kill);
    bed.until("another controller", async || {
        bed.cluster.active_controller().is_some_and(|other| other != controller)
    })
    .await;
    let node = bed.any();
    let mut connection = bed.connect(node, ServerOptions::default()).expect("it runs");
    assert_eq!(create(&mut connection, "d", 14, 7).await, (Ok(()), Duration::ZERO));
}
