//! A mock cluster with one broker, for what the crate `rdkafka` cannot configure: a request that brokers lack, errors of all
//! requests, and the times of the group protocol `consumer`.

use super::*;

/// An error that a broker responds with.
pub(in crate::broker::kafka) use sys::rd_kafka_resp_err_t as Response;

/// Time between two heartbeats of the group protocol `consumer`, and after how long without one a member is removed, in
/// milliseconds.
const HEARTBEAT_INTERVAL: c_int = 300;
const SESSION_TIMEOUT: c_int = 3_000;

pub(in crate::broker::kafka) struct Cluster {
    cluster: *mut sys::rd_kafka_mock_cluster_t,
    _client: Client,
}

impl Cluster {
    /// A cluster with a topic of one partition.
    pub(in crate::broker::kafka) fn new(topic: &str) -> Self {
        let client = Client::consumer(&Properties::new()).unwrap();
        // SAFETY: the cluster uses the client, and is destroyed before it.
        unsafe {
            let cluster = sys::rd_kafka_mock_cluster_new(client.ptr(), 1);
            sys::rd_kafka_mock_topic_create(cluster, name(topic).as_ptr(), 1, 1);
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            sys::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(cluster, HEARTBEAT_INTERVAL);
            sys::rd_kafka_mock_set_group_consumer_session_timeout_ms(cluster, SESSION_TIMEOUT);
            Self { cluster, _client: client }
        }
    }

    /// A cluster whose brokers do not advertise this request.
    pub(in crate::broker::kafka) fn lacking(api: i16, topic: &str) -> Self {
        let cluster = Self::new(topic);
        // SAFETY: we own the cluster.
        unsafe { sys::rd_kafka_mock_set_apiversion(cluster.cluster, api, -1, -1) };
        cluster
    }

    /// A cluster whose brokers respond to the first hundred of these requests with an error.
    pub(in crate::broker::kafka) fn refusing(api: i16, topic: &str, error: Response) -> Self {
        let cluster = Self::new(topic);
        cluster.fail(api, &[error; 100]);
        cluster
    }

    /// Responds to the next requests of this kind with these errors.
    pub(in crate::broker::kafka) fn fail(&self, api: i16, errors: &[Response]) {
        // SAFETY: we own the cluster, and the errors are copied.
        unsafe {
            sys::rd_kafka_mock_push_request_errors_array(self.cluster, api, errors.len(), errors.as_ptr());
        }
    }

    pub(in crate::broker::kafka) fn servers(&self) -> String {
        // SAFETY: the text lives as long as the cluster.
        text(unsafe { sys::rd_kafka_mock_cluster_bootstraps(self.cluster) })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: we own the cluster.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) };
    }
}
