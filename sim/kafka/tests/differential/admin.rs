//! Topics and their configurations.

use proto_kafka::messages::alter_configs_request::{
    AlterConfigsResource as Replacement, AlterableConfig as Value,
};
use proto_kafka::messages::create_partitions_request::CreatePartitionsTopic;
use proto_kafka::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use proto_kafka::messages::describe_configs_request::DescribeConfigsResource;
use proto_kafka::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use proto_kafka::messages::*;

use crate::configs::Resource;
use crate::side::{Side, text, topic_name};
use crate::steps::{Step, TOPICS};

/// Configurations whose values are compared.
const COMPARED: [&str; 9] = [
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "delete.retention.ms",
];

/// What all topics have, because nothing else determines when a log is compacted.
const LAG: (&str, &str) = ("min.compaction.lag.ms", "9000000000000");

impl Side {
    pub async fn admin(&mut self, step: &Step) -> Vec<String> {
        match step {
            Step::Create { topic, partitions, replicas, configs, validate } => {
                let name = self.name("t", *topic);
                let all = configs.iter().chain(&[LAG]).map(|(name, value)| {
                    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
                });
                let wanted = CreatableTopic::default()
                    .with_name(topic_name(&name))
                    .with_num_partitions(*partitions)
                    .with_replication_factor(*replicas)
                    .with_configs(all.collect());
                let request = CreateTopicsRequest::default()
                    .with_topics(vec![wanted])
                    .with_timeout_ms(30_000)
                    .with_validate_only(*validate);
                let response = self.send(self.any(), &request, 7).await.expect("a response");
                let created = &response.topics[0];
                if created.error_code == 0 && !validate {
                    self.wait_for_topic(&name, created.num_partitions as usize).await;
                }
                vec![format!(
                    "{} {} x {}",
                    created.error_code, created.num_partitions, created.replication_factor
                )]
            }
            Step::CreateNamed(name) => {
                let wanted = CreatableTopic::default()
                    .with_name(topic_name(name))
                    .with_num_partitions(1)
                    .with_replication_factor(1);
                let request = CreateTopicsRequest::default()
                    .with_topics(vec![wanted])
                    .with_timeout_ms(30_000)
                    .with_validate_only(true);
                let response = self.send(self.any(), &request, 7).await.expect("a response");
                // Whether an internal topic was needed before is not compared.
                let code = if name.starts_with("__") { 0 } else { response.topics[0].error_code };
                vec![format!("{code} ")]
            }
            Step::Delete { topic } => {
                let name = self.name("t", *topic);
                let request = DeleteTopicsRequest::default()
                    .with_topic_names(vec![topic_name(&name)])
                    .with_timeout_ms(30_000);
                let response = self.send(self.any(), &request, 5).await.expect("a response");
                let code = response.responses[0].error_code;
                if code == 0 {
                    self.wait_for_topic(&name, 0).await;
                    // Coordinators forget the offsets of the topic later.
                    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                    for producer in self.producers.values_mut() {
                        producer.sequences.retain(|(place, _), _| place != topic);
                    }
                    self.deleted(*topic);
                }
                vec![format!("{code} ")]
            }
            Step::AddPartitions { topic, count, validate } => {
                let name = self.name("t", *topic);
                let wanted = CreatePartitionsTopic::default()
                    .with_name(topic_name(&name))
                    .with_count(*count)
                    .with_assignments(None);
                let request = CreatePartitionsRequest::default()
                    .with_topics(vec![wanted])
                    .with_timeout_ms(30_000)
                    .with_validate_only(*validate);
                let response = self.send(self.any(), &request, 3).await.expect("a response");
                let code = response.results[0].error_code;
                if code == 0 && !validate {
                    self.wait_for_topic(&name, *count as usize).await;
                }
                vec![format!("{code} ")]
            }
            Step::Alter { topic, operation, config } => {
                let change = AlterableConfig::default()
                    .with_name(text(config.0))
                    .with_config_operation(*operation)
                    .with_value(Some(text(config.1)));
                let resource = AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(&self.name("t", *topic)))
                    .with_configs(vec![change]);
                let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
                let response = self.send(self.any(), &request, 1).await.expect("a response");
                let code = response.responses[0].error_code;
                if code == 0 {
                    // Brokers learn of it later.
                    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                }
                vec![format!("{code} ")]
            }
            Step::AlterAll { replaces, version, validate, resources } => {
                let codes = self.alter_all(*replaces, *version, *validate, resources).await;
                // Brokers learn of it later.
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                codes.iter().map(|code| format!("{code} ")).collect()
            }
            Step::DescribeConfigs { topic } => {
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(&self.name("t", *topic)))
                    .with_configuration_keys(None);
                let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
                let response = self.send(self.any(), &request, 4).await.expect("a response");
                let described = &response.results[0];
                let mut lines = vec![format!("{} ", described.error_code)];
                for name in COMPARED {
                    let found = described.configs.iter().find(|config| config.name.as_str() == name);
                    let shown = found.map(|config| (config.value.clone(), config.config_source));
                    lines.push(format!("{name} {shown:?}"));
                }
                lines
            }
            other => panic!("{other:?} is for others"),
        }
    }

    /// The error of each resource.
    async fn alter_all(
        &mut self,
        replaces: bool,
        version: i16,
        validate: bool,
        resources: &[Resource],
    ) -> Vec<i16> {
        let named = resources.iter().map(|resource| match resource {
            Resource::Topic(topic, changes) => (2, self.name("t", *topic), changes),
            Resource::Other(kind, name, changes) => (*kind, (*name).to_owned(), changes),
        });
        let named: Vec<_> = named.collect();
        let node = self.any();
        if replaces {
            let resources = named.iter().map(|(kind, resource, changes)| {
                let lag = (*kind == 2).then_some((0, LAG.0, Some(LAG.1)));
                let values = changes.iter().copied().chain(lag);
                let values = values.map(|(_, name, value)| {
                    Value::default().with_name(text(name)).with_value(value.map(text))
                });
                Replacement::default()
                    .with_resource_type(*kind)
                    .with_resource_name(text(resource))
                    .with_configs(values.collect())
            });
            let request = AlterConfigsRequest::default()
                .with_resources(resources.collect())
                .with_validate_only(validate);
            let response = self.send(node, &request, version).await.expect("a response");
            return response.responses.iter().map(|response| response.error_code).collect();
        }
        let resources = named.iter().map(|(kind, resource, changes)| {
            let changes = changes.iter().map(|(operation, name, value)| {
                AlterableConfig::default()
                    .with_name(text(name))
                    .with_config_operation(*operation)
                    .with_value(value.map(text))
            });
            AlterConfigsResource::default()
                .with_resource_type(*kind)
                .with_resource_name(text(resource))
                .with_configs(changes.collect())
        });
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(resources.collect())
            .with_validate_only(validate);
        let response = self.send(node, &request, version).await.expect("a response");
        response.responses.iter().map(|response| response.error_code).collect()
    }

    /// Waits until all topics have leaders, and all replicas that run are in sync.
    pub async fn wait_for_all(&mut self) {
        for topic in 0..TOPICS {
            let name = self.name("t", topic);
            let known = self.describe(self.any(), &name).await.map_or(0, |topic| topic.partitions.len());
            self.wait_for_topic(&name, known).await;
        }
    }
}
