//! Changes of configurations: the broker that a client asks refuses what it can see itself, the controller decides on the others
//! (`ConfigAdminManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::configs::broker_settings;
use crate::cluster::Broker;
use crate::cluster::dynamic::DYNAMIC;
use crate::controller::{
    BROKER, ControlRequest, ControlResponse, DELETE, SET, SUBTRACT, TOPIC, change_of_no_list,
};
use crate::error::ErrorCode;
use crate::metadata::config;
use crate::protocol::messages::alter_configs_request::AlterConfigsResource as Resource;
use crate::protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use crate::protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Altered;
use crate::protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use crate::protocol::text;
use crate::types::NodeId;

/// How long a broker waits for the controller.
const WAIT: Duration = Duration::from_secs(30);

pub(super) async fn alter(
    broker: &Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> IncrementalAlterConfigsResponse {
    let responses = changed(broker, request, ControlRequest::AlterConfigs).await;
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// The old AlterConfigs, which replaces everything.
pub(super) async fn replace(
    broker: &Arc<Broker>,
    request: AlterConfigsRequest,
    _version: i16,
) -> AlterConfigsResponse {
    let resources = request.resources.iter().map(|resource| {
        let configs = resource.configs.iter().map(|config| {
            AlterableConfig::default()
                .with_name(config.name.clone())
                .with_config_operation(SET)
                .with_value(config.value.clone())
        });
        AlterConfigsResource::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_configs(configs.collect())
    });
    let changes = IncrementalAlterConfigsRequest::default()
        .with_resources(resources.collect())
        .with_validate_only(request.validate_only);
    let responses =
        changed(broker, changes, ControlRequest::ReplaceConfigs).await.into_iter().map(|response| {
            Replaced::default()
                .with_resource_type(response.resource_type)
                .with_resource_name(response.resource_name)
                .with_error_code(response.error_code)
                .with_error_message(response.error_message)
        });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// The types of resources that Kafka knows (`ConfigResource.Type`): topics, brokers, loggers of brokers, client metrics, groups.
const TYPES: [i8; 5] = [TOPIC, BROKER, 8, 16, 32];

/// Whether a request of the old form names a resource more than once. All types that Kafka does not know are one here
/// (`AlterConfigsResponse.errors`).
pub(super) fn names_twice(request: &AlterConfigsRequest) -> bool {
    let known = |kind: i8| if TYPES.contains(&kind) { kind } else { 0 };
    let mut names = BTreeSet::new();
    let named = |resource: &Resource| (known(resource.resource_type), resource.resource_name.clone());
    !request.resources.iter().all(|resource| names.insert(named(resource)))
}

/// A response for each resource, in the order of the request.
async fn changed(
    broker: &Arc<Broker>,
    mut request: IncrementalAlterConfigsRequest,
    ask: impl FnOnce(IncrementalAlterConfigsRequest) -> ControlRequest,
) -> Vec<Altered> {
    let mut responses = Vec::new();
    let mut forwarded = Vec::new();
    let mut places = Vec::new();
    let refusals = refusals(broker, &request.resources);
    for (resource, refusal) in std::mem::take(&mut request.resources).into_iter().zip(refusals) {
        let response = Altered::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match refusal {
            Some((error, message)) => {
                response.with_error_code(error.code()).with_error_message(Some(text(&message)))
            }
            None => {
                places.push(responses.len());
                forwarded.push(resource);
                response
            }
        });
    }
    if forwarded.is_empty() {
        return responses;
    }
    request.resources = forwarded;
    let decided = match broker.ask_controller(ask(request), WAIT).await {
        Ok(ControlResponse::AlterConfigs(response)) => Ok(response.responses),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error),
    };
    match decided {
        // One for each, in their order.
        Ok(decided) => {
            for (place, decision) in places.into_iter().zip(decided) {
                if let Some(response) = responses.get_mut(place) {
                    *response = decision;
                }
            }
        }
        Err(error) => {
            for place in places {
                if let Some(response) = responses.get_mut(place) {
                    response.error_code = error.code();
                }
            }
        }
    }
    responses
}

/// Why the broker itself refuses each of these, if it does (`ConfigAdminManager.preprocess`).
fn refusals(broker: &Broker, resources: &[AlterConfigsResource]) -> Vec<Option<(ErrorCode, String)>> {
    let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for resource in resources {
        *times.entry(named(resource)).or_default() += 1;
    }
    let refusal = |resource: &AlterConfigsResource| {
        if times.get(&named(resource)).is_some_and(|times| *times > 1) {
            return Some(invalid("Each resource must appear at most once.".to_owned()));
        }
        check(broker.id, resource).map_err(invalid).and_then(|()| check_lists(broker, resource)).err()
    };
    resources.iter().map(refusal).collect()
}

fn invalid(message: String) -> (ErrorCode, String) {
    (ErrorCode::InvalidRequest, message)
}

/// Of a broker, elements are only appended to lists and removed from them, which is looked at before the values are
/// (`ConfigAdminManager.prepareIncrementalConfigs`). What is not simulated is left to the controller, which refuses it.
fn check_lists(broker: &Broker, resource: &AlterConfigsResource) -> Result<(), (ErrorCode, String)> {
    if resource.resource_type != BROKER {
        return Ok(());
    }
    let is_list = |name: &str| match config::by_broker_name(name) {
        Some(key) => key.kind.is_list(),
        None => {
            let is_dynamic = DYNAMIC.iter().any(|key| key.name == name);
            !is_dynamic && !broker_settings(broker).iter().any(|(known, _)| *known == name)
        }
    };
    match change_of_no_list(&resource.configs, is_list) {
        None => Ok(()),
        Some((operation, name)) => {
            let operation = operation.to_lowercase();
            let message = format!("Config value {operation} is not allowed for config key: {name}");
            Err((ErrorCode::InvalidConfig, message))
        }
    }
}

fn check(broker: NodeId, resource: &AlterConfigsResource) -> Result<(), String> {
    let mut names = BTreeSet::new();
    if !resource.configs.iter().all(|config| names.insert(config.name.as_str())) {
        return Err("Error due to duplicate config keys".to_owned());
    }
    let has_no_value =
        |config: &&AlterableConfig| config.config_operation != DELETE && config.value.is_none();
    let without: Vec<_> =
        resource.configs.iter().filter(has_no_value).map(|config| config.name.as_str()).collect();
    if !without.is_empty() {
        return Err(format!("Null value not supported for : {}", without.join(", ")));
    }
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => Ok(()),
        BROKER => {
            if !name.is_empty() {
                let id: i32 =
                    name.parse().map_err(|_| format!("Node id must be an integer, but it is: {name}"))?;
                if id != broker.0 {
                    return Err(format!("Unexpected broker id, expected {broker}, but received {name}"));
                }
            }
            let unknown = resource
                .configs
                .iter()
                .map(|config| config.config_operation)
                .find(|operation| !(SET..=SUBTRACT).contains(operation));
            unknown.map_or(Ok(()), |operation| Err(format!("Unknown operations type {operation}")))
        }
        other => Err(format!("Unknown resource type {other}")),
    }
}
