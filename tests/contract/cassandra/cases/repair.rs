//! What a read repairs, and what it leaves.

use std::time::Duration;

use scylla::statement::Consistency;
use tokio::time::sleep;

use crate::cassandra::client::Keyspace;
use crate::cassandra::world::{Verb, World};
use crate::suite::{Case, Seen, case};

pub fn cases<W: World>() -> Vec<Case<W>> {
    vec![case!(
        a_quorum_read_with_limit_repairs_only_the_rows_it_returned,
        [Pause, Kill, HintedHandoff],
        "A blocking read repair writes to the replicas that were read what the read returned, not what else they lack \
         (operating/read_repair; DataResolver)",
    )]
}

/// `(partition, offset)` as in the pipeline's events.
const EVENTS: &str = "events (partition int, offset bigint, source text, PRIMARY KEY (partition, offset)) \
                      WITH CLUSTERING ORDER BY (offset DESC)";

/// A batch of events of partition 0.
fn batch(offsets: std::ops::Range<i64>) -> String {
    let rows = offsets.map(|offset| {
        format!(
            "INSERT INTO KS.events (partition, offset, source) VALUES (0, {offset}, 's') USING TIMESTAMP {};",
            offset + 1
        )
    });
    format!("BEGIN UNLOGGED BATCH {} APPLY BATCH", rows.collect::<Vec<_>>().join(" "))
}

async fn a_quorum_read_with_limit_repairs_only_the_rows_it_returned<W: World>(world: &W, seen: &Seen) {
    world.hinted_handoff(false).await;
    let keyspace = Keyspace::with(world, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients.as_slice() else { unreachable!() };
    a.ok(&batch(0..10)).await;
    world.pause(&[1, 2]).await;
    let ended = a.ends(&batch(10..20)).await;
    seen.note(format!("a batch of rows 10-19 that reached one replica: {ended}"));
    sleep(world.write_timeout()).await;
    world.resume(&[1, 2]).await;
    sleep(Duration::from_secs(2)).await;
    let last = a.rows("SELECT offset FROM KS.events WHERE partition = 0 LIMIT 1").await;
    seen.note(format!("LIMIT 1 at QUORUM through that replica: {last}"));
    world.kill(&[0]).await;
    let left = b.rows("SELECT offset FROM KS.events WHERE partition = 0").await;
    seen.note(format!("the other two, after its death: {left}"));
    assert!(ended.contains("received 1, required 2"), "{ended}");
    assert_eq!(last, "(19)");
    assert_eq!(left, "(19) (9) (8) (7) (6) (5) (4) (3) (2) (1) (0)");
    let _ = Consistency::One;
}
