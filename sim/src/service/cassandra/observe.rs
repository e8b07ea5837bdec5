//! What happens to mutations on their way to the replicas: points that faults wait for, and rare situations.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use simulated_cassandra::cluster::{NodeId, Observation, Verb, WeakCluster};
use simulated_cassandra::storage::{Mutation, Partition};
use tokio::sync::mpsc;

use crate::context::SimContext;
use crate::observed::Sometimes;
use crate::parties::Caller;
use crate::scenario::fault::{Moment, Point, Step};
use crate::service::cassandra::SimulatedCassandra;
use crate::service::cassandra::cells::ClusterReplicas;
use crate::watch::Watch;

/// A hint or a read repair that was sent.
struct Sent {
    verb: Verb,
    from: NodeId,
    to: NodeId,
    mutation: Arc<Mutation>,
}

/// Starts to observe. Neither the cluster nor the run is kept alive by it.
pub(crate) fn observe(context: &Arc<SimContext>, cassandra: &SimulatedCassandra, replicas: ClusterReplicas) {
    let weak = Arc::downgrade(context);
    let (sender, sent) = mpsc::unbounded_channel();
    tokio::spawn(look(weak.clone(), cassandra.cluster.downgrade(), sent));
    cassandra.links.add_observer(move |observation| {
        let Some(context) = weak.upgrade() else { return };
        if !context.watch.is_off() {
            show(&context.watch, &replicas, observation);
        }
        let step = match observation {
            Observation::Sent(envelope, mutation) => {
                let sent = Sent {
                    verb: envelope.verb,
                    from: envelope.from,
                    to: envelope.to,
                    mutation: mutation.clone(),
                };
                match envelope.verb {
                    Verb::Hint => context.observe(Sometimes::HintSent),
                    Verb::ReadRepair => context.observe(Sometimes::ReadRepairSent),
                    _ => {}
                }
                if envelope.from != envelope.to && matches!(envelope.verb, Verb::Hint | Verb::ReadRepair) {
                    // The receiver exists as long as the cluster.
                    let _ = sender.send(sent);
                }
                match envelope.verb {
                    Verb::Hint => Step::HintSent,
                    Verb::ReadRepair => Step::ReadRepair,
                    _ => Step::ReplicaWrite,
                }
            }
            Observation::HintKept { .. } => Step::HintKept,
        };
        reached(&context, step);
    });
}

/// Shows what happens to the watched cells.
fn show(watch: &Watch, replicas: &ClusterReplicas, observation: Observation<'_>) {
    let (mutation, what) = match observation {
        Observation::Sent(envelope, mutation) => {
            let what = match envelope.verb {
                Verb::Hint => "sends a hint",
                Verb::ReadRepair => "sends a read repair",
                _ => "sends a write",
            };
            (mutation, format!("cassandra {} {what} to cassandra {}", envelope.from.0 + 1, envelope.to.0 + 1))
        }
        Observation::HintKept { by, target, mutation } => {
            (mutation, format!("cassandra {} keeps a hint for cassandra {}", by.0 + 1, target.0 + 1))
        }
    };
    for cell in watch.cells() {
        if let Some((value, timestamp)) = replicas.in_mutation(cell, mutation) {
            watch.add(format_args!("{what}: {cell:?}: {value}, at timestamp {timestamp}"), true);
        }
    }
}

/// A node takes a step.
pub(crate) fn reached(context: &SimContext, step: Step) {
    context.trigger(Point { step, moment: Moment::Before }, Caller { worker: None, life: 0 });
}

/// Looks at the nodes for rare situations, in a task of its own because a node must not be looked at while it sends.
async fn look(context: Weak<SimContext>, cluster: WeakCluster, mut sent: mpsc::UnboundedReceiver<Sent>) {
    while let Some(Sent { verb, from, to, mutation }) = sent.recv().await {
        let (Some(context), Some(cluster)) = (context.upgrade(), cluster.upgrade()) else { return };
        for (table, update) in &mutation.updates {
            let of =
                |node| cluster.look(node, *table, &mutation.key, |partition| partition.cloned()).flatten();
            let (Some(sender), receiver) = (of(from), of(to).unwrap_or_default()) else { continue };
            match verb {
                Verb::Hint if is_older(update, &receiver) => {
                    context.observe(Sometimes::HintOlderThanNewerWrite)
                }
                Verb::ReadRepair if missing(&sender, &receiver) > update.rows.len() => {
                    context.observe(Sometimes::ReadRepairOfPartOfABatch);
                }
                _ => {}
            }
        }
    }
}

/// Every cell of the update is older than the one that is stored.
fn is_older(update: &Partition, stored: &Partition) -> bool {
    let mut cells = update.rows.iter().flat_map(|(position, row)| {
        let stored = stored.rows.get(position);
        row.cells.iter().map(move |(column, cell)| {
            stored
                .and_then(|stored| stored.cells.get(column))
                .is_some_and(|newer| newer.timestamp > cell.timestamp)
        })
    });
    !update.rows.is_empty() && cells.all(|is_older| is_older)
}

/// How many rows one replica lacks.
fn missing(of: &Partition, at: &Partition) -> usize {
    let at: BTreeMap<_, _> = at.rows.iter().collect();
    of.rows.keys().filter(|position| !at.contains_key(position)).count()
}
