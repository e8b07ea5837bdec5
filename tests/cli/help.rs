//! Help pages, version and completions.

use crate::harness::{Folder, assert_output};

const COMMANDS: &[&str] = &[
    "",
    "demo",
    "generate",
    "verify",
    "topic",
    "topic create",
    "topic describe",
    "init",
    "run",
    "show",
    "show records",
    "show events",
    "show alerts",
    "show dead-letters",
    "show progress",
    "schema",
    "schema print",
    "schema apply",
    "schema check",
    "change-consistency",
    "config",
    "config show",
    "config check",
    "config keys",
    "completions",
];

#[test]
fn every_command_has_a_help_page() {
    let folder = Folder::new();
    for command in COMMANDS {
        let page = folder.succeed(format!("{command} --help").trim_start());
        let name = format!("help {command}").trim_end().replace(' ', "-");
        assert_output!(&folder, name, page);
    }
}

#[test]
fn the_list_of_commands_in_this_test_is_complete() {
    let folder = Folder::new();
    for parent in ["", "topic", "show", "schema", "config"] {
        let page = folder.succeed(format!("{parent} -h").trim_start());
        let commands = page.split("Commands:\n").nth(1).expect("a list of commands");
        for line in commands.lines().take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().expect("a name");
            let full = format!("{parent} {name}").trim_start().to_owned();
            assert!(name == "help" || COMMANDS.contains(&full.as_str()), "{full} has no page here");
        }
    }
}

#[test]
fn exit_codes_are_documented() {
    let page = Folder::new().succeed("--help");
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "  129, 130, 131, 143  ", "  141  "] {
        assert!(page.contains(&format!("\n{code}")), "{code}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(Folder::new().succeed("--version"), format!("exactlyonce {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_include_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.succeed(&format!("completions {shell}"));
        for command in COMMANDS {
            for word in command.split_whitespace() {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}

#[test]
fn a_usage_error_exits_with_code_2() {
    let folder = Folder::new();
    for arguments in [
        "rum",
        "run --until",
        "show events --from -1",
        "show events --health bad",
        "show dead-letters --reason mising_field:id",
        "init --from 0=x",
        "topic create --partitions 0",
        "completions cmd",
    ] {
        let output = folder.run(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{arguments}: {output}");
        let name = format!("usage {arguments}").replace([' ', ':', '='], "-");
        assert_output!(&folder, name, output);
    }
}
