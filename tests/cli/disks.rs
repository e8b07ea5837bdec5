//! Disks that cannot be written: full, read-only, without permission. They need namespaces of users and mounts, which
//! not every Linux gives to every user.

#![cfg(target_os = "linux")]

use std::process::Command;

use crate::harness::{Folder, Said};

/// Runs a script of `sh` with the folder `disk`, 2 MiB large, mounted on a memory file system, and `$X` the program.
fn with_disk(folder: &Folder, script: &str) -> Said {
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
fn a_full_disk_is_called_one() {
    for command in ["run --until-end", "generate", "init", "verify", "topic create --partitions 900"] {
        let folder = Folder::new();
        let fill = "(dd if=/dev/zero of=disk/fill bs=512 2>&1 || true) >/dev/null";
        let said = with_disk(&folder, &format!("{FILLED} && {fill} && $X --data disk/d {command}"));
        assert_eq!(said.code, 4, "{command}: {said}");
        assert!(said.stderr.contains("the disk is full"), "{command}: {said}");
    }
    let folder = Folder::new();
    let said =
        with_disk(&folder, &format!("{FILLED} && $X --data disk/d generate --preset mixed --events 90000"));
    assert!(said.code == 4 && said.stderr.contains("the disk is full"), "{said}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn a_worker_whose_disk_fills_up_says_so_and_its_work_is_whole_afterwards() {
    let folder = Folder::new();
    let script = format!(
        "{FILLED} && $X --data disk/d generate --preset mixed --events 4500 >&2 && \
         (dd if=/dev/zero of=disk/fill bs=512 count=700 2>&1 || true) >/dev/null && \
         ! $X --data disk/d run --until-end && rm disk/fill && mount -o remount,size=9m disk && \
         $X --data disk/d run --until-end && $X --data disk/d verify"
    );
    let said = with_disk(&folder, &script);
    assert!(said.code == 0 && said.stderr.contains("the disk is full"), "{said}");
    assert!(said.stdout.contains("differences   0"), "{said}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn a_read_only_disk_is_called_one() {
    for command in ["run --until-end", "generate", "init", "topic create", "show events"] {
        let folder = Folder::new();
        let script = format!("{FILLED} && mount -o remount,ro disk && $X --data disk/d {command}");
        let said = with_disk(&folder, &script);
        assert_eq!(said.code, 4, "{command}: {said}");
        assert!(said.stderr.contains("mounted read-only"), "{command}: {said}");
    }
    let said = with_disk(&Folder::new(), "mount -o remount,ro disk && $X --data disk/new topic create");
    assert!(said.code == 4 && said.stderr.contains("Read-only file system"), "{said}");
    let said = with_disk(&Folder::new(), "mount -o remount,ro disk && TMPDIR=disk $X demo --events 10");
    assert!(said.code == 4 && said.stderr.contains("Read-only file system"), "{said}");
}

#[test]
#[ignore = "needs namespaces of users and mounts: cargo test --test cli disks -- --ignored"]
fn missing_permissions_are_called_so() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::bound();
    folder.fine("generate --events-per-key 1");
    let set = |mode: u32| {
        for file in ["log.sqlite", "store.sqlite"] {
            set_permissions(folder.data().join(file), Permissions::from_mode(mode))
                .expect("the file is ours");
        }
        set_permissions(folder.data(), Permissions::from_mode(mode | 0o111)).expect("the folder is ours");
    };
    set(0o444);
    for command in ["run --until-end", "generate", "show events", "verify"] {
        // Without privileges over what belongs to the user outside, root included.
        let program = folder.command(command.split(' '));
        let mut unprivileged = Command::new("unshare");
        unprivileged.arg("--user").arg(program.get_program()).args(program.get_args());
        let said = Said::from(unprivileged.current_dir(folder.path()).output().expect("unshare runs"));
        assert_eq!(said.code, 4, "{command}: {said}");
        assert!(
            said.stderr.contains("check the permissions of the file and of its folder"),
            "{command}: {said}"
        );
    }
    set(0o644);
    folder.fine("--set log.level=off run --until-end");
}
