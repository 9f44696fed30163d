//! Patches calls and jumps to thunks: arch/x86/kernel/alternative.c and callthunks.c.
//!
//! The kernel's choice depends on the CPU and the command line. The versions here are those of a CPU that needs no
//! mitigation, except for call depth tracking, where they are those with the mitigation.

use super::branch;
use crate::nops::{self, INT3, Style};
use crate::read::Binary;
use crate::site::State;

/// Registers by their numbers in instructions, spelled as in the names of thunks.
const REGISTERS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// `patch_retpoline()` without the feature: a call or jump through the thunk's register, for a conditional jump with the
/// opposite condition around it; INT3 after a jump, and NOPs.
pub fn retpoline(binary: &Binary, bytes: &[u8], target: u64) -> Option<Vec<u8>> {
    // Several symbols may share an address, as at the beginning of the array of thunks.
    let register = binary.symbols.names(target).find_map(|name| {
        let name = name.strip_prefix("__x86_indirect_thunk_")?;
        REGISTERS.iter().position(|register| *register == name)
    })? as u8;
    let state = State::of(bytes);
    let mut other = Vec::with_capacity(bytes.len());
    if state == State::Jcc {
        let condition = bytes.get(1)? & 0xf;
        other.extend([0x70 | (condition ^ 1), bytes.len() as u8 - 2]);
    }
    if register >= 8 {
        other.push(0x41);
    }
    let operation = if state == State::Call { 2 } else { 4 };
    other.extend([0xff, 0xc0 | operation << 3 | register & 7]);
    let length = other.len();
    if length > bytes.len() {
        return None;
    }
    if state != State::Call && length < bytes.len() {
        other.push(INT3);
    }
    other.resize(bytes.len(), 0x90);
    nops::optimise(&mut other, Style::Several);
    Some(other)
}

/// `apply_returns()` without the feature: a return, and INT3s.
pub fn returns(bytes: &[u8]) -> Option<Vec<u8>> {
    (State::of(bytes) == State::Jmp).then(|| {
        let mut other = vec![INT3; bytes.len()];
        other[0] = 0xc3;
        other
    })
}

/// Length in bytes of the code before each function that counts calls: that of its template.
pub fn counting(binary: &Binary) -> Option<u64> {
    let named = |name| binary.symbols.address(name);
    named("skl_call_thunk_tail")?.checked_sub(named("skl_call_thunk_template")?)
}

/// `patch_call()`: a counted call. `counting` is the length of the code that counts it.
pub fn counted(counting: Option<u64>, code: u64, bytes: &[u8], target: u64) -> Option<Vec<u8>> {
    (State::of(bytes) == State::Call && bytes.len() == 5)
        .then(|| branch(&[0xe8], code, target.wrapping_sub(counting?)))
        .flatten()
}
