//! Reads, page by page.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::Inner;
use super::paging::PagingState;
use super::statement::Reply;
use crate::coordinator::{Consistency, Coordinator};
use crate::plan::{BoundSelect, Collector, Context, SelectPlan};
use crate::protocol::{QueryParameters, Response, ResultMetadata, Rows, ServerError, is_serial};
use crate::schema::Schema;
use crate::storage::{PartitionRange, ReadCommand, ReadResult, ResultPartition, Resume};
use crate::system::{self, SystemState};

/// How many rows are read at once where the client does not see each.
const INTERNAL_PAGE: u32 = 1000;

/// How far a result has got.
struct Progress {
    /// How many more rows LIMIT allows.
    remaining: u32,
    /// How many more rows fit into the page.
    page_left: u32,
    /// The last row that was looked at.
    last: Option<Resume>,
    /// Rows of the last partition that were counted against PER PARTITION LIMIT.
    in_partition: u32,
}

impl<C: Coordinator> Inner<C> {
    pub(super) async fn select(
        &self,
        plan: &SelectPlan,
        schema: &Schema,
        context: &Context<'_>,
        parameters: &QueryParameters,
    ) -> Result<Reply, ServerError> {
        if parameters.consistency == Consistency::Any {
            return Err(ServerError::invalid("ANY ConsistencyLevel is only supported for writes"));
        }
        let now = self.coordinator.now();
        let mut bound = plan.bind(context, now)?;
        let page = parameters.page_size.and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
        // Page by page, each partition is read for itself (`StorageProxy.readWithPaxos`).
        let is_one_read = !plan.is_aggregate() && page.is_none_or(|page| bound.limit <= page);
        let of_keys = |command: &ReadCommand| matches!(command.partitions, PartitionRange::Key(_));
        if is_serial(parameters.consistency)
            && is_one_read
            && bound.commands.len() > 1
            && bound.commands.iter().all(of_keys)
        {
            return Err(ServerError::invalid(
                "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time",
            ));
        }
        let selection = Selection { inner: self, plan, schema, context, consistency: parameters.consistency };
        let mut collector = plan.collector(*context, now);
        let mut paging_state = None;
        if bound.merges {
            // A query that can find nothing is not paged, unless it aggregates: that is always paged.
            if page.is_some() && (!bound.commands.is_empty() || plan.is_aggregate()) {
                return Err(ServerError::invalid(
                    "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must \
                     either remove the ORDER BY or the IN and sort client side, or disable paging for this query",
                ));
            }
            selection.merged(bound, &mut collector).await?;
        } else {
            let state = match &parameters.paging_state {
                Some(bytes) => Some(PagingState::decode(bytes.clone(), plan.table())?),
                None => None,
            };
            let aggregates = plan.is_aggregate();
            // LIMIT and pages are about the rows of the result; an aggregate has one.
            let limit = if aggregates { u32::MAX } else { bound.limit };
            let mut progress = Progress {
                remaining: state.as_ref().map_or(limit, |state| state.remaining),
                page_left: if aggregates { u32::MAX } else { page.unwrap_or(u32::MAX) },
                last: state.map(|state| state.resume),
                in_partition: 0,
            };
            skip_done(&mut bound.commands, progress.last.as_ref())?;
            let is_paged = page.is_some() || progress.last.is_some();
            let commands = bound.commands;
            let more = if is_one_read && !is_paged && commands.len() > 1 && plan.filters().is_empty() {
                selection.at_once(commands, &mut progress, &mut collector).await?;
                false
            } else {
                selection.pages(commands, &mut progress, &mut collector).await?
            };
            if more && let Some(resume) = progress.last {
                paging_state = Some(PagingState { resume, remaining: progress.remaining }.encode());
            }
        }
        let rows = collector.finish()?;
        let metadata = ResultMetadata { columns: plan.columns().to_vec(), paging_state };
        let skip_metadata = parameters.skip_metadata;
        let warnings = plan.warning().map(str::to_owned).into_iter().collect();
        Ok(Reply { response: Response::Rows(Rows { metadata, skip_metadata, rows }), warnings })
    }
}

/// A SELECT with its parameters.
struct Selection<'a, C> {
    inner: &'a Inner<C>,
    plan: &'a SelectPlan,
    schema: &'a Schema,
    context: &'a Context<'a>,
    consistency: Consistency,
}

impl<C: Coordinator> Selection<'_, C> {
    /// Reads until the page is full, LIMIT is reached or nothing is left. Returns whether there may be more.
    async fn pages(
        &self,
        commands: Vec<ReadCommand>,
        progress: &mut Progress,
        collector: &mut Collector<'_>,
    ) -> Result<bool, ServerError> {
        let plan = self.plan;
        let filters = !plan.filters().is_empty();
        let count = commands.len();
        for (at, mut command) in commands.into_iter().enumerate() {
            // Rows that a filter drops count for no limit, so the limit is applied here.
            let per_partition = command.per_partition_limit;
            if filters {
                command.per_partition_limit = u32::MAX;
            }
            loop {
                let limit_left = progress.remaining.min(progress.page_left);
                if limit_left == 0 {
                    return Ok(goes_on(progress, &command, at + 1 < count));
                }
                command.limit = if filters || plan.is_aggregate() { INTERNAL_PAGE } else { limit_left };
                command.resume = progress.last.clone().filter(|last| match &command.partitions {
                    PartitionRange::Key(key) => *key == last.key,
                    PartitionRange::Tokens { .. } => true,
                });
                if filters && let Some(resume) = &mut command.resume {
                    resume.remaining_in_partition = u32::MAX;
                }
                let result = self.read(&command).await?;
                let limited = result.limited;
                let before = progress.last.clone();
                for partition in &result.partitions {
                    if !take(plan, partition, self.context, per_partition, filters, progress, collector)? {
                        return Ok(goes_on(progress, &command, at + 1 < count));
                    }
                }
                // A read that found nothing has nothing to continue from.
                if !limited || progress.last == before {
                    break;
                }
            }
            if progress.remaining == 0 || progress.page_left == 0 {
                return Ok(goes_on(progress, &command, at + 1 < count));
            }
        }
        Ok(false)
    }

    /// Reads all ranges concurrently, as a node does unless it sends pages (`SelectStatement.execute`,
    /// `StorageProxy.fetchRows`): a pager reads one partition after another (`MultiPartitionPager`).
    async fn at_once(
        &self,
        mut commands: Vec<ReadCommand>,
        progress: &mut Progress,
        collector: &mut Collector<'_>,
    ) -> Result<(), ServerError> {
        commands.iter_mut().for_each(|command| command.limit = progress.remaining);
        let mut reads: FuturesOrdered<_> = commands
            .iter()
            .map(async |command| (command.per_partition_limit, self.read(command).await))
            .collect();
        while let Some((per_partition, result)) = reads.next().await {
            for partition in &result?.partitions {
                if !take(self.plan, partition, self.context, per_partition, false, progress, collector)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads all ranges and orders their rows together.
    async fn merged(&self, bound: BoundSelect, collector: &mut Collector<'_>) -> Result<(), ServerError> {
        let (plan, context) = (self.plan, self.context);
        // An aggregate is one row, of all that are read.
        let limit = if plan.is_aggregate() { u32::MAX } else { bound.limit };
        let mut rows = Vec::new();
        for mut command in bound.commands {
            let filters = !plan.filters().is_empty();
            let per_partition = command.per_partition_limit;
            if filters {
                // Rows that a filter drops count for no limit.
                command.limit = u32::MAX;
                command.per_partition_limit = u32::MAX;
            } else {
                command.limit = limit;
            }
            let result = self.read(&command).await?;
            for partition in result.partitions {
                if partition.rows.is_empty() {
                    rows.push((Vec::new(), partition));
                    continue;
                }
                let mut left = per_partition;
                for (position, row) in partition.rows {
                    let alone = ResultPartition {
                        key: partition.key.clone(),
                        static_row: partition.static_row.clone(),
                        rows: vec![(position.clone(), row)],
                    };
                    let mut passes = !filters;
                    if filters {
                        plan.each_row(&alone, context, |_| {
                            passes = true;
                            Ok(true)
                        })?;
                    }
                    if passes && left > 0 {
                        left -= 1;
                        rows.push((position.values().to_vec(), alone));
                    }
                }
            }
        }
        plan.sort(&mut rows);
        let mut left = limit;
        for (_, partition) in &rows {
            if left == 0 {
                break;
            }
            plan.each_row(partition, context, |row| {
                collector.add(row)?;
                left -= 1;
                Ok(left > 0)
            })?;
        }
        Ok(())
    }

    async fn read(&self, command: &ReadCommand) -> Result<ReadResult, ServerError> {
        let coordinator = &self.inner.coordinator;
        if system::is_system_table(self.plan.table()) {
            let topology = coordinator.topology();
            let prepared = match system::is_of_prepared(self.plan.table()) {
                true => coordinator.stored_prepared(),
                false => BTreeMap::new(),
            };
            let around = SystemState { schema: self.schema, topology: &topology, prepared: &prepared };
            return Ok(system::read(&self.inner.options.caches.system, self.plan.table(), command, &around));
        }
        Ok(coordinator.read(command.clone(), self.consistency).await?)
    }
}

/// Whether there is another page after a full one, as in `AbstractQueryPager.isExhausted`: of a range always, because a
/// full page may not be the last; of one partition unless no row of it may follow.
fn goes_on(progress: &Progress, command: &ReadCommand, is_more_to_read: bool) -> bool {
    let is_over = match (&command.partitions, &progress.last) {
        (PartitionRange::Key(key), Some(last)) => {
            // Static columns alone, or the only row that a partition of such a table has.
            let is_only = last.row.as_ref().is_none_or(|row| row.values().is_empty());
            *key == last.key && (last.remaining_in_partition == 0 || is_only)
        }
        _ => false,
    };
    progress.remaining > 0 && (!is_over || is_more_to_read)
}

/// Takes the rows of a partition until the page is full. Returns whether it took all.
fn take(
    plan: &SelectPlan,
    partition: &ResultPartition,
    context: &Context<'_>,
    per_partition: u32,
    filters: bool,
    progress: &mut Progress,
    collector: &mut Collector<'_>,
) -> Result<bool, ServerError> {
    let table = plan.table();
    let same = progress.last.as_ref().is_some_and(|last| last.key == partition.key);
    if !same {
        progress.in_partition = 0;
    } else if let Some(last) = &progress.last {
        progress.in_partition = per_partition.saturating_sub(last.remaining_in_partition);
    }
    // Each row alone, so that the last one looked at is known whether it passes or not.
    let mut views: Vec<ResultPartition> = partition
        .rows
        .iter()
        .map(|row| ResultPartition {
            key: partition.key.clone(),
            static_row: partition.static_row.clone(),
            rows: vec![row.clone()],
        })
        .collect();
    if views.is_empty() {
        views.push(partition.clone());
    }
    for view in &views {
        if progress.page_left == 0 || progress.remaining == 0 {
            return Ok(false);
        }
        let position = view.rows.first().map(|(position, _)| table.row(position.values().to_vec()));
        if progress.in_partition < per_partition {
            plan.each_row(view, context, |row| {
                collector.add(row)?;
                progress.remaining = progress.remaining.saturating_sub(1);
                progress.page_left = progress.page_left.saturating_sub(1);
                if filters {
                    progress.in_partition += 1;
                }
                Ok(true)
            })?;
            if !filters {
                progress.in_partition += 1;
            }
        }
        let remaining_in_partition = match per_partition {
            u32::MAX => u32::MAX,
            limit => limit.saturating_sub(progress.in_partition),
        };
        progress.last = Some(Resume { key: partition.key.clone(), row: position, remaining_in_partition });
    }
    Ok(true)
}

/// Drops the ranges before the one that the page before ended in.
fn skip_done(commands: &mut Vec<ReadCommand>, last: Option<&Resume>) -> Result<(), ServerError> {
    let Some(last) = last else { return Ok(()) };
    let place = commands.iter().position(|command| match &command.partitions {
        PartitionRange::Key(key) => *key == last.key,
        PartitionRange::Tokens { .. } => true,
    });
    match place {
        Some(place) => {
            commands.drain(..place);
            Ok(())
        }
        None => Err(ServerError::Protocol("Invalid value for the paging state".to_owned())),
    }
}
