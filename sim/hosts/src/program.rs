//! The program around a simulated cluster: it serves until it gets a signal or the command `exit`, and executes commands on
//! standard input, one a line.
//!
//! The response to each command is a line on standard output, `ok` or `error: ...`. The log goes to standard error.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing_subscriber::filter::LevelFilter;

/// The longest command, in bytes.
const MAX_COMMAND_BYTES: usize = 1024;

/// What runs, and executes commands.
pub trait Service {
    /// Why a command is not executed.
    type Error: Error;

    /// Executes a command: its name and its arguments, so at least one word.
    fn execute(&self, command: &[&str]) -> impl Future<Output = Result<Response, Self::Error>>;
}

/// What a command led to.
#[derive(Debug)]
pub enum Response {
    /// It was executed; the line to print.
    Done(String),
    /// The program is to end.
    Exit,
}

#[derive(Debug, thiserror::Error)]
enum StartError<E: Error + 'static> {
    #[error("the system's clock shows no time since 1970")]
    Clock,
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Service(E),
}

/// Why no more commands are read.
enum End {
    /// There are no more.
    Input,
    /// The command `exit`.
    Exit,
}

/// A level of the log by its name, for an argument. An empty variable is one that is not set.
///
/// # Errors
/// If there is no such level.
pub fn level(name: &str) -> Result<LevelFilter, &'static str> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" | "" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("it must be off, error, warn, info, debug or trace"),
    }
}

/// Names in a sentence: `a, b and c`.
pub fn enumeration(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Runs the program of this name, with a log from this level on. `start` is called with what the system's clock shows, in
/// microseconds since 1970, and prints a line when the service serves clients; it is cancelled by a signal.
pub fn run<S: Service, E: Error + 'static>(
    name: &str,
    log: LevelFilter,
    start: impl AsyncFnOnce(i64) -> Result<S, E>,
) -> ExitCode {
    // A closed standard error must not end the program.
    tracing_subscriber::fmt()
        .with_max_level(log)
        .with_writer(io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    match run_until_ended(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_all(io::stderr(), &format!("{name}: {}\n", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run_until_ended<S: Service, E: Error + 'static>(
    start: impl AsyncFnOnce(i64) -> Result<S, E>,
) -> Result<(), StartError<E>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| StartError::Clock)?;
    let clock = i64::try_from(now.as_micros()).map_err(|_| StartError::Clock)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(start(clock)));
    // A read of standard input may be in progress and never end.
    runtime.shutdown_background();
    result
}

async fn serve<S: Service, E: Error + 'static>(
    start: impl Future<Output = Result<S, E>>,
) -> Result<(), StartError<E>> {
    // From here on a signal ends the program gracefully.
    let mut ended = std::pin::pin!(signal().map_err(StartError::Signals)?);
    let service = tokio::select! {
        name = &mut ended => {
            tracing::info!(signal = name, "ended while starting");
            return Ok(());
        }
        service = start => service.map_err(StartError::Service)?,
    };
    tokio::select! {
        name = &mut ended => tracing::info!(signal = name, "ending"),
        () = until_exit(&service) => tracing::info!("ending at the command exit"),
    }
    Ok(())
}

/// Executes commands until one of them is `exit`. The end of the input is no reason to end.
async fn until_exit(service: &impl Service) {
    match commands(service, tokio::io::stdin()).await {
        Ok(End::Exit) => return,
        Ok(End::Input) => tracing::debug!("standard input has ended: there will be no more commands"),
        Err(error) => tracing::warn!(%error, "cannot read commands: there will be no more"),
    }
    std::future::pending().await
}

/// Waits for a signal that ends the program, and returns its name. What can fail has happened when this returns.
#[cfg(unix)]
fn signal() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

/// Waits for a signal that ends the program, and returns its name.
#[cfg(not(unix))]
fn signal() -> io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "cannot wait for Ctrl-C");
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    })
}

/// Executes the commands in `input`, one a line.
async fn commands(service: &impl Service, input: impl AsyncRead + Unpin) -> io::Result<End> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(MAX_COMMAND_BYTES as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(End::Input);
        }
        if read > MAX_COMMAND_BYTES {
            print_line(&format!("error: a command of more than {MAX_COMMAND_BYTES} bytes"));
            while !line.ends_with(b"\n") && !line.is_empty() {
                line.clear();
                (&mut input).take(MAX_COMMAND_BYTES as u64).read_until(b'\n', &mut line).await?;
            }
            continue;
        }
        let line = String::from_utf8_lossy(&line);
        let parts: Vec<&str> = line.split_whitespace().collect();
        if parts.is_empty() {
            continue;
        }
        let result = service.execute(&parts).await;
        match &result {
            Ok(_) => tracing::info!(command = %parts.join(" "), "executed"),
            Err(error) => tracing::warn!(command = %parts.join(" "), %error, "refused"),
        }
        match result {
            Ok(Response::Done(text)) => print_line(&text),
            Ok(Response::Exit) => {
                print_line("ok");
                return Ok(End::Exit);
            }
            Err(error) => print_line(&format!("error: {}", chain(&error))),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Writes text to standard output or error. Errors are ignored: a closed stream is not read.
fn write_all(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Writes a line to standard output and flushes it. A closed one is not read, so its errors are ignored.
pub fn print_line(line: &str) {
    write_all(io::stdout().lock(), &format!("{line}\n"));
}
