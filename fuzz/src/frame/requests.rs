//! Requests: those of the driver are read as what they are.

use std::borrow::Cow;
use std::collections::HashMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use scylla_cql::frame::request::batch::{BatchStatement as DriverStatement, BatchType};
use scylla_cql::frame::request::execute::ExecuteV2;
use scylla_cql::frame::request::query::{PagingState, QueryParameters as DriverParameters};
use scylla_cql::frame::request::register::RegisterV2;
use scylla_cql::frame::request::{self as driver, SerializableRequest};
use scylla_cql::frame::server_event_type::EventTypeV2;
use scylla_cql::frame::types::SerialConsistency;
use scylla_cql::frame::{Compression as DriverCompression, SerializedRequest};
use scylla_cql::serialize::row::SerializedValues;
use simulated_cassandra::coordinator::Consistency;
use simulated_cassandra::protocol::{
    Batch, BatchKind, BatchQuery, BatchStatement, BoundValue, Compression, EventKind, QueryParameters,
    Request,
};

use super::made::{bytes, level, level_of_driver};
use super::{compression, read_request};
use crate::types::few;

/// Makes a request, lets the driver write it, and reads that.
pub fn request(source: &mut Unstructured<'_>) -> Result<()> {
    let compression = compression(source)?;
    let (stream, tracing) = (i16::arbitrary(source)?, bool::arbitrary(source)?);
    let request = made(source)?;
    if let Some(frame) = frame_of_driver(&request, compression, stream, tracing) {
        assert_eq!(read_request(&frame, compression), (request, stream, tracing));
    }
    Ok(())
}

/// A request that was read is the same one if the driver writes it and it is read again.
pub fn read_from_driver(request: &Request) {
    if let Some(frame) = frame_of_driver(request, None, 1, false) {
        let (read, _, _) = read_request(&frame, None);
        match (&read, request) {
            // The driver writes them in any order.
            (Request::Startup(read), Request::Startup(options)) => {
                let sorted = |options: &[(String, String)]| {
                    let mut options = options.to_vec();
                    options.sort();
                    options
                };
                assert_eq!(sorted(read), sorted(options));
            }
            _ => assert_eq!(read, *request),
        }
    }
}

fn made(source: &mut Unstructured<'_>) -> Result<Request> {
    Ok(match source.int_in_range(0..=7)? {
        0 => Request::Options,
        1 => Request::Prepare(String::arbitrary(source)?),
        2 => Request::Query(String::arbitrary(source)?, parameters(source)?),
        3 => Request::Execute(bytes(source)?, parameters(source)?),
        4 => Request::Batch(Batch {
            kind: *source.choose(&[BatchKind::Logged, BatchKind::Unlogged, BatchKind::Counter])?,
            statements: few(source, |source| {
                let query = match bool::arbitrary(source)? {
                    true => BatchQuery::Text(String::arbitrary(source)?),
                    false => BatchQuery::Prepared(bytes(source)?),
                };
                Ok(BatchStatement { query, values: few(source, value)? })
            })?,
            consistency: level(source)?,
            serial_consistency: serial(source)?,
            timestamp: timestamp(source)?,
            keyspace: None,
        }),
        5 => Request::Register(few(source, |source| {
            let kinds = [EventKind::TopologyChange, EventKind::StatusChange, EventKind::SchemaChange];
            source.choose(&kinds).copied()
        })?),
        6 => Request::AuthResponse(match bool::arbitrary(source)? {
            true => Some(bytes(source)?),
            false => None,
        }),
        _ => {
            let option = (String::arbitrary(source)?, String::arbitrary(source)?);
            Request::Startup(if bool::arbitrary(source)? { vec![option] } else { Vec::new() })
        }
    })
}

fn parameters(source: &mut Unstructured<'_>) -> Result<QueryParameters> {
    Ok(QueryParameters {
        consistency: level(source)?,
        values: few(source, value)?,
        names: None,
        skip_metadata: bool::arbitrary(source)?,
        page_size: Option::arbitrary(source)?,
        paging_state: match bool::arbitrary(source)? {
            true => Some(bytes(source)?),
            false => None,
        },
        serial_consistency: serial(source)?,
        timestamp: timestamp(source)?,
        keyspace: None,
    })
}

fn value(source: &mut Unstructured<'_>) -> Result<BoundValue> {
    Ok(match source.int_in_range(0..=3)? {
        0 => BoundValue::Null,
        1 => BoundValue::Unset,
        _ => BoundValue::Value(bytes(source)?),
    })
}

fn serial(source: &mut Unstructured<'_>) -> Result<Option<Consistency>> {
    Ok(*source.choose(&[None, Some(Consistency::Serial), Some(Consistency::LocalSerial)])?)
}

/// The smallest number is refused.
fn timestamp(source: &mut Unstructured<'_>) -> Result<Option<i64>> {
    Ok(Option::<i64>::arbitrary(source)?.map(|timestamp| timestamp.max(i64::MIN + 1)))
}

/// The frame that the driver writes for a request; `None` if the driver has no such request.
fn frame_of_driver(
    request: &Request,
    compression: Option<Compression>,
    stream: i16,
    tracing: bool,
) -> Option<Vec<u8>> {
    let compression = compression.map(|compression| match compression {
        Compression::Lz4 => DriverCompression::Lz4,
        Compression::Snappy => DriverCompression::Snappy,
    });
    fn written(
        request: &impl SerializableRequest,
        (compression, stream, tracing): (Option<DriverCompression>, i16, bool),
    ) -> Option<Vec<u8>> {
        let mut frame = SerializedRequest::make(request, compression, tracing).ok()?;
        frame.set_stream(stream);
        Some(frame.get_data().to_vec())
    }
    let how = (compression, stream, tracing);
    match request {
        Request::Options => written(&driver::Options, how),
        Request::Prepare(query) => written(&driver::Prepare { query }, how),
        Request::Query(query, parameters) => {
            let parameters = parameters_of_driver(parameters)?;
            written(&driver::Query { contents: Cow::Borrowed(query), parameters }, how)
        }
        Request::Execute(id, parameters) => {
            let request = ExecuteV2 {
                id: id.as_ref().into(),
                result_metadata_id: None,
                parameters: parameters_of_driver(parameters)?,
                tablet_version_block: None,
            };
            written(&request, how)
        }
        Request::Batch(batch) => batch_of_driver(batch).and_then(|batch| written(&batch, how)),
        Request::Register(kinds) => {
            let kind = |kind: &EventKind| match kind {
                EventKind::TopologyChange => EventTypeV2::TopologyChange,
                EventKind::StatusChange => EventTypeV2::StatusChange,
                EventKind::SchemaChange => EventTypeV2::SchemaChange,
            };
            let event_types_to_register_for = kinds.iter().map(kind).collect();
            written(&RegisterV2 { event_types_to_register_for }, how)
        }
        Request::AuthResponse(token) => {
            written(&driver::AuthResponse { response: token.as_ref().map(|token| token.to_vec()) }, how)
        }
        Request::Startup(options) => {
            let map: HashMap<Cow<'_, str>, Cow<'_, str>> = options
                .iter()
                .map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)))
                .collect();
            (map.len() == options.len()).then(|| written(&driver::Startup { options: map }, how))?
        }
    }
}

/// `Some(None)` if there is none, `None` if it is no serial one.
fn serial_of_driver(level: Option<Consistency>) -> Option<Option<SerialConsistency>> {
    match level {
        None => Some(None),
        Some(Consistency::Serial) => Some(Some(SerialConsistency::Serial)),
        Some(Consistency::LocalSerial) => Some(Some(SerialConsistency::LocalSerial)),
        Some(_) => None,
    }
}

fn values_of_driver(values: &[BoundValue]) -> Option<SerializedValues> {
    let written = SerializedValues::from_closure(|writer| {
        for value in values {
            let cell = writer.make_cell_writer();
            match value {
                BoundValue::Null => drop(cell.set_null()),
                BoundValue::Unset => drop(cell.set_unset()),
                BoundValue::Value(bytes) => drop(cell.set_value(bytes).expect("a value of a frame is short")),
            }
        }
        Ok(())
    });
    written.ok().map(|(values, ())| values)
}

fn parameters_of_driver(parameters: &QueryParameters) -> Option<DriverParameters<'static>> {
    if parameters.names.is_some() || parameters.keyspace.is_some() {
        return None;
    }
    let paging_state = match &parameters.paging_state {
        Some(state) => PagingState::new_from_raw_bytes(state.as_ref()),
        None => PagingState::start(),
    };
    Some(DriverParameters {
        consistency: level_of_driver(parameters.consistency),
        serial_consistency: serial_of_driver(parameters.serial_consistency)?,
        timestamp: parameters.timestamp,
        page_size: parameters.page_size,
        paging_state,
        skip_metadata: parameters.skip_metadata,
        values: Cow::Owned(values_of_driver(&parameters.values)?),
    })
}

fn batch_of_driver(
    batch: &Batch,
) -> Option<driver::Batch<'static, DriverStatement<'static>, Vec<SerializedValues>>> {
    if batch.keyspace.is_some() {
        return None;
    }
    let statement = |statement: &BatchStatement| match &statement.query {
        BatchQuery::Text(text) => DriverStatement::Query { text: Cow::Owned(text.clone()) },
        BatchQuery::Prepared(id) => DriverStatement::Prepared { id: Cow::Owned(id.to_vec()) },
    };
    let statements = batch.statements.iter().map(statement).collect::<Vec<_>>();
    let values = batch.statements.iter().map(|statement| values_of_driver(&statement.values));
    Some(driver::Batch {
        statements: Cow::Owned(statements),
        batch_type: match batch.kind {
            BatchKind::Logged => BatchType::Logged,
            BatchKind::Unlogged => BatchType::Unlogged,
            BatchKind::Counter => BatchType::Counter,
        },
        consistency: level_of_driver(batch.consistency),
        serial_consistency: serial_of_driver(batch.serial_consistency)?,
        timestamp: batch.timestamp,
        values: values.collect::<Option<_>>()?,
    })
}
