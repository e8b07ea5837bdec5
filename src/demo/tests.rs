//! Tests of the demonstration.

use super::*;

fn options(records: u64, kills: u32, seed: u64) -> Options {
    Options {
        folder: PathBuf::new(),
        embedded: sqlite::Options::default(),
        binding_spec: BindingSpec::new("t"),
        layout: Layout::ORIGINAL,
        records,
        kills,
        seed,
        worker: Worker { program: PathBuf::new(), arguments: Vec::new() },
    }
}

fn stored(options: &Options) -> Vec<u64> {
    kill_points(options).iter().map(|kill_point| kill_point.stored).collect()
}

#[test]
fn the_seed_determines_the_kills_and_each_is_in_its_own_range_of_records() {
    let options = options(300_000, 10, 7);
    assert_eq!(stored(&options), stored(&options));
    assert_ne!(stored(&options), stored(&Options { seed: 8, ..options.clone() }));
    for (part, stored) in (0..).zip(stored(&options)) {
        assert_eq!(stored / 24_000, part, "{stored}");
    }
    assert!(kill_points(&options).iter().all(|kill_point| kill_point.delay < Duration::from_millis(25)));
}

#[test]
fn extreme_numbers_of_records_and_kills_are_accepted() {
    assert!(stored(&options(300_000, 0, 7)).is_empty());
    assert_eq!(stored(&options(1, 3, 7)), [0, 0, 0]);
    assert_eq!(stored(&options(u64::MAX, 2, 7)).len(), 2);
}

#[test]
fn batches_are_small_enough_for_kills_to_interrupt_one() {
    assert_eq!(batch_records(300_000, 10, 4), 2_000);
    assert_eq!(batch_records(300_000, 0, 4), 2_500);
    assert_eq!(batch_records(20_000, 100, 4), 13);
    assert_eq!(batch_records(1, 1, 0), 1);
}

#[test]
fn a_given_folder_must_be_empty_and_a_temporary_one_is_removed() {
    let temporary = Folder::temporary().unwrap();
    let path = temporary.path().join("a/b");
    assert_eq!(Folder::given(&path).unwrap().path(), path);
    assert!(Folder::given(&path).is_ok());
    std::fs::write(path.join("file"), "").unwrap();
    assert!(matches!(Folder::given(&path), Err(DemoError::NotEmpty { .. })));
    assert!(matches!(Folder::given(path.join("file")), Err(DemoError::Folder { .. })));
    let gone = temporary.path().to_owned();
    drop(temporary);
    assert!(!gone.exists());
    let mut kept = Folder::temporary().unwrap();
    kept.keep();
    let path = kept.path().to_owned();
    drop(kept);
    std::fs::remove_dir(path).unwrap();
}

#[tokio::test]
async fn a_worker_that_fails_is_reported_with_its_messages() {
    let folder = Folder::temporary().unwrap();
    let worker = |script: &str| Worker { program: "sh".into(), arguments: vec!["-c".into(), script.into()] };
    let failed = Options {
        folder: folder.path().to_owned(),
        worker: worker("echo 'the disk is on fire' >&2; exit 3"),
        ..options(10, 0, 7)
    };
    let error = run(&failed, |_| {}, std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("the disk is on fire") && error.contains("exit status: 3"), "{error}");
}

#[tokio::test]
async fn a_worker_that_ends_before_the_end_of_the_log_is_an_error() {
    let folder = Folder::temporary().unwrap();
    let worker = Worker { program: "true".into(), arguments: Vec::new() };
    let idle = Options { folder: folder.path().to_owned(), worker, ..options(10, 0, 7) };
    let error = run(&idle, |_| {}, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, DemoError::EndedEarly { stored: 0, records: 10 }), "{error}");
}

#[tokio::test]
async fn a_stop_kills_the_worker() {
    let folder = Folder::temporary().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 1000", pid.display());
    let worker = Worker { program: "sh".into(), arguments: vec!["-c".into(), script.into()] };
    let sleeping = Options { folder: folder.path().to_owned(), worker, ..options(10, 0, 7) };
    let started = async {
        while !std::fs::read_to_string(&pid).is_ok_and(|id| id.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = run(&sleeping, |_| {}, started).await.unwrap_err();
    assert!(matches!(error, DemoError::Stopped), "{error}");
    let id = std::fs::read_to_string(&pid).unwrap();
    let alive = std::process::Command::new("kill").args(["-0", id.trim()]).output().unwrap();
    assert!(!alive.status.success(), "process {id} is still running");
}
