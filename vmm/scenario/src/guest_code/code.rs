//! The state of the compiler of one program, and what its steps have in common: words and values.

use crossmod_abi::{shared, va};
use crossmod_model::plan;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::emit::{Coded, Emitter, Frame, own_word, shared_word};
use super::{Library, Target, Use};
use crate::error::{Place, ScenarioError};
use crate::symbols::Home;
use crate::syntax::Operand;

/// A program that is being compiled.
pub(super) struct Code<'c, 't> {
    pub emitter: &'c mut Emitter,
    pub out: &'c mut plan::Programs,
    pub target: &'c Target<'t>,
    pub library: &'c Library,
    pub name: &'c str,
    pub frame: Frame,
    pub what: Use,
}

/// What a condition compares, at run time.
pub(super) enum Value {
    Memory(u64),
    Register(AsmRegister32),
    Number(u32),
}

/// What to say of an instruction that the assembler refuses.
pub(super) fn unassembled(place: &Place) -> impl Fn(IcedError) -> ScenarioError + Copy + '_ {
    |error| place.error(format!("{error}"), "not assembled", "simplify it")
}

impl Code<'_, '_> {
    pub(super) fn note_write(&mut self, address: u64) {
        if let Some(offset) = address.checked_sub(va::SHARED).filter(|offset| *offset < shared::STATE_END) {
            self.out.writes |= 1 << (offset / 4);
        }
    }

    pub(super) fn word(&mut self, name: &str, place: &Place, written: bool) -> Result<u64, ScenarioError> {
        Ok(match self.target.names.word(name, place)? {
            Home::Shared(word) => {
                let address = shared_word(word);
                if written {
                    self.note_write(address);
                }
                address
            }
            Home::Each(number) => own_word(number),
        })
    }

    pub(super) fn value(&mut self, operand: &Operand, place: &Place) -> Result<Value, ScenarioError> {
        match operand {
            Operand::Number(number) => match i32::try_from(*number) {
                Ok(number) => Ok(Value::Number(number as u32)),
                Err(_) => {
                    Err(place.error("the number does not fit a word", "too large", "choose a smaller one"))
                }
            },
            Operand::Name(name) => {
                if let Some(register) = Emitter::register(self.frame, name) {
                    return Ok(Value::Register(register));
                }
                let parts = &self.target.site.site.parts;
                if let Some(part) = parts.iter().find(|part| !part.name.is_empty() && part.name == *name) {
                    return Ok(Value::Number((self.target.site.site.address + part.offset as u64) as u32));
                }
                if name == "site" {
                    return Ok(Value::Number(self.target.site.site.address as u32));
                }
                if name == "all" {
                    return Ok(Value::Number(self.target.executors as u32));
                }
                self.word(name, place, false).map(Value::Memory)
            }
            _ => Err(place.error(
                "this cannot be compared or stored",
                "not a value",
                "give a number or a name",
            )),
        }
    }

    pub(super) fn set(&mut self, word: u64, value: Value) -> Coded {
        match value {
            Value::Number(number) => self.emitter.a.mov(dword_ptr(word), number),
            Value::Register(register) => self.emitter.a.mov(dword_ptr(word), register),
            Value::Memory(from) => {
                self.emitter.a.mov(eax, dword_ptr(from))?;
                self.emitter.a.mov(dword_ptr(word), eax)
            }
        }
    }
}
