//! A fifth member joins a group of four: how long it takes until all have what they are assigned, in simulated time and on
//! this machine. Three brokers with Kafka's own settings, links of 0.5 to 2 ms, a topic with 10 partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto_kafka::messages::create_topics_request::CreatableTopic;
use proto_kafka::messages::join_group_request::JoinGroupRequestProtocol;
use proto_kafka::messages::sync_group_request::SyncGroupRequestAssignment;
use proto_kafka::messages::{
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    JoinGroupRequest, SyncGroupRequest, TopicName,
};
use proto_kafka::protocol::StrBytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_kafka::cluster::{AdjustableClock, BrokerOptions, Cluster, Options, RuledLinks};
use simulated_kafka::log::Disk;
use simulated_kafka::serve::connect;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use tokio::io::DuplexStream;
use tokio::time::sleep;

use crate::Result;
use crate::client::{Client, text};

const GROUP: &str = "group";
const PARTITIONS: i32 = 10;

/// What the members report: the generation or epoch that each has reached with its whole assignment.
type Reached = Arc<Vec<AtomicUsize>>;

pub fn rebalance() -> Result<()> {
    for protocol in ["classic", "consumer"] {
        let (mut simulated, mut real) = (Vec::new(), Vec::new());
        // It depends on when the others send their next heartbeats.
        for place in 0..9 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
            let after = Duration::from_millis(60_000 + 700 * place);
            let (here, there) = runtime.block_on(measure(protocol, after))?;
            simulated.push(here.as_millis());
            real.push(there.as_micros());
        }
        simulated.sort_unstable();
        real.sort_unstable();
        println!("group of 5, {protocol}: rebalanced in {simulated:?} simulated ms, {real:?} us here");
    }
    Ok(())
}

async fn start() -> Result<Cluster> {
    let broker = |id: i32| BrokerOptions {
        id: NodeId(id),
        host: format!("broker{id}"),
        port: 9092,
        rack: None,
        clock: Arc::new(AdjustableClock::new(1_767_225_600_000_000)),
        disk: Disk::new(),
    };
    let options = Options::new((1..=3).map(broker).collect());
    let (short, long) = (Duration::from_micros(500), Duration::from_millis(2));
    let links = RuledLinks::new(short, long, ChaCha8Rng::seed_from_u64(1));
    let cluster = Cluster::start(options, Arc::new(links), ChaCha8Rng::seed_from_u64(2));
    cluster.settled().await;
    Ok(cluster)
}

fn to(cluster: &Cluster, id: NodeId) -> Result<Client<DuplexStream>> {
    Ok(Client(connect(&cluster.broker(id).ok_or("the broker does not run")?, ServerOptions::default())))
}

/// A connection to the coordinator, when that has loaded the group.
async fn coordinator(cluster: &Cluster) -> Result<Client<DuplexStream>> {
    loop {
        let request = FindCoordinatorRequest::default().with_key(text(GROUP));
        let response = to(cluster, NodeId(1))?.ask(&request, 2).await?;
        if response.error_code == 0 {
            return to(cluster, NodeId(response.node_id.0));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// How long it takes, in simulated time and here, when the fifth member comes `after` the first four.
async fn measure(protocol: &str, after: Duration) -> Result<(Duration, Duration)> {
    let cluster = start().await?;
    let topic = CreatableTopic::default()
        .with_name(TopicName(text("t")))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    to(&cluster, NodeId(1))?.ask(&request, 7).await?;
    cluster.settled().await;
    let reached: Reached = Arc::new((0..5).map(|_| AtomicUsize::new(0)).collect());
    let begin = |member: usize| {
        let (cluster, reached, is_classic) = (cluster.clone(), reached.clone(), protocol == "classic");
        tokio::spawn(async move {
            let run = if is_classic {
                classic(cluster, member, reached).await
            } else {
                consumer(cluster, member, reached).await
            };
            if let Err(error) = run {
                eprintln!("member {member}: {error}");
            }
        });
    };
    (0..4).for_each(begin);
    sleep(after).await;
    let before = reached.iter().map(|reached| reached.load(Ordering::Relaxed)).max().unwrap_or_default();
    let (simulated, real) = (tokio::time::Instant::now(), Instant::now());
    begin(4);
    while reached.iter().any(|reached| reached.load(Ordering::Relaxed) <= before) {
        if simulated.elapsed() > Duration::from_secs(300) {
            return Err(format!("{protocol}: {reached:?} after five minutes, {before} before").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok((simulated.elapsed(), real.elapsed()))
}

async fn classic(cluster: Cluster, number: usize, reached: Reached) -> Result<()> {
    let mut coordinator = coordinator(&cluster).await?;
    let (group, mut member) = (GroupId(text(GROUP)), StrBytes::default());
    loop {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0, 0]));
        let request = JoinGroupRequest::default()
            .with_group_id(group.clone())
            .with_member_id(member.clone())
            .with_session_timeout_ms(45_000)
            .with_rebalance_timeout_ms(300_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let joined = coordinator.ask(&request, 9).await?;
        member = joined.member_id;
        if joined.error_code != 0 {
            // Loads, or needs the member's id, which it has now.
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let assignments = joined.members.iter().map(|member| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(Bytes::from_static(b"assigned"))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(member.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect());
        if coordinator.ask(&request, 5).await?.error_code != 0 {
            continue;
        }
        reached[number].store(usize::try_from(joined.generation_id)?, Ordering::Relaxed);
        loop {
            // `heartbeat.interval.ms`
            sleep(Duration::from_secs(3)).await;
            let request = HeartbeatRequest::default()
                .with_group_id(group.clone())
                .with_generation_id(joined.generation_id)
                .with_member_id(member.clone());
            if coordinator.ask(&request, 4).await?.error_code != 0 {
                break;
            }
        }
    }
}

async fn consumer(cluster: Cluster, number: usize, reached: Reached) -> Result<()> {
    let mut coordinator = coordinator(&cluster).await?;
    let mut owned = Vec::new();
    let (mut epoch, mut is_changed) = (0, true);
    loop {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(&format!("member-{number}")))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1);
        if epoch == 0 {
            let subscribed = vec![TopicName(text("t"))];
            request =
                request.with_rebalance_timeout_ms(300_000).with_subscribed_topic_names(Some(subscribed));
        }
        if std::mem::take(&mut is_changed) {
            request = request.with_topic_partitions(Some(owned.clone()));
        }
        let response = coordinator.ask(&request, 1).await?;
        if response.error_code != 0 {
            // Loads.
            is_changed = true;
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        epoch = response.member_epoch;
        if let Some(assignment) = response.assignment {
            let topics = assignment.topic_partitions.into_iter().map(|topic| {
                proto_kafka::messages::consumer_group_heartbeat_request::TopicPartitions::default()
                    .with_topic_id(topic.topic_id)
                    .with_partitions(topic.partitions)
            });
            let assigned: Vec<_> = topics.collect();
            // A member says at once what it has now, which others may wait for.
            is_changed = assigned != owned;
            owned = assigned;
        }
        // Two of ten partitions, with five members.
        let is_whole = owned.iter().map(|topic| topic.partitions.len()).sum::<usize>() == 2;
        reached[number].store(if is_whole { usize::try_from(epoch)? } else { 0 }, Ordering::Relaxed);
        if !is_changed {
            sleep(Duration::from_millis(u64::try_from(response.heartbeat_interval_ms)?)).await;
        }
    }
}
