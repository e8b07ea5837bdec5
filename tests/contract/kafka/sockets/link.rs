//! The network between one client and the brokers: a proxy in front of each broker.
//!
//! The client bootstraps with the addresses of the proxies, and every address of a broker in a response is replaced by
//! that of its proxy: brokers are on 127.0.0.1 to 127.0.0.9 and proxies on 127.0.0.1, so host and port have the same
//! length, and nothing else in the response changes. Requests and responses are forwarded as whole frames, in order.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::kafka::backend::{Link, Request, Traffic};

/// The host of all proxies.
const HOST: &str = "127.0.0.1";
/// The hosts of brokers, without their last digit.
const HOSTS: &str = "127.0.0.";
/// OffsetCommit, JoinGroup, Heartbeat, LeaveGroup, SyncGroup, ConsumerGroupHeartbeat.
const OF_THE_GROUP: [i16; 6] = [8, 11, 12, 13, 14, 68];

/// See [`Link`].
pub struct Proxies {
    shared: Arc<ProxyState>,
    bootstrap: String,
    listeners: Vec<AbortHandle>,
}

struct ProxyState {
    cut: watch::Sender<Option<Traffic>>,
    lose: [AtomicU32; 3],
    lost: AtomicU32,
    /// Address of a broker, port of its proxy.
    proxies: Vec<(SocketAddrV4, u16)>,
}

impl Proxies {
    /// A proxy for each broker of `HOST:PORT,...`.
    pub fn new(runtime: &Handle, bootstrap: &str) -> Self {
        let mut listeners = Vec::new();
        let mut proxies = Vec::new();
        for address in bootstrap.split(',') {
            let broker: SocketAddrV4 = address.parse().expect("host:port");
            assert_eq!(broker.ip().to_string().len(), HOST.len(), "hosts have the same length");
            let listener = std::net::TcpListener::bind((HOST, 0)).expect("a free port");
            listener.set_nonblocking(true).expect("a listener that does not block");
            proxies.push((broker, listener.local_addr().expect("an address").port()));
            listeners.push(listener);
        }
        let bootstrap: Vec<_> = proxies.iter().map(|(_, proxy)| format!("{HOST}:{proxy}")).collect();
        let shared = Arc::new(ProxyState {
            cut: watch::Sender::new(None),
            lose: Default::default(),
            lost: AtomicU32::new(0),
            proxies: proxies.clone(),
        });
        let _inside = runtime.enter();
        let listeners = listeners
            .into_iter()
            .zip(proxies)
            .map(|(listener, (broker, _))| {
                let listener = TcpListener::from_std(listener).expect("a listener of tokio");
                runtime.spawn(listen(listener, broker, Arc::clone(&shared))).abort_handle()
            })
            .collect();
        Self { shared, bootstrap: bootstrap.join(","), listeners }
    }

    /// The bootstrap addresses of a client.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Open connections are closed by their clients.
impl Drop for Proxies {
    fn drop(&mut self) {
        self.restore();
        self.listeners.iter().for_each(AbortHandle::abort);
    }
}

impl Link for Proxies {
    fn cut(&self, what: Traffic) {
        self.shared.cut.send_replace(Some(what));
    }

    fn restore(&self) {
        self.shared.cut.send_replace(None);
    }

    fn lose_responses(&self, of: Request, count: u32) {
        self.shared.lose[of as usize].store(count, Ordering::SeqCst);
    }

    fn lost_responses(&self) -> u32 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

async fn listen(listener: TcpListener, broker: SocketAddrV4, shared: Arc<ProxyState>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connection(client, broker, Arc::clone(&shared)));
    }
}

async fn connection(client: TcpStream, broker: SocketAddrV4, shared: Arc<ProxyState>) {
    // If the broker is down, the client's connection is closed.
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (Ok(()), Ok(())) = (client.set_nodelay(true), broker.set_nodelay(true)) else { return };
    let (client_in, client_out) = client.into_split();
    let (broker_in, broker_out) = broker.into_split();
    let (sent_keys, keys) = mpsc::unbounded_channel();
    // The end of one direction ends both.
    tokio::select! {
        () = requests(client_in, broker_out, sent_keys, &shared) => {}
        () = responses(broker_in, client_out, keys, &shared) => {}
    }
}

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write(to: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    let mut whole = i32::try_from(frame.len()).ok()?.to_be_bytes().to_vec();
    whole.extend_from_slice(frame);
    to.write_all(&whole).await.ok()
}

async fn passes(shared: &ProxyState, stops: impl Fn(Traffic) -> bool) -> Option<()> {
    shared.cut.subscribe().wait_for(|cut| !cut.is_some_and(&stops)).await.ok().map(|_| ())
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sent_keys: mpsc::UnboundedSender<i16>,
    shared: &ProxyState,
) {
    while let Some(frame) = frame(&mut from).await {
        let key = frame.get(..2).map_or(-1, |key| i16::from_be_bytes([key[0], key[1]]));
        let stops = |what| what == Traffic::All || OF_THE_GROUP.contains(&key);
        if passes(shared, stops).await.is_none()
            || sent_keys.send(key).is_err()
            || write(&mut to, &frame).await.is_none()
        {
            return;
        }
    }
}

async fn responses(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut keys: mpsc::UnboundedReceiver<i16>,
    shared: &ProxyState,
) {
    let mut pending = VecDeque::new();
    while let Some(mut frame) = frame(&mut from).await {
        while let Ok(key) = keys.try_recv() {
            pending.push_back(key);
        }
        let key = pending.pop_front().unwrap_or(-1);
        if passes(shared, |what| what == Traffic::All).await.is_none() {
            return;
        }
        let kind = match key {
            0 => Some(Request::Produce),
            1 => Some(Request::Fetch),
            3 => Some(Request::Metadata),
            _ => None,
        };
        if let Some(kind) = kind {
            let left = &shared.lose[kind as usize];
            let one_less = |left: u32| left.checked_sub(1);
            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
        redirect(&mut frame, &shared.proxies);
        if write(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

/// Replaces the address of each broker by that of its proxy.
fn redirect(frame: &mut [u8], proxies: &[(SocketAddrV4, u16)]) {
    let mut at = 0;
    while let Some(found) = frame[at..].windows(HOSTS.len()).position(|bytes| bytes == HOSTS.as_bytes()) {
        at += found;
        let Some(address) = frame.get_mut(at..at + HOST.len() + 4) else { return };
        at += HOSTS.len();
        let (host, port) = address.split_at_mut(HOST.len());
        let value = u32::from_be_bytes([port[0], port[1], port[2], port[3]]);
        let is_this = |broker: &SocketAddrV4| {
            u32::from(broker.port()) == value && broker.ip().to_string().as_bytes() == host
        };
        if let Some((_, proxy)) = proxies.iter().find(|(broker, _)| is_this(broker)) {
            port.copy_from_slice(&u32::from(*proxy).to_be_bytes());
            host.copy_from_slice(HOST.as_bytes());
        }
    }
}
