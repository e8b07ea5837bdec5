//! Compression of message bodies.

use bytes::{BufMut, Bytes, BytesMut};

/// An algorithm that a client may ask for in STARTUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// LZ4 blocks, with the length of what they hold in front, big-endian.
    Lz4,
    /// Snappy's raw format.
    Snappy,
}

/// A body that does not decompress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// Shorter than its own header.
    #[error("a compressed body of {0} bytes")]
    Short(usize),
    /// More than a frame may hold.
    #[error("a compressed body that holds {length} bytes, and {limit} are allowed")]
    TooLong {
        /// The stated size.
        length: u64,
        /// The limit.
        limit: usize,
    },
    /// Not what the algorithm writes.
    #[error("a body that is not {0:?}")]
    Damaged(Compression),
    /// Its size differs from the stated one.
    #[error("a compressed body that holds {actual} bytes and not {stated}")]
    Length {
        /// The stated size.
        stated: usize,
        /// The actual size.
        actual: usize,
    },
}

impl Compression {
    /// Its name in STARTUP and SUPPORTED.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
        }
    }

    /// The algorithm with this name, in any case.
    pub fn from_name(name: &str) -> Option<Compression> {
        [Compression::Lz4, Compression::Snappy].into_iter().find(|it| it.name().eq_ignore_ascii_case(name))
    }

    /// `body`, compressed.
    ///
    /// # Errors
    /// Only for a body beyond 4 GiB, which no frame is.
    pub fn compress(self, body: &[u8]) -> Result<Bytes, CompressionError> {
        match self {
            Compression::Lz4 => {
                let length = u32::try_from(body.len()).map_err(|_| CompressionError::TooLong {
                    length: body.len() as u64,
                    limit: u32::MAX as usize,
                })?;
                let compressed = lz4_flex::block::compress(body);
                let mut all = BytesMut::with_capacity(compressed.len() + 4);
                all.put_u32(length);
                all.put_slice(&compressed);
                Ok(all.freeze())
            }
            Compression::Snappy => {
                snap::raw::Encoder::new().compress_vec(body).map(Bytes::from).map_err(|_| {
                    CompressionError::TooLong { length: body.len() as u64, limit: u32::MAX as usize }
                })
            }
        }
    }

    /// Decompresses `body` to at most `limit` bytes.
    ///
    /// # Errors
    /// If it is damaged, or would be larger: nothing is allocated then.
    pub fn decompress(self, body: &[u8], limit: usize) -> Result<Bytes, CompressionError> {
        // No algorithm here packs more than 255 bytes into one, so this bounds what a short body can demand.
        let believable = |stated: u64| {
            let most = (body.len() as u64).saturating_mul(256).saturating_add(64);
            let damaged = stated > most;
            if stated > limit as u64 {
                Err(CompressionError::TooLong { length: stated, limit })
            } else if damaged {
                Err(CompressionError::Damaged(self))
            } else {
                Ok(stated as usize)
            }
        };
        let (stated, out) = match self {
            Compression::Lz4 => {
                let Some((head, compressed)) = body.split_first_chunk::<4>() else {
                    return Err(CompressionError::Short(body.len()));
                };
                let stated = believable(u64::from(u32::from_be_bytes(*head)))?;
                if stated == 0 && compressed.is_empty() {
                    return Ok(Bytes::new());
                }
                let out = lz4_flex::block::decompress(compressed, stated)
                    .map_err(|_| CompressionError::Damaged(self))?;
                (stated, out)
            }
            Compression::Snappy => {
                let stated = snap::raw::decompress_len(body).map_err(|_| CompressionError::Damaged(self))?;
                let stated = believable(stated as u64)?;
                let out = snap::raw::Decoder::new()
                    .decompress_vec(body)
                    .map_err(|_| CompressionError::Damaged(self))?;
                (stated, out)
            }
        };
        if out.len() != stated {
            return Err(CompressionError::Length { stated, actual: out.len() });
        }
        Ok(Bytes::from(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn what_is_compressed_comes_back_whole() {
        let repeated: Vec<u8> = (0..100_000u32).map(|i| (i / 700) as u8).collect();
        for kind in [Compression::Lz4, Compression::Snappy] {
            for body in [&b""[..], b"x", &repeated] {
                let compressed = kind.compress(body).unwrap();
                assert_eq!(kind.decompress(&compressed, LIMIT).unwrap(), body, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_body_that_claims_more_than_a_frame_may_hold_is_refused_before_it_is_allocated() {
        let mut bomb = u32::MAX.to_be_bytes().to_vec();
        bomb.extend([0; 64]);
        assert!(matches!(
            Compression::Lz4.decompress(&bomb, LIMIT),
            Err(CompressionError::TooLong { length: 4_294_967_295, .. })
        ));
        let huge = [0xff, 0xff, 0xff, 0x7f, 0, 0, 0];
        assert!(matches!(
            Compression::Snappy.decompress(&huge, LIMIT),
            Err(CompressionError::TooLong { .. })
        ));
    }

    #[test]
    fn a_body_that_holds_less_than_it_says_is_refused() {
        let mut compressed = Compression::Lz4.compress(b"some text, some text, some text").unwrap().to_vec();
        compressed[3] += 1;
        assert!(Compression::Lz4.decompress(&compressed, LIMIT).is_err());
        assert_eq!(Compression::Lz4.decompress(&[0, 0], LIMIT), Err(CompressionError::Short(2)));
    }
}
