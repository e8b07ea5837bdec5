//! The outcomes of requests when replicas or coordinators are down, and what was applied.

use std::time::Duration;

use futures_util::future::{join, join3};
use scylla::statement::Consistency;
use simulated_hosts::{
    HostFault::{Kill, Pause},
    Recovery::{Resume, Start},
};
use tokio::time::sleep;

use super::{EVENTS, ROWS, UNHURRIED, events};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            unavailable_contains_the_number_of_live_replicas_and_nothing_was_applied,
            [Silence, HintedHandoff],
            "Unavailable carries the level, the replicas required and those alive; the coordinator checks before it sends (native_protocol_v4, 9)",
        ),
        case!(
            a_write_that_timed_out_is_visible_to_some_readers,
            [Host(Pause), HintedHandoff],
            "Write_timeout carries the acknowledgements received; it is not undone (native_protocol_v4, 9; architecture/guarantees)",
        ),
        case!(
            a_read_timeout_contains_the_number_of_responses,
            [Host(Pause)],
            "Read_timeout carries the number of responses received, and whether the replica that was requested to send data is among them (native_protocol_v4, 9)",
        ),
        case!(
            a_hint_is_delivered_later_with_the_original_timestamp,
            [Silence, HintedHandoff],
            "A coordinator keeps a hint for a replica that is down, and delivers it when it is up again; the mutation is unchanged (operating/hints)",
        ),
        case!(
            a_replica_that_times_out_gets_a_hint_too,
            [Host(Pause), HintedHandoff],
            "A write that a replica does not acknowledge in time is kept as a hint (operating/hints)",
        ),
        case!(
            unflushed_hints_are_lost_with_their_coordinator,
            [Silence, Host(Kill), HoldHints, HintedHandoff],
            "Hints are buffered and flushed every hints_flush_period, 10 s; the buffer dies with the process (operating/hints; cassandra.yaml)",
        ),
        case!(
            a_request_continues_after_its_client_timed_out,
            [Host(Pause)],
            "A client's timeout cancels nothing (drivers)",
        ),
        case!(
            a_request_whose_coordinator_was_killed_may_have_been_applied,
            [Host(Pause), Host(Kill)],
            "What a coordinator has sent to the replicas does not depend on its life (architecture/dynamo)",
        ),
    ]
}

const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";

async fn unavailable_contains_the_number_of_live_replicas_and_nothing_was_applied<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    backend.silence(&[2]).await;
    let all = a.at(Consistency::All);
    all.expect(
        seen,
        "one of three down: a write at ALL",
        &events(0, 0..1),
        "Unavailable(All, required 3, alive 2)",
    )
    .await;
    all.expect(seen, "a read at ALL", READ, "Unavailable(All, required 3, alive 2)").await;
    a.expect(seen, "rows", READ, "no rows").await;
    a.expect(seen, "a write at QUORUM", &events(1, 0..1), "ok").await;
    let local = a.at(Consistency::LocalQuorum);
    local.expect(seen, "at LOCAL_QUORUM", &events(1, 1..2), "ok").await;
    backend.silence(&[1]).await;
    a.expect(
        seen,
        "two down: a write at QUORUM",
        &events(0, 0..1),
        "Unavailable(Quorum, required 2, alive 1)",
    )
    .await;
    local
        .expect(seen, "at LOCAL_QUORUM", &events(0, 0..1), "Unavailable(LocalQuorum, required 2, alive 1)")
        .await;
    a.expect(seen, "a read at QUORUM", READ, "Unavailable(Quorum, required 2, alive 1)").await;
    a.expect(
        seen,
        "a read of the table",
        "SELECT offset FROM KS.events",
        "Unavailable(Quorum, required 2, alive 1)",
    )
    .await;
    let insert = "INSERT INTO KS.events (partition, offset, source) VALUES (0, 0, 's') IF NOT EXISTS";
    a.expect(seen, "a conditional write", insert, "Unavailable(Serial, required 2, alive 1)").await;
    a.at(Consistency::One).expect(seen, "a read at ONE", READ, "no rows").await;
    backend.end_silence().await;
    b.expect(seen, "when they are back", READ, "no rows").await;
}

async fn a_write_that_timed_out_is_visible_to_some_readers<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    backend.apply(Pause, &[2]).await;
    let (quorum, all) = (events(0, 0..1), events(0, 1..2));
    let all_replicas = a.at(Consistency::All);
    let (quorum, all) = join(a.ends(&quorum), all_replicas.ends(&all)).await;
    seen.check("one replica paused: a write at QUORUM", &quorum, "ok");
    seen.check("a write at ALL", &all, "WriteTimeout(All, received 2, required 3, Simple)");
    b.expect(seen, "read at QUORUM", READ, "(1) (0)").await;
    backend.apply(Pause, &[1]).await;
    a.expect(
        seen,
        "two paused: a write at QUORUM",
        &events(0, 2..3),
        "WriteTimeout(Quorum, received 1, required 2, Simple)",
    )
    .await;
    a.at(Consistency::One).expect(seen, "read at ONE", READ, "(2) (1) (0)").await;
    backend.recover(Resume, &[1, 2]).await;
    a.expect_within(
        seen,
        backend.delivered_within(),
        "read at QUORUM through that replica, when the others are resumed",
        READ,
        "(2) (1) (0)",
    )
    .await;
    b.expect(seen, "from then on through another", READ, "(2) (1) (0)").await;
}

async fn a_read_timeout_contains_the_number_of_responses<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    a.at(Consistency::All).ok(&events(0, 0..1)).await;
    backend.apply(Pause, &[1, 2]).await;
    let all = a.at(Consistency::All);
    let (row, table, three) =
        join3(a.ends(READ), a.ends("SELECT offset FROM KS.events"), all.ends(READ)).await;
    seen.check(
        "two paused: a partition at QUORUM",
        &row,
        "ReadTimeout(Quorum, received 1, required 2, data present true)",
    );
    seen.check(
        "the table at QUORUM",
        &table,
        "ReadTimeout(Quorum, received 1, required 2, data present true)",
    );
    seen.check("a partition at ALL", &three, "ReadTimeout(All, received 1, required 3, data present true)");
    a.at(Consistency::One).expect(seen, "at ONE", READ, "(0)").await;
}

async fn a_hint_is_delivered_later_with_the_original_timestamp<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.hinted_handoff(false).await;
    backend.silence(&[2]).await;
    a.expect(seen, "row 1, the third replica down, hinted handoff off", &events(0, 1..2), "ok").await;
    backend.hinted_handoff(true).await;
    a.expect(seen, "row 0, hinted handoff on", &events(0, 0..1), "ok").await;
    backend.end_silence().await;
    a.ok("UPDATE KS.events USING TIMESTAMP 50 SET source = 'newer' WHERE partition = 0 AND offset = 0").await;
    let one = c.at(Consistency::One);
    let all = "SELECT offset, source, writetime(source) FROM KS.events WHERE partition = 0";
    one.expect_within(seen, Duration::from_secs(5), "row 0 written again at 50", all, "(0, 'newer', 50)")
        .await;
    a.ok("DELETE source FROM KS.events USING TIMESTAMP 60 WHERE partition = 0 AND offset = 0").await;
    // Only the hint has the row's liveness marker.
    one.expect_within(
        seen,
        backend.delivered_within(),
        "later, its value deleted meanwhile, at ONE",
        all,
        "(0, null, null)",
    )
    .await;
    sleep(Duration::from_secs(2)).await;
    one.expect(seen, "and row 1, of which there was no hint", all, "(0, null, null)").await;
    c.expect(seen, "at QUORUM", all, "(1, 's', 2) (0, null, null)").await;
}

async fn a_replica_that_times_out_gets_a_hint_too<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(true).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, b, c] = keyspace.clients();
    backend.apply(Pause, &[1, 2]).await;
    a.expect(
        seen,
        "a write, two replicas paused",
        &events(0, 0..3),
        "WriteTimeout(Quorum, received 1, required 2, Simple)",
    )
    .await;
    sleep(backend.write_timeout() / 2).await;
    backend.recover(Resume, &[1, 2]).await;
    let written = "SELECT offset, writetime(source) FROM KS.events WHERE partition = 0";
    for (what, client) in [("the second, later, at ONE", b), ("the third", c)] {
        let one = client.at(Consistency::One);
        one.expect_within(seen, backend.delivered_within(), what, written, "(2, 3) (1, 2) (0, 1)").await;
    }
}

async fn unflushed_hints_are_lost_with_their_coordinator<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.hinted_handoff(true).await;
    backend.hold_hints().await;
    backend.silence(&[2]).await;
    a.expect(seen, "a write, the third replica down", &events(0, 0..1), "ok").await;
    backend.apply(Kill, &[0]).await;
    backend.end_silence().await;
    backend.recover(Start, &[0]).await;
    sleep(backend.delivered_within()).await;
    c.at(Consistency::One)
        .expect(seen, "the third, at ONE, long after the coordinator was killed and started", READ, "no rows")
        .await;
    c.expect(seen, "at QUORUM", READ, "(0)").await;
}

async fn a_request_continues_after_its_client_timed_out<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    backend.apply(Pause, &[0]).await;
    let mut statement = a.statement(&events(0, 0..3));
    statement.set_request_timeout(Some(Duration::from_millis(500)));
    let ended = ending(a.session.query_unpaged(statement, ()).await);
    seen.check("a write through a paused coordinator", &ended, "the client's own timeout");
    b.expect(seen, "rows then", READ, "no rows").await;
    backend.recover(Resume, &[0]).await;
    b.expect_within(seen, Duration::from_secs(20), "rows when it went on", READ, "(2) (1) (0)").await;
}

async fn a_request_whose_coordinator_was_killed_may_have_been_applied<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS, ROWS]).await;
    let [a, b, _] = keyspace.clients();
    backend.apply(Pause, &[1, 2]).await;
    let kill = async {
        sleep(Duration::from_millis(300)).await;
        backend.apply(Kill, &[0]).await;
    };
    let write = events(0, 0..3);
    let (ended, ()) = join(a.ends(&write), kill).await;
    backend.recover(Resume, &[1, 2]).await;
    seen.check(
        "a write, its coordinator killed before any other replica took it",
        &ended,
        "broken connection",
    );
    b.expect_within(seen, Duration::from_secs(5), "rows then, through another", READ, "(2) (1) (0)").await;
    a.expect(seen, "the next request of that connection", READ, "no connection").await;
}
