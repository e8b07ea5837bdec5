//! Disks that cannot be written: full, read-only, without permission. These tests need user and mount namespaces, which
//! not every Linux system allows to every user.

#![cfg(target_os = "linux")]

use std::process::Command;

use crate::harness::{Folder, ProgramOutput};

/// Runs a script of `sh` with the folder `disk`, 2 MiB large, mounted on a memory file system, and `$X` the program.
fn with_disk(folder: &Folder, script: &str) -> ProgramOutput {
    let script = format!("mkdir disk && mount -t tmpfs -o size=2m none disk && {script}");
    let program = folder.command([""; 0]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).current_dir(folder.path());
    command.env("X", program.get_program()).output().expect("unshare runs").into()
}

const FILLED: &str = "$X --data disk/d topic create >&2 && $X --data disk/d init >&2 && \
                      $X --data disk/d generate --events-per-key 20 >&2";

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn a_full_disk_is_reported_as_such() {
    for command in ["run --until-end", "generate", "init", "verify", "topic create --partitions 900"] {
        let folder = Folder::new();
        let fill = "(dd if=/dev/zero of=disk/fill bs=512 2>&1 || true) >/dev/null";
        let output = with_disk(&folder, &format!("{FILLED} && {fill} && $X --data disk/d {command}"));
        assert_eq!(output.code, 4, "{command}: {output}");
        assert!(output.stderr.contains("the disk is full"), "{command}: {output}");
    }
    let folder = Folder::new();
    let output =
        with_disk(&folder, &format!("{FILLED} && $X --data disk/d generate --preset mixed --events 90000"));
    assert!(output.code == 4 && output.stderr.contains("the disk is full"), "{output}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn a_worker_whose_disk_fills_up_reports_it_and_the_next_one_completes_the_tables() {
    let folder = Folder::new();
    let script = format!(
        "{FILLED} && $X --data disk/d generate --preset mixed --events 4500 >&2 && \
         (dd if=/dev/zero of=disk/fill bs=512 count=700 2>&1 || true) >/dev/null && \
         ! $X --data disk/d run --until-end && rm disk/fill && mount -o remount,size=9m disk && \
         $X --data disk/d run --until-end && $X --data disk/d verify"
    );
    let output = with_disk(&folder, &script);
    assert!(output.code == 0 && output.stderr.contains("the disk is full"), "{output}");
    assert!(output.stdout.contains("differences   0"), "{output}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn a_read_only_disk_is_reported_as_such() {
    for command in ["run --until-end", "generate", "init", "topic create", "show events"] {
        let folder = Folder::new();
        let script = format!("{FILLED} && mount -o remount,ro disk && $X --data disk/d {command}");
        let output = with_disk(&folder, &script);
        assert_eq!(output.code, 4, "{command}: {output}");
        assert!(output.stderr.contains("mounted read-only"), "{command}: {output}");
    }
    let output = with_disk(&Folder::new(), "mount -o remount,ro disk && $X --data disk/new topic create");
    assert!(output.code == 4 && output.stderr.contains("Read-only file system"), "{output}");
    let output = with_disk(&Folder::new(), "mount -o remount,ro disk && TMPDIR=disk $X demo --events 10");
    assert!(output.code == 4 && output.stderr.contains("Read-only file system"), "{output}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn missing_permissions_are_reported_as_such() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::bound();
    folder.succeed("generate --events-per-key 1");
    let set = |mode: u32| {
        for file in ["log.sqlite", "store.sqlite"] {
            set_permissions(folder.data().join(file), Permissions::from_mode(mode))
                .expect("the file is ours");
        }
        set_permissions(folder.data(), Permissions::from_mode(mode | 0o111)).expect("the folder is ours");
    };
    set(0o444);
    for command in ["run --until-end", "generate", "show events", "verify"] {
        // In a user namespace without privileges over files of users outside, root included.
        let program = folder.command(command.split(' '));
        let mut unprivileged = Command::new("unshare");
        unprivileged.arg("--user").arg(program.get_program()).args(program.get_args());
        let output =
            ProgramOutput::from(unprivileged.current_dir(folder.path()).output().expect("unshare runs"));
        assert_eq!(output.code, 4, "{command}: {output}");
        assert!(
            output.stderr.contains("check the permissions of the file and of its folder"),
            "{command}: {output}"
        );
    }
    set(0o644);
    folder.succeed("--set log.level=off run --until-end");
}
