//! The programs of a scenario as they are written, and what each is used for.

use std::cell::RefCell;

use crossmod_abi::vector;
use crossmod_model::plan::{self, Function, Ring};

use super::built_in::{FUNCTIONS, ROLES, RUNS, function};
use super::error::{Place, ScenarioError, suggest};
use super::spanned::Spanned;
use super::steps::{self, Item};
use super::syntax::{self, Nest, Text};
use super::tags::is_tag;

/// A program as it is written.
#[derive(Debug)]
pub(super) struct Program {
    pub name: String,
    pub place: Place,
    pub items: Vec<Item>,
    /// True if it belongs to the scenario, not to its protocol.
    pub own: bool,
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
    pub programs: Vec<Program>,
    pub uses: RefCell<Vec<(Use, Body)>>,
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

    /// True if a program adds to a word.
    pub fn adds_to(&self, word: &str) -> bool {
        self.items().any(|item| item.step.add.as_ref().is_some_and(|add| add.contains_key(word)))
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
        self.programs[program].items.iter().find(|item| item.switches_on()).map(|item| &item.step.place)
    }

    /// Address of a step of what is used, once it is compiled.
    pub fn step_address(&self, programs: &plan::Programs, number: usize, label: &str) -> Option<u64> {
        let (what, body) = *self.uses.borrow().get(number)?;
        let name = format!("{}.{label}", self.unit_name(what, body));
        programs.labels.iter().find(|(known, _)| *known == name).map(|(_, at)| *at)
    }

    /// Name of what is compiled for a use.
    pub fn unit_name(&self, what: Use, body: Body) -> String {
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
}
