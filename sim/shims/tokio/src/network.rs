//! The network under [`crate::net`], and its faults.
//!
//! The simulator's own TCP refuses a connection through a cut link where a real one retries, and reports the peer's close
//! through a cut link. This one behaves as Linux does:
//!
//! - Data written through a cut link is held, up to the send buffer, and delivered when the link is restored; so is the
//!   end of a connection. A connection attempt is retried after 1, 3, 7 s and so on.
//! - A process that ends, or is killed, closes its connections. A machine without power sends nothing. After it is
//!   powered on, it resets connections that it does not know as soon as it receives data for them.
//! - Data for a closed connection resets it.
//!
//! Not simulated: lost and duplicated segments, which TCP hides behind delays, and the timeout of a connection through
//! which no data has passed for a quarter of an hour.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::plugin::{self, Simulator};
use madsim::rand::{GlobalRng, Rng};
use madsim::runtime::Runtime;
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use real::io::ReadBuf;

use crate::time::{Instant, call_at, sleep};

/// Bytes that may be in flight, or not read yet, in one direction of a connection.
const BUFFER: usize = 256 << 10;

/// Maximum number of connections that are not accepted yet.
const BACKLOG: usize = 128;

/// Seconds after which a connection attempt is retried, and finally fails (`tcp_syn_retries`, 6).
const CONNECT_RETRIES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// The network of a simulation, which all its machines share.
pub struct Network {
    state: Arc<Mutex<State>>,
    random: GlobalRng,
    time: TimeHandle,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    machines: BTreeMap<NodeId, IpAddr>,
    interrupted: Interruptions,
    latency: Range<Duration>,
    listeners: BTreeMap<SocketAddr, Listener>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    effects: Effects,
}

/// What keeps messages from passing.
#[derive(Default)]
struct Interruptions {
    cut: BTreeSet<(IpAddr, IpAddr)>,
    without_power: BTreeSet<IpAddr>,
}

impl Interruptions {
    /// Whether messages pass from one machine to another.
    fn pass(&self, from: IpAddr, to: IpAddr) -> bool {
        !self.cut.contains(&(from, to))
            && !self.without_power.contains(&from)
            && !self.without_power.contains(&to)
    }
}

/// How often cut links and power failures affected connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Writes that were held.
    pub held: u64,
    /// Connection attempts without a response.
    pub unanswered: u64,
    /// Ends of connections that received a reset.
    pub resets: u64,
}

struct Listener {
    number: u64,
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

struct Connection {
    /// Of the client, of the server.
    addresses: [SocketAddr; 2],
    /// From the client, from the server.
    flows: [Flow; 2],
    ends: [EndState; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    Open,
    /// Its process closed it, or ended.
    Closed,
    /// Its machine lost power.
    Forgotten,
}

#[derive(Default)]
struct EndState {
    presence: Presence,
    /// The stream was dropped.
    dropped: bool,
    /// Since when it is reset.
    reset: Option<Instant>,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// With their time of arrival.
    in_flight: VecDeque<(Instant, VecDeque<u8>)>,
    held: VecDeque<VecDeque<u8>>,
    /// Bytes not read yet.
    bytes: usize,
    end: Fin,
    last: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    NotSent,
    Held,
    Arrives(Instant),
}

impl Flow {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// The arrival of data that is sent now: not before data that was sent earlier.
    fn arrival(&mut self, at: Instant) -> Instant {
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        at
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    connection: u64,
    /// 0 for the client, 1 for the server.
    side: usize,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// A listening port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    number: u64,
}

/// The result of a read.
pub(crate) enum Read {
    Done,
    Failed(io::Error),
    /// No data yet; the connection ends at this time.
    Nothing(Option<Instant>),
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

impl Simulator for Network {
    fn new(random: &GlobalRng, time: &TimeHandle, _: &madsim::Config) -> Self {
        let latency = Duration::from_micros(100)..Duration::from_millis(2);
        let state = Arc::new(Mutex::new(State { latency, ..State::default() }));
        Self { state, random: random.clone(), time: time.clone() }
    }

    /// The machine's processes were killed.
    fn reset_node(&self, id: NodeId) {
        let now = self.now();
        let state = &mut *self.lock();
        let Some(ip) = state.machines.get(&id).copied() else { return };
        state.listeners.retain(|address, _| address.ip() != ip);
        for number in state.connections.keys().copied().collect::<Vec<_>>() {
            for side in 0..2 {
                if state.connections[&number].addresses[side].ip() == ip {
                    state.close(number, side, now);
                }
            }
        }
    }
}

impl Network {
    /// Adds the network to a simulation. Without it, no connection is possible.
    pub fn install(runtime: &Runtime) {
        runtime.add_simulator::<Network>();
    }

    /// The network of the current simulation.
    pub fn current() -> Arc<Self> {
        plugin::simulator()
    }

    /// Connects a machine to the network.
    pub fn plug_in(&self, machine: NodeId, ip: IpAddr) {
        self.lock().machines.insert(machine, ip);
    }

    /// Sets the latency of a message.
    pub fn set_latency(&self, latency: Range<Duration>) {
        self.lock().latency = latency;
    }

    /// Cuts the link from one machine to another. The other direction is not affected.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.lock().interrupted.cut.insert((from, to));
    }

    /// Undoes [`cut`](Self::cut).
    pub fn restore(&self, from: IpAddr, to: IpAddr) {
        self.lock().interrupted.cut.remove(&(from, to));
        self.release();
    }

    /// Cuts a machine's power: its connections are not closed. The caller kills its processes afterwards.
    pub fn power_off(&self, ip: IpAddr) {
        let state = &mut *self.lock();
        state.interrupted.without_power.insert(ip);
        for connection in state.connections.values_mut() {
            for side in 0..2 {
                if connection.addresses[side].ip() == ip && connection.ends[side].presence == Presence::Open {
                    connection.ends[side].presence = Presence::Forgotten;
                }
            }
        }
    }

    /// Undoes [`power_off`](Self::power_off). The machine's processes are not restarted.
    pub fn power_on(&self, ip: IpAddr) {
        self.lock().interrupted.without_power.remove(&ip);
        self.release();
    }

    /// Resets the connections between two machines, as a middlebox that lost its state does. Returns how many.
    pub fn reset_connections(&self, one: IpAddr, other: IpAddr) -> usize {
        let now = self.now();
        let state = &mut *self.lock();
        let between = |connection: &&mut Connection| {
            let ips = connection.addresses.map(|address| address.ip());
            ips == [one, other] || ips == [other, one]
        };
        let mut count = 0;
        for connection in state.connections.values_mut().filter(between) {
            for end in &mut connection.ends {
                end.reset.get_or_insert(now);
            }
            connection.flows.iter_mut().for_each(Flow::wake);
            count += 1;
        }
        count
    }

    /// The effects so far.
    pub fn effects(&self) -> Effects {
        self.lock().effects
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.time.now_instant()
    }

    /// Draws the latency of the next message.
    fn latency(&self, latency: &Range<Duration>) -> Duration {
        if latency.is_empty() { latency.start } else { self.random.clone().gen_range(latency.clone()) }
    }

    /// Wakes who reads one direction of a connection when data in it arrives, if that is later.
    fn wake_at(&self, arrival: Instant, connection: u64, side: usize) {
        if arrival <= self.now() {
            return;
        }
        let state = Arc::downgrade(&self.state);
        call_at(arrival, move || {
            let Some(state) = state.upgrade() else { return };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = state.connections.get_mut(&connection);
            let reader = connection.and_then(|connection| connection.flows[side].reader.take());
            drop(state);
            if let Some(reader) = reader {
                reader.wake();
            }
        });
    }

    /// The address of the calling machine.
    fn here(&self) -> io::Result<IpAddr> {
        let missing = || io::Error::new(io::ErrorKind::AddrNotAvailable, "this machine is not plugged in");
        self.lock().machines.get(&plugin::node()).copied().ok_or_else(missing)
    }

    /// Sends held data that may pass now. Retransmissions after an interruption arrive late.
    fn release(&self) {
        let now = self.now();
        let state = &mut *self.lock();
        for (number, connection) in &mut state.connections {
            for side in 0..2 {
                let flow = &mut connection.flows[side];
                let [from, to] = [side, 1 - side].map(|side| connection.addresses[side].ip());
                if (flow.held.is_empty() && flow.end != Fin::Held) || !state.interrupted.pass(from, to) {
                    continue;
                }
                let again = now + self.latency(&state.latency) + self.latency(&(Duration::ZERO..Duration::from_secs(1)));
                if connection.ends[1 - side].presence != Presence::Open {
                    connection.ends[side].reset.get_or_insert(again);
                }
                let at = flow.arrival(again);
                let held = std::mem::take(&mut flow.held);
                if !held.is_empty() {
                    self.wake_at(at, *number, side);
                }
                flow.in_flight.extend(held.into_iter().map(|bytes| (at, bytes)));
                if flow.end == Fin::Held {
                    flow.end = Fin::Arrives(at);
                }
                connection.flows.iter_mut().for_each(Flow::wake);
            }
        }
    }

    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<Port> {
        let here = self.here()?;
        let is_here = address.ip() == here || address.ip().is_unspecified() || address.ip().is_loopback();
        if !is_here {
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "not an address of this machine"));
        }
        let state = &mut *self.lock();
        let number = state.number();
        let free = |port: &u16| !state.listeners.contains_key(&SocketAddr::new(here, *port));
        let port = match address.port() {
            0 => (32_768..).find(free),
            port => Some(port).filter(free),
        };
        let Some(port) = port else {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "address in use"));
        };
        let address = SocketAddr::new(here, port);
        state.listeners.insert(address, Listener { number, waiting: VecDeque::new(), waker: None });
        Ok(Port { address, number })
    }

    pub(crate) fn unlisten(&self, port: &Port) {
        let now = self.now();
        let state = &mut *self.lock();
        // After a kill, another process may listen there.
        if state.listeners.get(&port.address).is_none_or(|listener| listener.number != port.number) {
            return;
        }
        let listener = state.listeners.remove(&port.address);
        for number in listener.into_iter().flat_map(|listener| listener.waiting) {
            state.close(number, 1, now);
            state.drop_end(number, 1);
        }
    }

    pub(crate) fn poll_accept(
        &self,
        port: &Port,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(End, SocketAddr)>> {
        let state = &mut *self.lock();
        let listener = state.listeners.get_mut(&port.address).filter(|listener| listener.number == port.number);
        let Some(listener) = listener else { return Poll::Ready(Err(reset())) };
        while let Some(number) = listener.waiting.pop_front() {
            if let Some(connection) = state.connections.get(&number) {
                let [peer, local] = connection.addresses;
                return Poll::Ready(Ok((End { connection: number, side: 1, local, peer }, peer)));
            }
        }
        listener.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Connects.
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<End> {
        let here = self.here()?;
        let to = if to.ip().is_loopback() { SocketAddr::new(here, to.port()) } else { to };
        for wait in CONNECT_RETRIES {
            let latency = self.lock().latency.clone();
            let round_trip = self.latency(&latency) + self.latency(&latency);
            sleep(round_trip).await;
            if let Some(end) = self.try_connect(here, to)? {
                return Ok(end);
            }
            self.lock().effects.unanswered += 1;
            sleep(Duration::from_secs(wait)).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"))
    }

    /// Tries to connect; `None` without a response.
    fn try_connect(&self, here: IpAddr, to: SocketAddr) -> io::Result<Option<End>> {
        let state = &mut *self.lock();
        let exists = state.machines.values().any(|ip| *ip == to.ip());
        let interrupted = &state.interrupted;
        if !exists || !interrupted.pass(here, to.ip()) || !interrupted.pass(to.ip(), here) {
            return Ok(None);
        }
        let number = state.number();
        let Some(listener) = state.listeners.get_mut(&to) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        };
        if listener.waiting.len() >= BACKLOG {
            return Ok(None);
        }
        listener.waiting.push_back(number);
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
        // Ports are not reused during a run.
        let local = SocketAddr::new(here, 32_768 + (number % 32_000) as u16);
        let connection =
            Connection { addresses: [local, to], flows: Default::default(), ends: Default::default() };
        state.connections.insert(number, connection);
        Ok(Some(End { connection: number, side: 0, local, peer: to }))
    }

    pub(crate) fn read(&self, end: &End, buffer: &mut ReadBuf<'_>, waker: &Waker) -> Read {
        let now = self.now();
        let state = &mut *self.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Read::Failed(reset());
        };
        let reset_at = connection.ends[end.side].reset;
        if reset_at.is_some_and(|at| at <= now) {
            state.effects.resets += 1;
            return Read::Failed(reset());
        }
        let flow = &mut connection.flows[1 - end.side];
        let mut read = 0;
        while let Some((arrival, bytes)) = flow.in_flight.front_mut() {
            if *arrival > now || buffer.remaining() == 0 {
                break;
            }
            let count = buffer.remaining().min(bytes.len());
            let (first, second) = bytes.as_slices();
            let of_first = count.min(first.len());
            buffer.put_slice(&first[..of_first]);
            buffer.put_slice(&second[..count - of_first]);
            bytes.drain(..count);
            read += count;
            if bytes.is_empty() {
                flow.in_flight.pop_front();
            }
        }
        if read > 0 {
            flow.bytes -= read;
            if let Some(writer) = flow.writer.take() {
                writer.wake();
            }
            return Read::Done;
        }
        let next = match (flow.in_flight.front(), flow.end) {
            // It wakes the reader when it arrives.
            (Some(_), _) => None,
            (None, Fin::Arrives(at)) if at <= now => return Read::Done,
            (None, Fin::Arrives(at)) => Some(at),
            (None, Fin::NotSent | Fin::Held) => None,
        };
        flow.reader = Some(waker.clone());
        Read::Nothing(next.into_iter().chain(reset_at).min())
    }

    pub(crate) fn poll_write(&self, end: &End, bytes: &[u8], waker: &Waker) -> Poll<io::Result<usize>> {
        let now = self.now();
        let state = &mut *self.lock();
        let Some(connection) = state.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(reset()));
        };
        if connection.ends[end.side].reset.is_some_and(|at| at <= now) {
            state.effects.resets += 1;
            return Poll::Ready(Err(reset()));
        }
        let flow = &mut connection.flows[end.side];
        if flow.end != Fin::NotSent {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "broken pipe")));
        }
        let count = bytes.len().min(BUFFER.saturating_sub(flow.bytes));
        if count == 0 && !bytes.is_empty() {
            flow.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let segment = VecDeque::from(bytes[..count].to_vec());
        flow.bytes += count;
        if flow.held.is_empty() && state.interrupted.pass(end.local.ip(), end.peer.ip()) {
            let at = now + self.latency(&state.latency);
            let at = flow.arrival(at);
            flow.in_flight.push_back((at, segment));
            if connection.ends[1 - end.side].presence != Presence::Open {
                // The peer is gone, so it responds with a reset.
                connection.ends[end.side].reset.get_or_insert(at + self.latency(&state.latency));
                connection.flows[1 - end.side].wake();
            } else {
                if at <= now {
                    flow.wake();
                }
                self.wake_at(at, end.connection, end.side);
            }
        } else {
            flow.held.push_back(segment);
            state.effects.held += 1;
        }
        Poll::Ready(Ok(count))
    }

    pub(crate) fn shut_down(&self, end: &End) {
        let now = self.now();
        self.lock().finish(end.connection, end.side, now);
    }

    pub(crate) fn close(&self, end: &End) {
        let now = self.now();
        let state = &mut *self.lock();
        state.close(end.connection, end.side, now);
        state.drop_end(end.connection, end.side);
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }


    /// Sends the end of this direction. Draws no random number, because it may run in a drop.
    fn finish(&mut self, number: u64, side: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let [from, to] = [side, 1 - side].map(|side| connection.addresses[side].ip());
        let flow = &mut connection.flows[side];
        if flow.end == Fin::NotSent {
            let passes = flow.held.is_empty() && self.interrupted.pass(from, to);
            flow.end =
                if passes { Fin::Arrives(flow.arrival(now + self.latency.start)) } else { Fin::Held };
            flow.wake();
        }
    }

    fn close(&mut self, number: u64, side: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.ends[side].presence == Presence::Open {
            connection.ends[side].presence = Presence::Closed;
            self.finish(number, side, now);
        }
    }

    /// Forgets a connection that both ends have dropped.
    fn drop_end(&mut self, number: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.ends[side].dropped = true;
        if connection.ends.iter().all(|end| end.dropped) {
            self.connections.remove(&number);
        }
    }
}
