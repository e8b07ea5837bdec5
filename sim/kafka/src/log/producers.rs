//! What a log knows of its idempotent and transactional producers (`ProducerStateManager`, `ProducerAppendInfo`).

use std::collections::{BTreeMap, VecDeque};

use crate::error::{ErrorCode, Result};
use crate::protocol::batch::{Batch, increment_sequence};
use crate::protocol::records::{EndMarker, Marker};
use crate::types::{Offset, Timestamp};

/// How many of a producer's last batches are known (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const WINDOW: usize = 5;

/// Who appends, which decides what is checked (`AppendOrigin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: epochs and sequences are checked.
    Client,
    /// A coordinator of this cluster: only epochs are.
    Coordinator,
    /// Replication: what the leader has is right.
    Replication,
}

/// A batch that a producer sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: Timestamp,
}

impl Sent {
    fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        if first < 0 { (first + i64::from(i32::MAX) + 1) as i32 } else { first as i32 }
    }
}

/// What is known of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Its epoch; -1 if none is known.
    pub epoch: i16,
    sent: VecDeque<Sent>,
    /// The epoch of the coordinator that ended its last transaction; -1 if none did.
    pub coordinator_epoch: i32,
    /// When it last appended, by its own clock.
    pub last_timestamp: Timestamp,
    /// The first offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            epoch: -1,
            sent: VecDeque::new(),
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_start: None,
        }
    }
}

impl Producer {
    /// The sequence number of its last record; -1 if none is known.
    pub fn last_sequence(&self) -> i32 {
        self.sent.back().map_or(-1, |sent| sent.last_sequence)
    }

    fn duplicate(&self, batch: &Batch) -> Option<Sent> {
        if batch.producer_epoch() != self.epoch {
            return None;
        }
        let is_same = |sent: &&Sent| {
            sent.first_sequence() == batch.base_sequence() && sent.last_sequence == batch.last_sequence()
        };
        self.sent.iter().find(is_same).copied()
    }

    fn see_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.sent.clear();
        }
    }
}

/// An aborted transaction, as a reader of committed records needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first: Offset,
    /// The offset of its marker.
    pub last: Offset,
    /// The last stable offset after it.
    pub last_stable: Offset,
}

/// The producers of a log, and which of its transactions are not over.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    producers: BTreeMap<i64, Producer>,
    /// First offset and producer of each open transaction.
    open: BTreeMap<Offset, i64>,
    /// First and last offset of transactions whose marker is not below the high watermark yet.
    unreplicated: BTreeMap<Offset, Offset>,
    /// Producers whose transactions are being verified, until something of them is appended. Only a leader has any.
    verifying: BTreeMap<i64, Verifying>,
    /// How many guards were given out.
    guards: u64,
    /// By last offset.
    aborted: Vec<Aborted>,
}

/// A batch that is in the log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// What is known of a producer that waits until its transaction is verified (`VerificationStateEntry`).
#[derive(Debug, Clone, Copy)]
struct Verifying {
    guard: Guard,
    /// When its verification began.
    since: Timestamp,
    /// The lowest sequence number that it has sent.
    lowest: i32,
    epoch: i16,
    /// Whether its requests add partitions to its transaction themselves.
    adds: bool,
}

/// A verification of a transaction, which may not be taken for an earlier or a later one (`VerificationGuard`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard(u64);

/// What shows that the transaction of a batch is open at its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// None is asked for.
    NotRequired,
    /// The transaction is open in this log, or this verification is still valid.
    Required(Option<Guard>),
}

/// What a transactional batch says of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The producer's id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// The sequence number of the first record; -1 without one.
    pub sequence: i32,
}

impl Claim {
    /// That of a batch.
    pub fn of(batch: &Batch) -> Self {
        Self {
            producer_id: batch.producer_id(),
            epoch: batch.producer_epoch(),
            sequence: batch.base_sequence(),
        }
    }
}

impl Producers {
    /// Begins the verification of a transaction, or goes on with it; None if that is open in this log. `adds` is whether
    /// the producer's requests add partitions to its transaction (`UnifiedLog.maybeStartTransactionVerification`).
    ///
    /// # Errors
    /// [`ErrorCode::InvalidProducerEpoch`] if the producer has a newer epoch.
    pub fn begin_verification(&mut self, claim: Claim, adds: bool, now: Timestamp) -> Result<Option<Guard>> {
        let Claim { producer_id, epoch, sequence } = claim;
        self.refuse_older_epoch(claim)?;
        if self.is_open(claim) {
            return Ok(None);
        }
        self.guards += 1;
        let new = Verifying { guard: Guard(self.guards), since: now, lowest: sequence, epoch, adds };
        let known = self.verifying.entry(producer_id).or_insert(new);
        if epoch > known.epoch {
            (known.epoch, known.lowest) = (epoch, sequence);
        } else if epoch == known.epoch {
            known.lowest = known.lowest.min(sequence);
        }
        Ok(Some(known.guard))
    }

    /// Whether a transactional batch may be appended, as for its transaction
    /// (`UnifiedLog.analyzeAndValidateProducerState`).
    ///
    /// # Errors
    /// [`ErrorCode::InvalidProducerEpoch`] if the producer has a newer epoch, [`ErrorCode::InvalidTxnState`] if the
    /// transaction is not open in this log and was not verified, or has ended since.
    pub fn check_proof(&self, claim: Claim, proof: Proof) -> Result<()> {
        let Proof::Required(guard) = proof else { return Ok(()) };
        if self.is_open(claim) {
            return Ok(());
        }
        self.refuse_older_epoch(claim)?;
        let valid = self.verifying.get(&claim.producer_id).map(|verifying| verifying.guard);
        if guard.is_some() && guard == valid { Ok(()) } else { Err(ErrorCode::InvalidTxnState) }
    }

    fn refuse_older_epoch(&self, claim: Claim) -> Result<()> {
        let known = self.producers.get(&claim.producer_id);
        if known.is_some_and(|known| claim.epoch < known.epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        Ok(())
    }

    /// Whether a producer has an open transaction of its epoch here (`UnifiedLog.hasOngoingTransaction`).
    fn is_open(&self, claim: Claim) -> bool {
        let known = self.producers.get(&claim.producer_id);
        known.is_some_and(|known| known.transaction_start.is_some() && known.epoch == claim.epoch)
    }

    /// Takes over what is being verified from the producers before, who are read again from the log.
    pub(super) fn keep_verifying(&mut self, before: &Self) {
        self.verifying.clone_from(&before.verifying);
        self.guards = before.guards;
    }

    /// What is known of a producer.
    pub fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.producers.get(&producer_id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// The first offset that is not decided: of an open transaction, or of one whose end is not replicated. It may be
    /// below the start of the log: a transaction stays open when retention has removed its records.
    pub fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.keys().next().copied();
        let unreplicated = self.unreplicated.keys().next().copied();
        open.into_iter().chain(unreplicated).min()
    }

    /// Whether a batch is in the log already; an error if it must not be appended.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidProducerEpoch`], [`ErrorCode::OutOfOrderSequenceNumber`], [`ErrorCode::InvalidTxnState`] or
    /// [`ErrorCode::TransactionCoordinatorFenced`].
    pub fn check(
        &self,
        batch: &Batch,
        end: Option<EndMarker>,
        origin: Origin,
        proof: Proof,
    ) -> Result<Option<Duplicate>> {
        if batch.producer_id() < 0 || origin == Origin::Replication {
            return Ok(None);
        }
        let unknown = Producer::default();
        let producer = self.producers.get(&batch.producer_id()).unwrap_or(&unknown);
        if origin == Origin::Client
            && let Some(sent) = producer.duplicate(batch)
        {
            let base_offset = sent.last_offset - i64::from(sent.offset_delta);
            let (last_offset, timestamp) = (sent.last_offset, sent.timestamp);
            return Ok(Some(Duplicate { base_offset, last_offset, timestamp }));
        }
        if batch.is_transactional() && !batch.is_control() {
            self.check_proof(Claim::of(batch), proof)?;
        }
        if batch.producer_epoch() < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if let Some(end) = end {
            let fenced = producer.coordinator_epoch > end.coordinator_epoch;
            return if fenced { Err(ErrorCode::TransactionCoordinatorFenced) } else { Ok(None) };
        }
        if origin == Origin::Client {
            if let Some(verifying) = self.verifying.get(&batch.producer_id()) {
                let first = batch.base_sequence();
                // Of a producer of the second protocol that nothing is known of, the first sequence number is 0
                // (`ProducerAppendInfo.checkSequence` of 4.1.0).
                let is_unknown = verifying.adds && producer.sent.is_empty();
                if first > verifying.lowest || is_unknown && first != 0 {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
            }
            check_sequence(producer, batch)?;
        }
        if producer.transaction_start.is_some() && !batch.is_transactional() {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(None)
    }

    /// Takes note of a batch that was appended.
    pub fn append(&mut self, batch: &Batch, end: Option<EndMarker>, high_watermark: Offset) {
        if batch.producer_id() < 0 {
            return;
        }
        // A marker of the second protocol has a newer epoch than what is being verified; one of the same epoch ends nothing
        // that is (`UnifiedLog.updateProducers` of 4.1.0).
        let is_late = |verifying: &Verifying| {
            verifying.adds && batch.is_control() && batch.producer_epoch() == verifying.epoch
        };
        if batch.is_transactional() && !self.verifying.get(&batch.producer_id()).is_some_and(is_late) {
            self.verifying.remove(&batch.producer_id());
        }
        let producer = self.producers.entry(batch.producer_id()).or_default();
        producer.see_epoch(batch.producer_epoch().max(producer.epoch));
        producer.last_timestamp = batch.max_timestamp();
        let Some(end) = end else {
            if batch.is_control() {
                return;
            }
            if batch.base_sequence() >= 0 {
                producer.sent.push_back(Sent {
                    last_sequence: batch.last_sequence(),
                    last_offset: batch.last_offset(),
                    offset_delta: batch.last_offset_delta(),
                    timestamp: batch.max_timestamp(),
                });
                if producer.sent.len() > WINDOW {
                    producer.sent.pop_front();
                }
            }
            if batch.is_transactional() && producer.transaction_start.is_none() {
                producer.transaction_start = Some(batch.base_offset());
                self.open.insert(batch.base_offset(), batch.producer_id());
            }
            return;
        };
        producer.coordinator_epoch = end.coordinator_epoch;
        let Some(first) = producer.transaction_start.take() else { return };
        self.open.remove(&first);
        self.unreplicated.insert(first, batch.base_offset());
        if end.marker == Marker::Abort {
            // The first offset that is undecided after this transaction (`ProducerStateManager.lastStableOffset`).
            let next_open = self.open.keys().next().copied();
            let last_stable = next_open.unwrap_or(batch.last_offset() + 1);
            let (producer_id, last) = (batch.producer_id(), batch.base_offset());
            self.aborted.push(Aborted { producer_id, first, last, last_stable });
        }
        self.replicated(high_watermark);
    }

    /// The high watermark has advanced to this offset.
    pub fn replicated(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, last| *last >= high_watermark);
    }

    /// The aborted transactions that overlap a range of offsets.
    pub fn aborted(&self, from: Offset, to: Offset) -> Vec<Aborted> {
        let overlaps = |aborted: &&Aborted| aborted.last >= from && aborted.first < to;
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    /// The log starts at this offset from now on. Producers stay known until they expire.
    pub fn truncate_start(&mut self, start: Offset) {
        self.aborted.retain(|aborted| aborted.last >= start);
    }

    /// Forgets producers that have been silent since before a time and have no open transaction, and verifications that
    /// began before it.
    pub fn expire(&mut self, before: Timestamp) {
        self.verifying.retain(|_, verifying| verifying.since > before);
        self.producers
            .retain(|_, producer| producer.transaction_start.is_some() || producer.last_timestamp >= before);
    }

    /// Forgets one producer; whether it was known.
    pub fn forget(&mut self, producer_id: i64) -> bool {
        let producer = self.producers.remove(&producer_id);
        if let Some(first) = producer.as_ref().and_then(|producer| producer.transaction_start) {
            self.open.remove(&first);
        }
        producer.is_some()
    }
}

fn check_sequence(producer: &Producer, batch: &Batch) -> Result<()> {
    // Nothing is known of the producer, for instance because its records were deleted: any sequence may follow.
    if producer.epoch < 0 {
        return Ok(());
    }
    let first = batch.base_sequence();
    if batch.producer_epoch() != producer.epoch {
        return if first == 0 { Ok(()) } else { Err(ErrorCode::OutOfOrderSequenceNumber) };
    }
    let last = producer.last_sequence();
    let follows = if last < 0 { first == 0 } else { first == increment_sequence(last, 1) };
    if follows { Ok(()) } else { Err(ErrorCode::OutOfOrderSequenceNumber) }
}

#[cfg(test)]
mod tests;
