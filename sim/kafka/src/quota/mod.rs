//! Client quotas: how many bytes a client may produce and consume a second (`ClientQuotaManager`), and how many partitions
//! it may create and delete (`tokens`).
//!
//! Each broker measures on its own what it serves, forgets it when it ends, and has the quotas that its metadata have. A
//! client that exceeds its quota gets its response at once, with the time that it should wait, and its connection is not
//! read for that time. Only these are enforced; other quotas are kept and described.

mod rate;
pub(crate) mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use rate::Window;

use crate::metadata::Image;
use crate::types::Timestamp;
use rate::Rate;

/// After how long what was measured of a silent client is forgotten
/// (`ClientQuotaManager.InactiveSensorExpirationTimeSeconds`).
const EXPIRATION: Duration = Duration::from_secs(3600);

/// The user of a client that has not authenticated (`KafkaPrincipal.ANONYMOUS`).
const ANONYMOUS: &str = "ANONYMOUS";

/// What a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityType {
    /// Clients by their `client.id`.
    ClientId,
    /// Clients by their address.
    Ip,
    /// Clients by the user that they have authenticated as.
    User,
}

impl EntityType {
    /// All of them.
    pub(crate) const ALL: [EntityType; 3] = [EntityType::ClientId, EntityType::Ip, EntityType::User];

    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientId => "client-id",
            Self::Ip => "ip",
            Self::User => "user",
        }
    }

    /// That of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Which clients a quota is for: those with all of these names. None stands for names that have no quota of their own.
pub type Entity = BTreeMap<EntityType, Option<String>>;

/// The bound of a quota.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub f64);

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq()
    }
}

impl Eq for Limit {}

/// A quota that is enforced, per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Of the requests of producers, in bytes.
    Produce,
    /// Of the responses to consumers, in bytes.
    Fetch,
    /// Of changes of partitions, at the controller.
    Mutation,
}

impl Kind {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Mutation => "controller_mutation_rate",
        }
    }
}

/// A client, as quotas name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientName<'a> {
    /// None if it has not authenticated.
    pub(crate) user: Option<&'a str>,
    /// Empty if it has none.
    pub(crate) id: &'a str,
}

/// What is measured together: the clients of a user, those with an id, or those with both. The other part is empty.
type Tags = (String, String);

/// What a broker has measured.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    rates: BTreeMap<(Kind, Tags), Rate>,
    /// For which there has been a quota since the broker started: without one, nothing is measured.
    enabled: BTreeSet<Kind>,
}

impl Quotas {
    /// Records bytes of a client, and returns how many milliseconds it must wait until its rate is within its quota again.
    pub(crate) fn record(
        &mut self,
        kind: Kind,
        image: &Image,
        client: ClientName<'_>,
        bytes: f64,
        now: Timestamp,
        window: Window,
    ) -> i32 {
        if !self.is_enabled(kind, image) {
            return 0;
        }
        let tags = tags(image, kind, client);
        let limit = limit(image, kind, &tags);
        let rate = self.rate(kind, tags, now);
        rate.record(bytes, now, window);
        let Some(limit) = limit else { return 0 };
        let (measured, elapsed) = rate.measure(now, window);
        if measured <= limit {
            return 0;
        }
        // `QuotaUtils.throttleTime`; a cast saturates, as Java's does.
        ((measured - limit) / limit * elapsed as f64).round() as i32
    }

    /// Takes back what was recorded.
    pub(crate) fn take_back(
        &mut self,
        kind: Kind,
        image: &Image,
        client: ClientName<'_>,
        bytes: f64,
        now: Timestamp,
        window: Window,
    ) {
        self.rate(kind, tags(image, kind, client), now).record(-bytes, now, window);
    }

    /// The most bytes that a client can get at once without being throttled.
    pub(crate) fn most_at_once(
        &mut self,
        kind: Kind,
        image: &Image,
        client: ClientName<'_>,
        window: Window,
    ) -> Option<f64> {
        if !self.is_enabled(kind, image) {
            return None;
        }
        limit(image, kind, &tags(image, kind, client)).map(|limit| window.most_at_once(limit))
    }

    fn is_enabled(&mut self, kind: Kind, image: &Image) -> bool {
        if !self.enabled.contains(&kind) && image.quotas.values().any(|keys| keys.contains_key(kind.key())) {
            self.enabled.insert(kind);
        }
        self.enabled.contains(&kind)
    }

    fn rate(&mut self, kind: Kind, tags: Tags, now: Timestamp) -> &mut Rate {
        let key = (kind, tags);
        if !self.rates.contains_key(&key) {
            let expired = i64::try_from(EXPIRATION.as_millis()).unwrap_or(i64::MAX);
            self.rates.retain(|_, rate| now - rate.last() < expired);
        }
        self.rates.entry(key).or_insert_with(|| Rate::new(now))
    }
}

fn entity(user: Option<Option<&str>>, id: Option<Option<&str>>) -> Entity {
    let user = user.map(|name| (EntityType::User, name.map(str::to_owned)));
    let id = id.map(|name| (EntityType::ClientId, name.map(str::to_owned)));
    user.into_iter().chain(id).collect()
}

fn bound(image: &Image, kind: Kind, entity: &Entity) -> Option<f64> {
    image.quotas.get(entity)?.get(kind.key()).map(|limit| limit.0)
}

/// With whom a client is measured: the most specific quota decides (`DefaultQuotaCallback.quotaMetricTags`).
fn tags(image: &Image, kind: Kind, client: ClientName<'_>) -> Tags {
    let user = client.user.unwrap_or(ANONYMOUS);
    let (named, id) = (Some(Some(user)), Some(Some(client.id)));
    let default = Some(None);
    let levels = [
        (entity(named, id), true, true),
        (entity(named, default), true, true),
        (entity(named, None), true, false),
        (entity(default, id), true, true),
        (entity(default, default), true, true),
        (entity(default, None), true, false),
    ];
    let level = levels.iter().find(|(entity, ..)| bound(image, kind, entity).is_some());
    let (of_user, of_id) = level.map_or((false, true), |(_, of_user, of_id)| (*of_user, *of_id));
    let part = |is_part: bool, name: &str| if is_part { name.to_owned() } else { String::new() };
    (part(of_user, user), part(of_id, client.id))
}

/// The quota of those that are measured together (`DefaultQuotaCallback.quotaLimit`).
fn limit(image: &Image, kind: Kind, (user, id): &Tags) -> Option<f64> {
    let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let (user, id) = (name(user), name(id));
    let (named, given) = (Some(user.as_deref()), Some(id.as_deref()));
    let default = Some(None);
    let levels = match (&user, &id) {
        (Some(_), Some(_)) => {
            vec![(named, given), (named, default), (default, given), (default, default)]
        }
        (Some(_), None) => vec![(named, None), (default, None)],
        (None, Some(_)) => vec![(None, given), (None, default)],
        (None, None) => Vec::new(),
    };
    levels.into_iter().find_map(|(user, id)| bound(image, kind, &entity(user, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { samples: 11, size: Duration::from_secs(1) };
    const ANNA: ClientName<'static> = ClientName { user: Some("anna"), id: "app" };

    fn image(quotas: &[(Entity, f64)]) -> Image {
        let mut image = Image::default();
        for (entity, limit) in quotas {
            let keys = BTreeMap::from([(Kind::Produce.key().to_owned(), Limit(*limit))]);
            image.quotas.insert(entity.clone(), keys);
        }
        image
    }

    #[test]
    fn the_most_specific_quota_is_the_one_of_a_client() {
        let default = Some(None);
        // From the most to the least specific one (the documentation of `ClientQuotaManager`).
        let mut levels = vec![
            (entity(Some(Some("anna")), Some(Some("app"))), ("anna", "app")),
            (entity(Some(Some("anna")), default), ("anna", "app")),
            (entity(Some(Some("anna")), None), ("anna", "")),
            (entity(default, Some(Some("app"))), ("anna", "app")),
            (entity(default, default), ("anna", "app")),
            (entity(default, None), ("anna", "")),
            (entity(None, Some(Some("app"))), ("", "app")),
            (entity(None, default), ("", "app")),
        ];
        for most in (1..=8).map(f64::from) {
            let quotas: Vec<_> = levels
                .iter()
                .zip(1..)
                .map(|((entity, _), place)| (entity.clone(), most + f64::from(place)))
                .collect();
            let image = image(&quotas);
            let tags = tags(&image, Kind::Produce, ANNA);
            assert_eq!((tags.0.as_str(), tags.1.as_str()), levels[0].1);
            assert_eq!(limit(&image, Kind::Produce, &tags), Some(most + 1.0));
            assert_eq!(limit(&image, Kind::Fetch, &tags), None);
            levels.remove(0);
        }
    }

    #[test]
    fn who_has_not_authenticated_is_the_user_anonymous() {
        let image = image(&[(entity(Some(Some("ANONYMOUS")), None), 5.0)]);
        let tags = tags(&image, Kind::Produce, ClientName { user: None, id: "" });
        assert_eq!(limit(&image, Kind::Produce, &tags), Some(5.0));
    }

    #[test]
    fn a_client_waits_until_its_rate_is_within_the_quota() {
        let image = image(&[(entity(None, Some(None)), 100.0)]);
        let mut quotas = Quotas::default();
        let mut record = |bytes: f64, now| quotas.record(Kind::Produce, &image, ANNA, bytes, now, WINDOW);
        assert_eq!(record(1000.0, 0), 0, "as much as in ten seconds");
        // 1500 bytes in 10 s are 50 more a second than allowed: 5 s.
        assert_eq!(record(500.0, 0), 5000);
        // The window is never shorter than 10 s, so it has not grown after that.
        assert_eq!(record(0.0, 5000), 5000);
        assert_eq!(record(0.0, 10_999), 4001);
        // Then the sample with all of them is too old.
        assert_eq!(record(1000.0, 11_000), 0);
    }

    #[test]
    fn clients_with_the_same_quota_of_a_user_are_measured_together_and_those_with_an_id_apart() {
        let mut quotas = Quotas::default();
        let other = ClientName { user: Some("anna"), id: "other" };
        let image = image(&[(entity(Some(Some("anna")), None), 100.0)]);
        assert_eq!(quotas.record(Kind::Produce, &image, ANNA, 1000.0, 0, WINDOW), 0);
        assert_eq!(quotas.record(Kind::Produce, &image, other, 100.0, 0, WINDOW), 1000);
        assert_eq!(quotas.record(Kind::Fetch, &image, other, 1e9, 0, WINDOW), 0, "there is no such quota");
        let image = super::tests::image(&[(entity(None, Some(None)), 100.0)]);
        let mut quotas = Quotas::default();
        assert_eq!(quotas.record(Kind::Produce, &image, ANNA, 1000.0, 0, WINDOW), 0);
        assert_eq!(quotas.record(Kind::Produce, &image, other, 1000.0, 0, WINDOW), 0);
        assert_eq!(quotas.most_at_once(Kind::Produce, &image, other, WINDOW), Some(1000.0));
        assert_eq!(quotas.most_at_once(Kind::Fetch, &image, other, WINDOW), None);
    }

    #[test]
    fn silent_clients_are_forgotten_after_an_hour() {
        let image = image(&[(entity(None, Some(None)), 100.0)]);
        let mut quotas = Quotas::default();
        for id in ["a", "b"] {
            quotas.record(Kind::Produce, &image, ClientName { user: None, id }, 1.0, 0, WINDOW);
        }
        quotas.record(Kind::Produce, &image, ClientName { user: None, id: "c" }, 1.0, 3_600_000, WINDOW);
        assert_eq!(quotas.rates.len(), 1);
    }
}
