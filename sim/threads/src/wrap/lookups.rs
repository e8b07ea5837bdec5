//! Names: `getaddrinfo` asks the simulation.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{
    AF_INET, AF_INET6, AF_UNSPEC, EAI_AGAIN, EAI_FAMILY, EAI_NONAME, EAI_SERVICE, addrinfo, sockaddr_in,
};
use libc::{sockaddr, socklen_t};

use super::sockets::{c_address, read_address};
use super::wrap;
use crate::names::Answer;
use crate::world::Call;

/// One address of a name, as the caller gets it.
#[repr(C)]
struct Found {
    info: addrinfo,
    address: sockaddr_in,
}

/// The results that were not freed yet, by their addresses: the others are the C library's.
static RESULTS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn results() -> MutexGuard<'static, BTreeSet<usize>> {
    RESULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Services by name, of which clients use few.
const SERVICES: [(&str, u16); 2] = [("http", 80), ("https", 443)];

fn port(service: &str) -> Option<u16> {
    if service.is_empty() {
        return Some(0);
    }
    let by_name = SERVICES.iter().find(|(name, _)| *name == service).map(|(_, port)| *port);
    service.parse().ok().or(by_name)
}

/// A string of the caller.
///
/// # Safety
/// It is null, or a string.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return Some("");
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

wrap! {
    __wrap_getaddrinfo, __real_getaddrinfo(
        host: *const c_char, service: *const c_char, hints: *const addrinfo, place: *mut *mut addrinfo,
    ) -> c_int = |call| {
        // SAFETY: the caller's strings.
        let (Some(host), Some(service)) = (unsafe { (text(host), text(service)) }) else { return EAI_NONAME };
        // SAFETY: the caller's memory.
        let hints = unsafe { hints.as_ref() };
        let (family, flags) = hints.map_or((AF_UNSPEC, 0), |hints| (hints.ai_family, hints.ai_flags));
        call.world.point("getaddrinfo", host.len() as u64);
        call.world.note_bytes(host.as_bytes());
        if family == AF_INET6 || host.parse::<std::net::Ipv6Addr>().is_ok() {
            // The simulated network has IPv4 only.
            return EAI_FAMILY;
        }
        let Some(port) = port(service) else { return EAI_SERVICE };
        let addresses = match host {
            "" if flags & libc::AI_PASSIVE != 0 => vec![Ipv4Addr::UNSPECIFIED],
            "" => vec![Ipv4Addr::LOCALHOST],
            name => match resolve(&call, name, flags & libc::AI_NUMERICHOST != 0) {
                Answer::Addresses(addresses) => addresses,
                Answer::Unknown => return EAI_NONAME,
                Answer::Unavailable => return EAI_AGAIN,
            },
        };
        let kind = hints.map_or(0, |hints| hints.ai_socktype);
        let first = list(&addresses, port, if kind == 0 { libc::SOCK_STREAM } else { kind });
        results().insert(first as usize);
        // SAFETY: the caller's memory.
        unsafe { *place = first };
        0
    }

    __wrap_getnameinfo, __real_getnameinfo(
        address: *const sockaddr, length: socklen_t, host: *mut c_char, host_size: socklen_t,
        service: *mut c_char, service_size: socklen_t, _flags: c_int,
    ) -> c_int = |call| {
        // SAFETY: the caller's address.
        let Ok(address) = (unsafe { read_address(address, length) }) else { return EAI_FAMILY };
        // Addresses have no names.
        for (text, place, size) in
            [(address.ip().to_string(), host, host_size), (address.port().to_string(), service, service_size)]
        {
            let text = CString::new(text).unwrap_or_default();
            let bytes = text.as_bytes_with_nul();
            if place.is_null() || size == 0 {
                continue;
            }
            if bytes.len() > size as usize {
                return libc::EAI_OVERFLOW;
            }
            // SAFETY: the caller's memory, of at least this size.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), place, bytes.len()) };
        }
        0
    }

    __wrap_gethostbyname, __real_gethostbyname(_name: *const c_char) -> *mut c_void = |call| {
        call.world.fail("gethostbyname is not supported, getaddrinfo is")
    }
}

fn resolve(call: &Call, name: &str, is_address: bool) -> Answer {
    if is_address && name.parse::<Ipv4Addr>().is_err() {
        return Answer::Unknown;
    }
    let lookup = call.world.setup().options.lookup;
    // A task would block its runtime for this time; the simulation's time stands still.
    if name.parse::<Ipv4Addr>().is_err() && call.worker().is_some() && !lookup.is_zero() {
        call.world.sleep(lookup);
    }
    call.world.lock().names.resolve(name)
}

/// A list of addresses in the C library's format.
fn list(addresses: &[Ipv4Addr], port: u16, kind: c_int) -> *mut addrinfo {
    let mut next = std::ptr::null_mut();
    for address in addresses.iter().rev() {
        // SAFETY: zero is valid for all of its members.
        let info = unsafe { std::mem::zeroed::<addrinfo>() };
        let address = c_address(SocketAddr::V4(SocketAddrV4::new(*address, port)));
        let found = Box::leak(Box::new(Found { info, address }));
        found.info.ai_family = AF_INET;
        found.info.ai_socktype = kind;
        found.info.ai_protocol = libc::IPPROTO_TCP;
        found.info.ai_addrlen = size_of::<sockaddr_in>() as socklen_t;
        found.info.ai_addr = (&raw mut found.address).cast();
        found.info.ai_next = next;
        next = std::ptr::from_mut(found).cast();
    }
    next
}

unsafe extern "C" {
    fn __real_freeaddrinfo(found: *mut addrinfo);
}

/// Frees what `getaddrinfo` gave, in a simulation or outside.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_freeaddrinfo(found: *mut addrinfo) {
    // In a simulation, so that the lock is not the simulation's.
    let call = Call::begin();
    let ours = results().remove(&(found as usize));
    drop(call);
    if !ours {
        // SAFETY: the argument is the caller's, unchanged.
        return unsafe { __real_freeaddrinfo(found) };
    }
    let mut next = found.cast::<Found>();
    while !next.is_null() {
        // SAFETY: `list` made each of them, and nobody else frees them.
        let found = unsafe { Box::from_raw(next) };
        next = found.info.ai_next.cast();
    }
}
