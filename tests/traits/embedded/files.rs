//! The files: persistence, files of other programs, damage, and concurrent access.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use exactlyonce::broker::embedded::EmbeddedBroker;
use exactlyonce::broker::{Broker, Producer};
use exactlyonce::event::Row;
use exactlyonce::sqlite::{FileError, Options, Synchronous};
use exactlyonce::store::embedded::EmbeddedStore;
use exactlyonce::store::{
    Alert, Bound, Count, Damaged, Layout, Outcome, Progress, Store, StoreError, WindowKey,
};
use rusqlite::Connection;
use tempfile::tempdir;

use super::{broker_in, options, store_in, store_in_layout};
use crate::broker::{TOPIC, values};
use crate::store::{binding, event, known};
use exactlyonce::error::chain;

/// Opens or creates a file in a folder.
type FileOperation = fn(&Path) -> Result<(), FileError>;
/// Both kinds of file: name, open, create.
const KINDS: [(&str, FileOperation, FileOperation); 2] = [
    (
        "store.sqlite",
        |folder| EmbeddedStore::open(folder, &options(), Layout::ORIGINAL).map(drop),
        |folder| EmbeddedStore::apply_schema(folder, &options(), Layout::ORIGINAL),
    ),
    (
        "log.sqlite",
        |folder| EmbeddedBroker::open(folder, &options()).map(drop),
        |folder| EmbeddedBroker::create(folder, &options()),
    ),
];

/// Checks that opening and creating both fail with this text and the file's path in the message, and do not change the
/// file.
fn assert_refused_unchanged(folder: &Path, name: &str, message: &str, expected: impl Fn(&FileError) -> bool) {
    let (_, open, create) = KINDS.into_iter().find(|kind| kind.0 == name).unwrap();
    let path = folder.join(name);
    let before = fs::read(&path).unwrap();
    for error in [open(folder).unwrap_err(), create(folder).unwrap_err()] {
        let text = chain(&error);
        assert!(expected(&error), "{text}");
        assert!(text.contains(message) && text.contains(path.to_str().unwrap()), "{text}");
    }
    assert!(fs::read(&path).unwrap() == before, "{name} was changed");
}

/// Writes rows to the tables.
async fn fill(store: &EmbeddedStore, rows: i64) {
    known(store.bind(&binding(TOPIC)).await);
    let key = |n: i64| WindowKey { source: format!("source {n}").into(), end: n };
    let counts: Vec<_> = (0..rows).map(|n| (key(n), Count { count: n, through_offset: n })).collect();
    known(store.write_counts(0, &counts).await);
    let alert = |n: i64| Alert { source: format!("source {n}").into(), ts: n, event_count: 10 };
    known(store.write_alerts(&(0..rows).map(alert).collect::<Vec<_>>()).await);
    let events: Vec<_> = (0..rows).map(|n| (n, Row::Event(event(n, "a source")))).collect();
    known(store.write_rows(0, &events).await);
    known(store.write_progress(0, Progress { origin: 0, next_offset: rows }).await);
}

#[tokio::test]
async fn a_reopened_store_has_the_same_content() {
    let folder = tempdir().unwrap();
    let store = store_in(folder.path());
    fill(&store, 100).await;
    drop(store);
    let store = store_in(folder.path());
    assert_eq!(known(store.binding().await), Some(binding(TOPIC)));
    assert_eq!(known(store.bind(&binding("other")).await), Bound::Before(binding(TOPIC)));
    assert_eq!(known(store.rows_below(0, 0, i64::MAX, 1000).await).len(), 100);
    assert_eq!(known(store.alerts(None, 1000).await).rows.len(), 100);
    let progress = Progress { origin: 0, next_offset: 100 };
    assert_eq!(known(store.progress_of_all().await), BTreeMap::from([(0, progress)]));
    let key = WindowKey { source: "source 7".into(), end: 7 };
    // Timestamps are stored, too: an older write still loses.
    let older = Count { count: 99, through_offset: 6 };
    known(store.write_counts(0, &[(key.clone(), older)]).await);
    let expected = Count { count: 7, through_offset: 7 };
    assert_eq!(known(store.counts(0, &[key]).await), [Some(expected)]);
}

#[tokio::test]
async fn every_synchronous_setting_keeps_written_rows() {
    for synchronous in [Synchronous::Off, Synchronous::Normal, Synchronous::Full] {
        let folder = tempdir().unwrap();
        let options = Options { synchronous, ..Options::default() };
        EmbeddedStore::apply_schema(folder.path(), &options, Layout::ORIGINAL).unwrap();
        fill(&EmbeddedStore::open(folder.path(), &options, Layout::ORIGINAL).unwrap(), 10).await;
        let store = EmbeddedStore::open(folder.path(), &options, Layout::ORIGINAL).unwrap();
        assert_eq!(known(store.rows_below(0, 0, i64::MAX, 1000).await).len(), 10);
    }
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_files() {
    let folder = tempdir().unwrap();
    let wal = |name: &str| folder.path().join(format!("{name}-wal")).exists();
    let store = store_in(folder.path());
    fill(&store, 10).await;
    let clone = store.clone();
    drop(store);
    known(clone.progress(0).await);
    // SQLite removes the WAL when the last connection is closed.
    assert!(wal("store.sqlite"));
    drop(clone);
    assert!(!wal("store.sqlite"));
    let broker = broker_in(folder.path());
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let consumer = broker.subscribe("group", TOPIC).await.unwrap();
    drop(broker);
    assert!(wal("log.sqlite"));
    drop(consumer);
    assert!(!wal("log.sqlite"));
}

#[test]
fn the_error_of_a_missing_file_names_the_command_that_creates_it() {
    let folder = tempdir().unwrap();
    let command =
        |name| if name == "store.sqlite" { "`exactlyonce init`" } else { "`exactlyonce topic create`" };
    for (name, open, _) in KINDS {
        for folder in [folder.path(), &folder.path().join("no folder")] {
            let error = open(folder).unwrap_err();
            let text = chain(&error);
            assert!(matches!(error, FileError::Missing { .. }), "{text}");
            assert!(
                text.contains(command(name)) && text.contains(folder.join(name).to_str().unwrap()),
                "{text}"
            );
            assert!(!folder.join(name).exists());
        }
    }
}

#[test]
fn creating_an_existing_file_does_not_change_it() {
    let folder = tempdir().unwrap();
    for (name, open, create) in KINDS {
        create(&folder.path().join("a/b")).unwrap();
        let path = folder.path().join("a/b").join(name);
        let before = fs::read(&path).unwrap();
        create(&folder.path().join("a/b")).unwrap();
        open(&folder.path().join("a/b")).unwrap();
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[tokio::test]
async fn tables_with_a_different_layout_are_not_changed_and_both_layouts_are_reported() {
    let bucketed = |rows| Layout::bucketed(NonZeroU32::new(rows).unwrap());
    let layouts = [Layout::ORIGINAL, bucketed(1), bucketed(10), bucketed(100), bucketed(u32::MAX)];
    for created in layouts {
        let folder = tempdir().unwrap();
        let store = store_in_layout(folder.path(), created);
        assert_eq!(store.layout(), created);
        fill(&store, 250).await;
        drop(store);
        let path = folder.path().join("store.sqlite");
        let before = fs::read(&path).unwrap();
        for requested in layouts.into_iter().filter(|requested| *requested != created) {
            for error in [
                EmbeddedStore::open(folder.path(), &options(), requested).unwrap_err(),
                EmbeddedStore::apply_schema(folder.path(), &options(), requested).unwrap_err(),
            ] {
                assert!(matches!(error, FileError::Layout { .. }), "{error}");
                let text = chain(&error);
                let message = format!("in the layout {}, not {}:", created.events, requested.events);
                assert!(text.contains(&message) && text.contains(path.to_str().unwrap()), "{text}");
            }
        }
        assert!(fs::read(&path).unwrap() == before);
        let events = known(store_in_layout(folder.path(), created).events(0, 0, i64::MAX, 9999).await);
        assert_eq!(events.len(), 250);
    }
}

#[tokio::test]
async fn a_row_is_in_the_bucket_of_its_offset() {
    let folder = tempdir().unwrap();
    let rows = NonZeroU32::new(100).unwrap();
    fill(&store_in_layout(folder.path(), Layout::bucketed(rows)), 250).await;
    let file = Connection::open(folder.path().join("store.sqlite")).unwrap();
    let mut query = file.prepare("SELECT bucket, count(*), min(offset) FROM events GROUP BY bucket").unwrap();
    let buckets = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let buckets: Vec<(i64, i64, i64)> = buckets.map(Result::unwrap).collect();
    assert_eq!(buckets, [(0, 100, 0), (1, 100, 100), (2, 50, 200)]);
}

#[test]
fn a_file_may_be_created_concurrently() {
    for (_, open, create) in KINDS {
        let folder = tempdir().unwrap();
        std::thread::scope(|scope| {
            let make = || {
                create(folder.path()).unwrap();
                open(folder.path()).unwrap();
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn an_interrupted_creation_is_completed() {
    for (name, open, create) in KINDS {
        let folder = tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, b"").unwrap();
        assert!(matches!(open(folder.path()), Err(FileError::Missing { .. })));
        create(folder.path()).unwrap();
        open(folder.path()).unwrap();
        fs::remove_file(&path).unwrap();
        let empty = Connection::open(&path).unwrap();
        empty.query_row("PRAGMA journal_mode = wal", [], |_| Ok(())).unwrap();
        drop(empty);
        assert!(matches!(open(folder.path()), Err(FileError::Missing { .. })));
        create(folder.path()).unwrap();
        open(folder.path()).unwrap();
    }
}

#[test]
fn a_file_that_is_not_a_database_is_not_changed() {
    for (name, ..) in KINDS {
        for content in [&b"x"[..], b"my notes, not to be lost\n", &[0; 5000], &[b'x'; 100_000]] {
            let folder = tempdir().unwrap();
            fs::write(folder.path().join(name), content).unwrap();
            assert_refused_unchanged(folder.path(), name, "is not an SQLite database", |error| {
                matches!(error, FileError::NotSqlite { .. })
            });
        }
    }
}

#[test]
fn a_database_of_another_program_is_not_changed() {
    for (name, ..) in KINDS {
        for theirs in [
            "CREATE TABLE bills (amount)",
            "PRAGMA application_id = 77",
            "PRAGMA user_version = 3",
            "CREATE TABLE events (id); PRAGMA user_version = 1",
        ] {
            let folder = tempdir().unwrap();
            Connection::open(folder.path().join(name)).unwrap().execute_batch(theirs).unwrap();
            assert_refused_unchanged(folder.path(), name, "another program", |error| {
                matches!(error, FileError::Foreign { .. })
            });
        }
    }
}

#[test]
fn a_store_with_the_name_of_the_log_is_refused() {
    let folder = tempdir().unwrap();
    drop(store_in(folder.path()));
    fs::rename(folder.path().join("store.sqlite"), folder.path().join("log.sqlite")).unwrap();
    assert_refused_unchanged(folder.path(), "log.sqlite", "another program", |error| {
        matches!(error, FileError::Foreign { .. })
    });
}

#[test]
fn a_file_of_a_newer_version_is_not_changed() {
    for (name, _, create) in KINDS {
        let folder = tempdir().unwrap();
        create(folder.path()).unwrap();
        let newer = Connection::open(folder.path().join(name)).unwrap();
        newer.execute_batch("PRAGMA user_version = 3; CREATE TABLE news (x)").unwrap();
        drop(newer);
        assert_refused_unchanged(
            folder.path(),
            name,
            "tables of version 3, this program supports up to version",
            |error| matches!(error, FileError::Newer { found: 3, .. }),
        );
    }
}

#[test]
fn a_store_of_an_older_version_is_not_changed() {
    let folder = tempdir().unwrap();
    drop(store_in(folder.path()));
    let older = Connection::open(folder.path().join("store.sqlite")).unwrap();
    older.execute_batch("PRAGMA user_version = 1; DROP TABLE registry").unwrap();
    drop(older);
    assert_refused_unchanged(
        folder.path(),
        "store.sqlite",
        "version 1, and this program needs version 2",
        |error| matches!(error, FileError::Older { found: 1, known: 2, .. }),
    );
}

#[test]
fn a_file_without_one_of_its_tables_is_damaged() {
    for (name, table) in [("store.sqlite", "alerts"), ("log.sqlite", "records")] {
        let folder = tempdir().unwrap();
        drop((store_in(folder.path()), broker_in(folder.path())));
        let file = Connection::open(folder.path().join(name)).unwrap();
        file.execute_batch(&format!("DROP TABLE {table}; CREATE TABLE {table} (x)")).unwrap();
        drop(file);
        assert_refused_unchanged(folder.path(), name, &format!("the table {table}"), |error| {
            matches!(error, FileError::Damaged { .. })
        });
    }
}

#[tokio::test]
async fn a_truncated_file_is_damaged_and_not_changed() {
    let folder = tempdir().unwrap();
    let store = store_in(folder.path());
    fill(&store, 2_000).await;
    drop(store);
    let path = folder.path().join("store.sqlite");
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 50 * 4096);
    for length in [whole.len() - 4096, whole.len() / 2, 8192, 4096, 1000, 512, 100, 10] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_refused_unchanged(folder.path(), "store.sqlite", "", |error| {
            matches!(error, FileError::Damaged { .. } | FileError::NotSqlite { .. })
        });
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(known(store_in(folder.path()).rows_below(0, 0, i64::MAX, 9999).await).len(), 2_000);
}

#[tokio::test]
async fn an_overwritten_page_is_reported_when_it_is_read_and_never_changes_a_result() {
    let folder = tempdir().unwrap();
    let store = store_in(folder.path());
    fill(&store, 2_000).await;
    let events = known(store.events(0, 0, i64::MAX, 9999).await);
    let alerts = known(store.alerts(None, 9999).await).rows;
    drop(store);
    let path = folder.path().join("store.sqlite");
    let whole = fs::read(&path).unwrap();
    let (mut at_open, mut at_read, mut unread) = (0, 0, 0);
    for (page, damage) in (0..whole.len() / 4096).map(|page| (page, [0xff, 0][page % 2])) {
        let mut bytes = whole.clone();
        bytes[page * 4096..][..4096].fill(damage);
        fs::write(&path, &bytes).unwrap();
        let store = match EmbeddedStore::open(folder.path(), &options(), Layout::ORIGINAL) {
            Ok(store) => store,
            Err(error) => {
                assert!(chain(&error).contains(path.to_str().unwrap()), "{error}");
                at_open += 1;
                continue;
            }
        };
        let mut found = false;
        let mut judge = |refused: Option<String>, correct: bool| match refused {
            Some(text) => {
                assert!(text.contains("damaged") && text.contains(path.to_str().unwrap()), "{text}");
                found = true;
            }
            None => assert!(correct, "page {page}: a different result than before"),
        };
        let refusal = |error: &dyn std::error::Error| Some(chain(error));
        match store.events(0, 0, i64::MAX, 9999).await {
            Outcome::Acknowledged(rows) => judge(None, rows == events),
            Outcome::Refused(error) => judge(refusal(&error), false),
            Outcome::Unknown(error) => panic!("{}", chain(&error)),
        }
        match store.alerts(None, 9999).await {
            Outcome::Acknowledged(page) => judge(None, page.rows == alerts),
            Outcome::Refused(error) => judge(refusal(&error), false),
            Outcome::Unknown(error) => panic!("{}", chain(&error)),
        }
        *(if found { &mut at_read } else { &mut unread }) += 1;
    }
    // The first page identifies the file; damage of other pages is found when they are read. (Counts are not read here.)
    assert!(at_open >= 1 && at_read > 20 && unread > 0, "{at_open} {at_read} {unread}");
}

#[tokio::test]
async fn a_damaged_row_is_reported_and_does_not_hide_others() {
    let folder = tempdir().unwrap();
    let store = store_in(folder.path());
    fill(&store, 2).await;
    let path = folder.path().join("store.sqlite");
    let file = Connection::open(&path).unwrap();
    let refused = |error: &StoreError, text: &str| {
        let damaged = error.damaged().unwrap_or_else(|| panic!("{}", chain(error)));
        assert_eq!(damaged.to_string(), text);
        assert!(chain(error).contains(path.to_str().unwrap()) || chain(error).contains(text));
    };
    file.execute_batch(
        "UPDATE events SET health = 9 WHERE partition = 0 AND offset = 0;
         UPDATE pipeline SET layout = '\"of tomorrow\"';
         INSERT INTO dead_letters (partition, offset, reason, timestamp) VALUES (0, 5, 'created up', 0);
         INSERT INTO dead_letters (partition, offset, reason, timestamp, sha256)
             VALUES (0, 6, 'too_large', 0, x'00112233445566');
         INSERT INTO dead_letters (partition, offset, reason, timestamp) VALUES (0, 7, 'not_json', 0);
         INSERT INTO alerts VALUES ('foreign', 10, 0, 0)",
    )
    .unwrap();
    let health = "events partition 0 offset 0: column health: 9 is not a health";
    let reason = "dead_letters partition 0 offset 5: column reason: \"created up\" is not a reason";
    let hash = "dead_letters partition 0 offset 6: column sha256: 7 bytes and not 32";
    let text = |error: &Damaged| error.to_string();

    let events = known(store.stored_events(0, 0, 9, 9).await);
    assert_eq!(events[0].1.as_ref().map(drop).map_err(text), Err(health.to_owned()));
    assert!(events.len() > 1 && events[1..].iter().all(|row| row.1.is_ok()), "{events:?}");
    let letters = known(store.stored_dead_letters(0, 5, 9, 9).await);
    let letters: Vec<_> = letters.iter().map(|row| row.1.as_ref().map(drop).map_err(text)).collect();
    assert_eq!(letters, [Err(reason.to_owned()), Err(hash.to_owned()), Ok(())]);
    let alerts = known(store.stored_alerts(None, 99).await).rows;
    let damaged: Vec<_> = alerts.iter().filter_map(|row| row.1.as_ref().err().map(text)).collect();
    assert_eq!(
        damaged,
        ["alerts source \"foreign\" window ending at 10: column event_count: 0 is not a count"]
    );

    match store.events(0, 0, 9, 9).await {
        Outcome::Refused(error) => refused(&error, health),
        other => panic!("{other:?}"),
    }
    match store.dead_letters(0, 0, 9, 9).await {
        Outcome::Refused(error) => refused(&error, reason),
        other => panic!("{other:?}"),
    }
    match store.rows_below(0, 0, 9, 9).await {
        Outcome::Refused(error) => assert!(error.damaged().is_some(), "{}", chain(&error)),
        other => panic!("{other:?}"),
    }
    match store.binding().await {
        Outcome::Refused(error) => {
            let text = chain(&error);
            assert!(error.damaged().is_some() && text.contains("pipeline: column layout: "), "{text}");
            assert!(text.contains("of tomorrow"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // A write of the same row is refused, too, because it cannot be resolved against a damaged one.
    match store.write_rows(0, &[(0, Row::Event(event(0, "a source")))]).await {
        Outcome::Refused(error) => refused(&error, health),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_with_the_path_of_the_folder_is_reported_and_not_changed() {
    let outer = tempdir().unwrap();
    let folder = outer.path().join("data");
    fs::write(&folder, "not a folder").unwrap();
    for (_, open, create) in KINDS {
        for error in [open(&folder).unwrap_err(), create(&folder).unwrap_err()] {
            let text = chain(&error);
            assert!(matches!(error, FileError::Folder { .. }), "{text}");
            assert!(text.contains(folder.to_str().unwrap()), "{text}");
        }
    }
    assert_eq!(fs::read(&folder).unwrap(), b"not a folder");
}

#[test]
fn a_folder_with_the_path_of_the_file_is_reported() {
    for (name, open, create) in KINDS {
        let folder = tempdir().unwrap();
        fs::create_dir(folder.path().join(name)).unwrap();
        for error in [open(folder.path()).unwrap_err(), create(folder.path()).unwrap_err()] {
            let text = chain(&error);
            assert!(matches!(error, FileError::Sqlite { .. }), "{text}");
            assert!(text.contains(folder.path().join(name).to_str().unwrap()), "{text}");
        }
    }
}

/// Uses folders that not even root can write to.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_reported() {
    for (_, _, create) in KINDS {
        for folder in ["/proc/exactlyonce", "/proc/self/exactlyonce"] {
            let text = chain(&create(Path::new(folder)).unwrap_err());
            assert!(text.contains(folder), "{text}");
        }
        let text = chain(&create(Path::new("/proc/self")).unwrap_err());
        assert!(text.contains("/proc/self/") && text.contains("permissions"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_read_each_others_writes() {
    let folder = tempdir().unwrap();
    let stores = [store_in(folder.path()), store_in(folder.path())];
    let (a, b) = (binding("a"), binding("b"));
    let (first, second) = tokio::join!(stores[0].bind(&a), stores[1].bind(&b));
    let (first, second) = (known(first), known(second));
    assert!(
        (first == Bound::Now && second == Bound::Before(a))
            || (second == Bound::Now && first == Bound::Before(b))
    );
    let write = |handle: usize| {
        let store = stores[handle].clone();
        async move {
            for n in 0..50 {
                let rows = [(n * 2 + handle as i64, Row::Event(event(n, "a")))];
                known(store.write_rows(0, &rows).await);
            }
        }
    };
    let (left, right) = tokio::join!(tokio::spawn(write(0)), tokio::spawn(write(1)));
    left.and(right).unwrap();
    for store in stores {
        assert_eq!(known(store.events(0, 0, 1000, 1000).await).len(), 100);
    }
}

#[tokio::test]
async fn during_a_long_write_of_another_process_writes_are_unknown_and_reads_succeed() {
    let folder = tempdir().unwrap();
    let store = store_in(folder.path());
    fill(&store, 3).await;
    let options = Options { busy_timeout: Duration::from_millis(1), ..options() };
    let store = EmbeddedStore::open(folder.path(), &options, Layout::ORIGINAL).unwrap();
    let other = Connection::open(folder.path().join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM events").unwrap();
    let rows = [(7, Row::Event(event(7, "a")))];
    let (first, second) = tokio::join!(store.write_rows(0, &rows), store.write_rows(1, &rows));
    for outcome in [first, second] {
        match outcome {
            Outcome::Unknown(error) => {
                let text = chain(&error);
                assert!(text.contains("locked") && text.contains("store.sqlite"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(known(store.events(0, 0, 9, 9).await).len(), 3);
    other.execute_batch("ROLLBACK").unwrap();
    known(store.write_rows(0, &rows).await);
    assert_eq!(known(store.events(0, 0, 9, 9).await).len(), 4);
}

#[tokio::test]
async fn a_lock_of_one_file_does_not_block_writes_of_the_other() {
    let folder = tempdir().unwrap();
    let (store, broker) = (store_in(folder.path()), broker_in(folder.path()));
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let store_locked = Connection::open(folder.path().join("store.sqlite")).unwrap();
    store_locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    broker.append(TOPIC, values(0, 0..3)).await.unwrap();
    store_locked.execute_batch("ROLLBACK").unwrap();
    let log_locked = Connection::open(folder.path().join("log.sqlite")).unwrap();
    log_locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    fill(&store, 3).await;
}
