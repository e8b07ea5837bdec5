//! The sources of settings, and the messages about invalid ones.

use std::ffi::OsStr;

use crate::harness::{Folder, ProgramOutput, assert_output};

const FILE: &str =
    "topic = 'from.file'\n\n[window]\nsize_ms = 20_000\nslide_ms = 10_000\n\n[pipeline]\nbatch_records = 7\n";

/// Every layer sets the slide; all but one set the topic.
fn layered(arguments: &str) -> (Folder, ProgramOutput) {
    let folder = Folder::new();
    folder.write("exactlyonce.toml", FILE);
    let environment = [("EXACTLYONCE_TOPIC", "from.environment"), ("EXACTLYONCE_WINDOW_SLIDE_MS", "5000")];
    let output = folder.run_with(&format!("--set window.slide_ms=4000 {arguments}"), &environment);
    (folder, output)
}

#[test]
fn show_prints_the_source_of_each_value() {
    let (folder, output) = layered("--data there config show");
    assert_output!(&folder, "config-show", output);
    let (folder, output) = layered("--data there config show --json");
    assert_output!(&folder, "config-show-json", output);
}

#[test]
fn the_output_of_show_is_a_configuration_with_the_same_values() {
    let (folder, output) = layered("--data there config show");
    let other = Folder::new();
    other.write("exactlyonce.toml", &output.stdout);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(&other.succeed("config show")), values(&output.stdout));
    drop(folder);
}

#[test]
fn the_file_that_keys_prints_sets_every_key_to_its_default() {
    let folder = Folder::new();
    let defaults = folder.succeed("config show --json");
    folder.write("exactlyonce.toml", folder.succeed("config keys"));
    let parse = |text: &str| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(text).expect("JSON")
    };
    let (defaults, from_file) = (parse(&defaults), parse(&folder.succeed("config show --json")));
    assert_eq!(defaults.len(), from_file.len());
    for (key, shown) in from_file {
        assert_eq!(shown["from"]["kind"], "file", "{key}");
        assert_eq!(shown["value"], defaults[&key]["value"], "{key}");
    }
}

#[test]
fn keys_explains_every_key() {
    let folder = Folder::new();
    assert_output!(&folder, "config-keys", folder.run("config keys"));
}

#[test]
fn check_lists_what_it_checked() {
    let (folder, output) = layered("config check");
    assert_output!(&folder, "config-check", output);
}

#[test]
fn a_file_named_by_a_flag_or_variable_must_exist() {
    let folder = Folder::new();
    folder.write("other.toml", "topic = 'other'");
    let topic = |output: ProgramOutput| output.stdout.lines().next().map(str::to_owned);
    let expected = Some("topic = \"other\"  # other.toml:1".to_owned());
    assert_eq!(topic(folder.run("--config other.toml config show")), expected);
    assert_eq!(topic(folder.run_with("config show", &[("EXACTLYONCE_CONFIG", "other.toml")])), expected);
    assert_output!(&folder, "config-file-missing", folder.run("--config none.toml config show"));
}

#[test]
fn every_kind_of_invalid_file_is_refused_with_the_line() {
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
        ("contradictions", b"[window]\nslide_ms = 6_000\n[pipeline]\nbackoff_min_ms = 6_000\n"),
        ("not-toml", b"[window]\nsize_ms = = 5\n"),
        ("not-utf8", b"topic = 'a'\n# \xff\n"),
    ];
    for (name, content) in wrong {
        folder.write("exactlyonce.toml", content);
        for command in ["config check", "config show", "run --until-end"] {
            let output = folder.run(command);
            assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{name}: {output}");
        }
        assert_output!(&folder, format!("config-wrong-{name}"), folder.run("config check"));
    }
}

#[test]
fn invalid_variables_and_flags_are_refused_by_name() {
    let folder = Folder::new();
    let variables = [
        ("EXACTLYONCE_PIPELINE_BATCH_RECORD", "5"),
        ("EXACTLYONCE_WINDOW_SIZE_MS", "5s"),
        ("EXACTLYONCE_WINDOW_HEALTH", "critical,bad"),
        ("EXACTLYONCE_XYZ", ""),
    ];
    assert_output!(&folder, "config-wrong-variables", folder.run_with("config check", &variables));
    let flags = "--topic a/b --set window --set windo.size_ms=1 --set log.format=xml config check";
    assert_output!(&folder, "config-wrong-flags", folder.run(flags));
}

#[test]
fn an_ipv6_address_requires_brackets_in_every_source() {
    let folder = Folder::new();
    let is = |output: &ProgramOutput, key: &str, value: &str| {
        assert_eq!(output.code, 0, "{output}");
        assert!(output.stdout.contains(&format!("\n{key} = {value}  # ")), "{output}");
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
            let output = folder.run(&format!("--set {set} {command}"));
            assert!(output.code == 2 && output.stderr.contains(message), "{set}: {output}");
        }
    }
}

#[test]
fn secrets_in_flags_are_refused_with_the_alternatives() {
    let folder = Folder::new();
    for (name, alternatives) in [
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
            let output = folder.run(&format!("--set {name}=hunter2 {command}"));
            assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{name}: {output}");
            assert!(
                output.stderr.contains(&format!("{name} is a secret"))
                    && output.stderr.contains(alternatives),
                "{output}"
            );
            assert!(!output.stderr.contains("hunter2"), "{output}");
        }
        // An empty value is not a secret.
        folder.succeed(&format!("--set {name}= config check"));
    }
    let output = folder.run("--set kafka.properties={ssl.key.pem=\"hunter2\"} config check");
    assert!(
        output.code == 2 && output.stderr.contains("kafka.properties.ssl.key.pem is a secret"),
        "{output}"
    );
    assert!(!folder.data().exists());
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let mut command = folder.command(["config", "check"]);
    command.env("EXACTLYONCE_TOPIC", OsStr::from_bytes(b"\xff"));
    assert_output!(
        &folder,
        "config-wrong-bytes",
        ProgramOutput::from(command.output().expect("the program starts"))
    );
}

#[test]
fn a_kind_that_this_build_lacks_is_refused_with_the_name_of_the_feature() {
    let folder = Folder::new();
    let kinds = [
        ("broker.kind=kafka", "kafka", cfg!(feature = "kafka")),
        ("store.kind=cassandra", "cassandra", cfg!(feature = "cassandra")),
    ];
    for (set, feature, built) in kinds {
        let output = folder.run(&format!("--set {set} config check"));
        assert_eq!(output.code, if built { 0 } else { 2 }, "{output}");
        for command in ["run --until-end", "init", "show progress"].iter().filter(|_| !built) {
            let output = folder.run(&format!("--set {set} {command}"));
            assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{command}: {output}");
            let message = format!("it was built without the feature `{feature}`");
            assert!(output.stderr.contains(&message), "{command}: {output}");
        }
    }
    // The schema can be printed without a driver for Cassandra.
    folder.succeed("--set store.kind=cassandra schema print");
}

/// A port of this machine on which nothing listens.
#[cfg(all(feature = "kafka", feature = "cassandra"))]
const NO_LISTENER: &str = "--set services.start_deadline_ms=400 --set kafka.bootstrap_servers=127.0.0.1:1 \
                      --set cassandra.contact_points=127.0.0.1:1";

#[cfg(all(feature = "kafka", feature = "cassandra"))]
#[test]
fn an_unavailable_service_is_reported_with_its_address() {
    let folder = Folder::new();
    folder.succeed("topic create");
    for (kind, service, commands) in [
        ("broker.kind=kafka", "kafka", ["topic describe", "generate", "run", "show records"]),
        ("store.kind=cassandra", "cassandra", ["schema apply", "init", "verify", "show events"]),
    ] {
        for command in commands {
            let output = folder.run(&format!("{NO_LISTENER} --set {kind} {command}"));
            assert_eq!((output.code, output.stdout.as_str()), (4, ""), "{command}: {output}");
            let message = format!("error: {service} at 127.0.0.1:1 is unavailable: no response within ");
            assert!(output.stderr.contains(&message), "{command}: {output}");
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
        // Invalid in every way.
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
        let output = folder.run_with(&format!("{NO_LISTENER} {command}"), &password).to_string();
        assert!(!output.contains("hunter2"), "{command}: {output}");
    }
    let shown = folder.run_with("config show", &password).to_string();
    assert_eq!(shown.matches("\"***\"").count(), 2, "{shown}");
    // Files that are not a configuration.
    for line in [
        "sasl_password = hunter2",
        "sasl_password = 'hunter2",
        "sasl_password = [\"hunter2\"]",
        "properties = 'hunter2'",
    ] {
        folder.write("exactlyonce.toml", format!("[kafka]\n{line}\n"));
        let output = folder.run("config show");
        assert!(output.code == 2 && !output.to_string().contains("hunter2"), "{line}: {output}");
    }
}
