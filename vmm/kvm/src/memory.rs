//! Guest memory, accessed by volatile copies only, so that there are never references into it.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::error::{MachineError, Result};
use super::layout;

/// The memory of one machine; addresses are guest-physical.
#[derive(Debug)]
pub struct Memory(GuestMemoryMmap<()>);

impl Memory {
    /// Zeroed memory of [`layout::MEMORY`] bytes at 0.
    pub fn new() -> Result<Memory> {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), layout::MEMORY)])
            .map(Memory)
            .map_err(|error| MachineError::Memory(error.to_string()))
    }

    /// Copies into guest memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.0
            .write_slice(bytes, GuestAddress(address))
            .map_err(|error| MachineError::Memory(format!("write at {address:#x}: {error}")))
    }

    /// Copies out of guest memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.0
            .read_slice(bytes, GuestAddress(address))
            .map_err(|error| MachineError::Memory(format!("read at {address:#x}: {error}")))
    }

    /// Little-endian store of a table entry.
    pub fn write_u64(&self, address: u64, value: u64) -> Result<()> {
        self.write(address, &value.to_le_bytes())
    }

    /// Host address of the first byte, for the memory slot.
    pub(super) fn host_address(&self) -> Result<u64> {
        self.0
            .get_host_address(GuestAddress(0))
            .map(|pointer| pointer as u64)
            .map_err(|error| MachineError::Memory(error.to_string()))
    }

    pub(super) fn raw(&self) -> &GuestMemoryMmap<()> {
        &self.0
    }
}
