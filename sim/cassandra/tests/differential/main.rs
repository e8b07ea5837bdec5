//! Random statements and values on a real node and on the simulation: both respond the same.

mod draw;
mod outcome;
mod statements;
mod tables;
mod values;

#[path = "../../../../tests/common/cluster.rs"]
mod cluster;
#[path = "../common/nodes.rs"]
mod nodes;
#[path = "../common/raw.rs"]
mod raw;
#[path = "../../../../tests/common/setting.rs"]
mod setting;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use cluster::Cluster;
use draw::Draw;
use nodes::Nodes;
use outcome::{Outcome, run};
use setting::setting;
use statements::{Step, step};
use tables::{Table, tables};

const KEYSPACE: &str = "differential";

/// How many statements follow one another on the same tables, at most.
const IN_A_ROW: usize = 100;

/// After how many cases that differ the test ends.
const MAX_DIFFERENCES: usize = 8;

/// Maximum refusals with other messages that are printed.
const MAX_PRINTED: usize = 20;

async fn prepare(session: &Session, tables: &[Table], replicas: usize) {
    let create = format!(
        "CREATE KEYSPACE {KEYSPACE} WITH replication = \
         {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}"
    );
    let mut all = vec![format!("DROP KEYSPACE IF EXISTS {KEYSPACE}"), create];
    all.extend(tables.iter().map(|table| table.definition(KEYSPACE)));
    for text in all {
        session.query_unpaged(text.as_str(), &[]).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    session.await_schema_agreement().await.expect("the schema is agreed on");
}

/// What was found on the way, over all cases.
#[derive(Default)]
struct Counts {
    statements: Cell<usize>,
    /// Whether a case is being cut to what differs; that counts for nothing.
    shrinking: Cell<bool>,
    /// Whether the step that differs does so without any before it.
    alone: Cell<bool>,
    left_out: Cell<usize>,
    /// Not compared, because one cluster was too slow.
    too_slow: Cell<usize>,
    /// Written to expire soon.
    expired: Cell<usize>,
    /// Refused with the right kind of error and another text, for example if another one of several errors is reported first.
    other_messages: Cell<usize>,
    refused: Cell<usize>,
    rows: Cell<usize>,
}

impl Counts {
    fn add(&self, outcome: &Outcome) {
        self.statements.set(self.statements.get() + 1);
        match outcome {
            Outcome::Refused(..) => self.refused.set(self.refused.get() + 1),
            Outcome::Rows(_, rows, ..) => self.rows.set(self.rows.get() + rows.len()),
            Outcome::Several(outcomes) => {
                self.statements.set(self.statements.get() - 1);
                self.expired.set(self.expired.get() + outcomes.len() - 2);
                outcomes.iter().for_each(|outcome| self.add(outcome));
            }
            Outcome::Done | Outcome::Unclear => {}
        }
    }
}

/// Executes the steps on both clusters until they differ. Returns the step and the difference.
async fn compare(
    real: &Session,
    simulated: &Session,
    tables: &[Table],
    steps: &[Step],
    counts: &Counts,
) -> Result<(), (usize, String)> {
    for table in tables {
        let text = format!("TRUNCATE {KEYSPACE}.{}", table.name);
        for session in [real, simulated] {
            session
                .query_unpaged(text.as_str(), &[])
                .await
                .map_err(|error| (0, format!("{text}: {error}")))?;
        }
    }
    for (at, step) in steps.iter().enumerate() {
        let (expected, found) = tokio::join!(run(real, step), run(simulated, step));
        if !counts.shrinking.get() {
            counts.add(&expected);
        }
        if expected.same(&found) {
            if !expected.has_same_messages(&found) && !counts.shrinking.get() {
                counts.other_messages.set(counts.other_messages.get() + 1);
                if counts.other_messages.get() <= MAX_PRINTED {
                    println!(
                        "with another message: {step:?}\n    Cassandra:  {expected:?}\n    simulation: {found:?}"
                    );
                }
            }
            continue;
        }
        if expected.is_too_slow() || found == Outcome::Unclear {
            // What the real node did is unknown.
            counts.too_slow.set(counts.too_slow.get() + 1);
            return Ok(());
        }
        // What is left out is not parsed to its end, so that it may also be a syntax error.
        let may_be_left_out = match &expected {
            Outcome::Refused(kind, _) => kind == "Invalid" || kind == "SyntaxError",
            _ => true,
        };
        if found.is_left_out() && may_be_left_out {
            // From here on the tables may differ.
            counts.left_out.set(counts.left_out.get() + 1);
            println!("not simulated: {step:?}\n    simulation: {found:?}");
            return Ok(());
        }
        let before: String = steps[..at].iter().map(|step| format!("\n  {step:?}")).collect();
        let reason = format!(
            "after{before}\nthey differ in\n  {step:?}\n    Cassandra:  {expected:?}\n    simulation: {found:?}\n"
        );
        return Err((at, reason));
    }
    Ok(())
}

/// `EXACTLYONCE_DIFFERENTIAL_SEED` and `EXACTLYONCE_DIFFERENTIAL_STATEMENTS` set what their names say.
#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 0 --cassandra 1"]
fn random_statements_find_and_do_the_same_on_cassandra_and_in_the_simulation() {
    let seed = setting("EXACTLYONCE_DIFFERENTIAL_SEED", std::process::id().into());
    let planned = setting("EXACTLYONCE_DIFFERENTIAL_STATEMENTS", 5000);
    println!("EXACTLYONCE_DIFFERENTIAL_SEED={seed} EXACTLYONCE_DIFFERENTIAL_STATEMENTS={planned}");
    let tables = tables(&mut Draw::new(seed), 4);
    for table in &tables {
        println!("{}", table.definition(KEYSPACE));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let address = Cluster::running().addresses("CASSANDRA", 1).expect("a node of Cassandra").remove(0);
    let (real, [one, three], _nodes) = runtime.block_on(async {
        let builder = SessionBuilder::new().known_node(&address).disallow_shard_aware_port(true);
        let real = builder.build().await.unwrap_or_else(|error| panic!("{address}: {error}"));
        prepare(&real, &tables, 1).await;
        let nodes = [Nodes::start(1).await, Nodes::start(3).await];
        let one = nodes[0].builder().build().await.expect("the driver connects");
        prepare(&one, &tables, 1).await;
        let three = nodes[1].builder().build().await.expect("the driver connects");
        prepare(&three, &tables, 3).await;
        (real, [one, three], nodes)
    });
    // Dropping a statement is all that shrinking does: the values of a statement are few anyway.
    let steps = prop::collection::vec(any::<u64>().no_shrink(), 1..=IN_A_ROW)
        .prop_map(|seeds| seeds.into_iter().map(|seed| step(seed, KEYSPACE, &tables)).collect::<Vec<_>>());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        max_shrink_iters: 300,
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let counts = Counts::default();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let mut case = 0;
    let mut different = Vec::new();
    while (counts.statements.get() as u64) < planned && different.len() < MAX_DIFFERENCES {
        let simulated = if case % 2 == 0 { &one } else { &three };
        let tree = steps.new_tree(&mut runner).expect("steps");
        let result = runner.run_one(tree, |steps| {
            if counts.alone.get() {
                // It cannot be cut any shorter.
                return Ok(());
            }
            let cut =
                |steps: &[Step]| runtime.block_on(compare(&real, simulated, &tables, steps, &counts)).err();
            let Some((at, reason)) = cut(&steps) else { return Ok(()) };
            if !counts.shrinking.replace(true)
                && let Some(step) = steps.get(at)
                && let Some((_, reason)) = cut(std::slice::from_ref(step))
            {
                // Most of what differs does so at once.
                counts.alone.set(true);
                return Err(TestCaseError::fail(reason));
            }
            Err(TestCaseError::fail(reason))
        });
        match result {
            Ok(_) => {}
            Err(TestError::Fail(reason, _)) => {
                let nodes = if case % 2 == 0 { "one node" } else { "three nodes" };
                println!("case {case}, {nodes}: {reason}");
                different.push(format!("case {case}, {nodes}: {reason}"));
            }
            Err(TestError::Abort(reason)) => panic!("case {case}: {reason}"),
        }
        counts.shrinking.set(false);
        counts.alone.set(false);
        case += 1;
    }
    println!(
        "{} statements in {case} cases: {} expired, {} refused, {} with another message, {} rows, {} not simulated, {} too slow",
        counts.statements.get(),
        counts.expired.get(),
        counts.refused.get(),
        counts.other_messages.get(),
        counts.rows.get(),
        counts.left_out.get(),
        counts.too_slow.get()
    );
    assert!(different.is_empty(), "seed {seed}:\n{}", different.join("\n"));
    // A test that compares nothing but refusals compares nothing.
    assert!(counts.refused.get() * 2 < counts.statements.get(), "most statements are refused");
    assert!(
        counts.other_messages.get() * 50 < counts.refused.get(),
        "too many refusals have another message"
    );
    assert!(counts.expired.get() * 200 > counts.statements.get(), "too little expires");
    assert!(counts.too_slow.get() * 200 < counts.statements.get(), "too much is not compared");
    assert!(counts.left_out.get() * 100 < counts.statements.get(), "too much is not simulated");
}
