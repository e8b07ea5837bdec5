//! Fetch sessions (KIP-227): what a client fetches is kept, so that it sends only changes.

use std::collections::BTreeMap;

use crate::error::{ErrorCode, Result};
use crate::protocol::messages::FetchRequest;
use crate::protocol::messages::fetch_request::FetchPartition;
use crate::types::{Offset, TopicId};

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
    used: u64,
}

/// The sessions of a broker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    uses: u64,
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
    pub(crate) fn open(&mut self, request: &FetchRequest, version: i16) -> Result<Opened> {
        self.uses += 1;
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
        session.used = self.uses;
        let wanted = session.partitions.iter().map(|(wanted, _)| wanted.clone()).collect();
        Ok(Opened { session: Use::Continue { id, epoch }, wanted })
    }

    /// A new session, if there is a slot or one that others use more; else 0.
    pub(crate) fn create(&mut self, wanted: &[Wanted], version: i16, slots: usize, fresh: i32) -> i32 {
        if slots == 0 {
            return 0;
        }
        if self.sessions.len() >= slots
            && let Some(oldest) =
                self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id)
        {
            self.sessions.remove(&oldest);
        }
        let mut id = fresh.max(1);
        while self.sessions.contains_key(&id) {
            id = next(id);
        }
        let partitions = wanted.iter().map(|wanted| (wanted.clone(), None)).collect();
        let has_ids = version >= IDS_FROM;
        self.sessions.insert(id, Session { next_epoch: 1, has_ids, partitions, used: self.uses });
        id
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

    /// A session with this id, if there is a slot of two.
    fn create(sessions: &mut Sessions, partitions: &[i32], version: i16, fresh: i32) -> Vec<Wanted> {
        let opened = sessions.open(&request(0, 0, partitions), version).unwrap();
        assert_eq!(opened.session, Use::Begin);
        assert_eq!(sessions.create(&opened.wanted, version, 2, fresh), fresh);
        opened.wanted
    }

    fn open(sessions: &mut Sessions, id: i32, epoch: i32, partitions: &[i32]) -> Result<usize> {
        sessions.open(&request(id, epoch, partitions), BY_NAME).map(|opened| opened.wanted.len())
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
        let last = sessions.open(&request(7, -1, &[0]), BY_NAME).unwrap();
        assert_eq!((last.session, last.wanted.len()), (Use::None, 1));
        assert!(open(&mut sessions, 7, 3, &[]).is_err());
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let mut sessions = Sessions::default();
        create(&mut sessions, &[0], BY_NAME, 7);
        let forgotten = ForgottenTopic::default().with_partitions(vec![0]);
        let emptied = request(7, 1, &[]).with_forgotten_topics_data(vec![forgotten]);
        let opened = sessions.open(&emptied, BY_NAME).unwrap();
        assert_eq!((opened.session, opened.wanted.len()), (Use::None, 0));
        assert_eq!(open(&mut sessions, 7, 2, &[0]), Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn a_session_of_names_is_not_continued_with_ids_and_the_reverse() {
        for (first, second) in [(BY_NAME, BY_ID), (BY_ID, BY_NAME)] {
            let mut sessions = Sessions::default();
            create(&mut sessions, &[0], first, 7);
            let other = sessions.open(&request(7, 1, &[0]), second).map(|_| ());
            assert_eq!(other, Err(ErrorCode::FetchSessionTopicIdError), "{first} {second}");
            // The epoch is looked at before that, and the error does not change the session.
            let wrong = sessions.open(&request(7, 2, &[0]), second).map(|_| ());
            assert_eq!(wrong, Err(ErrorCode::InvalidFetchSessionEpoch));
            assert!(sessions.open(&request(7, 1, &[0]), first).is_ok());
        }
    }

    #[test]
    fn the_session_that_was_not_used_for_longest_gives_way() {
        let mut sessions = Sessions::default();
        create(&mut sessions, &[0], BY_NAME, 1);
        create(&mut sessions, &[0], BY_NAME, 2);
        assert!(open(&mut sessions, 1, 1, &[]).is_ok());
        create(&mut sessions, &[0], BY_NAME, 3);
        assert!(open(&mut sessions, 2, 1, &[]).is_err());
        assert!(open(&mut sessions, 1, 2, &[]).is_ok());
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
        let opened = sessions.open(&request(1, 1, &[]), BY_NAME).unwrap();
        let order: Vec<i32> = opened.wanted.iter().map(|wanted| wanted.key.partition).collect();
        assert_eq!(order, [1, 0]);
    }
}
