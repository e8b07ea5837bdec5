//! The classic protocol.
//!
//! Kafka draws the ids of members, and what it does with several of them follows a hash table of these ids. So that the order
//! is the same here, where it is that of the ids, a client's name has the place of its member in front, and the program
//! around Kafka's state machine draws ids that have this place in the table.

mod mixed;
mod request;
mod steps;

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use proto_kafka::error::ResponseError;
use proto_kafka::messages::*;
use proto_kafka::protocol::{Decodable, Encodable};
use rand_core::TryRng;
use simulated_kafka::coordinator::Token;
use simulated_kafka::group::{GroupConfig, GroupResponse};

use crate::draw::Draw;
use crate::harness::{Bench, GROUP, text};
use crate::kafka::Kafka;
use crate::{Counts, compare_groups};
use mixed::Mixed;
use steps::{Next, Shape, Step};

/// The length of a UUID as text, and of the hyphen before it.
const UNIQUE: usize = 37;

/// The two that are compared; each gives its own ids to members.
#[derive(Clone, Copy)]
enum Side {
    Kafka,
    Simulation,
}

/// What a member knows of itself.
#[derive(Clone, Default)]
struct Member {
    /// Which process it is.
    run: usize,
    /// What it is called in [`Names`], if it has an id.
    name: Option<String>,
    generation: i32,
    /// The names of all members, if it leads.
    followers: Option<Vec<String>>,
    has_assignment: bool,
    has_to_join: bool,
}

/// The ids of members on one side, by names that are the same on both, and the other way round.
#[derive(Default)]
struct Names {
    ids: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
}

impl Names {
    fn add(&mut self, id: &str, name: &str) {
        if !self.names.contains_key(id) {
            self.names.insert(id.to_owned(), name.to_owned());
            self.ids.insert(name.to_owned(), id.to_owned());
        }
    }

    /// How an id is shown. One that nobody knows yet is that of a client.
    fn show(&self, id: &str) -> String {
        let unknown = || id.get(..id.len().saturating_sub(UNIQUE)).map(|client| format!("{client}-?"));
        match self.names.get(id) {
            Some(name) => name.clone(),
            None if id.len() > UNIQUE => unknown().unwrap_or_default(),
            None => format!("{id:?}"),
        }
    }
}

/// Draws the UUID of this number.
struct Drawn(u64);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0 as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        let length = bytes.len();
        if length >= 8 {
            bytes[length - 8..].copy_from_slice(&self.0.to_be_bytes());
        }
        Ok(())
    }
}

/// A request that is not answered yet.
struct Open {
    member: usize,
    run: usize,
    is_join: bool,
    version: i16,
    simulated: Token,
    /// Whether its member has sent another one since. Kafka forgets it then, and the simulation refuses it.
    is_replaced: bool,
    is_lost: bool,
}

struct Run<'a> {
    kafka: &'a mut Kafka,
    bench: Bench,
    members: Vec<Member>,
    names: [Names; 2],
    open: BTreeMap<u64, Open>,
    next_token: u64,
    named: usize,
    counts: Counts,
    history: Vec<String>,
    shape: Shape,
    /// Whether something was due at the same time as something else.
    at_once: bool,
    /// Only if there are members of both protocols.
    mixed: Option<Mixed>,
}

impl<'a> Run<'a> {
    fn new(kafka: &'a mut Kafka, max_size: usize) -> Self {
        Self::with(kafka, GroupConfig { max_size, ..GroupConfig::default() }, steps::CLASSIC)
    }

    fn with(kafka: &'a mut Kafka, config: GroupConfig, shape: Shape) -> Self {
        kafka.begin(config.max_size, config.consumer_assignors[0]);
        Self {
            kafka,
            bench: Bench::with(config),
            members: vec![Member { generation: -1, ..Member::default() }; shape.members],
            names: [Names::default(), Names::default()],
            open: BTreeMap::new(),
            next_token: 0,
            named: 0,
            counts: Counts::default(),
            history: Vec::new(),
            shape,
            at_once: false,
            mixed: None,
        }
    }

    fn next(&self) -> Vec<Next> {
        let next = |(place, member): (usize, &Member)| {
            if self.open.values().any(|open| open.member == place && open.run == member.run) {
                Next::Wait
            } else if member.name.is_none() || member.generation < 0 || member.has_to_join {
                Next::Join
            } else if member.has_assignment {
                Next::Beat
            } else {
                Next::Sync
            }
        };
        self.members.iter().enumerate().map(next).collect()
    }

    /// The member is a new process, which knows nothing.
    fn forget(&mut self, member: usize) {
        let run = self.members[member].run + 1;
        self.members[member] = Member { run, generation: -1, ..Member::default() };
    }

    /// What has to be the same on both sides is shown by both. What differs is an error.
    fn same(&mut self, what: &str, kafka: String, simulation: String) -> Result<(), String> {
        if kafka == simulation {
            self.history.push(format!("    {what}: {kafka}"));
            return Ok(());
        }
        let from = self.history.len().saturating_sub(24);
        let history = self.history[from..].join("\n");
        Err(format!("{history}\n    {what}\n        Kafka:      {kafka}\n        simulation: {simulation}"))
    }

    fn open(&mut self, member: usize, is_join: bool, version: i16, simulated: Token, is_lost: bool) -> u64 {
        for open in self.open.values_mut() {
            open.is_replaced |= open.member == member && open.is_join == is_join;
        }
        let run = self.members[member].run;
        let open = Open { member, run, is_join, version, simulated, is_replaced: false, is_lost };
        self.open.insert(self.next_token, open);
        self.next_token += 1;
        self.next_token - 1
    }

    fn take(&mut self, step: &Step, is_lost: bool) -> Result<(), String> {
        self.history.push(format!("{step:?}"));
        match step {
            Step::Join(join) => {
                if join.is_new || self.members[join.member].name.is_none() {
                    self.forget(join.member);
                }
                let client = self.client(join.member);
                let [kafka, simulated] =
                    [Side::Kafka, Side::Simulation].map(|side| self.join_request(join, side));
                self.bench.client_id.clone_from(&client);
                self.kafka.join(self.next_token, join.version, &client, &kafka);
                // Both draw the same id, by which some assignors sort.
                self.bench.rng = Box::new(Drawn(self.kafka.last_id()));
                let token = self.bench.send(join.version, simulated);
                self.open(join.member, true, join.version, token, is_lost);
            }
            Step::Sync { member, from, shift, protocol, forgotten } => {
                let version = 5;
                let [kafka, simulated] = [Side::Kafka, Side::Simulation]
                    .map(|side| self.sync_request(*member, *from, *shift, *protocol, *forgotten, side));
                let token = self.bench.send(version, simulated);
                let token = self.open(*member, false, version, token, is_lost);
                self.kafka.sync(token, version, &kafka);
            }
            Step::Beat { member, from, shift } => {
                let [kafka, simulated] = [Side::Kafka, Side::Simulation]
                    .map(|side| self.heartbeat_request(*member, *from, *shift, side));
                let expected = self.kafka.classic_heartbeat(4, &kafka).error_code;
                let found = self.bench.heartbeat(4, simulated).error_code;
                self.learn(*member, expected);
                self.same("heartbeat", expected.to_string(), found.to_string())?;
            }
            Step::Leave(leaving) => {
                let [kafka, simulated] =
                    [Side::Kafka, Side::Simulation].map(|side| self.leave_request(leaving, side));
                let expected = self.kafka.leave(5, &kafka);
                let found = self.bench.leave(5, simulated);
                let [expected, found] = [(expected, Side::Kafka), (found, Side::Simulation)]
                    .map(|(response, side)| self.show_left(&response, side));
                self.same("left", expected, found)?;
            }
            Step::Pass(milliseconds) => {
                self.at_once |= !self.kafka.pass(*milliseconds);
                self.bench.pass(*milliseconds);
            }
        }
        if !matches!(step, Step::Pass(_)) {
            self.counts.requests += 1;
            // Nothing of two requests is due at once.
            self.at_once |= !self.kafka.pass(1);
            self.bench.pass(1);
        }
        if self.mixed.is_some() && self.at_once {
            return Ok(());
        }
        self.answer()?;
        self.describe()
    }

    /// Compares the responses that have come since the last step, and gives them to their members.
    fn answer(&mut self) -> Result<(), String> {
        let mut expected = self.kafka.answers();
        let tokens: Vec<u64> = self.open.keys().copied().collect();
        let mut answered = Vec::new();
        for token in tokens {
            let open = &self.open[&token];
            let found = self.bench.replies.remove(&open.simulated);
            match (expected.remove(&token), found) {
                (None, None) => {}
                (None, Some(found)) if never_answered(open, &found) => {
                    self.open.remove(&token);
                }
                (Some(expected), Some(found)) => answered.push((token, expected, found)),
                (expected, found) => {
                    let kind = if open.is_join { "JoinGroup" } else { "SyncGroup" };
                    let kafka = if expected.is_some() { "answers" } else { "waits" };
                    let what = format!("{kind} of member {}", open.member);
                    self.same(&what, kafka.to_owned(), format!("{found:?}"))?;
                }
            }
        }
        assert!(expected.is_empty(), "nobody asked: {expected:?}");
        // A response to one shows the ids of others.
        for (token, expected, found) in &answered {
            self.name(*token, expected, found);
        }
        for (token, expected, found) in answered {
            self.compare_answer(token, expected, found)?;
        }
        Ok(())
    }

    /// Names the id that a member is given.
    fn name(&mut self, token: u64, expected: &Bytes, found: &GroupResponse) {
        let open = &self.open[&token];
        let GroupResponse::JoinGroup(found) = found else { return };
        let mut bytes = expected.clone();
        let expected = JoinGroupResponse::decode(&mut bytes, open.version).expect("a response");
        let is_given = [0, ResponseError::MemberIdRequired.code()].contains(&expected.error_code);
        if is_given && !expected.member_id.is_empty() && !found.member_id.is_empty() {
            let name = format!("m{}.{}", open.member, self.named);
            self.named += 1;
            self.names[Side::Kafka as usize].add(&expected.member_id, &name);
            self.names[Side::Simulation as usize].add(&found.member_id, &name);
        }
    }

    fn compare_answer(&mut self, token: u64, expected: Bytes, found: GroupResponse) -> Result<(), String> {
        let Some(open) = self.open.remove(&token) else { return Ok(()) };
        let mut bytes = expected;
        let is_current = open.run == self.members[open.member].run && !open.is_lost;
        let what = format!("member {}", open.member);
        match found {
            GroupResponse::JoinGroup(found) => {
                let expected = JoinGroupResponse::decode(&mut bytes, open.version).expect("a response");
                let found = as_sent(&found, open.version);
                self.counts.errors += u64::from(expected.error_code != 0);
                let shown = [(&expected, Side::Kafka), (&found, Side::Simulation)]
                    .map(|(response, side)| self.show_joined(response, side));
                let [kafka, simulation] = shown;
                self.same(&what, kafka, simulation)?;
                if is_current {
                    self.joined(open.member, &expected);
                }
            }
            GroupResponse::SyncGroup(found) => {
                let expected = SyncGroupResponse::decode(&mut bytes, open.version).expect("a response");
                self.counts.errors += u64::from(expected.error_code != 0);
                self.same(&what, format!("{expected:?}"), format!("{found:?}"))?;
                if is_current {
                    self.members[open.member].has_assignment = expected.error_code == 0;
                    self.keep_assignment(open.member, &expected);
                    self.learn(open.member, expected.error_code);
                }
            }
            other => panic!("{other:?} answers neither"),
        }
        Ok(())
    }

    fn joined(&mut self, member: usize, response: &JoinGroupResponse) {
        let names = &self.names[Side::Kafka as usize].names;
        let name = names.get(response.member_id.as_str()).cloned();
        if response.error_code == ResponseError::MemberIdRequired.code() {
            self.members[member].name = name;
        } else if response.error_code == 0 {
            let leads = response.leader == response.member_id;
            let followers = response
                .members
                .iter()
                .filter_map(|follower| names.get(follower.member_id.as_str()).cloned());
            let followers = leads.then(|| followers.collect());
            let run = self.members[member].run;
            let generation = response.generation_id;
            self.members[member] =
                Member { run, name, generation, followers, has_assignment: false, has_to_join: false };
        } else {
            self.learn(member, response.error_code);
        }
    }

    /// What an error teaches a member.
    fn learn(&mut self, member: usize, code: i16) {
        let is = |error: ResponseError| code == error.code();
        if is(ResponseError::RebalanceInProgress) || is(ResponseError::IllegalGeneration) {
            self.members[member].has_to_join = true;
        } else if is(ResponseError::UnknownMemberId) || is(ResponseError::FencedInstanceId) {
            self.forget(member);
        }
    }

    fn describe(&mut self) -> Result<(), String> {
        let request = DescribeGroupsRequest::default().with_groups(vec![text(GROUP).into()]);
        let found = self.bench.describe_groups(6, request);
        let expected = self.kafka.describe_classic(GROUP);
        let shown = [(&expected, Side::Kafka), (&found, Side::Simulation)]
            .map(|(response, side)| self.show_described(response, side));
        let [kafka, simulation] = shown;
        self.same("group", kafka, simulation)?;
        self.describe_consumers()
    }
}

/// A response as the client gets it: some versions leave fields out.
fn as_sent(response: &JoinGroupResponse, version: i16) -> JoinGroupResponse {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).expect("a response");
    JoinGroupResponse::decode(&mut bytes.freeze(), version).expect("a response")
}

/// Whether a response refuses a request that Kafka never answers: because its member has sent another one, or because it has left
/// while it waited for its assignment.
fn never_answered(open: &Open, response: &GroupResponse) -> bool {
    let code = match response {
        GroupResponse::JoinGroup(response) => response.error_code,
        GroupResponse::SyncGroup(response) => response.error_code,
        _ => 0,
    };
    open.is_replaced && code == ResponseError::RebalanceInProgress.code()
        || !open.is_join && code == ResponseError::UnknownMemberId.code()
}

/// Carries out random steps on both; what differs in the first step that does.
fn compare(kafka: &mut Kafka, seed: u64, steps: u64) -> Result<Counts, String> {
    let mut draw = Draw::new(seed);
    // Of a few groups some are full.
    let max_size = draw.pick(&[3, 100, 100]);
    let mut run = Run::new(kafka, max_size);
    for place in 0..steps {
        let step = steps::step(&mut draw, &run.next(), steps::CLASSIC);
        let is_lost = draw.chance(5);
        run.take(&step, is_lost).map_err(|difference| format!("seed {seed}, step {place}:\n{difference}"))?;
    }
    Ok(run.counts)
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn random_requests_of_the_classic_protocol_have_the_same_responses_and_effects_in_kafkas_own_state_machine() {
    let all = compare_groups("errors-classic", |kafka, seed| compare(kafka, seed, 80));
    assert!(all.requests > all.groups * 20 && all.errors * 3 < all.requests * 2, "most are refused");
}
