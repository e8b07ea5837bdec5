//! What a broker says of itself and of the cluster.

use std::sync::Arc;

use bytes::Bytes;

use super::{broker_id, controller, optional};
use crate::cluster::Broker;
use crate::error::ErrorCode;
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::protocol::text;
use crate::protocol::versions::{FEATURES, OFFERED};

/// ApiVersions, which a client may ask for in a version that the broker does not know (KIP-511): the response, and whether
/// it has the versions.
pub(super) fn api_versions(broker: &Broker, raw: &RawRequest) -> Result<(Bytes, bool), FrameError> {
    let newest = OFFERED.iter().find(|offered| offered.key == raw.key).map_or(0, |offered| offered.newest);
    if !(0..=newest).contains(&raw.version) {
        let own = ApiVersion::default().with_api_key(raw.key as i16).with_max_version(newest);
        let response = ApiVersionsResponse::default()
            .with_error_code(ErrorCode::UnsupportedVersion.code())
            .with_api_keys(vec![own]);
        return raw.respond_in(&response, 0).map(|response| (response, false));
    }
    let request: ApiVersionsRequest = raw.decode()?;
    if raw.version >= 3 && !is_software_name(&request.client_software_name, &request.client_software_version)
    {
        let response = ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
        return raw.respond(&response).map(|response| (response, false));
    }
    let keys = OFFERED.iter().map(|offered| {
        ApiVersion::default()
            .with_api_key(offered.key as i16)
            .with_min_version(offered.listed_from())
            .with_max_version(offered.newest)
    });
    // Clients before version 4 cannot read a lowest level of 0 (KAFKA-17492).
    let lowest = |level: i16| if raw.version < 4 { level.max(1) } else { level };
    let supported = FEATURES.iter().filter(|feature| raw.version >= 4 || feature.lowest > 0);
    let supported = supported.map(|feature| {
        SupportedFeatureKey::default()
            .with_name(text(feature.name))
            .with_min_version(lowest(feature.lowest))
            .with_max_version(feature.highest)
    });
    let finalized = FEATURES.iter().filter(|feature| feature.finalized > 0).map(|feature| {
        FinalizedFeatureKey::default()
            .with_name(text(feature.name))
            .with_min_version_level(feature.finalized)
            .with_max_version_level(feature.finalized)
    });
    let response = ApiVersionsResponse::default()
        .with_api_keys(keys.collect())
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(broker.image().version)
        .with_finalized_features(finalized.collect());
    raw.respond(&response).map(|response| (response, true))
}

/// `ApiVersionsRequest.isValid`
fn is_software_name(name: &str, version: &str) -> bool {
    let is_valid = |text: &str| {
        let bytes = text.as_bytes();
        let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    is_valid(name) && is_valid(version)
}

pub(super) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(&broker.options().cluster_id));
    if version >= 1 && request.endpoint_type != 1 {
        return response.with_error_code(ErrorCode::MismatchedEndpointType.code());
    }
    let image = broker.image();
    let brokers = image.brokers.values().filter(|known| !known.fenced || request.include_fenced_brokers);
    let brokers = brokers.map(|known| {
        DescribeClusterBroker::default()
            .with_broker_id(broker_id(Some(known.id)))
            .with_host(text(&known.host))
            .with_port(i32::from(known.port))
            .with_rack(optional(&known.rack))
            .with_is_fenced(known.fenced)
    });
    response.with_controller_id(broker_id(controller(broker, &image))).with_brokers(brokers.collect())
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn names_of_client_software_are_letters_digits_dots_and_hyphens() {
        assert!(is_software_name("apache-kafka-java", "4.1.0"));
        assert!(is_software_name("librdkafka", "2.12.1-v2"));
        assert!(!is_software_name("", "1"));
        assert!(!is_software_name("a b", "1"));
        assert!(!is_software_name("a", ".1"));
    }
}
