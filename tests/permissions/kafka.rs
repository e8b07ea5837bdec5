//! Each command on Kafka, by a user with exactly its permissions, and by that user with one permission less. The tables
//! are embedded.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use crate::program::WorkFolder;
use crate::{unique_name, variable};

/// A permission on the topic, or on the group, of the test (org.apache.kafka.common.acl.AclOperation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permission {
    Topic(Operation),
    Group(Operation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Describe = 8,
    DescribeConfigs = 10,
}

use Operation::{Create, Describe, DescribeConfigs, Read as ReadIt, Write as WriteIt};
use Permission::{Group, Topic};

/// Commands that an administrator runs before.
const CREATED: &[&str] = &["topic create"];
const WRITTEN: &[&str] = &["topic create", "generate --preset mixed --events 20"];
const BOUND: &[&str] = &["topic create", "generate --preset mixed --events 20", "init"];
const PROCESSED: &[&str] =
    &["topic create", "generate --preset mixed --events 20", "init", "run --until-end"];

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn topic_create_needs_its_permissions() {
    check("topic create", &[], &[Topic(Create), Topic(Describe), Topic(DescribeConfigs)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn topic_describe_needs_its_permissions() {
    check("topic describe", CREATED, &[Topic(Describe), Topic(DescribeConfigs)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn generate_needs_its_permissions() {
    check("generate --preset mixed --events 20", CREATED, &[Topic(WriteIt), Topic(DescribeConfigs)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn init_needs_its_permissions() {
    check("init", WRITTEN, &[Topic(Describe), Topic(DescribeConfigs)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn run_needs_its_permissions() {
    check("run --until-end", BOUND, &[Topic(ReadIt), Topic(DescribeConfigs), Group(ReadIt)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn verify_needs_its_permissions() {
    check("verify", PROCESSED, &[Topic(ReadIt), Topic(DescribeConfigs)]);
}

#[test]
#[ignore = "needs services: docker/local/cluster up --kafka 1 --secure"]
fn show_needs_its_permissions() {
    check("show records --partition 0", WRITTEN, &[Topic(ReadIt), Topic(DescribeConfigs)]);
    check("show progress", PROCESSED, &[Topic(Describe), Topic(DescribeConfigs)]);
}

/// Runs the command with all of the permissions, and then without each of them.
fn check(command: &str, before: &[&str], permissions: &[Permission]) {
    for missing in std::iter::once(None).chain(permissions.iter().copied().map(Some)) {
        let name = unique_name();
        let folder = WorkFolder::configured(&limited(&name));
        std::fs::write(folder.path().join("administrator.toml"), administrator(&name)).expect("written");
        for command in before {
            folder.succeed(&format!("--config administrator.toml {command}"));
        }
        for permission in permissions.iter().filter(|permission| Some(**permission) != missing) {
            grant(*permission, &name).expect("the broker accepts it");
        }
        // The broker applies a permission a moment after it has accepted it.
        sleep(Duration::from_millis(500));
        let output = folder.run(command);
        println!("{command} without {missing:?}: {output}");
        let expected = if missing.is_none() { 0 } else { 2 };
        assert_eq!(output.code, expected, "{command} without {missing:?}: {output}");
    }
}

/// The configuration of the user whose permissions are tested.
fn limited(name: &str) -> String {
    format!(
        "topic = '{name}'\n[broker]\nkind = 'kafka'\n[kafka]\nbootstrap_servers = '{}'\ntls = true\ntls_ca_file = '{}'\n\
         sasl_mechanism = 'plain'\nsasl_username = '{}'\nsasl_password_file = '{}'\n[pipeline]\ngroup = '{name}'\n\
         [services]\nstart_deadline_ms = 15_000\n",
        variable("KAFKA_SASL_SSL"),
        variable("CA_PEM"),
        variable("KAFKA_UNAUTHORIZED_USER"),
        variable("KAFKA_UNAUTHORIZED_PASSWORD_FILE"),
    )
}

/// The configuration of a superuser.
fn administrator(name: &str) -> String {
    format!(
        "topic = '{name}'\n[broker]\nkind = 'kafka'\n[kafka]\nbootstrap_servers = '{}'\n[pipeline]\ngroup = '{name}'\n",
        variable("KAFKA"),
    )
}

/// Grants a permission by a CreateAcls request, version 1, which librdkafka's safe API does not offer.
fn grant(permission: Permission, name: &str) -> io::Result<()> {
    // org.apache.kafka.common.resource.ResourceType
    let (resource, operation) = match permission {
        Topic(operation) => (2, operation),
        Group(operation) => (3, operation),
    };
    const CREATE_ACLS: i16 = 30;
    const LITERAL: u8 = 3;
    const ALLOW: u8 = 3;
    let mut frame = Vec::new();
    frame.extend(CREATE_ACLS.to_be_bytes());
    frame.extend(1_i16.to_be_bytes());
    frame.extend(7_i32.to_be_bytes()); // correlation id
    put_string(&mut frame, "permissions");
    frame.extend(1_i32.to_be_bytes());
    frame.push(resource);
    put_string(&mut frame, name);
    frame.push(LITERAL);
    put_string(&mut frame, &format!("User:{}", variable("KAFKA_UNAUTHORIZED_USER")));
    put_string(&mut frame, "*");
    frame.push(operation as u8);
    frame.push(ALLOW);
    let mut connection = TcpStream::connect(variable("KAFKA"))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.write_all(&(frame.len() as u32).to_be_bytes())?;
    connection.write_all(&frame)?;
    // Size, correlation id, throttle time, number of results, and the error code of the only one.
    let mut response = [0; 18];
    connection.read_exact(&mut response)?;
    match response[16..] {
        [0, 0] => Ok(()),
        ref code => Err(io::Error::other(format!("error code {code:?}"))),
    }
}

fn put_string(frame: &mut Vec<u8>, text: &str) {
    frame.extend((text.len() as u16).to_be_bytes());
    frame.extend(text.as_bytes());
}
