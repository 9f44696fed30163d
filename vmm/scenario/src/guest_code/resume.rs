//! The end of the program of a #BP handler: where the interrupted context continues, or that the trap is not claimed.

use crossmod_abi::{shared, va};
use crossmod_model::plan::Action;
use iced_x86::code_asm::*;
use iced_x86::{ConditionCode, FlowControl, Instruction, Mnemonic};

use super::code::Code;
use super::emit::{Coded, Mark};
use crate::error::ScenarioError;
use crate::site::emulate;
use crate::spanned::Spanned;
use crate::syntax::Resume;

impl Code<'_> {
    /// The handler that claims traps of the only site while it is armed, and emulates one version.
    pub(super) fn emulate_claimed(&mut self, new: bool) -> Coded {
        let mut claimed = self.emitter.a.create_label();
        let mut refuse = self.emitter.a.create_label();
        self.emitter.a.cmp(dword_ptr(va::SHARED + shared::ARMED), 0)?;
        self.emitter.a.je(refuse)?;
        self.trapped()?;
        let site = self.context.site.site.address as u32;
        self.emitter.a.cmp(eax, site)?;
        self.emitter.a.je(claimed)?;
        self.emitter.here(&mut refuse)?;
        self.refuse()?;
        self.emitter.here(&mut claimed)?;
        self.emulate(0, new)
    }

    /// Passes the trap to its owner, which continues after it.
    pub(super) fn refuse(&mut self) -> Coded {
        self.emitter.mark(Mark::Refusal)?;
        self.emitter.leave()
    }

    pub(super) fn resume(&mut self, resume: &Spanned<Resume>, part: usize) -> Result<(), ScenarioError> {
        let place = &resume.place;
        let site = self.context.site;
        let address = match resume.value {
            Resume::New | Resume::Old => {
                let new = matches!(resume.value, Resume::New);
                if !can_emulate(site.version(part, new)) {
                    return Err(place.error(
                        "that version is neither a NOP nor one jump, call or return, and cannot be emulated",
                        "not possible",
                        "resume at \"next\", \"retry\" or { at = ... }, or simplify that version",
                    ));
                }
                return Ok(self.emulate(part, new)?);
            }
            Resume::Next => site.end(part),
            Resume::Retry => site.begin(part),
            Resume::At(offset) => site.begin(part).wrapping_add_signed(offset),
        };
        self.emitter.resume_at(address)?;
        Ok(self.emitter.leave()?)
    }

    /// Does what a version of a part would do, and ends the handler.
    pub(super) fn emulate(&mut self, part: usize, new: bool) -> Coded {
        let site = self.context.site;
        let version = site.version(part, new);
        let next = site.end(part);
        let first = effective(&version.instructions);
        match (emulate(version, next), first) {
            (_, Some(first)) if first.flow_control() == FlowControl::Return => {
                self.emitter.resume_by_return()?;
                self.emitter.leave()
            }
            (Some(Action::Call { target, return_to }), _) => self.emitter.resume_by_call(target, return_to),
            (Some(Action::Resume(to)), _) => {
                self.emitter.resume_at(to)?;
                self.emitter.leave()
            }
            (None, Some(first)) => {
                let mut taken = self.emitter.a.create_label();
                self.emitter.interrupted_flags()?;
                jump_if(&mut self.emitter.a, first.condition_code(), taken)?;
                self.emitter.resume_at(next)?;
                self.emitter.leave()?;
                self.emitter.here(&mut taken)?;
                self.emitter.resume_at(first.near_branch_target())?;
                self.emitter.leave()
            }
            (None, None) => Ok(()),
        }
    }
}

/// The first instruction that is not a NOP.
fn effective(instructions: &[Instruction]) -> Option<Instruction> {
    let idle = [Mnemonic::Nop, Mnemonic::Endbr64];
    instructions.iter().find(|instruction| !idle.contains(&instruction.mnemonic())).copied()
}

/// True for versions that a program can emulate.
pub(crate) fn can_emulate(version: &crate::site::Version) -> bool {
    emulate(version, 0).is_some()
        || effective(&version.instructions).is_some_and(|first| {
            first.is_jcc_short_or_near()
                || (first.flow_control() == FlowControl::Return && first.op_count() == 0)
        })
}

fn jump_if(a: &mut CodeAssembler, condition: ConditionCode, to: CodeLabel) -> Coded {
    match condition {
        ConditionCode::o => a.jo(to),
        ConditionCode::no => a.jno(to),
        ConditionCode::b => a.jb(to),
        ConditionCode::ae => a.jae(to),
        ConditionCode::e => a.je(to),
        ConditionCode::ne => a.jne(to),
        ConditionCode::be => a.jbe(to),
        ConditionCode::a => a.ja(to),
        ConditionCode::s => a.js(to),
        ConditionCode::ns => a.jns(to),
        ConditionCode::p => a.jp(to),
        ConditionCode::np => a.jnp(to),
        ConditionCode::l => a.jl(to),
        ConditionCode::ge => a.jge(to),
        ConditionCode::le => a.jle(to),
        ConditionCode::g => a.jg(to),
        ConditionCode::None => Ok(()),
    }
}
