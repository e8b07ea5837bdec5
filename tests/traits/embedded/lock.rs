//! The lock that allows one worker at a time.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use exactlyonce::sqlite::{LockError, WorkerLock};
use tempfile::tempdir;

use exactlyonce::error::chain;

#[test]
fn a_second_worker_is_refused_with_the_process_id_of_the_first_one() {
    let folder = tempdir().unwrap();
    let first = WorkerLock::acquire(folder.path()).unwrap();
    for _ in 0..2 {
        let error = WorkerLock::acquire(folder.path()).unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, LockError::Taken { .. }), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    }
    drop(first);
    WorkerLock::acquire(folder.path()).unwrap();
}

#[test]
fn each_folder_has_a_separate_lock() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let _a = WorkerLock::acquire(a.path()).unwrap();
    WorkerLock::acquire(b.path()).unwrap();
}

#[test]
fn the_content_of_a_lock_file_does_not_lock() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("worker.lock"), "4194304\nof a worker that was killed\n").unwrap();
    let _first = WorkerLock::acquire(folder.path()).unwrap();
    let text = chain(&WorkerLock::acquire(folder.path()).unwrap_err());
    assert!(text.contains(&format!("process {}:", std::process::id())), "{text}");
}

#[test]
fn a_missing_folder_cannot_be_locked() {
    let folder = tempdir().unwrap();
    let error = WorkerLock::acquire(folder.path().join("no")).unwrap_err();
    assert!(matches!(error, LockError::File { .. }), "{error:?}");
    assert!(chain(&error).contains("worker.lock"));
}

#[test]
fn the_lock_of_a_killed_worker_is_released() {
    let folder = tempdir().unwrap();
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::lock::a_process_that_takes_the_lock", "--ignored", "--nocapture"])
        .env("LOCK_FOLDER", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("has the lock")));
    let text = chain(&WorkerLock::acquire(folder.path()).unwrap_err());
    assert!(text.contains(&format!("process {}:", worker.id())), "{text}");
    worker.kill().unwrap();
    worker.wait().unwrap();
    WorkerLock::acquire(folder.path()).unwrap();
}

#[test]
#[ignore = "the other process of the_lock_of_a_killed_worker_is_released, which starts it"]
fn a_process_that_takes_the_lock() {
    let _lock = WorkerLock::acquire(std::env::var_os("LOCK_FOLDER").unwrap()).unwrap();
    println!("has the lock");
    // Waits until it is killed, or the test that started it ends.
    let _ = std::io::stdin().read_line(&mut String::new());
}
