//! What of a broker changes while it runs, beside the defaults of topics.

use super::{Broker, Options};
use crate::metadata::config::{self, ConfigError, Kind};

/// A setting of brokers that clients change while these run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DynamicKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The value that the cluster's options have, where no client has changed it.
    pub(crate) fixed: fn(&Options) -> String,
}

/// How long a silent producer is remembered, in milliseconds.
const PRODUCER_EXPIRATION: DynamicKey = DynamicKey {
    name: "producer.id.expiration.ms",
    kind: Kind::Int(1, i32::MAX as i64),
    fixed: |options| options.producer_expiration.as_millis().to_string(),
};

/// Whether leaders verify that a partition is part of a transaction.
const VERIFICATION: DynamicKey = DynamicKey {
    name: "transaction.partition.verification.enable",
    kind: Kind::Boolean,
    fixed: |options| options.verify_transactions.to_string(),
};

/// All of them (`DynamicProducerStateManagerConfig`).
pub(crate) const DYNAMIC: [DynamicKey; 2] = [PRODUCER_EXPIRATION, VERIFICATION];

/// Checks a value for a setting of brokers that changes while they run, the defaults of topics included; `None` if there is none
/// of this name.
pub(crate) fn check(name: &str, value: &str) -> Option<Result<(), ConfigError>> {
    if let Some(key) = config::by_broker_name(name) {
        return Some(config::check(key.name, value));
    }
    let key = DYNAMIC.into_iter().find(|key| key.name == name)?;
    Some(config::check_value(name, key.kind, value))
}

impl Broker {
    /// The value of a setting: of this broker, or else of all, or else what the options have.
    fn setting(&self, key: DynamicKey) -> String {
        let image = self.image();
        let of = |node| image.broker_configs.get(&node).and_then(|configs| configs.get(key.name));
        let changed = of(Some(self.id)).or_else(|| of(None));
        changed.map_or_else(|| (key.fixed)(self.options()), |value| value.trim().to_owned())
    }

    /// Whether it verifies that partitions are part of a transaction before it appends to them.
    pub(crate) fn verifies_transactions(&self) -> bool {
        self.setting(VERIFICATION).eq_ignore_ascii_case("true")
    }

    /// After how many milliseconds it forgets a silent producer.
    pub(crate) fn producer_expiration(&self) -> i64 {
        // Only numbers are accepted; the options may have more than fits.
        self.setting(PRODUCER_EXPIRATION).parse().unwrap_or(i64::MAX)
    }
}
