//! The steps of `[[step]]` as the program of one more executor. Its stores wait in a store buffer, instructions send
//! its messages, NMIs interrupt it, and it counts acknowledgements in a word.
//!
//! What no CPU does by itself stays with the host: grace periods, memory that is withdrawn, words of other executors.
//! The program asks for it by a word, and waits until that is 0 again.

use std::collections::BTreeMap;

use crossmod_abi::shared;
use crossmod_model::plan::{Datum, Executor, Function, HandlerVariant, Op, OpKind, Ring, Role, Start};

use crate::built_in::{LONGEST_DELAY, MOST_EXECUTORS, function as function_by_name};
use crate::context::Context;
use crate::error::{Place, ScenarioError};
use crate::executors::Listed;
use crate::library::{Body, Library, Program, Use};
use crate::operation::Operation;
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::symbols::{Home, Names};
use crate::syntax::{Ack, Broadcast, Empty, Operand, Serialise, SerialiseBy, Step, Values};
use crate::value;

use super::waits::acknowledged;

/// The name of the program.
const PROGRAM: &str = "patcher";
/// Counts the acknowledgements of a round. No scenario can give a word one of these names.
const ACKS: &str = "acks";
/// The number of what the program asks the host for, or 0.
const CALL: &str = "patcher:call";

/// The steps, split between a program and the host.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// What the program performs.
    program: Vec<Item>,
    /// The functions of its broadcasts, by name.
    functions: BTreeMap<String, Vec<Item>>,
    /// What the host performs for it.
    host: Vec<Item>,
    /// Words that this needs, all 0 at the start.
    words: Vec<&'static str>,
}

impl Split {
    /// Adds the program, its functions, its words, and the executor that runs it: behind the others, at the ring of the
    /// first. Returns what is left to the host.
    pub fn install(
        self,
        place: &Place,
        names: &mut Names,
        library: &mut Library,
        executors: &mut Vec<Listed>,
    ) -> Result<Vec<Item>, ScenarioError> {
        let refused = |message: String, help: &str| Err(place.error(message, "here", help));
        if self.program.is_empty() {
            return refused(
                "there are no steps that a vCPU could perform".into(),
                "add a [[step]], or drop `patcher`",
            );
        }
        if executors.len() as i64 == MOST_EXECUTORS {
            let help = "describe fewer executors, or drop `patcher`";
            return refused(format!("the patcher would be executor {MOST_EXECUTORS}, one too many"), help);
        }
        if names.words.len() + self.words.len() > shared::WORDS as usize {
            let message =
                format!("the patcher needs {} words beside those of the scenario", self.words.len());
            return refused(message, "let several of them share a word, or drop `patcher`");
        }
        names.words.extend(self.words.iter().map(|name| Datum { name: (*name).to_owned(), value: 0 }));
        if self.words.contains(&ACKS) {
            library.programs.iter_mut().for_each(|program| program.items.iter_mut().for_each(count));
        }
        let functions = self.functions.into_iter();
        for (name, items) in functions.chain([(PROGRAM.to_owned(), self.program)]) {
            if library.programs.iter().any(|program| program.name == name) {
                return refused(
                    format!("the scenario has a program `{name}` itself"),
                    "give it another name",
                );
            }
            library.programs.push(Program { name, place: place.clone(), items, own: true });
        }
        let ring = executors.first().map_or(Ring::Kernel, |first| first.executor.ring);
        let number = library.use_as(Use::Role(ring), Body::Program(library.programs.len() - 1));
        let role = Role::Program(number as u64);
        let executor = Executor { passes: 1, ring, role, start: Start::Outside, interrupts_off: false };
        executors.push(Listed { executor, step: None });
        Ok(self.host)
    }
}

/// Splits the steps, one by one.
struct Splitter<'a> {
    context: &'a Context<'a>,
    split: Split,
    /// Executors from which the acknowledgements come that the word counts.
    from: u32,
    /// How many these are.
    sent: i64,
    /// Whether the patcher has waited for them.
    waited: bool,
    /// Arrivals that the last broadcast asks for.
    arrivals: i64,
    asked: i64,
}

/// Splits steps that the host could perform as `ops`. `nmis` is whether NMIs arrive that nobody sends.
pub(crate) fn split(
    context: &Context<'_>,
    items: Vec<Item>,
    ops: &[Op],
    nmis: bool,
) -> Result<Split, ScenarioError> {
    let Some(last) = items.last().map(|item| item.step.place.clone()) else { return Ok(Split::default()) };
    let declared = ops.last().filter(|op| matches!(op.kind, OpKind::Done(_)));
    let declared = declared.filter(|op| items.iter().all(|item| item.label != op.step));
    let mut splitter =
        Splitter { context, split: Split::default(), from: 0, sent: 0, waited: false, arrivals: 0, asked: 0 };
    for item in items {
        splitter.item(item)?;
    }
    if let Some(done) = declared {
        splitter.perform(&last, &done.step, |step| step.done = Some(Empty {}));
    }
    if nmis && splitter.split.words.contains(&ACKS) {
        splitter.no_strays()?;
    }
    Ok(splitter.split)
}

/// Lets an acknowledgement be counted.
fn count(item: &mut Item) {
    let place = item.step.place.clone();
    if item.step.value.acknowledge.take().is_some() {
        item.step.value.add = Some(number(&place, ACKS, 1));
    }
}

fn item(place: &Place, label: &str, fill: impl FnOnce(&mut Step)) -> Item {
    let mut step = Step::default();
    fill(&mut step);
    Item { label: label.to_owned(), index: 0, step: Spanned { value: step, place: place.clone() } }
}

/// `{ name = number }`.
fn number(place: &Place, name: &str, number: i64) -> Spanned<Values> {
    let operand = Spanned { value: Operand::Number(number), place: place.clone() };
    Spanned { value: Values::from([(name.to_owned(), operand)]), place: place.clone() }
}

impl Splitter<'_> {
    fn item(&mut self, mut item: Item) -> Result<(), ScenarioError> {
        let place = item.step.place.clone();
        match item.step.operation()? {
            Operation::Sync(sync) => {
                let function = match sync.ack {
                    Ack::After => Function::Sync,
                    Ack::Before => Function::AckFirst,
                    Ack::Only => Function::AckOnly,
                };
                let mask = value::mask(sync.to.as_ref(), &sync.place, self.context.executors)?;
                self.count_from(&item.label, &place, mask);
                let run = self.counted(function, &place);
                let to = item.step.value.sync.take().and_then(|sync| sync.value.to);
                let run = Spanned { value: run, place: place.clone() };
                let sent = Spanned { value: Broadcast { run, to, send: None }, place: place.clone() };
                self.perform(&place, &item.label, |step| step.broadcast = Some(sent));
                if function != Function::AckOnly {
                    // Its own CPU takes part, as in Linux's on_each_cpu().
                    let label = format!("{}:serialise", item.label);
                    self.perform(&place, &label, |step| step.serialise = Some(serialised(&place)));
                }
                self.wait_for_acks(&format!("{}:acks", item.label), &place);
            }
            Operation::Broadcast(sent) => {
                let (function, mask) = self.context.broadcast(sent)?;
                self.count_from(&item.label, &place, mask);
                if matches!(function, Function::Hold | Function::Stop | Function::Early) {
                    self.arrivals = mask.count_ones().into();
                }
                if function_by_name(&sent.run).is_some()
                    && let Some(sent) = &mut item.step.value.broadcast
                {
                    sent.value.run.value = self.counted(function, &place);
                }
                self.split.program.push(item);
            }
            Operation::Wait(wait) => match wait.iter().next() {
                Some((name, operand)) if name == "acks" => {
                    let mask = acknowledged(operand, self.context.executors)?;
                    if mask != self.from {
                        return Err(operand.place.error(
                            "a vCPU counts acknowledgements, and cannot tell from whom they are",
                            "not all that were asked for",
                            "wait for all executors to which messages went, or leave `patcher` out",
                        ));
                    }
                    self.wait_for_acks(&item.label, &place);
                }
                Some((name, operand)) if name == "arrived" && is_all(operand) => {
                    let arrivals = self.arrivals;
                    self.perform(&place, &item.label, |step| {
                        step.wait = Some(number(&place, "arrived", arrivals));
                    });
                }
                Some((name, operand)) if self.is_own(name, &operand.place)? => self.ask(item),
                _ => self.split.program.push(item),
            },
            Operation::Set(set) => match set.iter().next() {
                Some((name, operand)) if self.is_own(name, &operand.place)? => self.ask(item),
                _ => self.split.program.push(item),
            },
            Operation::Arm(_) if !self.descriptor_stays() => self.ask(item),
            Operation::Delay(delay) => {
                let moves = value::ranged(&delay.moves, "a delay in moves", 0, LONGEST_DELAY)?;
                for at in 1..=moves {
                    self.perform(&place, &format!("{}:{at}", item.label), |step| step.pause = Some(Empty {}));
                }
            }
            Operation::AssumeSynchronised(_) | Operation::Quiesce(_) | Operation::Free(_) => self.ask(item),
            Operation::Abandon(_) => self.split.host.push(item),
            _ => self.split.program.push(item),
        }
        Ok(())
    }

    fn perform(&mut self, place: &Place, label: &str, fill: impl FnOnce(&mut Step)) {
        self.split.program.push(item(place, label, fill));
    }

    /// True if each executor has a word of its own with this name, which no other CPU reaches.
    fn is_own(&self, name: &str, place: &Place) -> Result<bool, ScenarioError> {
        Ok(matches!(self.context.names.word(name, place)?, Home::Each(_)))
    }

    /// True if what the handler does is described from the start, because there is one description only.
    fn descriptor_stays(&self) -> bool {
        let program = self.context.handler.is_some_and(|it| it.variant == HandlerVariant::Program);
        program || self.context.site.site.parts.len() == 1
    }

    /// Leaves a step to the host: asks for it, and waits.
    fn ask(&mut self, asked: Item) {
        let place = asked.step.place.clone();
        let label = asked.label.clone();
        self.need(CALL);
        self.asked += 1;
        let call = self.asked;
        self.perform(&place, &label, |step| step.set = Some(number(&place, CALL, call)));
        self.perform(&place, &format!("{label}:answered"), |step| step.wait = Some(number(&place, CALL, 0)));
        let host = &mut self.split.host;
        host.push(item(&place, &format!("{label}:asked"), |step| {
            step.wait = Some(number(&place, CALL, call))
        }));
        host.push(asked);
        host.push(item(&place, &format!("{label}:answer"), |step| step.set = Some(number(&place, CALL, 0))));
    }

    fn need(&mut self, word: &'static str) {
        if !self.split.words.contains(&word) {
            self.split.words.push(word);
        }
    }

    /// Begins to count the acknowledgements of a message, or counts them together with others that nobody has
    /// waited for.
    fn count_from(&mut self, label: &str, place: &Place, mask: u32) {
        self.need(ACKS);
        if self.waited {
            self.perform(place, &format!("{label}:from-0"), |step| step.set = Some(number(place, ACKS, 0)));
            (self.from, self.sent, self.waited) = (0, 0, false);
        }
        self.from |= mask;
        self.sent += i64::from(mask.count_ones());
    }

    fn wait_for_acks(&mut self, label: &str, place: &Place) {
        let sent = self.sent;
        self.waited = true;
        self.perform(place, label, |step| step.wait = Some(number(place, ACKS, sent)));
    }

    /// The name of the program that does the same as this function, and counts in words that a vCPU can read.
    fn counted(&mut self, function: Function, place: &Place) -> String {
        let acknowledge = |step: &mut Step| step.add = Some(number(place, ACKS, 1));
        let serialise = |step: &mut Step| step.serialise = Some(serialised(place));
        let arrive = |step: &mut Step| step.add = Some(number(place, "arrived", 1));
        let wait = |step: &mut Step| step.wait = Some(number(place, "release", 1));
        type Fill<'a> = &'a dyn Fn(&mut Step);
        let steps: &[(&str, Fill<'_>)] = match function {
            Function::Sync => &[("serialise", &serialise), ("acknowledge", &acknowledge)],
            Function::AckFirst => &[("acknowledge", &acknowledge), ("serialise", &serialise)],
            Function::AckOnly => &[("acknowledge", &acknowledge)],
            Function::Hold => &[
                ("serialise", &serialise),
                ("arrive", &arrive),
                ("wait", &wait),
                ("acknowledge", &acknowledge),
            ],
            Function::Stop => &[
                ("arrive", &arrive),
                ("wait", &wait),
                ("serialise", &serialise),
                ("acknowledge", &acknowledge),
            ],
            Function::Early => {
                &[("serialise", &serialise), ("arrive", &arrive), ("acknowledge", &acknowledge)]
            }
            Function::Nmi | Function::Call(_) => return function.name().to_owned(),
        };
        let name = format!("{}:counted", function.name());
        let items = || steps.iter().map(|(label, fill)| item(place, label, fill)).collect();
        self.split.functions.entry(name.clone()).or_insert_with(items);
        name
    }

    /// Refuses NMI handlers that acknowledge where NMIs arrive that nobody sent: they would be counted.
    fn no_strays(&self) -> Result<(), ScenarioError> {
        let library = self.context.library;
        for (what, body) in library.uses.borrow().iter() {
            if let (Use::Nmi(_), Body::Program(number)) = (what, body)
                && let Some(item) =
                    library.programs[*number].items.iter().find(|item| item.step.acknowledge.is_some())
            {
                return Err(item.step.place.error(
                    "an NMI that nobody sent would be counted as an acknowledgement to the patcher's vCPU",
                    "by this step",
                    "let the handler ask a word whether the patcher has sent it, or leave `patcher` or `nmi` out",
                ));
            }
        }
        Ok(())
    }
}

fn serialised(place: &Place) -> Spanned<Serialise> {
    Spanned { value: Serialise { by: SerialiseBy::Cr2 }, place: place.clone() }
}

fn is_all(operand: &Spanned<Operand>) -> bool {
    matches!(&operand.value, Operand::Name(all) if all == "all")
}
