//! One side of the comparison: a session, and what it answers.

use std::fmt;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchStatement};
use scylla::statement::unprepared;
use scylla::value::{CqlValue, MaybeUnset, Row};

use crate::statements::{Bound, Statement, Step, TTL_STEP};

/// What a step came to.
#[derive(Clone, PartialEq)]
pub enum Outcome {
    /// No rows are its answer.
    Done,
    /// Columns, and rows of all pages; with how the writes between pages ended.
    Rows(Vec<String>, Vec<Vec<String>>, Vec<Outcome>),
    /// The kind of error and its text.
    Refused(String, String),
}

impl Outcome {
    /// Whether the simulation says that it knows the language and leaves this out.
    pub fn is_left_out(&self) -> bool {
        match self {
            Outcome::Refused(_, text) => text.contains("not simulated"),
            Outcome::Rows(_, _, between) => between.iter().any(Outcome::is_left_out),
            Outcome::Done => false,
        }
    }

    /// Whether they are the same, as far as it can be told: texts of syntax errors are about the states of a generated
    /// parser, and some lists of names come in the order of a hash table.
    pub fn same(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Refused(kind, _), Outcome::Refused(other, _)) if kind == "SyntaxError" => kind == other,
            (Outcome::Rows(columns, rows, between), Outcome::Rows(others, other_rows, other_between)) => {
                columns == others
                    && rows == other_rows
                    && between.len() == other_between.len()
                    && between.iter().zip(other_between).all(|(one, other)| one.same(other))
            }
            (Outcome::Refused(kind, text), Outcome::Refused(other, other_text))
                if text.starts_with("More than one restriction was found for the ")
                    || text.contains("cannot be restricted by more than one relation")
                    || text.contains("known type signatures: ") =>
            {
                kind == other && words(text) == words(other_text)
            }
            _ => self == other,
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Refused(kind, text) => write!(f, "{kind}: {text}"),
            Outcome::Rows(columns, rows, between) => {
                write!(f, "{} rows of {}", rows.len(), columns.join(", "))?;
                rows.iter().try_for_each(|row| write!(f, "\n      {}", row.join(" | ")))?;
                if !between.is_empty() {
                    write!(f, "\n      between pages: {between:?}")?;
                }
                Ok(())
            }
        }
    }
}

/// Its words, in an order of their own.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<_> = text.split([' ', ',', '(', ')']).collect();
    words.sort_unstable();
    words
}

fn refused(error: &DbError, text: &str) -> Outcome {
    let kind = match error {
        // Its text tells more than its fields, and has them.
        DbError::Unprepared { .. } => "Unprepared".to_owned(),
        other => format!("{other:?}"),
    };
    Outcome::Refused(kind, text.to_owned())
}

fn attempt(error: &RequestAttemptError) -> Outcome {
    match error {
        RequestAttemptError::DbError(error, text) => refused(error, text),
        other => Outcome::Refused("the driver".to_owned(), other.to_string()),
    }
}

fn failed(error: &ExecutionError) -> Outcome {
    match error {
        ExecutionError::LastAttemptError(error) => attempt(error),
        ExecutionError::PrepareError(error) => prepare_failed(error),
        other => Outcome::Refused("the driver".to_owned(), other.to_string()),
    }
}

fn prepare_failed(error: &PrepareError) -> Outcome {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(first_attempt),
        other => Outcome::Refused("the driver".to_owned(), other.to_string()),
    }
}

fn values(bound: &[Bound]) -> Vec<MaybeUnset<Option<CqlValue>>> {
    bound
        .iter()
        .map(|value| match value {
            Bound::Value(value) => MaybeUnset::Set(Some(value.clone())),
            Bound::Null => MaybeUnset::Set(None),
            Bound::Unset => MaybeUnset::Unset,
        })
        .collect()
}

/// A value as it is compared. What depends on the moment is told roughly: timestamps of the coordinator's clock, and
/// what is left of a TTL.
fn shown(column: &str, value: Option<CqlValue>) -> String {
    match value {
        None => "null".to_owned(),
        Some(CqlValue::BigInt(number))
            if column.starts_with("writetime(") && number > 1_000_000_000_000_000 =>
        {
            "now".to_owned()
        }
        Some(CqlValue::Int(number)) if column.starts_with("ttl(") => {
            format!("up to {}", (number + TTL_STEP - 1) / TTL_STEP * TTL_STEP)
        }
        Some(value) => format!("{value:?}"),
    }
}

/// Adds the rows of a page to what there is.
fn add(result: QueryResult, columns: &mut Vec<String>, rows: &mut Vec<Vec<String>>) -> Result<bool, Outcome> {
    if !result.is_rows() {
        return Ok(false);
    }
    let broken = |error: String| Outcome::Refused("the driver".to_owned(), error);
    let result = result.into_rows_result().map_err(|error| broken(error.to_string()))?;
    let specs: Vec<_> = result.column_specs().iter().collect();
    let names: Vec<_> = specs.iter().map(|spec| spec.name().to_owned()).collect();
    *columns = specs.iter().map(|spec| format!("{} {:?}", spec.name(), spec.typ())).collect();
    for row in result.rows::<Row>().map_err(|error| broken(error.to_string()))? {
        let row = row.map_err(|error| broken(error.to_string()))?;
        let values = row.columns.into_iter().zip(&names);
        rows.push(values.map(|(value, name)| shown(name, value)).collect());
    }
    Ok(true)
}

/// Does a step and tells what came of it.
pub async fn run(session: &Session, step: &Step) -> Outcome {
    match step {
        Step::Write(statement) => all_pages(session, statement, None, &[]).await,
        Step::Read(statement, pages, between) => all_pages(session, statement, *pages, between).await,
        Step::Batch(kind, timestamp, statements) => {
            let mut batch = Batch::new(*kind);
            batch.set_timestamp(*timestamp);
            let mut bound = Vec::new();
            for statement in statements {
                if statement.values.is_empty() {
                    batch.append_statement(BatchStatement::from(statement.text.as_str()));
                } else {
                    match session.prepare(statement.text.as_str()).await {
                        Ok(prepared) => batch.append_statement(prepared),
                        Err(error) => return prepare_failed(&error),
                    }
                }
                bound.push(values(&statement.values));
            }
            match session.batch(&batch, bound).await {
                Ok(result) => {
                    let (mut columns, mut rows) = (Vec::new(), Vec::new());
                    match add(result, &mut columns, &mut rows) {
                        Ok(true) => Outcome::Rows(columns, rows, Vec::new()),
                        Ok(false) => Outcome::Done,
                        Err(outcome) => outcome,
                    }
                }
                Err(error) => failed(&error),
            }
        }
        Step::Expire(statement) => {
            let outcome = all_pages(session, statement, None, &[]).await;
            tokio::time::sleep(Duration::from_millis(2100)).await;
            outcome
        }
    }
}

/// Boxed, for writes between pages are statements, too.
fn all_pages<'a>(
    session: &'a Session,
    statement: &'a Statement,
    pages: Option<i32>,
    between: &'a [Statement],
) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>> {
    Box::pin(async move {
        // What is not asked for in pages fits into one.
        let size = pages.unwrap_or(5000);
        let mut text = unprepared::Statement::new(statement.text.as_str());
        text.set_page_size(size);
        text.set_timestamp(statement.timestamp);
        let prepared = if statement.values.is_empty() {
            None
        } else {
            match session.prepare(text.clone()).await {
                Ok(prepared) => Some(prepared),
                Err(error) => return prepare_failed(&error),
            }
        };
        let (mut columns, mut rows, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let mut has_rows = false;
        let mut state = PagingState::start();
        let mut between = between.iter();
        loop {
            let answer = match &prepared {
                Some(prepared) if pages.is_none() => session
                    .execute_unpaged(prepared, values(&statement.values))
                    .await
                    .map(|result| (result, PagingStateResponse::NoMorePages)),
                Some(prepared) => {
                    session.execute_single_page(prepared, values(&statement.values), state).await
                }
                None if pages.is_none() => session
                    .query_unpaged(text.clone(), &[])
                    .await
                    .map(|result| (result, PagingStateResponse::NoMorePages)),
                None => session.query_single_page(text.clone(), &[], state).await,
            };
            let (result, next) = match answer {
                Ok(answer) => answer,
                Err(error) => return failed(&error),
            };
            match add(result, &mut columns, &mut rows) {
                Ok(found) => has_rows = has_rows || found,
                Err(outcome) => return outcome,
            }
            match next {
                PagingStateResponse::NoMorePages if has_rows => {
                    return Outcome::Rows(columns, rows, outcomes);
                }
                PagingStateResponse::NoMorePages => return Outcome::Done,
                PagingStateResponse::HasMorePages { state: next } => state = next,
            }
            if rows.len() > 10_000 {
                return Outcome::Refused("the test".to_owned(), "pages without end".to_owned());
            }
            if let Some(write) = between.next() {
                outcomes.push(all_pages(session, write, None, &[]).await);
            }
        }
    })
}
