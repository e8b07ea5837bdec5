//! The ids of producers that a broker assigns (`RPCProducerIdManager`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Broker;
use crate::controller::{ControlRequest, ControlResponse, PRODUCER_IDS};

/// The next block is asked for when so many ids are left of the current one, beside the one that is assigned.
const FEW: i64 = PRODUCER_IDS / 10 - 1;
/// How long a broker does not ask again after the controller has refused.
const BACKOFF: Duration = Duration::from_millis(50);
/// How long it waits for the controller.
const WAIT: Duration = Duration::from_secs(5);

/// The blocks of ids that a broker has: none when it starts.
#[derive(Debug, Default)]
pub(crate) struct ProducerBlocks {
    current: Range<i64>,
    next: Option<Range<i64>>,
    /// Whether the next block was asked for, and is not the current one yet.
    is_asked: bool,
    /// Before that it does not ask.
    asks_at: Option<Instant>,
}

impl ProducerBlocks {
    /// An id, if there is one, and whether to ask for more now.
    fn take(&mut self, now: Instant) -> (Option<i64>, bool) {
        if self.current.is_empty()
            && let Some(next) = self.next.take()
        {
            self.current = next;
            self.is_asked = false;
        }
        let id = self.current.next();
        let is_due = id.is_none() || self.current.end - self.current.start == FEW;
        let asks = is_due && !self.is_asked && self.asks_at.is_none_or(|at| now >= at);
        self.is_asked |= asks;
        (id, asks)
    }

    /// The controller has given a block that begins with this id, or none.
    fn given(&mut self, first: Option<i64>, now: Instant) {
        self.next = first.map(|first| first..first + PRODUCER_IDS);
        self.is_asked = first.is_some();
        self.asks_at = first.is_none().then(|| now + BACKOFF);
    }
}

impl Broker {
    /// An id that no other producer has. `None` if the controller has yet to give some, for which it is asked: a client then asks
    /// again.
    pub(crate) fn new_producer_id(self: &Arc<Self>) -> Option<i64> {
        let (id, asks) = self.lock().producer_ids.take(Instant::now());
        if asks {
            self.begin(Self::ask_for_producer_ids);
        }
        id
    }

    async fn ask_for_producer_ids(self: Arc<Self>) {
        let request = ControlRequest::ProducerIds { epoch: self.lock().epoch };
        let first = match self.ask_controller(request, WAIT).await {
            Ok(ControlResponse::ProducerIds(first)) => Some(first),
            _ => None,
        };
        self.lock().producer_ids.given(first, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_asked_for_when_there_are_none_and_when_a_tenth_is_left() {
        let now = Instant::now();
        let mut blocks = ProducerBlocks::default();
        assert_eq!(blocks.take(now), (None, true));
        assert_eq!(blocks.take(now), (None, false), "it has asked");
        blocks.given(Some(5000), now);
        for id in 5000..6000 {
            assert_eq!(blocks.take(now), (Some(id), id == 5900));
        }
        assert_eq!(blocks.take(now), (None, false));
        blocks.given(Some(9000), now);
        assert_eq!(blocks.take(now), (Some(9000), false));
    }

    #[test]
    fn ids_that_come_before_the_others_are_used_up_are_kept() {
        let now = Instant::now();
        let mut blocks = ProducerBlocks::default();
        blocks.take(now);
        blocks.given(Some(0), now);
        for id in 0..950 {
            assert_eq!(blocks.take(now).0, Some(id));
        }
        blocks.given(Some(7000), now);
        assert_eq!(blocks.take(now), (Some(950), false));
        for id in 951..1000 {
            assert_eq!(blocks.take(now), (Some(id), false));
        }
        assert_eq!(blocks.take(now), (Some(7000), false));
    }

    #[test]
    fn a_controller_that_gives_none_is_asked_again_after_a_while() {
        let now = Instant::now();
        let mut blocks = ProducerBlocks::default();
        blocks.take(now);
        blocks.given(None, now);
        assert_eq!(blocks.take(now + BACKOFF / 2), (None, false));
        assert_eq!(blocks.take(now + BACKOFF), (None, true));
        blocks.given(Some(0), now + BACKOFF);
        assert_eq!(blocks.take(now), (Some(0), false));
    }
}
