//! Registration of brokers, their heartbeats, fencing and controlled shutdown (`ClusterControlManager`,
//! `BrokerHeartbeatManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::{ControlResponse, Controller, Registration};
use crate::error::{ErrorCode, Result};
use crate::metadata::BrokerImage;
use crate::types::NodeId;

impl Controller {
    pub(super) fn register(&mut self, registration: Registration) -> Result<ControlResponse> {
        let image = self.image();
        let node = registration.node;
        let existing = image.brokers.get(&node);
        let is_other = existing.is_some_and(|existing| existing.incarnation != registration.incarnation);
        let has_session = existing.is_some_and(|existing| !existing.fenced)
            && self.heard.get(&node).is_some_and(|heard| heard.elapsed() < self.settings.session_timeout);
        // Another process had this id and may still run.
        if is_other && has_session {
            return Err(ErrorCode::DuplicateBrokerRegistration);
        }
        let was_clean = existing.is_some_and(|existing| registration.clean_epoch == Some(existing.epoch));
        let (known, version) = (existing.is_some(), image.version + 1);
        self.heard.insert(node, Instant::now());
        self.versions.insert(node, -1);
        self.change(|controller, image| {
            let broker = BrokerImage {
                id: node,
                epoch: version,
                incarnation: registration.incarnation,
                host: registration.host,
                port: registration.port,
                rack: registration.rack,
                fenced: true,
                shutting_down: false,
            };
            image.brokers.insert(node, Arc::new(broker));
            if known && is_other && !was_clean && controller.settings.eligible_leader_replicas {
                // What it had not synced may be gone (`handleUncleanBrokerShutdown`).
                controller.remove_from_in_sync(image, node, BTreeSet::from([node]));
            } else if known {
                controller.remove_from_in_sync(image, node, BTreeSet::new());
            }
        });
        Ok(ControlResponse::Registered { epoch: version })
    }

    pub(super) fn heartbeat(
        &mut self,
        node: NodeId,
        epoch: i64,
        version: i64,
        wants_to_end: bool,
    ) -> Result<ControlResponse> {
        self.check_epoch(node, epoch)?;
        self.heard.insert(node, Instant::now());
        self.versions.insert(node, version);
        let image = self.image();
        let Some(broker) = image.brokers.get(&node) else { return Err(ErrorCode::BrokerIdNotRegistered) };
        if wants_to_end && !broker.fenced {
            if !broker.shutting_down {
                self.change(|controller, image| {
                    set(image, node, |broker| broker.shutting_down = true);
                    controller.remove_from_in_sync(image, node, BTreeSet::new());
                });
            }
            let image = self.image();
            let leads = image.partitions().any(|(_, _, partition)| partition.leader == Some(node));
            // The others know that it leads nothing.
            let known = image.brokers.values().filter(|other| other.is_active());
            let is_known = known
                .into_iter()
                .all(|other| self.versions.get(&other.id).is_some_and(|known| *known >= image.version));
            let may_end = !leads && is_known;
            if may_end {
                // Its session ends here, so that its next run can register at once.
                self.change(|_, image| set(image, node, |broker| broker.fenced = true));
            }
            return Ok(ControlResponse::Heartbeat { fenced: may_end, may_end });
        }
        if wants_to_end {
            return Ok(ControlResponse::Heartbeat { fenced: true, may_end: true });
        }
        // It knows of its own registration, so it has seen what happened before.
        if broker.fenced && version >= epoch {
            self.change(|controller, image| {
                set(image, node, |broker| broker.fenced = false);
                controller.elect_for(image, node);
            });
            return Ok(ControlResponse::Heartbeat { fenced: false, may_end: false });
        }
        Ok(ControlResponse::Heartbeat { fenced: broker.fenced, may_end: false })
    }

    pub(super) fn fence_silent(&mut self, now: Instant) {
        let image = self.image();
        for broker in image.brokers.values().filter(|broker| !broker.fenced) {
            let heard = *self.heard.entry(broker.id).or_insert(now);
            if now.saturating_duration_since(heard) < self.settings.session_timeout {
                continue;
            }
            tracing::debug!(broker = broker.id.0, "fenced");
            let node = broker.id;
            self.change(|controller, image| {
                set(image, node, |broker| broker.fenced = true);
                controller.remove_from_in_sync(image, node, BTreeSet::new());
            });
        }
    }
}

fn set(image: &mut crate::metadata::Image, node: NodeId, change: impl FnOnce(&mut BrokerImage)) {
    if let Some(broker) = image.brokers.get_mut(&node) {
        change(Arc::make_mut(broker));
    }
}
