//! Descriptors of simulated sockets and pipes. Their numbers are larger than any of the real system.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_int;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT};
use madsim::task::{JoinHandle, NodeId};
use tokio::net::TcpStream;

/// The first number.
pub(crate) const FIRST: c_int = 1 << 20;

/// Bytes that a socket keeps in one direction, besides those in the network; a pipe keeps as many.
pub(crate) const BUFFER: usize = 64 << 10;

/// Whether a descriptor is one of a simulation.
pub(crate) fn is_simulated(descriptor: c_int) -> bool {
    descriptor >= FIRST
}

pub(crate) struct Entry {
    machine: NodeId,
    pub(crate) nonblocking: bool,
    /// How long a blocking call waits at most (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    pub(crate) timeouts: [Option<Duration>; 2],
    /// Threads that wait for it.
    watchers: Vec<usize>,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// A socket that is neither connected nor listens, and where it is bound.
    Socket(Option<SocketAddr>),
    Listener {
        address: SocketAddr,
        /// Connections that are not accepted yet.
        waiting: VecDeque<(TcpStream, SocketAddr)>,
        /// Accepts them.
        task: JoinHandle<()>,
    },
    Connection(Box<Connection>),
    /// The end of a pipe that is read, or written.
    Pipe {
        number: u64,
        reads: bool,
    },
}

/// A connection: a task of its machine carries bytes between it and the simulated network.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) connecting: bool,
    pub(crate) error: Option<c_int>,
    pub(crate) received: VecDeque<u8>,
    /// The peer sends nothing more.
    pub(crate) ended: bool,
    pub(crate) to_send: VecDeque<u8>,
    /// No more is sent after that.
    pub(crate) shut: bool,
    /// The descriptor was closed; the task sends what is left.
    pub(crate) closed: bool,
    pub(crate) carrier: Option<Waker>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The descriptors of its ends: the one that is read, and the one that is written.
    ends: [Option<c_int>; 2],
}

#[derive(Default)]
pub(crate) struct Descriptors {
    entries: BTreeMap<c_int, Entry>,
    pipes: BTreeMap<u64, Pipe>,
    count: c_int,
}

impl Connection {
    /// Has the task look at what is to be done.
    pub(crate) fn wake(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.wake();
        }
    }

    fn events(&self) -> i16 {
        if self.error.is_some() {
            return POLLERR | POLLHUP | POLLIN | POLLOUT;
        }
        if self.connecting {
            return 0;
        }
        let readable = if self.ended || !self.received.is_empty() { POLLIN } else { 0 };
        let writable = if self.shut || self.to_send.len() < BUFFER { POLLOUT } else { 0 };
        readable | writable
    }
}

impl Descriptors {
    pub(crate) fn add(&mut self, machine: NodeId, kind: Kind, nonblocking: bool) -> c_int {
        let descriptor = FIRST + self.count;
        self.count += 1;
        let (timeouts, watchers) = ([None; 2], Vec::new());
        self.entries.insert(descriptor, Entry { machine, nonblocking, timeouts, watchers, kind });
        descriptor
    }

    /// Adds a pipe. Returns the descriptor that is read, and the one that is written.
    pub(crate) fn add_pipe(&mut self, machine: NodeId, nonblocking: bool) -> [c_int; 2] {
        let number = self.count as u64;
        let ends = [true, false].map(|reads| self.add(machine, Kind::Pipe { number, reads }, nonblocking));
        self.pipes.insert(number, Pipe { bytes: VecDeque::new(), ends: ends.map(Some) });
        ends
    }

    pub(crate) fn get(&self, descriptor: c_int) -> Option<&Entry> {
        self.entries.get(&descriptor)
    }

    pub(crate) fn get_mut(&mut self, descriptor: c_int) -> Option<&mut Entry> {
        self.entries.get_mut(&descriptor)
    }

    pub(crate) fn machine(&self, descriptor: c_int) -> Option<NodeId> {
        self.entries.get(&descriptor).map(|entry| entry.machine)
    }

    pub(crate) fn connection(&mut self, descriptor: c_int) -> Option<&mut Connection> {
        match &mut self.entries.get_mut(&descriptor)?.kind {
            Kind::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// The bytes in a pipe, and the descriptors of its ends.
    pub(crate) fn pipe(&mut self, number: u64) -> Option<(&mut VecDeque<u8>, [Option<c_int>; 2])> {
        self.pipes.get_mut(&number).map(|pipe| (&mut pipe.bytes, pipe.ends))
    }

    /// Removes a descriptor. Returns the other end, if it was one of a pipe.
    pub(crate) fn remove(&mut self, descriptor: c_int) -> Option<c_int> {
        let entry = self.entries.remove(&descriptor)?;
        match entry.kind {
            Kind::Pipe { number, reads } => {
                let pipe = self.pipes.get_mut(&number)?;
                pipe.ends[usize::from(!reads)] = None;
                let other = pipe.ends[usize::from(reads)];
                if other.is_none() {
                    self.pipes.remove(&number);
                }
                other
            }
            Kind::Listener { task, .. } => {
                task.abort();
                None
            }
            Kind::Socket(_) | Kind::Connection(_) => None,
        }
    }

    /// Removes all of a machine.
    pub(crate) fn forget(&mut self, machine: NodeId) {
        let own = self.entries.iter().filter(|(_, entry)| entry.machine == machine);
        for descriptor in own.map(|(descriptor, _)| *descriptor).collect::<Vec<_>>() {
            self.remove(descriptor);
        }
    }

    /// What can be done with it now, of what is asked.
    pub(crate) fn events(&self, descriptor: c_int, asked: i16) -> i16 {
        let Some(entry) = self.entries.get(&descriptor) else { return POLLNVAL };
        let events = match &entry.kind {
            // As in Linux.
            Kind::Socket(_) => POLLOUT | POLLHUP,
            Kind::Listener { waiting, .. } => {
                if waiting.is_empty() {
                    0
                } else {
                    POLLIN
                }
            }
            Kind::Connection(connection) => connection.events(),
            Kind::Pipe { number, reads } => match self.pipes.get(number) {
                Some(pipe) if *reads => {
                    let readable = if pipe.bytes.is_empty() { 0 } else { POLLIN };
                    readable | if pipe.ends[1].is_none() { POLLHUP } else { 0 }
                }
                Some(Pipe { ends: [Some(_), _], bytes }) if bytes.len() < BUFFER => POLLOUT,
                Some(Pipe { ends: [Some(_), _], .. }) => 0,
                _ => POLLERR,
            },
        };
        events & (asked | POLLERR | POLLHUP | POLLNVAL)
    }

    pub(crate) fn watch(&mut self, thread: usize, wanted: &[(c_int, i16)]) {
        for (descriptor, _) in wanted {
            if let Some(entry) = self.entries.get_mut(descriptor)
                && !entry.watchers.contains(&thread)
            {
                entry.watchers.push(thread);
            }
        }
    }

    pub(crate) fn unwatch(&mut self, thread: usize, wanted: &[(c_int, i16)]) {
        for (descriptor, _) in wanted {
            if let Some(entry) = self.entries.get_mut(descriptor) {
                entry.watchers.retain(|other| *other != thread);
            }
        }
    }

    pub(crate) fn watchers(&self, descriptor: c_int) -> Vec<usize> {
        self.entries.get(&descriptor).map(|entry| entry.watchers.clone()).unwrap_or_default()
    }

    /// A description of a descriptor.
    pub(crate) fn describe(&self, descriptor: c_int) -> String {
        match self.entries.get(&descriptor).map(|entry| &entry.kind) {
            None => format!("descriptor {descriptor}, which is closed"),
            Some(Kind::Socket(_)) => "a socket".to_owned(),
            Some(Kind::Listener { address, .. }) => format!("the listener at {address}"),
            Some(Kind::Connection(connection)) => match connection.peer {
                Some(peer) => format!("the connection with {peer}"),
                None => "a connection".to_owned(),
            },
            Some(Kind::Pipe { number, .. }) => format!("pipe {number}"),
        }
    }
}
