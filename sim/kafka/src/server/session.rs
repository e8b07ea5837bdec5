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

#[derive(Debug)]
struct Session {
    next_epoch: i32,
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

/// A fetch with its session.
#[derive(Debug)]
pub(crate) struct Opened {
    /// 0 without a session.
    pub(crate) id: i32,
    /// Whether partitions without news are left out of the response.
    pub(crate) incremental: bool,
    pub(crate) wanted: Vec<Wanted>,
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
    /// Opens, continues or ends a session as the request says (`FetchManager.newContext`).
    pub(crate) fn open(&mut self, request: &FetchRequest, slots: usize, fresh: i32) -> Result<Opened> {
        self.uses += 1;
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == -1 || epoch == 0 {
            if id != 0 {
                self.sessions.remove(&id);
            }
            let wanted: Vec<Wanted> = listed(request).collect();
            let is_new = epoch == 0 && !wanted.is_empty();
            let id = if is_new { self.create(&wanted, slots, fresh) } else { 0 };
            return Ok(Opened { id, incremental: false, wanted });
        }
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = self.uses;
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
        let wanted = session.partitions.iter().map(|(wanted, _)| wanted.clone()).collect();
        Ok(Opened { id, incremental: true, wanted })
    }

    /// A new session, if there is a slot or one that others use more.
    fn create(&mut self, wanted: &[Wanted], slots: usize, fresh: i32) -> i32 {
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
            id = if id == i32::MAX { 1 } else { id + 1 };
        }
        let partitions = wanted.iter().map(|wanted| (wanted.clone(), None)).collect();
        self.sessions.insert(id, Session { next_epoch: 1, partitions, used: self.uses });
        id
    }

    /// Whether a partition has news for the client of a session, which knows them then. With records or an error it
    /// has; it moves to the end, so that others come first next time.
    pub(crate) fn has_news(&mut self, id: i32, key: &FetchKey, known: Known, has_more: bool) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let Some(place) = session.partitions.iter().position(|(wanted, _)| wanted.key == *key) else {
            return true;
        };
        let (wanted, before) = session.partitions.remove(place);
        let news = has_more || before != Some(known);
        let entry = (wanted, Some(known));
        if has_more {
            session.partitions.push(entry);
        } else {
            session.partitions.insert(place, entry);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::fetch_request::FetchTopic;

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions.iter().map(|index| FetchPartition::default().with_partition(*index));
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        FetchRequest::default().with_session_id(id).with_session_epoch(epoch).with_topics(vec![topic])
    }

    #[test]
    fn a_session_keeps_its_partitions_and_its_epochs_count_up() {
        let mut sessions = Sessions::default();
        let opened = sessions.open(&request(0, 0, &[0, 1]), 2, 7).unwrap();
        assert_eq!((opened.id, opened.incremental), (7, false));
        let next = sessions.open(&request(7, 1, &[2]), 2, 0).unwrap();
        assert_eq!((next.incremental, next.wanted.len()), (true, 3));
        let again = sessions.open(&request(7, 1, &[]), 2, 0).map(|_| ());
        assert_eq!(again, Err(ErrorCode::InvalidFetchSessionEpoch));
        let unknown = sessions.open(&request(8, 1, &[]), 2, 0).map(|_| ());
        assert_eq!(unknown, Err(ErrorCode::FetchSessionIdNotFound));
        // The session ends.
        assert_eq!(sessions.open(&request(7, -1, &[0]), 2, 0).unwrap().id, 0);
        assert!(sessions.open(&request(7, 2, &[]), 2, 0).is_err());
    }

    #[test]
    fn the_session_that_was_not_used_for_longest_gives_way() {
        let mut sessions = Sessions::default();
        let one = sessions.open(&request(0, 0, &[0]), 2, 1).unwrap().id;
        let two = sessions.open(&request(0, 0, &[0]), 2, 2).unwrap().id;
        sessions.open(&request(one, 1, &[]), 2, 0).unwrap();
        sessions.open(&request(0, 0, &[0]), 2, 3).unwrap();
        assert!(sessions.open(&request(two, 1, &[]), 2, 0).is_err());
        assert!(sessions.open(&request(one, 2, &[]), 2, 0).is_ok());
    }

    #[test]
    fn only_what_changed_is_news() {
        let mut sessions = Sessions::default();
        let opened = sessions.open(&request(0, 0, &[0]), 2, 1).unwrap();
        let key = &opened.wanted[0].key;
        let known = Known { high_watermark: 3, log_start: 0 };
        assert!(sessions.has_news(1, key, known, false));
        assert!(!sessions.has_news(1, key, known, false));
        assert!(sessions.has_news(1, key, known, true));
        assert!(sessions.has_news(1, key, Known { high_watermark: 4, log_start: 0 }, false));
    }
}
