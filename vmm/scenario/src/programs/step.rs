//! From the steps of a program to code.

use std::collections::HashMap;

use crossmod_abi::{private, shared, va};
use crossmod_model::plan::{self, Op, OpKind, Ring};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::condition::property;
use super::emit::{Coded, Emitter, Frame, Mark, own_word, shared_word};
use super::{Library, Target, Use};
use crate::error::{Place, ScenarioError};
use crate::forms::{Mask, Operand};
use crate::names::Home;
use crate::program::stored_bytes;
use crate::steps::{Item, Kind};
use crate::syntax::{self, SerialiseBy, Switch, Values};
use crate::value;

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

/// What goes on behind the last step.
const END: &str = "end";

/// What to say of an instruction that the assembler refuses.
pub(super) fn unassembled(place: &Place) -> impl Fn(IcedError) -> ScenarioError + Copy + '_ {
    |error| place.error(format!("{error}"), "not assembled", "simplify it")
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

/// What a condition compares, at run time.
pub(super) enum Value {
    Memory(u64),
    Register(AsmRegister32),
    Number(u32),
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
        let kind = item.kind()?;
        self.allowed(kind, item)?;
        let goto = |name: &str, place: &Place| {
            labels.get(name).copied().ok_or_else(|| {
                let known: Vec<&str> = labels.keys().copied().collect();
                let help = match crate::error::nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "give the step that is meant a `label`".into(),
                };
                place.error(format!("this program has no step `{name}`"), "unknown step", help)
            })
        };
        match kind {
            Kind::Pass => self.pass_site(part, &item.label).map_err(failed),
            Kind::Trap => self.emitter.a.int3().map_err(failed),
            Kind::Pause => self.emitter.a.nop().map_err(failed),
            Kind::Serialise => {
                let by = step.serialise.as_ref().map(|how| how.get_ref().by).unwrap_or_default();
                let interrupts = matches!(self.frame, Frame::Executor(_));
                self.emitter.serialise(self.frame, by == SerialiseBy::Iret, interrupts).map_err(failed)
            }
            Kind::Interrupts => {
                (|| {
                    if switches_off(item) {
                        return self.emitter.a.cli();
                    }
                    // Not STI: its shadow cannot be stepped into on every host.
                    self.emitter.a.push(0x202)?;
                    self.emitter.a.popfq()
                })()
                .map_err(failed)
            }
            Kind::Acknowledge => self.emitter.a.mov(dword_ptr(va::PRIVATE + private::ACK), 1).map_err(failed),
            Kind::Goto => match &step.goto {
                Some(name) => {
                    let label = goto(name.get_ref(), &at(name.span()))?;
                    self.emitter.a.jmp(label).map_err(failed)
                }
                None => Ok(()),
            },
            Kind::Fail => match &step.fail {
                Some(name) => {
                    let property = property(name.get_ref(), &at(name.span()))?;
                    self.fail(property, item.label.clone()).map_err(failed)
                }
                None => Ok(()),
            },
            Kind::If | Kind::Unless | Kind::Check | Kind::Wait => self.conditional(item, kind, &goto),
            Kind::Load => self.one_value(item, step.load.as_ref(), |code, name, operand, place| {
                code.load(name, operand, place)
            }),
            Kind::Set => self.one_value(item, step.set.as_ref(), |code, name, operand, place| {
                let word = code.word(name, place, true)?;
                let value = code.value(operand, place)?;
                code.set(word, value).map_err(unassembled(place))
            }),
            Kind::Add => self.add(item, &goto),
            Kind::Flags => self.flags(item, step.flags.as_ref()),
            Kind::Take | Kind::Drop => {
                let Some(name) = step.take.as_ref().or(step.drop.as_ref()) else { return Ok(()) };
                let word = self.word(name.get_ref(), &at(name.span()), true)?;
                if kind == Kind::Take {
                    self.emitter.take(word).map_err(failed)
                } else {
                    self.emitter.a.mov(dword_ptr(word), 0).map_err(failed)
                }
            }
            Kind::Arm | Kind::Disarm => {
                let armed = va::SHARED + shared::ARMED;
                self.note_write(armed);
                self.emitter.a.mov(dword_ptr(armed), u32::from(kind == Kind::Arm)).map_err(failed)
            }
            Kind::Store => self.stores(item, part),
            Kind::Broadcast => {
                let Some(broadcast) = &step.broadcast else { return Ok(()) };
                let table = broadcast.get_ref();
                let everyone = Mask::All;
                let to = table.to.as_ref().map_or(&everyone, |to| to.get_ref());
                let mask = value::mask(&item.source, &at(broadcast.span()), to, self.target.executors)?;
                let function = self.library.function(&table.run, &item.source)?;
                self.out.sends.push((function, mask));
                self.emitter.device(shared::SEND, self.out.sends.len() as u32).map_err(failed)
            }
            Kind::Done => {
                let parts = match &step.site {
                    Some(_) => 1 << part,
                    None => (1u32 << self.target.site.site.parts.len()) - 1,
                };
                self.out.completes = true;
                self.emitter.device(shared::DONE, parts).map_err(failed)
            }
            Kind::Decline => self.refuse().map_err(failed),
            Kind::Resume => match &step.resume {
                Some(resume) => self.resume(resume.get_ref(), part, &at(resume.span())),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Some steps belong to the patcher of the host, some to a handler.
    fn allowed(&self, kind: Kind, item: &Item) -> Result<(), ScenarioError> {
        use Kind as K;
        let refuse = |help: &str| {
            let message = format!("`{}` is no step for `{}`", kind.name(), self.name);
            Err(item.place.error(message, "not here", help))
        };
        match kind {
            K::Sync | K::AssumeSynchronised | K::Quiesce | K::Delay | K::Free | K::Abandon => refuse(
                "it is a step of the host's patcher, [[step]]; a program broadcasts a function that counts in a word, \
                 and waits for the word",
            ),
            K::Resume | K::Decline if self.what != Use::Trap => {
                refuse("only the program of [handler] has a trap to handle")
            }
            K::Interrupts | K::Flags if !matches!(self.frame, Frame::Executor(_)) => {
                refuse("only an executor's own program changes its flags")
            }
            K::Interrupts if self.frame == Frame::Executor(Ring::User) => Err(item
                .place
                .error("an executor at ring 3 cannot switch interrupts", "needs ring 0", "remove `ring = 3`")
                .of_kind(crate::ErrorKind::Unsupported)),
            K::Trap if !matches!(self.frame, Frame::Executor(_)) => {
                refuse("only an executor runs into foreign traps")
            }
            _ => Ok(()),
        }
    }

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

    pub(super) fn load(&mut self, name: &str, operand: &Operand, place: &Place) -> Result<(), ScenarioError> {
        let failed = unassembled(place);
        let Some(register) = Emitter::register(self.frame, name) else {
            return Err(place.error(format!("`{name}` is no register"), "load what?", "use a, b or c"));
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
        values: Option<&toml::Spanned<Values>>,
        one: impl FnOnce(&mut Self, &str, &Operand, &Place) -> Result<(), ScenarioError>,
    ) -> Result<(), ScenarioError> {
        let Some(values) = values else { return Ok(()) };
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
    fn stores(&mut self, item: &Item, part: usize) -> Result<(), ScenarioError> {
        let Some(store) = &item.step.store else { return Ok(()) };
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
