//! From steps to the patcher's atomic operations, and the checks that need the program as a whole.

mod waits;

use crossmod_model::plan::{Function, Op, OpKind, Quiet};

use self::waits::{Progress, adds, lock, sets, waits};
use crate::built_in::{LONGEST_DELAY, SITE, TARGETS};
use crate::error::{Place, ScenarioError};
use crate::guest_code::Library;
use crate::operation::Operation;
use crate::site::Resolved;
use crate::spanned::Spanned;
use crate::steps::Item;
use crate::stores::stored_bytes;
use crate::symbols::{Home, Names};
use crate::syntax::{self, Ack, Mask, Withdrawn};
use crate::value;

/// Everything the steps are checked against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub site: &'a Resolved,
    /// How many executors there are.
    pub executors: usize,
    /// Whether the scenario says what a claimed trap does.
    pub has_handler: bool,
    /// Whether the handler acts by a descriptor.
    pub descriptor: bool,
    /// Its words.
    pub names: &'a Names,
    /// What its vCPUs run.
    pub programs: &'a Library,
}

/// Lowers the steps. Completion is declared at the end unless a step says otherwise.
pub(super) fn lower(context: &Context<'_>, items: &[Item]) -> Result<Vec<Op>, ScenarioError> {
    let mut program = Vec::new();
    let mut progress = Progress::default();
    for item in items {
        if progress.abandoned {
            return Err(item.place.error(
                "a step after `abandon`",
                "never performed",
                "make `abandon` the last step",
            ));
        }
        let kinds = lower_one(context, &mut progress, item)?;
        program.extend(kinds.into_iter().map(|kind| Op { step: item.label.clone(), kind }));
    }
    // Where a program patches, it says itself when that is complete.
    if !progress.done && !progress.abandoned && !items.is_empty() {
        let step = if items.iter().any(|item| item.label == "done") { "done-at-end" } else { "done" };
        program.push(Op { step: step.into(), kind: OpKind::Done(everything(context)) });
    }
    Ok(program)
}

/// All parts of the site, one bit each.
fn everything(context: &Context<'_>) -> u8 {
    (1 << context.site.site.parts.len()) - 1
}

fn lower_one(
    context: &Context<'_>,
    progress: &mut Progress,
    item: &Item,
) -> Result<Vec<OpKind>, ScenarioError> {
    let place = |span| item.source.at(span);
    let part = match &item.step.site {
        Some(name) => context.site.part(name.get_ref(), &place(name.span()))?,
        None => 0,
    };
    let operation = item.operation()?;
    Ok(match operation {
        Operation::Store(store) => {
            stored_bytes(context.site, part, item, store.get_ref(), &place(store.span()))?
                .into_iter()
                .map(|(offset, bytes)| OpKind::Store { offset, bytes })
                .collect()
        }
        Operation::Arm(_) => arms(context, part, item)?,
        Operation::Disarm(_) => vec![OpKind::Armed(false)],
        Operation::Sync(sync) => syncs(context, progress, item, sync)?,
        Operation::Broadcast(broadcast) => vec![broadcasts(context, progress, item, broadcast)?],
        Operation::Wait(wait) => {
            vec![waits(context, progress, item, wait.get_ref(), &place(wait.span()))?]
        }
        Operation::Set(set) => vec![sets(context, progress, item, set.get_ref(), &place(set.span()))?],
        Operation::Add(add) => vec![adds(context, item, add.get_ref(), &place(add.span()))?],
        Operation::Take(name) => vec![OpKind::Take(lock(context, item, name)?)],
        Operation::Drop(name) => vec![OpKind::SetWord { word: lock(context, item, name)?, value: 0 }],
        Operation::AssumeSynchronised(_) => vec![OpKind::AssumeSynchronised],
        Operation::Quiesce(quiesce) => {
            vec![OpKind::Quiesce(quiet(context, item, quiesce.get_ref().of.as_ref())?)]
        }
        Operation::Delay(delay) => {
            let moves = &delay.get_ref().moves;
            let moves = value::ranged(&item.source, moves, "a delay in moves", 0, LONGEST_DELAY)?;
            (0..moves).map(|_| OpKind::Delay).collect()
        }
        Operation::Free(free) => vec![frees(context, free.get_ref().what, &place(free.span()))?],
        Operation::Done(_) => vec![completes(context, progress, part, item)?],
        Operation::Abandon(_) => {
            abandons(progress, item)?;
            Vec::new()
        }
        _ => {
            return Err(item.place.error(
                format!("`{}` is a step of programs, and the patcher here is the host", operation.name()),
                "not a patcher's",
                "put it into a program under [program], which an executor runs by `role`",
            ));
        }
    })
}

fn arms(context: &Context<'_>, part: usize, item: &Item) -> Result<Vec<OpKind>, ScenarioError> {
    if !context.has_handler {
        return Err(item.place.error(
            "a handler is armed, but the scenario does not say what it does",
            "no handler",
            "add a [handler] table, for example with `resume = \"new\"`, or drop this step",
        ));
    }
    Ok(vec![OpKind::Describe(part as u8), OpKind::Armed(true)])
}

/// A broadcast and the wait for its acknowledgements.
fn syncs(
    context: &Context<'_>,
    progress: &mut Progress,
    item: &Item,
    sync: &Spanned<syntax::Sync>,
) -> Result<Vec<OpKind>, ScenarioError> {
    let function = match sync.get_ref().ack {
        Ack::After => Function::Sync,
        Ack::Before => Function::AckFirst,
        Ack::Only => Function::AckOnly,
    };
    let to = sync.get_ref().to.as_ref().map_or(&Mask::All, |to| to.get_ref());
    let mask = value::mask(&item.source, &item.source.at(sync.span()), to, context.executors)?;
    progress.reached |= mask;
    Ok(vec![OpKind::Broadcast { function, mask }, OpKind::WaitAcks { mask }])
}

fn broadcasts(
    context: &Context<'_>,
    progress: &mut Progress,
    item: &Item,
    broadcast: &Spanned<syntax::Broadcast>,
) -> Result<OpKind, ScenarioError> {
    let table = broadcast.get_ref();
    let to = table.to.as_ref().map_or(&Mask::All, |to| to.get_ref());
    let mask = value::mask(&item.source, &item.source.at(broadcast.span()), to, context.executors)?;
    let function = context.programs.function(&table.run, &item.source)?;
    progress.reached |= mask;
    if matches!(function, Function::Hold | Function::Stop | Function::Early) {
        progress.counted = i64::from(mask.count_ones());
        progress.arrivals += progress.counted;
    }
    Ok(OpKind::Broadcast { function, mask })
}

fn completes(
    context: &Context<'_>,
    progress: &mut Progress,
    part: usize,
    item: &Item,
) -> Result<OpKind, ScenarioError> {
    let parts = if item.step.site.is_some() { 1 << part } else { everything(context) };
    if progress.completed & parts != 0 {
        return Err(item.place.error(
            "completion is declared twice",
            "again",
            "keep one `done`; without any, the last step declares completion",
        ));
    }
    progress.completed |= parts;
    progress.done = progress.completed == everything(context);
    Ok(OpKind::Done(parts))
}

fn abandons(progress: &mut Progress, item: &Item) -> Result<(), ScenarioError> {
    if progress.done {
        return Err(item.place.error(
            "a modification that was declared complete is abandoned",
            "too late",
            "keep either `done` or `abandon`",
        ));
    }
    progress.abandoned = true;
    Ok(())
}

/// What a grace period waits for.
fn quiet(context: &Context<'_>, item: &Item, of: Option<&syntax::Text>) -> Result<Quiet, ScenarioError> {
    let Some(of) = of else { return Ok(Quiet::Site) };
    let place = item.source.at(of.span());
    match of.get_ref().as_str() {
        SITE => Ok(Quiet::Site),
        TARGETS => Ok(Quiet::Targets),
        name => match context.names.word(name, &place)? {
            Home::Each(word) => Ok(Quiet::Each(word)),
            Home::Shared(_) => Err(place.error(
                format!("`{name}` is one word for all executors"),
                "not each one's own",
                "use \"site\", \"targets\", or a word under [each]",
            )),
        },
    }
}

fn frees(context: &Context<'_>, what: Withdrawn, place: &Place) -> Result<OpKind, ScenarioError> {
    let (index, key) = match what {
        Withdrawn::Descriptor if context.has_handler && !context.descriptor => {
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
    context.site.targets[index].map(OpKind::FreeTarget).ok_or_else(|| {
        place.error(
            format!("`{key}` has no branch to a target of its own that could be freed"),
            "no such target",
            format!("use a jump or a call as `{key}`, or free something else"),
        )
    })
}
