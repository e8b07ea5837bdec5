//! Messages: to stderr, as lines or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// From here on, messages of this program are written as the settings say; of others, warnings and errors
/// (of Cassandra's driver from `debug` on).
pub(super) fn start(settings: &LogSettings) {
    let directives = match settings.level.as_str() {
        "off" | "error" => settings.level.clone(),
        level @ ("debug" | "trace") => format!("warn,exactlyonce={level}"),
        // Of every attempt to connect, the driver tells what we are told as its result anyway.
        level => format!("warn,scylla=off,exactlyonce={level}"),
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // A second call in a process changes nothing.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
