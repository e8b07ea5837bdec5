//! The first error in a response, for who looks at a cluster from outside.

use super::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, AlterClientQuotasResponse, AlterConfigsResponse,
    AlterUserScramCredentialsResponse, ApiVersionsResponse, ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteGroupsResponse,
    DeleteRecordsResponse, DeleteTopicsResponse, DescribeClientQuotasResponse, DescribeClusterResponse,
    DescribeConfigsResponse, DescribeGroupsResponse, DescribeProducersResponse,
    DescribeTopicPartitionsResponse, DescribeTransactionsResponse, DescribeUserScramCredentialsResponse,
    ElectLeadersResponse, EndTxnResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, ListOffsetsResponse, ListTransactionsResponse, MetadataResponse,
    OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
    ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse, SyncGroupResponse,
    TxnOffsetCommitResponse, WriteTxnMarkersResponse,
};

/// A response that may have errors.
pub trait FirstError {
    /// The first error code that is not 0, from the whole response to its parts; 0 without an error.
    fn first_error(&self) -> i16;
}

/// For each response, all its error codes in order.
macro_rules! first_errors {
    ($($response:ident($it:ident) => $codes:expr,)*) => {
        $(
            impl FirstError for $response {
                fn first_error(&self) -> i16 {
                    let $it = self;
                    $codes.into_iter().find(|code| *code != 0).unwrap_or(0)
                }
            }
        )*
    };
}

first_errors! {
    AddOffsetsToTxnResponse(it) => [it.error_code],
    AddPartitionsToTxnResponse(it) => {
        let transactions = it.results_by_transaction.iter().flat_map(|result| &result.topic_results);
        let topics = transactions.chain(&it.results_by_topic_v3_and_below);
        let partitions = topics.flat_map(|topic| &topic.results_by_partition);
        [it.error_code].into_iter().chain(partitions.map(|partition| partition.partition_error_code))
    },
    AlterClientQuotasResponse(it) => it.entries.iter().map(|entry| entry.error_code),
    AlterConfigsResponse(it) => it.responses.iter().map(|resource| resource.error_code),
    AlterUserScramCredentialsResponse(it) => it.results.iter().map(|result| result.error_code),
    ApiVersionsResponse(it) => [it.error_code],
    ConsumerGroupDescribeResponse(it) => it.groups.iter().map(|group| group.error_code),
    ConsumerGroupHeartbeatResponse(it) => [it.error_code],
    CreatePartitionsResponse(it) => it.results.iter().map(|topic| topic.error_code),
    CreateTopicsResponse(it) => it.topics.iter().map(|topic| topic.error_code),
    DeleteGroupsResponse(it) => it.results.iter().map(|group| group.error_code),
    DeleteRecordsResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    DeleteTopicsResponse(it) => it.responses.iter().map(|topic| topic.error_code),
    DescribeClientQuotasResponse(it) => [it.error_code],
    DescribeClusterResponse(it) => [it.error_code],
    DescribeConfigsResponse(it) => it.results.iter().map(|resource| resource.error_code),
    DescribeGroupsResponse(it) => it.groups.iter().map(|group| group.error_code),
    DescribeProducersResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    DescribeTopicPartitionsResponse(it) => it.topics.iter().map(|topic| topic.error_code),
    DescribeTransactionsResponse(it) => it.transaction_states.iter().map(|state| state.error_code),
    DescribeUserScramCredentialsResponse(it) => {
        [it.error_code].into_iter().chain(it.results.iter().map(|result| result.error_code))
    },
    ElectLeadersResponse(it) => {
        let partitions = it.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        [it.error_code].into_iter().chain(partitions.map(|partition| partition.error_code))
    },
    EndTxnResponse(it) => [it.error_code],
    FetchResponse(it) => {
        let partitions = it.responses.iter().flat_map(|topic| &topic.partitions);
        [it.error_code].into_iter().chain(partitions.map(|partition| partition.error_code))
    },
    FindCoordinatorResponse(it) => {
        [it.error_code].into_iter().chain(it.coordinators.iter().map(|found| found.error_code))
    },
    HeartbeatResponse(it) => [it.error_code],
    IncrementalAlterConfigsResponse(it) => it.responses.iter().map(|resource| resource.error_code),
    InitProducerIdResponse(it) => [it.error_code],
    JoinGroupResponse(it) => [it.error_code],
    LeaveGroupResponse(it) => {
        [it.error_code].into_iter().chain(it.members.iter().map(|member| member.error_code))
    },
    ListGroupsResponse(it) => [it.error_code],
    ListOffsetsResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    ListTransactionsResponse(it) => [it.error_code],
    MetadataResponse(it) => {
        let topics = it.topics.iter().map(|topic| topic.error_code);
        let partitions = it.topics.iter().flat_map(|topic| &topic.partitions);
        [it.error_code].into_iter().chain(topics).chain(partitions.map(|partition| partition.error_code))
    },
    OffsetCommitResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    OffsetDeleteResponse(it) => {
        let partitions = it.topics.iter().flat_map(|topic| &topic.partitions);
        [it.error_code].into_iter().chain(partitions.map(|partition| partition.error_code))
    },
    OffsetFetchResponse(it) => {
        let topics = it.topics.iter().flat_map(|topic| &topic.partitions);
        let groups = it.groups.iter().flat_map(|group| {
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            [group.error_code].into_iter().chain(partitions.map(|partition| partition.error_code))
        });
        [it.error_code].into_iter().chain(topics.map(|partition| partition.error_code)).chain(groups)
    },
    OffsetForLeaderEpochResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    ProduceResponse(it) => {
        it.responses.iter().flat_map(|topic| &topic.partition_responses).map(|partition| partition.error_code)
    },
    SaslAuthenticateResponse(it) => [it.error_code],
    SaslHandshakeResponse(it) => [it.error_code],
    SyncGroupResponse(it) => [it.error_code],
    TxnOffsetCommitResponse(it) => {
        it.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
    WriteTxnMarkersResponse(it) => {
        let topics = it.markers.iter().flat_map(|marker| &marker.topics);
        topics.flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};

    #[test]
    fn the_first_error_is_that_of_the_whole_response_or_else_of_a_part() {
        let codes = [0, 3, 1].map(|code| PartitionData::default().with_error_code(code));
        let topic = FetchableTopicResponse::default().with_partitions(codes.to_vec());
        let response = FetchResponse::default().with_responses(vec![topic]);
        assert_eq!(response.first_error(), 3);
        assert_eq!(response.with_error_code(70).first_error(), 70);
        assert_eq!(FetchResponse::default().first_error(), 0);
    }
}
