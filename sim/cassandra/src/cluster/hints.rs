//! Hints: mutations that a coordinator keeps for replicas that missed a write.
//!
//! A hint is in memory first and is lost with the process; a flush writes it to the disk. Only what is on the disk is
//! delivered, with its original timestamps, once the replica is believed to be alive; it is dropped when older than
//! its tables' `gc_grace_seconds` (`HintsService`, `HintsDispatcher`).

use std::sync::Arc;

use tokio::time::sleep;

use super::message::{Request, Response};
use super::node::Node;
use super::{NodeId, Observation};
use crate::storage::{Hint, Mutation, Seconds, Timestamp};

impl Node {
    /// Whether hints are kept for a replica (`StorageProxy.shouldHint`): not if it has been down for longer than the
    /// window, nor while the disk has one that is older (`hint_window_persistent_enabled`), for a restart of this
    /// node or a moment of the replica's restarts the window.
    pub(crate) fn is_hinted(&self, target: NodeId) -> bool {
        let options = &self.cluster.settings.get().hints;
        if !options.enabled || target == self.id || self.down_for(target) > options.window {
            return false;
        }
        let oldest = self.member().disk.first_hint(self.cluster.host_id(target));
        let window = i64::try_from(options.window.as_micros()).unwrap_or(i64::MAX);
        oldest.is_none_or(|hint| self.member().clock.micros().saturating_sub(window) <= hint.written_at)
    }

    /// Keeps a mutation for a replica, if it is hinted. Returns whether it is.
    pub(crate) fn hint(&self, target: NodeId, mutation: &Arc<Mutation>) -> bool {
        let is_kept = self.is_hinted(target);
        if is_kept {
            self.keep_hint(target, mutation, self.member().clock.micros());
        }
        is_kept
    }

    /// How many seconds late a mutation may be delivered: the shortest `gc_grace_seconds` of its tables.
    pub(crate) fn lifetime(&self, mutation: &Mutation) -> Seconds {
        let schema = self.schema();
        let tables = mutation.updates.keys().filter_map(|table| schema.tables.get(table));
        tables.map(|table| Seconds::from(table.options.gc_grace_seconds)).min().unwrap_or(0)
    }

    /// Keeps a mutation of some time for a replica.
    pub(crate) fn keep_hint(&self, target: NodeId, mutation: &Arc<Mutation>, written_at: Timestamp) {
        let lifetime = self.lifetime(mutation);
        self.cluster.links.observe(Observation::HintKept { by: self.id, target, mutation });
        let target = self.cluster.host_id(target);
        let mut state = self.lock();
        state.hints.entry(target).or_default().push(Hint {
            written_at,
            lifetime,
            mutation: mutation.clone(),
        });
    }

    /// Writes the hints in memory to the disk.
    pub(crate) fn flush_hints_now(&self) {
        let hints = std::mem::take(&mut self.lock().hints);
        for (target, hints) in hints {
            self.member().disk.append_hints(target, hints);
        }
    }

    /// Periodically writes hints to the disk.
    pub(crate) async fn flush_hints(self: Arc<Self>) {
        let mut settings = self.cluster.settings.watch();
        loop {
            let interval = settings.see().hints.flush_interval;
            tokio::select! {
                biased;
                () = settings.changed() => {}
                () = sleep(interval) => self.flush_hints_now(),
            }
        }
    }

    /// Periodically starts to deliver hints to the nodes that are believed to be alive.
    pub(crate) async fn dispatch_hints(self: Arc<Self>) {
        loop {
            let interval = self.cluster.settings.get().hints.dispatch_interval;
            sleep(interval).await;
            for target in self.member().disk.hint_targets() {
                let Some(peer) = self.cluster.by_host_id(target) else {
                    // Its disk was replaced: it is another node now (`HintsService.excise`).
                    self.member().disk.forget_hints(target);
                    continue;
                };
                if self.is_alive(peer) && !self.lock().dispatching.contains(&target) {
                    self.lock().dispatching.push(target);
                    self.begin(|node| async move { node.deliver_hints(peer, target).await });
                }
            }
        }
    }

    async fn deliver_hints(self: &Arc<Self>, peer: NodeId, target: u128) {
        let disk = &self.member().disk;
        while let Some(hint) = disk.first_hint(target) {
            if self.now() < hint.written_at.div_euclid(1_000_000) + hint.lifetime {
                let request = Request::Hint(hint.mutation, hint.written_at);
                let response = self.ask(peer, request, self.options().write_timeout).await;
                match response {
                    Some(Response::Done) => {}
                    // Again at the next round.
                    Some(_) | None => break,
                }
            }
            disk.remove_first_hint(target);
        }
        self.lock().dispatching.retain(|other| *other != target);
    }
}
