//! The paging state: where a page ended, for the client's next request.

use bytes::Bytes;

use crate::protocol::{Reader, ServerError, WireError, Writer};
use crate::schema::Table;
use crate::storage::{DecoratedKey, Resume};

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PagingState {
    /// The last row that was looked at.
    pub resume: Resume,
    /// How many more rows LIMIT allows.
    pub remaining: u32,
}

/// The first byte, by which other data are recognised.
const FORMAT: u8 = 0x51;

impl PagingState {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.byte(FORMAT);
        out.int(self.remaining as i32);
        out.int(self.resume.remaining_in_partition as i32);
        out.bytes(Some(self.resume.key.bytes()));
        match &self.resume.row {
            Some(row) => {
                out.count(row.values().len());
                row.values().iter().for_each(|value| out.bytes(Some(value)));
            }
            None => out.int(-1),
        }
        out.finish()
    }

    /// From bytes that a client sent.
    ///
    /// # Errors
    /// If they are not from [`PagingState::encode`] for this table.
    pub fn decode(bytes: Bytes, table: &Table) -> Result<PagingState, ServerError> {
        let error = || ServerError::Protocol("Invalid value for the paging state".to_owned());
        let read = || -> Result<Option<PagingState>, WireError> {
            let mut reader = Reader::new(bytes);
            if reader.byte("format")? != FORMAT {
                return Ok(None);
            }
            let remaining = reader.int("remaining rows")? as u32;
            let remaining_in_partition = reader.int("remaining rows of the partition")? as u32;
            let Some(key) = reader.bytes("partition key")? else { return Ok(None) };
            let count = reader.int("count of clustering columns")?;
            let row = if count < 0 {
                None
            } else {
                let mut values = Vec::new();
                for _ in 0..count {
                    let Some(value) = reader.bytes("clustering column")? else { return Ok(None) };
                    values.push(value);
                }
                if values.len() != table.clustering.components().len() {
                    return Ok(None);
                }
                Some(table.row(values))
            };
            if reader.left() > 0 {
                return Ok(None);
            }
            let resume = Resume { key: DecoratedKey::new(key), row, remaining_in_partition };
            Ok(Some(PagingState { resume, remaining }))
        };
        read().ok().flatten().ok_or_else(error)
    }
}
