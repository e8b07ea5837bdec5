//! One worker at a time.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use exactlyonce::sqlite::{LockError, WorkerLock};
use tempfile::tempdir;

use exactlyonce::error::chain;

#[test]
fn a_second_worker_is_told_who_the_first_is() {
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
fn folders_have_locks_of_their_own() {
    let (a, b) = (tempdir().unwrap(), tempdir().unwrap());
    let _a = WorkerLock::acquire(a.path()).unwrap();
    WorkerLock::acquire(b.path()).unwrap();
}

#[test]
fn what_a_lock_file_says_locks_nobody_out() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("worker.lock"), "4194304\nof a worker that was killed\n").unwrap();
    let _first = WorkerLock::acquire(folder.path()).unwrap();
    let text = chain(&WorkerLock::acquire(folder.path()).unwrap_err());
    assert!(text.contains(&format!("process {}:", std::process::id())), "{text}");
}

#[test]
fn a_folder_that_is_not_there_cannot_be_locked() {
    let folder = tempdir().unwrap();
    let error = WorkerLock::acquire(folder.path().join("no")).unwrap_err();
    assert!(matches!(error, LockError::File { .. }), "{error:?}");
    assert!(chain(&error).contains("worker.lock"));
}

#[test]
fn a_killed_worker_leaves_no_lock() {
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
#[ignore = "the other process of a_killed_worker_leaves_no_lock, which starts it"]
fn a_process_that_takes_the_lock() {
    let _lock = WorkerLock::acquire(std::env::var_os("LOCK_FOLDER").unwrap()).unwrap();
    println!("has the lock");
    // Until it is killed, or the test that started it is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}
