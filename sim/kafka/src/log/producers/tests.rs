//! What the log of a partition makes of its producers.

use super::*;
use crate::protocol::builder::{BatchBuilder, end_of_transaction};

fn sent(epoch: i16, sequence: i32, records: usize, offset: Offset) -> Batch {
    let mut builder = BatchBuilder::new(0).producer(1, epoch, sequence);
    for _ in 0..records {
        builder = builder.record(0, None, None);
    }
    builder.build().stamped(offset, 0)
}

fn append(producers: &mut Producers, batch: &Batch) -> Result<Option<Duplicate>> {
    let found = producers.check(batch, None, Origin::Client, Proof::NotRequired)?;
    if found.is_none() {
        producers.append(batch, None, 0);
    }
    Ok(found)
}

#[test]
fn the_last_five_batches_are_recognized_and_an_older_one_is_out_of_order() {
    let mut producers = Producers::default();
    for place in 0..6 {
        assert_eq!(append(&mut producers, &sent(0, place * 2, 2, i64::from(place) * 2)), Ok(None));
    }
    let again = append(&mut producers, &sent(0, 2, 2, 90)).unwrap().unwrap();
    assert_eq!((again.base_offset, again.last_offset), (2, 3));
    assert_eq!(append(&mut producers, &sent(0, 0, 2, 90)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(append(&mut producers, &sent(0, 14, 2, 90)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(append(&mut producers, &sent(1, 1, 1, 90)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(append(&mut producers, &sent(1, 0, 1, 12)), Ok(None));
    assert_eq!(append(&mut producers, &sent(0, 12, 1, 90)), Err(ErrorCode::InvalidProducerEpoch));
}

#[test]
fn a_producer_that_has_expired_may_continue_at_any_sequence_or_append_again() {
    let mut producers = Producers::default();
    append(&mut producers, &sent(0, 0, 1, 0)).unwrap();
    producers.expire(1);
    assert_eq!(append(&mut producers, &sent(0, 0, 1, 1)), Ok(None));
    producers.expire(1);
    assert_eq!(append(&mut producers, &sent(0, 77, 1, 2)), Ok(None));
}

#[test]
fn a_transaction_is_unstable_until_its_marker_is_replicated() {
    let mut producers = Producers::default();
    let data = BatchBuilder::new(0).producer(1, 0, 0).transactional().record(0, None, None).build();
    producers.append(&data.stamped(5, 0), None, 0);
    assert_eq!(producers.first_unstable(), Some(5));
    let end = EndMarker { marker: Marker::Abort, coordinator_epoch: 3 };
    let marker = end_of_transaction(0, 1, 0, end).stamped(8, 0);
    producers.append(&marker, Some(end), 0);
    assert_eq!(producers.first_unstable(), Some(5));
    producers.replicated(9);
    assert_eq!(producers.first_unstable(), None);
    let aborted = Aborted { producer_id: 1, first: 5, last: 8, last_stable: 9 };
    assert_eq!(producers.aborted(6, 7), [aborted]);
    assert_eq!(producers.aborted(9, 20), []);
    let zombie = EndMarker { marker: Marker::Commit, coordinator_epoch: 2 };
    let refused = producers.check(&marker, Some(zombie), Origin::Coordinator, Proof::NotRequired);
    assert_eq!(refused, Err(ErrorCode::TransactionCoordinatorFenced));
}

/// A batch of a transaction, and what it says of its producer.
fn transactional(epoch: i16, sequence: i32, offset: Offset) -> (Batch, Claim) {
    let batch = BatchBuilder::new(0).producer(1, epoch, sequence).transactional().record(0, None, None);
    let batch = batch.build().stamped(offset, 0);
    let claim = Claim::of(&batch);
    (batch, claim)
}

fn end(producers: &mut Producers, epoch: i16, offset: Offset) {
    let end = EndMarker { marker: Marker::Abort, coordinator_epoch: 0 };
    producers.append(&end_of_transaction(0, 1, epoch, end).stamped(offset, 0), Some(end), 0);
}

fn check(producers: &Producers, batch: &Batch, guard: Option<Guard>) -> Result<Option<Duplicate>> {
    producers.check(batch, None, Origin::Client, Proof::Required(guard))
}

#[test]
fn a_transaction_is_verified_once_and_a_marker_ends_its_verification() {
    let mut producers = Producers::default();
    let (batch, claim) = transactional(0, 0, 0);
    assert_eq!(check(&producers, &batch, None), Err(ErrorCode::InvalidTxnState));
    let guard = producers.begin_verification(claim, false, 0).unwrap();
    assert_eq!(check(&producers, &batch, guard), Ok(None));
    end(&mut producers, 0, 0);
    assert_eq!(check(&producers, &batch, guard), Err(ErrorCode::InvalidTxnState));
    let again = producers.begin_verification(claim, false, 0).unwrap();
    assert_ne!(guard, again);
    assert_eq!(check(&producers, &batch, guard), Err(ErrorCode::InvalidTxnState), "the verification before");
    assert_eq!(check(&producers, &batch, again), Ok(None));
    producers.append(&batch, None, 0);
    // It is open now.
    assert_eq!(producers.begin_verification(claim, false, 0), Ok(None));
    let (next, _) = transactional(0, 1, 1);
    assert_eq!(check(&producers, &next, None), Ok(None));
    assert_eq!(check(&producers, &batch, None).unwrap().unwrap().base_offset, 0, "a duplicate");
    end(&mut producers, 0, 1);
    assert_eq!(check(&producers, &next, None), Err(ErrorCode::InvalidTxnState), "late");
}

#[test]
fn a_marker_of_the_epoch_of_the_next_transaction_ends_its_verification_with_the_first_protocol_only() {
    for (adds, expected) in [(true, Ok(None)), (false, Err(ErrorCode::InvalidTxnState))] {
        let mut producers = Producers::default();
        producers.append(&transactional(0, 0, 0).0, None, 0);
        let (next, claim) = transactional(1, 0, 2);
        let guard = producers.begin_verification(claim, adds, 0).unwrap();
        end(&mut producers, 1, 1);
        assert_eq!(check(&producers, &next, guard), expected);
        // What has a newer epoch ends it with either.
        end(&mut producers, 2, 2);
        assert_eq!(check(&producers, &next, guard), Err(ErrorCode::InvalidProducerEpoch));
        let (newest, _) = transactional(2, 0, 3);
        assert_eq!(check(&producers, &newest, guard), Err(ErrorCode::InvalidTxnState));
    }
}

#[test]
fn the_lowest_sequence_of_what_is_verified_is_appended_first() {
    let mut producers = Producers::default();
    let guard = producers.begin_verification(transactional(0, 5, 0).1, false, 0).unwrap();
    let second = transactional(0, 7, 0);
    assert_eq!(producers.begin_verification(second.1, false, 0), Ok(guard));
    assert_eq!(check(&producers, &second.0, guard), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(producers.begin_verification(transactional(0, 3, 0).1, false, 0), Ok(guard));
    assert_eq!(check(&producers, &transactional(0, 5, 0).0, guard), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(check(&producers, &transactional(0, 3, 0).0, guard), Ok(None));
    // A newer epoch begins with numbers of its own.
    producers.begin_verification(transactional(1, 4, 0).1, false, 0).unwrap();
    assert_eq!(check(&producers, &transactional(1, 4, 0).0, guard), Ok(None));
}

#[test]
fn an_older_epoch_is_not_verified_and_a_verification_expires() {
    let mut producers = Producers::default();
    end(&mut producers, 3, 0);
    let refused = producers.begin_verification(transactional(2, 0, 0).1, true, 0);
    assert_eq!(refused, Err(ErrorCode::InvalidProducerEpoch));
    let (batch, claim) = transactional(3, 0, 1);
    let guard = producers.begin_verification(claim, true, 10).unwrap();
    producers.expire(9);
    assert_eq!(check(&producers, &batch, guard), Ok(None));
    producers.expire(10);
    assert_eq!(check(&producers, &batch, guard), Err(ErrorCode::InvalidTxnState));
}
