//! The outcome of a step on one of the two clusters.

use std::fmt;
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::{Batch, BatchStatement};
use scylla::statement::unprepared;
use scylla::value::{CqlValue, MaybeUnset, Row};

use crate::statements::{Bound, SHORT_TTL, Statement, Step, TTL_STEP};

/// The outcome of a step.
#[derive(Clone, PartialEq)]
pub enum Outcome {
    /// No rows are its result.
    Done,
    /// Columns, and rows of all pages; with the rows of each page, and how the writes between pages ended.
    Rows(Vec<String>, Vec<Vec<String>>, Vec<usize>, Vec<Outcome>),
    /// The kind of error and its text.
    Refused(String, String),
    /// Of several statements in a row.
    Several(Vec<Outcome>),
    /// The result of it depends on how long it took, and that was too long.
    Unclear,
}

/// The kind of errors of the driver itself.
const DRIVER: &str = "the driver";

impl Outcome {
    /// The outcomes that it consists of.
    fn parts(&self) -> &[Outcome] {
        match self {
            Outcome::Rows(_, _, _, parts) | Outcome::Several(parts) => parts,
            Outcome::Done | Outcome::Refused(..) | Outcome::Unclear => &[],
        }
    }

    /// Whether the simulation refused it because it is not simulated.
    pub fn is_left_out(&self) -> bool {
        let here = matches!(self, Outcome::Refused(kind, text) if kind == "Invalid" && text.contains("not simulated"));
        here || self.parts().iter().any(Outcome::is_left_out)
    }

    /// Whether a healthy cluster was too slow for it.
    pub fn is_too_slow(&self) -> bool {
        let here = match self {
            Outcome::Unclear => true,
            Outcome::Refused(kind, _) => {
                ["WriteTimeout", "ReadTimeout", "Overloaded"].iter().any(|slow| kind.starts_with(slow))
            }
            _ => false,
        };
        here || self.parts().iter().any(Outcome::is_too_slow)
    }

    /// Whether they are the same: rows, columns and kinds of error.
    pub fn same(&self, other: &Outcome) -> bool {
        self.same_but(other, |(kind, text), (other, other_text)| {
            kind == other && (kind != DRIVER || text == other_text)
        })
    }

    fn same_but(&self, other: &Outcome, refusals: fn((&str, &str), (&str, &str)) -> bool) -> bool {
        let here = match (self, other) {
            (Outcome::Refused(kind, text), Outcome::Refused(other, other_text)) => {
                refusals((kind, text), (other, other_text))
            }
            (Outcome::Rows(columns, rows, pages, _), Outcome::Rows(others, other_rows, other_pages, _)) => {
                columns == others && rows == other_rows && pages == other_pages
            }
            (Outcome::Done, Outcome::Done) | (Outcome::Several(_), Outcome::Several(_)) => true,
            _ => false,
        };
        let (parts, others) = (self.parts(), other.parts());
        here && parts.len() == others.len()
            && parts.iter().zip(others).all(|(part, other)| part.same_but(other, refusals))
    }

    /// Whether the texts of errors are the same, too, as far as that can be decided: texts of syntax errors are about the
    /// states of a generated parser, and some lists of names come in the order of a hash table.
    pub fn has_same_messages(&self, other: &Outcome) -> bool {
        self.same_but(other, |(kind, text), (other, other_text)| {
            let is_list = text
                .contains("cannot be restricted by both an equality and an inequality relation")
                || text.starts_with("More than one restriction was found for the ")
                || text.contains("cannot be restricted by more than one relation")
                || text.contains("known type signatures: ")
                || text.starts_with("Ambiguous call to function ");
            kind == other
                && (text == other_text
                    || kind == "SyntaxError"
                    || is_list && tokens(text) == tokens(other_text))
        })
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Unclear => f.write_str("too slow"),
            Outcome::Several(outcomes) => outcomes.fmt(f),
            Outcome::Refused(kind, text) => write!(f, "{kind}: {text}"),
            Outcome::Rows(columns, rows, pages, between) => {
                write!(f, "{} rows (pages of {pages:?}) of {}", rows.len(), columns.join(", "))?;
                rows.iter().try_for_each(|row| write!(f, "\n      {}", row.join(" | ")))?;
                if !between.is_empty() {
                    write!(f, "\n      between pages: {between:?}")?;
                }
                Ok(())
            }
        }
    }
}

/// Its tokens, sorted.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens: Vec<_> = text.split([' ', ',', '(', ')', '"']).collect();
    tokens.sort_unstable();
    tokens
}

fn refused(error: &DbError, text: &str) -> Outcome {
    let kind = match error {
        // Its text has more information than its fields, and includes them.
        DbError::Unprepared { .. } => "Unprepared".to_owned(),
        other => format!("{other:?}"),
    };
    Outcome::Refused(kind, text.to_owned())
}

fn attempt(error: &RequestAttemptError) -> Outcome {
    match error {
        RequestAttemptError::DbError(error, text) => refused(error, text),
        other => Outcome::Refused(DRIVER.to_owned(), other.to_string()),
    }
}

fn failed(error: &ExecutionError) -> Outcome {
    match error {
        ExecutionError::LastAttemptError(error) => attempt(error),
        ExecutionError::PrepareError(error) => prepare_failed(error),
        other => Outcome::Refused(DRIVER.to_owned(), other.to_string()),
    }
}

fn prepare_failed(error: &PrepareError) -> Outcome {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(first_attempt),
        other => Outcome::Refused(DRIVER.to_owned(), other.to_string()),
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

/// A value as it is compared. What depends on the time is rounded: timestamps of the coordinator's clock, and
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
    let broken = |error: String| Outcome::Refused(DRIVER.to_owned(), error);
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

/// Executes a step and returns its outcome.
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
                        Ok(true) => Outcome::Rows(columns, rows, Vec::new(), Vec::new()),
                        Ok(false) => Outcome::Done,
                        Err(outcome) => outcome,
                    }
                }
                Err(error) => failed(&error),
            }
        }
        Step::Expire(writes, read) => {
            let begin = Instant::now();
            let mut outcomes = Vec::new();
            for write in writes {
                outcomes.push(all_pages(session, write, None, &[]).await);
            }
            let written = Instant::now();
            outcomes.push(all_pages(session, read, None, &[]).await);
            if begin.elapsed() >= Duration::from_secs(SHORT_TTL - 1) {
                return Outcome::Unclear;
            }
            let over = written + Duration::from_secs(SHORT_TTL) + Duration::from_millis(200);
            tokio::time::sleep_until(over.into()).await;
            outcomes.push(all_pages(session, read, None, &[]).await);
            Outcome::Several(outcomes)
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
        let mut lengths = Vec::new();
        let mut state = PagingState::start();
        let mut between = between.iter();
        loop {
            let response = match &prepared {
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
            let (result, next) = match response {
                Ok(response) => response,
                Err(error) => return failed(&error),
            };
            let before = rows.len();
            match add(result, &mut columns, &mut rows) {
                Ok(found) => has_rows = has_rows || found,
                Err(outcome) => return outcome,
            }
            lengths.push(rows.len() - before);
            match next {
                PagingStateResponse::NoMorePages if has_rows => {
                    return Outcome::Rows(columns, rows, lengths, outcomes);
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
