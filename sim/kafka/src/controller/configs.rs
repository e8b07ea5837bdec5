//! Changes of configurations (`ConfigurationControlManager`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Controller;
use crate::cluster::dynamic;
use crate::error::ErrorCode;
use crate::metadata::config::{self, ConfigKey};
use crate::metadata::{Image, check_topic_name};
use crate::protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use crate::protocol::text;
use crate::types::NodeId;

/// The type of a topic among resources (`ConfigResource.Type`).
pub(crate) const TOPIC: i8 = 2;
const MIN_IN_SYNC: &str = "min.insync.replicas";

/// The type of a broker.
pub(crate) const BROKER: i8 = 4;

/// The operations of a change (`AlterConfigOp.OpType`).
pub(crate) const SET: i8 = 0;
pub(crate) const DELETE: i8 = 1;
const APPEND: i8 = 2;
pub(crate) const SUBTRACT: i8 = 3;

impl Controller {
    /// Changes configurations, or replaces them all. A response for each resource, in the order of the request.
    pub(super) fn alter_configs(
        &mut self,
        request: &IncrementalAlterConfigsRequest,
        replace: bool,
    ) -> IncrementalAlterConfigsResponse {
        let responses = request.resources.iter().map(|resource| {
            let result = if request.validate_only {
                let mut image = Image::clone(&self.image());
                self.alter_resource(&mut image, resource, replace)
            } else {
                self.change(|controller, image| controller.alter_resource(image, resource, replace))
            };
            let (error, message) = match result {
                Ok(()) => (0, None),
                Err((error, message)) => (error.code(), Some(text(&message))),
            };
            AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
                .with_error_code(error)
                .with_error_message(message)
        });
        let responses = responses.collect();
        let response = IncrementalAlterConfigsResponse::default().with_responses(responses);
        if !request.validate_only {
            // Where unclean elections are allowed now, they happen.
            self.elect_leaderless();
        }
        response
    }

    fn alter_resource(
        &self,
        image: &mut Image,
        resource: &AlterConfigsResource,
        replace: bool,
    ) -> Result<(), (ErrorCode, String)> {
        let name = resource.resource_name.as_str();
        match resource.resource_type {
            TOPIC => {
                let unknown =
                    || (ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
                let topic = image.topic(name).cloned();
                // The changes are looked at before the topic is (`validateAlterConfig`).
                let before = topic.as_ref().map(|topic| topic.configs.clone()).unwrap_or_default();
                check_lists(&resource.configs)?;
                if name.is_empty() {
                    let message = "Default topic resources are not allowed.";
                    return Err((ErrorCode::InvalidRequest, message.to_owned()));
                }
                check_topic_name(name).map_err(|message| (ErrorCode::InvalidTopicException, message))?;
                let configs = altered(&before, &resource.configs, replace, config::by_name, |key, value| {
                    config::check(key, value).map_err(|error| error.to_string())
                })?;
                let mut topic = topic.ok_or_else(unknown)?;
                Arc::make_mut(&mut topic).configs = configs;
                image.topics.insert(topic.id, topic);
                Ok(())
            }
            BROKER => {
                let node = if name.is_empty() {
                    None
                } else {
                    let id = name.parse().map(NodeId);
                    let id = id.ok().filter(|id| image.brokers.contains_key(id));
                    Some(
                        id.ok_or_else(|| (ErrorCode::InvalidRequest, format!("Invalid broker name {name}")))?,
                    )
                };
                let before = image.broker_configs.get(&node).cloned().unwrap_or_default();
                let known = config::by_broker_name;
                let configs = altered(&before, &resource.configs, replace, known, |key, value| {
                    match dynamic::check(key, value) {
                        Some(checked) => checked.map_err(|error| error.to_string()),
                        // Of the others, nothing that is simulated depends on a dynamic change.
                        None => Err(format!("Cannot update these configs dynamically: Set({key})")),
                    }
                });
                // A broker checks the values before the controller sees them, and refuses them with another error
                // (KAFKA-13609; `ConfigAdminManager.validateBrokerConfigChange`).
                let configs = configs.map_err(|(_, message)| (ErrorCode::InvalidRequest, message))?;
                if self.settings.eligible_leader_replicas {
                    let is_changed = resource.configs.iter().any(|change| &*change.name == MIN_IN_SYNC)
                        // The whole cluster has one from the beginning (`maybeGenerateElrSafetyRecords`).
                        || replace && (node.is_none() || before.contains_key(MIN_IN_SYNC));
                    check_min_in_sync(
                        node.is_some() && is_changed,
                        is_changed && !configs.contains_key(MIN_IN_SYNC),
                    )?;
                }
                image.broker_configs.insert(node, configs);
                Ok(())
            }
            other => Err((ErrorCode::InvalidRequest, format!("Unsupported config resource type {other}"))),
        }
    }
}

/// The number of in-sync replicas that eligible leader replicas depend on is one for the whole cluster.
fn check_min_in_sync(is_of_broker: bool, is_removed: bool) -> Result<(), (ErrorCode, String)> {
    let message = match (is_of_broker, is_removed) {
        (true, _) => format!("Broker-level {MIN_IN_SYNC} cannot be altered while ELR is enabled."),
        (_, true) => format!("Cluster-level {MIN_IN_SYNC} cannot be removed while ELR is enabled."),
        _ => return Ok(()),
    };
    Err((ErrorCode::InvalidConfig, message))
}

/// Elements are only appended to lists and removed from them, which Kafka looks at before all else. For brokers, the one that got
/// the request does.
fn check_lists(changes: &[AlterableConfig]) -> Result<(), (ErrorCode, String)> {
    let is_list = |name: &str| config::by_name(name).is_some_and(|key| key.kind.is_list());
    match change_of_no_list(changes, is_list) {
        None => Ok(()),
        Some((operation, name)) => {
            let message = format!("Can't {operation} to key {name} because its type is not LIST.");
            Err((ErrorCode::InvalidConfig, message))
        }
    }
}

/// The first change that appends elements to what is no list, or removes them from it: the operation, and the configuration.
pub(crate) fn change_of_no_list(
    changes: &[AlterableConfig],
    is_list: impl Fn(&str) -> bool,
) -> Option<(&'static str, &str)> {
    changes.iter().find_map(|change| {
        let operation = match change.config_operation {
            APPEND => "APPEND",
            SUBTRACT => "SUBTRACT",
            _ => return None,
        };
        (!is_list(&change.name)).then_some((operation, change.name.as_str()))
    })
}

/// The configurations after changes. `known` finds one by its name.
fn altered(
    before: &BTreeMap<String, String>,
    changes: &[AlterableConfig],
    replace: bool,
    known: impl Fn(&str) -> Option<&'static ConfigKey>,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<BTreeMap<String, String>, (ErrorCode, String)> {
    let mut after = if replace { BTreeMap::new() } else { before.clone() };
    for change in changes {
        let name = change.name.to_string();
        let invalid = |message: String| (ErrorCode::InvalidConfig, message);
        let current = || {
            let current = after
                .get(&name)
                .map_or_else(|| known(&name).map_or("", |key| key.default).to_owned(), String::clone);
            current.split(',').filter(|element| !element.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let given = change.value.as_ref().map(|value| value.to_string());
        let value = match (change.config_operation, given) {
            (SET, Some(value)) => Some(value),
            (SET, None) => return Err(invalid(format!("Null value not supported for : {name}"))),
            (DELETE, _) => None,
            (APPEND, Some(value)) => {
                let mut elements = current();
                elements.extend(
                    value
                        .split(',')
                        .map(str::to_owned)
                        .filter(|new| !elements.contains(new))
                        .collect::<Vec<_>>(),
                );
                Some(elements.join(","))
            }
            (SUBTRACT, Some(value)) => {
                let mut elements = current();
                elements.retain(|element| !value.split(',').any(|gone| gone == element));
                Some(elements.join(","))
            }
            _ => return Err((ErrorCode::InvalidRequest, format!("Unknown operation for {name}"))),
        };
        match value {
            Some(value) => {
                check(&name, &value).map_err(invalid)?;
                after.insert(name, value);
            }
            None => {
                after.remove(&name);
            }
        }
    }
    Ok(after)
}
