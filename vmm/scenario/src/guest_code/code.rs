//! The state of the compiler of one program, and what its steps have in common: words and values.

use std::collections::HashMap;

use crossmod_abi::{shared, va};
use crossmod_model::plan;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::emit::{Coded, Emitter, own_word, shared_word};
use crate::context::Context;
use crate::error::{Place, ScenarioError};
use crate::library::Use;
use crate::spanned::Spanned;
use crate::symbols::Home;
use crate::syntax::Operand;

/// Programs that are being compiled, and which one is now.
pub(super) struct Code<'c> {
    pub emitter: Emitter,
    pub out: plan::Programs,
    pub context: &'c Context<'c>,
    pub name: String,
    pub what: Use,
    /// The steps of the program.
    pub labels: HashMap<String, CodeLabel>,
}

/// What a condition compares, at run time.
pub(super) enum Value {
    Memory(u64),
    Register(AsmRegister32),
    Number(u32),
}

impl<'c> Code<'c> {
    pub(super) fn new(context: &'c Context<'c>) -> Result<Code<'c>, IcedError> {
        let (emitter, out) = (Emitter::new()?, plan::Programs::default());
        Ok(Code { emitter, out, context, name: String::new(), what: Use::Trap, labels: HashMap::new() })
    }

    pub(super) fn note_write(&mut self, address: u64) {
        if let Some(offset) = address.checked_sub(va::SHARED).filter(|offset| *offset < shared::STATE_END) {
            self.out.writes |= 1 << (offset / 4);
        }
    }

    pub(super) fn word(&mut self, name: &str, place: &Place, written: bool) -> Result<u64, ScenarioError> {
        Ok(match self.context.names.word(name, place)? {
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

    pub(super) fn value(&mut self, operand: &Spanned<Operand>) -> Result<Value, ScenarioError> {
        let place = &operand.place;
        match &operand.value {
            Operand::Number(number) => match i32::try_from(*number) {
                Ok(number) => Ok(Value::Number(number as u32)),
                Err(_) => {
                    Err(place.error("the number does not fit a word", "too large", "choose a smaller one"))
                }
            },
            Operand::Name(name) => {
                if let Some(register) = Emitter::register(self.what, name) {
                    return Ok(Value::Register(register));
                }
                if let Some(part) = self.context.site.find(name) {
                    return Ok(Value::Number(self.context.site.begin(part) as u32));
                }
                if name == "all" {
                    return Ok(Value::Number(self.context.executors as u32));
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
