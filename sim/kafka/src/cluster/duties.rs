//! What a broker does by itself: its life cycle, metadata, replication.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::broker::{Broker, State};
use super::message::{Request, Response};
use crate::controller::{ControlRequest, ControlResponse, Proposal, Registration, topic_defaults};
use crate::error::{ErrorCode, Result};
use crate::metadata::{Image, TopicSettings};
use crate::replica::{Fetched, Peers, Position, Replica, Role};
use crate::types::{NodeId, PartitionId};

impl Broker {
    /// Registers, and then sends heartbeats for as long as the broker lives (`BrokerLifecycleManager`).
    pub(crate) async fn live(self: Arc<Self>) {
        let clean_epoch = self.member().disk.take_clean_shutdown();
        let interval = self.options().heartbeat_interval;
        let mut is_first = true;
        loop {
            let registration = Registration {
                node: self.id,
                incarnation: self.incarnation,
                host: self.member().host.clone(),
                port: self.member().port,
                rack: self.member().rack.clone(),
                clean_epoch: clean_epoch.filter(|_| is_first),
            };
            let response =
                self.ask_controller(ControlRequest::Register(registration), Duration::from_secs(3600)).await;
            let epoch = match response {
                Ok(ControlResponse::Registered { epoch }) => epoch,
                // Until the session of the process before it has ended.
                _ => {
                    sleep(interval / 10).await;
                    continue;
                }
            };
            is_first = false;
            self.lock().epoch = epoch;
            if self.send_heartbeats(epoch, interval).await {
                return;
            }
        }
    }

    /// Sends heartbeats until the controller does not know the broker any more, or it may end: then true.
    async fn send_heartbeats(self: &Arc<Self>, epoch: i64, interval: Duration) -> bool {
        let mut ending = self.ending.watch();
        let mut version = self.version.watch();
        loop {
            let have = self.version.get();
            let wants_to_end = self.ending.get();
            let request = ControlRequest::Heartbeat { epoch, version: have, wants_to_end };
            let mut fenced = true;
            match self.ask_controller(request, self.options().controller.session_timeout).await {
                Ok(ControlResponse::Heartbeat { may_end, .. }) if wants_to_end && may_end => {
                    self.member().disk.end_cleanly(epoch);
                    self.cluster.ended(self);
                    return true;
                }
                Ok(ControlResponse::Heartbeat { fenced: is_fenced, .. }) => {
                    fenced = is_fenced;
                    if !fenced {
                        self.readiness.set(true);
                    }
                }
                Err(ErrorCode::BrokerIdNotRegistered | ErrorCode::StaleBrokerEpoch) => return false,
                _ => {}
            }
            // Who is fenced, or waits to end, asks as soon as it knows more.
            let urgent = fenced || wants_to_end;
            let pause = if urgent { interval / 20 } else { interval };
            tokio::select! {
                biased;
                _ = ending.changed() => {}
                _ = version.changed(), if urgent => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Follows the metadata.
    pub(crate) async fn learn(self: Arc<Self>) {
        loop {
            let have = self.version.get();
            let response =
                self.ask_controller(ControlRequest::Metadata { have }, Duration::from_secs(5)).await;
            let Ok(ControlResponse::Metadata(image)) = response else { continue };
            if image.version <= have {
                continue;
            }
            let lag = self.cluster.metadata_lag(self.id);
            if !lag.is_zero() {
                sleep(lag).await;
            }
            self.apply(image);
        }
    }

    /// Takes over what newer metadata say.
    fn apply(self: &Arc<Self>, image: Arc<Image>) {
        let now = self.now();
        let disk = self.member().disk.clone();
        let defaults = topic_defaults(&self.options().controller.topic_defaults, &image);
        let mut state = self.lock();
        let state = &mut *state;
        for (id, topic, partition) in image.partitions() {
            if !partition.replicas.contains(&self.id) {
                continue;
            }
            let replica = state.replicas.entry(id).or_insert_with(|| {
                let settings = TopicSettings::of(&topic.configs, &defaults);
                Replica::open(id, topic, settings, &disk, now, self.id, self.cluster.witness.clone())
            });
            let settings = TopicSettings::of(&topic.configs, &defaults);
            if replica.settings != settings {
                replica.log.configure(settings.log.clone());
                replica.settings = settings;
            }
            replica.apply(partition);
        }
        let is_here = |id: &PartitionId| {
            image.partition(*id).is_some_and(|partition| partition.replicas.contains(&self.id))
        };
        state.replicas.retain(|id, _| is_here(id));
        // Files of topics that were deleted while this broker was down are deleted, too.
        for id in disk.partitions() {
            if !is_here(&id) {
                disk.delete(id);
            }
        }
        let version = image.version;
        state.image = image;
        self.advance_all(state);
        self.version.set(version);
        self.notify();
    }

    /// Runs something with what this broker believes of its peers.
    pub(crate) fn with_peers<R>(&self, image: &Image, run: impl FnOnce(&Peers<'_>) -> R) -> R {
        let is_eligible = |node: NodeId, epoch: i64| {
            image.active(node).is_some_and(|broker| epoch == -1 || broker.epoch == epoch)
        };
        run(&Peers { is_eligible: &is_eligible, lag: self.options().replica_lag })
    }

    /// Advances the high watermarks where it is possible now.
    fn advance_all(&self, state: &mut State) {
        let image = state.image.clone();
        self.with_peers(&image, |peers| {
            for replica in state.replicas.values_mut() {
                replica.advance(peers);
            }
        });
    }

    /// Proposes in-sync sets to the controller (`AlterPartitionManager`).
    pub(crate) async fn propose_in_sync(self: Arc<Self>) {
        let mut progress = self.progress.watch();
        let mut next_shrink = Instant::now() + self.options().replica_lag / 2;
        loop {
            let may_shrink = Instant::now() >= next_shrink;
            if may_shrink {
                next_shrink = Instant::now() + self.options().replica_lag / 2;
            }
            let (epoch, proposals) = {
                let mut state = self.lock();
                let image = state.image.clone();
                let proposals = self.with_peers(&image, |peers| {
                    let replicas = state.replicas.iter_mut();
                    replicas
                        .filter_map(|(id, replica)| {
                            let change = replica.propose(self.id, may_shrink, peers)?;
                            let (leader_epoch, partition_epoch) =
                                (replica.leader_epoch, replica.partition_epoch);
                            let in_sync = change.broker_epochs.into_iter().collect();
                            Some(Proposal { partition: *id, leader_epoch, partition_epoch, in_sync })
                        })
                        .collect::<Vec<_>>()
                });
                (state.epoch, proposals)
            };
            if !proposals.is_empty() {
                self.alter_partitions(epoch, proposals).await;
                continue;
            }
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                // Who does not fetch any more makes no progress.
                () = tokio::time::sleep_until(next_shrink) => {}
            }
        }
    }

    async fn alter_partitions(self: &Arc<Self>, epoch: i64, proposals: Vec<Proposal>) {
        let asked: Vec<_> = proposals.iter().map(|proposal| proposal.partition).collect();
        let request = ControlRequest::AlterPartition { epoch, proposals };
        let response = self.ask_controller(request, Duration::from_secs(5)).await;
        let mut refused = false;
        {
            let mut state = self.lock();
            let results: BTreeMap<_, _> = match response {
                Ok(ControlResponse::AlterPartition(results)) => results.into_iter().collect(),
                _ => BTreeMap::new(),
            };
            for id in asked {
                let Some(replica) = state.replicas.get_mut(&id) else { continue };
                match results.get(&id) {
                    Some(Ok(partition)) => {
                        replica.apply(partition);
                    }
                    _ => {
                        refused = true;
                        if let Role::Leader(leader) = &mut replica.role {
                            leader.withdraw();
                        }
                    }
                }
            }
            self.advance_all(&mut state);
        }
        self.notify();
        if refused {
            // What the controller knows better comes with the metadata.
            sleep(self.options().heartbeat_interval / 20).await;
        }
    }

    /// Copies what one broker leads, for as long as this broker lives.
    pub(crate) async fn copy_from(self: Arc<Self>, leader: NodeId) {
        let mut version = self.version.watch();
        let mut refused_until: BTreeMap<PartitionId, Instant> = BTreeMap::new();
        loop {
            let now = Instant::now();
            refused_until.retain(|_, until| *until > now);
            let (broker_epoch, partitions) = {
                let state = self.lock();
                let positions = state.replicas.iter().filter(|(id, _)| !refused_until.contains_key(id));
                let positions: Vec<(PartitionId, Position)> =
                    positions.filter_map(|(id, replica)| Some((*id, replica.position(leader)?))).collect();
                (state.epoch, positions)
            };
            if partitions.is_empty() {
                let retry = refused_until.values().min().copied();
                tokio::select! {
                    biased;
                    _ = version.changed() => {}
                    () = tokio::time::sleep_until(retry.unwrap_or(now)), if retry.is_some() => {}
                }
                continue;
            }
            version.mark_unchanged();
            let asked: BTreeMap<_, _> = partitions.iter().copied().collect();
            let request = Request::Replicate { broker_epoch, partitions };
            // New metadata may add partitions, or show that the leader is gone.
            let response = tokio::select! {
                biased;
                response = self.ask(leader, request, Duration::from_secs(30)) => response,
                _ = version.changed() => continue,
            };
            let Some(Response::Replicate(results)) = response else { continue };
            for (id, result) in results {
                let Some(position) = asked.get(&id) else { continue };
                if !self.take(leader, id, position, result).await {
                    refused_until.insert(id, Instant::now() + self.options().replica_fetch_backoff);
                }
            }
        }
    }

    /// Takes what a leader answered for a partition; false if it is to be asked later.
    async fn take(
        self: &Arc<Self>,
        leader: NodeId,
        id: PartitionId,
        position: &Position,
        result: Result<Fetched>,
    ) -> bool {
        match result {
            Ok(fetched) => {
                let now = self.now();
                let copied = match self.lock().replicas.get_mut(&id) {
                    Some(replica) => replica.copied(position, &fetched, now),
                    None => Ok(false),
                };
                if copied == Ok(true) {
                    self.notify();
                }
                copied.is_ok()
            }
            Err(ErrorCode::OffsetOutOfRange) => {
                let request = Request::Range { partition: id, epoch: position.leader_epoch };
                match self.ask(leader, request, Duration::from_secs(5)).await {
                    Some(Response::Range(Ok((start, end)))) => {
                        if let Some(replica) = self.lock().replicas.get_mut(&id) {
                            replica.out_of_range(position, start, end);
                        }
                        self.notify();
                        true
                    }
                    _ => false,
                }
            }
            Err(_) => false,
        }
    }

    /// Serves another broker, or itself as the controller.
    pub(crate) async fn serve_peer(self: &Arc<Self>, from: NodeId, request: Request) -> Option<Response> {
        match request {
            Request::Control(ControlRequest::Metadata { have }) => {
                let refused = Some(Response::Control(ControlResponse::Refused(ErrorCode::NotController)));
                if self.cluster.active_controller() != Some(self.id) {
                    return refused;
                }
                let mut images = self.cluster.controller().watch();
                let newer = images.wait_for(|image| image.version > have);
                let image = match tokio::time::timeout(self.options().replica_fetch_wait, newer).await {
                    Ok(image) => image,
                    _ => self.cluster.controller().image(),
                };
                if self.cluster.active_controller() != Some(self.id) {
                    return refused;
                }
                Some(Response::Control(ControlResponse::Metadata(image)))
            }
            Request::Control(request) => {
                let response = if self.cluster.active_controller() == Some(self.id) {
                    self.cluster.controller().handle(from, request)
                } else {
                    ControlResponse::Refused(ErrorCode::NotController)
                };
                Some(Response::Control(response))
            }
            Request::Replicate { broker_epoch, partitions } => {
                Some(Response::Replicate(self.serve_follower(from, broker_epoch, partitions).await))
            }
            Request::WriteMarkers { marker, partitions } => {
                Some(Response::WriteMarkers(self.write_markers(marker, &partitions).await))
            }
            Request::VerifyTransaction { request, version } => {
                Some(Response::VerifyTransaction(self.serve_verification(request, version).await))
            }
            Request::Range { partition, epoch } => {
                let state = self.lock();
                let replica = state.replicas.get(&partition).ok_or(ErrorCode::UnknownTopicId);
                Some(Response::Range(replica.and_then(|replica| replica.range(epoch))))
            }
        }
    }

    /// Serves a follower's fetch, which waits for records.
    async fn serve_follower(
        self: &Arc<Self>,
        from: NodeId,
        broker_epoch: i64,
        partitions: Vec<(PartitionId, Position)>,
    ) -> Vec<(PartitionId, Result<Fetched>)> {
        let mut progress = self.progress.watch();
        let deadline = Instant::now() + self.options().replica_fetch_wait;
        let mut is_first = true;
        loop {
            let mut results = Vec::with_capacity(partitions.len());
            let mut has_news = false;
            let mut has_progress = false;
            {
                let mut state = self.lock();
                let image = state.image.clone();
                self.with_peers(&image, |peers| {
                    for (id, position) in &partitions {
                        let result = match state.replicas.get_mut(id) {
                            None => Err(ErrorCode::UnknownTopicId),
                            Some(replica) => {
                                let before = replica.published();
                                let result = replica.follower_fetches(
                                    from,
                                    broker_epoch,
                                    position.leader_epoch,
                                    position.offset,
                                    position.last_epoch,
                                    position.log_start,
                                    self.options().replica_fetch_bytes,
                                    is_first,
                                    peers,
                                );
                                has_progress |= before != replica.published();
                                result
                            }
                        };
                        has_news |= match &result {
                            Ok(fetched) => !fetched.batches.is_empty() || fetched.diverging.is_some(),
                            Err(_) => true,
                        };
                        results.push((*id, result));
                    }
                });
                progress.mark_unchanged();
            }
            // The follower may have to join, or others may see more.
            if has_progress || (std::mem::take(&mut is_first) && self.may_join(from, &partitions)) {
                self.notify();
                progress.mark_unchanged();
            }
            if has_news || Instant::now() >= deadline {
                return results;
            }
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Whether a follower that has just fetched is not in sync somewhere.
    fn may_join(&self, from: NodeId, partitions: &[(PartitionId, Position)]) -> bool {
        let state = self.lock();
        partitions.iter().any(|(id, _)| {
            let leader = state.replicas.get(id).and_then(|replica| replica.leader().ok());
            leader.is_some_and(|leader| !leader.in_sync().contains(&from))
        })
    }
}
