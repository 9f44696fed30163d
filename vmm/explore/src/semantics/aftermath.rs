//! What a CPU does with bytes that no instruction was meant to be. It is executed for the report only.

use crossmod_abi::vector;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::decode;

use super::{Model, State};
use crate::engine::Executed;
use crate::error::{EngineError, Result};

impl Model<'_> {
    /// What the CPU makes of a fetch that ended an execution. It is executed for the report only.
    pub fn aftermath(&mut self, state: &State, slot: usize, view: u8) -> Result<String> {
        let cpu = self.cpu_of(state, slot).clone();
        let site = self.seen(state, slot, view)?;
        let shared = self.shared_state_of(state).shared;
        let rip = cpu.regs.rip;
        let window = self.window(rip, &site);
        let halts = window
            .and_then(|window| decode::decode(window.bytes(), rip))
            .is_some_and(|instruction| decode::is_halt(&instruction));
        Ok(match self.engine.execute_aside(&cpu, Stimulus::Instruction, &site, &shared) {
            Ok(Executed { landing: Landing::Handler(fault), .. }) => {
                format!("the CPU raises {}", fault_name(fault))
            }
            // A single step goes over it on some KVMs and ends in an exit on others; a CPU does neither.
            Ok(_) | Err(EngineError::UnexpectedExit(_)) if halts => {
                "the CPU halts until an interrupt comes".into()
            }
            Ok(Executed { cpu: after, .. }) => {
                format!("the CPU executes it and goes on at {:#x}", after.regs.rip)
            }
            Err(error) => format!("executing it ends in: {error}"),
        })
    }
}

/// Name of an exception vector.
pub fn fault_name(number: u8) -> &'static str {
    match number {
        vector::DE => "#DE",
        vector::BP => "#BP",
        vector::DB => "#DB",
        vector::UD => "#UD",
        vector::GP => "#GP",
        vector::PF => "#PF",
        vector::DF => "#DF",
        _ => "an interrupt",
    }
}
