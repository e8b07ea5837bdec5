//! Client quotas: described by any broker, changed by the controller, and applied to what clients produce and consume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::cluster::Broker;
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::ErrorCode;
use crate::protocol::frame::RawRequest;
use crate::protocol::messages::alter_client_quotas_response::{
    EntityData as AlteredEntity, EntryData as AlteredEntry,
};
use crate::protocol::messages::describe_client_quotas_request::ComponentData;
use crate::protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use crate::protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};
use crate::protocol::text;
use crate::quota::{ClientName, Entity, EntityType, Kind};

const WAIT: Duration = Duration::from_secs(30);

/// What a filter requires of a type of entities (`DescribeClientQuotasRequest.MATCH_TYPE_*`).
enum Match {
    /// This name, or the default.
    Exactly(Option<String>),
    /// Any.
    Specified,
}

type Refusal = (ErrorCode, String);

/// `ClientQuotasImage.describe`
pub(super) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeClientQuotasRequest,
    _version: i16,
) -> DescribeClientQuotasResponse {
    let matches = match matches(&request.components) {
        Ok(matches) => matches,
        Err((error, message)) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&message)))
                .with_entries(None);
        }
    };
    let image = broker.image();
    let is_wanted = |entity: &Entity| {
        (!request.strict || entity.len() == matches.len())
            && matches.iter().all(|(kind, wanted)| match (entity.get(kind), wanted) {
                (None, _) => false,
                (Some(name), Match::Exactly(wanted)) => name == wanted,
                (Some(_), Match::Specified) => true,
            })
    };
    let entries = image.quotas.iter().filter(|(entity, _)| is_wanted(entity)).map(|(entity, quotas)| {
        let entity = entity.iter().map(|(kind, name)| {
            EntityData::default()
                .with_entity_type(text(kind.name()))
                .with_entity_name(name.as_deref().map(text))
        });
        let values =
            quotas.iter().map(|(key, limit)| ValueData::default().with_key(text(key)).with_value(limit.0));
        EntryData::default().with_entity(entity.collect()).with_values(values.collect())
    });
    DescribeClientQuotasResponse::default().with_entries(Some(entries.collect()))
}

fn matches(components: &[ComponentData]) -> Result<BTreeMap<EntityType, Match>, Refusal> {
    let invalid = |message: String| (ErrorCode::InvalidRequest, message);
    let mut matches = BTreeMap::new();
    for component in components {
        let name = component.entity_type.as_str();
        if name.is_empty() {
            return Err(invalid("Invalid empty entity type.".to_owned()));
        }
        let unsupported = || (ErrorCode::UnsupportedVersion, format!("Unsupported entity type {name}"));
        let kind = EntityType::named(name).ok_or_else(unsupported)?;
        let given = component._match.as_ref().map(|given| given.to_string());
        let wanted = match (component.match_type, given) {
            (0, Some(name)) => Match::Exactly(Some(name)),
            (0, None) => {
                let message = "Request specified MATCH_TYPE_EXACT, but set match string to null.";
                return Err(invalid(message.to_owned()));
            }
            (1, None) => Match::Exactly(None),
            (2, None) => Match::Specified,
            (1, Some(_)) => {
                let message = "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.";
                return Err(invalid(message.to_owned()));
            }
            (2, Some(_)) => {
                let message = "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.";
                return Err(invalid(message.to_owned()));
            }
            (other, _) => return Err(invalid(format!("Unknown match type {other}"))),
        };
        if matches.insert(kind, wanted).is_some() {
            let message = format!("Entity type {name} cannot appear more than once in the filter.");
            return Err(invalid(message));
        }
    }
    if matches.contains_key(&EntityType::Ip) && matches.len() > 1 {
        let message = "Invalid entity filter component combination. IP filter component should not be used with \
                       user or clientId filter component.";
        return Err(invalid(message.to_owned()));
    }
    Ok(matches)
}

pub(super) async fn alter(
    broker: &Arc<Broker>,
    request: AlterClientQuotasRequest,
    _version: i16,
) -> AlterClientQuotasResponse {
    let entities = request.entries.iter().map(|entry| {
        let entity = entry.entity.iter().map(|data| {
            AlteredEntity::default()
                .with_entity_type(data.entity_type.clone())
                .with_entity_name(data.entity_name.clone())
        });
        entity.collect::<Vec<_>>()
    });
    let entities: Vec<_> = entities.collect();
    match broker.ask_controller(ControlRequest::AlterQuotas(request), WAIT).await {
        Ok(ControlResponse::AlterQuotas(response)) => response,
        other => {
            let error = other.err().unwrap_or(ErrorCode::UnknownServerError).code();
            let entries = entities
                .into_iter()
                .map(|entity| AlteredEntry::default().with_error_code(error).with_entity(entity));
            AlterClientQuotasResponse::default().with_entries(entries.collect())
        }
    }
}

fn name<'a>(client: &'a Client, raw: &'a RawRequest) -> ClientName<'a> {
    ClientName { user: client.user.as_deref(), id: raw.client_id.as_deref().unwrap_or_default() }
}

/// Records bytes of a client, and returns how many milliseconds it must wait.
pub(super) fn record(broker: &Broker, kind: Kind, client: &Client, raw: &RawRequest, bytes: usize) -> i32 {
    let (now, window) = (broker.now(), broker.options().quota_window);
    let mut state = broker.lock();
    let image = state.image.clone();
    state.quotas.record(kind, &image, name(client, raw), bytes as f64, now, window)
}

/// How long the connection of a client that must wait is not read.
pub(super) fn muted(throttle_ms: i32) -> Duration {
    Duration::from_millis(u64::from(throttle_ms.unsigned_abs()))
}

/// Takes back what was recorded, because the client does not get it now.
pub(super) fn take_back(broker: &Broker, kind: Kind, client: &Client, raw: &RawRequest, bytes: usize) {
    let (now, window) = (broker.now(), broker.options().quota_window);
    let mut state = broker.lock();
    let image = state.image.clone();
    state.quotas.take_back(kind, &image, name(client, raw), bytes as f64, now, window);
}

/// The most bytes that a client gets at once: with more it would be throttled whatever it got before, and for ever.
pub(super) fn most_at_once(broker: &Broker, kind: Kind, client: &Client, raw: &RawRequest) -> usize {
    let mut state = broker.lock();
    let image = state.image.clone();
    let most = state.quotas.most_at_once(kind, &image, name(client, raw), broker.options().quota_window);
    // A cast saturates.
    most.map_or(usize::MAX, |most| most as usize)
}
