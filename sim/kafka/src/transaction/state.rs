//! The state of one transactional id, and its transitions (Kafka's `TransactionMetadata`).

use std::collections::BTreeSet;

use crate::coordinator::Producer;
use crate::error::ErrorCode;

/// No producer id.
pub(crate) const NO_ID: i64 = -1;
/// No epoch.
pub(crate) const NO_EPOCH: i16 = -1;
/// From this version of the protocol each transaction ends with a new epoch.
const EPOCH_BUMP: i16 = 2;

/// A partition of a topic.
pub(crate) type Partition = (String, i32);

/// The state of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No transaction yet.
    Empty,
    /// A transaction with partitions.
    Ongoing,
    /// To be committed; markers are being written.
    PrepareCommit,
    /// To be aborted; markers are being written.
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    /// Expired, and about to be forgotten. Only as a pending state.
    Dead,
    /// A producer is about to be fenced. Only as a pending state.
    PrepareEpochFence,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// The number in records.
    pub(crate) fn number(self) -> i8 {
        Self::ALL.into_iter().zip(0..).find(|(state, _)| *state == self).map_or(0, |(_, number)| number)
    }

    /// The state of a number.
    pub(crate) fn of(number: i8) -> Option<Self> {
        Self::ALL.into_iter().zip(0..).find(|(_, other)| *other == number).map(|(state, _)| state)
    }

    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether no transaction is open or being ended.
    pub(crate) fn is_idle(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }

    /// Whether markers are being written.
    pub(crate) fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether a transition is possible.
    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Empty | Self::Dead => self.is_idle(),
            Self::Ongoing => self.is_idle() || self == Self::Ongoing,
            Self::PrepareCommit | Self::PrepareEpochFence => self == Self::Ongoing,
            Self::PrepareAbort => self.is_idle() || self == Self::Ongoing,
            Self::CompleteCommit => self == Self::PrepareCommit,
            Self::CompleteAbort => self == Self::PrepareAbort,
        }
    }
}

/// What is recorded of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) producer_id: i64,
    pub(crate) previous_producer_id: i64,
    /// The id that follows when the epochs of this one are used up.
    pub(crate) next_producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) last_epoch: i16,
    /// In milliseconds.
    pub(crate) timeout: i32,
    pub(crate) state: State,
    /// Partitions of the transaction; once it is being ended, those whose marker is not written yet.
    pub(crate) partitions: BTreeSet<Partition>,
    /// -1 without a transaction.
    pub(crate) started: i64,
    pub(crate) updated: i64,
    /// The version of the transaction protocol that its client speaks.
    pub(crate) version: i16,
}

impl Metadata {
    /// A new transactional id, which has a producer id and no epoch.
    pub(crate) fn new(producer_id: i64, timeout: i32, now: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_ID,
            next_producer_id: NO_ID,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout,
            state: State::Empty,
            partitions: BTreeSet::new(),
            started: -1,
            updated: now,
            version: 0,
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer { id: self.producer_id, epoch: self.epoch }
    }
}

/// Whether an epoch is the last that a client may have. (The very last one is kept for fencing.)
pub(crate) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// A transactional id.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) metadata: Metadata,
    /// The state that it takes when a record is committed. Nothing else happens until then.
    pub(crate) pending: Option<State>,
    /// Whether the epoch was raised to fence a producer, and could not be recorded. It is not raised again then.
    pub(crate) failed_fence: bool,
    /// Set while markers are written: what follows.
    pub(crate) completing: Option<Metadata>,
    /// When markers that were refused are sent again, and for which partitions.
    pub(crate) resend: Option<(i64, BTreeSet<Partition>)>,
    /// When the record of the end is written again, as it could not be.
    pub(crate) retry_completion: Option<i64>,
}

impl Transaction {
    pub(crate) fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            pending: None,
            failed_fence: false,
            completing: None,
            resend: None,
            retry_completion: None,
        }
    }

    /// Begins a transition. Kafka throws an `IllegalStateException` where this returns UNKNOWN_SERVER_ERROR.
    fn prepare(&mut self, next: Metadata) -> Result<Metadata, ErrorCode> {
        let epoch_is_valid = next.state == State::Dead || next.epoch >= 0;
        if self.pending.is_some() || !epoch_is_valid || !self.metadata.state.may_become(next.state) {
            return Err(ErrorCode::UnknownServerError);
        }
        self.pending = Some(next.state);
        Ok(Metadata { previous_producer_id: self.metadata.producer_id, ..next })
    }

    /// Raises the epoch, so that the producer is fenced when its transaction is aborted.
    pub(crate) fn prepare_fence(&mut self) -> Result<Metadata, ErrorCode> {
        let current = &self.metadata;
        let bumped = current.epoch.checked_add(1).ok_or(ErrorCode::UnknownServerError)?;
        let next = Metadata {
            state: State::PrepareEpochFence,
            epoch: if self.failed_fence { current.epoch } else { bumped },
            last_epoch: NO_EPOCH,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// Raises the epoch for a producer that begins. One that says which epoch it has gets the next one, or, if it asks
    /// again, the same.
    pub(crate) fn prepare_epoch(
        &mut self,
        timeout: i32,
        expected: Option<i16>,
        now: i64,
    ) -> Result<Metadata, ErrorCode> {
        let current = &self.metadata;
        let bumped = current.epoch.checked_add(1).ok_or(ErrorCode::UnknownServerError)?;
        if is_exhausted(current.epoch) {
            return Err(ErrorCode::UnknownServerError);
        }
        let (epoch, last_epoch) = match expected {
            None => (bumped, NO_EPOCH),
            Some(expected) if current.epoch == NO_EPOCH || expected == current.epoch => {
                (bumped, current.epoch)
            }
            Some(expected) if expected == current.last_epoch => (current.epoch, current.last_epoch),
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        let next = Metadata {
            state: State::Empty,
            epoch,
            last_epoch,
            timeout,
            partitions: BTreeSet::new(),
            started: -1,
            updated: now,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// Gives a producer a new id, as the epochs of the old one are used up.
    pub(crate) fn prepare_rotation(
        &mut self,
        producer_id: i64,
        timeout: i32,
        now: i64,
        keep_last: bool,
    ) -> Result<Metadata, ErrorCode> {
        let current = &self.metadata;
        let next = Metadata {
            state: State::Empty,
            producer_id,
            epoch: 0,
            last_epoch: if keep_last { current.epoch } else { NO_EPOCH },
            timeout,
            partitions: BTreeSet::new(),
            started: -1,
            updated: now,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// Adds partitions to the transaction, or begins one.
    pub(crate) fn prepare_add(
        &mut self,
        partitions: BTreeSet<Partition>,
        now: i64,
        version: i16,
    ) -> Result<Metadata, ErrorCode> {
        let current = &self.metadata;
        let next = Metadata {
            state: State::Ongoing,
            partitions: current.partitions.union(&partitions).cloned().collect(),
            started: if current.state.is_idle() { now } else { current.started },
            updated: now,
            version,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// Decides the end of the transaction. `without_partitions`: there is none, and an abort only raises the epoch.
    pub(crate) fn prepare_end(
        &mut self,
        state: State,
        version: i16,
        next_producer_id: i64,
        now: i64,
        without_partitions: bool,
    ) -> Result<Metadata, ErrorCode> {
        let current = &self.metadata;
        let (epoch, last_epoch) = if version >= EPOCH_BUMP {
            (current.epoch.checked_add(1).ok_or(ErrorCode::UnknownServerError)?, current.epoch)
        } else {
            (current.epoch, current.last_epoch)
        };
        let next = Metadata {
            state,
            next_producer_id,
            epoch,
            last_epoch,
            started: if without_partitions { now } else { current.started },
            updated: now,
            version,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// What follows when all markers are written.
    pub(crate) fn prepare_completion(&mut self, now: i64) -> Result<Metadata, ErrorCode> {
        self.failed_fence = false;
        let current = &self.metadata;
        let rotates = current.version >= EPOCH_BUMP && current.next_producer_id != NO_ID;
        let (producer_id, epoch) =
            if rotates { (current.next_producer_id, 0) } else { (current.producer_id, current.epoch) };
        let next = Metadata {
            state: if current.state == State::PrepareCommit {
                State::CompleteCommit
            } else {
                State::CompleteAbort
            },
            producer_id,
            next_producer_id: NO_ID,
            epoch,
            partitions: BTreeSet::new(),
            updated: now,
            ..current.clone()
        };
        self.prepare(next)
    }

    /// Begins to forget the id.
    pub(crate) fn prepare_death(&mut self) -> Result<Metadata, ErrorCode> {
        let next = Metadata { state: State::Dead, partitions: BTreeSet::new(), ..self.metadata.clone() };
        self.prepare(next)
    }

    /// Ends a transition: its record is committed. What was known before.
    pub(crate) fn complete(&mut self, next: Metadata) -> Metadata {
        self.pending = None;
        std::mem::replace(&mut self.metadata, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(state: State, epoch: i16, last_epoch: i16) -> Transaction {
        Transaction::new(Metadata { state, epoch, last_epoch, ..Metadata::new(7, 60_000, 0) })
    }

    #[test]
    fn a_new_producer_gets_the_next_epoch_and_one_that_asks_again_gets_the_same() {
        let epochs = |state: &mut Transaction, expected| {
            state.prepare_epoch(1, expected, 5).map(|next| (next.epoch, next.last_epoch))
        };
        assert_eq!(epochs(&mut transaction(State::Empty, -1, -1), None), Ok((0, -1)));
        assert_eq!(epochs(&mut transaction(State::CompleteCommit, 4, -1), None), Ok((5, -1)));
        assert_eq!(epochs(&mut transaction(State::Empty, 4, 3), Some(4)), Ok((5, 4)));
        assert_eq!(epochs(&mut transaction(State::Empty, 4, 3), Some(3)), Ok((4, 3)));
        assert_eq!(epochs(&mut transaction(State::Empty, 4, 3), Some(2)), Err(ErrorCode::ProducerFenced));
    }

    #[test]
    fn nothing_else_begins_while_a_transition_is_pending() {
        let mut state = transaction(State::Empty, 0, -1);
        assert!(state.prepare_epoch(1, None, 5).is_ok());
        assert_eq!(state.prepare_epoch(1, None, 5), Err(ErrorCode::UnknownServerError));
    }

    #[test]
    fn with_version_2_the_end_of_a_transaction_raises_the_epoch_and_rotates_an_exhausted_id() {
        let mut state = transaction(State::Ongoing, i16::MAX - 1, 3);
        let prepared = state.prepare_end(State::PrepareCommit, 2, 99, 5, false).expect("a transition");
        assert_eq!((prepared.epoch, prepared.last_epoch), (i16::MAX, i16::MAX - 1));
        state.complete(prepared);
        let done = state.prepare_completion(6).expect("a transition");
        assert_eq!((done.producer_id, done.epoch, done.previous_producer_id), (99, 0, 7));
        assert_eq!((done.last_epoch, done.state), (i16::MAX - 1, State::CompleteCommit));
    }

    #[test]
    fn with_version_1_the_end_of_a_transaction_keeps_the_epoch() {
        let mut state = transaction(State::Ongoing, 3, -1);
        let prepared = state.prepare_end(State::PrepareAbort, 0, NO_ID, 5, false).expect("a transition");
        assert_eq!((prepared.epoch, prepared.state), (3, State::PrepareAbort));
    }

    #[test]
    fn a_fence_that_could_not_be_recorded_is_not_raised_twice() {
        let mut state = transaction(State::Ongoing, 3, -1);
        state.failed_fence = true;
        assert_eq!(state.prepare_fence().map(|next| next.epoch), Ok(3));
    }

    #[test]
    fn each_state_has_the_number_and_name_that_kafka_gives_it() {
        for (number, name) in
            ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"]
                .into_iter()
                .enumerate()
        {
            let state = State::named(name).expect("a state");
            assert_eq!((state.number() as usize, State::of(state.number())), (number, Some(state)));
        }
        assert_eq!(State::of(8), None);
    }
}
