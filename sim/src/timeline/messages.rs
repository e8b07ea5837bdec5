//! Messages: requests to the simple services and their responses, and whatever else one party sends to another.

use crate::parties::{Caller, Service};
use crate::timeline::recording::Open;
use crate::timeline::{ItemId, Kind, Outcome, Party, Recording};

impl Recording {
    /// A message is sent, and is under way.
    pub fn message(&mut self, kind: Kind, from: Party, to: Party, text: String) -> ItemId {
        let (from, to) = (self.lane(from), self.lane(to));
        let mut item = self.item(kind, Some(from), text);
        item.to = Some(to);
        self.add(item)
    }

    /// A message between nodes is sent, as part of a request of the cluster.
    pub fn replica_message(
        &mut self,
        kind: Kind,
        (from, to): (Party, Party),
        request: u64,
        text: String,
    ) -> ItemId {
        let (from_lane, to_lane) = (self.lane(from), self.lane(to));
        let mut item = self.item(kind, Some(from_lane), text);
        item.to = Some(to_lane);
        self.begin(Open::Replica(request, from_lane, to_lane), item)
    }

    /// The message between nodes that was sent last as part of a request.
    pub fn open_replica_message(&mut self, (from, to): (Party, Party), request: u64) -> Option<ItemId> {
        let open = Open::Replica(request, self.lane(from), self.lane(to));
        self.open(open).filter(|id| self.get(*id).end.is_none())
    }

    /// The response to it.
    pub fn replica_response(
        &mut self,
        kind: Kind,
        (from, to): (Party, Party),
        request: u64,
        text: String,
    ) -> ItemId {
        let question = Open::Replica(request, self.lane(to), self.lane(from));
        let id = self.message(kind, from, to, text);
        if let Some(question) = self.open(question) {
            self.get(id).partitions = self.get(question).partitions.clone();
            self.answers(id, question);
        }
        id
    }

    /// An item answers another.
    pub fn answers(&mut self, response: ItemId, request: ItemId) {
        self.get(response).peer = Some(request.place());
        self.get(request).peer = Some(response.place());
    }

    /// The first of some copies of a message arrives after this time, in microseconds; none if it is lost.
    pub fn arrives_after(&mut self, id: ItemId, after: Option<u64>, copies: usize) {
        let (now, event) = self.now;
        match after {
            Some(after) => {
                let item = self.get(id);
                (item.end, item.end_event) = (Some(now + after), Some(event));
            }
            None => self.end(id, Outcome::Lost),
        }
        if copies > 1 {
            self.detail(id, "copies", copies.to_string());
        }
    }

    /// A client sends a request.
    pub fn request_sent(
        &mut self,
        number: u64,
        (caller, service): (Caller, Service),
        (kind, partition): (Kind, Option<i32>),
        text: String,
    ) {
        let (from, to) = (self.lane(caller), self.lane(service));
        let mut item = self.item(kind, Some(from), text);
        item.to = Some(to);
        item.partitions = partition.into_iter().collect();
        item.details.push(("request".to_owned(), format!("#{number} of {caller}")));
        self.begin(Open::Request(number), item);
    }

    /// The service begins to handle it.
    pub fn request_arrives(&mut self, number: u64) {
        self.end_request(number, Outcome::None, None);
    }

    /// It never arrives.
    pub fn request_lost(&mut self, number: u64, why: &str) {
        self.end_request(number, Outcome::Lost, Some(why));
    }

    fn end_request(&mut self, number: u64, outcome: Outcome, why: Option<&str>) {
        if let Some(id) = self.open(Open::Request(number)) {
            self.end(id, outcome);
            if let Some(why) = why {
                self.detail(id, "lost", why);
            }
        }
    }

    /// The service responds. `lost` says why the response does not arrive.
    pub fn response_sent(
        &mut self,
        number: u64,
        (service, caller): (Service, Caller),
        text: String,
        lost: Option<&str>,
    ) {
        let Some(request) = self.open(Open::Request(number)) else { return };
        let (kind, partitions) = {
            let request = self.get(request);
            (request.kind, request.partitions.clone())
        };
        let (from, to) = (self.lane(service), self.lane(caller));
        let mut item = self.item(kind, Some(from), text);
        (item.to, item.partitions, item.peer) = (Some(to), partitions, Some(request.place()));
        item.details.push(("response to".to_owned(), format!("#{number} of {caller}")));
        let id = self.begin(Open::Response(number), item);
        self.get(request).peer = Some(id.place());
        if let Some(why) = lost {
            self.end(id, Outcome::Lost);
            self.detail(id, "lost", why);
        }
    }

    /// The client receives the response.
    pub fn response_arrives(&mut self, number: u64, outcome: Outcome) {
        self.end_open(Open::Response(number), outcome);
    }

    /// The client no longer waits.
    pub fn request_given_up(&mut self, number: u64, why: &str) {
        if let Some(id) = self.open(Open::Request(number)) {
            self.detail(id, "the client gives up", why);
            if self.get(id).outcome == Outcome::None {
                self.get(id).outcome = Outcome::Unknown;
            }
        }
    }

    /// The service applies a request again.
    pub fn applied_again(&mut self, number: u64, service: Service) {
        let lane = self.lane(service);
        let mut item = self.item(Kind::Moment, Some(lane), format!("request #{number} is applied again"));
        if let Some(request) = self.open(Open::Request(number)) {
            item.peer = Some(request.place());
            item.partitions = self.get(request).partitions.clone();
        }
        self.add(item);
    }
}
