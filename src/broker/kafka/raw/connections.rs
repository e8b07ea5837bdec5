//! How long a client has been without any connection, as its log lines report.
//!
//! librdkafka gives up each broker that a metadata response with topics lacks, those of `bootstrap.servers`, too
//! (`rd_kafka_metadata_decommission_unavailable_brokers`). A cluster whose brokers are all fenced responds with none. Then the
//! client may have no broker left and never look for one again (librdkafka's issue 5301; 2.12.1 and 2.13.0), unless it is given
//! the bootstrap servers once more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A client without a connection for this time gets the bootstrap servers once more: librdkafka waits as long, at most, before it
/// connects again to a broker that it knows (`reconnect.backoff.max.ms`).
const FIRST_AFTER: Duration = Duration::from_secs(10);

/// The longest time until it gets them again. librdkafka keeps each list until the client is destroyed.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// librdkafka 2.12's message about a broker that changes its state (`rd_kafka_broker_set_state`), with `debug=broker` only.
const CHANGED: &str = ": Broker changed state ";
const TO: &str = " -> ";

/// The end of the name of the broker that stands for the client itself.
const INTERNAL: &str = "/internal";

/// The states in which there is a connection.
const CONNECTED: [&str; 2] = ["UP", "REAUTH"];

/// Counts the connections of a client.
#[derive(Debug)]
pub(super) struct Connections {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connected: u32,
    /// When the bootstrap servers are due, if there is no connection until then.
    due: Instant,
    interval: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        let state = State { connected: 0, due: Instant::now() + FIRST_AFTER, interval: FIRST_AFTER };
        Self { state: Mutex::new(state) }
    }
}

impl Connections {
    /// Reads a log line of the facility `STATE`.
    pub(super) fn observe(&self, line: &str, now: Instant) {
        let Some((name, change)) = line.split_once(CHANGED) else { return };
        let Some((from, to)) = change.split_once(TO) else { return };
        if name.ends_with(INTERNAL) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (CONNECTED.contains(&from), CONNECTED.contains(&to)) {
            (false, true) => state.connected += 1,
            (true, false) => {
                state.connected = state.connected.saturating_sub(1);
                (state.due, state.interval) = (now + FIRST_AFTER, FIRST_AFTER);
            }
            _ => {}
        }
    }

    /// True if the client needs the bootstrap servers now. The next time is after twice the time.
    pub(super) fn needs_servers(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.connected > 0 || now < state.due {
            return false;
        }
        state.interval = (state.interval * 2).min(LONGEST_INTERVAL);
        state.due = now + state.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, from: &str, to: &str) -> String {
        format!("[thrd:{name}]: {name}: Broker changed state {from} -> {to}")
    }

    #[test]
    fn a_client_needs_the_servers_once_it_has_had_no_connection_for_a_while() {
        let connections = Connections::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(!connections.needs_servers(after(9)));
        assert!(connections.needs_servers(after(11)));
        assert!(!connections.needs_servers(after(30)), "twice as long");
        assert!(connections.needs_servers(after(31)));
        connections.observe(&state("a:1/bootstrap", "APIVERSION_QUERY", "UP"), after(40));
        connections.observe(&state("b:1/2", "AUTH_REQ", "UP"), after(40));
        connections.observe(&state("a:1/1", "UP", "DOWN"), after(50));
        assert!(!connections.needs_servers(after(1_000)), "one is connected");
        connections.observe(&state("b:1/2", "UP", "REAUTH"), after(1_000));
        assert!(!connections.needs_servers(after(1_100)), "still");
        connections.observe(&state("b:1/2", "REAUTH", "DOWN"), after(1_100));
        assert!(!connections.needs_servers(after(1_109)));
        assert!(connections.needs_servers(after(1_110)));
    }

    #[test]
    fn between_two_times_are_at_most_five_minutes() {
        let connections = Connections::default();
        let began = Instant::now();
        let times =
            (0..3_600).filter(|second| connections.needs_servers(began + Duration::from_secs(*second)));
        assert_eq!(times.count(), 15);
    }

    #[test]
    fn the_broker_that_stands_for_the_client_is_no_connection() {
        let connections = Connections::default();
        let began = Instant::now();
        connections.observe(&state(":0/internal", "INIT", "UP"), began);
        connections.observe("something else", began);
        assert!(connections.needs_servers(began + Duration::from_secs(11)));
    }
}
