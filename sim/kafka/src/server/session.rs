//! Fetch sessions (KIP-227): what a client fetches is kept, so that it sends only changes.
//!
//! As in `FetchSessionCache` of 4.1, sessions are spread over eight shards in turn, each with an eighth of the slots. When
//! a shard is full, a new session takes the place of one that was idle for two minutes, or else of one with fewer
//! partitions that was begun more than two minutes before it was last used. A session of a follower is privileged: it
//! also takes the place of any other, and in its own first two minutes none takes its place.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{ErrorCode, Result};
use crate::protocol::messages::FetchRequest;
use crate::protocol::messages::fetch_request::FetchPartition;
use crate::types::{Offset, Timestamp, TopicId};

/// How many shards there are (`KafkaBroker.NumFetchSessionCacheShards`).
const SHARDS: i32 = 8;

/// The ids of a shard (`BrokerServer`).
const IDS_OF_SHARD: i32 = i32::MAX / SHARDS;

/// How many milliseconds a session is idle before any other takes its place
/// (`KafkaBroker.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS: i64 = 120_000;

/// A partition as a fetch names it: by name before version 13, else by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FetchKey {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partition: i32,
}

/// What a client requests of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) key: FetchKey,
    pub(crate) fetch: FetchPartition,
}

/// What a client knows of a partition from earlier responses of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

/// What a response says of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) known: Known,
    pub(crate) has_records: bool,
    /// Whether there is an error, a preferred replica or a diverging epoch.
    pub(crate) is_urgent: bool,
}

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    /// Whether its partitions have ids of topics and not names.
    has_ids: bool,
    /// In the order in which they are served.
    partitions: Vec<(Wanted, Option<Known>)>,
    /// Whether a follower has it.
    privileged: bool,
    created: Timestamp,
    used: Timestamp,
    /// How many partitions it had when it was last used.
    size: usize,
    /// Whether another may take its place before it is idle, as of its last use.
    evictable: Evictable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evictable {
    Never,
    ForPrivileged,
    ForAll,
}

impl Session {
    /// `FetchSessionCacheShard.touch`
    fn touch(&mut self, now: Timestamp) {
        self.used = now;
        self.size = self.partitions.len();
        self.evictable = match (now - self.created > EVICTION_MS, self.privileged) {
            (true, _) => Evictable::ForAll,
            (false, true) => Evictable::Never,
            (false, false) => Evictable::ForPrivileged,
        };
    }

    /// What decides which of two sessions is worth less (`EvictableKey`).
    fn worth(&self, id: i32) -> (bool, usize, i32) {
        (self.privileged, self.size, id)
    }

    fn may_yield_to(&self, privileged: bool) -> bool {
        match self.evictable {
            Evictable::Never => false,
            Evictable::ForPrivileged => privileged,
            Evictable::ForAll => true,
        }
    }
}

/// The sessions of a broker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    /// The shard of the next session.
    shard: i32,
}

/// Who asks for a new session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The version of its request.
    pub(crate) version: i16,
    /// Whether it is a follower.
    pub(crate) privileged: bool,
}

/// What a fetch has to do with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing.
    None,
    /// It begins one with its response.
    Begin,
    /// It is the one of this epoch in a session.
    Continue { id: i32, epoch: i32 },
}

/// A fetch with its session.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: Use,
    pub(crate) wanted: Vec<Wanted>,
}

/// The version from which a fetch names topics by their ids.
const IDS_FROM: i16 = 13;

fn next(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The partitions that a request lists.
fn listed(request: &FetchRequest) -> impl Iterator<Item = Wanted> + '_ {
    request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|fetch| {
            let key = FetchKey {
                name: topic.topic.to_string(),
                id: TopicId(topic.topic_id),
                partition: fetch.partition,
            };
            Wanted { key, fetch: fetch.clone() }
        })
    })
}

impl Sessions {
    /// Continues or ends a session as the request says (`FetchManager.newContext`).
    pub(crate) fn open(&mut self, request: &FetchRequest, version: i16, now: Timestamp) -> Result<Opened> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let sessionless = || Opened { session: Use::None, wanted: listed(request).collect() };
        if epoch == -1 || epoch == 0 {
            if id != 0 {
                self.sessions.remove(&id);
            }
            let session = if epoch == 0 { Use::Begin } else { Use::None };
            return Ok(Opened { session, ..sessionless() });
        }
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.has_ids != (version >= IDS_FROM) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for wanted in listed(request) {
            match session.partitions.iter_mut().find(|(known, _)| known.key == wanted.key) {
                Some((known, _)) => known.fetch = wanted.fetch,
                None => session.partitions.push((wanted, None)),
            }
        }
        for topic in &request.forgotten_topics_data {
            let (name, id) = (topic.topic.to_string(), TopicId(topic.topic_id));
            session.partitions.retain(|(known, _)| {
                known.key.name != name
                    || known.key.id != id
                    || !topic.partitions.contains(&known.key.partition)
            });
        }
        if session.partitions.is_empty() {
            self.sessions.remove(&id);
            return Ok(sessionless());
        }
        session.next_epoch = next(epoch);
        session.touch(now);
        let wanted = session.partitions.iter().map(|(wanted, _)| wanted.clone()).collect();
        Ok(Opened { session: Use::Continue { id, epoch }, wanted })
    }

    /// A new session for these partitions, if there is a slot for it or another gives way; else 0
    /// (`FetchSessionCacheShard.maybeCreateSession`). `slots` is for all shards, and `fresh` decides about the id.
    pub(crate) fn create(
        &mut self,
        wanted: &[Wanted],
        asker: Asker,
        slots: usize,
        fresh: i32,
        now: Timestamp,
    ) -> i32 {
        let shard = self.shard;
        self.shard = (shard + 1) % SHARDS;
        let (first, end) = ((shard * IDS_OF_SHARD).max(1), (shard + 1) * IDS_OF_SHARD);
        let slots = slots / SHARDS as usize;
        if self.sessions.range(first..end).count() >= slots
            && !self.evict(first..end, asker, wanted.len(), now)
        {
            return 0;
        }
        let mut id = first + fresh.rem_euclid(end - first);
        while self.sessions.contains_key(&id) {
            id = if id + 1 < end { id + 1 } else { first };
        }
        let mut session = Session {
            next_epoch: 1,
            has_ids: asker.version >= IDS_FROM,
            partitions: wanted.iter().map(|wanted| (wanted.clone(), None)).collect(),
            privileged: asker.privileged,
            created: now,
            used: now,
            size: 0,
            evictable: Evictable::Never,
        };
        session.touch(now);
        self.sessions.insert(id, session);
        id
    }

    /// Ends a session for a new one of this many partitions; whether one gives way (`FetchSessionCacheShard.tryEvict`).
    fn evict(&mut self, shard: Range<i32>, asker: Asker, size: usize, now: Timestamp) -> bool {
        let idle = self.sessions.range(shard.clone()).min_by_key(|(id, session)| (session.used, **id));
        if let Some((id, _)) = idle.filter(|(_, session)| now - session.used > EVICTION_MS) {
            let id = *id;
            self.sessions.remove(&id);
            return true;
        }
        let may_yield =
            self.sessions.range(shard).filter(|(_, session)| session.may_yield_to(asker.privileged));
        let least = may_yield.map(|(id, session)| session.worth(*id)).min();
        match least {
            // The new one has no id yet, so that one of the same size stays.
            Some(least) if (asker.privileged, size, 0) >= least => self.sessions.remove(&least.2).is_some(),
            _ => false,
        }
    }

    /// Whether the fetch of this epoch is still the last one of its session. One that is gone has no other.
    pub(crate) fn is_last(&self, id: i32, epoch: i32) -> bool {
        self.sessions.get(&id).is_none_or(|session| session.next_epoch == next(epoch))
    }

    /// Whether a partition has news for the client of a session.
    pub(crate) fn has_news(&self, id: i32, key: &FetchKey, said: Said) -> bool {
        let partitions = self.sessions.get(&id).map_or(&[][..], |session| &session.partitions);
        let before = partitions.iter().find(|(wanted, _)| wanted.key == *key);
        said.has_records || said.is_urgent || before.is_none_or(|(_, known)| *known != Some(said.known))
    }

    /// The client of a session gets to know this of a partition. With records the partition moves to the end, so that
    /// others come first next time.
    pub(crate) fn note(&mut self, id: i32, key: &FetchKey, said: Said) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(place) = session.partitions.iter().position(|(wanted, _)| wanted.key == *key) else {
            return;
        };
        let (wanted, _) = session.partitions.remove(place);
        let place = if said.has_records { session.partitions.len() } else { place };
        session.partitions.insert(place, (wanted, Some(said.known)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};

    const BY_NAME: i16 = 12;
    const BY_ID: i16 = 13;

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions.iter().map(|index| FetchPartition::default().with_partition(*index));
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        FetchRequest::default().with_session_id(id).with_session_epoch(epoch).with_topics(vec![topic])
    }

    const CLIENT: Asker = Asker { version: BY_NAME, privileged: false };
    const FOLLOWER: Asker = Asker { version: BY_NAME, privileged: true };

    /// The session of this id, which is in the first shard.
    fn create(sessions: &mut Sessions, partitions: &[i32], version: i16, id: i32) -> Vec<Wanted> {
        let opened = sessions.open(&request(0, 0, partitions), version, 0).unwrap();
        assert_eq!(opened.session, Use::Begin);
        let asker = Asker { version, ..CLIENT };
        assert_eq!(sessions.create(&opened.wanted, asker, 16, id - 1, 0), id);
        opened.wanted
    }

    fn open(sessions: &mut Sessions, id: i32, epoch: i32, partitions: &[i32]) -> Result<usize> {
        sessions.open(&request(id, epoch, partitions), BY_NAME, 0).map(|opened| opened.wanted.len())
    }

    /// A new session with one partition more than this number, in the first shard, of two slots; 0 if there is none.
    fn begin(sessions: &mut Sessions, asker: Asker, last: i32, now: Timestamp) -> i32 {
        let partitions: Vec<i32> = (0..=last).collect();
        let wanted = sessions.open(&request(0, 0, &partitions), BY_NAME, now).unwrap().wanted;
        sessions.shard = 0;
        sessions.create(&wanted, asker, 16, now as i32 * 10 + last, now)
    }

    fn use_at(sessions: &mut Sessions, id: i32, epoch: i32, now: Timestamp) {
        sessions.open(&request(id, epoch, &[]), BY_NAME, now).unwrap();
    }

    #[test]
    fn a_session_keeps_its_partitions_and_its_epochs_count_up() {
        let mut sessions = Sessions::default();
        create(&mut sessions, &[0, 1], BY_NAME, 7);
        assert_eq!(open(&mut sessions, 7, 1, &[2]), Ok(3));
        assert!(sessions.is_last(7, 1));
        assert_eq!(open(&mut sessions, 7, 1, &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(open(&mut sessions, 8, 1, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(open(&mut sessions, 7, 2, &[]), Ok(3));
        assert!(!sessions.is_last(7, 1));
        // The session ends.
        let last = sessions.open(&request(7, -1, &[0]), BY_NAME, 0).unwrap();
        assert_eq!((last.session, last.wanted.len()), (Use::None, 1));
        assert!(open(&mut sessions, 7, 3, &[]).is_err());
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let mut sessions = Sessions::default();
        create(&mut sessions, &[0], BY_NAME, 7);
        let forgotten = ForgottenTopic::default().with_partitions(vec![0]);
        let emptied = request(7, 1, &[]).with_forgotten_topics_data(vec![forgotten]);
        let opened = sessions.open(&emptied, BY_NAME, 0).unwrap();
        assert_eq!((opened.session, opened.wanted.len()), (Use::None, 0));
        assert_eq!(open(&mut sessions, 7, 2, &[0]), Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn a_session_of_names_is_not_continued_with_ids_and_the_reverse() {
        for (first, second) in [(BY_NAME, BY_ID), (BY_ID, BY_NAME)] {
            let mut sessions = Sessions::default();
            create(&mut sessions, &[0], first, 7);
            let other = sessions.open(&request(7, 1, &[0]), second, 0).map(|_| ());
            assert_eq!(other, Err(ErrorCode::FetchSessionTopicIdError), "{first} {second}");
            // The epoch is looked at before that, and the error does not change the session.
            let wrong = sessions.open(&request(7, 2, &[0]), second, 0).map(|_| ());
            assert_eq!(wrong, Err(ErrorCode::InvalidFetchSessionEpoch));
            assert!(sessions.open(&request(7, 1, &[0]), first, 0).is_ok());
        }
    }

    #[test]
    fn a_session_gives_way_after_two_minutes_without_use() {
        let mut sessions = Sessions::default();
        let (first, second) = (begin(&mut sessions, CLIENT, 0, 0), begin(&mut sessions, CLIENT, 0, 1));
        use_at(&mut sessions, first, 1, 2);
        assert_eq!(begin(&mut sessions, CLIENT, 9, 120_001), 0, "there is no slot");
        let third = begin(&mut sessions, CLIENT, 0, 120_002);
        assert_ne!(third, 0);
        assert_eq!(open(&mut sessions, second, 1, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(open(&mut sessions, first, 2, &[]), Ok(1));
    }

    #[test]
    fn a_session_that_is_older_than_two_minutes_gives_way_to_one_of_more_partitions() {
        let mut sessions = Sessions::default();
        let (small, large) = (begin(&mut sessions, CLIENT, 1, 0), begin(&mut sessions, CLIENT, 2, 0));
        use_at(&mut sessions, large, 1, 120_001);
        use_at(&mut sessions, small, 1, 120_000);
        assert_eq!(
            begin(&mut sessions, CLIENT, 2, 120_002),
            0,
            "the first was too new when it was last used"
        );
        use_at(&mut sessions, small, 2, 120_002);
        assert_eq!(begin(&mut sessions, CLIENT, 0, 120_003), 0, "it has fewer partitions");
        assert_eq!(begin(&mut sessions, CLIENT, 1, 120_003), 0, "it has as many");
        assert_ne!(begin(&mut sessions, CLIENT, 2, 120_003), 0);
        assert_eq!(open(&mut sessions, small, 3, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(open(&mut sessions, large, 2, &[]), Ok(3));
    }

    #[test]
    fn a_followers_session_takes_the_place_of_any_clients_and_keeps_its_own() {
        let mut sessions = Sessions::default();
        let (first, second) = (begin(&mut sessions, CLIENT, 3, 0), begin(&mut sessions, CLIENT, 2, 0));
        let follower = begin(&mut sessions, FOLLOWER, 0, 1);
        assert_eq!(open(&mut sessions, second, 1, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_ne!(begin(&mut sessions, FOLLOWER, 0, 1), 0);
        assert_eq!(open(&mut sessions, first, 1, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(&mut sessions, FOLLOWER, 9, 2), 0);
        // What it had of two minutes is over, but not what it has before a client.
        use_at(&mut sessions, follower, 1, 120_002);
        assert_eq!(begin(&mut sessions, CLIENT, 9, 120_001), 0);
        assert_ne!(begin(&mut sessions, FOLLOWER, 9, 120_001), 0);
    }

    #[test]
    fn sessions_are_spread_over_eight_shards_with_ids_and_slots_of_their_own() {
        let mut sessions = Sessions::default();
        let wanted = sessions.open(&request(0, 0, &[0]), BY_NAME, 0).unwrap().wanted;
        let mut ids = Vec::new();
        for _ in 0..16 {
            ids.push(sessions.create(&wanted, CLIENT, 15, 0, 0));
        }
        let expected: Vec<i32> = (0..8).map(|shard: i32| (shard * IDS_OF_SHARD).max(1)).collect();
        assert_eq!((&ids[..8], &ids[8..]), (&expected[..], &[0; 8][..]), "one slot each");
        assert_eq!(Sessions::default().create(&wanted, CLIENT, 7, 0, 0), 0, "there are no slots");
    }

    #[test]
    fn only_what_changed_is_news_until_it_is_noted() {
        let mut sessions = Sessions::default();
        let wanted = create(&mut sessions, &[0, 1], BY_NAME, 1);
        let key = &wanted[0].key;
        let known = Known { high_watermark: 3, log_start: 0 };
        let said = Said { known, has_records: false, is_urgent: false };
        assert!(sessions.has_news(1, key, said));
        assert!(sessions.has_news(1, key, said), "it was not noted");
        sessions.note(1, key, said);
        assert!(!sessions.has_news(1, key, said));
        assert!(sessions.has_news(1, key, Said { has_records: true, ..said }));
        assert!(sessions.has_news(1, key, Said { is_urgent: true, ..said }));
        let newer = Known { high_watermark: 4, log_start: 0 };
        assert!(sessions.has_news(1, key, Said { known: newer, ..said }));
        // What has records is served last next time.
        sessions.note(1, key, Said { has_records: true, ..said });
        let opened = sessions.open(&request(1, 1, &[]), BY_NAME, 0).unwrap();
        let order: Vec<i32> = opened.wanted.iter().map(|wanted| wanted.key.partition).collect();
        assert_eq!(order, [1, 0]);
    }
}
