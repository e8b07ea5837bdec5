//! Limits of the bytes and requests in flight, over all clones of a store.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::CassandraOptions;

pub(super) struct Limits {
    bytes: Semaphore,
    all_bytes: u32,
    requests: Semaphore,
    all_requests: usize,
}

/// The permit of a request, held until this is dropped.
pub(super) struct Admitted<'a> {
    _bytes: Option<SemaphorePermit<'a>>,
    _request: Option<SemaphorePermit<'a>>,
}

impl Limits {
    pub(super) fn new(options: &CassandraOptions) -> Self {
        // A semaphore has at most usize::MAX / 8 permits, and grants at most u32::MAX at a time.
        let all_bytes =
            u32::try_from(options.in_flight_bytes.max(1)).unwrap_or(u32::MAX >> 4).min(u32::MAX >> 4);
        let all_requests = options.in_flight_requests.clamp(1, 1 << 15);
        Self {
            bytes: Semaphore::new(all_bytes as usize),
            all_bytes,
            requests: Semaphore::new(all_requests),
            all_requests,
        }
    }

    /// Requests that may be in flight.
    pub(super) fn requests(&self) -> usize {
        self.all_requests
    }

    /// Waits until a request with this many bytes of rows may be sent. One that is larger than the limit is sent when
    /// nothing else is in flight.
    pub(super) async fn admit(&self, bytes: usize) -> Admitted<'_> {
        // Bytes are always acquired before the request, so two waiters cannot block each other. These semaphores are
        // never closed, so acquiring cannot fail.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all_bytes);
        let _bytes = match bytes {
            0 => None,
            bytes => self.bytes.acquire_many(bytes).await.ok(),
        };
        Admitted { _bytes, _request: self.requests.acquire().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::cql::Keyspace;

    fn limits(in_flight_bytes: usize, in_flight_requests: usize) -> Limits {
        let keyspace = Keyspace::try_from("k".to_owned()).unwrap();
        let options = CassandraOptions::new(Vec::new(), keyspace);
        Limits::new(&CassandraOptions { in_flight_bytes, in_flight_requests, ..options })
    }

    #[test]
    fn requests_in_flight_are_limited_by_bytes_and_by_number() {
        let limits = limits(100, 3);
        let first = limits.admit(60).now_or_never().expect("60 of 100 are free");
        assert!(limits.admit(41).now_or_never().is_none());
        let _second = limits.admit(40).now_or_never().expect("40 more are free");
        drop(first);
        let _third = limits.admit(0).now_or_never().expect("a read takes no bytes");
        let _fourth = limits.admit(60).now_or_never().expect("the first released its bytes");
        assert!(limits.admit(0).now_or_never().is_none(), "three requests are in flight");
    }

    #[test]
    fn a_request_larger_than_the_limit_is_sent_alone() {
        let limits = limits(100, 3);
        let large = limits.admit(1_000_000).now_or_never().expect("nothing else is in flight");
        assert!(limits.admit(1).now_or_never().is_none());
        drop(large);
        assert!(limits.admit(1).now_or_never().is_some());
    }

    #[test]
    fn limits_of_any_size_are_accepted() {
        for size in [0, 1, usize::MAX] {
            assert!(limits(size, size).admit(usize::MAX).now_or_never().is_some());
        }
    }
}
