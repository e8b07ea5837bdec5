//! How much may be under way at once, over all clones of a store.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::CassandraOptions;

pub(super) struct Limits {
    bytes: Semaphore,
    all_bytes: u32,
    requests: Semaphore,
    all_requests: usize,
}

/// A request may go; it counts until this is dropped.
pub(super) struct Admitted<'a> {
    _bytes: Option<SemaphorePermit<'a>>,
    _request: Option<SemaphorePermit<'a>>,
}

impl Limits {
    pub(super) fn new(options: &CassandraOptions) -> Self {
        // A semaphore counts to usize::MAX / 8, and hands out u32 at once.
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

    /// Requests that may be under way.
    pub(super) fn requests(&self) -> usize {
        self.all_requests
    }

    /// Waits until a request with so many bytes of rows may go. One that is larger than all that is allowed
    /// goes alone.
    pub(super) async fn admit(&self, bytes: usize) -> Admitted<'_> {
        // Bytes always come before the request, so two that wait cannot wait for each other. Nobody closes
        // these semaphores, so an error, which says that, is none.
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
    fn what_is_under_way_is_capped_by_bytes_and_by_requests() {
        let limits = limits(100, 3);
        let first = limits.admit(60).now_or_never().expect("room for 60 of 100");
        assert!(limits.admit(41).now_or_never().is_none());
        let _second = limits.admit(40).now_or_never().expect("room for 40 more");
        drop(first);
        let _third = limits.admit(0).now_or_never().expect("a read takes no bytes");
        let _fourth = limits.admit(60).now_or_never().expect("the first gave its bytes back");
        assert!(limits.admit(0).now_or_never().is_none(), "three requests are under way");
    }

    #[test]
    fn a_row_larger_than_all_that_is_allowed_goes_alone() {
        let limits = limits(100, 3);
        let large = limits.admit(1_000_000).now_or_never().expect("nothing else is under way");
        assert!(limits.admit(1).now_or_never().is_none());
        drop(large);
        assert!(limits.admit(1).now_or_never().is_some());
    }

    #[test]
    fn limits_of_any_size_are_taken() {
        for size in [0, 1, usize::MAX] {
            assert!(limits(size, size).admit(usize::MAX).now_or_never().is_some());
        }
    }
}
