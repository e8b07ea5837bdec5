//! The signals that ask a process to end.

use super::failure::Failure;

/// A signal: its name and number.
pub(super) type Named = (&'static str, i32);

/// Signals that are listened for, instead of ending the process immediately.
#[cfg(unix)]
pub(super) struct Signals {
    listening: Vec<(tokio::signal::unix::Signal, Named)>,
}

#[cfg(unix)]
impl Signals {
    /// SIGINT and SIGTERM.
    pub(super) fn listen() -> Result<Self, Failure> {
        Self::of(&[("SIGINT", 2), ("SIGTERM", 15)])
    }

    /// All signals by which a terminal or a supervisor ends a process and that can be handled. SIGHUP
    /// stays ignored where the process was started so (`nohup`).
    pub(super) fn listen_to_all() -> Result<Self, Failure> {
        let all = [("SIGINT", 2), ("SIGTERM", 15), ("SIGQUIT", 3), ("SIGHUP", 1)];
        let not_ignored: Vec<Named> =
            all.into_iter().filter(|(name, number)| *name != "SIGHUP" || !is_ignored(*number)).collect();
        Self::of(&not_ignored)
    }

    fn of(signals: &[Named]) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |named: &Named| Ok((signal(SignalKind::from_raw(named.1))?, *named));
        let listening = signals.iter().map(listen).collect::<std::io::Result<_>>();
        listening
            .map(|listening| Self { listening })
            .map_err(|source| Failure::System { what: "listen for signals", source })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Named {
        std::future::poll_fn(|context| {
            for (signal, named) in &mut self.listening {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*named);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// True if the process ignores a signal, as far as the system reports it (Linux, `/proc/self/status`).
#[cfg(unix)]
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (number - 1)) != 0
}

/// Signals that are listened for, instead of ending the process immediately.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Ctrl-C.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    /// Ctrl-C.
    pub(super) fn listen_to_all() -> Result<Self, Failure> {
        Ok(Self)
    }

    /// Waits for the next one, forever if it cannot be listened for.
    pub(super) async fn next(&mut self) -> Named {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        ("Ctrl-C", 2)
    }
}
