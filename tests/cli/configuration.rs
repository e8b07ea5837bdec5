//! Where settings come from, and what is said of wrong ones.

use std::ffi::OsStr;

use crate::harness::{Folder, Said, said};

const FILE: &str =
    "topic = 'from.file'\n\n[window]\nsize_ms = 20_000\nslide_ms = 10_000\n\n[pipeline]\nbatch_records = 7\n";

/// Every layer sets the slide, all but one the topic.
fn layered(arguments: &str) -> (Folder, Said) {
    let folder = Folder::new();
    folder.write("exactlyonce.toml", FILE);
    let environment = [("EXACTLYONCE_TOPIC", "from.environment"), ("EXACTLYONCE_WINDOW_SLIDE_MS", "5000")];
    let said = folder.run_with(&format!("--set window.slide_ms=4000 {arguments}"), &environment);
    (folder, said)
}

#[test]
fn show_names_the_layer_that_each_value_came_from() {
    let (folder, said) = layered("--data there config show");
    said!(&folder, "config-show", said);
    let (folder, said) = layered("--data there config show --json");
    said!(&folder, "config-show-json", said);
}

#[test]
fn what_show_prints_is_a_configuration_of_the_same_values() {
    let (folder, said) = layered("--data there config show");
    let other = Folder::new();
    other.write("exactlyonce.toml", &said.stdout);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(&other.fine("config show")), values(&said.stdout));
    drop(folder);
}

#[test]
fn the_file_that_keys_prints_sets_every_key_to_its_default() {
    let folder = Folder::new();
    let defaults = folder.fine("config show --json");
    folder.write("exactlyonce.toml", folder.fine("config keys"));
    let parse = |text: &str| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(text).expect("JSON")
    };
    let (defaults, from_file) = (parse(&defaults), parse(&folder.fine("config show --json")));
    assert_eq!(defaults.len(), from_file.len());
    for (key, shown) in from_file {
        assert_eq!(shown["from"]["kind"], "file", "{key}");
        assert_eq!(shown["value"], defaults[&key]["value"], "{key}");
    }
}

#[test]
fn keys_explains_every_key() {
    let folder = Folder::new();
    said!(&folder, "config-keys", folder.run("config keys"));
}

#[test]
fn check_says_what_it_checked() {
    let (folder, said) = layered("config check");
    said!(&folder, "config-check", said);
}

#[test]
fn a_file_is_named_by_flag_or_variable_and_must_then_be_there() {
    let folder = Folder::new();
    folder.write("other.toml", "topic = 'other'");
    let topic = |said: Said| said.stdout.lines().next().map(str::to_owned);
    let expected = Some("topic = \"other\"  # other.toml:1".to_owned());
    assert_eq!(topic(folder.run("--config other.toml config show")), expected);
    assert_eq!(topic(folder.run_with("config show", &[("EXACTLYONCE_CONFIG", "other.toml")])), expected);
    said!(&folder, "config-file-missing", folder.run("--config none.toml config show"));
}

#[test]
fn every_kind_of_wrong_file_is_refused_with_its_line() {
    let folder = Folder::new();
    let wrong: [(&str, &[u8]); 8] = [
        ("unknown-keys", b"topc = 'a'\n[pipelin]\nbatch_records = 1\n[broker]\nwrite_bytes = 1\n"),
        (
            "types",
            b"topic = 1\n[window]\nsize_ms = '5 s'\nhealth = 'critical'\n[store]\nreplication = true\n",
        ),
        (
            "ranges",
            b"[pipeline]\nbatch_records = 0\ncounts_cache_bytes = 1\n[window]\nthreshold = 2_147_483_648\n",
        ),
        ("choices", b"[broker]\nkind = 'rabbit'\n[window]\nhealth = ['bad']\n[log]\nlevel = 'loud'\n"),
        ("names", b"topic = 'a b'\n[store]\nkeyspace = 'a; DROP KEYSPACE b'\nreplication = {\"a'\" = 1}\n"),
        ("together", b"[window]\nslide_ms = 6_000\n[pipeline]\nbackoff_min_ms = 6_000\n"),
        ("not-toml", b"[window]\nsize_ms = = 5\n"),
        ("not-utf8", b"topic = 'a'\n# \xff\n"),
    ];
    for (name, content) in wrong {
        folder.write("exactlyonce.toml", content);
        for command in ["config check", "config show", "run --until-end"] {
            let said = folder.run(command);
            assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{name}: {said}");
        }
        said!(&folder, format!("config-wrong-{name}"), folder.run("config check"));
    }
}

#[test]
fn wrong_variables_and_flags_are_refused_by_name() {
    let folder = Folder::new();
    let variables = [
        ("EXACTLYONCE_PIPELINE_BATCH_RECORD", "5"),
        ("EXACTLYONCE_WINDOW_SIZE_MS", "5s"),
        ("EXACTLYONCE_WINDOW_HEALTH", "critical,bad"),
        ("EXACTLYONCE_XYZ", ""),
    ];
    said!(&folder, "config-wrong-variables", folder.run_with("config check", &variables));
    let flags = "--topic a/b --set window --set windo.size_ms=1 --set log.format=xml config check";
    said!(&folder, "config-wrong-flags", folder.run(flags));
}

#[test]
fn an_ipv6_address_stands_in_brackets_wherever_it_is_set() {
    let folder = Folder::new();
    let is = |said: &Said, key: &str, value: &str| {
        assert_eq!(said.code, 0, "{said}");
        assert!(said.stdout.contains(&format!("\n{key} = {value}  # ")), "{said}");
    };
    let points = "contact_points";
    is(&folder.run("--set cassandra.contact_points=[::1]:9042 config show"), points, "[\"[::1]:9042\"]");
    is(&folder.run("--set cassandra.contact_points=[::1],a:1 config show"), points, "[\"[::1]\", \"a:1\"]");
    let variables = [
        ("EXACTLYONCE_CASSANDRA_CONTACT_POINTS", "[::1]:9042"),
        ("EXACTLYONCE_KAFKA_BOOTSTRAP_SERVERS", "[::1]:9092"),
    ];
    is(&folder.run_with("config show", &variables), points, "[\"[::1]:9042\"]");
    is(&folder.run_with("config show", &variables), "bootstrap_servers", "\"[::1]:9092\"");
    folder.write(
        "exactlyonce.toml",
        "[cassandra]\ncontact_points = ['[::1]:9042']\n[kafka]\nbootstrap_servers = '[::1]:1,b:2'\n",
    );
    is(&folder.run("config show"), points, "[\"[::1]:9042\"]");
    is(&folder.run("config show"), "bootstrap_servers", "\"[::1]:1,b:2\"");
    for (set, message) in [
        (
            "kafka.bootstrap_servers=::1:9092",
            "\"::1:9092\" has an IPv6 address without brackets: write [address]:port",
        ),
        ("kafka.bootstrap_servers=a:1,", "an item is empty"),
        ("kafka.bootstrap_servers=a:0", "\"a:0\" has a port that is not from 1 to 65535"),
        ("kafka.bootstrap_servers=a:65536", "\"a:65536\" has a port that is not from 1 to 65535"),
        ("kafka.bootstrap_servers=a", "\"a\" has no port"),
        ("cassandra.contact_points=::1", "\"::1\" has an IPv6 address without brackets"),
        ("cassandra.contact_points=a,,b", "an item is empty"),
        ("cassandra.contact_points=a:0", "\"a:0\" has a port that is not from 1 to 65535"),
        ("cassandra.contact_points=[::1", "\"[::1\" lacks a closing bracket"),
    ] {
        for command in ["config check", "run --until-end"] {
            let said = folder.run(&format!("--set {set} {command}"));
            assert!(said.code == 2 && said.stderr.contains(message), "{set}: {said}");
        }
    }
}

#[test]
fn secrets_are_refused_in_flags_with_where_to_set_them() {
    let folder = Folder::new();
    for (name, by) in [
        (
            "cassandra.password",
            "cassandra.password_file, the environment variable EXACTLYONCE_CASSANDRA_PASSWORD",
        ),
        (
            "kafka.sasl_password",
            "kafka.sasl_password_file, the environment variable EXACTLYONCE_KAFKA_SASL_PASSWORD",
        ),
        ("kafka.tls_key_password", "kafka.tls_key_password_file, the environment"),
        ("kafka.properties.ssl.keystore.password", "the environment variable EXACTLYONCE_KAFKA_PROPERTIES"),
        (
            "kafka.properties.Sasl.OAuthBearer.Client.Secret",
            "the environment variable EXACTLYONCE_KAFKA_PROPERTIES",
        ),
        ("kafka.properties.sasl.jaas.config", "the environment variable EXACTLYONCE_KAFKA_PROPERTIES"),
    ] {
        for command in ["config check", "topic create", "run"] {
            let said = folder.run(&format!("--set {name}=hunter2 {command}"));
            assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{name}: {said}");
            assert!(
                said.stderr.contains(&format!("{name} is a secret")) && said.stderr.contains(by),
                "{said}"
            );
            assert!(!said.stderr.contains("hunter2"), "{said}");
        }
        // An unset value is not secret.
        folder.fine(&format!("--set {name}= config check"));
    }
    let said = folder.run("--set kafka.properties={ssl.key.pem=\"hunter2\"} config check");
    assert!(said.code == 2 && said.stderr.contains("kafka.properties.ssl.key.pem is a secret"), "{said}");
    assert!(!folder.data().exists());
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let mut command = folder.command(["config", "check"]);
    command.env("EXACTLYONCE_TOPIC", OsStr::from_bytes(b"\xff"));
    said!(&folder, "config-wrong-bytes", Said::from(command.output().expect("the program starts")));
}

#[test]
fn a_kind_that_this_build_does_not_have_is_refused_with_the_feature_that_it_lacks() {
    let folder = Folder::new();
    let kinds = [
        ("broker.kind=kafka", "kafka", cfg!(feature = "kafka")),
        ("store.kind=cassandra", "cassandra", cfg!(feature = "cassandra")),
    ];
    for (set, feature, built) in kinds {
        let said = folder.run(&format!("--set {set} config check"));
        assert_eq!(said.code, if built { 0 } else { 2 }, "{said}");
        for command in ["run --until-end", "init", "show progress"].iter().filter(|_| !built) {
            let said = folder.run(&format!("--set {set} {command}"));
            assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{command}: {said}");
            let message = format!("it was built without the feature `{feature}`");
            assert!(said.stderr.contains(&message), "{command}: {said}");
        }
    }
    // The schema can be printed without a driver for Cassandra.
    folder.fine("--set store.kind=cassandra schema print");
}

/// A port of this machine on which nothing listens.
#[cfg(all(feature = "kafka", feature = "cassandra"))]
const NO_LISTENER: &str = "--set services.start_deadline_ms=400 --set kafka.bootstrap_servers=127.0.0.1:1 \
                      --set cassandra.contact_points=127.0.0.1:1";

#[cfg(all(feature = "kafka", feature = "cassandra"))]
#[test]
fn an_unavailable_service_is_named_with_its_address() {
    let folder = Folder::new();
    folder.fine("topic create");
    for (kind, service, commands) in [
        ("broker.kind=kafka", "kafka", ["topic describe", "generate", "run", "show records"]),
        ("store.kind=cassandra", "cassandra", ["schema apply", "init", "verify", "show events"]),
    ] {
        for command in commands {
            let said = folder.run(&format!("{NO_LISTENER} --set {kind} {command}"));
            assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{command}: {said}");
            let message = format!("error: {service} at 127.0.0.1:1 is unavailable: no response within ");
            assert!(said.stderr.contains(&message), "{command}: {said}");
        }
    }
}

#[cfg(all(feature = "kafka", feature = "cassandra", feature = "tls"))]
#[test]
fn no_command_shows_a_secret() {
    let folder = Folder::new();
    folder.write("secret", "hunter2-file\n");
    folder.write(
        "exactlyonce.toml",
        "broker.kind = 'kafka'\nstore.kind = 'cassandra'\nlog.level = 'trace'\n[kafka]\ntls = true\n\
         tls_key_file = 'secret'\ntls_certificate_file = 'secret'\ntls_key_password = 'hunter2-toml'\n\
         sasl_mechanism = 'plain'\nsasl_username = 'me'\n[cassandra]\nusername = 'me'\n\
         password_file = 'secret'\n",
    );
    let password = [("EXACTLYONCE_KAFKA_SASL_PASSWORD", "hunter2-environment")];
    let commands = [
        "config show",
        "config show --json",
        "config check",
        "config keys",
        "topic create",
        "topic describe",
        "schema print",
        "schema apply",
        "schema check",
        "init",
        "generate",
        "run --until-end",
        "verify",
        "show records",
        "show events",
        "show progress",
        "demo --events 10 --kills 0",
        // Wrong in every way.
        "--set kafka.sasl_password_file=secret config check",
        "--set kafka.tls_key_password_file=none config check",
        "--set cassandra.password=hunter2-flag run",
        "--set kafka.tls=false config check",
        "--set kafka.sasl_mechanism=none config show",
        "--set kafka.properties=hunter2-properties config show",
        "--set kafka.properties.sasl.password=hunter2-property config show",
        "--set kafka.properties.ssl.keystore.password=hunter2-property run",
        "--set kafka.sasl_password:hunter2-typo config show",
        "--set kafka.sasl_pasword=hunter2-typo config show",
    ];
    for command in commands {
        let said = folder.run_with(&format!("{NO_LISTENER} {command}"), &password).to_string();
        assert!(!said.contains("hunter2"), "{command}: {said}");
    }
    let shown = folder.run_with("config show", &password).to_string();
    assert_eq!(shown.matches("\"***\"").count(), 2, "{shown}");
    // What is not even a configuration.
    for line in [
        "sasl_password = hunter2",
        "sasl_password = 'hunter2",
        "sasl_password = [\"hunter2\"]",
        "properties = 'hunter2'",
    ] {
        folder.write("exactlyonce.toml", format!("[kafka]\n{line}\n"));
        let said = folder.run("config show");
        assert!(said.code == 2 && !said.to_string().contains("hunter2"), "{line}: {said}");
    }
}
