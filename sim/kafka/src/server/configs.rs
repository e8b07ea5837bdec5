//! Configurations, as any broker describes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Broker;
use crate::cluster::dynamic::{DYNAMIC, DynamicKey};
use crate::controller::{BROKER, TOPIC, topic_defaults};
use crate::error::ErrorCode;
use crate::metadata::config::{self, Kind};
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::protocol::text;
use crate::types::NodeId;

const MIN_IN_SYNC: &str = "min.insync.replicas";

/// Where a value comes from (`ConfigSource`).
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 2;
const OF_ALL_BROKERS: i8 = 3;
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;

pub(super) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeConfigsRequest,
    _version: i16,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described(broker, resource, request.include_synonyms) {
            Ok(configs) => result.with_configs(configs),
            Err((error, message)) => {
                result.with_error_code(error.code()).with_error_message(Some(text(&message)))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn described(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let image = broker.image();
    let name = resource.resource_name.as_str();
    let fixed = &broker.options().controller.topic_defaults;
    let is_wanted = |name: &str| {
        let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
        keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
    };
    match resource.resource_type {
        TOPIC => {
            crate::metadata::check_topic_name(name)
                .map_err(|message| (ErrorCode::InvalidTopicException, message))?;
            let topic = image.topic(name).ok_or_else(|| {
                let error = ErrorCode::UnknownTopicOrPartition;
                (error, error.to_string())
            })?;
            let mut dynamic = topic_defaults(&BTreeMap::new(), &image);
            // With eligible leader replicas the controller writes it for the whole cluster
            // (`ConfigurationControlManager.maybeGenerateElrSafetyRecords`).
            if let Some(key) = config::by_name(MIN_IN_SYNC) {
                let value = fixed.get(MIN_IN_SYNC).map_or(key.default, String::as_str);
                dynamic.entry(MIN_IN_SYNC.to_owned()).or_insert_with(|| value.to_owned());
            }
            let keys = config::KEYS.iter().filter(|key| is_wanted(key.name));
            let described = keys.map(|key| {
                let mut all = Vec::new();
                let sources = [(&topic.configs, OF_TOPIC), (&dynamic, OF_ALL_BROKERS), (fixed, STATIC)];
                for (place, (values, source)) in sources.into_iter().enumerate() {
                    if let Some(value) = values.get(key.name) {
                        let name = if place == 0 { key.name } else { key.broker_name };
                        all.push((name, value.as_str(), source));
                    }
                }
                let of_default = if key.broker_name.is_empty() { key.name } else { key.broker_name };
                all.push((of_default, key.default, DEFAULT));
                entry(key.name, key.kind, &all, false, synonyms)
            });
            Ok(described.collect())
        }
        BROKER => {
            let own = name.parse().map(NodeId).ok().filter(|id| *id == broker.id);
            if own.is_none() && !name.is_empty() {
                let message = format!(
                    "Unexpected broker id, expected {} or empty string, but received {name}",
                    broker.id
                );
                return Err((ErrorCode::InvalidRequest, message));
            }
            let empty = BTreeMap::new();
            let of_all = image.broker_configs.get(&None).unwrap_or(&empty);
            let of_own = own.and_then(|id| image.broker_configs.get(&Some(id))).unwrap_or(&empty);
            let mut described = Vec::new();
            for key in
                config::KEYS.iter().filter(|key| is_wanted(key.broker_name) && !key.broker_name.is_empty())
            {
                let mut all = Vec::new();
                if let Some(value) = of_own.get(key.broker_name) {
                    all.push((key.broker_name, value.as_str(), OF_BROKER));
                }
                if let Some(value) = of_all.get(key.broker_name) {
                    all.push((key.broker_name, value.as_str(), OF_ALL_BROKERS));
                }
                if own.is_some() {
                    if let Some(value) = fixed.get(key.name) {
                        all.push((key.broker_name, value.as_str(), STATIC));
                    }
                    all.push((key.broker_name, key.default, DEFAULT));
                }
                if !all.is_empty() {
                    described.push(entry(key.broker_name, key.kind, &all, false, synonyms));
                }
            }
            for DynamicKey { name, kind, fixed } in DYNAMIC.into_iter().filter(|key| is_wanted(key.name)) {
                let fixed = fixed(broker.options());
                let changed = [(of_own, OF_BROKER), (of_all, OF_ALL_BROKERS)].into_iter();
                let mut all: Vec<_> = changed
                    .filter_map(|(values, source)| Some((name, values.get(name)?.as_str(), source)))
                    .collect();
                if own.is_some() {
                    all.push((name, fixed.as_str(), STATIC));
                }
                if !all.is_empty() {
                    described.push(entry(name, kind, &all, false, synonyms));
                }
            }
            if own.is_some() {
                for (name, value) in broker_settings(broker) {
                    if is_wanted(name) {
                        let all = [(name, value.as_str(), STATIC)];
                        described.push(entry(name, Kind::Text, &all, true, synonyms));
                    }
                }
            }
            Ok(described)
        }
        other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

/// What a broker is configured with beside the defaults of topics.
pub(super) fn broker_settings(broker: &Broker) -> Vec<(&'static str, String)> {
    let options = broker.options();
    let millis = |duration: Duration| duration.as_millis().to_string();
    vec![
        ("auto.create.topics.enable", options.auto_create_topics.to_string()),
        ("broker.heartbeat.interval.ms", millis(options.heartbeat_interval)),
        ("broker.id", broker.id.to_string()),
        ("broker.session.timeout.ms", millis(options.controller.session_timeout)),
        ("default.replication.factor", options.controller.replication.to_string()),
        ("log.retention.check.interval.ms", millis(options.retention_check)),
        ("node.id", broker.id.to_string()),
        ("num.partitions", options.controller.partitions.to_string()),
        ("offsets.topic.num.partitions", options.offsets_partitions.to_string()),
        ("offsets.topic.replication.factor", options.offsets_replication.to_string()),
        ("replica.lag.time.max.ms", millis(options.replica_lag)),
        ("transaction.state.log.num.partitions", options.transaction_partitions.to_string()),
        ("transaction.state.log.replication.factor", options.transaction_replication.to_string()),
    ]
}

fn entry(
    name: &str,
    kind: Kind,
    values: &[(&str, &str, i8)],
    read_only: bool,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let first = values.first().copied().unwrap_or((name, "", DEFAULT));
    let synonyms = values.iter().filter(|_| synonyms).map(|(name, value, source)| {
        DescribeConfigsSynonym::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_source(*source)
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(first.1)))
        .with_read_only(read_only)
        .with_config_source(first.2)
        .with_is_sensitive(false)
        .with_synonyms(synonyms.collect())
        .with_config_type(kind.number())
}
