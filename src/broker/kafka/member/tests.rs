//! A member that is driven step by step, on a mock cluster.

use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::broker::kafka::raw::mock::{Cluster, Response};

const TOPIC: &str = "t";
/// `Heartbeat` of the group protocol `classic`, and `ConsumerGroupHeartbeat`.
const HEARTBEATS: [i16; 2] = [12, 68];

/// A member without a thread.
struct Driven {
    member: Member,
    deliveries: mpsc::UnboundedReceiver<Result<Delivery, BrokerError>>,
    _commands: Sender<Command>,
    cluster: Cluster,
}

impl Driven {
    /// Joins a group, and gets the topic's only partition.
    fn join(protocol: GroupProtocol) -> Self {
        let cluster = Cluster::new(TOPIC);
        let mut options = KafkaOptions::new(cluster.servers());
        options.group_protocol = protocol;
        options.session_timeout = Duration::from_secs(3);
        let memberships = Memberships::new(options.member("g", 1), TOPIC);
        let (_commands, commands) = channel();
        let (sender, deliveries) = mpsc::unbounded_channel();
        let flow = Arc::new(FlowControl::new());
        let member = Member::join(memberships, TOPIC, &options, commands, sender, flow).unwrap();
        let mut driven = Self { member, deliveries, _commands, cluster };
        assert!(matches!(driven.next(), Delivery::Assigned(partitions) if partitions == [0]));
        driven
    }

    /// The next delivery; fails after half a minute.
    fn next(&mut self) -> Delivery {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.member.take_events();
            if let Ok(delivery) = self.deliveries.try_recv() {
                return delivery.expect("no error");
            }
            assert!(Instant::now() < deadline, "nothing was delivered");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn start(&mut self, incarnation: u64) {
        self.member.start(Assignment { partition: 0, incarnation }, 0);
    }
}

#[test]
fn a_loss_is_reported_as_a_loss_even_if_a_partition_is_started_before_it_is_noticed() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut driven = Driven::join(protocol);
        for heartbeat in HEARTBEATS {
            driven.cluster.fail(heartbeat, &[Response::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
        }
        // By then librdkafka has the loss in its queue, and the start resets its flag.
        thread::sleep(Duration::from_secs(2));
        driven.start(1);
        let lost = driven.next();
        assert!(matches!(&lost, Delivery::Lost(partitions) if *partitions == [0]), "{protocol:?}: {lost:?}");
        let again = driven.next();
        assert!(
            matches!(&again, Delivery::Assigned(partitions) if *partitions == [0]),
            "{protocol:?}: {again:?}"
        );
        // A later revocation is not a loss.
        assert!(!driven.member.client.assignment_lost());
    }
}

#[test]
fn a_partition_that_is_assigned_again_without_a_revocation_can_be_started_again() {
    let mut driven = Driven::join(GroupProtocol::Classic);
    driven.start(1);
    driven.member.assigned(vec![0]);
    assert!(matches!(driven.next(), Delivery::Assigned(partitions) if partitions == [0]));
    driven.start(2);
    let partition = &driven.member.partitions[&0];
    assert!(partition.queue.is_some() && partition.failure.is_none(), "{partition:?}");
}

#[test]
fn an_assignment_ends_a_revocation_that_the_worker_has_not_answered() {
    let mut driven = Driven::join(GroupProtocol::Classic);
    driven.start(1);
    driven.member.revoked(vec![0], false);
    assert!(matches!(driven.next(), Delivery::Revoked(partitions) if partitions == [0]));
    driven.member.assigned(vec![0]);
    assert!(matches!(driven.next(), Delivery::Lost(partitions) if partitions == [0]));
    assert!(matches!(driven.next(), Delivery::Assigned(partitions) if partitions == [0]));
    // Neither waits for the release of the old one, nor fails.
    driven.start(2);
    driven.start(3);
    let partition = &driven.member.partitions[&0];
    assert!(partition.queue.is_some() && partition.failure.is_none(), "{partition:?}");
    assert!(partition.waiting.is_none(), "{partition:?}");
}

/// `OffsetCommit`.
const OFFSET_COMMIT: i16 = 8;

#[test]
fn a_position_that_the_group_refuses_is_committed_again() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut driven = Driven::join(protocol);
        driven.start(1);
        driven.cluster.fail(OFFSET_COMMIT, &[Response::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE]);
        driven.member.commits.report(0, 7);
        let mut now = Instant::now();
        for expected in [vec![(0, 7)], vec![]] {
            driven.member.commit(now);
            let deadline = Instant::now() + Duration::from_secs(30);
            assert_eq!(driven.member.commits.in_flight(), 1);
            while driven.member.commits.in_flight() > 0 {
                assert!(Instant::now() < deadline, "{protocol:?}: the result of the commit never came");
                driven.member.take_events();
                thread::sleep(Duration::from_millis(20));
            }
            let left = driven.member.commits.positions(|_| true);
            assert_eq!(left, expected, "{protocol:?}");
            now += commits::COMMIT_INTERVAL;
        }
    }
}

/// A client whose group has assigned a partition, which waits for the answer.
fn client_that_waits_for_an_answer(servers: String, protocol: GroupProtocol) -> (Arc<Client>, Queue) {
    let mut options = KafkaOptions::new(servers);
    options.group_protocol = protocol;
    let (client, mut queue) = Memberships::new(options.member("g", 1), TOPIC).open().unwrap();
    // Wakes this thread when the queue is no longer empty.
    queue.wake(thread::current());
    // The assignment may have come before.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !queue.has_events() {
        assert!(Instant::now() < deadline, "{protocol:?}: nothing was assigned");
        thread::park_timeout(Duration::from_millis(10));
    }
    (client, queue)
}

#[test]
fn a_client_is_dropped_in_time_although_a_rebalance_waits_for_an_answer() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        for leaves in [true, false] {
            let cluster = Cluster::new(TOPIC);
            let servers = cluster.servers();
            // A thread of its own, which no earlier client wakes.
            let end = thread::spawn(move || {
                let (client, queue) = client_that_waits_for_an_answer(servers, protocol);
                match leaves {
                    true => membership::leave(&client, &queue, TOPIC),
                    false => membership::answer_rebalances(&client, &queue, TOPIC),
                }
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while !end.is_finished() {
                assert!(Instant::now() < deadline, "{protocol:?}, leaves: {leaves}");
                thread::sleep(Duration::from_millis(20));
            }
            end.join().expect("a partition was assigned");
        }
    }
}
