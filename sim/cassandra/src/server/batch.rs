//! Writes, alone and in batches.

use super::Inner;
use super::statement::Reply;
use crate::coordinator::{Consistency, Coordinator, WriteMode};
use crate::plan::{Context, ModificationPlan, Stamp};
use crate::protocol::{Response, ServerError, is_serial};
use crate::storage::Timestamp;
use crate::system::is_system_table;

/// A statement with its values.
pub(super) struct Statement<'a> {
    pub plan: &'a ModificationPlan,
    pub context: Context<'a>,
}

impl<C: Coordinator> Inner<C> {
    /// Writes statements together.
    pub(super) async fn write(
        &self,
        statements: Vec<Statement<'_>>,
        mode: WriteMode,
        consistency: Consistency,
        serial: Option<Consistency>,
        timestamp: Option<Timestamp>,
    ) -> Result<Reply, ServerError> {
        if let Some(system) = statements.iter().find(|it| is_system_table(it.plan.table())) {
            let table = system.plan.table();
            return Err(ServerError::invalid(format!(
                "{}.{} belongs to the system: writing to it is not simulated",
                table.keyspace, table.name
            )));
        }
        if statements.iter().any(|statement| statement.plan.conditions().is_conditional()) {
            let serial = serial.unwrap_or(Consistency::Serial);
            return self.write_if(statements, mode, consistency, serial).await;
        }
        // Cassandra checks it of single statements alone (`ModificationStatement.executeWithoutCondition`).
        if mode == WriteMode::Single && is_serial(consistency) {
            return Err(ServerError::invalid("You must use conditional updates for serializable writes"));
        }
        let stamp = Stamp {
            timestamp: timestamp.unwrap_or_else(|| self.coordinator.timestamp()),
            now: self.coordinator.now(),
        };
        // Errors of any key are reported first (`BatchStatement.getMutations`).
        let keys = statements.iter().map(|statement| statement.plan.bind_keys(&statement.context));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut mutations = Vec::new();
        for (statement, keys) in statements.iter().zip(keys) {
            let writes = statement.plan.bind(keys, &statement.context)?;
            let updates = writes.iter().map(|write| write.mutation(stamp));
            // Nothing is written where every value was left unset.
            mutations.extend(updates.filter(|it| it.updates.values().any(|update| !update.is_empty())));
        }
        if mutations.is_empty() {
            return Ok(Response::Void.into());
        }
        let warnings = self.coordinator.write(mutations, mode, consistency).await?;
        Ok(Reply { response: Response::Void, warnings })
    }
}
