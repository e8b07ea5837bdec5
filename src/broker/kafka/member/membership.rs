//! The end of a membership that librdkafka does not renew.
//!
//! librdkafka 2.12 rejoins its group by itself after most errors, but not in the following cases, of which the first two are
//! errors of the group protocol `consumer` (`rd_kafka_cgrp_handle_ConsumerGroupHeartbeat`). A new client cures each, because it
//! joins as a new member that has no partitions.
//!
//! - **`INVALID_REQUEST`** is fatal: the client sends no request any more, and reports no partition as lost. Brokers answer
//!   it to a heartbeat with the epoch 0 of a member that joins, but without what such a heartbeat must have. librdkafka
//!   sends one if the worker did not poll for `max.poll.interval.ms` while a rebalance was waiting for it: it leaves the
//!   group, and the response (`rd_kafka_cgrp_consumer_reset`) resets the epoch and the flag of the pending rejoin, but not
//!   the assignment.
//! - **`GROUP_ID_NOT_FOUND`** is ignored: the client keeps its partitions and repeats the heartbeat forever, but no
//!   coordinator knows of it, so its partitions are assigned to no other member when it dies. Brokers answer it if the
//!   group was deleted: it had no members for a while, because all sessions had expired.
//! - With the protocol `classic`, **a rejoin during a revocation**: partitions are added to the topic while librdkafka waits for a
//!   commit before it gives back a revoked partition. The new metadata make it join at once
//!   (`rd_kafka_cgrp_metadata_update_check`), and what it was to be assigned after the revocation
//!   (`rkcg_rebalance_incr_assignment`) stays pending for ever: it skips every later rebalance, is removed from the group, keeps
//!   its partitions, and does not join again.
//!
//! Errors that a new client would get again, such as a missing permission, end the worker.
//!
//! The old client leaves the group and ends. librdkafka 2.12 does not end, even if it is destroyed, while a rebalance waits for the
//! answer of the application (`rd_kafka_cgrp_try_terminate`): it waits for ever, and its main thread does not sleep meanwhile. So
//! every rebalance is answered before a client is dropped.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, info, warn};

use super::Member;
use crate::backoff::Backoff;
use crate::broker::Delivery;
use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::options::GroupProtocol;
use crate::broker::kafka::producer::end_elsewhere;
use crate::broker::kafka::properties::Properties;
use crate::broker::kafka::raw::{Client, Event, Queue};

/// The wait before a new membership, which doubles with every one that the group has not accepted.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Consecutive memberships that may get `INVALID_REQUEST` before the group has accepted them. The request of another one is
/// the same, so it is as invalid.
const MAX_INVALID: u32 = 3;

/// How long a client may take to leave its group when its membership has ended.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval in which a client that leaves is polled.
const LEAVE_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Opens memberships of one group.
pub(in crate::broker::kafka) struct Memberships {
    properties: Properties,
    topic: String,
    /// When to open the next one, since the last one has ended.
    pub(super) next_at: Option<Instant>,
    backoff: Backoff,
    /// Consecutive memberships that ended before the group had accepted them.
    unaccepted: u32,
}

impl Memberships {
    pub(in crate::broker::kafka) fn new(properties: Properties, topic: &str) -> Self {
        Self {
            properties,
            topic: topic.to_owned(),
            next_at: None,
            backoff: Backoff::new(MIN_BACKOFF, MAX_BACKOFF),
            unaccepted: 0,
        }
    }

    /// Creates a client that joins the group.
    pub(super) fn open(&self) -> Result<(Arc<Client>, Queue), KafkaError> {
        let client = Arc::new(Client::consumer(&self.properties)?);
        let queue = Queue::of_consumer(&client)?;
        client.subscribe(&self.topic)?;
        Ok((client, queue))
    }

    /// A membership has ended with this error, before or after the group had accepted it. Returns false if another one would
    /// end with the same error.
    fn ended(&mut self, error: &KafkaError, accepted: bool, protocol: GroupProtocol, now: Instant) -> bool {
        if accepted {
            self.unaccepted = 0;
            self.backoff = Backoff::new(MIN_BACKOFF, MAX_BACKOFF);
        } else {
            self.unaccepted = self.unaccepted.saturating_add(1);
        }
        let cured = if error.is(Code::InvalidRequest) {
            protocol == GroupProtocol::Consumer && self.unaccepted < MAX_INVALID
        } else {
            error.is(Code::GroupIdNotFound) || error.class() == Class::Retriable
        };
        if cured {
            self.next_at = Some(now + self.backoff.wait());
        }
        cured
    }
}

/// Lets a client leave its group, as far as it can in time, so that it can be dropped.
pub(super) fn leave(client: &Client, queue: &Queue, topic: &str) {
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    // After a fatal error it cannot leave.
    let leaves = client.close(queue).is_ok();
    loop {
        answer_rebalances(client, queue, topic);
        if !leaves || client.closed() || Instant::now() >= deadline {
            return;
        }
        thread::park_timeout(LEAVE_POLL_INTERVAL);
    }
}

/// Answers the rebalances of a client that nobody needs any more.
pub(super) fn answer_rebalances(client: &Client, queue: &Queue, topic: &str) {
    while let Some(event) = queue.event() {
        let answered = match event {
            Event::Assign(_) => client.incremental_assign(topic, &[]),
            Event::Revoke(_) => client.incremental_unassign(topic, &[]),
            Event::Error { .. } | Event::Committed(_) | Event::Other => Ok(()),
        };
        if let Err(error) = answered {
            debug!(topic, %error, "librdkafka did not accept the answer to a rebalance");
        }
    }
}

impl Member {
    /// The membership has ended, and librdkafka does not rejoin. Its partitions are lost, and a new membership follows
    /// after a backoff, unless it would end with the same error: then the worker gets the error.
    pub(super) fn membership_ended(&mut self, error: KafkaError) {
        let now = Instant::now();
        if self.memberships.next_at.is_some() {
            return;
        }
        let what = format!("read topic {}: the membership in the group has ended", self.topic);
        if !self.memberships.ended(&error, self.joined, self.protocol, now) {
            let unsupported = error.is(Code::UnsupportedFeature) || error.is(Code::UnsupportedVersion);
            return self.send_error(match self.protocol {
                GroupProtocol::Consumer if unsupported => self.without_protocol(error),
                _ => error.fatal(what),
            });
        }
        self.joined = false;
        self.member_since = None;
        self.not_joined_since = now;
        self.unreleased.clear();
        self.commits.clear();
        let lost: Vec<i32> = std::mem::take(&mut self.partitions).into_keys().collect();
        if !lost.is_empty() {
            self.send(Delivery::Lost(lost));
        }
        self.send_error(error.retriable(what));
    }

    /// Opens the next membership if it is time.
    pub(super) fn renew_membership(&mut self, now: Instant) {
        if self.memberships.next_at.is_none_or(|at| now < at) {
            return;
        }
        self.memberships.next_at = None;
        match self.memberships.open() {
            Ok((client, mut queue)) => {
                info!(topic = self.topic, "joining the group as a new member");
                queue.wake(thread::current());
                let old =
                    (std::mem::replace(&mut self.client, client), std::mem::replace(&mut self.queue, queue));
                let topic = self.topic.clone();
                end_elsewhere(move || leave(&old.0, &old.1, &topic));
                self.not_joined_since = now;
            }
            Err(error) => {
                warn!(topic = self.topic, %error, "could not create a client for a new membership");
                self.memberships.next_at = Some(now + self.memberships.backoff.wait());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memberships() -> Memberships {
        Memberships::new(Properties::new(), "t")
    }

    #[test]
    fn a_new_membership_follows_only_an_error_that_it_cures() {
        let now = Instant::now();
        let ended = |code, protocol| memberships().ended(&KafkaError::of(code), true, protocol, now);
        for code in
            [Code::GroupIdNotFound, Code::UnknownMemberId, Code::FencedMemberEpoch, Code::GroupMaxSizeReached]
        {
            assert!(ended(code, GroupProtocol::Consumer) && ended(code, GroupProtocol::Classic), "{code:?}");
        }
        assert!(ended(Code::InvalidRequest, GroupProtocol::Consumer));
        // The classic protocol has no request that a new member must send in another way.
        assert!(!ended(Code::InvalidRequest, GroupProtocol::Classic));
        for code in [
            Code::GroupAuthorizationFailed,
            Code::TopicAuthorizationFailed,
            Code::UnsupportedVersion,
            Code::UnsupportedFeature,
            Code::UnsupportedAssignor,
            Code::FencedInstanceId,
            Code::InvalidGroupId,
        ] {
            assert!(
                !ended(code, GroupProtocol::Consumer) && !ended(code, GroupProtocol::Classic),
                "{code:?}"
            );
        }
    }

    #[test]
    fn an_invalid_request_ends_the_worker_if_no_membership_was_accepted_in_between() {
        let (now, invalid) = (Instant::now(), KafkaError::of(Code::InvalidRequest));
        let mut memberships = memberships();
        let mut ended = |accepted| memberships.ended(&invalid, accepted, GroupProtocol::Consumer, now);
        for _ in 0..10 {
            assert!(ended(true));
            assert!((1..MAX_INVALID).all(|_| ended(false)));
        }
        assert!(!ended(false));
    }

    #[test]
    fn the_wait_before_a_new_membership_grows_up_to_a_limit_until_one_is_accepted() {
        let (now, unknown) = (Instant::now(), KafkaError::of(Code::UnknownMemberId));
        let mut memberships = memberships();
        let mut wait = |accepted| {
            assert!(memberships.ended(&unknown, accepted, GroupProtocol::Consumer, now));
            memberships.next_at.expect("a new membership follows") - now
        };
        assert_eq!([wait(true), wait(false), wait(false)], [1, 2, 4].map(|factor| MIN_BACKOFF * factor));
        assert_eq!((0..20).map(|_| wait(false)).max(), Some(MAX_BACKOFF));
        assert_eq!(wait(true), MIN_BACKOFF);
    }
}
