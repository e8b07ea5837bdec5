//! Property tests: for any small log and any changes of its tables, verification finds no difference exactly if the
//! tables equal the ground truth.

use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(i32, String),
    Skip(i32, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let event =
        (select(vec!["a", "b"]), -12..25i64, select(vec![0, 1, 2, 2, 2])).prop_map(|(source, ts, health)| {
            format!(r#"{{"id":1,"ts":{ts},"source":"{source}","client":"c","health":{health}}}"#)
        });
    let value = prop_oneof![9 => event, 1 => select(vec!["", "x", "{}"]).prop_map(str::to_owned)];
    prop_oneof![
        9 => (0..PARTITIONS, value).prop_map(|(partition, value)| Step::Append(partition, value)),
        1 => (0..PARTITIONS, 1..4i64).prop_map(|(partition, offsets)| Step::Skip(partition, offsets)),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    LoseEvent(usize),
    LoseDeadLetter(usize),
    AlterEvent(usize),
    CopyEvent(usize, i32, i64),
    CopyDeadLetter(usize, i32, i64),
    LoseAlert(usize),
    AlterAlert(usize, i64),
    AddAlert(i64, i64),
    LoseCount(usize),
    AlterCount(usize, i64, i64),
    AddCount(i32, i64),
}

fn change() -> impl Strategy<Value = Change> {
    let (at, partition, offset) = (any::<usize>, -1..PARTITIONS + 1, -2..30i64);
    prop_oneof![
        at().prop_map(Change::LoseEvent),
        at().prop_map(Change::LoseDeadLetter),
        at().prop_map(Change::AlterEvent),
        (at(), partition.clone(), offset.clone()).prop_map(|(at, p, o)| Change::CopyEvent(at, p, o)),
        (at(), partition, offset).prop_map(|(at, p, o)| Change::CopyDeadLetter(at, p, o)),
        at().prop_map(Change::LoseAlert),
        (at(), -2..3i64).prop_map(|(at, by)| Change::AlterAlert(at, by)),
        (-2..4i64, 1..5i64).prop_map(|(window, count)| Change::AddAlert(window * 10, count)),
        at().prop_map(Change::LoseCount),
        (at(), -1..2i64, -1..2i64).prop_map(|(at, by, through)| Change::AlterCount(at, by, through)),
        (0..PARTITIONS, -2..4i64).prop_map(|(partition, window)| Change::AddCount(partition, window * 10)),
    ]
}

fn nth<K: Clone, V>(table: &BTreeMap<K, V>, at: usize) -> Option<K> {
    table.keys().nth(at % table.len().max(1)).cloned()
}

fn apply(change: Change, tables: &mut Tables) {
    let Tables { events, dead_letters, alerts, counts } = tables;
    match change {
        Change::LoseEvent(at) => drop(nth(events, at).map(|key| events.remove(&key))),
        Change::LoseDeadLetter(at) => drop(nth(dead_letters, at).map(|key| dead_letters.remove(&key))),
        Change::AlterEvent(at) => {
            if let Some(event) = nth(events, at).and_then(|key| events.get_mut(&key)) {
                event.id += 1;
            }
        }
        Change::CopyEvent(at, partition, offset) => {
            if let Some(event) = nth(events, at).map(|key| events[&key].clone()) {
                events.insert((partition, offset), event);
            }
        }
        Change::CopyDeadLetter(at, partition, offset) => {
            if let Some(letter) = nth(dead_letters, at).map(|key| dead_letters[&key].clone()) {
                dead_letters.insert((partition, offset), letter);
            }
        }
        Change::LoseAlert(at) => {
            if let Some(key) = nth(alerts, at) {
                alerts.remove(&key);
            }
        }
        Change::AlterAlert(at, by) => {
            if let Some(count) = nth(alerts, at).and_then(|key| alerts.get_mut(&key)) {
                // A count below 1 is a damaged row, which is another difference.
                *count = (*count + by).max(1);
            }
        }
        Change::LoseCount(at) => drop(nth(counts, at).map(|key| counts.remove(&key))),
        Change::AlterCount(at, by, through) => {
            if let Some((count, offset)) = nth(counts, at).and_then(|key| counts.get_mut(&key)) {
                *count += by;
                *offset += through;
            }
        }
        Change::AddCount(partition, end) => {
            counts.entry((partition, window("a", end))).or_insert((1, 0));
        }
        Change::AddAlert(end, count) => alerts.extend([(window("a", end), count)]),
    }
}

/// Runs a future with a paused clock, because retries for a log whose end is too low wait.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn verification_is_clean_exactly_if_the_tables_are_the_ground_truth(
        steps in vec(step(), 0..40),
        bound_after in 0..6usize,
        slide_ms in select(vec![10, 5, 4]),
        changes in vec(change(), 0..3),
        fetch_records in select(vec![1, 3, 500]),
    ) {
        block_on(async {
            let mut steps = steps.into_iter();
            let before = steps.by_ref().take(bound_after).filter_map(|step| match step {
                Step::Append(partition, text) => Some(value(partition, &text)),
                Step::Skip(..) => None,
            });
            let fixture = Fixture::with(Origin::End, before.collect(), slide_ms).await;
            for step in steps {
                match step {
                    Step::Append(partition, text) => fixture.append([value(partition, &text)]).await,
                    Step::Skip(partition, offsets) => fixture.broker.skip(TOPIC, partition, offsets),
                }
            }
            let truth = fixture.truth().await;
            let mut tables = truth.clone();
            for change in changes {
                apply(change, &mut tables);
            }
            fixture.finish(&tables).await;
            let stored = truth::stored(&fixture.store).await.expect("tables");
            prop_assert_eq!(&stored, &tables);

            let broker = HookedBroker::new(&fixture, fetch_records, |_, _, _| None);
            let options = |windows_in_memory| VerifyOptions { windows_in_memory, ..VerifyOptions::default() };
            let report = verify(&broker, &fixture.store, &fixture.binding_spec, &options(1_000)).await.expect("a report");
            prop_assert_eq!(report.is_clean(), stored == truth, "{:#?}", report.differences);
            prop_assert!(report.is_complete());
            let spilled = verify(&fixture.broker, &fixture.store, &fixture.binding_spec, &options(1)).await.expect("a report");
            prop_assert_eq!(report, spilled);
            Ok(())
        })?;
    }

    #[test]
    fn correct_tables_have_no_differences_regardless_of_what_retention_deleted(
        steps in vec(step(), 0..40),
        starts in (0..20i64, 0..20i64),
        slide_ms in select(vec![10, 5, 4]),
    ) {
        let fixture = Fixture::with(Origin::Start, Vec::new(), slide_ms).now_or_never().expect("it never waits");
        block_on(async {
            for step in steps {
                match step {
                    Step::Append(partition, text) => fixture.append([value(partition, &text)]).await,
                    Step::Skip(partition, offsets) => fixture.broker.skip(TOPIC, partition, offsets),
                }
            }
            fixture.finish(&fixture.truth().await).await;
            fixture.broker.delete_below(TOPIC, 0, starts.0);
            fixture.broker.delete_below(TOPIC, 1, starts.1);
            let report = fixture.verify().await;
            prop_assert!(report.is_clean(), "{:#?}", report.differences);
            let gone: bool = report.partitions.iter().any(|partition| partition.log_start > 0);
            prop_assert_eq!(report.is_complete(), !gone);
            Ok(())
        })?;
    }
}
