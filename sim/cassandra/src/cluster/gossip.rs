//! Who is believed to be alive, and how late that is known.
//!
//! Every node tells every other that it is alive. One that has been silent for the failure timeout is believed to be
//! down; one that is heard again is asked for an echo first, so that a node that can talk but not hear stays down
//! (`Gossiper.markAlive`). A node that starts believes that all others are down until they echo.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::NodeId;
use super::message::Request;
use super::node::Node;
use crate::coordinator::Event;

impl Node {
    /// Says now and then that this node is alive, and notes who has been silent for too long.
    pub(crate) async fn gossip(self: Arc<Self>) {
        let settled = Instant::now() + self.options().gossip_settle;
        loop {
            let (generation, schema_version, joining) = {
                let state = self.lock();
                (self.generation, state.schema.version, state.joining)
            };
            for peer in self.cluster.ids().filter(|peer| *peer != self.id) {
                self.tell(peer, Request::Gossip { generation, schema_version, joining });
            }
            self.convict();
            if Instant::now() >= settled {
                self.become_ready();
            }
            sleep(self.options().gossip_interval).await;
        }
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

    /// Takes in a sign of life.
    pub(crate) fn heard(
        self: &Arc<Self>,
        from: NodeId,
        generation: u32,
        schema_version: u128,
        joining: bool,
    ) {
        let (echo, pull) = {
            let mut state = self.lock();
            let own_version = state.schema.version;
            let Some(peer) = state.peers.get_mut(&from) else { return };
            if generation < peer.generation {
                // From before its restart.
                return;
            }
            if generation > peer.generation && peer.alive {
                // It was restarted without having been missed: what it was told before may not be known to it.
                peer.alive = false;
                peer.down_since = Instant::now();
            }
            peer.generation = generation;
            peer.heard = Instant::now();
            peer.schema_version = schema_version;
            peer.joining = joining;
            let echo = !peer.alive && !peer.echoing;
            peer.echoing |= echo;
            (echo, schema_version != own_version)
        };
        if pull {
            self.tell(from, Request::SchemaPull);
        }
        if echo {
            self.begin(|node| async move { node.echo(from).await });
        }
    }

    async fn echo(self: &Arc<Self>, to: NodeId) {
        let answered = self.ask(to, Request::Echo, self.options().gossip_interval * 5).await.is_some();
        let all_alive = {
            let mut state = self.lock();
            let Some(peer) = state.peers.get_mut(&to) else { return };
            peer.echoing = false;
            peer.alive |= answered;
            state.peers.values().all(|peer| peer.alive)
        };
        if answered {
            tracing::debug!(node = self.id.0, peer = to.0, "believed to be alive");
            let member = self.cluster.member(to);
            let _ = self.events.send(Event::Up(member.address, member.port));
        }
        if all_alive {
            self.become_ready();
        }
    }

    fn become_ready(&self) {
        self.readiness.send_replace(true);
    }

    /// Waits until this node knows the others or has given up waiting for them, and has joined the ring.
    pub(crate) async fn ready(&self) {
        let _ = self.readiness.subscribe().wait_for(|ready| *ready).await;
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
