//! Records what the brokers do in the timeline: the requests of clients, leaders and their epochs, in-sync sets, the group.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use simulated_hosts::HostCommand;
use simulated_kafka::cluster::observe::Event;
use simulated_kafka::protocol::messages::ApiKey;
use simulated_kafka::types::NodeId;

use crate::context::SimContext;
use crate::parties::worker_of;
use crate::scenario::fault::Host;
use crate::scenario::kafka::BROKERS;
use crate::scenario::options::TOPIC;
use crate::timeline::{Kind, Outcome, Party};

/// The lane of a broker.
fn lane_of(broker: NodeId) -> Party {
    Party::Host(Host::Broker((broker.0 - 1).clamp(0, i32::from(BROKERS) - 1) as u8))
}

/// Adds the lanes of the brokers.
pub(crate) fn add_lanes(context: &SimContext) {
    context.record(|recording| {
        for broker in 0..BROKERS {
            recording.add_lane(Party::Host(Host::Broker(broker)), format!("kafka {}", broker + 1), "kafka");
            recording.process_starts(Host::Broker(broker), "process");
        }
    });
}

/// Something happens to the process of a broker.
pub(crate) fn process(context: &SimContext, broker: u8, command: HostCommand) {
    context.record(|recording| recording.process(Host::Broker(broker), command));
}

/// What is known of the connections.
#[derive(Default)]
pub(crate) struct Connections {
    /// Who has opened each.
    clients: BTreeMap<u64, Party>,
    /// Those whose last fetch had records or an error.
    fetched: BTreeMap<NodeId, String>,
}

impl Connections {
    /// Records an event, if it is one that the timeline shows.
    pub fn record(&mut self, context: &SimContext, event: &Event<'_>) {
        if !context.timeline.is_on() {
            return;
        }
        match *event {
            Event::ConnectionOpened { connection, client, .. } => {
                let worker = client.parse::<Ipv4Addr>().ok().and_then(|ip| worker_of(ip.into()));
                let party = worker.map_or(Party::Outside, |worker| Party::Host(Host::Worker(worker)));
                self.clients.insert(connection, party);
            }
            Event::FetchAnswered { broker, topic: TOPIC, partition, fetch_offset, bytes, error, .. } => {
                let what = match error {
                    Some(error) => format!("{error:?}"),
                    None if bytes == 0 => return,
                    None => format!("{bytes} bytes"),
                };
                let text = self.fetched.entry(broker).or_default();
                text.push_str(&format!(", partition {partition} from {fetch_offset}: {what}"));
            }
            Event::Response { broker, connection, api, error, micros, .. } => {
                let fetched = match api {
                    ApiKey::Fetch => self.fetched.remove(&broker),
                    _ => None,
                };
                if fetched.is_none() && error.is_none() && is_routine(api) {
                    return;
                }
                let Some(client) = self.clients.get(&connection).copied() else { return };
                let error = error.map_or(String::new(), |error| format!(": {error:?}"));
                let after = format!(", {} ms", micros / 1_000);
                let text = format!("{api:?}{error}{}{after}", fetched.unwrap_or_default());
                context.record(|recording| {
                    let id = recording.message(kind(api), lane_of(broker), client, text);
                    recording.end(id, Outcome::None);
                });
            }
            _ => {
                if let Some((party, text)) = moment(event) {
                    context.record(|recording| recording.moment(party, text));
                }
            }
        }
    }
}

/// Requests of which there are many, and which say something only with an error.
fn is_routine(api: ApiKey) -> bool {
    use ApiKey::{ApiVersions, ConsumerGroupHeartbeat, Fetch, Heartbeat, ListOffsets, Metadata};
    matches!(api, Fetch | Heartbeat | ConsumerGroupHeartbeat | Metadata | ApiVersions | ListOffsets)
}

fn kind(api: ApiKey) -> Kind {
    use ApiKey::{
        ConsumerGroupHeartbeat, FindCoordinator, Heartbeat, JoinGroup, LeaveGroup, OffsetCommit, OffsetFetch,
        SyncGroup,
    };
    match api {
        JoinGroup
        | SyncGroup
        | Heartbeat
        | LeaveGroup
        | ConsumerGroupHeartbeat
        | OffsetCommit
        | OffsetFetch
        | FindCoordinator => Kind::GroupRequest,
        _ => Kind::LogRequest,
    }
}

/// The moment that an event is, and whose.
fn moment(event: &Event<'_>) -> Option<(Option<Party>, String)> {
    let of = |broker: NodeId, text: String| Some((Some(lane_of(broker)), text));
    match *event {
        Event::ControllerMoved { to: Some(broker) } => of(broker, "is the controller".to_owned()),
        Event::BrokerFenced { broker } => of(broker, "is fenced".to_owned()),
        Event::BrokerUnfenced { broker } => of(broker, "is unfenced".to_owned()),
        Event::LeaderElected { topic: TOPIC, partition, leader: None, epoch, .. } => {
            Some((None, format!("partition {partition} has no leader, epoch {epoch}")))
        }
        Event::LeaderBegan { broker, topic: TOPIC, partition, epoch, high_watermark, end } => of(
            broker,
            format!(
                "leads partition {partition} in epoch {epoch}, with the high watermark {high_watermark} and the end {end}"
            ),
        ),
        Event::InSyncChanged { topic: TOPIC, partition, in_sync, .. } => {
            let brokers: Vec<String> = in_sync.iter().map(|broker| broker.0.to_string()).collect();
            Some((None, format!("in sync for partition {partition}: {}", brokers.join(", "))))
        }
        Event::Truncated { broker, topic: TOPIC, partition, from_end, to_end } => {
            of(broker, format!("cuts partition {partition} from {from_end} to {to_end}"))
        }
        Event::MarkerWritten { broker, topic: TOPIC, partition, commits, .. } => {
            let what = if commits { "commit" } else { "abort" };
            of(broker, format!("has the marker of a transaction in partition {partition}: {what}"))
        }
        Event::GroupChanged { broker, state, epoch, members, protocol, .. } => of(
            broker,
            format!("the group ({protocol:?}) is {state} in generation {epoch} with {members} members"),
        ),
        Event::MemberRemoved { broker, member, why, .. } => of(broker, format!("removes {member}: {why:?}")),
        _ => None,
    }
}
