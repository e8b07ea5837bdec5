//! Where each leader epoch begins in a log (`LeaderEpochFileCache`).

use crate::types::Offset;

/// The epochs of a log and the offset at which each begins, ascending in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochCache(Vec<(i32, Offset)>);

impl EpochCache {
    /// Notes that an epoch begins at an offset. Entries that contradict it are removed.
    pub fn assign(&mut self, epoch: i32, start: Offset) {
        if self.latest().is_some_and(|latest| latest == epoch) || epoch < 0 {
            return;
        }
        self.0.retain(|(known, begin)| *known < epoch && *begin < start);
        self.0.push((epoch, start));
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<i32> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch that an offset was written in.
    pub fn epoch_of(&self, offset: Offset) -> Option<i32> {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        self.0.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The greatest epoch that is not after the requested one, and where it ends; none if that is not known
    /// (`LeaderEpochFileCache.endOffsetFor`).
    pub fn end_offset_for(&self, requested: i32, log_end: Offset) -> Option<(i32, Offset)> {
        if requested < 0 {
            return None;
        }
        if self.latest()? == requested {
            return Some((requested, log_end));
        }
        let higher = self.0.partition_point(|(epoch, _)| *epoch <= requested);
        // A newer epoch than any: the log does not know it.
        let (_, end) = *self.0.get(higher)?;
        match higher.checked_sub(1).and_then(|floor| self.0.get(floor)) {
            Some((epoch, _)) => Some((*epoch, end)),
            None => Some((requested, end)),
        }
    }

    /// The log ends at this offset from now on.
    pub fn truncate_end(&mut self, end: Offset) {
        self.0.retain(|(_, start)| *start < end);
    }

    /// The log starts at this offset from now on.
    pub fn truncate_start(&mut self, start: Offset) {
        let kept = self.0.partition_point(|(_, begin)| *begin <= start).saturating_sub(1);
        self.0.drain(..kept);
        if let Some((_, first)) = self.0.first_mut()
            && *first < start
        {
            *first = start;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> EpochCache {
        let mut cache = EpochCache::default();
        cache.assign(1, 10);
        cache.assign(3, 25);
        cache.assign(3, 30);
        cache.assign(6, 40);
        cache
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let cache = cache();
        assert_eq!(cache.end_offset_for(6, 50), Some((6, 50)));
        assert_eq!(cache.end_offset_for(3, 50), Some((3, 40)));
        assert_eq!(cache.end_offset_for(5, 50), Some((3, 40)));
        assert_eq!(cache.end_offset_for(0, 50), Some((0, 10)));
        assert_eq!(cache.end_offset_for(7, 50), None);
        assert_eq!(EpochCache::default().end_offset_for(0, 50), None);
        assert_eq!((cache.epoch_of(9), cache.epoch_of(10), cache.epoch_of(39)), (None, Some(1), Some(3)));
    }

    #[test]
    fn a_log_that_is_cut_forgets_the_epochs_outside_of_it() {
        let mut cache = cache();
        cache.truncate_end(40);
        assert_eq!(cache.latest(), Some(3));
        cache.truncate_start(27);
        assert_eq!(cache, EpochCache(vec![(3, 27)]));
        cache.assign(4, 20);
        assert_eq!(cache, EpochCache(vec![(4, 20)]));
    }
}
