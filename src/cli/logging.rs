//! Logging to stderr, as lines or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::stderr::Stderr;
use crate::config::{LogFormat, LogSettings};

/// Starts logging as the settings say: messages of this program at the level set, of libraries warnings and errors
/// only (of Cassandra's driver from level `debug` on).
pub(super) fn start(settings: &LogSettings) {
    let directives = match settings.level.as_str() {
        "off" | "error" => settings.level.clone(),
        level @ ("debug" | "trace") => format!("warn,exactlyonce={level}"),
        // The driver logs each attempt to connect; its result is logged by this program anyway.
        level => format!("warn,scylla=off,exactlyonce={level}"),
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(|| Stderr)
        .log_internal_errors(false)
        .with_ansi(colours)
        .with_target(false);
    // A second call in a process changes nothing.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
