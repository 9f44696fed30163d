//! Steps that compare: `if`, `unless`, `check`, `wait`, an `add` with a condition; and the flags that a pass begins with.

use crossmod_model::property::Property;
use iced_x86::code_asm::*;

use super::code::{Code, Value};
use super::emit::{Coded, Emitter, FRAME_FLAGS, FRAME_RIP, Mark};
use crate::error::{Place, ScenarioError};
use crate::library::Use;
use crate::models::named;
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::syntax::{Operand, Values};
use crate::value;

/// Status flags by name.
const FLAGS: [(&str, u32); 5] = [("cf", 1), ("pf", 4), ("zf", 0x40), ("sf", 0x80), ("of", 0x800)];

impl Code<'_> {
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
    pub(super) fn compare(&mut self, name: &str, operand: &Spanned<Operand>) -> Result<bool, ScenarioError> {
        let place = &operand.place;
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
            self.emitter.a.test(dword_ptr(rsp + FRAME_FLAGS), *bit)?;
            return match operand.value {
                Operand::Number(0) => Ok(true),
                Operand::Number(1) => Ok(false),
                _ => Err(place.error("a flag is 0 or 1", "neither", "give 0 or 1")),
            };
        }
        if name == "went" {
            return self.went(operand);
        }
        let value = self.value(operand)?;
        if name == "ip" || name == "opcode" {
            handler(self)?;
            self.trapped()?;
            if name == "opcode" {
                // The text as data; a byte outside the site equals nothing.
                let site = &self.context.site.site;
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
            self.compare_register(eax, value)?;
            return Ok(true);
        }
        if let Some(register) = Emitter::register(self.what, name) {
            self.compare_register(register, value)?;
            return Ok(true);
        }
        let word = self.word(name, place, false)?;
        match value {
            Value::Number(number) => self.emitter.a.cmp(dword_ptr(word), number)?,
            Value::Register(register) => self.emitter.a.cmp(dword_ptr(word), register)?,
            Value::Memory(other) => {
                self.emitter.a.mov(eax, dword_ptr(other))?;
                self.emitter.a.cmp(dword_ptr(word), eax)?;
            }
        }
        Ok(true)
    }

    /// Whether the pass before went the way of old or of new: by the mark of the target that only it has.
    pub(super) fn went(&mut self, operand: &Spanned<Operand>) -> Result<bool, ScenarioError> {
        let place = &operand.place;
        let new = match &operand.value {
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
            let target = self.context.site.targets[version]?;
            self.context.site.pads.iter().find(|pad| pad.address == target).map(|pad| u32::from(pad.mark))
        };
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
        self.emitter.a.test(eax, mark)?;
        Ok(!present)
    }

    /// Compares the only values besides that of a key; gives that one, and whether "equal" is with the zero flag set.
    fn compared<'v>(
        &mut self,
        values: &'v Spanned<Values>,
        key: &str,
        help: &str,
    ) -> Result<(&'v str, &'v Place, bool), ScenarioError> {
        let (name, operand) = one_condition(values, &[key])?;
        let Some(Spanned { value: Operand::Name(then), place }) = values.get(key) else {
            return Err(values.place.error(format!("`{key}` is missing"), "and then?", help));
        };
        Ok((then, place, self.compare(name, operand)?))
    }

    fn jump(&mut self, on_zero: bool, to: CodeLabel) -> Coded {
        if on_zero { self.emitter.a.je(to) } else { self.emitter.a.jne(to) }
    }

    /// Spins until the values are equal.
    pub(super) fn wait(&mut self, values: &Spanned<Values>) -> Result<(), ScenarioError> {
        let (name, operand) = one_condition(values, &[])?;
        let mut again = self.emitter.a.create_label();
        self.emitter.here(&mut again)?;
        let zero = self.compare(name, operand)?;
        Ok(self.jump(!zero, again)?)
    }

    /// `if` with `equal`, else `unless`.
    pub(super) fn branch(&mut self, values: &Spanned<Values>, equal: bool) -> Result<(), ScenarioError> {
        let (label, place, zero) = self.compared(values, "goto", "add `goto = \"LABEL\"`")?;
        let to = self.label(label, place)?;
        Ok(self.jump(equal == zero, to)?)
    }

    pub(super) fn check(&mut self, item: &Item, values: &Spanned<Values>) -> Result<(), ScenarioError> {
        let (name, place, zero) = self.compared(values, "else", "add `else = \"PROPERTY\"`")?;
        let property = property(name, place)?;
        let mut holds = self.emitter.a.create_label();
        self.jump(zero, holds)?;
        self.fail(property, Some(format!("{}.{}", self.name, item.label)), &item.label)?;
        Ok(self.emitter.here(&mut holds)?)
    }

    /// Adds atomically; with `unless` and `goto`, only if the word does not hold that, and goes there if it does.
    pub(super) fn add(&mut self, values: &Spanned<Values>) -> Result<(), ScenarioError> {
        let besides = ["unless", "goto"];
        let (name, operand) =
            value::only(values, &besides, "an `add` adds to one word", "give exactly one word")?;
        let word = self.word(name, &operand.place, true)?;
        let Operand::Number(number @ -1000..=1000) = operand.value else {
            return Err(operand.place.error("how much is added?", "not a small number", "give 1 or -1"));
        };
        let number = number as i32;
        let (unless, to) = match besides.map(|key| values.get(key).map(|value| (&value.value, &value.place)))
        {
            [None, None] => return Ok(self.emitter.a.lock().add(dword_ptr(word), number)?),
            [Some((Operand::Number(unless), _)), Some((Operand::Name(to), place))] => {
                (*unless as i32, self.label(to, place)?)
            }
            _ => {
                return Err(values.place.error(
                    "an `add` with a condition says both when it is not done and what then",
                    "half of it",
                    "give `unless = NUMBER` and `goto = \"LABEL\"`, or neither",
                ));
            }
        };
        Ok(self.emitter.add_unless(word, number, unless, to)?)
    }

    /// Stops here as a violation; `check` is the step whose comparison leads here.
    pub(super) fn fail(&mut self, property: Property, check: Option<String>, text: &str) -> Coded {
        self.emitter.mark(Mark::Check(property, check, format!("step `{text}` of `{}`", self.name)))?;
        let mut here = self.emitter.a.create_label();
        self.emitter.here(&mut here)?;
        self.emitter.a.jmp(here)
    }

    pub(super) fn flags(&mut self, values: &Spanned<Values>) -> Result<(), ScenarioError> {
        let mut word = 0x202;
        for (name, operand) in &values.value {
            let place = &operand.place;
            let flag = FLAGS.iter().find(|(flag, _)| flag == name);
            match (flag, &operand.value) {
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
        self.emitter.a.push(word as i32)?;
        Ok(self.emitter.a.popfq()?)
    }
}

fn one_condition<'v>(
    values: &'v Spanned<Values>,
    besides: &[&str],
) -> Result<(&'v str, &'v Spanned<Operand>), ScenarioError> {
    value::only(values, besides, "this step takes one condition", "compare one thing")
}

pub(super) fn property(name: &str, place: &Place) -> Result<Property, ScenarioError> {
    let names = Property::ALL.map(Property::name);
    named(name, place, "unknown property", &names, "name the property that is violated")
}
