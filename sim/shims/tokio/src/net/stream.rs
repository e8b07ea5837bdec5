//! An end of a connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use real::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ToSocketAddrs, lookup_host};
use crate::network::{End, Network, Read};
use crate::time::{Instant, Sleep, sleep_until};

/// An end of a connection: closed when it is dropped.
#[derive(Debug)]
pub struct TcpStream {
    network: Arc<Network>,
    end: End,
    /// Until the data in flight has arrived.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl TcpStream {
    pub(crate) fn new(network: Arc<Network>, end: End) -> Self {
        Self { network, end, arrival: None }
    }

    /// Connects to the first address that can be connected to.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens; `TimedOut` after two minutes without a response.
    pub async fn connect<A: ToSocketAddrs>(address: A) -> io::Result<Self> {
        let network = Network::current();
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to");
        for address in lookup_host(address).await? {
            match network.connect(address).await {
                Ok(end) => return Ok(Self::new(network, end)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// This end's address.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.end.local)
    }

    /// The other end's address.
    ///
    /// # Errors
    /// None.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.end.peer)
    }

    /// Accepted without effect: data is never delayed to be combined.
    ///
    /// # Errors
    /// None.
    pub fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }

    /// Ready at `instant`.
    fn poll_until(&mut self, instant: Instant, context: &mut Context<'_>) -> Poll<()> {
        let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(instant)));
        if arrival.deadline() != instant {
            *arrival = Box::pin(sleep_until(instant));
        }
        let ready = arrival.as_mut().poll(context);
        if ready.is_ready() {
            self.arrival = None;
        }
        ready
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.network.read(&self.end, buffer, context.waker()) {
                Read::Done => return Poll::Ready(Ok(())),
                Read::Failed(error) => return Poll::Ready(Err(error)),
                Read::Nothing(None) => return Poll::Pending,
                Read::Nothing(Some(instant)) => {
                    if self.poll_until(instant, context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.poll_write(&self.end, bytes, context.waker())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.shut_down(&self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.network.close(&self.end);
    }
}
