//! CREATE and ALTER KEYSPACE.

use std::collections::{BTreeMap, BTreeSet};

use super::options::{boolean, by_name, map};
use super::{
    Change, DefinitionContext, MAX_NAME_LENGTH, invalid, is_valid_name, missing, notice, writable_keyspace,
    writable_table,
};
use crate::coordinator::ChangeKind;
use crate::cql::ast::Property;
use crate::protocol::ServerError;
use crate::schema::{Replication, SchemaChange};

pub(super) fn create_keyspace(
    name: &str,
    if_not_exists: bool,
    properties: &[(String, Property)],
    around: &DefinitionContext<'_>,
) -> Result<Option<Change>, ServerError> {
    let found = by_name(properties, &["replication", "durable_writes"])?;
    if !is_valid_name(name) {
        return Err(invalid(format!(
            "Keyspace name must not be empty, more than {MAX_NAME_LENGTH} characters long, or contain \
             non-alphanumeric-underscore characters (got '{name}')"
        )));
    }
    writable_keyspace(name)?;
    let Some(property) = found.get("replication") else {
        return Err(invalid("Missing mandatory option 'replication'".to_owned()));
    };
    if map("replication", property)?.iter().all(|(key, _)| key != "class") {
        return Err(ServerError::configuration("Missing replication strategy class"));
    }
    if around.schema.keyspaces.contains_key(name) {
        if if_not_exists {
            return Ok(None);
        }
        return Err(ServerError::AlreadyExists { keyspace: name.to_owned(), table: String::new() });
    }
    let replication = replication(name, map("replication", property)?, around, None)?;
    let durable_writes = match found.get("durable_writes") {
        Some(property) => boolean("durable_writes", property)?,
        None => true,
    };
    let change = SchemaChange::PutKeyspace { name: name.into(), replication, durable_writes };
    Ok(Some((change, notice(ChangeKind::Created, name, None))))
}

pub(super) fn alter_keyspace(
    name: &str,
    if_exists: bool,
    properties: &[(String, Property)],
    around: &DefinitionContext<'_>,
) -> Result<Option<Change>, ServerError> {
    let found = by_name(properties, &["replication", "durable_writes"])?;
    writable_table(name)?;
    let Some(keyspace) = around.schema.keyspaces.get(name) else {
        return missing(if_exists, format!("Keyspace '{name}' doesn't exist"));
    };
    let replication = match found.get("replication") {
        Some(property) => {
            let entries = map("replication", property)?;
            if entries.iter().all(|(key, _)| key != "class") {
                return Err(ServerError::configuration("Missing replication strategy class"));
            }
            replication(name, entries, around, Some(&keyspace.replication))?
        }
        None => keyspace.replication.clone(),
    };
    let durable_writes = match found.get("durable_writes") {
        Some(property) => boolean("durable_writes", property)?,
        None => keyspace.durable_writes,
    };
    let change = SchemaChange::PutKeyspace { name: name.into(), replication, durable_writes };
    Ok(Some((change, notice(ChangeKind::Updated, name, None))))
}

pub(super) fn factor(text: &str) -> Result<usize, ServerError> {
    match text.parse::<i64>() {
        Ok(factor) => usize::try_from(factor).map_err(|_| {
            ServerError::configuration(format!("Replication factor must be non-negative, found {factor}"))
        }),
        Err(_) if text.contains('/') => {
            Err(ServerError::configuration("transient replication (a factor such as 3/1) is not simulated"))
        }
        Err(_) => Err(ServerError::configuration(format!("For input string: \"{text}\""))),
    }
}

pub(super) fn replication(
    keyspace: &str,
    entries: &[(String, String)],
    around: &DefinitionContext<'_>,
    before: Option<&Replication>,
) -> Result<Replication, ServerError> {
    let entries: BTreeMap<&str, &str> =
        entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let class = entries.get("class").copied().unwrap_or_default();
    let short = class.strip_prefix("org.apache.cassandra.locator.").unwrap_or(class);
    let options: BTreeMap<&str, &str> =
        entries.iter().filter(|(key, _)| **key != "class").map(|(key, value)| (*key, *value)).collect();
    let unrecognized = |option: &str| {
        ServerError::configuration(format!(
            "Unrecognized strategy option {{{option}}} passed to {short} for keyspace {keyspace}"
        ))
    };
    match short {
        "SimpleStrategy" => {
            if let Some(option) = options.keys().find(|option| **option != "replication_factor") {
                return Err(unrecognized(option));
            }
            // Cassandra's `default_keyspace_rf` is 1.
            let factor = options.get("replication_factor").map_or(Ok(1), |text| factor(text))?;
            Ok(Replication::Simple { factor })
        }
        "NetworkTopologyStrategy" => {
            let peers = around.topology.peers.iter().chain([&around.topology.local]);
            let centers: BTreeSet<&str> = peers.map(|peer| peer.data_center.as_str()).collect();
            let mut factors = BTreeMap::new();
            if let Some(text) = options.get("replication_factor") {
                let everywhere = factor(text)?;
                factors.extend(centers.iter().map(|center| ((*center).to_owned(), everywhere)));
                // ALTER keeps what data centres have; the factor is for new ones.
                if let Some(Replication::NetworkTopology { factors: before }) = before {
                    factors.extend(before.clone());
                }
            } else if options.is_empty() {
                factors.extend(centers.iter().map(|center| ((*center).to_owned(), 1)));
            }
            for (option, text) in &options {
                if *option == "replication_factor" {
                    continue;
                }
                if !centers.contains(option) {
                    return Err(unrecognized(option));
                }
                factors.insert((*option).to_owned(), factor(text)?);
            }
            factors.retain(|_, factor| *factor > 0);
            Ok(Replication::NetworkTopology { factors })
        }
        "LocalStrategy" => Err(ServerError::configuration(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use.",
        )),
        other => Err(ServerError::configuration(format!(
            "Unable to find replication strategy class 'org.apache.cassandra.locator.{other}'"
        ))),
    }
}
