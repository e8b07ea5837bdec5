//! Sockets of TCP over IPv4, blocking or not.

use std::ffi::{c_int, c_void};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use libc::{
    AF_INET, EAFNOSUPPORT, EAGAIN, EALREADY, EBADF, EINPROGRESS, EINVAL, EISCONN, ENOTCONN, ENOTSOCK,
    EOPNOTSUPP, EPROTONOSUPPORT, iovec, msghdr, sockaddr, sockaddr_in, socklen_t, timeval,
};

use super::transfer::{RECEIVING, SENDING, receive, send};
use super::{c_time_micros, failed, wrap};
use crate::descriptors::{BUFFER, Connection, Kind};
use crate::streams::code;
use crate::world::{Call, World};

/// An address of the caller.
///
/// # Safety
/// The memory is the caller's, and of this size.
pub(super) unsafe fn read_address(address: *const sockaddr, length: socklen_t) -> Result<SocketAddr, c_int> {
    if address.is_null() || (length as usize) < size_of::<libc::sa_family_t>() {
        return Err(EINVAL);
    }
    // SAFETY: see above.
    let family = unsafe { (&raw const (*address).sa_family).read_unaligned() };
    if c_int::from(family) != AF_INET {
        return Err(EAFNOSUPPORT);
    }
    if (length as usize) < size_of::<sockaddr_in>() {
        return Err(EINVAL);
    }
    // SAFETY: of this family and length, it is one of these.
    let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(address.sin_port))))
}

/// An address in the C library's format.
pub(super) fn c_address(address: SocketAddr) -> sockaddr_in {
    let ip = match address {
        SocketAddr::V4(address) => *address.ip(),
        // The simulated network has none; `listen` and `connect` refuse them.
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    sockaddr_in {
        sin_family: AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    }
}

/// Gives the caller an address, as much of it as there is memory for.
///
/// # Safety
/// The memory is null, or the caller's and of this size.
unsafe fn write_address(address: SocketAddr, place: *mut sockaddr, length: *mut socklen_t) {
    if place.is_null() || length.is_null() {
        return;
    }
    let address = c_address(address);
    // SAFETY: see above.
    unsafe {
        let size = (*length as usize).min(size_of::<sockaddr_in>());
        std::ptr::copy_nonoverlapping((&raw const address).cast::<u8>(), place.cast::<u8>(), size);
        *length = size_of::<sockaddr_in>() as socklen_t;
    }
}

fn one(bytes: *const c_void, count: usize) -> iovec {
    iovec { iov_base: bytes.cast_mut(), iov_len: count }
}

/// The pieces of a message.
///
/// # Safety
/// The message is the caller's.
unsafe fn pieces<'a>(message: *const msghdr) -> &'a [iovec] {
    // SAFETY: see above.
    unsafe {
        let (pieces, count) = ((*message).msg_iov, (*message).msg_iovlen);
        if count == 0 { &[] } else { std::slice::from_raw_parts(pieces, count) }
    }
}

fn code_of(result: Result<(), c_int>) -> c_int {
    result.map_or_else(failed, |()| 0)
}

/// Creates a socket, if it is of a kind that the simulated network has.
fn socket(call: &Call, domain: c_int, kind: c_int, protocol: c_int) -> Result<c_int, c_int> {
    let (flags, kind) = (
        kind & (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC),
        kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC),
    );
    if domain != AF_INET {
        return Err(EAFNOSUPPORT);
    }
    if kind != libc::SOCK_STREAM || !matches!(protocol, 0 | libc::IPPROTO_TCP) {
        return Err(EPROTONOSUPPORT);
    }
    let machine = call.world.machine();
    Ok(call.world.lock().descriptors.add(machine, Kind::Socket(None), flags & libc::SOCK_NONBLOCK != 0))
}

/// Connects a socket. One that blocks waits for the connection.
fn connect(call: &Call, descriptor: c_int, to: SocketAddr) -> Result<(), c_int> {
    {
        let state = &mut *call.world.lock();
        let entry = state.descriptors.get_mut(descriptor).ok_or(EBADF)?;
        match &mut entry.kind {
            kind @ Kind::Socket(_) => {
                let connection = Connection { connecting: true, peer: Some(to), ..Connection::default() };
                *kind = Kind::Connection(Box::new(connection));
            }
            Kind::Connection(connection) if connection.connecting => return Err(EALREADY),
            Kind::Connection(_) => return Err(EISCONN),
            Kind::Listener { .. } => return Err(EISCONN),
            Kind::Pipe { .. } => return Err(ENOTSOCK),
        }
    }
    call.world.connect(descriptor, to);
    let done = call.world.until_done(descriptor, SENDING, 0, || {
        let state = &mut *call.world.lock();
        match state.descriptors.connection(descriptor) {
            None => Err(EBADF),
            Some(Connection { error: Some(error), .. }) => Err(*error),
            Some(Connection { connecting: true, .. }) => Err(EAGAIN),
            Some(_) => Ok(0),
        }
    });
    match done {
        Ok(_) => Ok(()),
        Err(EAGAIN) => Err(EINPROGRESS),
        Err(error) => Err(error),
    }
}

fn accept(call: &Call, descriptor: c_int, nonblocking: bool) -> Result<(c_int, SocketAddr), c_int> {
    if !matches!(
        call.world.lock().descriptors.get(descriptor).map(|entry| &entry.kind),
        Some(Kind::Listener { .. })
    ) {
        return Err(EINVAL);
    }
    let mut accepted = None;
    call.world.until_done(descriptor, RECEIVING, 0, || {
        accepted = call.world.accept(descriptor, nonblocking);
        if accepted.is_some() { Ok(0) } else { Err(EAGAIN) }
    })?;
    accepted.ok_or(EAGAIN)
}

/// A value of an option.
enum Value {
    Number(c_int),
    Time(Duration),
}

fn option(call: &Call, descriptor: c_int, level: c_int, name: c_int) -> Result<Value, c_int> {
    let state = &mut *call.world.lock();
    let entry = state.descriptors.get(descriptor).ok_or(EBADF)?;
    let time =
        |direction: usize| Value::Time(entry.timeouts.get(direction).copied().flatten().unwrap_or_default());
    if level != libc::SOL_SOCKET {
        return Ok(Value::Number(0));
    }
    Ok(match name {
        libc::SO_RCVTIMEO => time(RECEIVING),
        libc::SO_SNDTIMEO => time(SENDING),
        libc::SO_TYPE => Value::Number(libc::SOCK_STREAM),
        libc::SO_DOMAIN => Value::Number(AF_INET),
        libc::SO_RCVBUF | libc::SO_SNDBUF => Value::Number(BUFFER as c_int),
        libc::SO_ERROR => match &entry.kind {
            Kind::Connection(connection) => Value::Number(connection.error.unwrap_or(0)),
            _ => Value::Number(0),
        },
        _ => Value::Number(0),
    })
}

wrap! {
    __wrap_socket, __real_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = |call| {
        call.world.note("socket", domain as u64);
        socket(&call, domain, kind, protocol).unwrap_or_else(failed)
    }

    __wrap_socketpair, __real_socketpair(_domain: c_int, _kind: c_int, _protocol: c_int, _places: *mut c_int) -> c_int = |call| {
        call.world.note("socketpair", 0);
        failed(EOPNOTSUPP)
    }

    __wrap_bind, __real_bind(descriptor: c_int, address: *const sockaddr, length: socklen_t) -> c_int = |call| {
        call.world.note("bind", 0);
        // SAFETY: the caller's address.
        let address = unsafe { read_address(address, length) };
        let state = &mut *call.world.lock();
        match (state.descriptors.get_mut(descriptor).map(|entry| &mut entry.kind), address) {
            (Some(Kind::Socket(bound)), Ok(address)) => {
                *bound = Some(address);
                0
            }
            (None, _) => failed(EBADF),
            (_, Err(error)) => failed(error),
            _ => failed(EINVAL),
        }
    }

    __wrap_listen, __real_listen(descriptor: c_int, _backlog: c_int) -> c_int = |call| {
        call.world.point("listen", 0);
        code_of(call.world.listen(descriptor).map_err(|error| code(&error)))
    }

    __wrap_accept, __real_accept(descriptor: c_int, place: *mut sockaddr, length: *mut socklen_t) -> c_int = |call| {
        // SAFETY: the caller's memory.
        unsafe { accepted(&call, descriptor, place, length, 0) }
    }

    __wrap_accept4, __real_accept4(
        descriptor: c_int, place: *mut sockaddr, length: *mut socklen_t, flags: c_int,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        unsafe { accepted(&call, descriptor, place, length, flags) }
    }

    __wrap_connect, __real_connect(descriptor: c_int, address: *const sockaddr, length: socklen_t) -> c_int = |call| {
        call.world.point("connect", World::number(descriptor));
        // SAFETY: the caller's address.
        let connected = unsafe { read_address(address, length) }.and_then(|to| connect(&call, descriptor, to));
        call.world.note("connected", connected.err().unwrap_or(0) as u64);
        code_of(connected)
    }

    __wrap_shutdown, __real_shutdown(descriptor: c_int, how: c_int) -> c_int = |call| {
        call.world.point("shutdown", how as u64);
        let state = &mut *call.world.lock();
        let Some(connection) = state.descriptors.connection(descriptor) else { return failed(ENOTCONN) };
        connection.shut |= how != libc::SHUT_RD;
        connection.ended |= how != libc::SHUT_WR;
        connection.wake();
        state.wake_descriptor(descriptor);
        0
    }

    __wrap_getsockname, __real_getsockname(descriptor: c_int, place: *mut sockaddr, length: *mut socklen_t) -> c_int = |call| {
        // A socket that is bound has its port; here it gets one when it listens, so it does now.
        let is_bound = matches!(
            call.world.lock().descriptors.get(descriptor).map(|entry| &entry.kind), Some(Kind::Socket(Some(_)))
        );
        if is_bound && let Err(error) = call.world.listen(descriptor) {
            return failed(code(&error));
        }
        let unspecified = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let address = match call.world.lock().descriptors.get(descriptor).map(|entry| &entry.kind) {
            Some(Kind::Listener { address, .. }) => *address,
            Some(Kind::Connection(connection)) => connection.local.unwrap_or(unspecified),
            Some(Kind::Socket(_)) => unspecified,
            Some(Kind::Pipe { .. }) => return failed(ENOTSOCK),
            None => return failed(EBADF),
        };
        // SAFETY: the caller's memory.
        unsafe { write_address(address, place, length) };
        0
    }

    __wrap_getpeername, __real_getpeername(descriptor: c_int, place: *mut sockaddr, length: *mut socklen_t) -> c_int = |call| {
        let state = &mut *call.world.lock();
        match state.descriptors.connection(descriptor) {
            Some(Connection { connecting: false, peer: Some(peer), .. }) => {
                // SAFETY: the caller's memory.
                unsafe { write_address(*peer, place, length) };
                0
            }
            _ => failed(ENOTCONN),
        }
    }

    __wrap_getsockopt, __real_getsockopt(
        descriptor: c_int, level: c_int, name: c_int, place: *mut c_void, length: *mut socklen_t,
    ) -> c_int = |call| {
        let mut bytes = [0; size_of::<timeval>()];
        let size = match option(&call, descriptor, level, name) {
            Ok(Value::Number(number)) => {
                bytes[..size_of::<c_int>()].copy_from_slice(&number.to_ne_bytes());
                size_of::<c_int>()
            }
            Ok(Value::Time(time)) => {
                let time = c_time_micros(time);
                bytes[..8].copy_from_slice(&time.tv_sec.to_ne_bytes());
                bytes[8..].copy_from_slice(&time.tv_usec.to_ne_bytes());
                bytes.len()
            }
            Err(error) => return failed(error),
        };
        // SAFETY: the caller's memory.
        unsafe {
            let size = size.min(*length as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), size);
            *length = size as socklen_t;
        }
        0
    }

    __wrap_setsockopt, __real_setsockopt(
        descriptor: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t,
    ) -> c_int = |call| {
        let state = &mut *call.world.lock();
        let Some(entry) = state.descriptors.get_mut(descriptor) else { return failed(EBADF) };
        let direction = match name {
            libc::SO_RCVTIMEO => RECEIVING,
            libc::SO_SNDTIMEO => SENDING,
            // Without effect here.
            _ => return 0,
        };
        if level != libc::SOL_SOCKET || (length as usize) < size_of::<timeval>() {
            return 0;
        }
        // SAFETY: the caller's memory, of this size.
        let time = unsafe { value.cast::<timeval>().read_unaligned() };
        let time = Duration::from_secs(time.tv_sec.max(0) as u64) + Duration::from_micros(time.tv_usec.max(0) as u64);
        if let Some(timeout) = entry.timeouts.get_mut(direction) {
            *timeout = (!time.is_zero()).then_some(time);
        }
        0
    }

    __wrap_send, __real_send(descriptor: c_int, bytes: *const c_void, count: usize, flags: c_int) -> isize = |call| {
        // SAFETY: the caller's memory.
        unsafe { send(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap_sendto, __real_sendto(
        descriptor: c_int, bytes: *const c_void, count: usize, flags: c_int, _to: *const sockaddr, _length: socklen_t,
    ) -> isize = |call| {
        // A connection's peer is known: the address is ignored, as in Linux.
        // SAFETY: the caller's memory.
        unsafe { send(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap_sendmsg, __real_sendmsg(descriptor: c_int, message: *const msghdr, flags: c_int) -> isize = |call| {
        // SAFETY: the caller's message.
        unsafe { send(&call, descriptor, pieces(message), flags) }
    }

    __wrap_recv, __real_recv(descriptor: c_int, bytes: *mut c_void, count: usize, flags: c_int) -> isize = |call| {
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap___recv_chk, __real___recv_chk(
        descriptor: c_int, bytes: *mut c_void, count: usize, _size: usize, flags: c_int,
    ) -> isize = |call| {
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap_recvfrom, __real_recvfrom(
        descriptor: c_int, bytes: *mut c_void, count: usize, flags: c_int, _from: *mut sockaddr, length: *mut socklen_t,
    ) -> isize = |call| {
        no_address(length);
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap___recvfrom_chk, __real___recvfrom_chk(
        descriptor: c_int, bytes: *mut c_void, count: usize, _size: usize, flags: c_int,
        _from: *mut sockaddr, length: *mut socklen_t,
    ) -> isize = |call| {
        no_address(length);
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], flags) }
    }

    __wrap_recvmsg, __real_recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> isize = |call| {
        // SAFETY: the caller's message.
        unsafe {
            (*message).msg_flags = 0;
            (*message).msg_controllen = 0;
            (*message).msg_namelen = 0;
            receive(&call, descriptor, pieces(message), flags)
        }
    }
}

/// A connection has no other peer, so none is named, as in Linux.
fn no_address(length: *mut socklen_t) {
    if !length.is_null() {
        // SAFETY: the caller's memory.
        unsafe { *length = 0 };
    }
}

/// # Safety
/// The memory is the caller's.
unsafe fn accepted(
    call: &Call,
    descriptor: c_int,
    place: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    call.world.point("accept", World::number(descriptor));
    match accept(call, descriptor, flags & libc::SOCK_NONBLOCK != 0) {
        Ok((accepted, peer)) => {
            call.world.note("accepted", World::number(accepted));
            // SAFETY: see above.
            unsafe { write_address(peer, place, length) };
            accepted
        }
        Err(error) => failed(error),
    }
}
