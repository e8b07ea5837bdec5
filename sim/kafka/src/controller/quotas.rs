//! Changes of client quotas (`ClientQuotaControlManager`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Controller;
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use crate::protocol::messages::alter_client_quotas_response::{
    EntityData as AlteredEntity, EntryData as AlteredEntry,
};
use crate::protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use crate::protocol::text;
use crate::quota::{Entity, EntityType, Limit};

/// Quotas of users and client ids, and whether they are whole numbers (`QuotaConfig`).
const OF_CLIENTS: [(&str, bool); 4] = [
    ("consumer_byte_rate", true),
    ("controller_mutation_rate", false),
    ("producer_byte_rate", true),
    ("request_percentage", false),
];

const OF_ADDRESSES: &str = "connection_creation_rate";

/// Quotas that Kafka has, and that would have no effect here.
const NOT_SIMULATED: [&str; 2] = [OF_ADDRESSES, "request_percentage"];

/// The message of an `INVALID_REQUEST`.
type Refusal = String;

/// An entity as a request names it.
type Names = BTreeMap<String, Option<String>>;

impl Controller {
    pub(super) fn alter_quotas(&mut self, request: &AlterClientQuotasRequest) -> AlterClientQuotasResponse {
        let mut results: BTreeMap<Names, Result<(), Refusal>> = BTreeMap::new();
        let before = self.image();
        let mut image = Image::clone(&before);
        for entry in &request.entries {
            let names = names(&entry.entity);
            // As in Kafka, the first of them is applied all the same.
            let result = if results.contains_key(&names) {
                Err("Ignoring duplicate entity".to_owned())
            } else {
                alter(&mut image, &names, entry)
            };
            results.insert(names, result);
        }
        if !request.validate_only {
            self.change(|_, current| current.quotas = image.quotas);
        }
        let entries = results.into_iter().map(|(names, result)| {
            let entity = names.into_iter().map(|(kind, name)| {
                AlteredEntity::default()
                    .with_entity_type(text(&kind))
                    .with_entity_name(name.as_deref().map(text))
            });
            let entry = AlteredEntry::default().with_entity(entity.collect());
            match result {
                Ok(()) => entry,
                Err(message) => entry
                    .with_error_code(ErrorCode::InvalidRequest.code())
                    .with_error_message(Some(text(&message))),
            }
        });
        AlterClientQuotasResponse::default().with_entries(entries.collect())
    }
}

fn names(entity: &[EntityData]) -> Names {
    let names = entity
        .iter()
        .map(|data| (data.entity_type.to_string(), data.entity_name.as_ref().map(|name| name.to_string())));
    names.collect()
}

fn alter(image: &mut Image, names: &Names, entry: &EntryData) -> Result<(), Refusal> {
    let mut changes: BTreeMap<&str, Option<Limit>> = BTreeMap::new();
    for op in &entry.ops {
        let value = (!op.remove).then_some(Limit(op.value));
        if changes.insert(&op.key, value).is_some() {
            return Err(format!("Duplicate quota key {}", op.key));
        }
    }
    let entity = entity(names)?;
    for op in entry.ops.iter().filter(|op| !op.remove) {
        check(&entity, op)?;
    }
    let mut quotas = image.quotas.get(&entity).cloned().unwrap_or_default();
    for (key, value) in changes {
        match value {
            Some(limit) => quotas.insert(key.to_owned(), limit),
            None => quotas.remove(key),
        };
    }
    if quotas.is_empty() {
        image.quotas.remove(&entity);
    } else {
        image.quotas.insert(entity, quotas);
    }
    Ok(())
}

fn entity(names: &Names) -> Result<Entity, Refusal> {
    let mut entity = Entity::new();
    for (kind, name) in names {
        let known = EntityType::named(kind);
        let known = known.ok_or_else(|| format!("Unhandled client quota entity type: {kind}"))?;
        if name.as_deref() == Some("") {
            return Err(format!("Empty {kind} not supported"));
        }
        entity.insert(known, name.clone());
    }
    match entity.get(&EntityType::Ip) {
        _ if entity.is_empty() => Err("Invalid empty client quota entity".to_owned()),
        Some(_) if entity.len() > 1 => {
            Err("Invalid quota entity combination, IP entity should not be combined \
                                            with User or ClientId"
                .to_owned())
        }
        // Kafka also resolves names of hosts.
        Some(Some(address)) if address.parse::<IpAddr>().is_err() => {
            Err(format!("{address} is not a valid IP or resolvable host."))
        }
        _ => Ok(entity),
    }
}

fn check(entity: &Entity, op: &OpData) -> Result<(), Refusal> {
    let (key, value) = (op.key.as_str(), op.value);
    let most = if entity.contains_key(&EntityType::Ip) {
        (key == OF_ADDRESSES).then_some(Some((f64::from(i32::MAX), "an INT")))
    } else {
        let known = OF_CLIENTS.iter().find(|(known, _)| *known == key);
        known.map(|(_, is_whole)| is_whole.then_some((i64::MAX as f64, "a LONG")))
    };
    let most = most.ok_or_else(|| format!("Invalid configuration key {key}"))?;
    if value <= 0.0 {
        return Err(format!("Quota {key} must be greater than 0"));
    }
    match most {
        Some((most, name)) if value > most => {
            Err(format!("Proposed value for {key} is too large for {name}."))
        }
        Some(_) if (value % 1.0).abs() > 1e-6 => Err(format!("{key} cannot be a fractional value.")),
        _ if NOT_SIMULATED.contains(&key) => Err(format!("The quota {key} is not simulated")),
        _ => Ok(()),
    }
}
