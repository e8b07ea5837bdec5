//! kcat of Debian, with the older librdkafka 2.0 of the same release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::brokers;
use super::brokers::Brokers;
use super::clients::{folder, run};

const LONGEST: Duration = Duration::from_secs(120);

/// The folder with kcat and its libraries, unpacked first if it is not there.
fn unpacked() -> PathBuf {
    let folder = folder("kafka-clients-kcat");
    let (files, mark) = (folder.join("files"), folder.join("unpacked"));
    if !mark.exists() {
        let mut fetch = Command::new("apt-get");
        run(fetch.args(["download", "kcat", "librdkafka1", "libyajl2"]).current_dir(&folder), LONGEST);
        for package in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path()) {
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&files), LONGEST);
            }
        }
        fs::write(mark, "").expect("a file");
    }
    files
}

/// The folder of a library, which has the name of the architecture.
fn libraries(files: &Path) -> PathBuf {
    let folders =
        fs::read_dir(files.join("usr/lib")).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut with_it = folders.filter(|folder| folder.join("librdkafka.so.1").exists());
    with_it.next().expect("librdkafka is there")
}

fn kcat(brokers: &Brokers, arguments: &[&str]) -> String {
    let files = unpacked();
    let mut command = Command::new(files.join("usr/bin/kcat"));
    command.env("LD_LIBRARY_PATH", libraries(&files)).args(["-b", &brokers.address]).args(arguments);
    run(&mut command, LONGEST)
}

#[test]
#[ignore = "needs Debian's apt-get and dpkg-deb, and the network"]
fn kcat_lists_brokers_produces_with_every_compression_consumes_and_finds_offsets() {
    let brokers = brokers(&[]);
    let records: Vec<String> = (0..500).map(|number| format!("{number}:value {number}")).collect();
    let file = folder("kafka-clients-kcat").join(format!("records-{}", std::process::id()));
    fs::write(&file, records.join("\n") + "\n").expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("kcat-{codec}");
        kcat(&brokers, &["-P", "-t", &topic, "-z", codec, "-K", ":", "-l", path]);
        let said = kcat(&brokers, &["-C", "-t", &topic, "-o", "beginning", "-e", "-q", "-K", ":"]);
        let mut read: Vec<&str> = said.lines().collect();
        let mut written: Vec<&str> = records.iter().map(String::as_str).collect();
        read.sort();
        written.sort();
        assert_eq!(read, written, "{codec}");
    }
    let said = kcat(&brokers, &["-L"]);
    assert!(
        said.contains(" 3 brokers:") && said.contains("topic \"kcat-zstd\" with 4 partitions:"),
        "{said}"
    );
    let ends = (0..4).map(|partition| kcat(&brokers, &["-Q", "-t", &format!("kcat-gzip:{partition}:-1")]));
    let count = |said: String| -> u64 {
        let (_, offset) = said.trim().rsplit_once(' ').expect("an offset");
        offset.parse().expect("a number")
    };
    assert_eq!(ends.map(count).sum::<u64>(), 500);
    fs::remove_file(file).expect("it is there");
    brokers.end();
}
