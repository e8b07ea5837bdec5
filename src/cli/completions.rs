//! `exactlyonce completions`

use clap::Args;
use clap_complete::Shell;

use super::failure::{Code, Failure};
use super::output::Output;

/// Prints a script that completes this command line in a shell.
///
/// The script goes to stdout; put it where your shell looks for completions.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce completions bash > ~/.local/share/bash-completion/completions/exactlyonce
  exactlyonce completions zsh > \"${fpath[1]}/_exactlyonce\"
  exactlyonce completions fish > ~/.config/fish/completions/exactlyonce.fish")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: Arguments, mut command: clap::Command) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "exactlyonce", &mut script);
    let mut output = Output::stdout();
    output.bytes(&script)?;
    output.finish()?;
    Ok(Code::Fine)
}
