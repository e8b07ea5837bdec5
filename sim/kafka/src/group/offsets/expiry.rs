//! Offsets that are not used any more expire, and groups with nothing left are deleted.

use super::Stored;
use crate::group::classic::{ClassicGroup, State};
use crate::group::{Group, GroupShard, records};

/// From when on the retention of an offset counts.
enum Since {
    /// A point in time for all.
    Time(i64),
    /// When the offset was committed.
    Commit,
}

impl GroupShard {
    /// Looks at all groups (`GroupCoordinatorShard.cleanupGroupMetadata`).
    pub(crate) fn expire_offsets(&mut self, now: i64) {
        let groups: Vec<_> = self.groups.keys().cloned().collect();
        let mut records = Vec::new();
        for id in groups {
            let Some(group) = self.groups.get(&id) else { continue };
            let offsets = self.offsets.committed.get(&id);
            let mut all = !self.offsets.open.contains_key(&id);
            if let Some(offsets) = offsets {
                let Some(since) = since(group) else { continue };
                for (at, stored) in offsets {
                    if !group.is_subscribed(&at.0)
                        && self.is_expired(stored, &since, now)
                        && !self.offsets.is_open(&id, at)
                    {
                        records.push(records::offset(&id, &at.0, at.1, None));
                    } else {
                        all = false;
                    }
                }
            }
            if all && group.is_empty() {
                records.extend(group.tombstones());
            }
        }
        self.write(now, records, None);
    }

    fn is_expired(&self, stored: &Stored, since: &Since, now: i64) -> bool {
        if let Some(at) = stored.value.expire_timestamp {
            return now >= at;
        }
        let since = match since {
            Since::Time(at) => *at,
            Since::Commit => stored.value.commit_timestamp,
        };
        now.saturating_sub(since) >= self.config.offsets_retention
    }
}

/// `None` if the offsets of a group do not expire, as it is in use.
fn since(group: &Group) -> Option<Since> {
    match group {
        Group::Classic(group) => classic(group),
        // `ConsumerGroup.offsetExpirationCondition`: topics without subscribers expire, even with members.
        Group::Consumer(_) => Some(Since::Commit),
    }
}

fn classic(group: &ClassicGroup) -> Option<Since> {
    if group.protocol_type.is_none() {
        return Some(Since::Commit);
    }
    match group.state {
        State::Empty => Some(group.since.map_or(Since::Commit, Since::Time)),
        State::Stable if group.is_of_consumers() && group.subscribed.is_some() => Some(Since::Commit),
        _ => None,
    }
}
