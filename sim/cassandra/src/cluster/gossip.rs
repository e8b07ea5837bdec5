//! Failure detection by gossip.
//!
//! Every node reports to every other that it is alive, and when it last heard of the others. One that no node has
//! heard of recently is considered down after the failure timeout; one that some nodes hear is alive for all that hear those
//! (`Gossiper.notifyFailureDetector`): what is sent to it over a link that is cut is lost, and no request is refused
//! for it. One that was down is sent an echo request first, so that a node that cannot be reached or does not hear stays
//! down (`Gossiper.markAlive`). A node that starts believes that all others are down until they echo.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::NodeId;
use super::message::{Heartbeat, Request};
use super::node::Node;
use crate::coordinator::Event;

impl Node {
    /// Periodically sends heartbeats, and marks nodes as down that have been silent for too long.
    pub(crate) async fn gossip(self: Arc<Self>) {
        let settled = Instant::now() + self.options().gossip_settle;
        loop {
            let heartbeats = self.heartbeats();
            for peer in self.cluster.ids().filter(|peer| *peer != self.id) {
                self.notify(peer, Request::Gossip(heartbeats.clone()));
            }
            self.convict();
            if Instant::now() >= settled {
                self.become_ready();
            }
            sleep(self.options().gossip_interval).await;
        }
    }

    /// What this node knows of all nodes, with a new heartbeat of its own.
    fn heartbeats(&self) -> BTreeMap<NodeId, Heartbeat> {
        let mut state = self.lock();
        state.heartbeats += 1;
        let own = Heartbeat {
            generation: self.generation,
            version: state.heartbeats,
            schema_version: state.schema.version,
            joining: state.joining,
        };
        let known = state.peers.iter().filter(|(_, peer)| peer.heartbeat.version > 0);
        known.map(|(id, peer)| (*id, peer.heartbeat)).chain([(self.id, own)]).collect()
    }

    fn convict(&self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (id, peer) in &mut self.lock().peers {
            if peer.alive && now.saturating_duration_since(peer.heard) > self.options().failure_timeout {
                peer.alive = false;
                peer.down_since = now;
                gone.push(*id);
            }
        }
        for id in gone {
            tracing::debug!(node = self.id.0, peer = id.0, "believed to be down");
            let member = self.cluster.member(id);
            let _ = self.events.send(Event::Down(member.address, member.port));
        }
    }

    /// Stores a heartbeat of a node, if it is a new one.
    pub(crate) fn heard(self: &Arc<Self>, of: NodeId, heartbeat: Heartbeat) {
        let (echo, pull) = {
            let mut state = self.lock();
            let own_version = state.schema.version;
            let Some(peer) = state.peers.get_mut(&of) else { return };
            let place = |heartbeat: &Heartbeat| (heartbeat.generation, heartbeat.version);
            if place(&heartbeat) <= place(&peer.heartbeat) {
                return;
            }
            if heartbeat.generation > peer.heartbeat.generation && peer.alive {
                // It was restarted before it was considered down: it may lack what was sent to it before.
                peer.alive = false;
                peer.down_since = Instant::now();
            }
            peer.heartbeat = heartbeat;
            peer.heard = Instant::now();
            let echo = !peer.alive && !peer.echoing;
            peer.echoing |= echo;
            (echo, heartbeat.schema_version != own_version)
        };
        if pull {
            self.notify(of, Request::SchemaPull);
        }
        if echo {
            self.begin(|node| async move { node.echo(of).await });
        }
    }

    async fn echo(self: &Arc<Self>, to: NodeId) {
        let responded = self.ask(to, Request::Echo, self.options().gossip_interval * 5).await.is_some();
        let all_alive = {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(&to) else { return };
            peer.echoing = false;
            peer.alive |= responded;
            state.peers.values().all(|peer| peer.alive)
        };
        if responded {
            tracing::debug!(node = self.id.0, peer = to.0, "believed to be alive");
            let member = self.cluster.member(to);
            let _ = self.events.send(Event::Up(member.address, member.port));
        }
        if all_alive {
            self.become_ready();
        }
    }

    fn become_ready(&self) {
        self.readiness.set(true);
    }

    /// Waits until this node knows the others or has given up waiting for them, and has joined the ring.
    pub(crate) async fn ready(&self) {
        self.readiness.watch().wait_for(|ready| *ready).await;
    }

    /// Waits until this node believes another to be alive.
    pub(crate) async fn until_alive(&self, others: &[NodeId], wait: Duration) -> bool {
        let check = async {
            while !others.iter().any(|other| self.is_alive(*other)) {
                sleep(self.options().gossip_interval / 4).await;
            }
        };
        timeout(wait, check).await.is_ok()
    }

    /// How long a node has been believed to be down; zero if it is not.
    pub(crate) fn down_for(&self, node: NodeId) -> Duration {
        let state = self.lock();
        match state.peers.get(&node) {
            Some(peer) if !peer.alive => peer.down_since.elapsed(),
            _ => Duration::ZERO,
        }
    }
}
