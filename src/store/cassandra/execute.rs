//! Executes requests, and handles what all responses have in common.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::PagingState;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::{Connection, DriverError, ErrorClass, Failed, RequestKind, outcomes};
use crate::error::Cause;
use crate::store::StoreError;

/// Runs requests concurrently, at most `at_once`, and passes on their responses as they arrive. Ends with the first
/// error; the other requests are then abandoned.
pub(super) async fn concurrently<T, F: Future<Output = Result<T, Failed>>>(
    mut requests: impl Iterator<Item = F>,
    at_once: usize,
    mut handle: impl FnMut(T),
) -> Result<(), Failed> {
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < at_once
            && let Some(request) = requests.next()
        {
            running.push(request);
        }
        match running.next().await {
            Some(response) => handle(response?),
            None => return Ok(()),
        }
    }
}

/// The rows of a response. If it cannot be parsed as rows, the outcome of the request is unknown.
pub(super) fn rows_of(what: impl Fn() -> String, result: QueryResult) -> Result<QueryRowsResult, Failed> {
    result.into_rows_result().map_err(|error| Failed::unknown_because(what(), error))
}

impl Connection {
    /// The result of a request that ended with this error of the driver.
    pub(super) fn failed(&self, what: impl Fn() -> String, error: &ExecutionError) -> Failed {
        let cause = DriverError::new(error.clone());
        Failed { class: outcomes::of_execution(error), error: StoreError::new(what(), cause) }
    }

    /// The error of a row that no version of this program wrote.
    pub(super) fn damaged(&self, what: impl Fn() -> String, cause: impl Into<Cause>) -> Failed {
        let what = format!("{}: a row differs from what this program writes", what());
        Failed { class: ErrorClass::Refused, error: StoreError::new(what, cause) }
    }

    /// One request whose response is not paged.
    pub(super) async fn execute(
        &self,
        kind: RequestKind,
        what: impl Fn() -> String,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failed> {
        let _admitted = self.limits.admit(0).await;
        self.requests.add(kind);
        let result = self.session.execute_unpaged(statement, values).await;
        result.map_err(|error| self.failed(what, &error))
    }

    /// One page, and where the next one starts.
    pub(super) async fn page<R: for<'f, 'm> DeserializeRow<'f, 'm>>(
        &self,
        what: impl Fn() -> String,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        from: PagingState,
        into: &mut Vec<R>,
    ) -> Result<Option<PagingState>, Failed> {
        let _admitted = self.limits.admit(0).await;
        self.requests.add(RequestKind::Other);
        let result = self.session.execute_single_page(statement, values, from).await;
        let (result, next) = result.map_err(|error| self.failed(&what, &error))?;
        let rows = rows_of(&what, result)?;
        let columns = rows.rows::<R>().map_err(|error| self.damaged(&what, error))?;
        for row in columns {
            into.push(row.map_err(|error| self.damaged(&what, error))?);
        }
        Ok(next.into_paging_control_flow().continue_value())
    }

    /// The first rows, at most `limit`.
    pub(super) async fn select<R: for<'f, 'm> DeserializeRow<'f, 'm>>(
        &self,
        what: impl Fn() -> String,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        limit: usize,
    ) -> Result<Vec<R>, Failed> {
        let (mut rows, mut next) = (Vec::new(), Some(PagingState::start()));
        while let Some(from) = next
            && rows.len() < limit
        {
            next = self.page(&what, statement, &values, from, &mut rows).await?;
        }
        rows.truncate(limit);
        Ok(rows)
    }

    pub(super) fn of(&self, table: &str) -> String {
        format!("{}.{table}", self.keyspace)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Runs ten requests, of which those at these places fail; how many began, how many ran at once at most, and the
    /// responses.
    async fn run(at_once: usize, failing: &[usize]) -> (usize, usize, Result<Vec<usize>, ErrorClass>) {
        let (begun, running, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let request = async |number: usize| {
            begun.set(begun.get() + 1);
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            match failing.contains(&number) {
                true => Err(Failed::refused("no")),
                false => Ok(number),
            }
        };
        let mut responses = Vec::new();
        let ran = concurrently((0..10).map(request), at_once, |response| responses.push(response)).await;
        responses.sort_unstable();
        (begun.get(), most.get(), ran.map(|()| responses).map_err(|failed| failed.class))
    }

    #[tokio::test]
    async fn as_many_requests_run_at_once_as_may_and_all_responses_are_passed_on() {
        for at_once in [1, 3, 10] {
            assert_eq!(run(at_once, &[]).await, (10, at_once, Ok((0..10).collect())));
        }
        assert_eq!(run(20, &[]).await.1, 10);
    }

    #[tokio::test]
    async fn the_first_error_ends_all_requests() {
        assert_eq!(run(1, &[4, 6]).await, (5, 1, Err(ErrorClass::Refused)));
    }
}
