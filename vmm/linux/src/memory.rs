//! The image as the kernel sees it: bytes at addresses.

use std::ops::Range;

/// A piece of the image with consecutive addresses: a section, or a segment where there are no sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Name of the section.
    pub name: String,
    /// Address of its first byte.
    pub address: u64,
    /// Position of its bytes in the image's buffer.
    pub data: Range<usize>,
    /// True if it contains instructions.
    pub executable: bool,
}

impl Region {
    /// The address after its last byte.
    pub fn end(&self) -> u64 {
        self.address + self.data.len() as u64
    }
}

/// All regions of an image, with their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    buffer: Vec<u8>,
    regions: Vec<Region>,
}

impl Memory {
    /// Regions of a buffer. Regions that are empty, lie outside the buffer or wrap around the address space are dropped,
    /// so every later read is a slice of the buffer.
    pub fn new(buffer: Vec<u8>, mut regions: Vec<Region>) -> Memory {
        regions.retain(|region| {
            !region.data.is_empty()
                && region.data.end <= buffer.len()
                && region.address.checked_add(region.data.len() as u64).is_some()
        });
        regions.sort_by_key(|region| region.address);
        Memory { buffer, regions }
    }

    /// The regions, by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region with a name.
    pub fn named(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The region that contains an address.
    pub fn region(&self, address: u64) -> Option<&Region> {
        let index = self.regions.partition_point(|region| region.address <= address).checked_sub(1)?;
        Some(&self.regions[index]).filter(|region| address < region.end())
    }

    /// True if an address is in executable memory.
    pub fn executable(&self, address: u64) -> bool {
        self.region(address).is_some_and(|region| region.executable)
    }

    /// The bytes of a region.
    pub fn contents(&self, region: &Region) -> &[u8] {
        self.buffer.get(region.data.clone()).unwrap_or_default()
    }

    /// The bytes from an address to the end of its region.
    pub fn from(&self, address: u64) -> Option<&[u8]> {
        let region = self.region(address)?;
        self.contents(region).get((address - region.address) as usize..)
    }

    /// `length` bytes at an address, all in one region.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.from(address)?.get(..length)
    }

    /// A little-endian word.
    pub fn u64(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(address, 8)?.first_chunk()?))
    }
}
