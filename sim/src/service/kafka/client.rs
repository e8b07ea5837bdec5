//! How the clients of a run are configured, as `exactlyonce run` would be.

use std::time::Duration;

use exactlyonce::broker::kafka::{GroupProtocol, KafkaBroker, KafkaOptions};
use exactlyonce::error::chain;

use crate::network::Channel;
use crate::parties::Caller;
use crate::scenario::kafka::{KafkaCluster, Protocol};
use crate::service::BrokerOpener;

/// Opens production's broker.
#[derive(Clone)]
pub(crate) struct KafkaOpener {
    pub bootstrap: String,
    pub cluster: KafkaCluster,
    pub session_ms: u64,
}

impl BrokerOpener for KafkaOpener {
    type Broker = KafkaBroker;

    async fn open(&self, channel: &Channel) -> Result<KafkaBroker, String> {
        self.connect(channel.caller).map_err(|error| chain(&error))
    }
}

impl KafkaOpener {
    /// Connects a client of a worker, or of the operator.
    pub fn connect(&self, caller: Caller) -> Result<KafkaBroker, exactlyonce::broker::BrokerError> {
        KafkaBroker::connect(&self.options(caller))
    }

    fn options(&self, caller: Caller) -> KafkaOptions {
        let ms = Duration::from_millis;
        let mut options = KafkaOptions::new(&self.bootstrap);
        let mut set = |name: &str, value: u64| options.properties.insert(name.to_owned(), value.to_string());
        // Outages are short here.
        set("reconnect.backoff.max.ms", 500);
        set("socket.connection.setup.timeout.ms", 1_000);
        let Some(client) = caller.worker.and_then(|worker| self.cluster.client(worker)) else {
            // An append that cannot succeed ends soon.
            set("message.timeout.ms", 10_000);
            options.request_timeout = ms(5_000);
            options.metadata_interval = ms(1_000);
            return options;
        };
        set("fetch.wait.max.ms", client.fetch_wait_ms);
        set("fetch.message.max.bytes", client.fetch_bytes);
        if let Some(records) = client.queued_records {
            set("queued.min.messages", records);
        }
        if let Some(rack) = client.rack {
            set("client.rack", rack.into());
        }
        options.group_protocol = match self.cluster.protocol {
            Protocol::Classic => GroupProtocol::Classic,
            Protocol::Upgraded if caller.life == 0 => GroupProtocol::Classic,
            Protocol::Consumer | Protocol::Upgraded => GroupProtocol::Consumer,
        };
        options.session_timeout = ms(self.session_ms);
        options.properties.insert("client.id".to_owned(), client_id(caller));
        // A profile may have drawn longer sessions since.
        options.max_poll_interval = ms(client.poll_interval_ms.max(self.session_ms));
        options.request_timeout = ms(client.request_timeout_ms);
        options.metadata_interval = ms(client.metadata_interval_ms);
        options
    }
}

/// The `client.id` of a process of a worker.
fn client_id(caller: Caller) -> String {
    format!("worker-{}-{}", caller.worker.unwrap_or_default(), caller.life)
}

/// The process that has this `client.id`.
pub(super) fn caller_of(client_id: &str) -> Option<Caller> {
    let (worker, life) = client_id.strip_prefix("worker-")?.split_once('-')?;
    Some(Caller { worker: Some(worker.parse().ok()?), life: life.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_names_its_process() {
        let caller = Caller { worker: Some(2), life: 17 };
        assert_eq!(caller_of(&client_id(caller)), Some(caller));
        assert_eq!(caller_of("rdkafka"), None);
    }
}
