//! Carries bytes between descriptors and the simulated network.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use madsim::plugin;
use madsim::task::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::descriptors::{BUFFER, Connection, Entry, Kind};
use crate::worker::Worker;
use crate::world::World;

/// The C library's code of an error of the network.
pub(crate) fn code(error: &io::Error) -> c_int {
    match error.kind() {
        io::ErrorKind::AddrInUse => libc::EADDRINUSE,
        io::ErrorKind::AddrNotAvailable => libc::EADDRNOTAVAIL,
        io::ErrorKind::BrokenPipe => libc::EPIPE,
        io::ErrorKind::ConnectionRefused => libc::ECONNREFUSED,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        io::ErrorKind::TimedOut => libc::ETIMEDOUT,
        _ => libc::ECONNRESET,
    }
}

/// What a step of a connection's task led to.
enum Step {
    GoesOn,
    Over,
}

/// Moves what can be moved now. Returns whether the caller's side has changed, or an error.
fn move_bytes(
    connection: &mut Connection,
    mut stream: Pin<&mut TcpStream>,
    context: &mut Context<'_>,
) -> io::Result<bool> {
    let mut changed = false;
    while !connection.to_send.is_empty() {
        let (first, _) = connection.to_send.as_slices();
        match stream.as_mut().poll_write(context, first) {
            Poll::Ready(count) => {
                connection.to_send.drain(..count?);
                changed = true;
            }
            Poll::Pending => break,
        }
    }
    if connection.shut && connection.to_send.is_empty() {
        let _ = stream.as_mut().poll_shutdown(context);
    }
    let mut space = [0; 4 << 10];
    while !connection.closed && !connection.ended && connection.received.len() < BUFFER {
        let mut buffer = ReadBuf::new(&mut space);
        match stream.as_mut().poll_read(context, &mut buffer) {
            Poll::Ready(done) => {
                done?;
                connection.ended = buffer.filled().is_empty();
                connection.received.extend(buffer.filled());
                changed = true;
            }
            Poll::Pending => break,
        }
    }
    Ok(changed)
}

impl World {
    fn step(&self, descriptor: c_int, stream: Pin<&mut TcpStream>, context: &mut Context<'_>) -> Step {
        let state = &mut *self.lock();
        // It is gone with its machine.
        let Some(connection) = state.descriptors.connection(descriptor) else { return Step::Over };
        connection.carrier = Some(context.waker().clone());
        let moved = move_bytes(connection, stream, context);
        if let Err(error) = &moved {
            connection.error = Some(code(error));
        }
        let is_over = moved.is_err() || connection.closed && connection.to_send.is_empty();
        if connection.closed && is_over {
            state.descriptors.remove(descriptor);
        }
        if !matches!(moved, Ok(false)) {
            state.wake_descriptor(descriptor);
        }
        if is_over { Step::Over } else { Step::GoesOn }
    }

    async fn carry(self: Arc<Self>, descriptor: c_int, mut stream: TcpStream) {
        poll_fn(|context| match self.step(descriptor, Pin::new(&mut stream), context) {
            Step::GoesOn => Poll::Pending,
            Step::Over => Poll::Ready(()),
        })
        .await;
    }

    /// The machine of the calling thread or task.
    pub(crate) fn machine(&self) -> NodeId {
        let number = Worker::current().map(|me| me.number);
        number.and_then(|number| self.lock().threads[number].machine).unwrap_or_else(plugin::node)
    }

    /// Begins to connect a socket.
    pub(crate) fn connect(&'static self, descriptor: c_int, to: SocketAddr) {
        let world = self.own();
        self.by_executor(move || {
            madsim::task::spawn(async move {
                let connected = TcpStream::connect(to).await;
                {
                    let state = &mut *world.lock();
                    let Some(connection) = state.descriptors.connection(descriptor) else { return };
                    connection.connecting = false;
                    match &connected {
                        Ok(stream) => {
                            connection.local = stream.local_addr().ok();
                            connection.peer = stream.peer_addr().ok();
                        }
                        Err(error) => connection.error = Some(code(error)),
                    }
                    if connection.closed && (connected.is_err() || connection.to_send.is_empty()) {
                        state.descriptors.remove(descriptor);
                        return;
                    }
                    state.wake_descriptor(descriptor);
                }
                if let Ok(stream) = connected {
                    world.carry(descriptor, stream).await;
                }
            });
        });
    }

    /// Listens with a socket that is bound, if it does not yet.
    pub(crate) fn listen(&'static self, descriptor: c_int) -> io::Result<()> {
        let address = match self.lock().descriptors.get(descriptor).map(|entry| &entry.kind) {
            Some(Kind::Socket(Some(address))) => *address,
            Some(Kind::Listener { .. }) => return Ok(()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let world = self.own();
        self.by_executor(move || {
            let socket = TcpSocket::new_v4()?;
            socket.bind(address)?;
            // The network has a backlog of its own.
            let listener: TcpListener = socket.listen(128)?;
            let address = listener.local_addr()?;
            let accepting = world.clone();
            let task = madsim::task::spawn(async move {
                while let Ok(accepted) = listener.accept().await {
                    let state = &mut *accepting.lock();
                    if let Some(Entry { kind: Kind::Listener { waiting, .. }, .. }) =
                        state.descriptors.get_mut(descriptor)
                    {
                        waiting.push_back(accepted);
                    }
                    state.wake_descriptor(descriptor);
                }
            });
            if let Some(entry) = world.lock().descriptors.get_mut(descriptor) {
                entry.kind = Kind::Listener { address, waiting: VecDeque::new(), task };
            }
            Ok(())
        })
    }

    /// The next connection of a listener, and its peer: a new descriptor.
    pub(crate) fn accept(&'static self, listener: c_int, nonblocking: bool) -> Option<(c_int, SocketAddr)> {
        let (machine, (stream, peer)) = {
            let state = &mut *self.lock();
            let machine = state.descriptors.machine(listener)?;
            match state.descriptors.get_mut(listener) {
                Some(Entry { kind: Kind::Listener { waiting, .. }, .. }) => (machine, waiting.pop_front()?),
                _ => return None,
            }
        };
        let connection =
            Connection { local: stream.local_addr().ok(), peer: Some(peer), ..Connection::default() };
        let kind = Kind::Connection(Box::new(connection));
        let descriptor = self.lock().descriptors.add(machine, kind, nonblocking);
        let world = self.own();
        self.by_executor(move || {
            madsim::task::spawn(world.carry(descriptor, stream));
        });
        Some((descriptor, peer))
    }
}
