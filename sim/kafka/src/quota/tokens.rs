//! The quota of changes of partitions (KIP-599, `ControllerMutationQuotaManager`): how many a client may create and delete
//! a second, as a bucket of tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ClientName, Kind, Tags, Window, limit, tags};
use crate::error::ErrorCode;
use crate::metadata::Image;

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requester {
    /// None if it has not authenticated.
    pub(crate) user: Option<String>,
    /// Empty if it has none.
    pub(crate) client_id: String,
    /// Whether a change beyond the quota is refused. Versions of requests that do not know the error are served, and wait
    /// afterwards.
    pub(crate) is_strict: bool,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

/// The buckets of a controller, which nobody has after it.
#[derive(Debug)]
pub(crate) struct Mutations {
    buckets: BTreeMap<Tags, Bucket>,
    window: Window,
}

/// What one request takes of a bucket.
#[derive(Debug)]
pub(crate) struct Charge {
    tags: Tags,
    /// The changes per second; none if there is no quota.
    limit: Option<f64>,
    is_strict: bool,
    now: Duration,
    /// How many milliseconds the client must wait.
    pub(crate) throttle_ms: i32,
}

impl Mutations {
    pub(crate) fn new(window: Window) -> Self {
        Self { buckets: BTreeMap::new(), window }
    }

    /// Another controller begins with full buckets.
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
    }

    /// Begins a request, at a time on the controller's clock.
    pub(crate) fn charge(&self, image: &Image, requester: &Requester, now: Duration) -> Charge {
        let client = ClientName { user: requester.user.as_deref(), id: &requester.client_id };
        let tags = tags(image, Kind::Mutation, client);
        let limit = limit(image, Kind::Mutation, &tags);
        Charge { tags, limit, is_strict: requester.is_strict, now, throttle_ms: 0 }
    }

    /// Takes a token for each partition that is created or deleted.
    ///
    /// # Errors
    /// [`ErrorCode::ThrottlingQuotaExceeded`] if earlier changes took more tokens than there were
    /// (`StrictControllerMutationQuota.record`).
    pub(crate) fn record(&mut self, charge: &mut Charge, partitions: usize) -> Result<(), ErrorCode> {
        let Some(limit) = charge.limit else { return Ok(()) };
        // `TokenBucket.burst`
        let most = limit * self.window.samples as f64 * self.window.size.as_secs_f64();
        let new = Bucket { tokens: most, filled: charge.now };
        let bucket = self.buckets.entry(charge.tags.clone()).or_insert(new);
        let passed = charge.now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.tokens = most.min(bucket.tokens + limit * passed);
        bucket.filled = charge.now;
        // `ControllerMutationQuotaManager.throttleTimeMs`; a cast saturates, as Java's does.
        let wait = |tokens: f64| (-tokens / limit * 1000.0).round() as i32;
        if charge.is_strict && bucket.tokens < 0.0 {
            charge.throttle_ms = wait(bucket.tokens);
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        bucket.tokens = most.min(bucket.tokens - partitions as f64);
        if !charge.is_strict && bucket.tokens < 0.0 {
            charge.throttle_ms = wait(bucket.tokens);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntityType, Limit};
    use super::*;

    /// Changes of partitions by clients of one user with a quota of 2 a second, and so with 22 tokens.
    struct Bench {
        mutations: Mutations,
        image: Image,
    }

    impl Bench {
        fn new() -> Self {
            let mut image = Image::default();
            let keys = BTreeMap::from([("controller_mutation_rate".to_owned(), Limit(2.0))]);
            image.quotas.insert(BTreeMap::from([(EntityType::User, Some("anna".to_owned()))]), keys);
            Self { mutations: Mutations::new(Window::default()), image }
        }

        fn record(&mut self, user: &str, is_strict: bool, partitions: usize, at: u64) -> (bool, i32) {
            let requester = Requester { user: Some(user.to_owned()), client_id: String::new(), is_strict };
            let mut charge = self.mutations.charge(&self.image, &requester, Duration::from_millis(at));
            let is_allowed = self.mutations.record(&mut charge, partitions).is_ok();
            (is_allowed, charge.throttle_ms)
        }
    }

    #[test]
    fn a_change_is_refused_while_the_one_before_has_taken_more_tokens_than_there_were() {
        let mut bench = Bench::new();
        assert_eq!(bench.record("anna", true, 22, 0), (true, 0));
        assert_eq!(bench.record("anna", true, 3, 0), (true, 0), "there is no token, and no debt");
        assert_eq!(bench.record("anna", true, 1, 0), (false, 1500));
        assert_eq!(bench.record("anna", true, 1, 1_000), (false, 500));
        assert_eq!(bench.record("anna", true, 1, 1_500), (true, 0));
        assert_eq!(bench.record("berta", true, 100, 1_500), (true, 0), "she has no quota");
        // As many as in eleven seconds, and no more.
        assert_eq!(bench.record("anna", true, 24, 100_000), (true, 0));
        assert_eq!(bench.record("anna", true, 1, 100_000), (false, 1000));
        bench.mutations.clear();
        assert_eq!(bench.record("anna", true, 22, 100_000), (true, 0));
    }

    #[test]
    fn a_client_that_does_not_know_the_error_is_served_and_waits() {
        let mut bench = Bench::new();
        assert_eq!(bench.record("anna", false, 22, 0), (true, 0));
        assert_eq!(bench.record("anna", false, 3, 0), (true, 1500));
        assert_eq!(bench.record("anna", false, 1, 0), (true, 2000));
    }
}
