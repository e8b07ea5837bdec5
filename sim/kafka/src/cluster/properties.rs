//! Settings of a cluster by the names that they have in Kafka's `server.properties`.

use std::time::Duration;

use thiserror::Error;

use super::Options;
use crate::metadata::config;
use crate::sasl::Mechanism;

/// The selector that sends consumers to a replica in their rack.
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PropertyError {
    /// Nothing that is simulated has this name.
    #[error("there is no setting {0}, or it is not simulated")]
    Unknown(String),
    /// The value is of another type, or out of bounds.
    #[error("{value} is not allowed for {name}: {reason}")]
    Invalid {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

impl Options {
    /// Changes a setting that brokers have by its name in `server.properties`: of the cluster, the controller, the
    /// coordinators, or the default of a configuration of topics.
    ///
    /// # Errors
    /// If there is no such setting, or the value is not allowed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PropertyError> {
        let invalid = |reason: String| {
            let (name, value) = (name.to_owned(), value.to_owned());
            PropertyError::Invalid { name, value, reason }
        };
        let number = |low: i64, high: i64| {
            let number = value.parse::<i64>().map_err(|error| invalid(error.to_string()))?;
            let allowed = (low..=high).contains(&number);
            if allowed { Ok(number) } else { Err(invalid(format!("it must be from {low} to {high}"))) }
        };
        let int = || number(0, i64::from(i32::MAX)).map(|number| number as i32);
        let count = || number(1, 10_000).map(|number| number as i32);
        let factor = || number(1, 100).map(|number| number as i16);
        let millis = || number(1, i64::from(i32::MAX)).map(|number| Duration::from_millis(number as u64));
        let boolean = || value.parse::<bool>().map_err(|error| invalid(error.to_string()));
        match name {
            "auto.create.topics.enable" => self.auto_create_topics = boolean()?,
            "broker.heartbeat.interval.ms" => self.heartbeat_interval = millis()?,
            "broker.session.timeout.ms" => self.controller.session_timeout = millis()?,
            "connections.max.reauth.ms" => {
                let lifetime = Duration::from_millis(u64::from(int()?.unsigned_abs()));
                self.sasl.max_reauth = (!lifetime.is_zero()).then_some(lifetime);
            }
            "controller.quota.window.num" => self.controller.mutation_window.samples = count()? as usize,
            "controller.quota.window.size.seconds" => {
                let seconds = u64::from(count()?.unsigned_abs());
                self.controller.mutation_window.size = Duration::from_secs(seconds);
            }
            "default.replication.factor" => self.controller.replication = factor()?,
            "group.consumer.heartbeat.interval.ms" => self.groups.consumer_heartbeat_interval = int()?,
            "group.consumer.session.timeout.ms" => self.groups.consumer_session_timeout = int()?,
            "group.initial.rebalance.delay.ms" => self.groups.initial_rebalance_delay = int()?,
            "group.max.session.timeout.ms" => self.groups.max_session_timeout = int()?,
            "group.max.size" => self.groups.max_size = count()? as usize,
            "group.min.session.timeout.ms" => self.groups.min_session_timeout = int()?,
            "log.cleaner.backoff.ms" => self.cleaner_backoff = millis()?,
            "log.retention.check.interval.ms" => self.retention_check = millis()?,
            "max.incremental.fetch.session.cache.slots" => self.fetch_sessions = int()? as usize,
            "num.partitions" => self.controller.partitions = count()?,
            "offsets.retention.check.interval.ms" => {
                self.groups.offsets_retention_check_interval = i64::from(int()?.max(1));
            }
            "offsets.retention.minutes" => {
                self.groups.offsets_retention = i64::from(count()?).saturating_mul(60_000);
            }
            "offsets.topic.num.partitions" => self.offsets_partitions = count()?,
            "offsets.topic.replication.factor" => self.offsets_replication = factor()?,
            "producer.id.expiration.ms" => self.producer_expiration = millis()?,
            "quota.window.num" => self.quota_window.samples = count()? as usize,
            "quota.window.size.seconds" => {
                self.quota_window.size = Duration::from_secs(u64::from(count()?.unsigned_abs()));
            }
            "replica.lag.time.max.ms" => self.replica_lag = millis()?,
            "replica.selector.class" => {
                self.rack_aware = match value {
                    RACK_AWARE => true,
                    "" => false,
                    _ => return Err(invalid(format!("only {RACK_AWARE} is simulated"))),
                };
            }
            "sasl.enabled.mechanisms" => {
                let names = value.split(',').map(|name| name.trim().parse());
                let mechanisms: Result<Vec<Mechanism>, _> = names.collect();
                self.sasl.mechanisms = mechanisms.map_err(|error| invalid(error.to_string()))?;
            }
            "transaction.abort.timed.out.transaction.cleanup.interval.ms" => {
                self.transactions.abort_check_interval = i64::from(int()?.max(1));
            }
            "transaction.max.timeout.ms" => self.transactions.max_timeout = int()?,
            "transaction.partition.verification.enable" => self.verify_transactions = boolean()?,
            "transaction.state.log.min.isr" => self.transaction_min_in_sync = factor()?,
            "transaction.state.log.num.partitions" => self.transaction_partitions = count()?,
            "transaction.state.log.replication.factor" => self.transaction_replication = factor()?,
            "transactional.id.expiration.ms" => self.transactions.id_expiration = i64::from(int()?.max(1)),
            _ => {
                let key =
                    config::by_broker_name(name).ok_or_else(|| PropertyError::Unknown(name.to_owned()))?;
                config::check(key.name, value).map_err(|error| invalid(error.to_string()))?;
                self.controller.topic_defaults.insert(key.name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::Hash;

    #[test]
    fn settings_have_the_names_of_server_properties() {
        let mut options = Options::new(Vec::new());
        options.set("auto.create.topics.enable", "false").unwrap();
        options.set("broker.session.timeout.ms", "6000").unwrap();
        options.set("min.insync.replicas", "2").unwrap();
        options.set("log.segment.bytes", "16777216").unwrap();
        options.set("sasl.enabled.mechanisms", "SCRAM-SHA-256, PLAIN").unwrap();
        assert_eq!(options.sasl.mechanisms, [Mechanism::Scram(Hash::Sha256), Mechanism::Plain]);
        options.set("quota.window.size.seconds", "5").unwrap();
        assert_eq!((options.quota_window.samples, options.quota_window.size.as_secs()), (11, 5));
        options.set("replica.selector.class", RACK_AWARE).unwrap();
        assert!(options.rack_aware && !options.auto_create_topics);
        assert_eq!(options.controller.session_timeout, Duration::from_secs(6));
        assert_eq!(
            options.controller.topic_defaults.get("segment.bytes").map(String::as_str),
            Some("16777216")
        );
        assert_eq!(options.controller.topic_defaults.len(), 2);
    }

    #[test]
    fn unknown_settings_and_values_out_of_bounds_are_refused() {
        let mut options = Options::new(Vec::new());
        for (name, value) in [
            ("", "1"),
            ("log.dirs", "/tmp"),
            ("num.partitions", "0"),
            ("num.partitions", "many"),
            ("broker.session.timeout.ms", "-1"),
            ("auto.create.topics.enable", "yes"),
            ("min.insync.replicas", "0"),
            ("sasl.enabled.mechanisms", ""),
            ("sasl.enabled.mechanisms", "PLAIN,GSSAPI"),
            ("replica.selector.class", "com.example.Selector"),
        ] {
            assert!(options.set(name, value).is_err(), "{name}={value}");
        }
    }
}
