//! Programs of a scenario: lists of steps that vCPUs run, compiled to guest code. Executors run them in a loop; the
//! functions of broadcasts and the handlers of traps and interrupts may be programs, too.

mod code;
mod condition;
mod emit;
mod resume;
mod step;

use std::cell::RefCell;
use std::sync::OnceLock;

use crossmod_abi::{va, vector};
use crossmod_model::image::Image;
use crossmod_model::plan::{self, Function, Ring};
use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::{CodeLabel, r15};

use self::code::Code;
use self::emit::Mark;
use super::built_in::{FUNCTIONS, ROLES, RUNS, function};
use super::error::{Place, ScenarioError, suggest};
use super::resolve::Context;
use super::spanned::Spanned;
use super::steps::{self, Item};
use super::syntax::{self, Nest, Text};
use super::tags::is_tag;

/// Longest that the programs of a scenario may become.
const LONGEST: usize = 0x4000;

/// A program as it is written.
#[derive(Debug)]
struct Program {
    name: String,
    place: Place,
    items: Vec<Item>,
    /// True if it belongs to the scenario, not to its protocol.
    own: bool,
}

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Executors, at this ring.
    Role(Ring),
    /// The receivers of a broadcast.
    Call(u8),
    /// The NMI handler.
    Nmi(Nest),
    /// The handler of device interrupts.
    Irq,
    /// The #BP handler.
    Trap,
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// The program with this number.
    Program(usize),
    /// One pass through the site.
    Site,
    /// Nothing.
    Nothing,
    /// The emulation of a version: `true` is new.
    Emulate(bool),
}

/// All programs of a scenario, and what they are used for.
#[derive(Debug, Default)]
pub(super) struct Library {
    programs: Vec<Program>,
    uses: RefCell<Vec<(Use, Body)>>,
}

impl Library {
    /// Adds the programs of a file; those that are there already win.
    pub fn add(&mut self, table: syntax::Programs, own: bool) -> Result<(), ScenarioError> {
        for (name, list) in table {
            let Spanned { value: name, place } = name;
            let built_in = ROLES.iter().any(|(known, ..)| *known == name)
                || RUNS.iter().any(|(known, _)| *known == name)
                || function(&name).is_some();
            if !is_tag(&name) || built_in {
                return Err(place.error(
                    format!("`{name}` cannot be the name of a program"),
                    if built_in { "built in" } else { "not a name" },
                    "use small letters, digits and `-`, and no name that is built in",
                ));
            }
            if self.programs.iter().any(|program| program.name == name) {
                continue;
            }
            let mut items = Vec::new();
            steps::append(&mut items, list)?;
            self.programs.push(Program { name, place, items, own });
        }
        Ok(())
    }

    /// True if a program puts an INT3 over a first byte.
    pub fn plants_int3(&self) -> bool {
        self.programs.iter().any(|program| program.items.iter().any(Item::plants_int3))
    }

    /// The steps of all programs.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.programs.iter().flat_map(|program| &program.items)
    }

    /// True if vCPUs run programs of the scenario's own.
    pub fn any(&self) -> bool {
        !self.programs.is_empty()
    }

    /// The number of the program with a name.
    pub fn find(&self, name: &Text, built_in: &[&str]) -> Result<usize, ScenarioError> {
        let wanted = &name.value;
        self.programs.iter().position(|program| program.name == *wanted).ok_or_else(|| {
            let own = self.programs.iter().map(|program| program.name.as_str());
            let known: Vec<&str> = built_in.iter().copied().chain(own).collect();
            let otherwise = format!("write it under [program], or use one of {}", known.join(", "));
            let help = suggest(wanted, &known, &otherwise);
            name.place.error(format!("there is no program `{wanted}`"), "unknown program", help)
        })
    }

    /// Says that something is used for something; its number among the uses.
    pub fn use_as(&self, what: Use, body: Body) -> usize {
        let mut uses = self.uses.borrow_mut();
        uses.iter().position(|known| *known == (what, body)).unwrap_or_else(|| {
            uses.push((what, body));
            uses.len() - 1
        })
    }

    /// The function that a broadcast runs.
    pub fn function(&self, name: &Text) -> Result<Function, ScenarioError> {
        if let Some(built_in) = function(name) {
            return Ok(built_in);
        }
        let names = FUNCTIONS.map(|(function, _)| function.name());
        let body = Body::Program(self.find(name, &names)?);
        let calls = self.uses.borrow().iter().filter(|(what, _)| matches!(what, Use::Call(_))).count();
        let known = self.uses.borrow().iter().find_map(|(what, other)| match what {
            Use::Call(number) if *other == body => Some(*number),
            _ => None,
        });
        let number = known.unwrap_or(calls as u8);
        if number >= vector::CALLS {
            return Err(name.place.error(
                format!("more than {} functions of its own are broadcast", vector::CALLS),
                "one too many",
                "let one function look at a word to know what to do",
            ));
        }
        self.use_as(Use::Call(number), body);
        Ok(Function::Call(number))
    }

    /// The label of a step in the compiled program, without the part before the dot.
    pub fn step_label(&self, program: usize, label: &str, place: &Place) -> Result<String, ScenarioError> {
        let Program { name, items, .. } = &self.programs[program];
        if items.iter().any(|item| item.label == label) {
            return Ok(label.to_owned());
        }
        let labels: Vec<_> = items.iter().map(|item| item.label.as_str()).collect();
        Err(place.error(
            format!("the program `{name}` has no step `{label}`"),
            "unknown step",
            format!("its steps are {}", labels.join(", ")),
        ))
    }

    /// The step of a program that would switch interrupts on as a side effect.
    pub fn switches_on(&self, program: usize) -> Option<&Place> {
        self.programs[program].items.iter().find(|item| step::switches_on(item)).map(|item| &item.step.place)
    }

    /// Address of a step of what is used, once it is compiled.
    pub fn step_address(&self, programs: &plan::Programs, number: usize, label: &str) -> Option<u64> {
        let (what, body) = *self.uses.borrow().get(number)?;
        let name = format!("{}.{label}", self.unit_name(what, body));
        programs.labels.iter().find(|(known, _)| *known == name).map(|(_, at)| *at)
    }

    /// Compiles everything that is used. Gives the entry of each use, by its number.
    pub fn compile(&self, context: &Context<'_>) -> Result<(plan::Programs, Vec<u64>), ScenarioError> {
        let first = self.programs.first();
        self.compiled(context).map_err(|error| match first {
            Some(program) => error.or_at(&program.place),
            None => error,
        })
    }

    fn compiled(&self, context: &Context<'_>) -> Result<(plan::Programs, Vec<u64>), ScenarioError> {
        let mut code = Code::new(context)?;
        let mut entries: Vec<CodeLabel> = Vec::new();
        // A program may broadcast a function that nobody else uses: the list grows meanwhile.
        let mut next = 0;
        loop {
            let Some(&(what, body)) = self.uses.borrow().get(next) else { break };
            code.name = self.unit_name(what, body);
            code.what = what;
            let mut entry = code.emitter.a.create_label();
            code.emitter.here(&mut entry)?;
            entries.push(entry);
            code.emitter.mark(Mark::Label(code.name.clone()))?;
            self.unit(&mut code, body)?;
            if let Some(vector) = gate(what) {
                code.out.gates.push((vector, code.name.clone()));
            }
            next += 1;
        }
        for (number, program) in self.programs.iter().enumerate() {
            // A protocol's programs are there for scenarios to choose from.
            let used = self.uses.borrow().iter().any(|(_, body)| *body == Body::Program(number));
            if !used && program.own {
                return Err(program.place.error(
                    format!("nothing runs the program `{}`", program.name),
                    "not used",
                    "name it as the `role` of an executor, in [handler] `run`, [events] `nmi-runs` or `irq-runs`, or in a \
                     `broadcast`; or remove it",
                ));
            }
        }
        let Code { mut emitter, mut out, .. } = code;
        if next == 0 {
            return Ok((out, Vec::new()));
        }
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let assembled = emitter.a.assemble_options(va::PROGRAM, options)?;
        out.code.clone_from(&assembled.inner.code_buffer);
        if out.code.len() > LONGEST {
            return Err(ScenarioError::of_assembler("they are longer than 16 KiB"));
        }
        for (label, mark) in emitter.marks {
            let at = assembled.label_ip(&label)?;
            match mark {
                Mark::Label(name) => out.labels.push((name, at)),
                Mark::Store(op) => out.stores.push((at, op)),
                Mark::Check(property, step, text) => {
                    out.checks.push(plan::Check { at, step, property, text })
                }
                Mark::Moved => out.moved.push(at),
                Mark::OwnIret => out.own_irets.push(at),
                Mark::Refusal => out.refusals.push(at),
            }
        }
        let entries = entries.iter().map(|label| assembled.label_ip(label)).collect::<Result<_, _>>();
        Ok((out, entries?))
    }

    fn unit_name(&self, what: Use, body: Body) -> String {
        let name = match body {
            Body::Program(number) => self.programs[number].name.clone(),
            Body::Site => "site".into(),
            Body::Nothing => "nothing".into(),
            Body::Emulate(_) => "emulate".into(),
        };
        match what {
            Use::Role(ring) => {
                // The same program at both rings is compiled twice.
                let other = |&(other, same): &(Use, Body)| same == body && other == Use::Role(Ring::Kernel);
                let twice = ring == Ring::User && self.uses.borrow().iter().any(other);
                if twice { format!("{name}.user") } else { name }
            }
            Use::Call(_) => format!("{name}.ipi"),
            Use::Nmi(_) => format!("{name}.nmi"),
            Use::Irq => format!("{name}.irq"),
            Use::Trap => format!("{name}.bp"),
        }
    }

    fn unit(&self, code: &mut Code<'_>, body: Body) -> Result<(), ScenarioError> {
        let what = code.what;
        let mut nested = None;
        let mut begin = code.emitter.a.create_label();
        match what {
            Use::Role(_) => code.emitter.here(&mut begin)?,
            Use::Nmi(nest) if nest != Nest::Fixed => {
                let window = nest == Nest::Safe;
                nested = Some(code.emitter.enter_nested(vector::NMI, window)?);
            }
            _ => code.emitter.enter(gate(what).unwrap_or_default())?,
        }
        match body {
            Body::Program(number) => code.program(&self.programs[number].items)?,
            Body::Site => code.pass_site(0, "pass")?,
            Body::Nothing => {}
            Body::Emulate(new) => code.emulate_claimed(new)?,
        }
        let emitter = &mut code.emitter;
        if what == Use::Trap {
            // A program that comes to its end has claimed nothing.
            emitter.mark(Mark::Refusal)?;
        }
        match (what, nested) {
            (Use::Role(_), _) => {
                emitter.a.dec(r15)?;
                emitter.a.jne(begin)?;
                emitter.a.jmp(park())?;
            }
            (_, Some(nested)) => emitter.leave_nested(nested)?,
            (_, None) => emitter.leave()?,
        }
        Ok(())
    }
}

pub(super) use resume::can_emulate;
pub(super) use step::on_again;

/// Where an executor goes that has finished. The embedded image has the place, or nothing works at all.
fn park() -> u64 {
    static PARK: OnceLock<u64> = OnceLock::new();
    *PARK.get_or_init(|| Image::embedded().and_then(|image| image.label("exec_park")).unwrap_or(va::IMAGE))
}

/// The vector of a handler.
fn gate(what: Use) -> Option<u8> {
    match what {
        Use::Role(_) => None,
        Use::Call(number) => Some(vector::IPI_CALL + number),
        Use::Nmi(_) => Some(vector::NMI),
        Use::Irq => Some(vector::IRQ),
        Use::Trap => Some(vector::BP),
    }
}
