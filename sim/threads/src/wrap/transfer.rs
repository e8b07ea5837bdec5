//! Bytes that are sent and received, through sockets and pipes.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::time::Duration;

use libc::{EAGAIN, EBADF, ENOTCONN, EPIPE, POLLIN, POLLOUT, iovec};

use super::failed;
use crate::descriptors::{BUFFER, Connection, FIRST, Kind};
use crate::world::{Call, Wait, World};

/// Which of a socket's two timeouts.
pub(super) const RECEIVING: usize = 0;
pub(super) const SENDING: usize = 1;

/// Memory of the caller, in one piece or several.
struct Pieces<'a>(&'a [iovec]);

impl Pieces<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.iov_len).sum()
    }
}

impl World {
    /// A number for the trace.
    pub(super) fn number(descriptor: c_int) -> u64 {
        (descriptor - FIRST) as u64
    }

    /// Whether a call on it waits, and until when at most.
    fn blocks(&self, descriptor: c_int, direction: usize, flags: c_int) -> Option<Option<Duration>> {
        let state = self.lock();
        let entry = state.descriptors.get(descriptor)?;
        if entry.nonblocking || flags & libc::MSG_DONTWAIT != 0 {
            return None;
        }
        let timeout = entry.timeouts.get(direction).copied().flatten();
        drop(state);
        Some(timeout.map(|timeout| self.now() + timeout))
    }

    /// Tries until it works, fails, or may wait no longer.
    pub(super) fn until_done(
        &self,
        descriptor: c_int,
        direction: usize,
        flags: c_int,
        mut attempt: impl FnMut() -> Result<usize, c_int>,
    ) -> Result<usize, c_int> {
        let blocks = self.blocks(descriptor, direction, flags);
        loop {
            match (attempt(), blocks) {
                (Err(EAGAIN), Some(deadline)) if deadline.is_none_or(|deadline| deadline > self.now()) => {
                    let events = if direction == RECEIVING { POLLIN } else { POLLOUT };
                    self.wait(Wait::Descriptors(vec![(descriptor, events)]), deadline);
                }
                (result, _) => return result,
            }
        }
    }

    /// Takes what was received, as much as there is memory for.
    fn try_receive(&self, descriptor: c_int, pieces: &Pieces<'_>, peek: bool) -> Result<usize, c_int> {
        let state = &mut *self.lock();
        let entry = state.descriptors.get_mut(descriptor).ok_or(EBADF)?;
        match &mut entry.kind {
            Kind::Connection(connection) => {
                let count = pieces.len().min(connection.received.len());
                if count == 0 && pieces.len() > 0 {
                    return match connection.as_ref() {
                        Connection { error: Some(error), .. } => Err(*error),
                        Connection { ended: true, .. } => Ok(0),
                        _ => Err(EAGAIN),
                    };
                }
                scatter(&connection.received, pieces);
                if !peek {
                    connection.received.drain(..count);
                    connection.wake();
                }
                Ok(count)
            }
            Kind::Pipe { number, reads: true } => {
                let number = *number;
                let (bytes, ends) = state.descriptors.pipe(number).ok_or(EBADF)?;
                let count = pieces.len().min(bytes.len());
                if count == 0 && pieces.len() > 0 {
                    return if ends[1].is_none() { Ok(0) } else { Err(EAGAIN) };
                }
                scatter(bytes, pieces);
                bytes.drain(..count);
                if let Some(writer) = ends[1] {
                    state.wake_descriptor(writer);
                }
                Ok(count)
            }
            Kind::Pipe { reads: false, .. } => Err(EBADF),
            Kind::Socket(_) | Kind::Listener { .. } => Err(ENOTCONN),
        }
    }

    /// Sends as much as there is space for.
    fn try_send(&self, descriptor: c_int, pieces: &Pieces<'_>) -> Result<usize, c_int> {
        let state = &mut *self.lock();
        let entry = state.descriptors.get_mut(descriptor).ok_or(EBADF)?;
        let (bytes, other) = match &mut entry.kind {
            Kind::Connection(connection) => {
                match connection.as_ref() {
                    Connection { error: Some(error), .. } => return Err(*error),
                    Connection { shut: true, .. } => return Err(EPIPE),
                    Connection { connecting: true, .. } => return Err(EAGAIN),
                    _ => connection.wake(),
                }
                (&mut connection.to_send, None)
            }
            Kind::Pipe { number, reads: false } => {
                let number = *number;
                let (bytes, ends) = state.descriptors.pipe(number).ok_or(EBADF)?;
                (bytes, Some(ends[0].ok_or(EPIPE)?))
            }
            Kind::Pipe { reads: true, .. } => return Err(EBADF),
            Kind::Socket(_) | Kind::Listener { .. } => return Err(ENOTCONN),
        };
        let before = bytes.len();
        let mut space = BUFFER.saturating_sub(before);
        if space == 0 && pieces.len() > 0 {
            return Err(EAGAIN);
        }
        for piece in pieces.0 {
            let count = piece.iov_len.min(space);
            if count > 0 {
                // SAFETY: the caller's memory, of at least this size.
                bytes.extend(unsafe { std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), count) });
            }
            space -= count;
        }
        let sent: Vec<u8> = bytes.range(before..).copied().collect();
        state.trace_bytes(&sent);
        if let Some(other) = other {
            state.wake_descriptor(other);
        }
        Ok(sent.len())
    }
}

/// Copies bytes to the caller's memory, as many as fit.
fn scatter(bytes: &VecDeque<u8>, pieces: &Pieces<'_>) {
    let mut from = bytes.iter();
    for piece in pieces.0 {
        for place in 0..piece.iov_len {
            let Some(byte) = from.next() else { return };
            // SAFETY: the caller's memory, which is at least so large.
            unsafe { *piece.iov_base.cast::<u8>().add(place) = *byte };
        }
    }
}

/// Receives for one of the calls that do.
///
/// # Safety
/// The memory is the caller's, and of these sizes.
pub(super) unsafe fn receive(call: &Call, descriptor: c_int, pieces: &[iovec], flags: c_int) -> isize {
    call.world.point("receive", World::number(descriptor));
    let pieces = Pieces(pieces);
    let peek = flags & libc::MSG_PEEK != 0;
    let received = call
        .world
        .until_done(descriptor, RECEIVING, flags, || call.world.try_receive(descriptor, &pieces, peek));
    finish(call, "received", received)
}

/// Sends for one of the calls that do. One that blocks sends everything.
///
/// # Safety
/// The memory is the caller's, and of these sizes.
pub(super) unsafe fn send(call: &Call, descriptor: c_int, pieces: &[iovec], flags: c_int) -> isize {
    call.world.point("send", World::number(descriptor));
    let pieces = Pieces(pieces);
    let mut sent = 0;
    let result = loop {
        let rest = skip(pieces.0, sent);
        let result = call
            .world
            .until_done(descriptor, SENDING, flags, || call.world.try_send(descriptor, &Pieces(&rest)));
        match result {
            Ok(count) => sent += count,
            Err(_) if sent > 0 => break Ok(sent),
            Err(error) => break Err(error),
        }
        if sent >= pieces.len() || call.world.blocks(descriptor, SENDING, flags).is_none() {
            break Ok(sent);
        }
    };
    finish(call, "sent", result)
}

/// What is left of the caller's memory behind these bytes.
fn skip(pieces: &[iovec], mut bytes: usize) -> Vec<iovec> {
    let mut rest = Vec::new();
    for piece in pieces {
        let skipped = piece.iov_len.min(bytes);
        bytes -= skipped;
        if piece.iov_len > skipped {
            // SAFETY: it stays within the piece.
            let iov_base = unsafe { piece.iov_base.cast::<u8>().add(skipped) }.cast();
            rest.push(iovec { iov_base, iov_len: piece.iov_len - skipped });
        }
    }
    rest
}

fn finish(call: &Call, what: &str, result: Result<usize, c_int>) -> isize {
    match result {
        Ok(count) => {
            call.world.note(what, count as u64);
            count as isize
        }
        Err(error) => {
            call.world.note(what, 0);
            failed(error) as isize
        }
    }
}
