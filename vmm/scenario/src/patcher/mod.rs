//! From steps to the patcher's atomic operations, and the checks that need the program as a whole.

pub(super) mod vcpu;
mod waits;

use crossmod_model::plan::{Function, HandlerVariant, Op, OpKind, Quiet};

use crate::built_in::{LONGEST_DELAY, SITE, TARGETS};
use crate::context::Context;
use crate::error::{Place, ScenarioError};
use crate::operation::Operation;
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::stores::stored_bytes;
use crate::symbols::Home;
use crate::syntax::{self, Ack, Withdrawn};
use crate::value;

/// What has happened so far, as far as checks depend on it.
#[derive(Debug, Default)]
struct Progress {
    /// Executors that got a broadcast.
    reached: u32,
    /// The most that `arrived` can have counted.
    arrivals: i64,
    /// Executors in the mask of the last broadcast that counts arrivals.
    counted: i64,
    release: i64,
    flag: i64,
    done: bool,
    /// Parts that were declared complete, one bit each.
    completed: u8,
    abandoned: bool,
}

/// Lowers steps one by one.
struct Patcher<'a> {
    context: &'a Context<'a>,
    progress: Progress,
    /// Whether a vCPU performs them, which may also do what programs do.
    vcpu: bool,
}

/// Lowers the steps. Completion is declared at the end unless a step says otherwise.
pub(super) fn lower(context: &Context<'_>, items: &[Item], vcpu: bool) -> Result<Vec<Op>, ScenarioError> {
    let mut patcher = Patcher { context, progress: Progress::default(), vcpu };
    let mut program = patcher.program(items)?;
    // Where a program patches, it says itself when that is complete.
    if !patcher.progress.done && !patcher.progress.abandoned && !items.is_empty() {
        let step = if items.iter().any(|item| item.label == "done") { "done-at-end" } else { "done" };
        program.push(Op { step: step.into(), kind: OpKind::Done(patcher.everything()) });
    }
    Ok(program)
}

/// Lowers the steps that the host performs for the program of a vCPU, which declares completion itself.
pub(super) fn lower_asked(context: &Context<'_>, items: &[Item]) -> Result<Vec<Op>, ScenarioError> {
    Patcher { context, progress: Progress::default(), vcpu: false }.program(items)
}

impl Patcher<'_> {
    fn program(&mut self, items: &[Item]) -> Result<Vec<Op>, ScenarioError> {
        let mut program = Vec::new();
        for item in items {
            if self.progress.abandoned {
                return Err(item.step.place.error(
                    "a step after `abandon`",
                    "never performed",
                    "make `abandon` the last step",
                ));
            }
            let kinds = self.lower(item)?;
            program.extend(kinds.into_iter().map(|kind| Op { step: item.label.clone(), kind }));
        }
        Ok(program)
    }

    /// All parts of the site, one bit each.
    fn everything(&self) -> u8 {
        (1 << self.context.site.site.parts.len()) - 1
    }

    fn lower(&mut self, item: &Item) -> Result<Vec<OpKind>, ScenarioError> {
        let part = item.part(self.context.site)?;
        let operation = item.step.operation()?;
        let kind = match operation {
            Operation::Store(store) => {
                let stores = stored_bytes(self.context.site, part, item, store)?.into_iter();
                return Ok(stores.map(|(offset, bytes)| OpKind::Store { offset, bytes }).collect());
            }
            Operation::Arm(_) => return self.arm(part, item),
            Operation::Disarm(_) => OpKind::Armed(false),
            Operation::Sync(sync) => return self.sync(sync),
            Operation::Broadcast(broadcast) => self.broadcast(broadcast)?,
            Operation::Wait(wait) => self.wait(wait)?,
            Operation::Set(set) => self.set(set)?,
            Operation::Add(add) => self.add(add)?,
            Operation::Take(name) => OpKind::Take(self.lock(name)?),
            Operation::Drop(name) => OpKind::SetWord { word: self.lock(name)?, value: 0 },
            Operation::AssumeSynchronised(_) => OpKind::AssumeSynchronised,
            Operation::Quiesce(quiesce) => OpKind::Quiesce(self.quiet(quiesce.of.as_ref())?),
            Operation::Delay(delay) => {
                let moves = value::ranged(&delay.moves, "a delay in moves", 0, LONGEST_DELAY)?;
                return Ok((0..moves).map(|_| OpKind::Delay).collect());
            }
            Operation::Free(free) => self.free(free.what, &free.place)?,
            Operation::Done(_) => self.complete(part, item)?,
            Operation::Abandon(_) => {
                self.abandon(item)?;
                return Ok(Vec::new());
            }
            _ if self.vcpu => return Ok(Vec::new()),
            _ => {
                return Err(item.step.place.error(
                    format!("`{}` is a step of programs, and the patcher here is the host", operation.name()),
                    "not a patcher's",
                    "let a vCPU perform the steps: `patcher = \"vcpu\"`; or put it into a program under [program]",
                ));
            }
        };
        Ok(vec![kind])
    }

    fn arm(&self, part: usize, item: &Item) -> Result<Vec<OpKind>, ScenarioError> {
        if self.context.handler.is_none() {
            return Err(item.step.place.error(
                "a handler is armed, but the scenario does not say what it does",
                "no handler",
                "add a [handler] table, for example with `resume = \"new\"`, or drop this step",
            ));
        }
        Ok(vec![OpKind::Describe(part as u8), OpKind::Armed(true)])
    }

    /// A broadcast and the wait for its acknowledgements.
    fn sync(&mut self, sync: &Spanned<syntax::Sync>) -> Result<Vec<OpKind>, ScenarioError> {
        let function = match sync.ack {
            Ack::After => Function::Sync,
            Ack::Before => Function::AckFirst,
            Ack::Only => Function::AckOnly,
        };
        let mask = value::mask(sync.to.as_ref(), &sync.place, self.context.executors)?;
        self.progress.reached |= mask;
        Ok(vec![OpKind::Broadcast { function, mask }, OpKind::WaitAcks { mask }])
    }

    fn broadcast(&mut self, broadcast: &Spanned<syntax::Broadcast>) -> Result<OpKind, ScenarioError> {
        let (function, mask) = self.context.broadcast(broadcast)?;
        self.progress.reached |= mask;
        if matches!(function, Function::Hold | Function::Stop | Function::Early) {
            self.progress.counted = i64::from(mask.count_ones());
            self.progress.arrivals += self.progress.counted;
        }
        Ok(OpKind::Broadcast { function, mask })
    }

    fn complete(&mut self, part: usize, item: &Item) -> Result<OpKind, ScenarioError> {
        let parts = if item.step.site.is_some() { 1 << part } else { self.everything() };
        if self.progress.completed & parts != 0 {
            return Err(item.step.place.error(
                "completion is declared twice",
                "again",
                "keep one `done`; without any, the last step declares completion",
            ));
        }
        self.progress.completed |= parts;
        self.progress.done = self.progress.completed == self.everything();
        Ok(OpKind::Done(parts))
    }

    fn abandon(&mut self, item: &Item) -> Result<(), ScenarioError> {
        if self.progress.done {
            return Err(item.step.place.error(
                "a modification that was declared complete is abandoned",
                "too late",
                "keep either `done` or `abandon`",
            ));
        }
        self.progress.abandoned = true;
        Ok(())
    }

    /// What a grace period waits for.
    fn quiet(&self, of: Option<&syntax::Text>) -> Result<Quiet, ScenarioError> {
        let Some(of) = of else { return Ok(Quiet::Site) };
        match of.as_str() {
            SITE => Ok(Quiet::Site),
            TARGETS => Ok(Quiet::Targets),
            name => match self.context.names.word(name, &of.place)? {
                Home::Each(word) => Ok(Quiet::Each(word)),
                Home::Shared(_) => Err(of.place.error(
                    format!("`{name}` is one word for all executors"),
                    "not each one's own",
                    "use \"site\", \"targets\", or a word under [each]",
                )),
            },
        }
    }

    fn free(&self, what: Withdrawn, place: &Place) -> Result<OpKind, ScenarioError> {
        let handler = self.context.handler.map(|handler| handler.variant);
        let (index, key) = match what {
            Withdrawn::Descriptor if handler == Some(HandlerVariant::Program) => {
                return Err(place.error(
                    "the handler is a program, which reads no descriptor",
                    "nothing there",
                    "let a word stand for what is freed, and `check` it where it is used: `check = { live = 1, else = \"lifetime\" }`",
                ));
            }
            Withdrawn::Descriptor => return Ok(OpKind::FreeDescriptor),
            Withdrawn::OldTarget => (0, "old"),
            Withdrawn::NewTarget => (1, "new"),
        };
        self.context.site.targets[index].map(OpKind::FreeTarget).ok_or_else(|| {
            place.error(
                format!("`{key}` has no branch to a target of its own that could be freed"),
                "no such target",
                format!("use a jump or a call as `{key}`, or free something else"),
            )
        })
    }
}
