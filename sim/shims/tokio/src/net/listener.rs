//! The listening side.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::stream::TcpStream;
use super::{ToSocketAddrs, lookup_host};
use crate::network::{Network, Port};

/// A listening socket. What connects while its process is paused waits in its queue.
#[derive(Debug)]
pub struct TcpListener {
    network: Arc<Network>,
    port: Port,
}

impl TcpListener {
    /// Listens at the first address at which that is possible.
    ///
    /// # Errors
    /// If the address is not this machine's, or in use.
    pub async fn bind<A: ToSocketAddrs>(address: A) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at");
        for address in lookup_host(address).await? {
            match Self::at(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn at(address: SocketAddr) -> io::Result<Self> {
        let network = Network::current();
        let port = network.listen(address)?;
        Ok(Self { network, port })
    }

    /// The next connection, and who connected.
    ///
    /// # Errors
    /// If the process was ended.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (end, peer) = poll_fn(|context| self.network.poll_accept(&self.port, context)).await?;
        Ok((TcpStream::new(self.network.clone(), end), peer))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// None; as in tokio.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.port.address)
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.network.unlisten(&self.port);
    }
}
