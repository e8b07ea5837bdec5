//! Responses: the driver reads them as what they are.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use futures_util::FutureExt;
use scylla_cql::deserialize::row::ColumnIterator;
use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::request::query::PagingStateResponse;
use scylla_cql::frame::response::error::{DbError, WriteType as DriverWriteType};
use scylla_cql::frame::response::event::{
    EventV2, SchemaChangeEvent, SchemaChangeType, StatusChangeEvent, TopologyChangeEvent,
};
use scylla_cql::frame::response::result::{
    ColumnSpec as DriverColumn, Result as DriverResult, ResultMetadata,
};
use scylla_cql::frame::response::{ResponseOpcode, ResponseV2};
use scylla_cql::frame::{
    Compression as DriverCompression, parse_response_body_extensions, read_response_frame,
};
use simulated_cassandra::coordinator::{ChangeKind, FailureReason, RequestError, WriteType};
use simulated_cassandra::protocol::{
    ColumnSpec, Compression, Notice, Prepared, Response, ResultMetadata as OurMetadata, Rows, SchemaNotice,
    ServerError, frame,
};

use super::compression;
use super::made::{bytes, columns, level, level_of_driver};
use crate::types::{few, type_of_driver};

/// Makes a response, writes it, and lets the driver read it.
pub fn response(source: &mut Unstructured<'_>) -> Result<()> {
    let compression = compression(source)?;
    let stream = i16::arbitrary(source)?;
    let warnings = few(source, String::arbitrary)?;
    let response = made(source)?;
    let read = |response: &Response, cached| read(response, stream, &warnings, compression, cached);
    match &response {
        Response::Rows(rows) if rows.skip_metadata => {
            // The driver knows the columns since the statement was prepared.
            let result = OurMetadata { columns: rows.metadata.columns.clone(), paging_state: None };
            let prepared =
                Prepared { id: Bytes::new(), markers: Vec::new(), partition_key: Vec::new(), result };
            let ResponseV2::Result(DriverResult::Prepared(prepared)) =
                read(&Response::Prepared(prepared), None)
            else {
                panic!("no prepared statement")
            };
            compare(&response, read(&response, Some(Arc::new(prepared.result_metadata))));
        }
        _ => compare(&response, read(&response, None)),
    }
    Ok(())
}

/// What the driver reads.
fn read(
    response: &Response,
    stream: i16,
    warnings: &[String],
    compression: Option<Compression>,
    cached: Option<Arc<ResultMetadata<'static>>>,
) -> ResponseV2 {
    let frame = frame::encode(stream, response, warnings, compression);
    let mut rest = &frame[..];
    let read = read_response_frame(&mut rest).now_or_never().expect("all bytes are there");
    let (parameters, opcode, body): (_, ResponseOpcode, _) = read.expect("a frame");
    assert!(rest.is_empty(), "{} bytes follow the frame", rest.len());
    assert_eq!((parameters.version, parameters.stream), (0x84, stream));
    let compression = compression.map(|compression| match compression {
        Compression::Lz4 => DriverCompression::Lz4,
        Compression::Snappy => DriverCompression::Snappy,
    });
    let read = parse_response_body_extensions(parameters.flags, compression, body).expect("a body");
    assert_eq!(read.warnings, warnings);
    assert!(read.trace_id.is_none() && read.custom_payload.is_none());
    let read = ResponseV2::deserialize(&ProtocolFeatures::default(), opcode, read.body, cached.as_ref());
    read.unwrap_or_else(|error| panic!("the driver does not read {response:?}: {error}"))
}

fn made(source: &mut Unstructured<'_>) -> Result<Response> {
    Ok(match source.int_in_range(0..=10)? {
        0 => Response::Error(error(source)?),
        1 => Response::Ready,
        2 => Response::Authenticate(String::arbitrary(source)?),
        3 => {
            let options: BTreeMap<String, Vec<String>> =
                few(source, |source| Ok((String::arbitrary(source)?, few(source, String::arbitrary)?)))?
                    .into_iter()
                    .collect();
            Response::Supported(options.into_iter().collect())
        }
        4 => Response::Void,
        5 => Response::Rows(rows(source)?),
        6 => Response::SetKeyspace(String::arbitrary(source)?),
        7 => Response::Prepared(Prepared {
            id: bytes(source)?,
            markers: columns(source)?,
            partition_key: few(source, u16::arbitrary)?,
            result: OurMetadata { columns: columns(source)?, paging_state: None },
        }),
        8 => Response::SchemaChange(schema_notice(source)?),
        9 => Response::Event(match source.int_in_range(0..=2)? {
            0 => Notice::Topology { joined: bool::arbitrary(source)?, address: address(source)? },
            1 => Notice::Status { up: bool::arbitrary(source)?, address: address(source)? },
            _ => Notice::Schema(schema_notice(source)?),
        }),
        _ => Response::AuthSuccess(match bool::arbitrary(source)? {
            true => Some(bytes(source)?),
            false => None,
        }),
    })
}

fn address(source: &mut Unstructured<'_>) -> Result<SocketAddr> {
    Ok((IpAddr::arbitrary(source)?, u16::arbitrary(source)?).into())
}

fn rows(source: &mut Unstructured<'_>) -> Result<Rows> {
    let columns = columns(source)?;
    let paging_state = match bool::arbitrary(source)? {
        true => Some(bytes(source)?),
        false => None,
    };
    let skip_metadata = bool::arbitrary(source)?;
    let rows = few(source, |source| {
        columns
            .iter()
            .map(|_| match bool::arbitrary(source)? {
                true => bytes(source).map(Some),
                false => Ok(None),
            })
            .collect()
    })?;
    Ok(Rows { metadata: OurMetadata { columns, paging_state }, skip_metadata, rows })
}

fn schema_notice(source: &mut Unstructured<'_>) -> Result<SchemaNotice> {
    Ok(SchemaNotice {
        kind: *source.choose(&[ChangeKind::Created, ChangeKind::Updated, ChangeKind::Dropped])?,
        keyspace: String::arbitrary(source)?,
        table: Option::arbitrary(source)?,
    })
}

fn error(source: &mut Unstructured<'_>) -> Result<ServerError> {
    let text = String::arbitrary(source)?;
    Ok(match source.int_in_range(0..=17)? {
        0 => ServerError::Protocol(text),
        1 => ServerError::BadCredentials(text),
        2 => ServerError::FunctionFailure {
            keyspace: String::arbitrary(source)?,
            function: String::arbitrary(source)?,
            arguments: few(source, String::arbitrary)?,
            message: text,
        },
        3 => ServerError::Syntax(text),
        4 => ServerError::Unauthorized(text),
        5 => ServerError::AlreadyExists { keyspace: text, table: String::arbitrary(source)? },
        6 => ServerError::Unprepared { id: bytes(source)? },
        7 => ServerError::Request(RequestError::Overloaded(text)),
        8 => ServerError::Request(RequestError::IsBootstrapping),
        9 => ServerError::Request(RequestError::Truncate(text)),
        10 => ServerError::Request(RequestError::Invalid(text)),
        11 => ServerError::Request(RequestError::Configuration(text)),
        12 => ServerError::Request(RequestError::Server(text)),
        other => ServerError::Request(outcome(source, other)?),
    })
}

fn number(source: &mut Unstructured<'_>) -> Result<usize> {
    source.int_in_range(0..=i32::MAX as usize)
}

/// The outcome of a request that too few replicas have responded to.
fn outcome(source: &mut Unstructured<'_>, which: i32) -> Result<RequestError> {
    let (consistency, received, block_for) = (level(source)?, number(source)?, number(source)?);
    let types =
        [WriteType::Simple, WriteType::Batch, WriteType::UnloggedBatch, WriteType::BatchLog, WriteType::Cas];
    let (write_type, data_present) = (*source.choose(&types)?, bool::arbitrary(source)?);
    let mut failures = BTreeMap::new();
    if which >= 16 {
        failures.extend(few(source, |source| Ok((IpAddr::arbitrary(source)?, FailureReason::Timeout)))?);
    }
    Ok(match which {
        13 => RequestError::Unavailable { consistency, required: received, alive: block_for },
        14 => RequestError::WriteTimeout { consistency, received, block_for, write_type },
        15 => RequestError::ReadTimeout { consistency, received, block_for, data_present },
        16 => RequestError::WriteFailure { consistency, received, block_for, failures, write_type },
        _ => RequestError::ReadFailure { consistency, received, block_for, failures, data_present },
    })
}

/// Compares a response with what the driver has read.
fn compare(ours: &Response, read: ResponseV2) {
    match (ours, read) {
        (Response::Error(error), ResponseV2::Error(read)) => {
            assert_eq!((read.error, read.reason), (error_of_driver(error), error.to_string()));
        }
        (Response::Ready, ResponseV2::Ready) => {}
        (Response::Authenticate(class), ResponseV2::Authenticate(read)) => {
            assert_eq!(read.authenticator_name, *class);
        }
        (Response::Supported(options), ResponseV2::Supported(read)) => {
            assert_eq!(read.options, options.iter().cloned().collect::<HashMap<_, _>>());
        }
        (Response::Event(notice), ResponseV2::Event(read)) => compare_events(notice, &read),
        (Response::AuthSuccess(token), ResponseV2::AuthSuccess(read)) => {
            assert_eq!(read.success_message.as_deref(), token.as_deref());
        }
        (ours, ResponseV2::Result(read)) => compare_results(ours, read),
        (ours, read) => panic!("{ours:?} is read as {read:?}"),
    }
}

fn compare_results(ours: &Response, read: DriverResult) {
    match (ours, read) {
        (Response::Void, DriverResult::Void) => {}
        (Response::SetKeyspace(name), DriverResult::SetKeyspace(read)) => {
            assert_eq!(read.keyspace_name, *name)
        }
        (Response::SchemaChange(notice), DriverResult::SchemaChange(read)) => {
            compare_schema(notice, &read.event);
        }
        (Response::Prepared(prepared), DriverResult::Prepared(read)) => {
            assert_eq!(read.id, prepared.id);
            let markers = &read.prepared_metadata;
            assert_eq!(markers.col_count, prepared.markers.len());
            assert_eq!(markers.col_specs, columns_of_driver(&prepared.markers));
            let mut key = markers.pk_indexes.clone();
            key.sort_by_key(|place| place.sequence);
            assert_eq!(key.iter().map(|place| place.index).collect::<Vec<_>>(), prepared.partition_key);
            assert_eq!(read.result_metadata.col_specs(), columns_of_driver(&prepared.result.columns));
        }
        (Response::Rows(rows), DriverResult::Rows((read, state))) => {
            match (state, &rows.metadata.paging_state) {
                (PagingStateResponse::NoMorePages, None) => {}
                (PagingStateResponse::HasMorePages { state }, Some(ours)) => {
                    assert_eq!(state.as_bytes_slice().map(|state| &state[..]), Some(&ours[..]));
                }
                (state, ours) => panic!("{ours:?} is read as {state:?}"),
            }
            let read = read.deserialize_metadata().expect("metadata");
            assert_eq!(read.metadata().col_specs(), columns_of_driver(&rows.metadata.columns));
            assert_eq!(read.rows_count(), rows.rows.len());
            let found = read.rows_iter::<ColumnIterator<'_, '_>>().expect("rows").map(|row| {
                let value = |column: scylla_cql::deserialize::row::RawColumn<'_, '_>| {
                    column.slice.map(|slice| Bytes::copy_from_slice(slice.as_slice()))
                };
                row.expect("a row").map(|column| value(column.expect("a column"))).collect::<Vec<_>>()
            });
            assert_eq!(found.collect::<Vec<_>>(), rows.rows);
        }
        (ours, read) => panic!("{ours:?} is read as {read:?}"),
    }
}

fn columns_of_driver(columns: &[ColumnSpec]) -> Vec<DriverColumn<'static>> {
    use scylla_cql::frame::response::result::TableSpec;
    let column = |column: &ColumnSpec| {
        let table = TableSpec::owned(column.keyspace.to_string(), column.table.to_string());
        DriverColumn::owned(column.name.clone(), type_of_driver(&column.data_type), table)
    };
    columns.iter().map(column).collect()
}

fn compare_events(notice: &Notice, read: &EventV2) {
    match (notice, read) {
        (
            Notice::Topology { joined: true, address },
            EventV2::TopologyChange(TopologyChangeEvent::NewNode(read)),
        )
        | (
            Notice::Topology { joined: false, address },
            EventV2::TopologyChange(TopologyChangeEvent::RemovedNode(read)),
        )
        | (Notice::Status { up: true, address }, EventV2::StatusChange(StatusChangeEvent::Up(read)))
        | (Notice::Status { up: false, address }, EventV2::StatusChange(StatusChangeEvent::Down(read))) => {
            assert_eq!(read, address);
        }
        (Notice::Schema(notice), EventV2::SchemaChange(read)) => compare_schema(notice, read),
        (notice, read) => panic!("{notice:?} is read as {read:?}"),
    }
}

fn compare_schema(notice: &SchemaNotice, read: &SchemaChangeEvent) {
    let (change, keyspace, table) = match read {
        SchemaChangeEvent::KeyspaceChange { change_type, keyspace_name } => {
            (change_type, keyspace_name, None)
        }
        SchemaChangeEvent::TableChange { change_type, keyspace_name, object_name } => {
            (change_type, keyspace_name, Some(object_name))
        }
        read => panic!("{notice:?} is read as {read:?}"),
    };
    let is_same = matches!(
        (notice.kind, change),
        (ChangeKind::Created, SchemaChangeType::Created)
            | (ChangeKind::Updated, SchemaChangeType::Updated)
            | (ChangeKind::Dropped, SchemaChangeType::Dropped)
    );
    assert!(is_same, "{notice:?} is read as {read:?}");
    assert_eq!((keyspace, table), (&notice.keyspace, notice.table.as_ref()));
}

fn error_of_driver(error: &ServerError) -> DbError {
    match error {
        ServerError::Protocol(_) => DbError::ProtocolError,
        ServerError::BadCredentials(_) => DbError::AuthenticationError,
        ServerError::FunctionFailure { keyspace, function, arguments, .. } => DbError::FunctionFailure {
            keyspace: keyspace.clone(),
            function: function.clone(),
            arg_types: arguments.clone(),
        },
        ServerError::Syntax(_) => DbError::SyntaxError,
        ServerError::Unauthorized(_) => DbError::Unauthorized,
        ServerError::AlreadyExists { keyspace, table } => {
            DbError::AlreadyExists { keyspace: keyspace.clone(), table: table.clone() }
        }
        ServerError::Unprepared { id } => DbError::Unprepared { statement_id: id.clone() },
        ServerError::Request(error) => outcome_of_driver(error),
        other => panic!("an error that is not made: {other:?}"),
    }
}

fn outcome_of_driver(error: &RequestError) -> DbError {
    let count = |number: usize| i32::try_from(number).expect("it is made so");
    match error {
        RequestError::Overloaded(_) => DbError::Overloaded,
        RequestError::IsBootstrapping => DbError::IsBootstrapping,
        RequestError::Truncate(_) => DbError::TruncateError,
        RequestError::Invalid(_) => DbError::Invalid,
        RequestError::Configuration(_) => DbError::ConfigError,
        RequestError::Server(_) => DbError::ServerError,
        RequestError::Unavailable { consistency, required, alive } => DbError::Unavailable {
            consistency: level_of_driver(*consistency),
            required: count(*required),
            alive: count(*alive),
        },
        RequestError::WriteTimeout { consistency, received, block_for, write_type } => {
            DbError::WriteTimeout {
                consistency: level_of_driver(*consistency),
                received: count(*received),
                required: count(*block_for),
                write_type: type_of_write(*write_type),
            }
        }
        RequestError::ReadTimeout { consistency, received, block_for, data_present } => {
            DbError::ReadTimeout {
                consistency: level_of_driver(*consistency),
                received: count(*received),
                required: count(*block_for),
                data_present: *data_present,
            }
        }
        RequestError::WriteFailure { consistency, received, block_for, failures, write_type } => {
            DbError::WriteFailure {
                consistency: level_of_driver(*consistency),
                received: count(*received),
                required: count(*block_for),
                numfailures: count(failures.len()),
                write_type: type_of_write(*write_type),
            }
        }
        RequestError::ReadFailure { consistency, received, block_for, failures, data_present } => {
            DbError::ReadFailure {
                consistency: level_of_driver(*consistency),
                received: count(*received),
                required: count(*block_for),
                numfailures: count(failures.len()),
                data_present: *data_present,
            }
        }
        other => panic!("an error that is not made: {other:?}"),
    }
}

fn type_of_write(write_type: WriteType) -> DriverWriteType {
    match write_type {
        WriteType::Simple => DriverWriteType::Simple,
        WriteType::Batch => DriverWriteType::Batch,
        WriteType::UnloggedBatch => DriverWriteType::UnloggedBatch,
        WriteType::BatchLog => DriverWriteType::BatchLog,
        WriteType::Cas => DriverWriteType::Cas,
    }
}
