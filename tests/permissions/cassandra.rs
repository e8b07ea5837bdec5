//! Each command on Cassandra, by a role with exactly its permissions, and by a role with one permission less. The log is
//! embedded.

use std::path::Path;

use openssl::ssl::{SslContextBuilder, SslMethod, SslVerifyMode};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::program::WorkFolder;
use crate::{unique_name, variable};

/// What a role may do on the keyspace of the test; `CREATE ON ALL KEYSPACES` is the exception.
type Permission = &'static str;

const ON_ALL: Permission = "CREATE ON ALL KEYSPACES";

/// Creates the keyspace without tables, in place of a command.
const KEYSPACE: &str = "create keyspace";

/// Commands that an administrator runs before.
const WRITTEN: &[&str] = &["topic create", "generate --preset mixed --events 20"];
const APPLIED: &[&str] = &["topic create", "generate --preset mixed --events 20", "schema apply"];
const BOUND: &[&str] = &["topic create", "generate --preset mixed --events 20", "init"];
const PROCESSED: &[&str] =
    &["topic create", "generate --preset mixed --events 20", "init", "run --until-end"];

/// Who creates a keyspace or a table has all permissions on it.
#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn what_creates_the_keyspace_needs_its_permissions() {
    check("schema apply", WRITTEN, &[ON_ALL]).await;
    check("init", WRITTEN, &[ON_ALL]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn what_creates_the_tables_needs_its_permissions() {
    check("schema apply", &[KEYSPACE], &["CREATE"]).await;
    check("init", &["topic create", KEYSPACE], &["CREATE"]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn with_the_schema_init_and_schema_apply_need_no_permission_to_create() {
    check("schema apply", APPLIED, &[]).await;
    check("init", APPLIED, &["SELECT", "MODIFY"]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn run_needs_its_permissions() {
    check("run --until-end", BOUND, &["SELECT", "MODIFY"]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn change_consistency_needs_its_permissions() {
    let command = "--set cassandra.consistency=local_quorum --set cassandra.datacenter=dc1 change-consistency \
                   --from quorum --workers-are-stopped --keyspace-is-repaired";
    check(command, BOUND, &["SELECT", "MODIFY"]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn verify_and_show_need_their_permissions() {
    check("verify", PROCESSED, &["SELECT"]).await;
    check("show progress", PROCESSED, &["SELECT"]).await;
    check("show alerts", PROCESSED, &["SELECT"]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1 --secure"]
async fn generate_and_schema_check_need_no_permission() {
    check("generate --preset mixed --events 20", WRITTEN, &[]).await;
    check("schema check", APPLIED, &[]).await;
}

/// Runs the command with all of the permissions, and then without each of them.
async fn check(command: &str, before: &[&str], permissions: &[Permission]) {
    let session = session().await;
    for missing in std::iter::once(None).chain(permissions.iter().copied().map(Some)) {
        // A role for each run, because nodes cache what a role may do.
        let name = &unique_name();
        let folder = WorkFolder::configured(&configuration(name, name, &password_file()));
        let administrator =
            configuration(name, &variable("CASSANDRA_USER"), &variable("CASSANDRA_PASSWORD_FILE"));
        std::fs::write(folder.path().join("administrator.toml"), administrator).expect("written");
        for command in before {
            match *command {
                KEYSPACE => {
                    let replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}";
                    let create = format!("CREATE KEYSPACE {name} WITH replication = {replication}");
                    session.query_unpaged(create, ()).await.expect("a superuser may do it");
                }
                command => drop(folder.succeed(&format!("--config administrator.toml {command}"))),
            }
        }
        let password = std::fs::read_to_string(password_file()).expect("a password");
        let mut statements =
            vec![format!("CREATE ROLE {name} WITH PASSWORD = '{}' AND LOGIN = true", password.trim())];
        for permission in permissions.iter().filter(|permission| Some(**permission) != missing) {
            statements.push(match *permission {
                ON_ALL => format!("GRANT {ON_ALL} TO {name}"),
                permission => format!("GRANT {permission} ON KEYSPACE {name} TO {name}"),
            });
        }
        for statement in statements {
            session.query_unpaged(statement, ()).await.expect("a superuser may do it");
        }
        let output = folder.run(command);
        println!("{command} without {missing:?}: {output}");
        let expected = if missing.is_none() { 0 } else { 2 };
        assert_eq!(output.code, expected, "{command} without {missing:?}: {output}");
    }
}

/// The password of the roles of these tests.
fn password_file() -> String {
    variable("CASSANDRA_UNAUTHORIZED_PASSWORD_FILE")
}

fn configuration(keyspace: &str, user: &str, password_file: &str) -> String {
    format!(
        "[store]\nkind = 'cassandra'\nkeyspace = '{keyspace}'\n[cassandra]\ncontact_points = ['{}']\ntls = true\n\
         tls_ca_file = '{}'\nusername = '{user}'\npassword_file = '{password_file}'\n[services]\n\
         start_deadline_ms = 15_000\n",
        variable("CASSANDRA"),
        variable("CA_PEM"),
    )
}

/// A session of the superuser.
async fn session() -> Session {
    let mut context = SslContextBuilder::new(SslMethod::tls_client()).expect("a context");
    context.set_ca_file(variable("CA_PEM")).expect("an authority");
    context.set_verify(SslVerifyMode::PEER);
    let password =
        std::fs::read_to_string(Path::new(&variable("CASSANDRA_PASSWORD_FILE"))).expect("a password");
    let builder = SessionBuilder::new()
        .known_node(variable("CASSANDRA"))
        .user(variable("CASSANDRA_USER"), password.trim())
        .tls_context(Some(context.build()));
    builder.build().await.expect("the node accepts the superuser")
}
