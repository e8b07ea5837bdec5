//! Simulated sockets. TCP is this shim's own; names are resolved by the simulator.

mod listener;
mod socket;
mod stream;

pub use listener::TcpListener;
pub use madsim_tokio::net::{ToSocketAddrs, lookup_host};
pub use socket::TcpSocket;
pub use stream::TcpStream;
