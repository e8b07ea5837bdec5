//! Transactions and their producers.

use proto_kafka::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use proto_kafka::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use proto_kafka::messages::*;

use crate::side::{Place, Producer, Side, text, topic_name};
use crate::steps::Step;

impl Side {
    pub async fn transaction(&mut self, step: &Step) -> Vec<String> {
        match step {
            Step::Init { producer, timeout } => {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(self.transaction_of(*producer))
                    .with_transaction_timeout_ms(*timeout)
                    .with_producer_id(ProducerId(-1))
                    .with_producer_epoch(-1);
                self.init(*producer, &request).await
            }
            Step::InitAs { producer, epoch } => {
                let known = self.producer(*producer);
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(self.transaction_of(*producer))
                    .with_transaction_timeout_ms(600_000)
                    .with_producer_id(ProducerId(known.id))
                    .with_producer_epoch(known.epoch + epoch);
                self.init(*producer, &request).await
            }
            Step::Add { producer, topic, partition, epoch } => {
                let known = self.producer(*producer);
                let transaction = self.name("x", *producer);
                let wanted = AddPartitionsToTxnTopic::default()
                    .with_name(topic_name(&self.name("t", *topic)))
                    .with_partitions(vec![*partition]);
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(TransactionalId(text(&transaction)))
                    .with_v3_and_below_producer_id(ProducerId(known.id))
                    .with_v3_and_below_producer_epoch(known.epoch + epoch)
                    .with_v3_and_below_topics(vec![wanted]);
                let code = |response: &AddPartitionsToTxnResponse| {
                    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
                };
                let response = self.at(Place::Coordinator(&transaction), &request, 3, code).await;
                vec![format!("{} ", code(&response))]
            }
            Step::End { producer, commit, version, epoch } => {
                let known = self.producer(*producer);
                let transaction = self.name("x", *producer);
                let request = EndTxnRequest::default()
                    .with_transactional_id(TransactionalId(text(&transaction)))
                    .with_producer_id(ProducerId(known.id))
                    .with_producer_epoch(known.epoch + epoch)
                    .with_committed(*commit);
                let response =
                    self.at(Place::Coordinator(&transaction), &request, *version, |end| end.error_code).await;
                self.wait_for_markers(&transaction).await;
                let new = *version >= 5 && response.error_code == 0;
                if new && response.producer_id.0 >= 0 {
                    let sequences = if response.producer_epoch == known.epoch {
                        known.sequences
                    } else {
                        Default::default()
                    };
                    let producer_now =
                        Producer { id: response.producer_id.0, epoch: response.producer_epoch, sequences };
                    self.producers.insert(*producer, producer_now);
                }
                vec![format!("{} {}", response.error_code, if new { response.producer_epoch } else { 0 })]
            }
            Step::TxnOffsets { producer, group, topic, partition, offset, version } => {
                let known = self.producer(*producer);
                let transaction = self.name("x", *producer);
                let group = self.name("g", *group);
                let mut lines = Vec::new();
                if *version < 5 {
                    let request = AddOffsetsToTxnRequest::default()
                        .with_transactional_id(TransactionalId(text(&transaction)))
                        .with_producer_id(ProducerId(known.id))
                        .with_producer_epoch(known.epoch)
                        .with_group_id(GroupId(text(&group)));
                    let response = self
                        .at(Place::Coordinator(&transaction), &request, 3, |added| added.error_code)
                        .await;
                    lines.push(format!("{} ", response.error_code));
                }
                let wanted = TxnOffsetCommitRequestPartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(*offset)
                    .with_committed_leader_epoch(-1);
                let wanted = TxnOffsetCommitRequestTopic::default()
                    .with_name(topic_name(&self.name("t", *topic)))
                    .with_partitions(vec![wanted]);
                let request = TxnOffsetCommitRequest::default()
                    .with_transactional_id(TransactionalId(text(&transaction)))
                    .with_group_id(GroupId(text(&group)))
                    .with_producer_id(ProducerId(known.id))
                    .with_producer_epoch(known.epoch)
                    .with_generation_id(-1)
                    .with_topics(vec![wanted]);
                let code = |response: &TxnOffsetCommitResponse| response.topics[0].partitions[0].error_code;
                let response = self
                    .settled(
                        async |side| {
                            let node = side.coordinator(0, &group).await;
                            side.send(node, &request, *version).await
                        },
                        code,
                    )
                    .await;
                lines.push(format!("{} ", code(&response.expect("a response"))));
                lines
            }
            Step::DescribeTransaction { producer } => {
                let transaction = self.name("x", *producer);
                let id = TransactionalId(text(&transaction));
                let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
                let code =
                    |response: &DescribeTransactionsResponse| response.transaction_states[0].error_code;
                let response = self.at(Place::Coordinator(&transaction), &request, 0, code).await;
                let found = &response.transaction_states[0];
                let mut topics: Vec<String> = found
                    .topics
                    .iter()
                    .map(|topic| {
                        let mut partitions = topic.partitions.clone();
                        partitions.sort();
                        format!("  {} {partitions:?}", topic.topic.0.trim_start_matches(&self.prefix))
                    })
                    .collect();
                topics.sort();
                // Which partition the offsets of a group are in depends on its name, which is the same.
                let (state, epoch) = (&found.transaction_state, found.producer_epoch);
                topics.insert(0, format!("{} {state} {epoch}", found.error_code));
                topics
            }
            other => panic!("{other:?} is for others"),
        }
    }

    async fn init(&mut self, producer: usize, request: &InitProducerIdRequest) -> Vec<String> {
        let response = if request.transactional_id.is_some() {
            let transaction = self.name("x", producer);
            let response =
                self.at(Place::Coordinator(&transaction), request, 5, |init| init.error_code).await;
            self.wait_for_markers(&transaction).await;
            response
        } else {
            // A broker that has just started has no ids yet.
            self.at(Place::Any, request, 5, |init| init.error_code).await
        };
        let before = self.producers.get(&producer).map(|producer| producer.id);
        if response.error_code == 0 {
            let (id, epoch) = (response.producer_id.0, response.producer_epoch);
            self.producers.insert(producer, Producer { id, epoch, ..Producer::default() });
        }
        let same = before == Some(response.producer_id.0);
        vec![format!("{} {} same {same}", response.error_code, response.producer_epoch)]
    }
}
