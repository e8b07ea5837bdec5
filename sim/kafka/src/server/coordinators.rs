//! Requests that the coordinators of groups and of transactions serve, and where these are.

use std::sync::Arc;

use bytes::Bytes;

use super::{Client, broker_id, partition_by_name};
use crate::cluster::{Broker, MarkerToWrite, ProducerIdsOf};
use crate::coordinator::{Context, Producer, partition_of};
use crate::error::{ErrorCode, Result, code};
use crate::group::{GroupRequest, GroupResponse};
use crate::metadata::{BrokerImage, CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::protocol::frame::{FrameError, RawRequest};
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use crate::protocol::messages::{
    AddPartitionsToTxnRequest, ApiKey, FindCoordinatorRequest, FindCoordinatorResponse,
    InitProducerIdRequest, InitProducerIdResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use crate::protocol::text;
use crate::quota::tokens::Requester;
use crate::transaction::{TransactionRequest, TransactionResponse, idempotent_producer};

fn context(client: &Client, raw: &RawRequest) -> Context {
    Context {
        client_id: raw.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", client.address),
        api_version: raw.version,
    }
}

/// Whether this is an AddPartitionsToTxn request of the versions with many transactions that has none: the response of
/// 4.1.0 is sent with the result of the last one (`KafkaApis.handleAddPartitionsToTxnRequest`).
pub(super) fn is_never_answered(raw: &RawRequest) -> std::result::Result<bool, FrameError> {
    let request: AddPartitionsToTxnRequest = raw.decode()?;
    Ok(raw.version >= 4 && request.transactions.is_empty())
}

/// Serves a request of a group or of a transaction.
pub(super) async fn serve(
    broker: &Arc<Broker>,
    client: &Client,
    raw: &RawRequest,
) -> std::result::Result<Bytes, FrameError> {
    let unsupported = || FrameError::Unsupported { key: raw.key as i16, version: raw.version };
    let context = context(client, raw);
    macro_rules! serve {
        ($broker:ident . $serve:ident, $requests:ident, $responses:ident, $($kind:ident),*) => {
            match raw.key {
                $(ApiKey::$kind => {
                    match $broker.$serve(&context, $requests::$kind(raw.decode()?)).await {
                        $responses::$kind(response) => return raw.respond(&response),
                        _ => return Err(unsupported()),
                    }
                })*
                _ => {}
            }
        };
    }
    serve!(
        broker.serve_group,
        GroupRequest,
        GroupResponse,
        JoinGroup,
        SyncGroup,
        Heartbeat,
        LeaveGroup,
        ConsumerGroupHeartbeat,
        OffsetCommit,
        OffsetFetch,
        OffsetDelete,
        TxnOffsetCommit,
        DeleteGroups,
        ListGroups,
        DescribeGroups,
        ConsumerGroupDescribe
    );
    serve!(
        broker.serve_transaction,
        TransactionRequest,
        TransactionResponse,
        AddPartitionsToTxn,
        AddOffsetsToTxn,
        EndTxn,
        DescribeTransactions,
        ListTransactions
    );
    Err(unsupported())
}

pub(super) async fn init_producer_id(
    broker: &Arc<Broker>,
    client: &Client,
    raw: &RawRequest,
) -> std::result::Result<Bytes, FrameError> {
    let request: InitProducerIdRequest = raw.decode()?;
    // Only both are known, or none (`KafkaApis`).
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        let refused = InitProducerIdResponse::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        return raw.respond(&refused);
    }
    if request.transactional_id.is_none() {
        return raw.respond(&idempotent_producer(&request, &mut ProducerIdsOf(broker)));
    }
    match broker.serve_transaction(&context(client, raw), request.into()).await {
        TransactionResponse::InitProducerId(response) => raw.respond(&response),
        _ => Err(FrameError::Unsupported { key: raw.key as i16, version: raw.version }),
    }
}

/// The topic of coordinators of a kind.
fn topic_of(kind: i8) -> Result<&'static str> {
    match kind {
        0 => Ok(CONSUMER_OFFSETS),
        1 => Ok(TRANSACTION_STATE),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// Where a coordinator is.
fn coordinator(broker: &Arc<Broker>, kind: i8, key: &str) -> Result<BrokerImage> {
    let topic = topic_of(kind)?;
    let image = broker.image();
    let known = image.topic(topic).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let partition = known.partition(partition_of(key, known.partitions.len() as i32));
    let leader = partition.and_then(|partition| partition.leader);
    let leader = leader.and_then(|leader| image.alive(leader));
    leader.cloned().ok_or(ErrorCode::CoordinatorNotAvailable)
}

pub(super) async fn find(
    broker: &Arc<Broker>,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if let Ok(topic) = topic_of(request.key_type)
        && broker.image().topic(topic).is_none()
    {
        // The broker asks for itself, with its id as the `client.id`.
        let client_id = broker.id.0.to_string();
        super::metadata::create_topic(broker, topic, Requester { user: None, client_id, is_strict: true });
    }
    let message = |error: &ErrorCode| Some(text(&error.to_string()));
    if version < 4 {
        let found = coordinator(broker, request.key_type, &request.key);
        let response = FindCoordinatorResponse::default();
        return match found {
            Ok(found) => response
                .with_node_id(broker_id(Some(found.id)))
                .with_host(text(&found.host))
                .with_port(i32::from(found.port)),
            Err(error) => response
                .with_error_code(error.code())
                .with_error_message(if version >= 1 { message(&error) } else { None })
                .with_node_id(broker_id(None))
                .with_port(-1),
        };
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        let response = Coordinator::default().with_key(key.clone());
        match coordinator(broker, request.key_type, key) {
            Ok(found) => response
                .with_node_id(broker_id(Some(found.id)))
                .with_host(text(&found.host))
                .with_port(i32::from(found.port)),
            Err(error) => response
                .with_error_code(error.code())
                .with_error_message(message(&error))
                .with_node_id(broker_id(None))
                .with_port(-1),
        }
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

/// WriteTxnMarkers of a client, for instance of an administrator that ends a hanging transaction.
pub(super) async fn write_markers(
    broker: &Arc<Broker>,
    request: WriteTxnMarkersRequest,
    _version: i16,
) -> WriteTxnMarkersResponse {
    let mut markers = Vec::new();
    for wanted in &request.markers {
        let marker = MarkerToWrite {
            producer: Producer { id: wanted.producer_id.0, epoch: wanted.producer_epoch },
            coordinator_epoch: wanted.coordinator_epoch,
            commit: wanted.transaction_result,
        };
        let mut topics = Vec::new();
        for topic in &wanted.topics {
            let mut partitions = Vec::new();
            for index in &topic.partition_indexes {
                let id = partition_by_name(&broker.image(), &topic.name, *index);
                let result = match id {
                    Some(id) => broker.write_markers(marker, &[id]).await.pop().unwrap_or(Ok(())),
                    None => Err(ErrorCode::UnknownTopicOrPartition),
                };
                partitions.push(
                    WritableTxnMarkerPartitionResult::default()
                        .with_partition_index(*index)
                        .with_error_code(code(&result)),
                );
            }
            topics.push(
                WritableTxnMarkerTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        markers.push(
            WritableTxnMarkerResult::default().with_producer_id(wanted.producer_id).with_topics(topics),
        );
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}
