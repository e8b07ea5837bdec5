//! What a Produce request claims to have, before anything is allocated for it.
//!
//! Its frame may have 100 MiB, and the codec reserves memory for as many elements as an array claims, if the frame has as
//! many bytes: that is up to a hundred times the frame. So the arrays are counted first, and what is not records is
//! bounded as all other requests are.

use super::frame::FrameError;
use super::messages::ApiKey;

/// The version from which lengths and counts are variable, and structures have tagged fields.
const FLEXIBLE_FROM: i16 = 9;

/// The version from which topics have ids in place of names.
const IDS_FROM: i16 = 13;

/// Checks that all arrays of a request are as long as they claim, and that it has at most `most` bytes beside its records.
///
/// # Errors
/// If not, or the request is malformed in another way.
pub(super) fn check(body: &[u8], version: i16, most: usize) -> Result<(), FrameError> {
    let mut walk = Walk { left: body, flexible: version >= FLEXIBLE_FROM, structure: 0, most };
    walk.request(version).map_err(|reason| FrameError::Malformed {
        key: ApiKey::Produce as i16,
        version,
        reason,
    })
}

/// A position in a request.
struct Walk<'a> {
    left: &'a [u8],
    flexible: bool,
    /// How many bytes have been passed that are not records.
    structure: usize,
    most: usize,
}

type Result<T, E = String> = std::result::Result<T, E>;

impl Walk<'_> {
    fn request(&mut self, version: i16) -> Result<()> {
        self.text()?;
        // The acknowledgements and the timeout.
        self.pass(2 + 4)?;
        for _ in 0..self.count()? {
            if version >= IDS_FROM {
                self.pass(16)?
            } else {
                self.text()?
            }
            for _ in 0..self.count()? {
                self.pass(4)?;
                self.records()?;
                self.tags()?;
            }
            self.tags()?;
        }
        self.tags()
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8]> {
        let ends = || format!("it ends {} bytes too early", bytes - self.left.len());
        let (taken, left) = self.left.split_at_checked(bytes).ok_or_else(ends)?;
        self.left = left;
        Ok(taken)
    }

    fn pass(&mut self, bytes: usize) -> Result<()> {
        self.structure = self.structure.saturating_add(bytes);
        if self.structure > self.most {
            return Err(format!("it has more than {} bytes beside its records", self.most));
        }
        self.take(bytes).map(|_| ())
    }

    fn variable(&mut self) -> Result<usize> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.left.first().copied().ok_or("it ends in a number")?;
            self.pass(1)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|error| error.to_string());
            }
        }
        Err("a number has more than five bytes".to_owned())
    }

    fn fixed(&mut self) -> Result<i32> {
        let bytes = self.left.first_chunk().copied().ok_or("it ends in a number")?;
        self.pass(4)?;
        Ok(i32::from_be_bytes(bytes))
    }

    /// The length of an array or of records; 0 if it is null, which the codec sees.
    fn count(&mut self) -> Result<usize> {
        if self.flexible {
            return self.variable().map(|count| count.saturating_sub(1));
        }
        self.fixed().map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn text(&mut self) -> Result<()> {
        let length = if self.flexible {
            self.variable()?.saturating_sub(1)
        } else {
            let bytes = self.left.first_chunk().copied().ok_or("it ends in a number")?;
            self.pass(2)?;
            usize::try_from(i16::from_be_bytes(bytes)).unwrap_or(0)
        };
        self.pass(length)
    }

    fn records(&mut self) -> Result<()> {
        let length = self.count()?;
        self.take(length).map(|_| ())
    }

    fn tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.variable()? {
                self.variable()?;
                let length = self.variable()?;
                self.pass(length)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use proto_kafka::messages::{ProduceRequest, TransactionalId};
    use proto_kafka::protocol::{Encodable, StrBytes};

    use super::*;

    /// A request with two topics of two partitions each, with records of a thousand bytes.
    fn body(version: i16) -> BytesMut {
        let data = |index| {
            let records = Some(Bytes::from(vec![1; 1000]));
            PartitionProduceData::default().with_index(index).with_records(records)
        };
        let name = |name: &str| StrBytes::from_string(name.to_owned());
        let topic = |index: u128| {
            let topic = TopicProduceData::default().with_partition_data(vec![data(0), data(1)]);
            if version >= IDS_FROM {
                topic.with_topic_id(uuid::Uuid::from_u128(index))
            } else {
                topic.with_name(name(&format!("topic{index}")).into())
            }
        };
        let request = ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(name("id"))))
            .with_topic_data(vec![topic(1), topic(2)]);
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        body
    }

    #[test]
    fn a_request_passes_if_it_is_whole_and_no_more_than_the_limit_beside_its_records() {
        for version in 3..=13 {
            let body = body(version);
            let beside = body.len() - 4000;
            assert!(check(&body, version, beside).is_ok(), "{version}");
            assert!(check(&body, version, beside - 1).is_err(), "{version}");
            // As in Kafka, bytes may be left over.
            assert!(check(&[&body[..], b"more"].concat(), version, beside).is_ok());
            for end in 0..body.len() {
                assert!(check(&body[..end], version, beside).is_err(), "{version} {end}");
            }
        }
    }
}
