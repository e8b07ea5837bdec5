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
use crate::service::cassandra::cells::ClusterReplicas;
use crate::service::cassandra::{SimulatedCassandra, record};
use crate::timeline::{ItemId, Touched};

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
        let message = match observation {
            Observation::Sent(envelope, mutation) => {
                record::mutation_sent(&context, &replicas, envelope, mutation)
            }
            Observation::HintKept { .. } => None,
        };
        if !context.watch.is_off() {
            show(&context, &replicas, observation, message);
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
fn show(
    context: &SimContext,
    replicas: &ClusterReplicas,
    observation: Observation<'_>,
    item: Option<ItemId>,
) {
    let (mutation, from, to, what) = match observation {
        Observation::Sent(envelope, mutation) => {
            let what = match envelope.verb {
                Verb::Hint => "sends a hint to",
                Verb::ReadRepair => "sends a read repair to",
                _ => "sends a write to",
            };
            (mutation, envelope.from, envelope.to, what)
        }
        Observation::HintKept { by, target, mutation } => (mutation, by, target, "keeps a hint for"),
    };
    let is_sent = matches!(observation, Observation::Sent(..));
    for cell in context.watch.cells() {
        if let Some((value, timestamp)) = replicas.in_mutation(cell, mutation) {
            let (who, does) =
                (format!("cassandra {}", from.0 + 1), format!("{what} cassandra {}:", to.0 + 1));
            let touched = Touched {
                to: is_sent.then_some(record::lane_of(to)),
                timestamp: Some(timestamp),
                item,
                // A node must not be looked at while it sends.
                can_look: false,
                ..Touched::new(&who, record::lane_of(from), &does)
            };
            context.touch(cell, Some(value), &value, touched);
        }
    }
}

/// A node takes a step.
pub(crate) fn reached(context: &SimContext, step: Step) {
    context.trigger(Point { step, moment: Moment::Before }, None, Caller { worker: None, life: 0 });
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
