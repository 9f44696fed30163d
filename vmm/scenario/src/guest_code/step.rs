//! From the steps of a program to code.

use std::collections::HashMap;

use crossmod_abi::{private, shared, va};
use crossmod_model::plan::{Op, OpKind, Ring};
use iced_x86::code_asm::*;

use super::Use;
use super::code::{Code, Value, unassembled};
use super::condition::{Condition, property};
use super::emit::{Coded, Emitter, Frame, Mark};
use crate::error::{Place, ScenarioError, suggest};
use crate::operation::{Operation, Performer};
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::stores::stored_bytes;
use crate::syntax::{self, Mask, Operand, SerialiseBy, Switch, Values};
use crate::value;

/// The label after the last step.
const END: &str = "end";

/// The place of a label.
fn label(labels: &HashMap<&str, CodeLabel>, name: &str, place: &Place) -> Result<CodeLabel, ScenarioError> {
    labels.get(name).copied().ok_or_else(|| {
        let known: Vec<&str> = labels.keys().copied().collect();
        let help = suggest(name, known.iter().copied(), "give the step that is meant a `label`");
        place.error(format!("this program has no step `{name}`"), "unknown step", help)
    })
}

/// True for `interrupts = "off"`.
fn switches_off(item: &Item) -> bool {
    item.step.interrupts.as_ref().is_some_and(|switch| *switch.get_ref() == Switch::Off)
}

/// True for steps that load RFLAGS whole, with interrupts on.
pub(super) fn switches_on(item: &Item) -> bool {
    let iret = |how: &syntax::Serialise| how.by == SerialiseBy::Iret;
    item.step.flags.is_some() || item.step.serialise.as_ref().is_some_and(|how| iret(how.get_ref()))
}

/// What to say of such a step where interrupts are off.
pub(crate) fn on_again(place: &Place) -> ScenarioError {
    place.error(
        "this step would switch interrupts on, which are off here",
        "loads all flags",
        "leave interrupts on, or use `serialise = {}` and no `flags`",
    )
}

impl Code<'_, '_> {
    /// All steps.
    pub fn program(&mut self, items: &[Item]) -> Result<(), ScenarioError> {
        let mut labels: HashMap<&str, CodeLabel> = HashMap::new();
        for item in items {
            labels.insert(&item.label, self.emitter.a.create_label());
        }
        if items.iter().any(switches_off)
            && matches!(self.frame, Frame::Executor(_))
            && let Some(item) = items.iter().find(|item| switches_on(item))
        {
            return Err(on_again(&item.place));
        }
        let mut end = self.emitter.a.create_label();
        labels.entry(END).or_insert(end);
        for item in items {
            let failed = unassembled(&item.place);
            if let Some(label) = labels.get_mut(item.label.as_str()) {
                self.emitter.here(label).map_err(failed)?;
            }
            let name = format!("{}.{}", self.name, item.label);
            self.emitter.mark(Mark::Label(name)).map_err(failed)?;
            self.step(item, &labels)?;
        }
        let last = items.last().map(|item| unassembled(&item.place));
        self.emitter.here(&mut end).or_else(|error| last.map_or(Ok(()), |failed| Err(failed(error))))
    }

    /// A pass through a part.
    pub fn pass_site(&mut self, part: usize, step: &str) -> Coded {
        let register = [r12, r13, r14][part.min(2)];
        self.emitter.pass(&format!("{}.{step}", self.name), register)
    }

    fn step(&mut self, item: &Item, labels: &HashMap<&str, CodeLabel>) -> Result<(), ScenarioError> {
        let step = &item.step;
        let at = |span| item.source.at(span);
        let failed = unassembled(&item.place);
        let part = match &step.site {
            Some(name) => self.target.site.part(name.get_ref(), &at(name.span()))?,
            None => 0,
        };
        let operation = item.operation()?;
        self.allowed(operation, item)?;
        let goto = |name: &str, place: &Place| label(labels, name, place);
        match operation {
            Operation::Pass(_) => self.pass_site(part, &item.label).map_err(failed),
            Operation::Trap(_) => self.emitter.a.int3().map_err(failed),
            Operation::Pause(_) => self.emitter.a.nop().map_err(failed),
            Operation::Serialise(how) => {
                let by_iret = how.get_ref().by == SerialiseBy::Iret;
                let interrupts = matches!(self.frame, Frame::Executor(_));
                self.emitter.serialise(self.frame, by_iret, interrupts).map_err(failed)
            }
            Operation::Interrupts(switch) => self.interrupts(*switch.get_ref()).map_err(failed),
            Operation::Acknowledge(_) => {
                self.emitter.a.mov(dword_ptr(va::PRIVATE + private::ACK), 1).map_err(failed)
            }
            Operation::Goto(name) => {
                let label = goto(name.get_ref(), &at(name.span()))?;
                self.emitter.a.jmp(label).map_err(failed)
            }
            Operation::Fail(name) => {
                let property = property(name.get_ref(), &at(name.span()))?;
                self.fail(property, item.label.clone()).map_err(failed)
            }
            Operation::If(values) => self.conditional(item, Condition::If, values, &goto),
            Operation::Unless(values) => self.conditional(item, Condition::Unless, values, &goto),
            Operation::Check(values) => self.conditional(item, Condition::Check, values, &goto),
            Operation::Wait(values) => self.conditional(item, Condition::Wait, values, &goto),
            Operation::Load(values) => {
                self.one_value(item, values, |code, name, operand, place| code.load(name, operand, place))
            }
            Operation::Set(values) => self.one_value(item, values, |code, name, operand, place| {
                let word = code.word(name, place, true)?;
                let value = code.value(operand, place)?;
                code.set(word, value).map_err(unassembled(place))
            }),
            Operation::Add(values) => self.add(item, values, &goto),
            Operation::Flags(values) => self.flags(item, values),
            Operation::Take(name) => {
                let word = self.word(name.get_ref(), &at(name.span()), true)?;
                self.emitter.take(word).map_err(failed)
            }
            Operation::Drop(name) => {
                let word = self.word(name.get_ref(), &at(name.span()), true)?;
                self.emitter.a.mov(dword_ptr(word), 0).map_err(failed)
            }
            Operation::Arm(_) => self.armed(true).map_err(failed),
            Operation::Disarm(_) => self.armed(false).map_err(failed),
            Operation::Store(store) => self.stores(item, part, store),
            Operation::Broadcast(broadcast) => self.broadcast(item, broadcast),
            Operation::Done(_) => self.done(item, part).map_err(failed),
            Operation::Decline(_) => self.refuse().map_err(failed),
            Operation::Resume(resume) => self.resume(resume.get_ref(), part, &at(resume.span())),
            _ => Err(self.host_only(operation, item)),
        }
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

    fn broadcast(
        &mut self,
        item: &Item,
        broadcast: &Spanned<syntax::Broadcast>,
    ) -> Result<(), ScenarioError> {
        let table = broadcast.get_ref();
        let to = table.to.as_ref().map_or(&Mask::All, |to| to.get_ref());
        let place = item.source.at(broadcast.span());
        let mask = value::mask(&item.source, &place, to, self.target.executors)?;
        let function = self.library.function(&table.run, &item.source)?;
        self.out.sends.push((function, mask));
        self.emitter.device(shared::SEND, self.out.sends.len() as u32).map_err(unassembled(&item.place))
    }

    fn done(&mut self, item: &Item, part: usize) -> Coded {
        let parts = match &item.step.site {
            Some(_) => 1 << part,
            None => (1u32 << self.target.site.site.parts.len()) - 1,
        };
        self.out.completes = true;
        self.emitter.device(shared::DONE, parts)
    }

    /// What to say of a step that no program performs.
    fn host_only(&self, operation: Operation<'_>, item: &Item) -> ScenarioError {
        self.misplaced(
            operation,
            item,
            "it is a step of the host's patcher, [[step]]; a program broadcasts a function that counts in a word, \
             and waits for the word",
        )
    }

    fn misplaced(&self, operation: Operation<'_>, item: &Item, help: &str) -> ScenarioError {
        let message = format!("`{}` is not a step for `{}`", operation.name(), self.name);
        item.place.error(message, "not here", help)
    }

    /// Some steps belong to the patcher of the host, some to a handler or to an executor.
    fn allowed(&self, operation: Operation<'_>, item: &Item) -> Result<(), ScenarioError> {
        let executor = matches!(self.frame, Frame::Executor(_));
        let here = match operation.performer() {
            Performer::Host => false,
            Performer::HostAndPrograms | Performer::Programs => true,
            Performer::Executors => executor,
            Performer::Handler => self.what == Use::Trap,
        };
        if !here {
            return Err(match operation {
                Operation::Resume(_) | Operation::Decline(_) => {
                    self.misplaced(operation, item, "only the program of [handler] has a trap to handle")
                }
                Operation::Trap(_) => {
                    self.misplaced(operation, item, "only an executor runs into foreign traps")
                }
                Operation::Interrupts(_) | Operation::Flags(_) => {
                    self.misplaced(operation, item, "only an executor's own program changes its flags")
                }
                _ => self.host_only(operation, item),
            });
        }
        if matches!(operation, Operation::Interrupts(_)) && self.frame == Frame::Executor(Ring::User) {
            return Err(item
                .place
                .error("an executor at ring 3 cannot switch interrupts", "needs ring 0", "remove `ring = 3`")
                .of_kind(crate::ErrorKind::Unsupported));
        }
        Ok(())
    }

    pub(super) fn load(&mut self, name: &str, operand: &Operand, place: &Place) -> Result<(), ScenarioError> {
        let failed = unassembled(place);
        let Some(register) = Emitter::register(self.frame, name) else {
            return Err(place.error(format!("`{name}` is not a register"), "load what?", "use a, b or c"));
        };
        if let Operand::Text(text) = operand {
            let site = &self.target.site.site;
            let size = text.size.as_ref().map_or(1, |size| *size.get_ref());
            let offset = *text.text.get_ref();
            if ![1, 2, 4].contains(&size) || offset < 0 || offset + size > site.len() as i64 {
                return Err(place.error(
                    format!("{size} bytes at {offset} of the site cannot be read"),
                    "outside",
                    format!("read 1, 2 or 4 of its {} bytes", site.len()),
                ));
            }
            let address = crossmod_model::layout::master(site.address) + offset as u64;
            return match size {
                1 => self.emitter.a.movzx(register, byte_ptr(address)),
                2 => self.emitter.a.movzx(register, word_ptr(address)),
                _ => self.emitter.a.mov(register, dword_ptr(address)),
            }
            .map_err(failed);
        }
        match self.value(operand, place)? {
            Value::Number(number) => self.emitter.a.mov(register, number),
            Value::Register(from) => self.emitter.a.mov(register, from),
            Value::Memory(from) => self.emitter.a.mov(register, dword_ptr(from)),
        }
        .map_err(failed)
    }

    fn one_value(
        &mut self,
        item: &Item,
        values: &Spanned<Values>,
        one: impl FnOnce(&mut Self, &str, &Operand, &Place) -> Result<(), ScenarioError>,
    ) -> Result<(), ScenarioError> {
        // Their order would be that of the names.
        let (Some((name, operand)), 1) = (values.get_ref().iter().next(), values.get_ref().len()) else {
            return Err(item.source.at(values.span()).error(
                "one step moves one value",
                "none or several",
                "give each a step of its own: their order matters",
            ));
        };
        one(self, name, operand.get_ref(), &item.source.at(operand.span()))
    }

    /// Stores to the site, cut into what one instruction can store; where a fetch sees every store at once, also at
    /// the boundaries that it reads across.
    fn stores(
        &mut self,
        item: &Item,
        part: usize,
        store: &Spanned<syntax::Store>,
    ) -> Result<(), ScenarioError> {
        let place = item.source.at(store.span());
        let failed = unassembled(&item.place);
        let site = &self.target.site.site;
        for (offset, bytes) in stored_bytes(self.target.site, part, item, store.get_ref(), &place)? {
            let mut start = 0;
            while start < bytes.len() {
                let address = site.address + (offset + start) as u64;
                let atom = u64::from(self.target.fetch.atom);
                let room = if self.target.fetch.stale { 8 } else { (atom - address % atom) as usize };
                let most = (bytes.len() - start).min(room);
                let size = [8, 4, 2, 1].into_iter().find(|size| *size <= most).unwrap_or(1);
                let piece = bytes[start..start + size].to_vec();
                let kind = OpKind::Store { offset: offset + start, bytes: piece.clone() };
                let op = Op { step: format!("{}.{}", self.name, item.label), kind };
                let data = crossmod_model::layout::master(site.address) + (offset + start) as u64;
                self.emitter.store(data, &piece, op).map_err(failed)?;
                start += size;
            }
        }
        Ok(())
    }
}
