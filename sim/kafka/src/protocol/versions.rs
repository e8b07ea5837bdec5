//! Which requests a broker offers, and in which versions: those of Kafka 4.1.0, as far as they are simulated.

use proto_kafka::messages::ApiKey;

/// A request that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// The request.
    pub key: ApiKey,
    /// The oldest version that a broker serves.
    pub oldest: i16,
    /// The newest.
    pub newest: i16,
}

impl Offered {
    /// The oldest version that `ApiVersions` lists: Produce is listed from 0, although 0 to 2 are not served, because
    /// older clients take its absence for a broker that does not know record batches (KAFKA-18659).
    pub fn listed_from(&self) -> i16 {
        if self.key == ApiKey::Produce { 0 } else { self.oldest }
    }
}

const fn offered(key: ApiKey, oldest: i16, newest: i16) -> Offered {
    Offered { key, oldest, newest }
}

/// All that is offered, by key. Telemetry is not: every client would send it.
///
/// Source: `ApiKeys` of kafka-clients 4.1.0, `oldestVersion()` and `latestVersion(false)`.
pub const OFFERED: &[Offered] = &[
    offered(ApiKey::Produce, 3, 13),
    offered(ApiKey::Fetch, 4, 18),
    offered(ApiKey::ListOffsets, 1, 10),
    offered(ApiKey::Metadata, 0, 13),
    offered(ApiKey::OffsetCommit, 2, 9),
    offered(ApiKey::OffsetFetch, 1, 9),
    offered(ApiKey::FindCoordinator, 0, 6),
    offered(ApiKey::JoinGroup, 0, 9),
    offered(ApiKey::Heartbeat, 0, 4),
    offered(ApiKey::LeaveGroup, 0, 5),
    offered(ApiKey::SyncGroup, 0, 5),
    offered(ApiKey::DescribeGroups, 0, 6),
    offered(ApiKey::ListGroups, 0, 5),
    offered(ApiKey::SaslHandshake, 0, 1),
    offered(ApiKey::ApiVersions, 0, 4),
    offered(ApiKey::CreateTopics, 2, 7),
    offered(ApiKey::DeleteTopics, 1, 6),
    offered(ApiKey::DeleteRecords, 0, 2),
    offered(ApiKey::InitProducerId, 0, 5),
    offered(ApiKey::OffsetForLeaderEpoch, 2, 4),
    offered(ApiKey::AddPartitionsToTxn, 0, 5),
    offered(ApiKey::AddOffsetsToTxn, 0, 4),
    offered(ApiKey::EndTxn, 0, 5),
    offered(ApiKey::WriteTxnMarkers, 1, 1),
    offered(ApiKey::TxnOffsetCommit, 0, 5),
    offered(ApiKey::DescribeConfigs, 1, 4),
    offered(ApiKey::AlterConfigs, 0, 2),
    offered(ApiKey::SaslAuthenticate, 0, 2),
    offered(ApiKey::CreatePartitions, 0, 3),
    offered(ApiKey::DeleteGroups, 0, 2),
    offered(ApiKey::ElectLeaders, 0, 2),
    offered(ApiKey::IncrementalAlterConfigs, 0, 1),
    offered(ApiKey::OffsetDelete, 0, 0),
    offered(ApiKey::DescribeClientQuotas, 0, 1),
    offered(ApiKey::AlterClientQuotas, 0, 1),
    offered(ApiKey::DescribeUserScramCredentials, 0, 0),
    offered(ApiKey::AlterUserScramCredentials, 0, 0),
    offered(ApiKey::DescribeCluster, 0, 2),
    offered(ApiKey::DescribeProducers, 0, 0),
    offered(ApiKey::DescribeTransactions, 0, 0),
    offered(ApiKey::ListTransactions, 0, 2),
    offered(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    offered(ApiKey::ConsumerGroupDescribe, 0, 1),
    offered(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// A request by its number, if it is offered.
pub fn by_number(number: i16) -> Option<Offered> {
    OFFERED.iter().copied().find(|offered| offered.key as i16 == number)
}

/// A feature of the cluster and its supported levels (`FeatureVersion` and `MetadataVersion` of Kafka 4.1.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level that a broker supports.
    pub lowest: i16,
    /// The highest.
    pub highest: i16,
    /// The finalized level of a new cluster; 0 is none, and such a feature is not listed as finalized.
    pub finalized: i16,
}

/// The features of a new cluster of 4.1.0.
pub const FEATURES: &[Feature] = &[
    Feature { name: "eligible.leader.replicas.version", lowest: 0, highest: 1, finalized: 1 },
    Feature { name: "group.version", lowest: 0, highest: 1, finalized: 1 },
    Feature { name: "kraft.version", lowest: 0, highest: 1, finalized: 0 },
    Feature { name: "metadata.version", lowest: 7, highest: 27, finalized: 27 },
    Feature { name: "share.version", lowest: 0, highest: 1, finalized: 0 },
    Feature { name: "transaction.version", lowest: 0, highest: 2, finalized: 2 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_the_order_of_their_numbers_and_none_is_newer_than_the_codec_knows() {
        let numbers: Vec<i16> = OFFERED.iter().map(|offered| offered.key as i16).collect();
        assert!(numbers.is_sorted());
        for offered in OFFERED {
            let known = offered.key.valid_versions();
            assert!(known.min <= offered.oldest && offered.newest <= known.max, "{offered:?} {known:?}");
            assert!(offered.oldest <= offered.newest);
        }
    }

    #[test]
    fn produce_is_listed_from_version_0_and_served_from_3() {
        let produce = by_number(0).unwrap();
        assert_eq!((produce.listed_from(), produce.oldest, produce.newest), (0, 3, 13));
        assert_eq!(by_number(71), None, "telemetry");
    }
}
