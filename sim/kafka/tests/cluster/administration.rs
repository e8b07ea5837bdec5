//! Changes of configurations, and elections that an administrator asks for.

use proto_kafka::messages::alter_configs_request::{
    AlterConfigsResource as Replacement, AlterableConfig as Value,
};
use proto_kafka::messages::describe_configs_request::DescribeConfigsResource;
use proto_kafka::messages::elect_leaders_request::TopicPartitions;
use proto_kafka::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use proto_kafka::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
};
use simulated_kafka::cluster::HostFault::{Kill, Pause};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::types::NodeId;

use crate::harness::{START, Testbed, checked, seconds, text, topic_name};

pub const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource of the type of topics.
const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

pub async fn alter(
    bed: &Testbed,
    (kind, resource): (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> Result<(), ErrorCode> {
    let changes = changes.iter().map(|(name, operation, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(changes.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let response = bed.send(bed.any(), request, 1).await.unwrap();
    bed.cluster.settled().await;
    checked(response.responses[0].error_code, ())
}

/// A setting of a topic, and where it comes from (`ConfigSource`).
async fn described(bed: &Testbed, name: &str) -> (String, i8) {
    described_of(bed, "t", name).await
}

async fn described_of(bed: &Testbed, topic: &str, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(name)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = bed.send(bed.any(), request, 4).await.unwrap();
    let config = &response.results[0].configs[0];
    (config.value.as_deref().unwrap().to_owned(), config.config_source)
}

const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 2;
const OF_ALL_BROKERS: i8 = 3;
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;

#[tokio::test(start_paused = true)]
async fn a_setting_of_a_topic_is_set_extended_reduced_and_deleted_while_the_others_stay() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[("retention.ms", "1000")]).await;
    let topic = (TOPIC, "t");
    assert_eq!(alter(&bed, topic, &[("cleanup.policy", APPEND, Some("compact"))], false).await, Ok(()));
    assert_eq!(described(&bed, "cleanup.policy").await, ("delete,compact".to_owned(), OF_TOPIC));
    let changes = [("cleanup.policy", SUBTRACT, Some("delete")), ("min.insync.replicas", SET, Some("2"))];
    assert_eq!(alter(&bed, topic, &changes, false).await, Ok(()));
    assert_eq!(described(&bed, "cleanup.policy").await, ("compact".to_owned(), OF_TOPIC));
    assert_eq!(described(&bed, "min.insync.replicas").await, ("2".to_owned(), OF_TOPIC));
    assert_eq!(described(&bed, "retention.ms").await, ("1000".to_owned(), OF_TOPIC));
    assert_eq!(alter(&bed, topic, &[("cleanup.policy", DELETE, None)], false).await, Ok(()));
    assert_eq!(described(&bed, "cleanup.policy").await, ("delete".to_owned(), DEFAULT));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_invalid_or_only_validated_changes_nothing() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let topic = (TOPIC, "t");
    for change in [
        ("retention.ms", SET, Some("soon")),
        ("retention.ms", APPEND, Some("5")),
        ("no.such.setting", SET, Some("1")),
    ] {
        let changes = [("min.insync.replicas", SET, Some("2")), change];
        assert_eq!(alter(&bed, topic, &changes, false).await, Err(ErrorCode::InvalidConfig), "{change:?}");
    }
    assert_eq!(alter(&bed, topic, &[("min.insync.replicas", SET, Some("2"))], true).await, Ok(()));
    // The cluster has its own value for all topics, because eligible leader replicas depend on it (KIP-966).
    assert_eq!(described(&bed, "min.insync.replicas").await, ("1".to_owned(), OF_ALL_BROKERS));
    let unknown = alter(&bed, (TOPIC, "u"), &[("retention.ms", SET, Some("5"))], false).await;
    assert_eq!(unknown, Err(ErrorCode::UnknownTopicOrPartition));
}

/// The type and the name of a resource, and all settings that it is to have.
type Replaced<'a> = (i8, &'a str, &'a [(&'a str, Option<&'a str>)]);

/// Replaces all settings of these resources. The result of each, if there is a response.
async fn replace(bed: &Testbed, resources: &[Replaced<'_>]) -> Option<Vec<Result<(), ErrorCode>>> {
    let resources = resources.iter().map(|(kind, name, values)| {
        let values = values
            .iter()
            .map(|(name, value)| Value::default().with_name(text(name)).with_value(value.map(text)));
        Replacement::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(values.collect())
    });
    let request = AlterConfigsRequest::default().with_resources(resources.collect());
    let response = bed.send(bed.any(), request, 0).await;
    bed.cluster.settled().await;
    Some(response?.responses.iter().map(|response| checked(response.error_code, ())).collect())
}

#[tokio::test(start_paused = true)]
async fn the_old_form_of_a_change_replaces_all_settings_and_has_no_response_if_it_names_a_resource_twice() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[("retention.ms", "1000")]).await;
    bed.topic("u", &[1, 2, 3], &[]).await;
    let of_size = |value| [("max.message.bytes", Some(value))];
    let (five, six, seven) = (of_size("5"), of_size("6"), of_size("7"));
    let twice = [(TOPIC, "t", &five[..]), (TOPIC, "u", &six), (TOPIC, "t", &seven)];
    let refused = Err(ErrorCode::InvalidRequest);
    assert_eq!(replace(&bed, &twice).await, None);
    assert_eq!(described(&bed, "retention.ms").await, ("1000".to_owned(), OF_TOPIC));
    assert_eq!(described_of(&bed, "u", "max.message.bytes").await, ("6".to_owned(), OF_TOPIC));
    assert_eq!(replace(&bed, &[(TOPIC, "t", &five)]).await, Some(vec![Ok(())]));
    assert_eq!(described(&bed, "max.message.bytes").await, ("5".to_owned(), OF_TOPIC));
    assert_eq!(described(&bed, "retention.ms").await.1, DEFAULT);
    // What only looks like the same resource is another one.
    let others = [(TOPIC, "t", &seven[..]), (BROKER, "t", &[])];
    assert_eq!(replace(&bed, &others).await, Some(vec![Ok(()), refused]));
    assert_eq!(described(&bed, "max.message.bytes").await, ("7".to_owned(), OF_TOPIC));
    // Unknown types are all one, and known ones that are refused are not.
    assert_eq!(replace(&bed, &[(77, "t", &[]), (78, "t", &[])]).await, None);
    for others in [[(77, "t", &[][..]), (78, "u", &[])], [(8, "t", &[]), (77, "t", &[])]] {
        assert_eq!(replace(&bed, &others).await, Some(vec![refused, refused]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_broker_cannot_take_as_a_request_is_not_decided_by_the_controller() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let refused = Err(ErrorCode::InvalidRequest);
    let (retention, size) = ("retention.ms", "max.message.bytes");
    let twice = [(size, SET, Some("5")), (retention, SET, Some("5")), (size, DELETE, None)];
    assert_eq!(alter(&bed, (TOPIC, "t"), &twice, false).await, refused);
    for operation in [SET, APPEND, SUBTRACT] {
        assert_eq!(alter(&bed, (TOPIC, "t"), &[("cleanup.policy", operation, None)], false).await, refused);
    }
    assert_eq!(
        replace(&bed, &[(TOPIC, "t", &[(size, Some("5")), (size, Some("6"))])]).await,
        Some(vec![refused])
    );
    assert_eq!(replace(&bed, &[(TOPIC, "t", &[(size, None)])]).await, Some(vec![refused]));
    assert_eq!(described(&bed, size).await.1, DEFAULT);
    // Of other brokers, of other kinds, and values that a broker cannot have.
    let bytes = [("message.max.bytes", SET, Some("2000"))];
    assert_eq!(bed.any(), 1);
    for resource in [(BROKER, "2"), (BROKER, "first"), (1, "t"), (3, "t")] {
        assert_eq!(alter(&bed, resource, &bytes, false).await, refused, "{resource:?}");
    }
    assert_eq!(alter(&bed, (BROKER, ""), &[("message.max.bytes", SET, Some("many"))], false).await, refused);
    assert_eq!(alter(&bed, (BROKER, ""), &[("message.max.bytes", 4, Some("5"))], false).await, refused);
    assert_eq!(alter(&bed, (TOPIC, ""), &[(size, SET, Some("5"))], false).await, refused);
    let illegal = alter(&bed, (TOPIC, "a b"), &[(size, SET, Some("5"))], false).await;
    assert_eq!(illegal, Err(ErrorCode::InvalidTopicException));
    let not_a_list = alter(&bed, (TOPIC, "a b"), &[(size, APPEND, Some("5"))], false).await;
    assert_eq!(not_a_list, Err(ErrorCode::InvalidConfig));
    assert_eq!(alter(&bed, (BROKER, "1"), &bytes, false).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_a_change_names_twice_is_refused_and_others_are_changed() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.topic("u", &[1, 2, 3], &[]).await;
    let resource = |name: &str, value: &str| {
        let change =
            AlterableConfig::default().with_name(text("max.message.bytes")).with_value(Some(text(value)));
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(vec![change])
    };
    let resources = vec![resource("t", "5"), resource("u", "6"), resource("t", "7")];
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    let response = bed.send(bed.any(), request, 1).await.unwrap();
    let codes: Vec<i16> = response.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest.code(), 0, ErrorCode::InvalidRequest.code()]);
    bed.cluster.settled().await;
    assert_eq!(described(&bed, "max.message.bytes").await.1, DEFAULT);
    assert_eq!(described_of(&bed, "u", "max.message.bytes").await, ("6".to_owned(), OF_TOPIC));
}

#[tokio::test(start_paused = true)]
async fn a_topic_without_a_setting_of_its_own_has_that_of_all_brokers() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let change = [("min.insync.replicas", SET, Some("3"))];
    assert_eq!(alter(&bed, (BROKER, ""), &change, false).await, Ok(()));
    assert_eq!(described(&bed, "min.insync.replicas").await, ("3".to_owned(), OF_ALL_BROKERS));
    bed.fault(3, Kill);
    bed.until("the shrink", async || bed.in_sync("t") == [1, 2]).await;
    bed.cluster.settled().await;
    assert_eq!(bed.produce("t", &["a"], -1).await, Err(ErrorCode::NotEnoughReplicas));
    // Eligible leader replicas depend on it: it can be neither removed nor set for one broker (`ConfigurationControlManager`).
    let removal = [("min.insync.replicas", DELETE, None)];
    assert_eq!(alter(&bed, (BROKER, ""), &removal, false).await, Err(ErrorCode::InvalidConfig));
    assert_eq!(replace(&bed, &[(BROKER, "", &[])]).await, Some(vec![Err(ErrorCode::InvalidConfig)]));
    let of_one = [("min.insync.replicas", SET, Some("2"))];
    assert_eq!(alter(&bed, (BROKER, "1"), &of_one, false).await, Err(ErrorCode::InvalidConfig));
    assert_eq!(alter(&bed, (BROKER, ""), &of_one, false).await, Ok(()));
    assert_eq!(bed.produce("t", &["a"], -1).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn how_long_producers_are_remembered_and_whether_they_are_verified_changes_while_brokers_run() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    let described = async |broker: &'static str, name: &'static str| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text(broker))
            .with_configuration_keys(Some(vec![text(name)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response = bed.send(1, request, 4).await.unwrap();
        let configs = &response.results[0].configs;
        configs
            .iter()
            .map(|config| (config.value.clone().unwrap().to_string(), config.config_source))
            .collect::<Vec<_>>()
    };
    let (expiration, verification) =
        ("producer.id.expiration.ms", "transaction.partition.verification.enable");
    for (name, value) in [(expiration, "0"), (expiration, "soon"), (verification, "maybe")] {
        let refused = alter(&bed, (BROKER, ""), &[(name, SET, Some(value))], false).await;
        assert_eq!(refused, Err(ErrorCode::InvalidRequest), "{name}={value}");
    }
    assert_eq!(described("1", expiration).await, [("86400000".to_owned(), STATIC)]);
    assert_eq!(described("", expiration).await, []);
    let changes = [(expiration, SET, Some("60000")), (verification, SET, Some("false"))];
    assert_eq!(alter(&bed, (BROKER, ""), &changes, false).await, Ok(()));
    assert_eq!(described("", expiration).await, [("60000".to_owned(), OF_ALL_BROKERS)]);
    assert_eq!(described("1", verification).await, [("false".to_owned(), OF_ALL_BROKERS)]);
    // What one broker has comes first.
    let of_one = [(expiration, SET, Some("86400000"))];
    assert_eq!(alter(&bed, (BROKER, "1"), &of_one, false).await, Ok(()));
    assert_eq!(described("1", expiration).await, [("86400000".to_owned(), OF_BROKER)]);
    let idempotent = || BatchBuilder::new(START).producer(8, 0, 0).record(START, None, Some(b"a")).build();
    assert_eq!(bed.produce_to(1, "t", &idempotent(), -1).await, Ok(0));
    assert_eq!(bed.produce_to(1, "t", &idempotent(), -1).await, Ok(0));
    tokio::time::sleep(seconds(700)).await;
    assert_eq!(bed.produce_to(1, "t", &idempotent(), -1).await, Ok(0));
    assert_eq!(alter(&bed, (BROKER, "1"), &[(expiration, DELETE, None)], false).await, Ok(()));
    tokio::time::sleep(seconds(700)).await;
    assert_eq!(bed.produce_to(1, "t", &idempotent(), -1).await, Ok(1));
    assert_eq!(alter(&bed, (BROKER, ""), &[(expiration, DELETE, None)], false).await, Ok(()));
    tokio::time::sleep(seconds(700)).await;
    assert_eq!(bed.produce_to(1, "t", &idempotent(), -1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn elements_are_appended_to_those_settings_of_brokers_that_are_lists() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let (policy, size) = ("log.cleanup.policy", "message.max.bytes");
    for broker in ["", "1"] {
        for (name, operation) in [(size, APPEND), (size, SUBTRACT), ("node.id", APPEND)] {
            // Before the values are looked at, of which the first is not allowed.
            let changes = [(policy, SET, Some("forget")), (name, operation, Some("5"))];
            let refused = alter(&bed, (BROKER, broker), &changes, false).await;
            assert_eq!(refused, Err(ErrorCode::InvalidConfig), "{name}");
        }
        let unknown = alter(&bed, (BROKER, broker), &[(policy, APPEND, Some("forget"))], false).await;
        assert_eq!(unknown, Err(ErrorCode::InvalidRequest));
    }
    assert_eq!(alter(&bed, (BROKER, ""), &[(policy, APPEND, Some("compact"))], false).await, Ok(()));
    assert_eq!(described(&bed, "cleanup.policy").await, ("delete,compact".to_owned(), OF_ALL_BROKERS));
    assert_eq!(alter(&bed, (BROKER, ""), &[(policy, SUBTRACT, Some("delete"))], false).await, Ok(()));
    assert_eq!(described(&bed, "cleanup.policy").await, ("compact".to_owned(), OF_ALL_BROKERS));
}

#[tokio::test(start_paused = true)]
async fn the_old_form_of_a_change_of_all_brokers_must_keep_the_number_of_in_sync_replicas() {
    let bed = Testbed::start().await;
    let (min, size) = ("min.insync.replicas", "message.max.bytes");
    let refused = Some(vec![Err(ErrorCode::InvalidConfig)]);
    // The cluster has one, although nobody has set it.
    for values in [&[][..], &[(size, Some("2000"))]] {
        assert_eq!(replace(&bed, &[(BROKER, "", values)]).await, refused);
    }
    let both = [(size, Some("2000")), (min, Some("2"))];
    assert_eq!(replace(&bed, &[(BROKER, "", &both)]).await, Some(vec![Ok(())]));
    assert_eq!(replace(&bed, &[(BROKER, "", &[])]).await, refused);
    // A single broker has none of its own.
    assert_eq!(replace(&bed, &[(BROKER, "1", &both[..1])]).await, Some(vec![Ok(())]));
    assert_eq!(replace(&bed, &[(BROKER, "1", &[])]).await, Some(vec![Ok(())]));
    assert_eq!(replace(&bed, &[(BROKER, "1", &both)]).await, refused);
}

/// The result of an election: of preferred leaders (0) or an unclean one (1).
async fn elect(bed: &Testbed, kind: i8, topic: &str) -> Result<(), ErrorCode> {
    let topic = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default()
        .with_election_type(kind)
        .with_topic_partitions(Some(vec![topic]))
        .with_timeout_ms(10_000);
    let response = bed.send(bed.any(), request, 2).await.unwrap();
    checked(response.replica_election_results[0].partition_result[0].error_code, ())
}

#[tokio::test(start_paused = true)]
async fn the_preferred_leader_is_elected_when_asked_for_if_it_is_in_sync() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    assert_eq!(elect(&bed, 0, "t").await, Err(ErrorCode::ElectionNotNeeded));
    assert_eq!(elect(&bed, 0, "u").await, Err(ErrorCode::UnknownTopicOrPartition));
    assert!(bed.cluster.move_leader("t", 0, NodeId(3)));
    assert_eq!(elect(&bed, 0, "t").await, Ok(()));
    assert_eq!(bed.leader("t"), Some(1));
    bed.fault(1, Kill);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    assert_eq!(elect(&bed, 0, "t").await, Err(ErrorCode::PreferredLeaderNotAvailable));
}

#[tokio::test(start_paused = true)]
async fn an_unclean_election_that_is_asked_for_lets_a_replica_lead_that_was_not_in_sync() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    assert_eq!(elect(&bed, 1, "t").await, Err(ErrorCode::ElectionNotNeeded));
    bed.fault(2, Pause);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    bed.produce("t", &["lost"], -1).await.unwrap();
    bed.fault(1, Kill);
    bed.resume(2);
    bed.until("no leader", async || bed.leader("t").is_none()).await;
    bed.until("its return", async || bed.cluster.metadata().active(NodeId(2)).is_some()).await;
    assert_eq!(elect(&bed, 1, "t").await, Ok(()));
    assert_eq!(bed.leader("t"), Some(2));
    bed.cluster.settled().await;
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a"]);
}
