//! The binding that the tables are checked against: the stored one. A value that cannot be read is reported as a
//! difference and replaced by the value of the configuration, of the current topic, or of `progress` (the origins).

use std::collections::BTreeMap;

use super::difference::{Difference, Evidence};
use super::error::VerifyError;
use super::requests;
use crate::binding::{Assumed, BindingSpec};
use crate::broker::Broker;
use crate::store::{Binding, Store};

/// The binding to check against, and the differences of the row of `pipeline`.
pub(super) async fn expected_binding<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    binding_spec: &BindingSpec,
) -> Result<(Binding, Vec<Difference>), VerifyError> {
    let read = || requests::store(|| "read the binding".to_owned(), || store.stored_binding());
    let mut stored = read().await?;
    if stored.is_none() {
        if !requests::store(|| "check for rows".to_owned(), || store.holds_rows()).await? {
            return Err(VerifyError::Unbound);
        }
        // Rows follow a binding, so another program may have bound the keyspace between the two requests.
        stored = read().await?;
    }
    if let Some(Ok(binding)) = stored.clone().map(|stored| stored.undamaged()) {
        return Ok((binding, Vec::new()));
    }
    let topic = requests::topic(broker, &binding_spec.topic).await?;
    let progress = requests::store(|| "read progress".to_owned(), || store.stored_progress()).await?;
    let mut origins = BTreeMap::new();
    for (partition, row) in progress {
        if let Ok(progress) = row
            && (0..topic.partitions).contains(&partition)
        {
            origins.insert(partition, progress.origin);
        }
    }
    let known = binding_spec.bound_to(&topic, store, origins);
    let Some(stored) = stored else {
        let difference = Difference::MissingBinding { table: "pipeline", expected: Box::new(known.clone()) };
        return Ok((known, vec![difference]));
    };
    let (binding, assumed) = stored.or(&known);
    let difference = |Assumed { damaged, value }| {
        let by = match damaged.column {
            "topic_id" => Evidence::Topic,
            "origins" => Evidence::Progress,
            "decoder_version" | "schema_version" => Evidence::Program,
            _ => Evidence::Configuration,
        };
        Difference::DamagedBinding { damaged, expected: value, by }
    };
    Ok((binding, assumed.into_iter().map(difference).collect()))
}
