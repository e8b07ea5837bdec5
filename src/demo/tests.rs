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
    moments(options).iter().map(|moment| moment.stored).collect()
}

#[test]
fn moments_are_decided_by_the_seed_and_each_has_a_part_of_the_work_to_itself() {
    let options = options(300_000, 10, 7);
    assert_eq!(stored(&options), stored(&options));
    assert_ne!(stored(&options), stored(&Options { seed: 8, ..options.clone() }));
    for (part, stored) in (0..).zip(stored(&options)) {
        assert_eq!(stored / 24_000, part, "{stored}");
    }
    assert!(moments(&options).iter().all(|moment| moment.delay < Duration::from_millis(25)));
}

#[test]
fn odd_sizes_have_moments_too() {
    assert!(stored(&options(300_000, 0, 7)).is_empty());
    assert_eq!(stored(&options(1, 3, 7)), [0, 0, 0]);
    assert_eq!(stored(&options(u64::MAX, 2, 7)).len(), 2);
}

#[test]
fn batches_are_small_enough_for_kills_to_find_work_under_way() {
    assert_eq!(batch_records(300_000, 10, 4), 2_000);
    assert_eq!(batch_records(300_000, 0, 4), 2_500);
    assert_eq!(batch_records(20_000, 100, 4), 13);
    assert_eq!(batch_records(1, 1, 0), 1);
}

#[test]
fn a_given_folder_must_be_empty_and_a_temporary_one_goes_away() {
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
async fn a_worker_that_ends_too_early_proves_nothing() {
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
    assert!(!alive.status.success(), "process {id} lives");
}
