//! bzImage: the header of the boot protocol locates the compressed kernel.
//!
//! Documentation/arch/x86/boot.rst (`payload_offset`, `payload_length`, since protocol 2.08), and
//! arch/x86/boot/compressed/Makefile: the unpacked length (4 bytes) follows the output of every compressor except gzip,
//! whose format ends with it. Relocations for KASLR, if any, follow the unpacked kernel (`vmlinux.relocs`).

use super::payload::{Compression, unpack};
use crate::error::ImageError;
use crate::hex::hex;
use crate::limits;

const PLACE: &str = "boot header";
const SECTOR: usize = 512;
/// The first protocol that locates the payload.
const PROTOCOL: u16 = 0x208;

/// True for a bzImage.
pub fn is(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

/// Unpacks the kernel; also returns how it was compressed.
///
/// # Errors
///
/// If the header points outside the file or the payload is damaged.
pub fn kernel(bytes: &[u8]) -> Result<(Vec<u8>, Compression), ImageError> {
    let field = |at: usize| -> Result<usize, ImageError> {
        let raw = bytes.get(at..at + 4).and_then(|raw| raw.first_chunk::<4>());
        raw.map(|raw| u32::from_le_bytes(*raw) as usize)
            .ok_or_else(|| ImageError::damaged(PLACE, format!("the file ends at byte {}", bytes.len())))
    };
    let protocol = field(0x206)? as u16;
    if protocol < PROTOCOL {
        return Err(ImageError::new(
            PLACE,
            format!("boot protocol {}.{:02} does not locate the kernel", protocol >> 8, protocol & 0xff),
            "unpack it with the kernel's scripts/extract-vmlinux, and pass the vmlinux",
        ));
    }
    let sectors = match bytes[0x1f1] {
        0 => 4, // the documented meaning of 0
        sectors => usize::from(sectors),
    };
    let (offset, length) = (field(0x248)?, field(0x24c)?);
    let start = (sectors + 1) * SECTOR + offset;
    let payload = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(|| {
        ImageError::damaged(
            PLACE,
            format!("the payload is bytes {start} to {}, but the file has {}", start + length, bytes.len()),
        )
    })?;
    let place = format!("payload at byte {start}");
    let Some(compression) = Compression::of(payload) else {
        let head = hex(&payload[..payload.len().min(6)]);
        return Err(ImageError::new(
            place,
            format!("no known compression begins with {head}"),
            "gzip, xz, lz4, zstd, bzip2 and lzma are supported; unpack others with the kernel's scripts/extract-vmlinux",
        ));
    };
    let (stream, announced) = payload
        .split_last_chunk::<4>()
        .ok_or_else(|| ImageError::damaged(&place, "it is too short for the unpacked length"))?;
    let whole = if compression == Compression::Gzip { payload } else { stream };
    let announced = u64::from(u32::from_le_bytes(*announced));
    if announced > limits::UNPACKED {
        return Err(ImageError::damaged(
            place,
            format!("its unpacked length is {announced} bytes, more than any kernel has"),
        ));
    }
    let kernel = unpack(whole, compression, &place, announced)?;
    if kernel.len() as u64 != announced {
        return Err(ImageError::damaged(
            place,
            format!("it unpacks to {} bytes instead of {announced}", kernel.len()),
        ));
    }
    Ok((kernel, compression))
}
