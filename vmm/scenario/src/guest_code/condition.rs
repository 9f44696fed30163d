//! Steps that compare: `if`, `unless`, `check`, `wait`, an `add` with a condition; and the flags that a pass begins with.

use crossmod_model::property::Property;
use iced_x86::code_asm::*;

use super::Use;
use super::code::{Code, Value, unassembled};
use super::emit::{Coded, Emitter, FRAME_FLAGS, FRAME_RIP, Mark};
use crate::error::{Place, ScenarioError, suggest};
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::syntax::{Operand, Values};

/// Status flags by name.
const FLAGS: [(&str, u32); 5] = [("cf", 1), ("pf", 4), ("zf", 0x40), ("sf", 0x80), ("of", 0x800)];

/// A step that compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Wait,
    If,
    Unless,
    Check,
}

impl Condition {
    /// The key that says what follows from the outcome.
    fn extra(self) -> Option<&'static str> {
        match self {
            Condition::Wait => None,
            Condition::If | Condition::Unless => Some("goto"),
            Condition::Check => Some("else"),
        }
    }
}

impl Code<'_, '_> {
    /// Low half of the address of the INT3 that trapped, into EAX.
    pub(super) fn trapped(&mut self) -> Coded {
        self.emitter.a.mov(rax, qword_ptr(rsp + FRAME_RIP))?;
        self.emitter.a.lea(eax, dword_ptr(rax - 1))
    }

    fn compare_register(&mut self, register: AsmRegister32, value: Value) -> Coded {
        match value {
            Value::Number(number) => self.emitter.a.cmp(register, number),
            Value::Register(other) => self.emitter.a.cmp(register, other),
            Value::Memory(word) => self.emitter.a.cmp(register, dword_ptr(word)),
        }
    }

    /// Compares; true if "equal" is the outcome with the zero flag set.
    pub(super) fn compare(
        &mut self,
        name: &str,
        operand: &Operand,
        place: &Place,
    ) -> Result<bool, ScenarioError> {
        let failed = unassembled(place);
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
                    // The text as data; a byte outside the site equals nothing.
                    let site = &self.target.site.site;
                    let (mut elsewhere, mut read) =
                        (self.emitter.a.create_label(), self.emitter.a.create_label());
                    self.emitter.a.sub(eax, site.address as u32)?;
                    self.emitter.a.cmp(eax, site.len() as u32)?;
                    self.emitter.a.jae(elsewhere)?;
                    let master = crossmod_model::layout::master(site.address) as i32;
                    self.emitter.a.movzx(eax, byte_ptr(rax + master))?;
                    self.emitter.a.jmp(read)?;
                    self.emitter.here(&mut elsewhere)?;
                    self.emitter.a.mov(eax, -1)?;
                    self.emitter.here(&mut read)?;
                }
                self.compare_register(eax, value)
            })()
            .map_err(failed)?;
            return Ok(true);
        }
        if let Some(register) = Emitter::register(self.frame, name) {
            self.compare_register(register, value).map_err(failed)?;
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
    pub(super) fn went(&mut self, operand: &Operand, place: &Place) -> Result<bool, ScenarioError> {
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
        let failed = unassembled(place);
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
    pub(super) fn conditional(
        &mut self,
        item: &Item,
        condition: Condition,
        values: &Spanned<Values>,
        goto: &dyn Fn(&str, &Place) -> Result<CodeLabel, ScenarioError>,
    ) -> Result<(), ScenarioError> {
        let failed = unassembled(&item.place);
        let extra = condition.extra();
        let place = item.source.at(values.span());
        let mut conditions = values.get_ref().iter().filter(|(name, _)| Some(name.as_str()) != extra);
        let (Some((name, operand)), None) = (conditions.next(), conditions.next()) else {
            return Err(place.error("this step takes one condition", "none or several", "compare one thing"));
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
        let Some((name, place)) = other else { return jump(self, false, again) };
        match condition {
            Condition::Wait => jump(self, false, again),
            Condition::Check => {
                let property = property(name, &place)?;
                let mut holds = self.emitter.a.create_label();
                jump(self, true, holds)?;
                self.fail(property, item.label.clone()).map_err(failed)?;
                self.emitter.here(&mut holds).map_err(failed)
            }
            Condition::If | Condition::Unless => {
                let to = goto(name, &place)?;
                jump(self, condition == Condition::If, to)
            }
        }
    }

    /// Adds atomically; with `unless` and `goto`, only if the word does not hold that, and goes there if it does.
    pub(super) fn add(
        &mut self,
        item: &Item,
        values: &Spanned<Values>,
        goto: &dyn Fn(&str, &Place) -> Result<CodeLabel, ScenarioError>,
    ) -> Result<(), ScenarioError> {
        let failed = unassembled(&item.place);
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
                (*unless as i32, goto(to, &place)?)
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

    pub(super) fn fail(&mut self, property: Property, text: String) -> Coded {
        self.emitter.mark(Mark::Check(property, format!("step `{text}` of `{}`", self.name)))?;
        let mut here = self.emitter.a.create_label();
        self.emitter.here(&mut here)?;
        self.emitter.a.jmp(here)
    }

    pub(super) fn flags(&mut self, item: &Item, values: &Spanned<Values>) -> Result<(), ScenarioError> {
        let mut word = 0x202;
        for (name, operand) in values.get_ref() {
            let place = item.source.at(operand.span());
            let flag = FLAGS.iter().find(|(flag, _)| flag == name);
            match (flag, operand.get_ref()) {
                (Some((_, bit)), Operand::Number(1)) => word |= bit,
                (Some(_), Operand::Number(0)) => {}
                _ => {
                    let names: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
                    let help = format!("give {} as 0 or 1", names.join(", "));
                    return Err(place.error(
                        format!("`{name}` is not a status flag with the value 0 or 1"),
                        "not a flag",
                        help,
                    ));
                }
            }
        }
        let failed = unassembled(&item.place);
        self.emitter.a.push(word as i32).map_err(failed)?;
        self.emitter.a.popfq().map_err(failed)
    }
}

pub(super) fn property(name: &str, place: &Place) -> Result<Property, ScenarioError> {
    name.parse().map_err(|message: String| {
        let names = Property::ALL.map(Property::name);
        let help = suggest(name, names, "name the property that is violated");
        place.error(message, "unknown property", help)
    })
}
