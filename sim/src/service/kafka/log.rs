//! The cluster as the log of a run.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use exactlyonce::binding::BindingSpec;
use exactlyonce::broker::{BrokerError, NewRecord, Producer as _};
use exactlyonce::error::chain;
use exactlyonce::store::Store;
use exactlyonce::verify::{self, VerifyOptions};
use madsim::runtime::{Handle, NodeHandle};
use simulated_threads::Threads;
use simulated_threads_kafka::Kafka;
use tokio::network::Network;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::observed::Sometimes;
use crate::oracle::{Position, Violation};
use crate::parties::Caller;
use crate::scenario::Log;
use crate::scenario::fault::{Fault, Kind};
use crate::scenario::kafka::{BROKERS, KafkaCluster, Protocol};
use crate::scenario::options::TOPIC;
use crate::scenario::workload::Item;
use crate::service::kafka::client::{KafkaOpener, caller_of};
use crate::service::kafka::damage;
use crate::service::kafka::faults::{BrokerFaults, id};
use crate::service::kafka::mirror::{Mirror, Served};
use crate::service::kafka::observe::Observing;
use crate::service::kafka::producer::{Acknowledged, Producer};
use crate::service::kafka::{partitions, record};
use crate::service::{LogService, Verified};

/// The address of the operator's machine for everything that has to do with the log.
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 4));

/// Time until what an operator does is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Calls of a thread of a client without a wait, at most: with more, it does not work but spins.
const MOST_CALLS: u32 = 20_000;

/// So many more for each record of the log, because a thread may handle them all at once.
const CALLS_OF_A_RECORD: usize = 20;

/// How long a client takes to end after a worker has dropped it, at most, in simulated milliseconds.
const ENDS_WITHIN_MS: u64 = 120_000;

const OPTIONS: &str = "the options are valid";

/// Offsets of a gap, at least: those of a transaction with a record.
const LEAST_GAP: i64 = 2;

const OPERATOR: Caller = Caller { worker: None, life: 0 };

pub(crate) struct KafkaLog {
    context: Arc<SimContext>,
    kafka: Arc<Kafka>,
    opener: KafkaOpener,
    producer: Producer,
    faults: BrokerFaults,
}

impl LogService for KafkaLog {
    const HAS_THREADS: bool = true;
    const HAS_COMMITTED_POSITIONS: bool = true;
    type Opener = KafkaOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        let Log::Kafka(cluster) = &context.log_options else {
            unreachable!("the scenario's log is on Kafka");
        };
        let run = &context.options;
        record::add_lanes(context);
        let served = Served::default();
        let observing = Observing::new(context, served.clone());
        let kafka = Kafka::start(BROKERS, context.seed, |options| {
            cluster.configure(run, options);
            options.observer = Some(observing);
        });
        let kafka = Arc::new(kafka.await);
        let session_ms = KafkaCluster::session_ms(run);
        let opener = KafkaOpener { bootstrap: kafka.bootstrap(), cluster: cluster.clone(), session_ms };
        let operator = Handle::current().create_node().name("operator of the log").ip(IP).build();
        Network::current().plug_in(operator.id(), IP);
        // Mostly one: then a request that an operator or a worker makes first is answered by another one.
        let of = u64::from(BROKERS);
        let most = if (context.seed / of).is_multiple_of(of) { 2 } else { 1 };
        let late = || (0..BROKERS).filter(|broker| u64::from(*broker) != context.seed % of).take(most);
        let lag = |ms| {
            late().for_each(|broker| kafka.cluster().lag_metadata(id(broker), Duration::from_millis(ms)))
        };
        lag(cluster.topic_known_after_ms.unwrap_or(0));
        create_topic(context, &operator, opener.clone()).await;
        lag(0);
        let producer = {
            let (opener, bootstrap) = (opener.clone(), opener.bootstrap.clone());
            let connect = move || opener.connect(OPERATOR).expect(OPTIONS);
            Producer::start(Arc::downgrade(context), connect, bootstrap)
        };
        let retired = run.retired_offsets;
        for partition in 0..i32::from(run.partitions) {
            for _ in 0..retired {
                producer.append(vec![NewRecord { partition: Some(partition), ..Default::default() }]).await;
            }
            // The leader may not know of its topic yet.
            while retired > 0 && kafka.cluster().delete_records(TOPIC, partition, retired).is_err() {
                sleep(RETRY).await;
            }
        }
        context.set_log_source(Box::new(Mirror { cluster: kafka.cluster().downgrade(), served }));
        context.follow_log();
        let faults = BrokerFaults::start(context, kafka.clone(), cluster, opener.bootstrap.clone());
        Self { context: context.clone(), kafka, opener, producer, faults }
    }

    fn opener(&self) -> KafkaOpener {
        self.opener.clone()
    }

    async fn append(&self, items: Vec<Item>) {
        let together = self.opener.cluster.appended_together.unwrap_or(1).max(1) as usize;
        let mut waiting = Vec::new();
        for item in items {
            if self.context.damage().appends_end {
                break;
            }
            let partitions = partitions(self.kafka.cluster()).max(1);
            let partition = (item.lane % partitions as u64) as i32;
            let mut record = item.record(partition);
            // Kafka refuses records from the future, and librdkafka replaces 0 by its clock.
            record.timestamp = record.timestamp.clamp(0, LATEST_MS);
            waiting.push(record);
            if waiting.len() >= together || item.gap > 0 {
                self.append_together(std::mem::take(&mut waiting)).await;
            }
            if item.gap > 0 {
                self.producer.gap(partition, item.gap.max(LEAST_GAP)).await;
                self.context.follow_log();
            }
        }
        self.append_together(waiting).await;
    }

    async fn begin(&self, fault: &Fault, active: &[Fault]) -> Option<bool> {
        match fault.kind {
            Kind::PartitionAdded => {
                let partitions = partitions(self.kafka.cluster());
                if self.kafka.cluster().add_partitions(TOPIC, partitions + 1).is_err() {
                    return Some(false);
                }
                self.context.follow_log();
                self.context.observe(Sometimes::PartitionAddedWhileRunning);
                self.context.effect(fault);
                Some(true)
            }
            Kind::LogTruncated { .. } => {
                tokio::spawn(damage::truncate(
                    Arc::downgrade(&self.context),
                    self.kafka.cluster().downgrade(),
                    fault.clone(),
                ));
                Some(true)
            }
            Kind::LogTrimmedPastProgress { .. } | Kind::TopicRecreated | Kind::TopicCompacted { .. } => {
                let is_damaged = damage::damage(&self.context, self.kafka.cluster(), fault.kind);
                if is_damaged {
                    self.context.effect(fault);
                    let cluster = self.kafka.cluster().downgrade();
                    tokio::spawn(damage::becomes_known(Arc::downgrade(&self.context), cluster));
                }
                Some(is_damaged)
            }
            _ => self.faults.begin(fault, active),
        }
    }

    fn end(&self, fault: &Fault) -> bool {
        self.faults.end(fault)
    }

    async fn settle(&self) {
        self.kafka.cluster().settled().await;
        self.faults.settle().await;
    }

    async fn verify<S: Store>(&self, store: S, spec: BindingSpec) -> Verified {
        let broker = self.opener.connect(OPERATOR).expect(OPTIONS);
        verify::verify(&broker, &store, &spec, &VerifyOptions::default()).await
    }

    fn end_of(&self, partition: i32) -> Option<i64> {
        let known = self.context.known_offsets(partition)?;
        let committed = self.kafka.cluster().committed(TOPIC, partition, known.end)?;
        Some(committed.log_end)
    }

    async fn judge(&self) {
        self.judge_threads().await;
        let Some(oracles) = self.context.oracles() else { return };
        self.context.follow_log();
        let began_at = self.context.damage().began_at.clone();
        let lost: Vec<Position> = {
            let truth = oracles.truth();
            let is_lost = |Acknowledged { partition, offset, value }: &Acknowledged| {
                let record = truth.record(*partition, *offset);
                // The truth begins where the tables do.
                *offset >= truth.binding().origin(*partition)
                    && began_at.get(partition).is_none_or(|end| offset < end)
                    && record.is_none_or(|(record, _)| record.value != *value)
            };
            let lost = self.producer.acknowledged().into_iter().filter(is_lost);
            lost.map(|Acknowledged { partition, offset, .. }| Position { partition, offset }).collect()
        };
        lost.into_iter().for_each(|position| self.context.violate(Violation::AppendLost(position)));
    }

    fn members(&self) -> Option<BTreeSet<Caller>> {
        if self.opener.cluster.protocol == Protocol::Upgraded {
            // librdkafka 2.12 returns the user data of a member's subscription with its assignment
            // (`rd_kafka_group_MemberState_consumer_write`). A group that has them is not upgraded (KAFKA-18134): a member with the
            // new protocol waits until the others have ended.
            return None;
        }
        let members = self.kafka.cluster().client_ids_of_group(&self.context.options.pipeline.group)?;
        Some(members.iter().filter_map(|client_id| caller_of(client_id)).collect())
    }

    fn shut_down(&self) {
        if !self.context.violations().is_empty() {
            self.note_logs();
        }
        if let Some(activity) = &self.context.activity {
            self.context.record(|recording| activity.record(recording));
        }
        self.kafka.links().restore_all();
        self.kafka.shut_down();
    }
}

impl KafkaLog {
    async fn append_together(&self, records: Vec<NewRecord>) {
        if records.is_empty() {
            return;
        }
        let partitions: Vec<i32> = records.iter().filter_map(|record| record.partition).collect();
        self.producer.append(records).await;
        match partitions[..] {
            [partition] => self.context.note(format_args!("appended to partition {partition}")),
            _ => self.context.note(format_args!("appended {} records together", partitions.len())),
        }
        self.context.follow_log();
    }

    /// Looks for a thread of a client that has spun. One of a client that is being destroyed may: librdkafka 2.12 runs no timer
    /// then, and does not wait as long as one is due (`rd_kafka_timers_run`, `rd_kafka_thread_main`). It ends.
    async fn judge_threads(&self) {
        let give_up_ms = self.context.now_ms() + ENDS_WITHIN_MS;
        let of_records = self.producer.acknowledged().len() * CALLS_OF_A_RECORD;
        let most = MOST_CALLS.saturating_add(u32::try_from(of_records).unwrap_or(u32::MAX));
        let busiest = || Threads::current().and_then(|threads| threads.busiest());
        while let Some(busiest) = busiest().filter(|busiest| busiest.calls > most) {
            if self.context.now_ms() >= give_up_ms {
                let (thread, calls) = (busiest.name, busiest.calls);
                return self.context.violate(Violation::ThreadSpins { thread, calls });
            }
            sleep(RETRY).await;
        }
    }

    /// Notes what each broker has of each partition, for who looks for the reason of a violation.
    fn note_logs(&self) {
        let cluster = self.kafka.cluster();
        for (partition, broker) in (0..partitions(cluster))
            .flat_map(|partition| cluster.brokers().map(move |broker| (partition, broker)))
        {
            let Some(batches) = cluster.batches(broker, TOPIC, partition) else { continue };
            let text = batches.iter().map(|batch| {
                let kind = match (batch.is_control(), batch.is_transactional()) {
                    (true, _) => " marker",
                    (false, true) => " transactional",
                    (false, false) => "",
                };
                let (first, last, epoch) = (batch.base_offset(), batch.last_offset(), batch.leader_epoch());
                format!("{first}..={last}{kind} of {} epoch {epoch}", batch.producer_id())
            });
            let text: Vec<String> = text.collect();
            self.context
                .note(format_args!("log of partition {partition} on kafka {broker}: {}", text.join(", ")));
        }
    }
}

/// The latest timestamp of a record: the brokers' clocks, which begin in 2026, may go back.
const LATEST_MS: i64 = 1_767_220_000_000;

/// Creates the topic as an operator would, until it succeeds.
async fn create_topic(context: &Arc<SimContext>, operator: &NodeHandle, opener: KafkaOpener) {
    let partitions = i32::from(context.options.partitions);
    let context: Weak<SimContext> = Arc::downgrade(context);
    let (sender, created) = oneshot::channel();
    // A client takes up to a second to end, for which nobody waits.
    operator.spawn(async move {
        let broker = opener.connect(OPERATOR).expect(OPTIONS);
        loop {
            match broker.create_topic(TOPIC, partitions, i16::from(BROKERS)).await {
                Ok(_) | Err(BrokerError::TopicExists { .. }) => break,
                Err(error) => {
                    if let Some(context) = context.upgrade() {
                        context.note(format_args!("no topic: {}", chain(&error)));
                    }
                }
            }
            sleep(RETRY).await;
        }
        // The receiver waits for it.
        let _ = sender.send(());
    });
    created.await.expect("the operator's machine is never killed");
}
