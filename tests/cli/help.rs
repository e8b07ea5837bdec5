//! Help pages, version and completions.

use crate::harness::{Folder, said};

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
    "config",
    "config show",
    "config check",
    "config keys",
    "completions",
];

#[test]
fn every_command_has_a_page_of_help() {
    let folder = Folder::new();
    for command in COMMANDS {
        let page = folder.fine(format!("{command} --help").trim_start());
        let name = format!("help {command}").trim_end().replace(' ', "-");
        said!(&folder, name, page);
    }
}

#[test]
fn the_list_of_commands_here_is_whole() {
    let folder = Folder::new();
    for parent in ["", "topic", "show", "schema", "config"] {
        let page = folder.fine(format!("{parent} -h").trim_start());
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
    let page = Folder::new().fine("--help");
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "  129, 130, 131, 143  ", "  141  "] {
        assert!(page.contains(&format!("\n{code}")), "{code}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(Folder::new().fine("--version"), format!("exactlyonce {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.fine(&format!("completions {shell}"));
        for command in COMMANDS {
            for word in command.split_whitespace() {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
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
        let said = folder.run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments}: {said}");
        let name = format!("usage {arguments}").replace([' ', ':', '='], "-");
        said!(&folder, name, said);
    }
}
