//! Records a timeline while a run goes on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::parties::{Caller, Service};
use crate::scenario::fault::Host;
use crate::timeline::{Item, Judged, Kind, Lane, Outcome, Timeline, Touch};

/// Characters of a text that are kept.
const TEXT: usize = 300;

/// Characters of a source that are kept.
const SOURCE: usize = 40;

/// Sources of an item that are kept.
const SOURCES: usize = 8;

/// The place of an item in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItemId(usize);

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// Who is not under test: the operator, the producer.
    Outside,
    /// The process of a host.
    Host(Host),
    /// Threads of a worker's clients that have the same name.
    Threads(u16),
}

impl From<Caller> for Party {
    fn from(caller: Caller) -> Self {
        caller.worker.map_or(Party::Outside, |worker| Party::Host(Host::Worker(worker)))
    }
}

impl From<Service> for Party {
    fn from(service: Service) -> Self {
        Party::Host(Host::Service(service))
    }
}

/// Records a run, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Option<Mutex<Recording>>);

impl Recorder {
    /// Records.
    pub fn on() -> Self {
        Self(Some(Mutex::default()))
    }

    /// Whether it records, so that what is only recorded is worth computing.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The recording, if there is one.
    pub fn recording(&self) -> Option<MutexGuard<'_, Recording>> {
        self.0.as_ref().map(|recording| recording.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What was recorded so far.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// The current time in simulated microseconds, and the number of the trace's last event.
    pub(super) now: (u64, u64),
    lanes: Vec<(Party, Lane)>,
    items: Vec<Item>,
    sources: Vec<String>,
    pub(super) violations: Vec<Judged>,
    pub(super) history: Vec<Touch>,
    /// The open items that will be ended by name.
    open: BTreeMap<Open, ItemId>,
}

/// What an open item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Open {
    /// The process of a lane.
    Life(u16),
    /// A pause of a lane.
    Pause(u16),
    /// A fault.
    Fault(u64),
    /// A partition of a lane.
    Assignment(u16, i32),
    /// A partition's owner.
    Owner(i32),
    /// A request, and a response.
    Request(u64),
    Response(u64),
    /// A message between nodes, of a request, from a lane to another.
    Replica(u64, u16, u16),
}

/// The beginning of a text.
pub(super) fn short(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

impl Recording {
    /// Sets the time of what is recorded next.
    pub fn set_now(&mut self, micros: u64, event: u64) {
        self.now = (micros, event);
    }

    /// Adds a lane, after those that were added before.
    pub fn add_lane(&mut self, party: Party, name: impl Into<String>, group: &str) -> u16 {
        if let Some(place) = self.lanes.iter().position(|(known, _)| *known == party) {
            return place as u16;
        }
        self.lanes.push((party, Lane { name: name.into(), group: group.to_owned() }));
        (self.lanes.len() - 1) as u16
    }

    /// The lane of a party.
    pub fn lane(&mut self, party: impl Into<Party>) -> u16 {
        let party = party.into();
        self.add_lane(party, format!("{party:?}"), "others")
    }

    /// The parties that have a lane, with their lanes.
    pub(super) fn parties(&self) -> impl Iterator<Item = (Party, u16)> {
        (0..).zip(&self.lanes).map(|(lane, (party, _))| (*party, lane))
    }

    /// The place of a source.
    pub(super) fn source(&mut self, source: &str) -> u16 {
        let source = short(source.to_owned(), SOURCE);
        let place = self.sources.iter().position(|known| *known == source);
        let place = place.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        place.min(u16::MAX.into()) as u16
    }

    /// An item that begins now.
    pub fn item(&mut self, kind: Kind, lane: Option<u16>, text: impl Into<String>) -> Item {
        let (start, event) = self.now;
        Item {
            kind,
            lane,
            to: None,
            start,
            event,
            end: None,
            end_event: None,
            outcome: Outcome::None,
            text: short(text.into(), TEXT),
            details: Vec::new(),
            partitions: Vec::new(),
            sources: Vec::new(),
            peer: None,
            affects: Vec::new(),
        }
    }

    /// Adds an item.
    pub fn add(&mut self, item: Item) -> ItemId {
        self.items.push(item);
        ItemId(self.items.len() - 1)
    }

    /// Something happens once.
    pub fn moment(&mut self, party: Option<Party>, text: impl Into<String>) {
        let lane = party.map(|party| self.lane(party));
        let item = self.item(Kind::Moment, lane, text);
        self.add(item);
    }

    /// An item.
    pub fn get(&mut self, id: ItemId) -> &mut Item {
        &mut self.items[id.0]
    }

    /// An item ends now, unless it has ended.
    pub fn end(&mut self, id: ItemId, outcome: Outcome) {
        let (at, event) = self.now;
        let item = self.get(id);
        if item.end.is_none() {
            (item.end, item.end_event, item.outcome) = (Some(at), Some(event), outcome);
        }
    }

    /// Adds a detail to an item.
    pub fn detail(&mut self, id: ItemId, name: &str, text: impl Into<String>) {
        let detail = (name.to_owned(), short(text.into(), TEXT));
        self.get(id).details.push(detail);
    }

    /// Sets the sources of an item: some of them, if there are many.
    pub fn set_sources<'a>(&mut self, item: &mut Item, sources: impl IntoIterator<Item = &'a str>) {
        for source in sources {
            let place = self.source(source);
            if item.sources.len() < SOURCES && !item.sources.contains(&place) {
                item.sources.push(place);
            }
        }
    }

    /// Adds an item that is ended under this name.
    pub(super) fn begin(&mut self, open: Open, item: Item) -> ItemId {
        let id = self.add(item);
        self.open.insert(open, id);
        id
    }

    /// The open item of a name.
    pub(super) fn open(&self, open: Open) -> Option<ItemId> {
        self.open.get(&open).copied()
    }

    /// Ends the open item of a name, if there is one.
    pub(super) fn end_open(&mut self, open: Open, outcome: Outcome) -> Option<ItemId> {
        let id = self.open.remove(&open)?;
        self.end(id, outcome);
        Some(id)
    }

    /// Everything that a lane was doing ends, because its process has ended.
    pub(super) fn interrupt(&mut self, lane: u16) {
        let of_lane = |open: &Open| matches!(open, Open::Assignment(of, _) if *of == lane);
        let open: Vec<Open> = self.open.keys().copied().filter(of_lane).collect();
        for open in open {
            self.end_open(open, Outcome::None);
        }
        let (at, event) = self.now;
        for item in &mut self.items {
            let is_call = matches!(item.kind, Kind::Write | Kind::Read);
            if is_call && item.lane == Some(lane) && item.end.is_none() {
                (item.end, item.end_event, item.outcome) = (Some(at), Some(event), Outcome::Interrupted);
            }
        }
    }

    /// A message that nobody received is lost: it never arrived, or no process ran where it did.
    fn is_received(&self, item: &mut Item) {
        let runs = |life: &Item, at: u64| life.start <= at && life.end.is_none_or(|end| at <= end);
        let mut lives = self.items.iter().filter(|other| other.kind == Kind::Life && other.lane == item.to);
        let why = match item.end {
            None => "it never arrives",
            // Only processes have lives: the operator always runs.
            Some(at) if self.has_lives(item.to) && !lives.any(|life| runs(life, at)) => {
                "no process receives it"
            }
            Some(_) => return,
        };
        (item.outcome, item.end, item.end_event) = (Outcome::Lost, None, None);
        if !item.details.iter().any(|(name, _)| name == "lost") {
            item.details.push(("lost".to_owned(), why.to_owned()));
        }
    }

    fn has_lives(&self, lane: Option<u16>) -> bool {
        self.items.iter().any(|other| other.kind == Kind::Life && other.lane == lane)
    }

    /// The timeline, without what is known outside of the run.
    pub fn timeline(&self) -> Timeline {
        let is_there = |kind: &Kind| self.items.iter().any(|item| item.kind == *kind);
        let ends = self.items.iter().map(|item| item.end.unwrap_or(item.start));
        let end = ends.chain(self.violations.iter().map(|judged| judged.at)).max();
        // In the order of their beginning: what replicas are sent is recorded before it arrives.
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        order.sort_by_key(|place| self.items[*place].start);
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, old)| places[*old] = new as u32);
        let moved = |place: u32| places.get(place as usize).copied();
        let items = order.iter().map(|place| {
            let mut item = self.items[*place].clone();
            item.peer = item.peer.and_then(moved);
            if item.to.is_some() {
                self.is_received(&mut item);
            }
            item
        });
        let touch = |touch: &Touch| Touch { item: touch.item.and_then(moved), ..touch.clone() };
        Timeline {
            format: super::FORMAT,
            violations: self.violations.clone(),
            lanes: self.lanes.iter().map(|(_, lane)| lane.clone()).collect(),
            kinds: Kind::all().filter(is_there).map(Kind::describe).collect(),
            sources: self.sources.clone(),
            items: items.collect(),
            history: self.history.iter().map(touch).collect(),
            end: end.unwrap_or(0),
            ..Timeline::default()
        }
    }
}

impl ItemId {
    /// The item as others refer to it.
    pub(super) fn place(self) -> u32 {
        self.0 as u32
    }
}
