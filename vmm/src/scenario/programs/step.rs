//! From the steps of a program to code.

use std::collections::HashMap;

use crossmod_abi::{private, shared, va};
use iced_x86::code_asm::*;
use iced_x86::{ConditionCode, FlowControl, IcedError, Instruction, Mnemonic};

use super::emit::{Coded, Emitter, FRAME_FLAGS, FRAME_RIP, Frame, Mark, own_word, shared_word};
use super::{Library, Target, Use};
use crate::plan::{self, Action, Op, OpKind, Ring};
use crate::property::Property;
use crate::scenario::error::{Place, ScenarioError};
use crate::scenario::forms::{Mask, Operand};
use crate::scenario::names::Home;
use crate::scenario::program::stored_bytes;
use crate::scenario::site::emulate;
use crate::scenario::steps::{Item, Kind};
use crate::scenario::syntax::{Resume, SerialiseBy, Switch, Values};
use crate::scenario::value;

/// Status flags by name.
const FLAGS: [(&str, u32); 5] = [("cf", 1), ("pf", 4), ("zf", 0x40), ("sf", 0x80), ("of", 0x800)];

/// A program that is being compiled.
pub(super) struct Code<'c, 't> {
    pub emitter: &'c mut Emitter,
    pub out: &'c mut plan::Programs,
    pub target: &'c Target<'t>,
    pub library: &'c Library,
    pub name: &'c str,
    pub frame: Frame,
    pub what: Use,
    /// Where the program ends, once something goes there.
    pub end: Option<CodeLabel>,
}

/// What a condition compares, at run time.
enum Value {
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
        for item in items {
            let failed =
                |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
            if let Some(label) = labels.get_mut(item.label.as_str()) {
                self.emitter.here(label).map_err(failed)?;
            }
            let name = format!("{}.{}", self.name, item.label);
            self.emitter.mark(Mark::Label(name)).map_err(failed)?;
            self.step(item, &labels)?;
        }
        Ok(())
    }

    /// What steps have gone to as the end of the program stands here.
    pub fn finish(&mut self) -> Coded {
        match self.end.take() {
            Some(mut end) => self.emitter.here(&mut end),
            None => Ok(()),
        }
    }

    /// A pass through a part.
    pub fn pass_site(&mut self, part: usize, step: &str) -> Coded {
        let register = [r12, r13, r14][part.min(2)];
        self.emitter.pass(&format!("{}.{step}", self.name), register)
    }

    /// The handler that claims traps of the only site while it is armed, and emulates one version.
    pub fn emulate_claimed(&mut self, new: bool) -> Coded {
        let mut claimed = self.emitter.a.create_label();
        let mut refuse = self.emitter.a.create_label();
        self.emitter.a.cmp(dword_ptr(va::SHARED + shared::ARMED), 0)?;
        self.emitter.a.je(refuse)?;
        self.trapped()?;
        let site = self.target.site.site.address as u32;
        self.emitter.a.cmp(eax, site)?;
        self.emitter.a.je(claimed)?;
        self.emitter.here(&mut refuse)?;
        self.refuse()?;
        self.emitter.here(&mut claimed)?;
        self.emulate(0, new)
    }

    fn step(&mut self, item: &Item, labels: &HashMap<&str, CodeLabel>) -> Result<(), ScenarioError> {
        let step = &item.step;
        let at = |span| item.source.at(span);
        let failed = |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
        let part = match &step.site {
            Some(name) => self.target.site.part(name.get_ref(), &at(name.span()))?,
            None => 0,
        };
        let kind = item.kind()?;
        self.allowed(kind, item)?;
        let goto = |name: &str, place: &Place| {
            labels.get(name).copied().ok_or_else(|| {
                let known: Vec<&str> = labels.keys().copied().collect();
                let help = match crate::scenario::error::nearest(name, known.iter().copied()) {
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
                let off = step.interrupts.as_ref().is_some_and(|switch| *switch.get_ref() == Switch::Off);
                (|| {
                    if off {
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
                Some(name) if name.get_ref() == "end" => {
                    let end = *self.end.get_or_insert_with(|| self.emitter.a.create_label());
                    self.emitter.a.jmp(end).map_err(failed)
                }
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
            Kind::Load => self.each_value(item, step.load.as_ref(), |code, name, operand, place| {
                code.load(name, operand, place)
            }),
            Kind::Set => self.each_value(item, step.set.as_ref(), |code, name, operand, place| {
                let word = code.word(name, place, true)?;
                let value = code.value(operand, place)?;
                code.set(word, value).map_err(|error| place.error(format!("{error}"), "not assembled", ""))
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
                .of_kind(crate::scenario::ErrorKind::Unsupported)),
            K::Trap if !matches!(self.frame, Frame::Executor(_)) => {
                refuse("only an executor runs into foreign traps")
            }
            _ => Ok(()),
        }
    }

    fn note_write(&mut self, address: u64) {
        if let Some(offset) = address.checked_sub(va::SHARED).filter(|offset| *offset < shared::STATE_END) {
            self.out.writes |= 1 << (offset / 4);
        }
    }

    fn word(&mut self, name: &str, place: &Place, written: bool) -> Result<u64, ScenarioError> {
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

    fn value(&mut self, operand: &Operand, place: &Place) -> Result<Value, ScenarioError> {
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

    fn set(&mut self, word: u64, value: Value) -> Coded {
        match value {
            Value::Number(number) => self.emitter.a.mov(dword_ptr(word), number),
            Value::Register(register) => self.emitter.a.mov(dword_ptr(word), register),
            Value::Memory(from) => {
                self.emitter.a.mov(eax, dword_ptr(from))?;
                self.emitter.a.mov(dword_ptr(word), eax)
            }
        }
    }

    fn load(&mut self, name: &str, operand: &Operand, place: &Place) -> Result<(), ScenarioError> {
        let failed = |error: IcedError| place.error(format!("{error}"), "not assembled", "simplify it");
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
            let address = crate::explore::master(site.address) + offset as u64;
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

    fn each_value(
        &mut self,
        item: &Item,
        values: Option<&toml::Spanned<Values>>,
        mut each: impl FnMut(&mut Self, &str, &Operand, &Place) -> Result<(), ScenarioError>,
    ) -> Result<(), ScenarioError> {
        for (name, operand) in values.iter().flat_map(|values| values.get_ref()) {
            each(self, name, operand.get_ref(), &item.source.at(operand.span()))?;
        }
        Ok(())
    }

    /// Low half of the address of the INT3 that trapped, into EAX.
    fn trapped(&mut self) -> Coded {
        self.emitter.a.mov(rax, qword_ptr(rsp + FRAME_RIP))?;
        self.emitter.a.lea(eax, dword_ptr(rax - 1))
    }

    /// Compares; true if "equal" is the outcome with the zero flag set.
    fn compare(&mut self, name: &str, operand: &Operand, place: &Place) -> Result<bool, ScenarioError> {
        let failed = |error: IcedError| place.error(format!("{error}"), "not assembled", "simplify it");
        let handler = |code: &Self| match code.what {
            Use::Trap => Ok(()),
            _ => Err(place.error(
                format!("`{name}` is known to the program of [handler] only"),
                "not here",
                "compare a word or a register",
            )),
        };
        if let Some((_, bit)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
            handler(self)?;
            self.emitter.a.test(dword_ptr(rsp + FRAME_FLAGS), *bit).map_err(failed)?;
            return match operand {
                Operand::Number(0) => Ok(true),
                Operand::Number(1) => Ok(false),
                _ => Err(place.error("a flag is 0 or 1", "neither", "give 0 or 1")),
            };
        }
        if name == "went" {
            return self.went(operand, place);
        }
        let value = self.value(operand, place)?;
        if name == "ip" || name == "opcode" {
            handler(self)?;
            (|| {
                self.trapped()?;
                if name == "opcode" {
                    // The text as data; what stands elsewhere is equal to nothing.
                    let site = &self.target.site.site;
                    let (mut elsewhere, mut read) =
                        (self.emitter.a.create_label(), self.emitter.a.create_label());
                    self.emitter.a.sub(eax, site.address as u32)?;
                    self.emitter.a.cmp(eax, site.len() as u32)?;
                    self.emitter.a.jae(elsewhere)?;
                    let master = crate::explore::master(site.address) as i32;
                    self.emitter.a.movzx(eax, byte_ptr(rax + master))?;
                    self.emitter.a.jmp(read)?;
                    self.emitter.here(&mut elsewhere)?;
                    self.emitter.a.mov(eax, -1)?;
                    self.emitter.here(&mut read)?;
                }
                match value {
                    Value::Number(number) => self.emitter.a.cmp(eax, number),
                    Value::Register(register) => self.emitter.a.cmp(eax, register),
                    Value::Memory(word) => self.emitter.a.cmp(eax, dword_ptr(word)),
                }
            })()
            .map_err(failed)?;
            return Ok(true);
        }
        if let Some(register) = Emitter::register(self.frame, name) {
            match value {
                Value::Number(number) => self.emitter.a.cmp(register, number),
                Value::Register(other) => self.emitter.a.cmp(register, other),
                Value::Memory(word) => self.emitter.a.cmp(register, dword_ptr(word)),
            }
            .map_err(failed)?;
            return Ok(true);
        }
        let word = self.word(name, place, false)?;
        match value {
            Value::Number(number) => self.emitter.a.cmp(dword_ptr(word), number),
            Value::Register(register) => self.emitter.a.cmp(dword_ptr(word), register),
            Value::Memory(other) => (|| {
                self.emitter.a.mov(eax, dword_ptr(other))?;
                self.emitter.a.cmp(dword_ptr(word), eax)
            })(),
        }
        .map_err(failed)?;
        Ok(true)
    }

    /// Whether the pass before went the way of old or of new: by the mark of the target that only it has.
    fn went(&mut self, operand: &Operand, place: &Place) -> Result<bool, ScenarioError> {
        let new = match operand {
            Operand::Name(side) if side == "new" => true,
            Operand::Name(side) if side == "old" => false,
            _ => {
                return Err(place.error(
                    "a pass went the way of old or of new",
                    "neither",
                    "give \"old\" or \"new\"",
                ));
            }
        };
        let mark = |version: usize| {
            let target = self.target.site.targets[version]?;
            self.target.site.pads.iter().find(|pad| pad.address == target).map(|pad| u32::from(pad.mark))
        };
        let failed = |error: IcedError| place.error(format!("{error}"), "not assembled", "simplify it");
        let (mark, present) = match (mark(0), mark(1)) {
            (_, Some(mark)) => (mark, new),
            (Some(mark), None) => (mark, !new),
            (None, None) => {
                return Err(place.error(
                    "neither version leads to a target of its own",
                    "cannot be told apart",
                    "let one of them be a jump or a call",
                ));
            }
        };
        self.emitter.a.test(eax, mark).map_err(failed)?;
        Ok(!present)
    }

    /// `if`, `unless`, `check` and `wait`.
    fn conditional(
        &mut self,
        item: &Item,
        kind: Kind,
        goto: &dyn Fn(&str, &Place) -> Result<CodeLabel, ScenarioError>,
    ) -> Result<(), ScenarioError> {
        let step = &item.step;
        let failed = |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
        let (values, extra) = match kind {
            Kind::If => (step.when.as_ref(), Some("goto")),
            Kind::Unless => (step.unless.as_ref(), Some("goto")),
            Kind::Check => (step.check.as_ref(), Some("else")),
            _ => (step.wait.as_ref(), None),
        };
        let Some(values) = values else { return Ok(()) };
        let place = item.source.at(values.span());
        let mut conditions = values.get_ref().iter().filter(|(name, _)| Some(name.as_str()) != extra);
        let (Some((name, operand)), None) = (conditions.next(), conditions.next()) else {
            return Err(place.error("one condition stands here", "none or several", "compare one thing"));
        };
        let other = match extra {
            Some(extra) => match values.get_ref().get(extra).map(|value| (value.get_ref(), value.span())) {
                Some((Operand::Name(name), span)) => Some((name, item.source.at(span))),
                _ => {
                    let help =
                        if extra == "goto" { "add `goto = \"LABEL\"`" } else { "add `else = \"PROPERTY\"`" };
                    return Err(place.error(format!("`{extra}` is missing"), "and then?", help));
                }
            },
            None => None,
        };
        let operand_place = item.source.at(operand.span());
        let mut again = self.emitter.a.create_label();
        self.emitter.here(&mut again).map_err(failed)?;
        let zero = self.compare(name, operand.get_ref(), &operand_place)?;
        let jump = |code: &mut Self, equal: bool, to: CodeLabel| {
            if equal == zero { code.emitter.a.je(to) } else { code.emitter.a.jne(to) }.map_err(failed)
        };
        match (kind, other) {
            (Kind::Wait, _) => jump(self, false, again),
            (Kind::Check, Some((name, place))) => {
                let property = property(name, &place)?;
                let mut holds = self.emitter.a.create_label();
                jump(self, true, holds)?;
                self.fail(property, item.label.clone()).map_err(failed)?;
                self.emitter.here(&mut holds).map_err(failed)
            }
            (_, Some((name, place))) => {
                let to = if name == "end" {
                    *self.end.get_or_insert_with(|| self.emitter.a.create_label())
                } else {
                    goto(name, &place)?
                };
                jump(self, kind == Kind::If, to)
            }
            (_, None) => Ok(()),
        }
    }

    /// Adds atomically; with `unless` and `goto`, only if the word does not hold that, and goes there if it does.
    fn add(
        &mut self,
        item: &Item,
        goto: &dyn Fn(&str, &Place) -> Result<CodeLabel, ScenarioError>,
    ) -> Result<(), ScenarioError> {
        let failed = |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
        let Some(values) = &item.step.add else { return Ok(()) };
        let place = item.source.at(values.span());
        let extra = |key: &str| {
            values.get_ref().get(key).map(|value| (value.get_ref(), item.source.at(value.span())))
        };
        let mut words =
            values.get_ref().iter().filter(|(name, _)| !["unless", "goto"].contains(&name.as_str()));
        let (Some((name, operand)), None) = (words.next(), words.next()) else {
            return Err(place.error("an `add` adds to one word", "none or several", "give exactly one word"));
        };
        let operand_place = item.source.at(operand.span());
        let word = self.word(name, &operand_place, true)?;
        let Operand::Number(number @ -1000..=1000) = operand.get_ref() else {
            return Err(operand_place.error("how much is added?", "not a small number", "give 1 or -1"));
        };
        let number = *number as i32;
        let (unless, to) = match (extra("unless"), extra("goto")) {
            (None, None) => return self.emitter.a.lock().add(dword_ptr(word), number).map_err(failed),
            (Some((Operand::Number(unless), _)), Some((Operand::Name(to), place))) => {
                let end = to == "end";
                let label = if end {
                    *self.end.get_or_insert_with(|| self.emitter.a.create_label())
                } else {
                    goto(to, &place)?
                };
                (*unless as i32, label)
            }
            _ => {
                return Err(place.error(
                    "an `add` with a condition says both when it is not done and what then",
                    "half of it",
                    "give `unless = NUMBER` and `goto = \"LABEL\"`, or neither",
                ));
            }
        };
        self.emitter.add_unless(word, number, unless, to).map_err(failed)
    }

    fn fail(&mut self, property: Property, text: String) -> Coded {
        self.emitter.mark(Mark::Check(property, format!("step `{text}` of `{}`", self.name)))?;
        let mut here = self.emitter.a.create_label();
        self.emitter.here(&mut here)?;
        self.emitter.a.jmp(here)
    }

    fn flags(&mut self, item: &Item, values: Option<&toml::Spanned<Values>>) -> Result<(), ScenarioError> {
        let mut word = 0x202;
        for (name, operand) in values.iter().flat_map(|values| values.get_ref()) {
            let place = item.source.at(operand.span());
            let flag = FLAGS.iter().find(|(flag, _)| flag == name);
            match (flag, operand.get_ref()) {
                (Some((_, bit)), Operand::Number(1)) => word |= bit,
                (Some(_), Operand::Number(0)) => {}
                _ => {
                    let names: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
                    let help = format!("give {} as 0 or 1", names.join(", "));
                    return Err(place.error(
                        format!("`{name}` is no status flag that is 0 or 1"),
                        "not a flag",
                        help,
                    ));
                }
            }
        }
        let failed = |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
        self.emitter.a.push(word as i32).map_err(failed)?;
        self.emitter.a.popfq().map_err(failed)
    }

    /// Stores to the site, cut into what one instruction can store; where a fetch sees every store at once, also at
    /// the boundaries that it reads across.
    fn stores(&mut self, item: &Item, part: usize) -> Result<(), ScenarioError> {
        let Some(store) = &item.step.store else { return Ok(()) };
        let place = item.source.at(store.span());
        let failed = |error: IcedError| item.place.error(format!("{error}"), "not assembled", "simplify it");
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
                let data = crate::explore::master(site.address) + (offset + start) as u64;
                self.emitter.store(data, &piece, op).map_err(failed)?;
                start += size;
            }
        }
        Ok(())
    }

    /// The trap goes to its owner, which goes on behind it.
    fn refuse(&mut self) -> Coded {
        self.emitter.mark(Mark::Refusal)?;
        self.emitter.leave()
    }

    fn resume(&mut self, resume: &Resume, part: usize, place: &Place) -> Result<(), ScenarioError> {
        let failed = |error: IcedError| place.error(format!("{error}"), "not assembled", "simplify it");
        let site = &self.target.site.site;
        let begin = site.address + site.parts[part].offset as u64;
        let address = match resume {
            Resume::New | Resume::Old => {
                let new = matches!(resume, Resume::New);
                if !can_emulate(self.target.site.version(part, new)) {
                    return Err(place.error(
                        "that version is neither a NOP nor one jump, call or return, and cannot be emulated",
                        "not possible",
                        "resume at \"next\", \"retry\" or { at = ... }, or simplify that version",
                    ));
                }
                return self.emulate(part, new).map_err(failed);
            }
            Resume::Next => begin + site.parts[part].len as u64,
            Resume::Retry => begin,
            Resume::At(offset) => begin.wrapping_add_signed(*offset),
        };
        self.emitter.resume_at(address).map_err(failed)?;
        self.emitter.leave().map_err(failed)
    }

    /// Does what a version of a part would do, and ends the handler.
    fn emulate(&mut self, part: usize, new: bool) -> Coded {
        let site = self.target.site;
        let version = site.version(part, new);
        let next = site.site.address + (site.site.parts[part].offset + site.site.parts[part].len) as u64;
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

/// The first instruction that is no NOP.
fn effective(instructions: &[Instruction]) -> Option<Instruction> {
    let idle = [Mnemonic::Nop, Mnemonic::Endbr64];
    instructions.iter().find(|instruction| !idle.contains(&instruction.mnemonic())).copied()
}

/// True for versions that a program can emulate.
pub(super) fn can_emulate(version: &crate::scenario::site::Version) -> bool {
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

fn property(name: &str, place: &Place) -> Result<Property, ScenarioError> {
    name.parse().map_err(|message: String| {
        let names = Property::ALL.map(Property::name);
        let help = match crate::scenario::error::nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name the property that is violated".into(),
        };
        place.error(message, "unknown property", help)
    })
}
