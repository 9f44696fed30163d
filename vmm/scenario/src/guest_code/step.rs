//! From the steps of a program to code.

use crossmod_abi::{private, shared, va};
use crossmod_model::plan::{self, Op, OpKind, Ring};
use iced_x86::code_asm::*;

use super::code::{Code, Value};
use super::condition::property;
use super::emit::{Coded, Emitter, Mark};
use crate::error::{Place, ScenarioError, suggest};
use crate::library::Use;
use crate::operation::{Operation, Performer};
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::stores::stored_bytes;
use crate::syntax::{self, Operand, SerialiseBy, Store, Switch, Values};
use crate::value;

/// The label after the last step.
const END: &str = "end";

/// True for `interrupts = "off"`.
fn switches_off(item: &Item) -> bool {
    item.step.interrupts.as_ref().is_some_and(|switch| switch.value == Switch::Off)
}

/// What to say of such a step where interrupts are off.
pub(crate) fn on_again(place: &Place) -> ScenarioError {
    place.error(
        "this step would switch interrupts on, which are off here",
        "loads all flags",
        "leave interrupts on, or use `serialise = {}` and no `flags`",
    )
}

/// What a step moves. The order of several would be that of the names.
fn one_value(values: &Spanned<Values>) -> Result<(&str, &Spanned<Operand>), ScenarioError> {
    let help = "give each a step of its own: their order matters";
    value::only(values, &[], "one step moves one value", help)
}

impl Code<'_> {
    /// All steps.
    pub fn program(&mut self, items: &[Item]) -> Result<(), ScenarioError> {
        self.labels.clear();
        for item in items {
            self.labels.insert(item.label.clone(), self.emitter.a.create_label());
        }
        if items.iter().any(switches_off)
            && matches!(self.what, Use::Role(_))
            && let Some(item) = items.iter().find(|item| item.switches_on())
        {
            return Err(on_again(&item.step.place));
        }
        let mut end = self.emitter.a.create_label();
        self.labels.entry(END.to_owned()).or_insert(end);
        for item in items {
            self.step(item).map_err(|error| error.or_at(&item.step.place))?;
        }
        Ok(self.emitter.here(&mut end)?)
    }

    /// The place of a label.
    pub(super) fn label(&self, name: &str, place: &Place) -> Result<CodeLabel, ScenarioError> {
        self.labels.get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = self.labels.keys().map(String::as_str).collect();
            let help = suggest(name, &known, "give the step that is meant a `label`");
            place.error(format!("this program has no step `{name}`"), "unknown step", help)
        })
    }

    /// A pass through a part.
    pub fn pass_site(&mut self, part: usize, step: &str) -> Coded {
        let register = [r12, r13, r14][part.min(2)];
        self.emitter.pass(&format!("{}.{step}", self.name), register)
    }

    fn step(&mut self, item: &Item) -> Result<(), ScenarioError> {
        if let Some(label) = self.labels.get_mut(&item.label) {
            self.emitter.here(label)?;
        }
        self.emitter.mark(Mark::Label(format!("{}.{}", self.name, item.label)))?;
        let part = item.part(self.context.site)?;
        let operation = item.step.operation()?;
        self.allowed(operation, item)?;
        match operation {
            Operation::Pass(_) => self.pass_site(part, &item.label)?,
            Operation::Trap(_) => self.emitter.a.int3()?,
            Operation::Pause(_) => self.emitter.a.nop()?,
            Operation::Fence(_) => self.emitter.a.mfence()?,
            Operation::Serialise(how) => self.emitter.serialise(self.what, how.by == SerialiseBy::Iret)?,
            Operation::Interrupts(switch) => self.interrupts(switch.value)?,
            Operation::Acknowledge(_) => self.emitter.a.mov(dword_ptr(va::PRIVATE + private::ACK), 1)?,
            Operation::Goto(name) => {
                let label = self.label(name, &name.place)?;
                self.emitter.a.jmp(label)?;
            }
            Operation::Fail(name) => self.fail(property(name, &name.place)?, None, &item.label)?,
            Operation::If(values) => self.branch(values, true)?,
            Operation::Unless(values) => self.branch(values, false)?,
            Operation::Check(values) => self.check(item, values)?,
            Operation::Wait(values) => self.wait(values)?,
            Operation::Load(values) => {
                let (name, operand) = one_value(values)?;
                self.load(name, operand)?;
            }
            Operation::Set(values) => {
                let (name, operand) = one_value(values)?;
                let word = self.word(name, &operand.place, true)?;
                let value = self.value(operand)?;
                self.set(word, value)?;
            }
            Operation::Add(values) => self.add(values)?,
            Operation::Flags(values) => self.flags(values)?,
            Operation::Take(name) => {
                let word = self.word(name, &name.place, true)?;
                match self.context.library.adds_to(name) {
                    true => self.emitter.take_counted(word)?,
                    false => self.emitter.take(word)?,
                }
            }
            Operation::Drop(name) => {
                let word = self.word(name, &name.place, true)?;
                self.emitter.a.mov(dword_ptr(word), 0)?;
            }
            Operation::Arm(_) => self.armed(true)?,
            Operation::Disarm(_) => self.armed(false)?,
            Operation::Store(store) => self.stores(item, part, store)?,
            Operation::Broadcast(broadcast) => {
                let (function, mask) = self.context.broadcast(broadcast)?;
                let overtakes = broadcast.send == Some(syntax::Send::X2apic);
                self.out.sends.push(plan::Send { function, mask, overtakes });
                self.emitter.device(shared::SEND, self.out.sends.len() as u32)?;
            }
            Operation::Done(_) => self.done(item, part)?,
            Operation::Decline(_) => self.refuse()?,
            Operation::Resume(resume) => self.resume(resume, part)?,
            _ => return Err(self.misplaced(operation, item)),
        }
        Ok(())
    }

    fn interrupts(&mut self, switch: Switch) -> Coded {
        match switch {
            Switch::Off => self.emitter.a.cli(),
            // Not STI: its shadow cannot be stepped into on every host.
            Switch::On => {
                self.emitter.a.push(0x202)?;
                self.emitter.a.popfq()
            }
        }
    }

    fn armed(&mut self, armed: bool) -> Coded {
        let word = va::SHARED + shared::ARMED;
        self.note_write(word);
        self.emitter.a.mov(dword_ptr(word), u32::from(armed))
    }

    fn done(&mut self, item: &Item, part: usize) -> Coded {
        let parts = match &item.step.site {
            Some(_) => 1 << part,
            None => (1u32 << self.context.site.site.parts.len()) - 1,
        };
        self.out.completes = true;
        self.emitter.device(shared::DONE, parts)
    }

    /// Some steps belong to the patcher of the host, some to a handler or to an executor.
    fn allowed(&self, operation: Operation<'_>, item: &Item) -> Result<(), ScenarioError> {
        let here = match operation.performer() {
            Performer::Host => false,
            Performer::HostAndPrograms | Performer::Programs => true,
            Performer::Executors => matches!(self.what, Use::Role(_)),
            Performer::Handler => self.what == Use::Trap,
        };
        if !here {
            return Err(self.misplaced(operation, item));
        }
        if matches!(operation, Operation::Interrupts(_)) && self.what == Use::Role(Ring::User) {
            return Err(item
                .step
                .place
                .error("an executor at ring 3 cannot switch interrupts", "needs ring 0", "remove `ring = 3`")
                .of_kind(crate::ErrorKind::Unsupported));
        }
        Ok(())
    }

    fn misplaced(&self, operation: Operation<'_>, item: &Item) -> ScenarioError {
        let help = match operation {
            Operation::Resume(_) | Operation::Decline(_) => {
                "only the program of [handler] has a trap to handle"
            }
            Operation::Trap(_) => "only an executor runs into foreign traps",
            Operation::Interrupts(_) | Operation::Flags(_) => {
                "only an executor's own program changes its flags"
            }
            _ => {
                "it is a step of the host's patcher, [[step]]; a program broadcasts a function that counts in a \
                 word, and waits for the word"
            }
        };
        let message = format!("`{}` is not a step for `{}`", operation.name(), self.name);
        item.step.place.error(message, "not here", help)
    }

    fn load(&mut self, name: &str, operand: &Spanned<Operand>) -> Result<(), ScenarioError> {
        let place = &operand.place;
        let Some(register) = Emitter::register(self.what, name) else {
            return Err(place.error(format!("`{name}` is not a register"), "load what?", "use a, b or c"));
        };
        if let Operand::Text(text) = &operand.value {
            let site = &self.context.site.site;
            let size = text.size.as_ref().map_or(1, |size| size.value);
            let offset = text.text.value;
            if ![1, 2, 4].contains(&size) || offset < 0 || offset + size > site.len() as i64 {
                return Err(place.error(
                    format!("{size} bytes at {offset} of the site cannot be read"),
                    "outside",
                    format!("read 1, 2 or 4 of its {} bytes", site.len()),
                ));
            }
            let address = crossmod_model::layout::master(site.address) + offset as u64;
            return Ok(match size {
                1 => self.emitter.a.movzx(register, byte_ptr(address)),
                2 => self.emitter.a.movzx(register, word_ptr(address)),
                _ => self.emitter.a.mov(register, dword_ptr(address)),
            }?);
        }
        Ok(match self.value(operand)? {
            Value::Number(number) => self.emitter.a.mov(register, number),
            Value::Register(from) => self.emitter.a.mov(register, from),
            Value::Memory(from) => self.emitter.a.mov(register, dword_ptr(from)),
        }?)
    }

    /// Stores to the site, cut into what one instruction can store; where a fetch sees every store at once, also at
    /// the boundaries that it reads across.
    fn stores(&mut self, item: &Item, part: usize, store: &Spanned<Store>) -> Result<(), ScenarioError> {
        let site = &self.context.site.site;
        for (offset, bytes) in stored_bytes(self.context.site, part, item, store)? {
            let mut start = 0;
            while start < bytes.len() {
                let address = site.address + (offset + start) as u64;
                let atom = u64::from(self.context.fetch.atom);
                let room = if self.context.fetch.stale { 8 } else { (atom - address % atom) as usize };
                let most = (bytes.len() - start).min(room);
                let size = [8, 4, 2, 1].into_iter().find(|size| *size <= most).unwrap_or(1);
                let piece = bytes[start..start + size].to_vec();
                let kind = OpKind::Store { offset: offset + start, bytes: piece.clone() };
                let op = Op { step: format!("{}.{}", self.name, item.label), kind };
                let data = crossmod_model::layout::master(site.address) + (offset + start) as u64;
                self.emitter.store(data, &piece, op)?;
                start += size;
            }
        }
        Ok(())
    }
}
