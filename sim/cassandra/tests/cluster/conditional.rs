//! Conditional statements (Paxos) under concurrency and faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_cassandra::cluster::{HostFault, Misbehaviour, NodeId, Verb};
use simulated_cassandra::coordinator::{
    ConditionalOutcome, ConditionalWrite, Consistency, Coordinator, Decision, RequestError, WriteType,
};
use simulated_cassandra::storage::Timestamp;

use crate::harness::{A, B, C, TestCluster, rows, test_cluster, with_hints};

/// UPDATE t SET v = v + 1 IF v = what it is; creates the row.
async fn increment(test: &TestCluster, node: NodeId, p: i32) -> Result<i32, RequestError> {
    let next = Arc::new(AtomicI32::new(0));
    let decided = next.clone();
    let mutation = test.set(p, 1, "v", 0, 0);
    let update = move |value: i32, timestamp: Timestamp| {
        let mut mutation = mutation.clone();
        let partition = mutation.updates.values_mut().next().expect("one table");
        let row = partition.rows.values_mut().next().expect("one row");
        let cell = row.cells.get_mut("v").expect("one cell");
        cell.timestamp = timestamp;
        cell.value = Some(crate::harness::int(value));
        mutation
    };
    let write = ConditionalWrite {
        table: test.table.id,
        key: test.key(p),
        read: test.select(p),
        decide: move |found: &_, timestamp| {
            let value = rows(found, "v").first().and_then(|(_, value)| *value).unwrap_or(0) + 1;
            decided.store(value, Ordering::Relaxed);
            Ok(Decision::Apply(update(value, timestamp)))
        },
    };
    match test.on(node).write_if(write, Consistency::Serial, Consistency::Quorum).await? {
        ConditionalOutcome::Applied => Ok(next.load(Ordering::Relaxed)),
        ConditionalOutcome::Refused(_) => unreachable!("it always applies"),
    }
}

/// INSERT IF NOT EXISTS.
async fn insert_if_absent(
    test: &TestCluster,
    node: NodeId,
    p: i32,
    v: i32,
) -> Result<ConditionalOutcome, RequestError> {
    let mutation = test.insert(p, 1, v, 0);
    let write = ConditionalWrite {
        table: test.table.id,
        key: test.key(p),
        read: test.select(p),
        decide: move |found: &_, timestamp| {
            if !rows(found, "v").is_empty() {
                return Ok(Decision::Refuse);
            }
            let mut mutation = mutation.clone();
            for row in mutation.updates.values_mut().flat_map(|partition| partition.rows.values_mut()) {
                row.liveness = row
                    .liveness
                    .map(|liveness| simulated_cassandra::storage::Liveness { timestamp, ..liveness });
                row.cells.values_mut().for_each(|cell| cell.timestamp = timestamp);
            }
            Ok(Decision::Apply(mutation))
        },
    };
    test.on(node).write_if(write, Consistency::Serial, Consistency::Quorum).await
}

/// A's INSERT IF NOT EXISTS of (1, 1), of which it is unknown whether it will be finished: its own vote is given, the
/// others' responses are lost, so they have accepted and A does not know.
async fn leave_unfinished(test: &TestCluster) {
    let lost = [test.lose_responses(Verb::Propose, B), test.lose_responses(Verb::Propose, C)];
    let error = insert_if_absent(test, A, 1, 1).await.expect_err("unknown");
    assert!(matches!(error, RequestError::WriteTimeout { write_type: WriteType::Cas, .. }), "{error:?}");
    for rule in lost {
        test.links.remove(rule);
    }
}

/// What becomes of a request of A and of an increment at B, when most refuse what A proposes after some accepted it: A's
/// proposals take long; meanwhile B gets a higher ballot promised by itself and C, and then stands still.
async fn beside_a_rival<T>(
    test: &TestCluster,
    first: impl Future<Output = T>,
) -> (T, Result<i32, RequestError>) {
    test.links.rule(|envelope| match (envelope.from, envelope.verb) {
        (A, Verb::Propose) => Some(vec![Duration::from_millis(500)]),
        (B, Verb::Prepare) if envelope.to == A => Some(Vec::new()),
        (B, Verb::Read | Verb::ReadDigest) => Some(Vec::new()),
        _ => None,
    });
    let second = async {
        test.pass(0.1).await;
        increment(test, B, 1).await
    };
    tokio::join!(first, second)
}

#[tokio::test(start_paused = true)]
async fn of_several_inserts_if_not_exists_one_is_applied_and_the_others_see_it() {
    let test = test_cluster(|_| {}).await;
    let (a, b, c) = tokio::join!(
        insert_if_absent(&test, A, 1, 1),
        insert_if_absent(&test, B, 1, 2),
        insert_if_absent(&test, C, 1, 3),
    );
    let outcomes = [a, b, c].map(|outcome| outcome.expect("a response"));
    let applied: Vec<usize> =
        (0..3).filter(|place| outcomes[*place] == ConditionalOutcome::Applied).collect();
    assert_eq!(applied.len(), 1, "{outcomes:?}");
    let winner = applied[0] as i32 + 1;
    for outcome in &outcomes {
        if let ConditionalOutcome::Refused(found) = outcome {
            assert_eq!(rows(found, "v"), [(1, Some(winner))]);
        }
    }
    assert_eq!(test.read(A, 1, Consistency::Quorum).await, Ok(vec![(1, Some(winner))]));
}

#[tokio::test(start_paused = true)]
async fn conditional_increments_from_all_nodes_lose_none_and_double_none() {
    for seed in 0..30 {
        let test = test_cluster(|settings| settings.seed = seed).await;
        // Of all Paxos messages and their responses an eighth is lost; the others overtake each other.
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        test.links.rule(move |envelope| {
            let kind = envelope.response_to.unwrap_or(envelope.verb);
            let draw = random.next_u64();
            matches!(kind, Verb::Prepare | Verb::Propose | Verb::Commit).then(|| match draw % 8 {
                0 => Vec::new(),
                _ => vec![Duration::from_micros(100 + (draw >> 32) % 20_000)],
            })
        });
        let mut applied = Vec::new();
        let mut unknown = 0;
        for _ in 0..10 {
            let (a, b, c) =
                tokio::join!(increment(&test, A, 1), increment(&test, B, 1), increment(&test, C, 1));
            for outcome in [a, b, c] {
                match outcome {
                    Ok(value) => applied.push(value),
                    Err(RequestError::WriteTimeout { write_type, .. }) => {
                        assert!(matches!(write_type, WriteType::Cas | WriteType::Simple));
                        unknown += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        test.links.restore_all();
        let found = test.on(C).read(test.select(1), Consistency::Serial).await.expect("read");
        let last = rows(&found, "v").first().and_then(|(_, value)| *value).unwrap_or(0);
        let distinct: std::collections::BTreeSet<i32> = applied.iter().copied().collect();
        assert_eq!(distinct.len(), applied.len(), "seed {seed}: one value twice in {applied:?}");
        assert!(applied.iter().all(|value| *value <= last), "seed {seed}: {applied:?} beyond {last}");
        let (least, most) = (applied.len() as i32, (applied.len() + unknown) as i32);
        assert!((least..=most).contains(&last), "seed {seed}: {last} after {least} and {unknown} unknown");
        assert!(!applied.is_empty(), "seed {seed}: nothing was ever applied");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_of_unknown_outcome_is_finished_by_the_next() {
    let test = test_cluster(|_| {}).await;
    leave_unfinished(&test).await;
    assert_eq!(test.read(B, 1, Consistency::All).await, Ok(vec![]), "not visible to plain reads");
    match insert_if_absent(&test, B, 1, 2).await.expect("a response") {
        ConditionalOutcome::Refused(found) => assert_eq!(rows(&found, "v"), [(1, Some(1))]),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_proposal_that_some_accepted_and_most_refused_is_not_tried_again_but_unknown() {
    let test = test_cluster(|_| {}).await;
    let (first, second) = beside_a_rival(&test, increment(&test, A, 1)).await;
    assert_eq!(
        first,
        Err(RequestError::WriteTimeout {
            consistency: Consistency::Serial,
            received: 1,
            block_for: 2,
            write_type: WriteType::Cas
        })
    );
    assert!(matches!(second, Err(RequestError::ReadTimeout { .. })), "{second:?}");
    // Were A to try again, it would finish its own proposal first and then add one to it.
    test.links.restore_all();
    assert_eq!(increment(&test, C, 1).await, Ok(2), "the next one finishes it");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_that_is_finished_late_shadows_the_plain_writes_before() {
    let test = test_cluster(|_| {}).await;
    leave_unfinished(&test).await;
    let plain = test.insert(1, 1, 2, test.on(B).timestamp());
    test.write(B, plain, Consistency::All).await.expect("acknowledged");
    assert_eq!(test.read(C, 1, Consistency::All).await, Ok(vec![(1, Some(2))]));
    let serial = test.on(C).read(test.select(1), Consistency::Serial).await.expect("read");
    assert_eq!(rows(&serial, "v"), [(1, Some(1))]);
    assert_eq!(test.read(B, 1, Consistency::Quorum).await, Ok(vec![(1, Some(1))]));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_while_anothers_write_is_finished_is_no_news_of_ones_own() {
    let test = test_cluster(|_| {}).await;
    leave_unfinished(&test).await;
    for node in [A, C] {
        test.lose(Verb::Commit, node);
    }
    let error = insert_if_absent(&test, B, 1, 2).await.expect_err("not committed");
    assert!(matches!(error, RequestError::WriteTimeout { write_type: WriteType::Cas, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_own_proposal_only_some_accepted_fails_with_a_write_timeout() {
    let test = test_cluster(|_| {}).await;
    let node = test.on(A);
    let (first, _) = beside_a_rival(&test, node.read(test.select(1), Consistency::Serial)).await;
    let error = first.expect_err("unknown");
    assert!(matches!(error, RequestError::WriteTimeout { write_type: WriteType::Cas, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_is_one_more_vote_to_wait_for() {
    let test = test_cluster(|_| {}).await;
    test.end_and_notice(B, HostFault::Kill).await;
    test.cluster.disk(B).expect("a disk").wipe();
    for node in [A, C] {
        test.lose(Verb::RepairRead, node);
    }
    test.cluster.replace(B);
    test.pass(60.0).await;
    assert_eq!(insert_if_absent(&test, A, 1, 1).await, Ok(ConditionalOutcome::Applied));
    // The one that joins has forgotten what its predecessor promised: with it alone there is no majority.
    test.lose(Verb::Propose, C);
    let error = insert_if_absent(&test, A, 2, 1).await.expect_err("two of four");
    assert!(
        matches!(error, RequestError::WriteTimeout { write_type: WriteType::Cas, block_for: 3, .. }),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_proposed_while_a_voter_cannot_be_given_the_last_commit() {
    let test = test_cluster(|_| {}).await;
    let lost = test.lose(Verb::Commit, C);
    assert_eq!(increment(&test, A, 1).await, Ok(1));
    test.links.remove(lost);
    let lost = test.lose(Verb::Prepare, A);
    test.cluster.misbehave(C, Misbehaviour { refuse_writes: true, ..Misbehaviour::default() });
    let error = increment(&test, B, 1).await.expect_err("C has not the last commit");
    assert!(
        matches!(error, RequestError::WriteTimeout { write_type: WriteType::Cas, received: 0, .. }),
        "{error:?}"
    );
    test.cluster.misbehave(C, Misbehaviour::default());
    test.links.remove(lost);
    assert_eq!(increment(&test, B, 1).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn who_finishes_anothers_write_leaves_no_hints_for_nodes_that_are_down() {
    let test = test_cluster(with_hints).await;
    leave_unfinished(&test).await;
    test.end_and_notice(C, HostFault::Kill).await;
    test.on(B).read(test.select(1), Consistency::Serial).await.expect("read");
    assert_eq!(test.peek(B, 1), [(1, 1)]);
    test.start(C).await;
    test.pass(60.0).await;
    assert_eq!(test.peek(C, 1), []);
}
