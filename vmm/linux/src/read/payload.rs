//! Decompresses data up to a limit. The first bytes tell the format.
//!
//! The formats are those of the kernel's `lib/decompress.c` and of `scripts/Makefile.lib` (`cmd_gzip`, `cmd_bzip2`,
//! `cmd_lzma`, `cmd_xzkern`, `cmd_lz4`, `cmd_zstd`), except for LZO.

use std::io::Read;

use crate::error::ImageError;
use crate::limits;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Compression {
    /// gzip, RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The format of `lzma(1)`, without a container.
    Lzma,
    /// xz; kernels use it with the x86 filter.
    Xz,
    /// The legacy frame of `lz4 -l`: blocks of 8 MiB, each with its length before it.
    Lz4,
    /// zstd.
    Zstd,
}

/// Maximum unpacked size of a legacy LZ4 block (lib/decompress_unlz4.c, `LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`).
const LZ4_BLOCK: usize = 8 << 20;

impl Compression {
    /// Recognises a format by its first bytes.
    pub fn of(bytes: &[u8]) -> Option<Compression> {
        let magics: [(&[u8], Compression); 6] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (b"BZh", Compression::Bzip2),
            (&[0x5d, 0x00, 0x00], Compression::Lzma),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Compression::Xz),
            (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        ];
        magics.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, compression)| compression)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Unpacks one stream. Data after it is ignored, except for LZ4: its legacy frame has no end mark, so the caller must
/// pass the frame alone.
///
/// # Errors
///
/// If the stream is damaged, or unpacks to more than `limit` bytes.
pub fn unpack(
    bytes: &[u8],
    compression: Compression,
    place: &str,
    limit: u64,
) -> Result<Vec<u8>, ImageError> {
    let name = compression.name();
    let damaged = |reason: &dyn std::fmt::Display| {
        ImageError::damaged(place, format!("the {name} stream is damaged: {reason}"))
    };
    let (dictionary, window) = (limits::DICTIONARY_KIB, u64::from(limits::DICTIONARY_KIB) << 10);
    let reader: Box<dyn Read + '_> = match compression {
        Compression::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        Compression::Bzip2 => Box::new(bzip2::read::BzDecoder::new(bytes)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(bytes, false, dictionary)),
        Compression::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(bytes, dictionary, None);
            Box::new(reader.map_err(|error| damaged(&error))?)
        }
        Compression::Zstd => {
            let reader = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, window);
            Box::new(reader.map_err(|error| damaged(&error))?)
        }
        Compression::Lz4 => return lz4_legacy(bytes, place, limit),
    };
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out).map_err(|error| damaged(&error))?;
    if out.len() as u64 > limit {
        return Err(too_long(place, name, limit));
    }
    Ok(out)
}

fn too_long(place: &str, name: &str, limit: u64) -> ImageError {
    ImageError::damaged(place, format!("the {name} stream unpacks to more than {limit} bytes"))
}

fn lz4_legacy(bytes: &[u8], place: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
    let damaged = |reason: String| ImageError::damaged(place, format!("the lz4 stream is damaged: {reason}"));
    let mut out = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    let mut rest = bytes.get(4..).unwrap_or_default();
    while !rest.is_empty() {
        let (size, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged("it ends in the length of a block".into()))?;
        let size = u32::from_le_bytes(*size) as usize;
        let input = tail
            .get(..size)
            .ok_or_else(|| damaged(format!("a block has {size} bytes, but only {} are left", tail.len())))?;
        let written = lz4_flex::block::decompress_into(input, &mut block)
            .map_err(|error| damaged(format!("block at byte {}: {error}", bytes.len() - rest.len())))?;
        if (out.len() + written) as u64 > limit {
            return Err(too_long(place, "lz4", limit));
        }
        // Empty blocks make no progress towards the limit.
        if size == 0 || written == 0 {
            return Err(damaged("a block is empty".into()));
        }
        out.extend_from_slice(&block[..written]);
        rest = &tail[size..];
    }
    Ok(out)
}
