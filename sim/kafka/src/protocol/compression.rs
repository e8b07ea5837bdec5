//! The compressions of record batches, in both directions.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// No compression.
pub const NONE: i8 = 0;
/// gzip.
pub const GZIP: i8 = 1;
/// snappy, in the blocks of the xerial library as Java's clients write it, or raw as librdkafka does.
pub const SNAPPY: i8 = 2;
/// lz4, in frames.
pub const LZ4: i8 = 3;
/// zstd.
pub const ZSTD: i8 = 4;

/// Why something cannot be decompressed.
#[derive(Debug, Error)]
pub enum CompressionError {
    /// There is no such compression.
    #[error("there is no compression {0}")]
    Unknown(i8),
    /// It is malformed.
    #[error("malformed {compression} data: {reason}")]
    Malformed {
        /// The compression.
        compression: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// It is larger than allowed.
    #[error("it decompresses to more than {0} bytes")]
    TooLarge(usize),
}

/// The number of a compression by its name in configurations; none for `producer` and unknown ones.
pub fn by_name(name: &str) -> Option<i8> {
    match name {
        "uncompressed" => Some(NONE),
        "gzip" => Some(GZIP),
        "snappy" => Some(SNAPPY),
        "lz4" => Some(LZ4),
        "zstd" => Some(ZSTD),
        _ => None,
    }
}

/// Decompresses records, to at most `limit` bytes.
///
/// # Errors
/// If there is no such compression, the data is malformed, or it would be larger.
pub fn decompress(compression: i8, payload: Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    let malformed = |compression| {
        move |error: std::io::Error| CompressionError::Malformed { compression, reason: error.to_string() }
    };
    match compression {
        NONE => Ok(payload),
        GZIP => read(flate2::read::MultiGzDecoder::new(&payload[..]), limit, malformed("gzip")),
        SNAPPY => snappy(&payload, limit),
        LZ4 => read(lz4_flex::frame::FrameDecoder::new(&payload[..]), limit, malformed("lz4")),
        ZSTD => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&payload[..]).map_err(|error| {
                CompressionError::Malformed { compression: "zstd", reason: error.to_string() }
            })?;
            read(decoder, limit, malformed("zstd"))
        }
        unknown => Err(CompressionError::Unknown(unknown)),
    }
}

fn read(
    decoder: impl Read,
    limit: usize,
    malformed: impl FnOnce(std::io::Error) -> CompressionError,
) -> Result<Bytes, CompressionError> {
    let mut output = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut output).map_err(malformed)?;
    if output.len() > limit { Err(CompressionError::TooLarge(limit)) } else { Ok(Bytes::from(output)) }
}

/// What Java's snappy streams begin with: a magic number, a version and the oldest compatible one.
const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// More than snappy compresses by: three bytes are a copy of 64 at most. Memory is allocated for what a block claims.
const SNAPPY_FACTOR: usize = 64;

fn snappy(payload: &[u8], limit: usize) -> Result<Bytes, CompressionError> {
    let malformed =
        |reason: &str| CompressionError::Malformed { compression: "snappy", reason: reason.to_owned() };
    let mut output = BytesMut::new();
    let mut block = |block: &[u8]| {
        let length = snap::raw::decompress_len(block).map_err(|error| malformed(&error.to_string()))?;
        if length > limit.saturating_sub(output.len()) {
            return Err(CompressionError::TooLarge(limit));
        }
        if length > block.len().saturating_mul(SNAPPY_FACTOR) {
            return Err(malformed("a block claims more than it can be decompressed to"));
        }
        let bytes = snap::raw::Decoder::new().decompress_vec(block);
        output.put_slice(&bytes.map_err(|error| malformed(&error.to_string()))?);
        Ok(())
    };
    if payload.get(..8) != XERIAL.get(..8) {
        block(payload)?;
        return Ok(output.freeze());
    }
    let mut rest = payload.get(XERIAL.len()..).ok_or_else(|| malformed("a cut header"))?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (this, after) = after.split_at_checked(length).ok_or_else(|| malformed("a cut block"))?;
        block(this)?;
        rest = after;
    }
    if rest.is_empty() { Ok(output.freeze()) } else { Err(malformed("a cut length")) }
}

/// Compresses records; none if there is no such compression.
pub fn compress(compression: i8, payload: &[u8]) -> Option<Vec<u8>> {
    match compression {
        NONE => Some(payload.to_vec()),
        GZIP => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(payload).ok()?;
            encoder.finish().ok()
        }
        SNAPPY => {
            let mut output = XERIAL.to_vec();
            for block in payload.chunks(32 << 10) {
                let compressed = snap::raw::Encoder::new().compress_vec(block).ok()?;
                output.extend_from_slice(&u32::try_from(compressed.len()).ok()?.to_be_bytes());
                output.extend_from_slice(&compressed);
            }
            Some(output)
        }
        LZ4 => {
            // Java reads neither linked blocks nor blocks without a size that it knows.
            let info = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(payload).ok()?;
            encoder.finish().ok()
        }
        ZSTD => Some(ruzstd::encoding::compress_to_vec(payload, ruzstd::encoding::CompressionLevel::Fastest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_decompressed_within_its_limit_and_not_beyond() {
        let payload = b"simulated ".repeat(10_000);
        for compression in NONE..=ZSTD {
            let compressed = Bytes::from(compress(compression, &payload).unwrap());
            assert!(compression == NONE || compressed.len() < payload.len() / 2);
            let back = decompress(compression, compressed.clone(), payload.len()).unwrap();
            assert!(back == payload, "{compression}");
            let refused = decompress(compression, compressed.clone(), payload.len() - 1);
            assert!(compression == NONE || matches!(refused, Err(CompressionError::TooLarge(_))));
            let cut = decompress(compression, compressed.slice(..compressed.len() / 2), payload.len());
            assert!(compression == NONE || cut.is_err() || cut.is_ok_and(|cut| cut != payload));
        }
        assert!(matches!(decompress(5, Bytes::new(), 10), Err(CompressionError::Unknown(5))));
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(b"raw").unwrap();
        assert_eq!(decompress(SNAPPY, Bytes::from(raw), 10).unwrap(), &b"raw"[..]);
    }
}
