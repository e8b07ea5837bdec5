//! A socket before it is connected.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{TcpListener, TcpStream};

/// A socket that is not connected yet. Options are accepted by a real socket that is never connected, because drivers set
/// some through its descriptor. They have no effect here.
#[derive(Debug)]
pub struct TcpSocket {
    options: socket2::Socket,
    bound: Mutex<Option<SocketAddr>>,
}

impl TcpSocket {
    fn new(domain: socket2::Domain) -> io::Result<Self> {
        let options = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        Ok(Self { options, bound: Mutex::new(None) })
    }

    /// For IPv4.
    ///
    /// # Errors
    /// If this process has too many descriptors.
    pub fn new_v4() -> io::Result<Self> {
        Self::new(socket2::Domain::IPV4)
    }

    /// For IPv6.
    ///
    /// # Errors
    /// If this process has too many descriptors.
    pub fn new_v6() -> io::Result<Self> {
        Self::new(socket2::Domain::IPV6)
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        // Not held open meanwhile.
        drop(self);
        TcpStream::connect(address).await
    }

    /// Chooses the address to listen at. One that connects has its machine's address, and a port that is free.
    ///
    /// # Errors
    /// None here; [`listen`](Self::listen) looks at it.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(())
    }

    /// Listens. The backlog is the network's constant.
    ///
    /// # Errors
    /// If the address is not this machine's, in use, or not chosen.
    pub fn listen(self, _backlog: u32) -> io::Result<TcpListener> {
        let address = *self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at"))?;
        TcpListener::at(address)
    }
}

/// Options that are accepted without effect.
macro_rules! options {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl TcpSocket {
            $(
                /// Accepted without effect.
                ///
                /// # Errors
                /// None.
                pub fn $name(&self, _: $type) -> io::Result<()> {
                    Ok(())
                }
            )*
        }
    };
}

options! {
    set_keepalive: bool,
    set_linger: Option<Duration>,
    set_nodelay: bool,
    set_recv_buffer_size: u32,
    set_reuseaddr: bool,
    set_reuseport: bool,
    set_send_buffer_size: u32,
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.options.as_fd()
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.options.as_raw_fd()
    }
}
